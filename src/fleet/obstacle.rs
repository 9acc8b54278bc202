//! What keeps a pod from a node, found before anything is changed there: ports that are
//! somebody else's, and paths of the node that are not there. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::network::{Published, published};
use super::plan::{Action, Step};
use super::pod::{Pod, Protocol, Volume};
use super::revision::{Record, Revision, record};
use super::state::{PodState, State};
use super::unit;

/// What pods need of a node, for it to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// Ports, as `80/tcp`.
    pub ports: BTreeSet<String>,
    /// Paths that have to be there.
    pub paths: BTreeSet<String>,
}

/// What a node finds of [`Needs`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Who listens on these ports in the node's own network.
    pub listeners: Vec<Listener>,
    /// The port by which ssh came in.
    pub ssh: Option<u16>,
    /// Those of the paths that are not there.
    pub absent: Vec<String>,
}

/// A socket of the node itself that waits for connections, or packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Its port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// Whether it has all addresses of the node; else one, such as 127.0.0.1.
    pub everywhere: bool,
    /// Whose it is; none where that cannot be seen.
    pub process: Option<Process>,
}

/// A process of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u64,
    /// Its name, as the kernel has it.
    pub name: String,
    /// The unit of systemd's that it is of; empty where it is of none.
    pub unit: String,
}

/// Why a step of a plan cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Obstacle {
    /// Of which pod.
    pub pod: String,
    /// What is in its way.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

impl Obstacle {
    /// In a line.
    pub fn line(&self) -> String {
        format!("pod {}: {}; {}", self.pod, self.what, self.fix)
    }
}

/// What these pods need.
pub fn needs<'a>(pods: impl Iterator<Item = &'a Pod>) -> Needs {
    let mut needs = Needs::default();
    for pod in pods {
        needs.ports.extend(published(pod).iter().map(Published::name));
        needs.paths.extend(host_paths(pod).into_iter().map(|(_, path)| path.to_owned()));
    }
    needs
}

/// The paths of the node that a pod mounts and nobody makes, with the volumes' names.
fn host_paths(pod: &Pod) -> Vec<(&str, &str)> {
    let mounted = |name: &String| {
        let mut mounts = pod.containers.iter().flat_map(|container| &container.mounts);
        mounts.any(|mount| mount.volume == *name)
    };
    let volumes = pod.volumes.iter().filter(|(name, _)| mounted(name));
    volumes
        .filter_map(|(name, volume)| match volume {
            Volume::HostPath { path, create: false } => Some((name.as_str(), path.as_str())),
            _ => None,
        })
        .collect()
}

/// What is in the way of these steps of a host with these pods.
pub fn obstacles(
    pods: &BTreeMap<String, Pod>,
    wished: &BTreeMap<String, Revision>,
    steps: &[Step],
    state: &State,
) -> Vec<Obstacle> {
    let mut obstacles = Vec::new();
    // What goes, goes first; of pods that stay, no two wish one port, and those that nothing
    // wishes are looked at below.
    let ours = |pod: &str| steps.iter().any(|step| step.pod == pod);
    let mut found = state.found.clone();
    found.listeners.retain(|listener| !listener.pod().is_some_and(ours));
    let starts =
        |step: &&Step| matches!(step.action, Action::Create | Action::Update | Action::Repair);
    for step in steps.iter().filter(starts) {
        let (Some(pod), Some(revision)) = (pods.get(&step.pod), wished.get(&step.pod)) else {
            continue;
        };
        if let Some(record) = record(&revision.files) {
            let there = state.pods.iter().find(|there| there.name == pod.name);
            let held = there.map(|there| there.rules.as_slice()).unwrap_or_default();
            obstacles.extend(taken(&record, held, &found));
            let left = steps.iter().filter(|step| step.action == Action::Leave);
            let left: Vec<&PodState> = left
                .filter_map(|step| state.pods.iter().find(|there| there.name == step.pod))
                .collect();
            obstacles.extend(left_over(&record, &left));
        }
        for (volume, path) in host_paths(pod) {
            if state.found.absent.iter().any(|absent| absent == path) && !is_made(pods, path) {
                obstacles.push(Obstacle {
                    pod: pod.name.clone(),
                    what: format!("{path} is not there (volume {volume}, hostPath)"),
                    fix: "make it or say type: DirectoryOrCreate".to_owned(),
                });
            }
        }
    }
    obstacles
}

/// Whether a pod of the host makes the directory.
fn is_made(pods: &BTreeMap<String, Pod>, path: &str) -> bool {
    let mut volumes = pods.values().flat_map(|pod| pod.volumes.values());
    volumes.any(|volume| matches!(volume, Volume::HostPath { path: p, create: true } if p == path))
}

/// The ports of a revision that are somebody else's; `held` are those that lead to its pod
/// already, as a node shows them. To who listens there nothing would come any more where the
/// pod has a network of its own, and the pod could not listen where it shares the node's.
pub fn taken(record: &Record, held: &[String], found: &Found) -> Vec<Obstacle> {
    let ports = record.network.as_ref().unwrap_or(&record.listens);
    let obstacle =
        |what: String, fix: &str| Obstacle { pod: record.pod.clone(), what, fix: fix.to_owned() };
    let mut obstacles = Vec::new();
    for port in ports {
        let name = port.name();
        if port.protocol == Protocol::Tcp && found.ssh == Some(port.host) {
            let what = format!("port {name} is ssh's, by which the node is reached");
            obstacles.push(obstacle(what, "choose another hostPort"));
            continue;
        }
        let leads = |rule: &String| rule.starts_with(&format!("{name} -> "));
        if record.network.is_some() && held.iter().any(leads) {
            continue;
        }
        let is_others = |listener: &&Listener| {
            listener.name() == name
                // One that shares the node's network may choose its address, too.
                && (record.network.is_some() || listener.everywhere)
                && listener.pod() != Some(&record.pod)
        };
        if let Some(listener) = found.listeners.iter().find(is_others) {
            let what = format!("port {name} is that of {}", listener.owner());
            obstacles.push(obstacle(what, "stop that, or choose another hostPort"));
        }
    }
    obstacles
}

/// The ports of a revision that pods have which nothing wishes, and which stay.
fn left_over(record: &Record, left: &[&PodState]) -> Vec<Obstacle> {
    let ports = record.network.as_ref().unwrap_or(&record.listens);
    let mut obstacles = Vec::new();
    for port in ports.iter().map(Published::name) {
        let has = |rule: &String| rule.split(" -> ").next() == Some(&port);
        if let Some(pod) = left.iter().find(|pod| pod.rules.iter().any(has)) {
            obstacles.push(Obstacle {
                pod: record.pod.clone(),
                what: format!("port {port} is that of the pod {}, which nothing wishes", pod.name),
                fix: "`vzmaster deploy --prune` removes that".to_owned(),
            });
        }
    }
    obstacles
}

impl Listener {
    /// Its port, as `80/tcp`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.port, self.protocol.name())
    }

    /// The pod of ours that it is of.
    fn pod(&self) -> Option<&str> {
        unit::pod_of(&self.process.as_ref()?.unit)
    }

    /// Whose it is, in a few words.
    fn owner(&self) -> String {
        match (&self.process, self.pod()) {
            (_, Some(pod)) => format!("the pod {pod}"),
            (Some(Process { pid, name, unit }), None) if unit.is_empty() => {
                format!("{name} (pid {pid})")
            }
            (Some(Process { pid, name, unit }), None) => format!("{name} (pid {pid}, {unit})"),
            (None, None) => "a process that cannot be seen".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
