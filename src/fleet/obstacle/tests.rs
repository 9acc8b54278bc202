//! What stands in a pod's way, as its user reads it.

use super::*;
use crate::fleet::plan::plan;
use crate::fleet::pod;
use crate::fleet::preflight::Runtime;
use crate::fleet::render::{Built, Machine, render};

fn pods(spec: &str) -> BTreeMap<String, Pod> {
    let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  {spec}\n");
    let (pods, violations) = pod::read(&text);
    assert_eq!(violations, []);
    pods.into_iter().map(|pod| (pod.name.clone(), pod)).collect()
}

/// A pod with the port 80 of the node.
fn port_80(host_network: bool) -> BTreeMap<String, Pod> {
    let ports = "[{containerPort: 80, hostPort: 80}]";
    pods(&format!(
        "hostNetwork: {host_network}\n  containers: [{{name: app, image: 'bundle:app', ports: {ports}}}]"
    ))
}

fn listener(port: u16, everywhere: bool, unit: &str) -> Listener {
    let process = Process { pid: 7, name: "nginx".into(), unit: unit.into() };
    Listener { port, protocol: Protocol::Tcp, everywhere, process: Some(process) }
}

#[track_caller]
fn check(pods: &BTreeMap<String, Pod>, state: &State, expected: &[&str]) {
    let config = serde_json::json!({
        "root": { "path": "rootfs", "readonly": true },
        "process": { "args": ["app"] },
    });
    let built = Built { name: "app".into(), id: "a".repeat(64), config };
    let built = BTreeMap::from([("app".to_owned(), built)]);
    let machine = Machine {
        runtime: Runtime { name: "crun".into(), path: "/usr/bin/crun".into() },
        systemd: 257,
        store: "/var/lib/vz".into(),
        secrets: BTreeMap::new(),
    };
    let render = |pod: &Pod| render(pod, &built, &machine).unwrap();
    let wished = pods.iter().map(|(name, pod)| (name.clone(), render(pod))).collect();
    let found = obstacles(pods, &wished, &plan(&wished, state, false), state);
    assert_eq!(found.iter().map(Obstacle::line).collect::<Vec<_>>(), expected);
}

fn found(listeners: Vec<Listener>) -> State {
    let found = Found { listeners, ssh: Some(22), absent: vec!["/srv/data".into()] };
    State { found, ..State::default() }
}

#[test]
fn a_port_of_somebody_else_is_named_with_him() {
    let nginx = "pod web: port 80/tcp is that of nginx (pid 7, nginx.service); stop that, or choose another hostPort";
    for everywhere in [true, false] {
        let state = found(vec![listener(80, everywhere, "nginx.service")]);
        check(&port_80(false), &state, &[nginx]);
    }
    // A pod that shares the network can listen beside one that has a single address.
    check(&port_80(true), &found(vec![listener(80, true, "nginx.service")]), &[nginx]);
    check(&port_80(true), &found(vec![listener(80, false, "nginx.service")]), &[]);
    let unknown = Listener { process: None, ..listener(80, true, "") };
    check(
        &port_80(false),
        &found(vec![unknown]),
        &[
            "pod web: port 80/tcp is that of a process that cannot be seen; stop that, or choose another hostPort",
        ],
    );
    check(&port_80(false), &found(vec![listener(8080, true, "nginx.service")]), &[]);
}

#[test]
fn a_pod_may_have_what_it_has() {
    let own = listener(80, true, "vz-web.app.1a2b.service");
    check(&port_80(false), &found(vec![own.clone()]), &[]);
    check(&port_80(true), &found(vec![own]), &[]);
    let other = listener(80, true, "vz-old.app.1a2b.service");
    check(
        &port_80(true),
        &found(vec![other]),
        &["pod web: port 80/tcp is that of the pod old; stop that, or choose another hostPort"],
    );
    // A pod that the plan knows is judged by its own ports, since it may go.
    let old = PodState { name: "old".into(), current: Some("b".repeat(64)), ..PodState::default() };
    let state = found(vec![listener(80, true, "vz-old.app.1a2b.service")]);
    check(&port_80(true), &State { pods: vec![old], ..state }, &[]);
    // Its port leads to it already, whoever listens in vain.
    let there = PodState {
        name: "web".into(),
        current: Some("b".repeat(64)),
        rules: vec!["80/tcp -> 198.18.0.1:80".into()],
        ..PodState::default()
    };
    let state = found(vec![listener(80, true, "nginx.service")]);
    check(&port_80(false), &State { pods: vec![there], ..state }, &[]);
}

#[test]
fn the_port_of_ssh_is_never_taken() {
    let ssh = |host_network| {
        pods(&format!(
            "hostNetwork: {host_network}\n  containers: [{{name: app, image: 'bundle:app', ports: [{{containerPort: 22, hostPort: 22}}]}}]"
        ))
    };
    let refused =
        "pod web: port 22/tcp is ssh's, by which the node is reached; choose another hostPort";
    for host_network in [true, false] {
        check(&ssh(host_network), &found(vec![]), &[refused]);
    }
    // Where ssh has moved, its port is free.
    let mut state = found(vec![]);
    state.found.ssh = Some(2222);
    check(&ssh(false), &state, &[]);
}

#[test]
fn a_port_of_a_pod_that_stays_although_nothing_wishes_it_is_not_free() {
    let old = |rule: &str| PodState {
        name: "old".into(),
        current: Some("b".repeat(64)),
        rules: vec![rule.into()],
        ..PodState::default()
    };
    for rule in ["80/tcp -> 198.18.0.1:8080", "80/tcp"] {
        check(
            &port_80(false),
            &State { pods: vec![old(rule)], ..found(vec![]) },
            &[
                "pod web: port 80/tcp is that of the pod old, which nothing wishes; `vzmaster deploy --prune` removes that",
            ],
        );
    }
    check(&port_80(false), &State { pods: vec![old("81/tcp")], ..found(vec![]) }, &[]);
}

#[test]
fn a_path_that_is_not_there_is_named_before_the_start() {
    let with = |volumes: &str, mounts: &str| {
        pods(&format!(
            "volumes: {volumes}\n  containers: [{{name: app, image: 'bundle:app', volumeMounts: {mounts}}}]"
        ))
    };
    let mount = "[{name: data, mountPath: /data}]";
    let data = with("[{name: data, hostPath: {path: /srv/data}}]", mount);
    assert_eq!(needs(data.values()).paths, BTreeSet::from(["/srv/data".to_owned()]));
    check(
        &data,
        &found(vec![]),
        &[
            "pod web: /srv/data is not there (volume data, hostPath); make it or say type: DirectoryOrCreate",
        ],
    );
    check(&data, &State::default(), &[]);
    let made = "[{name: data, hostPath: {path: /srv/data, type: DirectoryOrCreate}}]";
    check(&with(made, mount), &found(vec![]), &[]);
    check(&with("[{name: data, hostPath: {path: /srv/data}}]", "[]"), &found(vec![]), &[]);
}
