//! A node whose service manager does what the program's name says: `good` runs, `crash`
//! ends at once, `deaf` runs and answers no probe, `local` answers at 127.0.0.1 alone, `stuck` cannot be started.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::*;
use crate::fleet::obstacle::Listener;
use crate::fleet::on_node::{
    Guard, Network, Patience, Places, Prober, Socket, Systemd, UnitState, Wanted,
};
use crate::fleet::pod::{Probe, Probing, Protocol};
use crate::fleet::revision::{Placed, Revision};
use crate::fleet::unit;

/// The process of `local`; the others have none that anybody looks at.
const LOCAL: u64 = 1;

pub(super) struct Node {
    pub(super) dir: tempfile::TempDir,
    pub(super) running: RefCell<BTreeMap<String, String>>,
    pub(super) restarts: RefCell<u64>,
    /// Whether probes find nobody, and networks cannot be made.
    pub(super) ill: RefCell<bool>,
    /// Whether nothing can be stopped.
    pub(super) stuck: Cell<bool>,
    /// To what the node's ports lead.
    pub(super) published: RefCell<Option<String>>,
    /// Who listens on its own ports.
    pub(super) listeners: RefCell<Vec<Listener>>,
    /// What happened to units and ports, in order.
    pub(super) events: RefCell<Vec<String>>,
}

impl Node {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, id) in [("app", 'a'), ("app", 'b')] {
            let id = id.to_string().repeat(64);
            fs::create_dir_all(dir.path().join(format!("store/revs/{name}/{id}/rootfs"))).unwrap();
        }
        let (running, restarts) = (RefCell::default(), RefCell::default());
        let (ill, stuck, published, listeners, events) = Default::default();
        Node { dir, running, restarts, ill, stuck, published, listeners, events }
    }

    pub(super) fn places(&self) -> Places {
        let [pods, units, quadlets, run, store] =
            ["pods", "units", "quadlets", "run", "store"].map(|name| self.dir.path().join(name));
        Places { pods, units, quadlets, run, store }
    }

    /// What the unit that systemd's folder has would run.
    pub(super) fn program(&self, unit: &str) -> String {
        let target = fs::read_link(self.dir.path().join("units").join(unit)).unwrap();
        assert!(target.is_file(), "{} leads to no file", target.display());
        let config = target.parent().unwrap().parent().unwrap().join("app/config.json");
        let config: serde_json::Value = serde_json::from_slice(&fs::read(config).unwrap()).unwrap();
        config["process"]["args"][0].as_str().unwrap().to_owned()
    }

    pub(super) fn site(&self) -> Site<'_> {
        Site {
            places: self.places(),
            systemd: self,
            prober: self,
            network: self,
            guard: self,
            patience: Patience {
                settle: Duration::from_millis(5),
                tick: Duration::from_millis(1),
                slack: Duration::from_millis(20),
                confirm: Duration::ZERO,
            },
            ssh: Some(22),
        }
    }

    /// Tries a revision, and confirms it where it does its work.
    pub(super) fn apply(
        &self,
        revision: &Revision,
        expected: Option<&Revision>,
    ) -> anyhow::Result<Applied> {
        let applied = self.tried(revision, expected)?;
        if applied.failure.is_some() {
            return Ok(applied);
        }
        confirm(&self.site(), &revision.pod, &revision.id, &mut |_| ())
    }

    pub(super) fn tried(
        &self,
        revision: &Revision,
        expected: Option<&Revision>,
    ) -> anyhow::Result<Applied> {
        self.tried_instead(revision, expected, &[])
    }

    /// Tries a revision in the place of other pods.
    pub(super) fn tried_instead(
        &self,
        revision: &Revision,
        expected: Option<&Revision>,
        instead: &[&str],
    ) -> anyhow::Result<Applied> {
        let wished = Apply {
            pod: revision.pod.clone(),
            id: revision.id.clone(),
            files: revision.files.clone(),
            expected: expected.map(|revision| revision.id.clone()),
            by: "a test".into(),
            forget: false,
            instead: instead.iter().map(|pod| (*pod).to_owned()).collect(),
            ports: true,
        };
        apply(&self.site(), &wished, &mut |_| ())
    }

    pub(super) fn pods(&self) -> Pods {
        Pods::new(&self.places())
    }

    /// Whether systemd's conditions let a unit start.
    pub(super) fn may_start(&self, unit: &str) -> bool {
        let tried = self.dir.path().join("run/try").join(unit).exists();
        let pod = unit::pod_of(unit).unwrap();
        tried || self.dir.path().join("pods").join(pod).join("current/units").join(unit).exists()
    }

    /// The programs that run.
    pub(super) fn now(&self) -> String {
        let running = self.running.borrow();
        let programs: Vec<&str> =
            running.values().map(String::as_str).filter(|program| *program != "net").collect();
        if programs.is_empty() { "nothing".to_owned() } else { programs.join("+") }
    }

    /// The program that runs, and the one that would after a reboot.
    pub(super) fn runs(&self) -> String {
        let now = self.now();
        self.reboots();
        format!("{now}, {}", self.now())
    }

    /// Loses power, and comes back.
    pub(super) fn reboots(&self) {
        let _ = fs::remove_dir_all(self.dir.path().join("run"));
        self.running.borrow_mut().clear();
        *self.published.borrow_mut() = None;
        let wants = self.dir.path().join("units/multi-user.target.wants");
        for unit in fs::read_dir(wants).into_iter().flatten() {
            let unit = unit.unwrap().file_name().into_string().unwrap();
            // A folder that was emptied by hand boots nothing.
            let _ = Systemd::start(self, &[unit]);
        }
    }
}

impl Network for Node {
    fn publish(&self, _pods: &Pods, record: &Record) -> anyhow::Result<()> {
        self.events.borrow_mut().push(format!("ports to {}", record.tag));
        *self.published.borrow_mut() = Some(record.tag.clone());
        Ok(())
    }

    fn withdraw(&self, pod: &str) -> anyhow::Result<()> {
        let tags = self.dir.path().join("pods").join(pod).join("tags");
        self.published.borrow_mut().take_if(|tag| tags.join(tag).exists());
        Ok(())
    }

    fn has_ipv6(&self, _: &str) -> bool {
        false
    }

    fn ruleset(&self) -> String {
        String::new()
    }

    fn firewalld(&self) -> Option<String> {
        None
    }

    fn listeners(&self, ports: &BTreeSet<String>) -> Vec<Listener> {
        let all = self.listeners.borrow();
        all.iter().filter(|listener| ports.contains(&listener.name())).cloned().collect()
    }

    fn sockets(&self, pid: u64, wanted: Wanted) -> Vec<Socket> {
        let peer = Ipv4Addr::UNSPECIFIED.into();
        let address = if pid == LOCAL { Ipv4Addr::LOCALHOST.into() } else { peer };
        let port = Socket { protocol: Protocol::Tcp, address, port: 80, peer, inode: 1 };
        (wanted == Wanted::Listening).then_some(port).into_iter().collect()
    }
}

impl Guard for Node {
    fn arm(&self, _pod: &str) -> anyhow::Result<()> {
        Ok(())
    }

    fn disarm(&self, _pod: &str) {}
}

impl Systemd for Node {
    fn reload(&self) -> anyhow::Result<()> {
        Ok(())
    }

    fn start(&self, units: &[String]) -> anyhow::Result<()> {
        *self.restarts.borrow_mut() = 0;
        for unit in units.iter().filter(|unit| self.may_start(unit)) {
            let net = unit.contains("-net");
            anyhow::ensure!(!net || !*self.ill.borrow(), "a dependency job failed");
            let program = if net { "net".to_owned() } else { self.program(unit) };
            self.events.borrow_mut().push(format!("start {program}"));
            let stuck = program == "stuck";
            self.running.borrow_mut().insert(unit.clone(), program);
            anyhow::ensure!(!stuck, "the start job failed");
        }
        Ok(())
    }

    fn stop(&self, units: &[String]) -> anyhow::Result<()> {
        anyhow::ensure!(!self.stuck.get(), "it does not stop");
        for unit in units {
            if let Some(program) = self.running.borrow_mut().remove(unit) {
                self.events.borrow_mut().push(format!("stop {program}"));
            }
        }
        Ok(())
    }

    fn kill(&self, units: &[String]) -> anyhow::Result<()> {
        self.stop(units)
    }

    fn show(&self, units: &[String]) -> anyhow::Result<Vec<UnitState>> {
        let state = |unit: &String| {
            let running = self.running.borrow();
            let (active, result) = match running.get(unit).map(String::as_str) {
                None => ("inactive", "success"),
                Some("crash") => {
                    *self.restarts.borrow_mut() += 1;
                    ("activating", "exit-code")
                }
                Some("stuck") => ("failed", "timeout"),
                Some(_) => ("active", "success"),
            };
            let restarts = *self.restarts.borrow();
            UnitState {
                pid: running.get(unit).filter(|program| *program == "local").map_or(0, |_| LOCAL),
                active: active.into(),
                result: result.into(),
                restarts,
                ..UnitState::default()
            }
        };
        Ok(units.iter().map(state).collect())
    }

    fn log(&self, unit: &str, _lines: usize) -> Vec<String> {
        vec![format!("{} says why", self.program(unit))]
    }
}

impl Prober for Node {
    fn probe(&self, container: &Placed, _at: &str, probe: &Probe) -> anyhow::Result<()> {
        if let (Probing::Tcp { .. }, "local") = (&probe.probing, &*self.program(&container.unit)) {
            return Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into());
        }
        let deaf = *self.ill.borrow() || self.program(&container.unit) == "deaf";
        anyhow::ensure!(!deaf, "no answer");
        Ok(())
    }
}
