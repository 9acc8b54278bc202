//! Plans as a user reads them.

use super::*;
use crate::fleet::pod;
use crate::fleet::preflight::Runtime;
use crate::fleet::render::{Built, Machine, render};

/// The revision of a pod whose bundle has this digit as digest.
fn revision(bundle: char, more: &str) -> Revision {
    revision_in("true", bundle, more)
}

fn revision_in(host_network: &str, bundle: char, more: &str) -> Revision {
    with_secrets(host_network, bundle, more, secret::FIRST)
}

fn with_secrets(host_network: &str, bundle: char, more: &str, number: &str) -> Revision {
    let spec = format!(
        "hostNetwork: {host_network}\n  containers:\n  - name: app\n    image: bundle:app\n{more}"
    );
    numbered(bundle, "{name: web}", &spec, number)
}

fn of_pod(bundle: char, metadata: &str, spec: &str) -> Revision {
    numbered(bundle, metadata, spec, secret::FIRST)
}

fn numbered(bundle: char, metadata: &str, spec: &str, number: &str) -> Revision {
    let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {metadata}\nspec:\n  {spec}");
    let (pods, violations) = pod::read(&text);
    assert_eq!(violations, []);
    let config = serde_json::json!({
        "root": { "path": "rootfs", "readonly": true },
        "process": { "args": ["app"] },
    });
    let id = bundle.to_string().repeat(64);
    let built = Built { name: "app".into(), id, config };
    let machine = Machine {
        runtime: Runtime { name: "crun".into(), path: "/usr/bin/crun".into() },
        systemd: 257,
        store: "/var/lib/vz".into(),
        secrets: BTreeMap::from([("web".to_owned(), number.to_owned())]),
    };
    render(&pods[0], &BTreeMap::from([("app".to_owned(), built)]), &machine).unwrap()
}

/// A node on which it runs as it should.
fn running(revision: &Revision) -> PodState {
    PodState {
        name: "web".into(),
        current: Some(revision.id.clone()),
        files: revision.files.clone(),
        containers: vec![ContainerState {
            name: "app".into(),
            unit: "vz-web.app.TAG.service".into(),
            stored: true,
            linked: true,
            enabled: true,
            active: "active".into(),
            result: "success".into(),
            ..ContainerState::default()
        }],
        ..PodState::default()
    }
}

/// The plan's lines, with digests written as `ID` and `NEW`.
#[track_caller]
fn check(wished: Option<&Revision>, pods: Vec<PodState>, expected: &[&str]) {
    let wished: BTreeMap<String, Revision> =
        wished.into_iter().map(|r| ("web".to_owned(), r.clone())).collect();
    let new = wished.get("web").map(|r| short(&r.id).to_owned()).unwrap_or_default();
    let old = pods.first().and_then(|pod| pod.current.clone()).unwrap_or_default();
    let state = State { pods, ..State::default() };
    let steps = plan(&wished, &state, false);
    let hide = |line: String| {
        let named = [(short(&old), "OLD"), (new.as_str(), "NEW")];
        let named = named.into_iter().filter(|(id, _)| !id.is_empty());
        named.fold(line, |line, (id, name)| line.replace(id, name))
    };
    let lines: Vec<String> = steps.iter().map(|step| hide(step.line())).collect();
    assert_eq!(lines, expected);
    assert_eq!(differs(&steps), !lines.iter().all(|line| line.starts_with("keep")));
}

#[test]
fn what_runs_as_wished_is_kept() {
    let wished = revision('a', "");
    check(Some(&wished), vec![running(&wished)], &["keep    web OLD"]);
    check(Some(&wished), vec![], &["create  web NEW: is not there"]);
}

#[test]
fn what_takes_the_port_of_a_pod_that_goes_is_in_its_place() {
    let ports = |port: u16| format!("    ports: [{{containerPort: 80, hostPort: {port}}}]\n");
    let old = PodState { name: "old".into(), ..running(&revision_in("false", 'a', &ports(80))) };
    let state = State { pods: vec![old], ..State::default() };
    let check = |host_network: &str, port: u16, prune: bool, expected: &[&str]| {
        let new = revision_in(host_network, 'b', &ports(port));
        let steps = plan(&BTreeMap::from([("web".to_owned(), new)]), &state, prune);
        assert_eq!(steps[0].instead, expected, "{port}, {prune}");
    };
    check("false", 80, true, &["old"]);
    check("false", 81, true, &[]);
    check("false", 80, false, &[]);
    let line =
        Step { instead: vec!["old".into()], ..plan(&BTreeMap::new(), &state, true)[0].clone() };
    assert!(line.line().contains(" (in the place of old): "), "{}", line.line());
    // What shares the node's network stops before another one starts.
    let old = PodState { name: "old".into(), ..running(&revision('a', "")) };
    let state = State { pods: vec![old], ..State::default() };
    let steps = plan(&BTreeMap::from([("web".to_owned(), revision('b', ""))]), &state, true);
    assert_eq!(steps[0].instead, ["old"]);
}

#[test]
fn an_update_says_what_changes() {
    let old = running(&revision('a', ""));
    check(
        Some(&revision('b', "")),
        vec![old.clone()],
        &[
            "update  web OLD -> NEW (stop first: it shares the node's network): container app: bundle aaaaaaaaaaaa -> bbbbbbbbbbbb",
        ],
    );
    check(
        Some(&revision('a', "    resources: {limits: {memory: 64Mi}}\n")),
        vec![old.clone()],
        &["update  web OLD -> NEW (stop first: it shares the node's network): unit vz-web.app"],
    );
    check(
        Some(&revision('a', "    args: [-q]\n")),
        vec![old.clone()],
        &[
            "update  web OLD -> NEW (stop first: it shares the node's network): container app: command, environment or mounts",
        ],
    );
    check(
        Some(&revision('a', "    readinessProbe: {tcpSocket: {port: 80}}\n")),
        vec![old],
        &[
            "update  web OLD -> NEW (stop first: it shares the node's network): container app: probes",
        ],
    );
}

#[test]
fn a_new_bundle_hides_no_other_change() {
    let two = |bundle, args: &str, more: &str| {
        let app = format!("    args: [{args}]\n");
        revision(bundle, &format!("{app}  - name: side\n    image: bundle:app\n{more}"))
    };
    check(
        Some(&two('b', "-q", "    command: [x]\n    livenessProbe: {tcpSocket: {port: 80}}\n")),
        vec![running(&two('a', "-v", ""))],
        &[
            "update  web OLD -> NEW (stop first: it shares the node's network): container app: bundle aaaaaaaaaaaa -> bbbbbbbbbbbb; container side: bundle aaaaaaaaaaaa -> bbbbbbbbbbbb; container side: probes; container app: command, environment or mounts; container side: command, environment or mounts; container side: liveness (new); unit vz-web.side",
        ],
    );
    check(
        Some(&two('a', "-q", "")),
        vec![running(&revision('a', "    args: [-q]\n"))],
        &[
            "update  web OLD -> NEW (stop first: it shares the node's network): container side is new; unit vz-web.side (new)",
        ],
    );
    check(
        Some(&revision('a', "    ports: [{containerPort: 80}]\n")),
        vec![running(&revision('a', ""))],
        &[
            "update  web OLD -> NEW (stop first: it shares the node's network): ports; network (new); unit vz-web.app",
        ],
    );
}

#[test]
fn another_runtime_is_said() {
    let by_systemd = of_pod(
        'a',
        "{name: web, annotations: {vz/backend: systemd}}",
        "hostNetwork: true\n  containers:\n  - name: app\n    image: bundle:app\n",
    );
    check(
        Some(&by_systemd),
        vec![running(&revision('a', ""))],
        &[
            "update  web OLD -> NEW (stop first: it shares the node's network): container app: run by systemd, no more by crun; unit vz-web.app",
        ],
    );
}

#[test]
fn a_plan_says_which_starts_first() {
    let old = running(&revision_in("false", 'a', ""));
    let bundle = "container app: bundle aaaaaaaaaaaa -> bbbbbbbbbbbb";
    let shown = |more: &str, how: &str| {
        let line = format!("update  web OLD -> NEW ({how}): {bundle}");
        let lines = [line.as_str()];
        check(Some(&revision_in("false", 'b', more)), vec![old.clone()], &lines);
    };
    shown("", "start first");
    let line = format!("update  web OLD -> NEW (stop first: port 53 is UDP): {bundle}; ports");
    let more = "    ports: [{containerPort: 53, hostPort: 53, protocol: UDP}]\n";
    check(Some(&revision_in("false", 'b', more)), vec![old.clone()], &[&line]);
    let more =
        "    volumeMounts: [{name: v, mountPath: /v}]\n  volumes: [{name: v, emptyDir: {}}]\n";
    let line = format!(
        "update  web OLD -> NEW (stop first: both would write to the volume `v`): {bundle}; volumes; container app: command, environment or mounts"
    );
    check(Some(&revision_in("false", 'b', more)), vec![old.clone()], &[&line]);
    let line = format!(
        "update  web OLD -> NEW (stop first: what runs shares the node's network): {bundle}; container app: command, environment or mounts; network (new); ports (new); unit vz-web.-net (new); unit vz-web.app"
    );
    let shares = running(&revision_in("true", 'a', ""));
    check(Some(&revision_in("false", 'b', "")), vec![shares], &[&line]);
}

#[test]
fn a_changed_secret_is_an_update() {
    let more = "    volumeMounts: [{name: v, mountPath: /v}]\n  volumes: [{name: v, secret: {secretName: tls}}]\n";
    let [old, new] = ["1", "2"].map(|number| with_secrets("false", 'a', more, number));
    let mut there = running(&old);
    check(Some(&new), vec![there.clone()], &["update  web OLD -> NEW (start first): secrets"]);
    let none = revision_in("false", 'a', "");
    check(
        Some(&new),
        vec![running(&none)],
        &[
            "update  web OLD -> NEW (start first): container app: command, environment or mounts; which secrets (new); unit vz-web.app",
        ],
    );
    there.lacks_secrets = true;
    check(
        Some(&old),
        vec![there],
        &["repair  web OLD (stop first: it is the same revision): its secrets are not on the node"],
    );
}

#[test]
fn a_closed_port_is_seen() {
    let more = "    ports: [{containerPort: 80, hostPort: 8080}]\n";
    let wished = revision_in("false", 'a', more);
    let mut there = running(&wished);
    there.addresses = vec!["198.18.0.1".into()];
    let rule = "8080/tcp -> 198.18.0.1:80";
    let line = format!("repair  web OLD: port {rule} is closed");
    check(Some(&wished), vec![there.clone()], &[&line]);
    there.rules.push(rule.into());
    check(Some(&wished), vec![there.clone()], &["keep    web OLD"]);
    let partly = format!("{rule}, from the node itself only");
    there.rules = vec![partly.clone()];
    let line = format!("repair  web OLD: port {partly}");
    check(Some(&wished), vec![there.clone()], &[&line]);
    there.rules = vec![rule.into()];
    // Where the node has IPv6, it has another rule.
    there.addresses.push("fdc9:a024:e64e::1".into());
    let rule = "8080/tcp -> [fdc9:a024:e64e::1]:80";
    let line = format!("repair  web OLD: port {rule} is closed");
    check(Some(&wished), vec![there.clone()], &[&line]);
    there.rules.push(rule.into());
    check(Some(&wished), vec![there], &["keep    web OLD"]);
}

#[test]
fn a_job_that_ended_well_is_not_run_again() {
    let ended = |policy: &str, result: &str| {
        let wished = revision(
            'a',
            &format!("    ports: [{{containerPort: 80}}]\n  restartPolicy: {policy}\n"),
        );
        let mut there = running(&wished);
        there.containers[0].active = if result == "success" { "inactive" } else { "failed" }.into();
        there.containers[0].result = result.into();
        (wished, vec![there])
    };
    for policy in ["Never", "OnFailure"] {
        let (wished, there) = ended(policy, "success");
        check(Some(&wished), there, &["keep    web OLD"]);
        let (wished, there) = ended(policy, "exit-code");
        let why = "port 80/tcp is closed";
        let line = format!(
            "repair  web OLD (stop first: it is the same revision): vz-web.app.TAG.service is failed: exit-code, {why}"
        );
        check(Some(&wished), there, &[&line]);
    }
    let (wished, there) = ended("Always", "success");
    let line =
        "repair  web OLD (stop first: it is the same revision): vz-web.app.TAG.service is inactive";
    check(Some(&wished), there, &[line]);
}

#[test]
fn a_pod_that_runs_keeps_its_runtime_whatever_a_trial_says() {
    let there = running(&revision('a', ""));
    let proven = |there: &PodState, facts: &str| {
        let facts = Facts::parse(&format!("vz-facts=1\n{facts}\nend=1\n")).unwrap();
        proven(there, &facts).map(|runtime| runtime.name)
    };
    let failed = "crun.path=/usr/bin/crun\ncrun.trial=no: timed out";
    assert_eq!(proven(&there, failed).as_deref(), Some("crun"));
    assert_eq!(proven(&there, "crun.path=/usr/bin/crun\ncrun.trial=yes"), None);
    assert_eq!(proven(&there, "crun.path=/opt/crun\ncrun.trial=no: x"), None);
    let mut ended = there;
    ended.containers[0].active = "failed".into();
    assert_eq!(proven(&ended, failed), None);
}

#[test]
fn what_was_changed_on_the_node_is_repaired() {
    let wished = revision('a', "");
    let with = |change: &dyn Fn(&mut PodState)| {
        let mut pod = running(&wished);
        change(&mut pod);
        vec![pod]
    };
    let repair =
        |why: &str| format!("repair  web OLD (stop first: it is the same revision): {why}");
    for (change, why) in [
        (
            &(|pod: &mut PodState| pod.containers[0].active = "failed".into())
                as &dyn Fn(&mut PodState),
            "vz-web.app.TAG.service is failed",
        ),
        (&|pod| pod.containers[0].enabled = false, "vz-web.app.TAG.service does not start at boot"),
        (
            &|pod| pod.containers[0].linked = false,
            "vz-web.app.TAG.service is not the revision's own",
        ),
        (
            &|pod| pod.containers[0].stored = false,
            "the bundle of container app is gone from the store",
        ),
        (
            &|pod| pod.containers[0].altered = vec!["rootfs/a (content)".into()],
            "the bundle of container app was changed: rootfs/a (content)",
        ),
        (&|pod| pod.pending = Some("x".into()), "a deployment was not ended"),
        (&|pod| pod.deaf.push("80/tcp".into()), "nobody listens on 80/tcp"),
        (
            &|pod| {
                pod.files.insert("app/config.json".into(), "{}".into());
            },
            "its files were changed on the node",
        ),
    ] {
        check(Some(&wished), with(change), &[&repair(why)]);
    }
    // Nothing has to stop for these.
    for (change, why) in [
        (
            &(|pod: &mut PodState| pod.leftover.push("vz-web.app.OLD.service".into()))
                as &dyn Fn(&mut PodState),
            "vz-web.app.OLD.service is of another revision",
        ),
        (
            &|pod| pod.rules.push("99/tcp -> 198.18.0.1:99".into()),
            "port 99/tcp -> 198.18.0.1:99 is open",
        ),
    ] {
        check(Some(&wished), with(change), &[&format!("repair  web OLD: {why}")]);
    }
}

#[test]
fn what_a_power_cut_left_linked_is_removed_while_the_pod_runs() {
    let wished = revision('a', "");
    let check = |change: &dyn Fn(&mut PodState), expected: bool| {
        let mut there = running(&wished);
        change(&mut there);
        let state = State { pods: vec![there], ..State::default() };
        let wished = BTreeMap::from([("web".to_owned(), wished.clone())]);
        let goes_on: Vec<bool> = plan(&wished, &state, false).iter().map(Step::goes_on).collect();
        assert_eq!(goes_on, [expected]);
    };
    check(&|pod| pod.leftover.push("vz-web.app.OLD.service".into()), true);
    // What does not listen has to start again.
    check(&|pod| pod.deaf.push("80/tcp".into()), false);
    check(&|pod| pod.containers[0].active = "inactive".into(), false);
}

#[test]
fn what_nothing_wishes_is_left_unless_asked_for() {
    let there = running(&revision('a', ""));
    check(
        None,
        vec![there.clone()],
        &["leave   web OLD: nothing wishes it; `vzmaster deploy --prune` removes it"],
    );
    let state =
        State { pods: vec![there], stray: vec!["vz-x.y.service".into()], ..State::default() };
    let actions: Vec<Action> =
        plan(&BTreeMap::new(), &state, true).iter().map(|step| step.action).collect();
    assert_eq!(actions, [Action::Remove, Action::Leave]);
}

#[test]
fn a_container_that_nobody_asks_any_more_is_repaired() {
    let wished = revision('a', "");
    let mut there = running(&wished);
    there.containers[0].unasked = Some("vz_live.web.app.TAG.timer".into());
    let expected = "repair  web OLD (stop first: it is the same revision): vz_live.web.app.TAG.timer does not ask whether it is alive";
    check(Some(&wished), vec![there], &[expected]);
}
