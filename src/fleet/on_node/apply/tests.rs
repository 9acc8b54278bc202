//! Deployments on a node that fails as it is told to.

mod broken_off;
mod displaced;
mod node;

use std::collections::BTreeMap;

use self::node::Node;
use super::*;
use crate::fleet::obstacle::Listener;
use crate::fleet::on_node::control::control;
use crate::fleet::on_node::pods::list;
use crate::fleet::pod::{self, Protocol};
use crate::fleet::preflight::Runtime;
use crate::fleet::render::{Built, Machine, render};
use crate::fleet::revision::Revision;
use crate::fleet::secret::{self, Sealed, Secrets};
use crate::fleet::state::Control;

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
    rendered(network, &format!("    command: [{program}]\n"), bundle, number)
}

/// One with a port of the node.
fn with_port(host_network: bool, port: u16) -> Revision {
    let ports = format!("ports: [{{containerPort: {port}, hostPort: {port}}}]");
    let more = format!("    command: [good]\n    {ports}\n");
    rendered(&format!("hostNetwork: {host_network}"), &more, 'a', secret::FIRST)
}

fn rendered(network: &str, container: &str, bundle: char, number: &str) -> Revision {
    named("web", network, container, bundle, number)
}

fn named(pod: &str, network: &str, container: &str, bundle: char, number: &str) -> Revision {
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {pod}}}\nspec:\n  {network}\n  containers:\n  - name: app\n    image: bundle:app\n{container}    startupProbe: {{exec: {{command: [x]}}, failureThreshold: 1, periodSeconds: 1}}\n"
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

#[test]
fn a_pod_that_listens_on_its_own_127_0_0_1_is_told_so() {
    let failure = |host_network: bool, port: u16| {
        let more = format!(
            "    command: [local]\n    readinessProbe: {{tcpSocket: {{port: {port}}}, periodSeconds: 1}}\n"
        );
        let network = format!("hostNetwork: {host_network}");
        let wished = rendered(&network, &more, 'a', secret::FIRST);
        Node::new().apply(&wished, None).unwrap().failure.unwrap()
    };
    let said = failure(false, 80);
    let hint = "refused; it listens on port 80 at 127.0.0.1, where only";
    assert!(said.contains(hint), "{said}");
    for other in [failure(false, 81), failure(true, 80)] {
        assert!(other.ends_with("refused"), "{other}");
    }
}

#[test]
fn what_did_not_answer_and_was_started_again_is_counted_and_a_lost_timer_is_missed() {
    let node = Node::new();
    let asked = |program: &str| {
        let more =
            format!("    command: [{program}]\n    livenessProbe: {{exec: {{command: [x]}}}}\n");
        rendered("hostNetwork: true", &more, 'a', secret::FIRST)
    };
    let (one, two, three) = (asked("good"), asked("better"), asked("best"));
    node.apply(&one, None).unwrap();
    let tag = node.pods().current("web").unwrap().unwrap().tag;
    let container = || {
        let record = node.pods().current("web").unwrap().unwrap();
        state::containers(&node.site(), &node.pods(), &record).unwrap().remove(0)
    };
    let none = format!("vz_live.web.app.{tag}.timer");
    assert_eq!((container().restarts, container().unasked), (0, Some(none)));
    let live = node.places().run.join("live");
    let timer = format!("vz_live.web.app.{tag}.99.timer");
    fs::create_dir_all(live.join(format!("web.app.{tag}"))).unwrap();
    fs::write(live.join(format!("web.app.{tag}/timer")), format!("{timer}\n")).unwrap();
    assert_eq!(container().unasked.as_ref(), Some(&timer));
    node.running.borrow_mut().insert(timer, "timer".to_owned());
    *node.restarts.borrow_mut() = 2;
    let count = live.join(format!("web.app.{tag}.restarts"));
    fs::write(&count, "3 again\n").unwrap();
    assert_eq!((container().restarts, container().unasked), (5, None));
    // It goes with the last revision that has it.
    node.apply(&two, Some(&one)).unwrap();
    assert_eq!(container().restarts, 0);
    fs::remove_dir_all(node.places().pods.join("web/revs").join(&one.id)).unwrap();
    node.apply(&three, Some(&two)).unwrap();
    assert!(!count.exists());
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
    goes_back("crash", "was started again 3 times: exit-code");
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
fn a_pod_that_may_end_has_not_ended_where_its_network_was_never_made() {
    let node = Node::new();
    *node.ill.borrow_mut() = true;
    let network = "hostNetwork: false\n  restartPolicy: OnFailure";
    let applied = node.tried(&revision_in(network, "good", 'a'), None).unwrap();
    assert!(applied.failure.unwrap().starts_with("its network is inactive"));
}

#[test]
fn nothing_that_cannot_be_written_keeps_the_one_before_from_running_again() {
    let node = Node::new();
    let (one, bad) = (apart("good", 'a'), apart("crash", 'b'));
    node.apply(&one, None).unwrap();
    let record: Record = serde_json::from_str(&one.files[RECORD]).unwrap();
    // Whoever would write the address again fails.
    let address = format!("pods/web/tags/.{}.address", record.tag);
    fs::create_dir(node.dir.path().join(address)).unwrap();
    assert_eq!(node.apply(&bad, Some(&one)).unwrap().restored, Some(true));
    assert_eq!(node.runs(), "good, good");
}

#[test]
fn a_repair_that_fails_leaves_the_revision_that_is_wished() {
    let node = Node::new();
    let (one, two) = (revision("good", 'a'), revision("better", 'b'));
    node.apply(&one, None).unwrap();
    node.apply(&two, Some(&one)).unwrap();
    *node.ill.borrow_mut() = true;
    node.running.borrow_mut().clear();
    let applied = node.apply(&two, Some(&two)).unwrap();
    assert_eq!((applied.current, applied.restored), (Some(two.id.clone()), Some(false)));
    assert_eq!(node.pods().link("web", "previous"), Some(one.id));
    assert_eq!(node.runs(), "better, better");
}

#[test]
fn where_only_the_ports_lead_elsewhere_nothing_is_stopped() {
    let node = Node::new();
    let one = apart("good", 'a');
    node.apply(&one, None).unwrap();
    let record: Record = serde_json::from_str(&one.files[RECORD]).unwrap();
    let address = node.pods().address(&record);
    node.events.borrow_mut().clear();
    assert_eq!(node.apply(&one, Some(&one)).unwrap().failure, None);
    // What runs has its address still.
    assert_eq!(node.pods().address(&record), address);
    let events = node.events.borrow().join(", ");
    assert!(!events.contains("stop") && events.contains("ports to"), "{events}");
}

#[test]
fn a_rollback_to_what_runs_stops_nothing() {
    let node = Node::new();
    let one = revision("good", 'a');
    node.apply(&one, None).unwrap();
    node.events.borrow_mut().clear();
    let same = earlier(&node.pods(), "web".into(), Some(&one.id), String::new()).unwrap();
    assert_eq!(apply(&node.site(), &same, &mut |_| ()).unwrap(), Applied::good(&one.id));
    confirm(&node.site(), "web", &one.id, &mut |_| ()).unwrap();
    let events = node.events.borrow().join(", ");
    assert!(!events.contains("stop"), "{events}");
}

#[test]
fn what_cannot_be_noted_is_done_all_the_same() {
    let node = Node::new();
    node.apply(&revision("good", 'a'), None).unwrap();
    // Whoever would write the history fails, as on a full disk.
    fs::create_dir(node.dir.path().join("pods/web/.history")).unwrap();
    let mut said = Vec::new();
    let mut say = |what| said.push(what);
    control(&node.site(), &node.pods(), ("web", "a test"), Control::Stop, &mut say).unwrap();
    assert_eq!(node.now(), "nothing");
    assert!(said[0].starts_with("its history does not have that: cannot write"), "{said:?}");
}

#[test]
fn what_is_started_and_does_not_do_its_work_is_told() {
    let node = Node::new();
    node.apply(&revision("good", 'a'), None).unwrap();
    let restart = || {
        let pod = ("web", "a test");
        control(&node.site(), &node.pods(), pod, Control::Restart, &mut |_| ())
    };
    restart().unwrap();
    // Nobody answers its probes any more.
    *node.ill.borrow_mut() = true;
    let error = format!("{:#}", restart().unwrap_err());
    assert!(
        error.starts_with("cannot restart `web`: the startup probe of container app"),
        "{error}"
    );
    let last = node.pods().history("web").unwrap().pop().unwrap().outcome;
    assert!(last.starts_with("was to restart, which failed: "), "{last}");
}

#[test]
fn units_that_somebody_left_are_stopped_and_not_only_forgotten() {
    let node = Node::new();
    let (one, two, three) = (apart("good", 'a'), apart("better", 'b'), apart("best", 'a'));
    node.apply(&one, None).unwrap();
    node.tried(&two, Some(&one)).unwrap();
    node.pods().set_pending("web", None).unwrap();
    node.apply(&three, Some(&one)).unwrap();
    assert_eq!(node.runs(), "best, best");
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
fn a_port_of_somebody_else_is_refused_before_anything_is_changed() {
    let node = Node::new();
    let listener = Listener { port: 80, protocol: Protocol::Tcp, everywhere: true, process: None };
    *node.listeners.borrow_mut() = vec![listener];
    for (host_network, port, why) in [
        (false, 80, "port 80/tcp is that of a process"),
        (true, 80, "port 80/tcp is that of a process"),
        (false, 22, "port 22/tcp is ssh's"),
        (true, 22, "port 22/tcp is ssh's"),
    ] {
        let error = node.apply(&with_port(host_network, port), None).unwrap_err().to_string();
        assert!(error.starts_with(why), "{error}");
        assert_eq!((node.runs(), node.events.borrow().len()), ("nothing, nothing".to_owned(), 0));
    }
    node.apply(&with_port(false, 81), None).unwrap();
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
        site.put_secrets(&pods, ("web", number), &secrets(value), None).unwrap();
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

#[test]
fn files_that_were_changed_on_the_node_give_way() {
    let node = Node::new();
    let one = revision("good", 'a');
    node.apply(&one, None).unwrap();
    let revs = node.dir.path().join("pods/web/revs");
    fs::write(revs.join(&one.id).join(RECORD), "{}").unwrap();
    node.pods().write("web", &one.id, &one.files).unwrap();
    assert_eq!(node.pods().files("web", &one.id).unwrap(), one.files);
    assert_eq!(fs::read_dir(revs).unwrap().count(), 1);
}

#[test]
fn what_failed_elsewhere_is_nothing_to_roll_back_to() {
    let node = Node::new();
    let (one, two) = (revision("good", 'a'), revision("better", 'b'));
    node.apply(&one, None).unwrap();
    node.apply(&two, Some(&one)).unwrap();
    let back = earlier(&node.pods(), "web".into(), Some(&one.id), String::new()).unwrap();
    apply(&node.site(), &Apply { forget: true, ..back }, &mut |_| ()).unwrap();
    confirm(&node.site(), "web", &one.id, &mut |_| ()).unwrap();
    let error = earlier(&node.pods(), "web".into(), None, String::new()).unwrap_err();
    assert_eq!(error.to_string(), "there is no previous revision");
}

#[test]
fn a_previous_revision_is_another_one() {
    let node = Node::new();
    let (one, two) = (revision("good", 'a'), revision("better", 'b'));
    node.apply(&one, None).unwrap();
    node.apply(&two, Some(&one)).unwrap();
    // As a power cut between the two links of a switch leaves them.
    node.pods().set_link("web", "current", Some(&one.id)).unwrap();
    let error = earlier(&node.pods(), "web".into(), None, String::new()).unwrap_err();
    assert!(error.to_string().contains("no previous revision"), "{error}");
}
