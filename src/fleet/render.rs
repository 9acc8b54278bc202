//! From a pod to its revision on one node. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use super::config::{self, ConfigError, Place};
use super::network::Family;
use super::pod::{Backend, Container, Pod, Protocol, UpdateOrder, Volume};
use super::preflight::Runtime;
use super::revision::{Files, Placed, RECORD, Record, Revision, Update, digest};
use super::{liveness, network, quadlet, secret, unit};

/// Digits of a digest that tell a pod's revisions apart; a device's name has at most 15.
const TAG: usize = 8;

/// What a revision depends on of its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// What runs containers there.
    pub runtime: Runtime,
    /// The version of systemd.
    pub systemd: u64,
    /// The folder of bundles.
    pub store: String,
    /// The numbers that it gave to the secrets of pods; [`secret::FIRST`] where it did not.
    pub secrets: BTreeMap<String, String>,
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
    // Names within the files cannot have the files' own digest in them.
    let tag = digest(&files(pod, bundles, machine, "")?);
    let tag = tag.get(..TAG).unwrap_or(&tag);
    let files = files(pod, bundles, machine, tag)?;
    Ok(Revision { pod: pod.name.clone(), id: digest(&files), files })
}

fn files(
    pod: &Pod,
    bundles: &BTreeMap<String, Built>,
    machine: &Machine,
    tag: &str,
) -> Result<Files, RenderError> {
    let runtime = &match pod.backend {
        Backend::Container => machine.runtime.clone(),
        Backend::Quadlet => Runtime::podman(),
        Backend::Systemd => Runtime::systemd(),
    };
    let secrets = secret::names(pod);
    let number = machine.secrets.get(&pod.name).map_or(secret::FIRST, String::as_str);
    let mut files = Files::new();
    let mut containers = Vec::new();
    let mut dirs = Vec::new();
    for container in &pod.containers {
        let bundle = bundles
            .get(&container.bundle)
            .ok_or_else(|| RenderError::NoBundle(container.bundle.clone()))?;
        let (name, unit) = (&container.name, unit::name(&pod.name, &container.name, tag));
        let rootfs = format!("{}/revs/{}/{}/rootfs", machine.store, bundle.name, bundle.id);
        let volumes = volumes(pod, container, &machine.store, number);
        dirs.extend(volumes.dirs);
        let cgroup = (runtime.name == "runc").then(|| unit::cgroup(&pod.name, name, tag));
        let network =
            (!pod.host_network).then(|| format!("/run/netns/{}", network::namespace(tag)));
        let place = Place { rootfs: &rootfs, cgroup, network, mounts: volumes.mounts };
        let config = config::derive(&bundle.config, container, &place);
        let config = config.and_then(|config| config::kept(&config, runtime).map(|()| config));
        let config = config.map_err(|source| RenderError::Config {
            bundle: container.bundle.clone(),
            container: name.clone(),
            source,
        })?;
        files.insert(format!("{name}/config.json"), format!("{config:#}\n"));
        if let Some(filter) = config.pointer(config::SECCOMP).filter(|_| runtime.by_podman()) {
            files.insert(format!("{name}/{}", quadlet::SECCOMP), format!("{filter:#}\n"));
        }
        let runs = unit::Runs {
            runtime,
            systemd: machine.systemd,
            config: &config,
            memory_dirs: &volumes.memory,
        };
        let text = unit::render(pod, container, tag, &runs);
        files.insert(format!("units/{}", unit::file(&unit, runtime)), text);
        let placed = Placed {
            name: name.clone(),
            id: unit::id(&pod.name, name, tag),
            unit,
            runtime: runtime.clone(),
            bundle: bundle.name.clone(),
            bundle_id: bundle.id.clone(),
            rootfs,
            restart: pod.restart,
            startup: container.startup.clone(),
            readiness: container.readiness.clone(),
            liveness: container.liveness.clone(),
        };
        let script = liveness::render_script(pod, tag, &placed);
        files.extend(script.map(|script| (format!("{name}/{}", liveness::SCRIPT), script)));
        containers.push(placed);
    }
    dirs.sort();
    dirs.dedup();
    if !secrets.is_empty() {
        let script = secret::render_script(&pod.name, number, &secrets);
        files.insert(secret::SCRIPT.to_owned(), script);
    }
    let ports = network::published(pod);
    if !pod.host_network {
        let unit = network::unit(&pod.name, tag);
        files.insert(format!("units/{unit}"), network::render_unit(&pod.name, tag));
        files.insert(network::SCRIPT.to_owned(), network::render_script(&pod.name, tag));
        for (file, family) in [(network::RULES, Family::Ip), (network::RULES6, Family::Ip6)] {
            files.insert(file.to_owned(), network::render_rules(family, &pod.name, &ports));
        }
    }
    if pod.host_network && !ports.is_empty() {
        files.insert(network::SCRIPT.to_owned(), network::render_host_script());
    }
    let (network, listens) =
        if pod.host_network { (None, ports) } else { (Some(ports), Vec::new()) };
    let record = Record {
        pod: pod.name.clone(),
        tag: tag.to_owned(),
        grace: pod.grace,
        network,
        listens,
        update: update(pod),
        secrets: (!secrets.is_empty()).then(|| number.to_owned()),
        containers,
        dirs,
    };
    let text = serde_json::to_string_pretty(&record).unwrap_or_default();
    files.insert(RECORD.to_owned(), format!("{text}\n"));
    Ok(files)
}

/// How a revision of `pod` can take the place of another one.
fn update(pod: &Pod) -> Update {
    let mut ports = pod.containers.iter().flat_map(|container| &container.ports);
    let udp = ports.find(|port| port.host.is_some() && port.protocol == Protocol::Udp);
    let mut mounts = pod.containers.iter().flat_map(|container| &container.mounts);
    let secret = |name: &String| matches!(pod.volumes.get(name), Some(Volume::Secret { .. }));
    let written = mounts.find(|mount| !mount.readonly && !secret(&mount.volume));
    let why = match (pod.order, udp, written) {
        (UpdateOrder::StopFirst, ..) => "as vz/update says".to_owned(),
        _ if pod.host_network => "it shares the node's network".to_owned(),
        // Packets have no connection that would stay with the old one.
        (_, Some(port), _) => format!("port {} is UDP", port.number),
        (UpdateOrder::Auto, _, Some(mount)) => {
            format!("both would write to the volume `{}`", mount.volume)
        }
        _ => return Update::StartFirst,
    };
    Update::StopFirst(why)
}

/// What a container's mounts come to on a node.
#[derive(Default)]
struct Volumes {
    /// As [`Place::mounts`].
    mounts: Vec<(String, String, bool)>,
    /// Directories that are made once.
    dirs: Vec<String>,
    /// File systems in memory that are there before each start, and their bytes.
    memory: Vec<(String, Option<u64>)>,
}

fn volumes(pod: &Pod, container: &Container, store: &str, number: &str) -> Volumes {
    let mut volumes = Volumes::default();
    for mount in &container.mounts {
        let Some(volume) = pod.volumes.get(&mount.volume) else { continue };
        let source = match volume {
            Volume::HostPath { path, create } => {
                if *create {
                    volumes.dirs.push(path.clone());
                }
                path.clone()
            }
            Volume::Secret { name, .. } => {
                let dir = secret::dir(&pod.name, number);
                let dir = format!("{}/{dir}/{name}", secret::FOLDER);
                volumes.mounts.push((dir, mount.path.clone(), true));
                continue;
            }
            Volume::EmptyDir => {
                let dir = format!("{store}/.volumes/{}/{}", pod.name, mount.volume);
                volumes.dirs.push(dir.clone());
                dir
            }
            Volume::MemoryDir { limit } => {
                let dir = format!("{}/{}/{}", unit::VOLUMES, pod.name, mount.volume);
                volumes.memory.push((dir.clone(), *limit));
                dir
            }
        };
        volumes.mounts.push((source, mount.path.clone(), mount.readonly));
    }
    volumes
}
