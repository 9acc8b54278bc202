//! Pods that crun and runc do not run.

use std::fs;

use super::nodes;

#[test]
fn a_pod_is_run_by_systemd_alone() {
    let Some(nodes) = nodes("a_pod_is_run_by_systemd_alone") else { return };
    let first = nodes.names[0].clone();
    let one = |args: &[&str]| nodes.vzmaster(&[args, &["-l", &first]].concat());
    let by_systemd = || {
        let pod = fs::read_to_string(nodes.sandbox.path("pods/test.yaml")).unwrap();
        let asked = "{name: vz-test, annotations: {vz/backend: systemd}}";
        nodes.sandbox.write("pods/test.yaml", pod.replacen("{name: vz-test}", asked, 1));
    };
    by_systemd();
    one(&["deploy", "-y"]).success();
    one(&["diff"]).success();
    assert_eq!(nodes.page(&first), "one");
    let unit = nodes.unit(&first);
    let cgroup =
        format!("cat /proc/$(systemctl show -p MainPID --value {unit})/cmdline | tr '\\0' ' '");
    let program = nodes.on(&first, &cgroup).success().stdout();
    assert!(program.starts_with("/bin/busybox httpd"), "{program}");
    let inside = |script: &str| {
        let words = ["exec", &first, "vz-test", "--", "/bin/busybox", "sh", "-c", script];
        nodes.vzmaster(&words).stdout()
    };
    let script = "busybox touch /data/x && echo volume; busybox touch /x 2>/dev/null || echo read-only; echo /www/*";
    assert_eq!(inside(script), "volume\nread-only\n/www/index.html\n");
    // What systemd misses in it is not made in the revision.
    let there = nodes.on(&first, "ls -d /var/lib/vz/revs/app/*/rootfs/run 2>/dev/null | wc -l");
    assert_eq!(there.stdout().trim(), "0");

    // A bad revision goes back, by the same states and probes.
    nodes.serve("two", 8382);
    by_systemd();
    one(&["deploy", "-y"]).status(3).says("runs again");
    assert_eq!(nodes.page(&first), "one");
}
