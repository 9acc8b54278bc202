//! `vzmaster` on files and on a node that is this machine.

use std::process::Stdio;

use crate::push_chaos::gate::Gate;
use crate::sandbox::{Finished, Need, Sandbox, require};
use crate::sshd::{Sshd, wanted};

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  hostNetwork: true
  containers:
  - name: app
    image: bundle:bundles/app
";

/// A directory with one of everything.
fn fleet() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("hosts.ini", "[web]\nnode-a\nnode-b\n");
    sandbox.write("groups.yaml", "web:\n  pods: [web]\n");
    sandbox.write("pods/web.yaml", POD);
    sandbox
}

fn json(finished: &Finished) -> serde_json::Value {
    serde_json::from_str(&finished.stdout()).unwrap()
}

#[test]
fn a_fleet_that_is_right_is_said_to_be() {
    let fleet = fleet();
    let said = fleet.run("vzmaster", ["validate"]).success();
    said.says("1 pod, 2 hosts: nothing is wrong, 1 warning\n")
        .says("the pod `web` has no bundle yet: `vzbuild bundle` or `minify` makes `bundles/app`");
    let value = json(&fleet.run("vzmaster", ["validate", "--json"]).success());
    assert_eq!(value["hosts"]["node-a"], serde_json::json!(["web"]));
    assert_eq!(value["warnings"].as_array().unwrap().len(), 1);
    fleet.write("pods/idle.yaml", POD.replace("web", "idle"));
    fleet
        .run("vzmaster", ["validate"])
        .success()
        .says("warning: no group of groups.yaml has the pod `idle`")
        .says("nothing is wrong, 2 warnings\n");
}

#[test]
fn everything_that_is_wrong_is_named_by_file_and_line() {
    let fleet = fleet();
    fleet.write("pods/web.yaml", format!("{POD}    lifecycle: {{}}\n"));
    fleet.write("pods/old.yml", "kind: Deployment\n");
    fleet.write("pods/.hidden.yaml", "no pod");
    fleet.write("groups.yaml", "web:\n  pod: [web]\n");
    let found = fleet.run("vzmaster", ["validate"]).status(1).says("7 violations").stdout();
    let expected = "\
groups.yaml:2: web.pod: not supported: did you mean `pods`?
groups.yaml:2: web.pods: is missing
pods/old.yml:1: apiVersion: is missing
pods/old.yml:1: kind: must be Pod, and is `Deployment`
pods/old.yml:1: metadata: is missing
pods/old.yml:1: spec: is missing
pods/web.yaml:9: spec.containers[0].lifecycle: not supported: no hooks are run; a stop signal is the annotation vz/stop-signal.CONTAINER
";
    assert_eq!(found, expected);
}

#[test]
fn a_bundle_that_lacks_the_place_of_a_volume_is_a_violation() {
    let fleet = fleet();
    let volumes = "    volumeMounts:\n    - {name: data, mountPath: /data}\n    - {name: data, mountPath: /etc}\n  volumes: [{name: data, emptyDir: {}}]\n";
    fleet.write("pods/web.yaml", format!("{POD}{volumes}"));
    fleet.run("vzmaster", ["validate"]).success();
    fleet.write("bundles/app/config.json", "{}");
    let found = fleet.run("vzmaster", ["validate"]).status(1).stdout();
    let expected = "pods/web.yaml:8: spec.containers[0].image: the bundle `bundles/app`: its rootfs cannot be read";
    assert!(found.starts_with(expected), "{found}");
    fleet.write("bundles/app/rootfs/etc/conf", "");
    let said = fleet.run("vzmaster", ["validate"]).status(1).says("1 violation");
    let expected = "pods/web.yaml:10: spec.containers[0].volumeMounts[0]: the bundle `bundles/app` has nothing at `/data`: `vzbuild bundle --volume /srv:/data` makes the place; the pod's volume stands in for /srv\n";
    assert_eq!(said.stdout(), expected);
    fleet.write("bundles/app/rootfs/data/.keep", "");
    fleet.run("vzmaster", ["validate"]).success().says("nothing is wrong\n");
}

#[test]
fn a_file_that_is_no_yaml_or_no_inventory_is_a_finding() {
    let fleet = fleet();
    fleet.write("hosts.ini", "[web]\na\n[web:thing]\n");
    fleet.write("pods/web.yaml", "a: [1\nb: 2\n");
    fleet.write("groups.yaml", [0xff, 0xfe]);
    let found = fleet.run("vzmaster", ["validate"]).status(1).stdout();
    let starts: Vec<&str> = found.lines().map(|l| l.split(": ").next().unwrap()).collect();
    assert_eq!(starts, ["groups.yaml:1", "hosts.ini:3", "pods/web.yaml:2"], "{found}");
}

#[test]
fn a_directory_without_an_inventory_is_a_wrong_command_line() {
    let sandbox = Sandbox::new();
    sandbox.run("vzmaster", ["validate"]).status(2).says("has no inventory").says("hint: ");
    let fleet = fleet();
    fleet.write("inventory.yml", "all: {hosts: {x: {}}}\n");
    fleet.run("vzmaster", ["validate"]).status(2).says("both `./hosts.ini` and `./inventory.yml`");
    fleet.run("vzmaster", ["-i", "hosts.ini", "validate"]).success();
}

#[test]
fn a_host_that_the_fleet_lacks_or_gives_nothing_is_said_to_be_so() {
    let fleet = fleet();
    fleet.write("hosts.ini", "[web]\nweb1\n[db]\ndb1\n");
    let exec = |host: &str| fleet.run("vzmaster", ["exec", host, "web", "--", "true"]);
    let unknown = "error: no host or group of the inventory is called `wbe1`: did you mean `web1`?";
    exec("wbe1").status(2).says(unknown);
    for verb in [&["logs", "web", "-l", "wbe1"][..], &["plan", "-l", "wbe1"], &["ps", "-l", "wbe1"]]
    {
        fleet.run("vzmaster", verb).status(2).says(unknown);
    }
    fleet.run("vzmaster", ["retire", "wbe1"]).status(2).says("did you mean `web1`?");
    let nothing = "warning: no group of groups.yaml gives the host `db1` a pod";
    // Its name leads nowhere.
    fleet.run("vzmaster", ["ps", "-l", "db1"]).status(3).says(nothing);
    fleet
        .run("vzmaster", ["logs", "wbe", "-l", "db1"])
        .status(2)
        .says("`wbe`, or is to have it: did you mean `web`?")
        .says(nothing);
    exec("db1").status(3).says(nothing);
    assert!(!exec("web1").status(3).stderr().contains("no group"));
}

/// The whole way but for what a pod needs: files, bundle, ssh, the node's own end.
#[test]
fn a_node_says_what_it_has_or_why_it_cannot_have_it() {
    let test = "a_node_says_what_it_has_or_why_it_cannot_have_it";
    if !wanted(test) {
        return;
    }
    let node = Sshd::start();
    let port = node.port;
    let inventory = format!("[web]\nnode-a ansible_host=127.0.0.1 ansible_port={port}\n");
    node.sandbox.write("hosts.ini", inventory);
    node.sandbox.write("groups.yaml", "web:\n  pods: [web]\n");
    node.sandbox.write("pods/web.yaml", POD);
    let plan = |args: &[&str]| Finished::of(node.vzmaster(&["plan"]).args(args));
    plan(&[]).status(3).says("cannot use the bundle `bundles/app`");
    node.bundle("bundles/app", 1, 1000);
    // As root on a machine of systemd with crun the answer is a plan, elsewhere a reason.
    let planned = plan(&[]);
    let said = planned.stdout();
    let is_plan = said.contains("create  web ");
    let known = is_plan
        || said.contains("the node cannot run pods: ")
        || said.contains("its root file system can be written to");
    assert!(known, "{said}{}", planned.stderr());
    plan(&["-l", "node-z"]).status(2).says("is called `node-z`: did you mean `node-a`?");
    node.sandbox.write("pods/web.yaml", format!("{POD}    lifecycle: {{}}\n"));
    plan(&[]).status(1).says("pods/web.yaml:9: ").says("hint: `vzmaster validate`");
}

#[test]
fn a_copy_of_vzmaster_that_takes_its_time_is_told() {
    if !wanted("a_copy_of_vzmaster_that_takes_its_time_is_told") {
        return;
    }
    let node = Sshd::start();
    let gate = Gate::before(node.port);
    node.pin_at(gate.port);
    let inventory = format!("node-a ansible_host=127.0.0.1 ansible_port={}\n", gate.port);
    node.sandbox.write("hosts.ini", inventory);
    node.sandbox.write("groups.yaml", "");
    gate.hold_after(2 << 20);
    let mut ps = node.vzmaster(&["ps"]).stderr(Stdio::piped()).spawn().unwrap();
    gate.wait(&mut ps);
    // From when on it is told.
    std::thread::sleep(std::time::Duration::from_secs(4));
    gate.release();
    let said = ps.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.matches("vzmaster: copying vzmaster to node-a, ").count(), 1, "{said}");
}

#[test]
fn the_preflight_script_is_plain_posix_shell() {
    let needs = [Need::Program("dash", "dash"), Need::Program("shellcheck", "shellcheck")];
    if !require("the_preflight_script_is_plain_posix_shell", &needs) {
        return;
    }
    let sandbox = Sandbox::new();
    let script = sandbox.run("vzmaster", ["preflight", "--script"]).success().stdout();
    sandbox.write("facts.sh", &script);
    sandbox.run("dash", ["-n", "facts.sh"]).success();
    sandbox.run("shellcheck", ["--shell=sh", "facts.sh"]).success();
}

#[test]
fn the_script_prints_facts_that_can_be_judged_and_leaves_nothing() {
    let sandbox = Sandbox::new();
    let script = sandbox.run("vzmaster", ["preflight", "--script"]).success().stdout();
    sandbox.write("facts.sh", &script);
    std::fs::create_dir(sandbox.path("tmp")).unwrap();
    let mut sh = sandbox.command("sh");
    let facts = Finished::of(sh.arg("facts.sh").env("TMPDIR", sandbox.path("tmp"))).success();
    assert!(facts.stdout().ends_with("\nend=1\n"), "{}", facts.stdout());
    assert_eq!(std::fs::read_dir(sandbox.path("tmp")).unwrap().count(), 0);
    sandbox.write("facts", facts.stdout());
    let judged = sandbox.run("vzmaster", ["preflight", "--facts", "facts", "--json"]);
    let value = json(&judged);
    assert_eq!(value[0]["facts"]["arch"], std::env::consts::ARCH);
    let unusable = value[0]["verdict"]["grade"] == "unusable";
    judged.status(i32::from(unusable));
    sandbox.write("facts", "nothing\n");
    sandbox.run("vzmaster", ["preflight", "--facts", "facts"]).status(3).says("no facts in it");
}

/// A busy machine is no machine without containers.
#[test]
fn a_trial_that_fails_is_made_once_more() {
    let sandbox = Sandbox::new();
    let script = sandbox.run("vzmaster", ["preflight", "--script"]).success().stdout();
    sandbox.write("facts.sh", &script);
    let crun = "#!/bin/sh\ncase \"$*\" in *' run '*) echo \"$*\" >>runs; [ $(wc -l <runs) -ge $NEEDED ] ;; esac\n";
    let crun = sandbox.write("bin/crun", crun);
    std::fs::set_permissions(crun, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", sandbox.path("bin").display(), std::env::var("PATH").unwrap());
    let trial = |needed: &str| {
        let _ = std::fs::remove_file(sandbox.path("runs"));
        let mut sh = sandbox.command("sh");
        sh.arg("facts.sh").env("PATH", &path).env("NEEDED", needed);
        let facts = Finished::of(&mut sh).success().stdout();
        let trial = facts.lines().find(|line| line.starts_with("crun.trial=")).unwrap();
        (trial.to_owned(), sandbox.lines("runs").len())
    };
    assert_eq!(trial("2"), ("crun.trial=yes".to_owned(), 2));
    let (failed, runs) = trial("9");
    assert!(failed.starts_with("crun.trial=no") && runs == 2, "{failed}");
    // Two who try at once do not meet.
    let names = sandbox.lines("runs");
    assert!(names[0].contains("vz-preflight-"), "{names:?}");
}

#[test]
fn nodes_are_asked_over_ssh_and_one_that_is_dead_does_not_stop_the_others() {
    if !wanted("nodes_are_asked_over_ssh_and_one_that_is_dead_does_not_stop_the_others") {
        return;
    }
    let node = Sshd::start();
    let port = node.port;
    let inventory = format!(
        "[web]\nnode-a ansible_host=127.0.0.1 ansible_port={port}\ndead ansible_host=127.0.0.1 ansible_port=1\n"
    );
    node.sandbox.write("hosts.ini", inventory);
    let ask = |hosts: &[&str]| {
        let mut command = node.vzmaster(&["--json", "--connect-timeout", "2", "preflight"]);
        Finished::of(command.args(hosts))
    };
    let one = ask(&["node-a"]);
    assert_eq!(json(&one)[0]["facts"]["arch"], std::env::consts::ARCH);
    let both = ask(&["@web"]).status(4);
    let error = json(&both)[0]["error"].to_string();
    assert!(error.contains("cannot reach `dead`"), "{error}");
    ask(&["dead"]).status(3);
}
