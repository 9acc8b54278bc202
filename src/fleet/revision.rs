//! A pod's revision: everything that a node needs to run it, as files. Pure.
//!
//! ```text
//! pod.json                    the [`Record`]
//! CONTAINER/config.json       what the runtime is given
//! units/vz-POD.CONTAINER.TAG.service                  or .container, for Quadlet
//! units/vz-POD.-net.TAG.service, net.sh, ports.nft    where it has a network of its own
//! ```
//!
//! They name the digests of the bundles, so the digest of the files names all.

use std::collections::BTreeMap;

use delta::Digest;
use serde::{Deserialize, Serialize};

use super::network::{self, Published};
use super::pod::{Probe, Restart};
use super::preflight::Runtime;
use super::{liveness, secret, unit};

/// Name of the file with the record.
pub const RECORD: &str = "pod.json";

/// The files of a revision, by path.
pub type Files = BTreeMap<String, String>;

/// A revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Of which pod.
    pub pod: String,
    /// The digest of the files, in hexadecimal.
    pub id: String,
    /// The files.
    pub files: Files,
}

/// What the node itself has to know of a revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The pod.
    pub pod: String,
    /// What tells its units and networks from those of other revisions.
    pub tag: String,
    /// Seconds between the stop signal and SIGKILL.
    pub grace: u32,
    /// The ports of the node that lead to its own network; none where it shares the
    /// node's.
    pub network: Option<Vec<Published>>,
    /// Ports that it listens on where it shares the node's network.
    pub listens: Vec<Published>,
    /// How it can take the place of another one.
    pub update: Update,
    /// The number of its secrets; none where it has no secrets.
    pub secrets: Option<String>,
    /// Its containers, in order of start.
    pub containers: Vec<Placed>,
    /// Directories that have to be there before it starts.
    pub dirs: Vec<String>,
}

/// How a revision takes the place of the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Update {
    /// It is started, the node's ports are moved to it, and then the other one stops.
    StartFirst,
    /// The other one stops before it is started, for this reason.
    StopFirst(String),
}

/// A container as it is on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Its name.
    pub name: String,
    /// What the runtime calls it.
    pub id: String,
    /// The unit that runs it.
    pub unit: String,
    /// The runtime.
    pub runtime: Runtime,
    /// The bundle's name in the store.
    pub bundle: String,
    /// The bundle's revision in the store.
    pub bundle_id: String,
    /// The bundle's root file system.
    pub rootfs: String,
    /// When it is started again.
    pub restart: Restart,
    /// When it is started.
    pub startup: Option<Probe>,
    /// When it does its work.
    pub readiness: Option<Probe>,
    /// When it is alive.
    pub liveness: Option<Probe>,
}

impl Record {
    /// The units of its containers.
    pub fn units(&self) -> Vec<String> {
        self.containers.iter().map(|placed| placed.unit.clone()).collect()
    }

    /// The unit of its own network, if it has one.
    pub fn network_unit(&self) -> Vec<String> {
        self.network.iter().map(|_| network::unit(&self.pod, &self.tag)).collect()
    }

    /// All its units, that of the network first.
    pub fn all_units(&self) -> Vec<String> {
        [self.network_unit(), self.units()].concat()
    }

    /// All its units, and the files of the revision that they are made of.
    pub fn unit_files(&self) -> Vec<(String, String)> {
        let file = |unit: String| {
            let placed = self.containers.iter().find(|placed| placed.unit == unit);
            let file = placed.map(|placed| unit::file(&unit, &placed.runtime));
            (unit.clone(), file.unwrap_or(unit))
        };
        self.all_units().into_iter().map(file).collect()
    }

    /// How it takes the place of `old`, which runs.
    pub fn replaces(&self, old: &Record) -> Update {
        match &self.update {
            _ if old.tag == self.tag => Update::StopFirst("it is the same revision".to_owned()),
            Update::StartFirst if old.network.is_none() => {
                Update::StopFirst("what runs shares the node's network".to_owned())
            }
            update => update.clone(),
        }
    }
}

/// The record of a revision; none where it cannot be read.
pub fn record(files: &Files) -> Option<Record> {
    serde_json::from_str(files.get(RECORD)?).ok()
}

/// Digest of the files of a revision, in hexadecimal.
pub fn digest(files: &Files) -> String {
    // A map of strings always is JSON, with its keys in order.
    Digest::of(&serde_json::to_vec(files).unwrap_or_default()).to_string()
}

/// Which file a path of a revision is, for those who compare two.
pub fn describe(path: &str) -> String {
    match path.split_once('/') {
        Some(("units", unit)) => {
            let (name, _) = unit.split_once(".TAG").unwrap_or((unit, ""));
            format!("unit {name}")
        }
        Some((container, liveness::SCRIPT)) => format!("container {container}: liveness"),
        Some((container, _)) => format!("container {container}: command, environment or mounts"),
        None if path == network::RULES => "ports".to_owned(),
        None if path == network::RULES6 => "ports over IPv6".to_owned(),
        None if path == network::SCRIPT => "network".to_owned(),
        None if path == secret::SCRIPT => "which secrets".to_owned(),
        None => "probes, restart policy or volumes".to_owned(),
    }
}

/// Whether `path` can be a file of a revision: one or two plain names.
pub fn valid_path(path: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
    let part = |part: &str| {
        part.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric()) && part.bytes().all(plain)
    };
    path.split('/').count() <= 2 && path.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_in_the_revision() {
        for good in ["pod.json", "app/config.json", "units/vz-web.app.service"] {
            assert!(valid_path(good), "{good}");
        }
        for bad in ["", "/x", "a/../b", "../x", "a//b", "a/b/c", ".x", "a b"] {
            assert!(!valid_path(bad), "{bad}");
        }
    }

    #[test]
    fn the_digest_is_that_of_names_and_contents() {
        let files = |pairs: &[(&str, &str)]| -> Files {
            pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
        };
        let one = digest(&files(&[("a", "b"), ("c", "d")]));
        assert_eq!(one, digest(&files(&[("c", "d"), ("a", "b")])));
        assert_ne!(one, digest(&files(&[("a", "bc"), ("c", "")])));
    }
}
