//! From a pod to its revision on one node. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use super::config::{self, ConfigError, Place};
use super::pod::{Pod, Volume};
use super::preflight::Runtime;
use super::revision::{Files, Placed, RECORD, Record, Revision, digest};
use super::unit;

/// What a revision depends on of its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// What runs containers there.
    pub runtime: Runtime,
    /// The version of systemd.
    pub systemd: u64,
    /// The folder of bundles.
    pub store: String,
}

/// A bundle as it was built.
#[derive(Clone, Debug, PartialEq)]
pub struct Built {
    /// Its name on nodes.
    pub name: String,
    /// Its tree digest, in hexadecimal.
    pub id: String,
    /// Its `config.json`.
    pub config: Value,
}

/// Why there is no revision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// A bundle was not read.
    #[error("the bundle `{0}` was not read")]
    NoBundle(String),
    /// A bundle cannot be run so.
    #[error("the bundle `{bundle}` cannot be run by container `{container}`")]
    Config {
        /// The bundle.
        bundle: String,
        /// The container.
        container: String,
        /// Why.
        source: ConfigError,
    },
}

/// Renders `pod` for `machine`; `bundles` are those of its containers, by directory.
///
/// # Errors
/// When a bundle is missing or cannot serve.
pub fn render(
    pod: &Pod,
    bundles: &BTreeMap<String, Built>,
    machine: &Machine,
) -> Result<Revision, RenderError> {
    let mut files = Files::new();
    let mut containers = Vec::new();
    let mut dirs = Vec::new();
    for container in &pod.containers {
        let bundle = bundles
            .get(&container.bundle)
            .ok_or_else(|| RenderError::NoBundle(container.bundle.clone()))?;
        let (name, unit) = (&container.name, unit::name(&pod.name, &container.name));
        let rootfs = format!("{}/revs/{}/{}/rootfs", machine.store, bundle.name, bundle.id);
        let mut mounts = Vec::new();
        let mut memory = Vec::new();
        for mount in &container.mounts {
            let Some(volume) = pod.volumes.get(&mount.volume) else { continue };
            let source = match volume {
                Volume::HostPath { path, create } => {
                    if *create {
                        dirs.push(path.clone());
                    }
                    path.clone()
                }
                Volume::EmptyDir { memory: false } => {
                    let dir = format!("{}/.volumes/{}/{}", machine.store, pod.name, mount.volume);
                    dirs.push(dir.clone());
                    dir
                }
                Volume::EmptyDir { memory: true } => {
                    let dir = format!("/run/vz/volumes/{}/{}", pod.name, mount.volume);
                    memory.push(dir.clone());
                    dir
                }
            };
            mounts.push((source, mount.path.clone(), mount.readonly));
        }
        let cgroup =
            (machine.runtime.name == "runc").then(|| unit::cgroup(&pod.name, &container.name));
        let place = Place { rootfs: &rootfs, cgroup, mounts };
        let config = config::derive(&bundle.config, container, &place).map_err(|source| {
            RenderError::Config {
                bundle: container.bundle.clone(),
                container: name.clone(),
                source,
            }
        })?;
        files.insert(format!("{name}/config.json"), format!("{config:#}\n"));
        let text = unit::render(pod, container, &machine.runtime, machine.systemd, &memory);
        files.insert(format!("units/{unit}"), text);
        containers.push(Placed {
            name: name.clone(),
            id: unit::id(&pod.name, name),
            unit,
            runtime: machine.runtime.clone(),
            bundle: bundle.name.clone(),
            bundle_id: bundle.id.clone(),
            rootfs,
            restart: pod.restart,
            startup: container.startup.clone(),
            readiness: container.readiness.clone(),
            liveness: container.liveness.clone(),
        });
    }
    dirs.sort();
    dirs.dedup();
    let record = Record { pod: pod.name.clone(), containers, dirs };
    let text = serde_json::to_string_pretty(&record).unwrap_or_default();
    files.insert(RECORD.to_owned(), format!("{text}\n"));
    Ok(Revision { pod: pod.name.clone(), id: digest(&files), files })
}
