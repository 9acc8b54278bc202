//! Who listens on a node's own ports: the kernel's sockets, and the open files of processes,
//! since nodes need not have ss(8).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::Site;
use super::sockets::{self, Socket, Wanted};
use crate::fleet::network::{Published, listed};
use crate::fleet::obstacle::{Found, Listener, Needs, Obstacle, Process, taken};
use crate::fleet::revision::Record;
use crate::fleet::unit;

/// The sockets that listen on these ports in this process's own network, each with a process
/// that has it.
pub(super) fn read(ports: &BTreeSet<String>) -> Vec<Listener> {
    if ports.is_empty() {
        return Vec::new();
    }
    let listener = |socket: Socket| {
        let everywhere = socket.address.is_unspecified();
        let Socket { protocol, port, inode, .. } = socket;
        (Listener { port, protocol, everywhere, process: None }, inode)
    };
    let found = sockets::read(None, Wanted::Listening).into_iter().map(listener);
    let found: Vec<_> = found.filter(|(listener, _)| ports.contains(&listener.name())).collect();
    if found.is_empty() {
        return Vec::new();
    }
    let owners = owners();
    let with_owner = |(listener, inode): (Listener, u64)| {
        let process = owners.get(&inode).map(|pid| process(*pid));
        Listener { process, ..listener }
    };
    found.into_iter().map(with_owner).collect()
}

/// The process of each socket that is open, by inode. Of several the first counts, which is
/// the parent of its workers; but not systemd, which holds sockets for others.
fn owners() -> BTreeMap<u64, u64> {
    let mut owners = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok()) else {
            continue;
        };
        // One that ended meanwhile has none.
        for file in fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten() {
            let Ok(target) = fs::read_link(file.path()) else { continue };
            let inode = target.to_str().and_then(|text| text.strip_prefix("socket:["));
            let inode = inode.and_then(|text| text.strip_suffix(']')?.parse().ok());
            let Some(inode) = inode else { continue };
            let owner = owners.entry(inode).or_insert(pid);
            if *owner == 1 || (pid != 1 && pid < *owner) {
                *owner = pid;
            }
        }
    }
    owners
}

fn process(pid: u64) -> Process {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    Process { pid, name: read("comm").trim_end().to_owned(), unit: unit_of(&read("cgroup")) }
}

/// The unit of a process, of what its `cgroup` file has: that of a pod of ours, whatever a
/// runtime made below it, or the innermost one.
fn unit_of(cgroup: &str) -> String {
    let parts = || {
        cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2)).flat_map(|path| {
            path.split('/').filter(|part| part.ends_with(".service") || part.ends_with(".scope"))
        })
    };
    let ours = parts().find(|part| unit::pod_of(part).is_some());
    ours.or_else(|| parts().last()).unwrap_or_default().to_owned()
}

impl Site<'_> {
    /// Looks at what pods need of this node.
    pub(super) fn find(&self, needs: &Needs) -> Found {
        let listeners = self.network.listeners(&needs.ports);
        // What cannot be looked at may be there.
        let absent = |path: &&String| matches!(Path::new(path).try_exists(), Ok(false));
        let absent = needs.paths.iter().filter(absent).cloned().collect();
        Found { listeners, ssh: self.ssh, absent }
    }

    /// The first port of a revision that is somebody else's.
    /// What the pods `instead` have will be its.
    pub(super) fn taken(&self, record: &Record, instead: &[String]) -> Option<Obstacle> {
        let ports = record.network.as_ref().unwrap_or(&record.listens);
        let ports = ports.iter().map(Published::name).collect();
        let mut found = self.find(&Needs { ports, ..Needs::default() });
        found.listeners.retain(|listener| {
            let pod = listener.process.as_ref().and_then(|process| unit::pod_of(&process.unit));
            !pod.is_some_and(|pod| instead.iter().any(|other| other == pod))
        });
        let rules = listed(&self.network.ruleset()).into_iter();
        let held: Vec<String> =
            rules.filter(|(pod, _)| *pod == record.pod).map(|(_, rule)| rule).collect();
        taken(record, &held, &found).into_iter().next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn this_process_is_found_by_the_port_that_it_listens_on() {
        for (address, everywhere) in [("127.0.0.1:0", false), ("0.0.0.0:0", true)] {
            let own = TcpListener::bind(address).unwrap();
            let port = own.local_addr().unwrap().port();
            let found = read(&BTreeSet::from([format!("{port}/tcp")]));
            let [found] = found.as_slice() else { panic!("{found:?}") };
            assert_eq!((found.port, found.everywhere), (port, everywhere));
            assert_eq!(found.process.as_ref().unwrap().pid, u64::from(std::process::id()));
        }
    }

    #[test]
    fn the_unit_of_a_process_is_that_of_its_control_group() {
        let check = |cgroup: &str, expected: &str| assert_eq!(unit_of(cgroup), expected);
        check("0::/system.slice/nginx.service\n", "nginx.service");
        check("0::/user.slice/user-0.slice/session-3.scope\n", "session-3.scope");
        check(
            "0::/system.slice/vz-web.app.1a2b.service/libpod-payload.scope\n",
            "vz-web.app.1a2b.service",
        );
        let hybrid = "2:cpu:/\n1:name=systemd:/system.slice/vz-web.app.1a2b.service/container\n";
        check(hybrid, "vz-web.app.1a2b.service");
        check("0::/\n", "");
    }
}
