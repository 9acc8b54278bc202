//! All backends walk the same way: what a pod is run by is no matter to whoever deploys it.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use super::{Nodes, nodes};

/// The fleet's pod, by a backend, with a tmpfs that is somebody's; with the node's network
/// or one of its own.
fn serve(nodes: &Nodes, backend: &str, page: &str, probed: u16, shares: bool) {
    nodes.serve(page, probed);
    let sandbox = &nodes.sandbox;
    let pod = fs::read_to_string(sandbox.path("pods/test.yaml")).unwrap();
    let asked = format!("{{name: vz-test, annotations: {{vz/backend: {backend}}}}}");
    let mut pod = pod.replacen("{name: vz-test}", &asked, 1);
    if !shares {
        pod = pod.replacen("hostNetwork: true", "hostNetwork: false", 1);
        pod = pod.replacen("{containerPort: 8381}", "{containerPort: 8381, hostPort: 8381}", 1);
        // Both would write to it.
        pod = pod.replacen("mountPath: /data}", "mountPath: /data, readOnly: true}", 1);
    }
    sandbox.write("pods/test.yaml", pod);
    fs::create_dir_all(sandbox.path("app/rootfs/tmp")).unwrap();
    let config = fs::read(sandbox.path("app/config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    let options = ["nosuid", "mode=1750", "uid=33", "gid=34", "size=64k"];
    let tmp = serde_json::json!({
        "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": options,
    });
    config["mounts"].as_array_mut().unwrap().push(tmp);
    config["process"]["env"] = serde_json::json!(["PATH=/bin", "SAID=100% \"of\" $HOME"]);
    if backend != "systemd" {
        let rule = serde_json::json!({ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO" });
        let filter = serde_json::json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] });
        config["linux"]["seccomp"] = filter;
    }
    sandbox.write("app/config.json", config.to_string());
}

/// From the first deployment to a reboot.
fn walk(test: &str, backend: &str) {
    let Some(nodes) = nodes(test) else { return };
    let first = nodes.names[0].clone();
    let one = |args: &[&str]| nodes.vzmaster(&[args, &["-l", &first]].concat());
    let clean = || assert_eq!(one(&["diff"]).success().stdout(), "");
    let inside = |script: &str| {
        let words = ["exec", &first, "vz-test", "--", "/bin/busybox", "sh", "-c", script];
        nodes.vzmaster(&words).success().stdout()
    };

    serve(&nodes, backend, "one", 8381, true);
    one(&["deploy", "-y"]).success();
    clean();
    assert_eq!(nodes.page(&first), "one");
    let script = "busybox touch /data/x && echo volume; busybox touch /x 2>/dev/null || echo read-only; echo /www/*; echo \"$SAID\"";
    let expected = "volume\nread-only\n/www/index.html\n100% \"of\" $HOME\n";
    assert_eq!(inside(script), expected);
    let tmp = inside("busybox stat -c '%a %u %g' /tmp; busybox df -k /tmp | busybox tail -n 1");
    let words: Vec<&str> = tmp.split_whitespace().collect();
    assert_eq!((&words[..3], words.get(4)), (&["1750", "33", "34"][..], Some(&"64")), "{tmp}");
    let filtered = inside("busybox mkdir /data/y 2>/dev/null || echo filtered");
    assert_eq!(filtered, if backend == "systemd" { "" } else { "filtered\n" });
    let ps = one(&["ps", "--json"]).success().stdout();
    let ps: serde_json::Value = serde_json::from_str(&ps).unwrap();
    let pid = ps.to_string();
    let pid = pid.split("\"pid\":").nth(1).unwrap().split([',', '}']).next().unwrap();
    let program = nodes.on(&first, &format!("tr '\\0' ' ' </proc/{pid}/cmdline"));
    assert!(program.success().stdout().starts_with("/bin/busybox httpd"), "{ps}");
    let log = one(&["logs", "vz-test/httpd"]).success().stdout();
    assert!(log.contains("response:200"), "{log}");

    // Another network, another revision, and then one beside the other.
    serve(&nodes, backend, "two", 8381, false);
    one(&["deploy", "-y"]).success();
    assert_eq!(nodes.page(&first), "two");
    serve(&nodes, backend, "three", 8381, false);
    let said = one(&["deploy", "-y"]).success();
    assert!(said.stderr().contains("without a gap"), "{}", said.stderr());
    assert_eq!(nodes.page(&first), "three");
    clean();

    // A bad revision goes back, by the same states and probes.
    serve(&nodes, backend, "four", 8382, false);
    one(&["deploy", "-y"]).status(3).says("runs again");
    assert_eq!(nodes.page(&first), "three");
    serve(&nodes, backend, "three", 8381, false);
    clean();
    one(&["rollback", "vz-test"]).success();
    assert_eq!(nodes.page(&first), "two");
    one(&["deploy", "-y"]).success();

    one(&["stop", "vz-test"]).success();
    let drift = one(&["diff"]).status(1).stdout();
    assert!(drift.contains("service is inactive"), "{drift}");
    one(&["start", "vz-test"]).success();
    one(&["kill", "vz-test"]).success();
    one(&["restart", "vz-test"]).success();
    clean();
    let unit = nodes.unit(&first);
    nodes.on(&first, &format!("systemctl kill -s KILL {unit}")).success();
    nodes.comes_back(&first, "three");
    nodes.reboot(&first);
    nodes.comes_back(&first, "three");
    clean();

    // Nothing wrote into a revision.
    let list = "find . -path './rootfs/*' | sort";
    let there = nodes.on(&first, &format!("cd /var/lib/vz/revs/app && for r in */; do (cd $r && {list} | md5sum); done | sort -u | wc -l"));
    assert_eq!(there.success().stdout().trim(), "1");
    let there =
        nodes.on(&first, &format!("cd /var/lib/vz/revs/app && cd \"$(ls | head -n 1)\" && {list}"));
    let mut here = nodes.sandbox.command("sh");
    here.args(["-c", list]).current_dir(nodes.sandbox.path("app"));
    let here = crate::sandbox::Finished::of(&mut here).success().stdout();
    assert_eq!(there.success().stdout(), here);

    nodes.sandbox.write("groups.yaml", "web:\n  pods: []\n");
    one(&["deploy", "-y", "--prune"]).success();
    clean();
    let left = "ls -d /etc/systemd/system/vz-* /etc/containers/systemd/vz-* /run/vz/roots/* /run/vz/memory/*/* 2>/dev/null; mount | grep -c /run/vz/ || :";
    assert_eq!(nodes.on(&first, left).success().stdout(), "0\n");
}

impl Nodes {
    /// Waits until a node's server answers with a page.
    pub fn comes_back(&self, node: &str, page: &str) {
        let started = Instant::now();
        let get = "bash -c \"exec 3<>/dev/tcp/127.0.0.1/8381; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; tail -n 1 <&3\" 2>/dev/null || :";
        while self.on(node, get).stdout() != page {
            assert!(started.elapsed() < Duration::from_secs(60), "{node}: no `{page}`");
            thread::sleep(Duration::from_millis(300));
        }
    }
}

#[test]
fn a_pod_walks_by_crun_or_runc() {
    walk("a_pod_walks_by_crun_or_runc", "container");
}

#[test]
fn a_pod_walks_by_quadlet() {
    walk("a_pod_walks_by_quadlet", "quadlet");
}

#[test]
fn a_pod_walks_by_systemd_alone() {
    walk("a_pod_walks_by_systemd_alone", "systemd");
}
