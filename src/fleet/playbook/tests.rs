use super::*;
use crate::fleet::network;
use crate::fleet::pod;
use crate::fleet::preflight::Runtime;
use crate::fleet::render::{Built, render};

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: site}
spec:
  volumes:
  - {name: data, emptyDir: {}}
  - {name: logs, hostPath: {path: /var/log/site, type: DirectoryOrCreate}}
  containers:
  - name: nginx
    image: bundle:bundles/nginx
    env: [{name: GREETING, value: '{{ not a template }}'}]
    ports: [{name: http, containerPort: 8080, hostPort: 80}]
    volumeMounts: [{name: data, mountPath: /data}, {name: logs, mountPath: /logs}]
    readinessProbe: {httpGet: {port: http, path: /up, httpHeaders: [{name: X-A, value: b}]}, periodSeconds: 2}
  - name: app
    image: bundle:bundles/app
    startupProbe: {exec: {command: [/bin/ok, '{{ x }}']}, failureThreshold: 5}
    livenessProbe: {tcpSocket: {port: 9000}, initialDelaySeconds: 3}
";

fn machine() -> Machine {
    let runtime = Runtime { name: "crun".into(), path: "/usr/bin/crun".into() };
    Machine { runtime, systemd: 252, store: "/var/lib/vz".into(), secrets: BTreeMap::new() }
}

fn revision() -> Revision {
    let (pods, violations) = pod::read(POD);
    assert_eq!(violations, []);
    let config = json!({
        "root": { "path": "rootfs", "readonly": true },
        "process": { "args": ["/bin/x"], "user": { "uid": 0, "gid": 0 }, "cwd": "/" },
    });
    let built = |name: &str, id: &str| {
        let built = Built { name: name.into(), id: id.repeat(64), config: config.clone() };
        (format!("bundles/{name}"), built)
    };
    let bundles = BTreeMap::from([built("nginx", "a"), built("app", "b")]);
    render(&pods[0], &bundles, &machine()).unwrap()
}

#[test]
fn a_hosts_variables_are_as_recorded() {
    let revision = revision();
    let wished = BTreeMap::from([("site".to_owned(), revision.clone())]);
    let record: Record = serde_json::from_str(&revision.files[RECORD]).unwrap();
    let made = host_vars(&machine(), &wished, &[]).unwrap();
    let made = made.replace(&revision.id, "ID").replace(&record.tag, "TAG");
    let made = made.replace(&sum(&revision.files), "SUM");
    let expected = include_str!("../../../testdata/playbook/host_vars.yaml");
    assert_eq!(made, expected);
}

#[test]
fn secrets_are_named_by_where_they_are_found() {
    let pod = POD.replace("emptyDir: {}", "secret: {secretName: tls}");
    let (pods, violations) = pod::read(&pod);
    assert_eq!(violations, []);
    let pods = BTreeMap::from([("site".to_owned(), pods[0].clone())]);
    let (sources, _) =
        secret::read("tls:\n  key: {file: a.key}\n  pin: {command: [pass, show, it's]}\n");
    let expected = json!([{ "pod": "site", "number": "1", "name": "tls", "keys": [
        { "key": "key", "file": "/my fleet/a.key" },
        { "key": "pin", "command": "cd '/my fleet' && pass show 'it'\"'\"'s' && printf x" },
    ]}]);
    assert_eq!(
        Value::Array(secrets(&pods, &sources, Path::new("/my fleet"), &machine())),
        expected
    );
}

#[test]
fn an_inventory_has_what_ssh_needs() {
    let node = |label: &str, host: &str, user: Option<&str>, port| Node {
        label: label.into(),
        host: host.into(),
        user: user.map(str::to_owned),
        port,
    };
    let nodes = [node("a", "a", None, None), node("b", "fd00::1", Some("root"), Some(2222))];
    let nodes = [(&nodes[0], false), (&nodes[1], true)];
    let ssh = ["-F".to_owned(), "/home/me/my keys/config".to_owned()];
    let expected = "\
# Written by `vzmaster playbook`, which writes it anew.
[vz]
a
b ansible_host=fd00::1 ansible_user=root ansible_port=2222

[vz_secret]
b

# Nodes that are not as wished; deploy.yaml fills it.
[vz_behind]

[vz:vars]
ansible_pipelining=true
ansible_python_interpreter=/usr/bin/python3
ansible_ssh_common_args=-F '/home/me/my keys/config'
";
    assert_eq!(inventory(&nodes, &ssh).unwrap(), expected);
    for bad in ["../x", "a b", "a/b", "-x", "a[1:3]"] {
        assert!(inventory(&[(&node(bad, "h", None, None), false)], &[]).is_err(), "{bad}");
    }
}

#[test]
fn nodes_are_looked_at_with_the_addresses_that_their_networks_have() {
    let (_, look) = FIXED.iter().find(|(path, _)| path.ends_with("look.sh")).unwrap();
    assert!(look.contains(network::HAS_IPV6), "{look}");
    let prefix = network::address6("198.18.0.1").unwrap();
    assert!(look.contains(&format!("[{}$(printf %x", prefix.trim_end_matches('1'))), "{look}");
}

#[test]
fn deploy_yaml_is_known_as_ours() {
    assert!(FIXED[0].1.starts_with(MARK));
}
