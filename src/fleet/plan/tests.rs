//! Plans as a user reads them.

use super::*;
use crate::fleet::pod;
use crate::fleet::preflight::Runtime;
use crate::fleet::render::{Built, Machine, render};

/// The revision of a pod whose bundle has this digit as digest.
fn revision(bundle: char, more: &str) -> Revision {
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  hostNetwork: true\n  containers:\n  - name: app\n    image: bundle:app\n{more}"
    );
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
            unit: "vz-web.app.service".into(),
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
fn an_update_says_what_changes() {
    let old = running(&revision('a', ""));
    check(
        Some(&revision('b', "")),
        vec![old.clone()],
        &[
            "update  web OLD -> NEW (stop first): container app: bundle aaaaaaaaaaaa -> bbbbbbbbbbbb",
        ],
    );
    check(
        Some(&revision('a', "    resources: {limits: {memory: 64Mi}}\n")),
        vec![old.clone()],
        &["update  web OLD -> NEW (stop first): unit vz-web.app.service"],
    );
    check(
        Some(&revision('a', "    args: [-q]\n")),
        vec![old.clone()],
        &["update  web OLD -> NEW (stop first): container app: command, environment or mounts"],
    );
    check(
        Some(&revision('a', "    readinessProbe: {tcpSocket: {port: 80}}\n")),
        vec![old],
        &["update  web OLD -> NEW (stop first): probes, restart policy or volumes"],
    );
}

#[test]
fn what_was_changed_on_the_node_is_repaired() {
    let wished = revision('a', "");
    let with = |change: &dyn Fn(&mut PodState)| {
        let mut pod = running(&wished);
        change(&mut pod);
        vec![pod]
    };
    let repair = |why: &str| format!("repair  web OLD (stop first): {why}");
    for (change, why) in [
        (
            &(|pod: &mut PodState| pod.containers[0].active = "failed".into())
                as &dyn Fn(&mut PodState),
            "vz-web.app.service is failed",
        ),
        (&|pod| pod.containers[0].enabled = false, "vz-web.app.service does not start at boot"),
        (&|pod| pod.containers[0].linked = false, "vz-web.app.service is not the revision's own"),
        (
            &|pod| pod.containers[0].stored = false,
            "the bundle of container app is gone from the store",
        ),
        (&|pod| pod.pending = Some("x".into()), "an earlier deployment was broken off"),
        (
            &|pod| {
                pod.files.insert("app/config.json".into(), "{}".into());
            },
            "its files were changed on the node",
        ),
    ] {
        check(Some(&wished), with(change), &[&repair(why)]);
    }
}

#[test]
fn what_nothing_wishes_is_left_unless_asked_for() {
    let there = running(&revision('a', ""));
    check(None, vec![there.clone()], &["leave   web OLD: nothing wishes it"]);
    let state =
        State { pods: vec![there], stray: vec!["vz-x.y.service".into()], ..State::default() };
    let actions: Vec<Action> =
        plan(&BTreeMap::new(), &state, true).iter().map(|step| step.action).collect();
    assert_eq!(actions, [Action::Remove, Action::Leave]);
}
