//! Deployments on a node whose service manager does what the program's name says:
//! `good` runs, `crash` ends at once, `deaf` runs and answers no probe, `stuck`
//! cannot be started.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::fleet::on_node::pods::list;
use crate::fleet::on_node::{Guard, Network, Patience, Places, Prober, Socket, Systemd, UnitState};
use crate::fleet::pod::{self, Probe, Protocol};
use crate::fleet::preflight::Runtime;
use crate::fleet::render::{Built, Machine, render};
use crate::fleet::revision::{Placed, Revision};
use crate::fleet::secret::{self, Sealed, Secrets};

struct Node {
    dir: tempfile::TempDir,
    running: RefCell<BTreeMap<String, String>>,
    restarts: RefCell<u64>,
    /// To what the node's ports lead.
    published: RefCell<Option<String>>,
    /// What happened to units and ports, in order.
    events: RefCell<Vec<String>>,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, id) in [("app", 'a'), ("app", 'b')] {
            let id = id.to_string().repeat(64);
            fs::create_dir_all(dir.path().join(format!("store/revs/{name}/{id}/rootfs"))).unwrap();
        }
        let (running, restarts) = (RefCell::default(), RefCell::default());
        Node { dir, running, restarts, published: RefCell::default(), events: RefCell::default() }
    }

    fn places(&self) -> Places {
        let [pods, units, quadlets, run, store] =
            ["pods", "units", "quadlets", "run", "store"].map(|name| self.dir.path().join(name));
        Places { pods, units, quadlets, run, store }
    }

    /// What the unit that systemd's folder has would run.
    fn program(&self, unit: &str) -> String {
        let target = fs::read_link(self.dir.path().join("units").join(unit)).unwrap();
        assert!(target.is_file(), "{} leads to no file", target.display());
        let config = target.parent().unwrap().parent().unwrap().join("app/config.json");
        let config: serde_json::Value = serde_json::from_slice(&fs::read(config).unwrap()).unwrap();
        config["process"]["args"][0].as_str().unwrap().to_owned()
    }

    fn site(&self) -> Site<'_> {
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
        }
    }

    /// Tries a revision, and confirms it where it does its work.
    fn apply(&self, revision: &Revision, expected: Option<&Revision>) -> anyhow::Result<Applied> {
        let applied = self.tried(revision, expected)?;
        if applied.failure.is_some() {
            return Ok(applied);
        }
        confirm(&self.site(), "web", &revision.id, &mut |_| ())
    }

    fn tried(&self, revision: &Revision, expected: Option<&Revision>) -> anyhow::Result<Applied> {
        let wished = Apply {
            pod: revision.pod.clone(),
            id: revision.id.clone(),
            files: revision.files.clone(),
            expected: expected.map(|revision| revision.id.clone()),
            by: "a test".into(),
        };
        apply(&self.site(), &wished, &mut |_| ())
    }

    fn pods(&self) -> Pods {
        Pods::new(&self.places())
    }

    /// Whether systemd's conditions let a unit start.
    fn may_start(&self, unit: &str) -> bool {
        let tried = self.dir.path().join("run/try").join(unit).exists();
        tried || self.dir.path().join("pods/web/current/units").join(unit).exists()
    }

    /// The programs that run.
    fn now(&self) -> String {
        let running = self.running.borrow();
        let programs: Vec<&str> =
            running.values().map(String::as_str).filter(|program| *program != "net").collect();
        if programs.is_empty() { "nothing".to_owned() } else { programs.join("+") }
    }

    /// The program that runs, and the one that would after a reboot.
    fn runs(&self) -> String {
        let now = self.now();
        self.reboots();
        format!("{now}, {}", self.now())
    }

    /// Loses power, and comes back.
    fn reboots(&self) {
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

    fn withdraw(&self, _pod: &str) -> anyhow::Result<()> {
        *self.published.borrow_mut() = None;
        Ok(())
    }

    fn ruleset(&self) -> String {
        String::new()
    }

    fn firewalld(&self) -> Option<String> {
        None
    }

    fn sockets(&self, _pid: u64) -> Vec<Socket> {
        let port = Socket { protocol: Protocol::Tcp, port: 80, listens: true, connected: false };
        vec![port]
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
            let program = if net { "net".to_owned() } else { self.program(unit) };
            self.events.borrow_mut().push(format!("start {program}"));
            let stuck = program == "stuck";
            self.running.borrow_mut().insert(unit.clone(), program);
            anyhow::ensure!(!stuck, "the start job failed");
        }
        Ok(())
    }

    fn stop(&self, units: &[String]) -> anyhow::Result<()> {
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
    fn probe(&self, container: &Placed, _at: &str, _probe: &Probe) -> anyhow::Result<()> {
        anyhow::ensure!(self.program(&container.unit) != "deaf", "no answer");
        Ok(())
    }
}

fn revision(program: &str, bundle: char) -> Revision {
    revision_in("hostNetwork: true", program, bundle)
}

/// One that has a network of its own.
fn apart(program: &str, bundle: char) -> Revision {
    revision_in("hostNetwork: false", program, bundle)
}

fn revision_in(network: &str, program: &str, bundle: char) -> Revision {
    with_secrets(network, program, bundle, secret::FIRST)
}

fn with_secrets(network: &str, program: &str, bundle: char, number: &str) -> Revision {
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  {network}\n  containers:\n  - name: app\n    image: bundle:app\n    command: [{program}]\n    startupProbe: {{exec: {{command: [x]}}, failureThreshold: 1, periodSeconds: 1}}\n"
    );
    let (pods, violations) = pod::read(&text);
    assert_eq!(violations, []);
    let config = serde_json::json!({ "root": { "readonly": true }, "process": {} });
    let built = Built { name: "app".into(), id: bundle.to_string().repeat(64), config };
    let machine = Machine {
        runtime: Runtime { name: "crun".into(), path: "/usr/bin/crun".into() },
        systemd: 257,
        store: "/var/lib/vz".into(),
        secrets: BTreeMap::from([("web".to_owned(), number.to_owned())]),
    };
    render(&pods[0], &BTreeMap::from([("app".to_owned(), built)]), &machine).unwrap()
}

#[test]
fn a_revision_that_works_replaces_the_one_before() {
    let node = Node::new();
    let (one, two) = (revision("good", 'a'), revision("better", 'b'));
    let applied = node.apply(&one, None).unwrap();
    assert_eq!((applied.current.as_ref(), applied.failure), (Some(&one.id), None));
    assert_eq!(node.runs(), "good, good");
    // Whoever else is on the node cannot read its environment.
    let mode = fs::metadata(node.places().pods).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    node.apply(&two, Some(&one)).unwrap();
    assert_eq!(node.runs(), "better, better");
    let pods = node.pods();
    assert_eq!(pods.link("web", "previous").as_ref(), Some(&one.id));
    assert_eq!(pods.pending("web"), None);
    let store = crate::push::store::Store::new(node.places().store);
    for bundle in ['a', 'b'] {
        assert!(store.is_pinned("app", &bundle.to_string().repeat(64)));
    }
    let outcomes: Vec<String> =
        pods.history("web").unwrap().into_iter().map(|entry| entry.outcome).collect();
    assert_eq!(outcomes, ["runs", "runs"]);
}

#[track_caller]
fn goes_back(program: &str, why: &str) {
    let node = Node::new();
    let (one, bad) = (revision("good", 'a'), revision(program, 'b'));
    node.apply(&one, None).unwrap();
    let applied = node.apply(&bad, Some(&one)).unwrap();
    assert_eq!(applied.current.as_ref(), Some(&one.id));
    assert_eq!(applied.restored, Some(true));
    let failure = applied.failure.unwrap();
    assert!(failure.contains(why), "{failure}");
    assert_eq!(applied.log, [format!("{program} says why")]);
    assert_eq!(node.pods().pending("web"), None);
    assert_eq!(node.pods().outcome("web", &bad.id).map(|a| a.failure), Some(Some(failure)));
    assert_eq!(node.runs(), "good, good");
    let last = node.pods().history("web").unwrap().pop().unwrap();
    assert!(last.outcome.starts_with("failed, and the one before runs again"), "{last:?}");
    assert_eq!(last.revision, bad.id);
}

#[test]
fn a_crash_loop_goes_back() {
    goes_back("crash", "was started again 3 times");
}

#[test]
fn a_failed_probe_goes_back() {
    goes_back("deaf", "the startup probe of container app fails: no answer");
}

#[test]
fn a_failed_start_job_goes_back() {
    goes_back("stuck", "is failed: timeout (the start job failed)");
}

#[test]
fn a_first_revision_that_fails_leaves_nothing_running() {
    let node = Node::new();
    let applied = node.apply(&revision("crash", 'a'), None).unwrap();
    assert_eq!((applied.current, applied.restored), (None, None));
    assert_eq!(node.runs(), "nothing, nothing");
    assert_eq!(node.pods().stray().unwrap(), [""; 0]);
}

#[test]
fn a_bad_revision_over_a_bad_one_is_not_called_restored() {
    let node = Node::new();
    let (one, bad) = (revision("good", 'a'), revision("crash", 'b'));
    node.apply(&one, None).unwrap();
    // What ran before breaks meanwhile.
    let config = node.dir.path().join(format!("pods/web/revs/{}/app/config.json", one.id));
    fs::write(&config, fs::read_to_string(&config).unwrap().replace("good", "crash")).unwrap();
    let applied = node.apply(&bad, Some(&one)).unwrap();
    assert_eq!(applied.restored, Some(false));
}

#[test]
fn nothing_is_touched_where_the_node_is_not_as_planned() {
    let node = Node::new();
    let (one, two) = (revision("good", 'a'), revision("better", 'b'));
    node.apply(&one, None).unwrap();
    let error = node.apply(&two, None).unwrap_err();
    assert!(error.to_string().contains("was changed on this node"), "{error}");
    let mut forged = two.clone();
    forged.files.insert("app/config.json".into(), "{}".into());
    let error = node.apply(&forged, Some(&one)).unwrap_err();
    assert!(error.to_string().contains("not the ones it names"), "{error}");
    let error = node.apply(&revision("good", 'c'), Some(&one)).unwrap_err();
    assert!(error.to_string().contains("is not in the node's store"), "{error}");
    assert_eq!(node.runs(), "good, good");
}

#[test]
fn with_a_network_of_its_own_the_new_one_starts_first_and_gets_the_ports() {
    let node = Node::new();
    let (one, two) = (apart("good", 'a'), apart("better", 'b'));
    node.apply(&one, None).unwrap();
    let pods = node.pods();
    let [old, new] =
        [&one, &two].map(|r| serde_json::from_str::<Record>(&r.files[RECORD]).unwrap());
    node.events.borrow_mut().clear();
    assert_eq!(node.tried(&two, Some(&one)).unwrap().gap, 0);
    assert_eq!(node.now().split('+').count(), 2, "{}", node.now());
    assert_ne!(pods.address(&old), pods.address(&new));
    confirm(&node.site(), "web", &two.id, &mut |_| ()).unwrap();
    let ports = format!("ports to {}", new.tag);
    let events = node.events.borrow().clone();
    let place = |event: &str| events.iter().position(|e| e == event).unwrap();
    assert!(place("start better") < place(&ports), "{events:?}");
    assert!(place(&ports) < place("stop good"), "{events:?}");
    assert_eq!(node.runs(), "better, better");
}

/// Whatever is cut, the node has the old revision, at once or after a reboot.
#[track_caller]
fn is_taken_back(one: &Revision, two: &Revision) {
    for reboot in [false, true] {
        let node = Node::new();
        node.apply(one, None).unwrap();
        node.tried(two, Some(one)).unwrap();
        if reboot {
            node.reboots();
            assert_eq!(node.now(), "good");
            let lost = confirm(&node.site(), "web", &two.id, &mut |_| ()).unwrap_err();
            assert!(lost.to_string().contains("knows nothing"), "{lost}");
        } else {
            super::super::watch(&node.site(), "web").unwrap();
            assert_eq!(node.now(), "good");
            let late = confirm(&node.site(), "web", &two.id, &mut |_| ()).unwrap();
            assert!(late.failure.unwrap().contains("did not come"));
            let last = node.pods().history("web").unwrap().pop().unwrap();
            assert!(last.outcome.contains("the one before runs again"), "{last:?}");
        }
        assert_eq!(node.pods().link("web", "current").as_ref(), Some(&one.id));
        // And the next try is as any other.
        node.apply(two, Some(one)).unwrap();
        assert_eq!(node.runs(), "better, better");
    }
}

#[test]
fn what_is_not_confirmed_is_taken_back() {
    is_taken_back(&revision("good", 'a'), &revision("better", 'b'));
    is_taken_back(&apart("good", 'a'), &apart("better", 'b'));
}

#[test]
fn what_was_broken_off_before_it_was_judged_is_taken_back() {
    for (one, two) in [
        (revision("good", 'a'), revision("better", 'b')),
        (apart("good", 'a'), apart("better", 'b')),
    ] {
        let node = Node::new();
        node.apply(&one, None).unwrap();
        node.tried(&two, Some(&one)).unwrap();
        let pods = node.pods();
        let pending = pods.pending("web").unwrap();
        pods.set_pending("web", Some(&Pending { judged: None, ..pending })).unwrap();
        super::super::watch(&node.site(), "web").unwrap();
        assert_eq!(node.runs(), "good, good");
    }
}

#[test]
fn what_was_confirmed_and_broken_off_is_ended() {
    let node = Node::new();
    let (one, two) = (apart("good", 'a'), apart("better", 'b'));
    node.apply(&one, None).unwrap();
    node.tried(&two, Some(&one)).unwrap();
    node.pods().set_link("web", "current", Some(&two.id)).unwrap();
    super::super::watch(&node.site(), "web").unwrap();
    assert_eq!((node.now(), node.pods().pending("web")), ("better".to_owned(), None));
}

#[test]
fn a_changed_secret_is_another_revision_and_each_has_its_own() {
    let node = Node::new();
    let (pods, site) = (node.pods(), node.site());
    let secrets = |value: &str| {
        let keys = BTreeMap::from([("k".to_owned(), Sealed(value.into()))]);
        Secrets::from([("s".to_owned(), keys)])
    };
    let compare = |value| site.compare_secrets(&pods, "web", &secrets(value)).unwrap();
    let bring = |number: &str, value| {
        site.put_secrets(&pods, ("web", number), &secrets(value), false).unwrap();
    };
    let apart = "volumes: [{name: v, secret: {secretName: s}}]";
    let [one, two, three] = ["1", "2", "3"].map(|number| with_secrets(apart, "good", 'a', number));
    let there = || list(&node.dir.path().join("run/secrets/web")).unwrap();
    assert_eq!(compare("a"), "1");
    let error = node.apply(&one, None).unwrap_err().to_string();
    assert!(error.contains("secrets of this revision are not on the node"), "{error}");
    bring("1", "a");
    node.apply(&one, None).unwrap();
    assert_eq!((compare("a"), compare("b")), ("1".to_owned(), "2".to_owned()));
    bring("2", "b");
    assert_eq!(node.tried(&two, Some(&one)).unwrap().gap, 0);
    confirm(&site, "web", &two.id, &mut |_| ()).unwrap();
    assert_eq!((compare("a"), compare("b")), ("1".to_owned(), "2".to_owned()));
    assert_eq!(there(), ["1", "2"]);
    // What neither the revision nor the one before has is forgotten.
    assert_eq!(compare("c"), "3");
    bring("3", "c");
    node.apply(&three, Some(&two)).unwrap();
    bring("3", "c");
    assert_eq!(there(), ["2", "3"]);
    // What a reboot took has the number that it had, whatever it is now.
    node.reboots();
    assert_eq!(compare("d"), "3");
    assert!(site.lacks_secrets(&pods.current("web").unwrap().unwrap()));
}

#[test]
fn earlier_revisions_are_named_by_the_beginning_of_their_digest() {
    let node = Node::new();
    let (one, two) = (revision("good", 'a'), revision("better", 'b'));
    node.apply(&one, None).unwrap();
    let find = |start: Option<&str>| {
        earlier(&node.pods(), "web".into(), start, String::new()).map(|apply| apply.id)
    };
    assert!(find(None).is_err());
    node.apply(&two, Some(&one)).unwrap();
    assert_eq!(find(None).unwrap(), one.id);
    assert_eq!(find(two.id.get(..8)).unwrap(), two.id);
    assert!(find(Some("zz")).unwrap_err().to_string().contains("there are"));
    assert!(find(Some("")).is_err());
}
