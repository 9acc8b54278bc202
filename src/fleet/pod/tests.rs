//! Tables of what is read and what is refused.

use super::*;

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  hostNetwork: true
  containers:
  - name: app
    image: bundle:bundles/app
";

/// Reads [`POD`] with lines added to its end.
#[track_caller]
fn pod(more: &str) -> Pod {
    let (mut pods, violations) = read(&format!("{POD}{more}"));
    let violations: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert_eq!(violations, [""; 0]);
    pods.remove(0)
}

#[track_caller]
fn refused(text: &str, expected: &[&str]) {
    let (_, violations) = read(text);
    assert_eq!(violations.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
}

/// Adds lines to [`POD`], whose first is line 10.
#[track_caller]
fn refused_in(more: &str, expected: &[&str]) {
    refused(&format!("{POD}{more}"), expected);
}

#[test]
fn a_small_pod_has_the_defaults_of_kubernetes() {
    let pod = pod("");
    assert_eq!((pod.name.as_str(), pod.restart, pod.grace), ("web", Restart::Always, 30));
    let [container] = pod.containers.as_slice() else { panic!("one container") };
    assert_eq!((container.name.as_str(), container.bundle.as_str()), ("app", "bundles/app"));
    assert_eq!(container.limits, Limits::default());
    assert_eq!(container.stop_signal, "SIGTERM");
}

#[test]
fn everything_that_is_honoured_is_read() {
    let text = "\
apiVersion: v1
kind: Pod
metadata:
  name: shop
  labels: {tier: front}
  annotations:
    vz/stop-signal.nginx: SIGQUIT
    example.org/owner: someone
spec:
  hostNetwork: true
  restartPolicy: OnFailure
  terminationGracePeriodSeconds: 5
  volumes:
  - name: data
    hostPath: {path: /srv//shop/./data/, type: DirectoryOrCreate}
  - name: tmp
    emptyDir: {medium: Memory, sizeLimit: 16Mi}
  containers:
  - name: nginx
    image: bundle:bundles/nginx
    imagePullPolicy: Never
    command: [nginx, -g, daemon off;]
    args: ['-q']
    workingDir: /srv
    env:
    - name: PORT
      value: \"8080\"
    - name: EMPTY
    ports:
    - {name: http, containerPort: 8080, hostPort: 8080}
    - {containerPort: 53, protocol: UDP}
    volumeMounts:
    - {name: data, mountPath: /data, readOnly: true}
    - {name: tmp, mountPath: /tmp}
    resources: {limits: {memory: 64Mi, cpu: 500m}}
    readinessProbe:
      httpGet: {port: http, path: /healthz, httpHeaders: [{name: X-Probe, value: vz}]}
      periodSeconds: 1
    startupProbe: {tcpSocket: {port: 8080}, failureThreshold: 30}
    livenessProbe: {exec: {command: [\"true\"]}}
    securityContext:
      runAsUser: 1000
      runAsGroup: 1000
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: false
      privileged: false
      capabilities: {add: [NET_BIND_SERVICE], drop: [ALL]}
";
    let (pods, violations) = read(text);
    assert_eq!(violations, []);
    let [pod] = pods.as_slice() else { panic!("one pod") };
    assert_eq!((pod.restart, pod.grace), (Restart::OnFailure, 5));
    assert_eq!(pod.labels.get("tier").map(String::as_str), Some("front"));
    let data = Volume::HostPath { path: "/srv/shop/data".into(), create: true };
    assert_eq!(pod.volumes.get("data"), Some(&data));
    assert_eq!(pod.volumes.get("tmp"), Some(&Volume::MemoryDir { limit: Some(16 << 20) }));
    let nginx = &pod.containers[0];
    assert_eq!(nginx.command, ["nginx", "-g", "daemon off;"]);
    assert_eq!(nginx.env.get("PORT").map(String::as_str), Some("8080"));
    assert_eq!(nginx.env.get("EMPTY").map(String::as_str), Some(""));
    assert_eq!(nginx.limits, Limits { memory: Some(64 << 20), milli_cpus: Some(500) });
    assert_eq!(nginx.stop_signal, "SIGQUIT");
    assert_eq!(nginx.ports[1].protocol, Protocol::Udp);
    let ready = nginx.readiness.as_ref().unwrap();
    let Probing::Http { host, port, path, headers, .. } = &ready.probing else { panic!("http") };
    assert_eq!((host.as_str(), *port, path.as_str(), headers.len()), ("", 8080, "/healthz", 1));
    assert_eq!((ready.period, ready.timeout, ready.failures), (1, 1, 3));
    assert_eq!(nginx.startup.as_ref().unwrap().failures, 30);
    assert_eq!(nginx.security.uid, Some(1000));
    assert_eq!(nginx.security.drop, ["ALL"]);
}

#[test]
fn several_pods_stand_in_one_file() {
    let other = POD.replace("name: web", "name: other");
    let (pods, violations) = read(&format!("{POD}---\n{other}---\n# the end\n"));
    assert_eq!(violations, []);
    let shown: Vec<_> = pods.iter().map(|pod| (pod.line, pod.name.as_str())).collect();
    assert_eq!(shown, [(1, "web"), (11, "other")]);
}

#[test]
fn all_violations_are_found_at_once() {
    refused(
        "apiVersion: v2\nkind: Deployment\nmetadata: {name: Web, namespace: x}\nspec:\n  nodeName: a\n  containers:\n  - image: nginx:latest\n    lifecycle: {}\n    tpyo: 1\n",
        &[
            "1: apiVersion: must be v1, and is `v2`",
            "2: kind: must be Pod, and is `Deployment`",
            "3: metadata.name: `Web` is no name: at most 63 small letters, digits and `-`, with no `-` at either end",
            "3: metadata.namespace: not supported: a node has one",
            "5: spec.nodeName: not supported: groups.yaml says where pods run",
            "7: spec.containers[0].image: not supported: `nginx:latest`; write bundle:DIR for a bundle of `vzbuild bundle`",
            "7: spec.containers[0].name: is missing",
            "8: spec.containers[0].lifecycle: not supported: no hooks are run; a stop signal is the annotation vz/stop-signal.CONTAINER",
            "9: spec.containers[0].tpyo: not supported",
        ],
    );
}

#[test]
fn what_is_missing_is_named() {
    refused("", &["1: has no pod in it"]);
    refused("# only words\n", &["1: has no pod in it"]);
    refused("- a\n", &["1: must be a mapping, and is a list"]);
    refused(
        "kind: Pod\n",
        &["1: apiVersion: is missing", "1: metadata: is missing", "1: spec: is missing"],
    );
    let empty = POD.split("  - name").next().unwrap();
    refused(empty, &["6: spec.containers: is missing"]);
}

#[test]
fn the_wrong_type_is_said() {
    for (more, expected) in [
        ("    args: -q", "10: spec.containers[0].args: must be a list, and is a string"),
        (
            "    args: [8080]",
            "10: spec.containers[0].args[0]: must be a string, and `8080` is a number: quote it",
        ),
        (
            "    args: [on]",
            "10: spec.containers[0].args[0]: must be a string, and `on` is a truth value: quote it",
        ),
        (
            "    args: [1:30]",
            "10: spec.containers[0].args[0]: must be a string, and `1:30` is a number: quote it",
        ),
        (
            "    args: [~]",
            "10: spec.containers[0].args[0]: must be a string, and `~` is null: quote it",
        ),
        ("    args: [[a]]", "10: spec.containers[0].args[0]: must be a string, and is a list"),
        (
            "    args: ['$(HOST):80']",
            "10: spec.containers[0].args: not supported: `$(HOST):80` is expanded by Kubernetes and not here",
        ),
        (
            "    env: [{name: PORT, value: 80}]",
            "10: spec.containers[0].env[0].value: must be a string, and `80` is a number: quote it",
        ),
        (
            "    env: [{name: 1A, value: x}]",
            "10: spec.containers[0].env[0]: `1A` is no variable's name",
        ),
        ("    env: [{name: A}, {name: A}]", "10: spec.containers[0].env[1]: `A` is here twice"),
        (
            "    env: [{name: A, valueFrom: {}}]",
            "10: spec.containers[0].env[0].valueFrom: not supported: write the value",
        ),
        (
            "    ports: [{containerPort: 0}]",
            "10: spec.containers[0].ports[0].containerPort: must be a number from 1 to 65535, and is `0`",
        ),
        (
            "    ports: [{containerPort: 65536}]",
            "10: spec.containers[0].ports[0].containerPort: must be a number from 1 to 65535, and is `65536`",
        ),
        (
            "    ports: [{containerPort: 080}]",
            "10: spec.containers[0].ports[0].containerPort: `080` is octal for some and decimal for others: write it without the leading zero",
        ),
        (
            "    ports: [{containerPort: 0x50}]",
            "10: spec.containers[0].ports[0].containerPort: must be a number from 1 to 65535, and is `0x50`",
        ),
        (
            "    ports: [{containerPort: '80'}]",
            "10: spec.containers[0].ports[0].containerPort: must be a number, and `\"80\"` is a string",
        ),
        (
            "    ports: [{containerPort: 80, hostPort: 81}]",
            "10: spec.containers[0].ports[0]: hostPort and containerPort differ, and the pod shares the node's network",
        ),
        (
            "    ports: [{hostPort: 80}]",
            "10: spec.containers[0].ports[0].containerPort: is missing",
        ),
        (
            "    ports: [{containerPort: 80, protocol: SCTP}]",
            "10: spec.containers[0].ports[0].protocol: must be TCP or UDP, and is `SCTP`",
        ),
        (
            "    resources: {limits: {memory: 64m}}",
            "10: spec.containers[0].resources.limits.memory: `64m` is no amount of memory from 1Mi on, such as 64Mi",
        ),
        (
            "    resources: {limits: {cpu: lots}}",
            "10: spec.containers[0].resources.limits.cpu: `lots` is no amount of CPU, such as 500m or 2",
        ),
        (
            "  volumes: [{name: a, emptyDir: {sizeLimit: 1Mi}}]",
            "10: spec.volumes[0].emptyDir.sizeLimit: not supported: it is kept with medium: Memory only",
        ),
        (
            "  volumes: [{name: a, emptyDir: {medium: Memory, sizeLimit: 1}}]",
            "10: spec.volumes[0].emptyDir.sizeLimit: `1` is no amount of memory from 1Mi on, such as 64Mi",
        ),
        (
            "    resources: {requests: {memory: 1Gi}}",
            "10: spec.containers[0].resources.requests: not supported: nothing schedules by them",
        ),
        (
            "    imagePullPolicy: Always",
            "10: spec.containers[0].imagePullPolicy: must be Never: nodes pull nothing, bundles are pushed",
        ),
        (
            "    volumeMounts: [{name: x, mountPath: /x}]",
            "10: spec.containers[0].volumeMounts[0].name: there is no volume `x`",
        ),
        (
            "    securityContext: {privileged: true}",
            "10: spec.containers[0].securityContext.privileged: not supported: name the capabilities that it needs",
        ),
        (
            "    securityContext: {privileged: yes}",
            "10: spec.containers[0].securityContext.privileged: must be true or false, and is `yes`",
        ),
        (
            "    securityContext: {runAsUser: -1}",
            "10: spec.containers[0].securityContext.runAsUser: must be a number from 0 to 4294967294, and is `-1`",
        ),
        (
            "    securityContext: {capabilities: {add: [FLY]}}",
            "10: spec.containers[0].securityContext.capabilities.add: `FLY` is no capability",
        ),
        (
            "    workingDir: ../x",
            "10: spec.containers[0].workingDir: `../x` is no absolute path without `..`",
        ),
        (
            "  terminationGracePeriodSeconds: 1_0",
            "10: spec.terminationGracePeriodSeconds: must be a number from 0 to 3600, and is `1_0`",
        ),
        (
            "  restartPolicy: Sometimes",
            "10: spec.restartPolicy: must be Always, OnFailure or Never, and is `Sometimes`",
        ),
        (
            "  initContainers: []",
            "10: spec.initContainers: not supported: do it in the program, or before the deployment",
        ),
        (
            "  volumes: [{name: s, configMap: {name: x}}]",
            "10: spec.volumes[0]: must have one of hostPath, emptyDir: {} and secret",
        ),
        (
            "  volumes: [{name: s, secret: {items: []}}]",
            "10: spec.volumes[0].secret.secretName: is missing",
        ),
        (
            "  volumes: [{name: s, hostPath: {path: /a/../b}}]",
            "10: spec.volumes[0].hostPath.path: `/a/../b` is no absolute path without `..`",
        ),
    ] {
        let (_, violations) = read(&format!("{POD}{more}\n"));
        let shown: Vec<String> = violations.iter().map(ToString::to_string).collect();
        assert!(shown.iter().any(|line| line == expected), "{more}: {shown:#?}");
    }
}

#[test]
fn probes_have_one_action_and_known_ports() {
    let probe = |inner: &str| {
        format!("    ports: [{{name: http, containerPort: 80}}]\n    readinessProbe: {inner}\n")
    };
    let at = "spec.containers[0].readinessProbe";
    for (inner, expected) in [
        ("{periodSeconds: 1}", format!("11: {at}: must have one of httpGet, tcpSocket and exec")),
        (
            "{exec: {command: [a]}, tcpSocket: {port: 1}}",
            format!("11: {at}: must have one of httpGet, tcpSocket and exec"),
        ),
        (
            "{httpGet: {port: https}}",
            format!("11: {at}.httpGet.port: no port of this container is called `https`"),
        ),
        (
            "{httpGet: {port: 80, scheme: FTP}}",
            format!("11: {at}.httpGet.scheme: must be HTTP or HTTPS, and is `FTP`"),
        ),
        (
            "{httpGet: {port: 80, path: x}}",
            format!("11: {at}.httpGet.path: must begin with `/` and have printable ASCII only"),
        ),
        ("{httpGet: {path: /}}", format!("11: {at}.httpGet.port: is missing")),
        (
            "{httpGet: {port: 80, httpHeaders: [{name: \"a\\r\\nb\", value: c}]}}",
            format!("11: {at}.httpGet.httpHeaders[0]: is no header of HTTP"),
        ),
        (
            "{tcpSocket: {port: 80}, periodSeconds: 0}",
            format!("11: {at}.periodSeconds: must be a number from 1 to 86400, and is `0`"),
        ),
        ("{exec: {command: []}}", format!("11: {at}.exec.command: is missing")),
    ] {
        refused_in(&probe(inner), &[&expected]);
    }
    // The unknown action, and that there is none.
    let grpc = [
        format!("11: {at}: must have one of httpGet, tcpSocket and exec"),
        format!("11: {at}.grpc: not supported: use tcpSocket, httpGet or exec"),
    ];
    refused_in(&probe("{grpc: {port: 80}}"), &[&grpc[0], &grpc[1]]);
    let probe = pod(&probe("{tcpSocket: {port: http}}")).containers[0].readiness.clone();
    assert_eq!(probe.unwrap().probing, Probing::Tcp { host: String::new(), port: 80 });
}

#[test]
fn names_come_once() {
    refused_in(
        "  - name: app\n    image: bundle:x\n",
        &["10: spec.containers[1]: another container is called `app`"],
    );
    let (_, violations) = read(&POD.replace("kind: Pod", "kind: Pod\nkind: Pod"));
    assert_eq!(violations[0].to_string(), "3: `kind` is here twice, first in line 2");
    refused_in(
        "  volumes:\n  - {name: a, emptyDir: {}}\n  - {name: a, emptyDir: {}}\n",
        &["12: spec.volumes[1]: another volume is called `a`"],
    );
}

#[test]
fn annotations_of_vz_are_known_or_refused() {
    let with = |annotation: &str| {
        POD.replace("  name: web\n", &format!("  name: web\n  annotations: {{{annotation}}}\n"))
    };
    refused(
        &with("vz/stop-signal.app: SIGSTOP"),
        &[
            "5: metadata.annotations[\"vz/stop-signal.app\"]: must be one of SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH, SIGKILL",
        ],
    );
    refused(
        &with("vz/stop-signal.db: SIGINT"),
        &["5: metadata.annotations[\"vz/stop-signal.db\"]: there is no container of this name"],
    );
    refused(
        &with("vz/backend: docker"),
        &["5: metadata.annotations[\"vz/backend\"]: must be container, quadlet or systemd"],
    );
    refused(
        &with("vz/nonsense: x"),
        &[
            "5: metadata.annotations[\"vz/nonsense\"]: not supported: of vz's own there are vz/update, vz/backend and vz/stop-signal.CONTAINER",
        ],
    );
}

#[test]
fn no_text_makes_the_reader_panic() {
    let noise = [
        "[", "{", "- ", ": ", "\u{0}", "a: ", "\n", "  ", "'", "\"", "&a ", "*a", "!!x ", "|\n",
        "---\n", "\t", "ä",
    ];
    let mut state = 7_usize;
    for _ in 0..3000 {
        let mut text = String::new();
        for _ in 0..12 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            text.push_str(noise[(state >> 33) % noise.len()]);
        }
        let _ = read(&text);
        let _ = read(&format!("{POD}{text}"));
    }
}
