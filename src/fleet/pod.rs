//! Pods: the subset of Kubernetes' Pod that is honoured. Pure.
//!
//! Whatever is not honoured is refused by path and line, and all violations of a
//! file are found at once.

mod container;
mod probe;
mod read;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fields::Place;

pub use container::{Container, Limits, Mount, Port, Protocol, Security};
pub use probe::{Probe, Probing};
pub use read::read;

/// A pod, as one document of a file says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name, a DNS label.
    pub name: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// When a container that ended is started again.
    pub restart: Restart,
    /// Seconds between the stop signal and SIGKILL.
    pub grace: u32,
    /// Whether it shares the node's network; else it has one of its own.
    pub host_network: bool,
    /// `vz/backend`: what runs its containers.
    pub backend: Backend,
    /// `vz/update`: in which order an update stops and starts.
    pub order: UpdateOrder,
    /// Its containers, in order; at least one.
    pub containers: Vec<Container>,
    /// Its volumes, by name.
    pub volumes: BTreeMap<String, Volume>,
    /// The line that it begins on.
    pub line: usize,
}

/// `restartPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restart {
    /// However it ended.
    #[default]
    Always,
    /// When it failed.
    OnFailure,
    /// Not at all.
    Never,
}

/// What runs the containers of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// crun or runc; systemd alone where neither works.
    #[default]
    Container,
    /// Podman, by a Quadlet file.
    Quadlet,
    /// systemd alone.
    Systemd,
}

/// In which order an update stops the old revision and starts the new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpdateOrder {
    /// The new one first where nothing speaks against it.
    #[default]
    Auto,
    /// The new one first although they share volumes.
    StartFirst,
    /// The old one first.
    StopFirst,
}

/// What a volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Volume {
    /// A path of the node.
    HostPath {
        /// It.
        path: String,
        /// Whether a directory is made where there is none.
        create: bool,
    },
    /// A directory of the pod's own, which lives as long as the pod is on the node.
    EmptyDir,
    /// The same in memory, and then lost at a reboot.
    MemoryDir {
        /// Bytes that it holds; none for half of the node's memory.
        limit: Option<u64>,
    },
    /// A secret, in memory; a file for each of its keys.
    Secret {
        /// Its name in `secrets.yaml`.
        name: String,
        /// Where the file says it.
        place: Place,
    },
}

#[cfg(test)]
mod tests;
