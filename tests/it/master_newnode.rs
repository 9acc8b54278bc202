//! `vzmaster newnode`: its script and first-boot data here; on a bare machine where
//! VZ_TEST_BARE names one, as `VZ_TEST_BARE=/path/ssh_config:node`. It needs root by key
//! and a mirror of packages, and is a node afterwards.

use vz::fleet::newnode::{self, KEEP, Stage, Wish};
use vz::fleet::preflight::Runtime;
use vz::fleet::render::{Built, Machine, render};
use vz::fleet::revision::RECORD;

use crate::sandbox::{Finished, Need, Sandbox, reduced, require};

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA+G9kBd/Pn1n5GrBQ9JrZTPsaoetAS2AnEOGTXZ29gs ann@desk\n";

fn user_data(sandbox: &Sandbox, args: &[&str]) -> Finished {
    sandbox.write("key.pub", KEY);
    let all = [&["newnode", "--key", "key.pub", "--user", "ann", "--user-data"], args].concat();
    sandbox.run("vzmaster", all)
}

#[test]
fn the_setup_script_is_plain_posix_shell() {
    let needs = [Need::Program("dash", "dash"), Need::Program("shellcheck", "shellcheck")];
    if !require("the_setup_script_is_plain_posix_shell", &needs) {
        return;
    }
    let sandbox = Sandbox::new();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/fleet/newnode/setup.sh");
    sandbox.run("shellcheck", ["--shell=sh", source]).success();
    let script = user_data(&sandbox, &["sh"]).success().stdout();
    sandbox.write("setup.sh", &script);
    sandbox.run("dash", ["-n", "setup.sh"]).success();
    let excluded = "--exclude=SC1091,SC2015,SC2086,SC2154,SC2317,SC2034";
    sandbox.run("shellcheck", ["--shell=sh", excluded, "setup.sh"]).success();
}

#[test]
fn first_boot_data_is_printed_and_nobody_is_logged_in_to() {
    let sandbox = Sandbox::new();
    let cloud = user_data(&sandbox, &["cloud-init", "--provider", "akamai", "--name", "node-b"]);
    let cloud = cloud.success().says("note: ").stdout();
    assert!(cloud.starts_with("#cloud-config\n"), "{cloud}");
    assert!(cloud.contains("\n name=node-b\n"), "{cloud}");
    let ignition = user_data(&sandbox, &["ignition"]).success().stdout();
    let value: serde_json::Value = serde_json::from_str(&ignition).unwrap();
    assert_eq!(value["passwd"]["users"][1]["name"], "ann");
    user_data(&sandbox, &["ignition", "--provider", "akamai"])
        .status(3)
        .says("and Akamai Connected Cloud (Linode) takes 16384");
    user_data(&sandbox, &["sh", "--provider", "nobody"]).status(2).says("[possible values: akamai");
    sandbox.run("vzmaster", ["newnode", "--key", "key.pub", "ann@192.0.2.1"]).status(2);
    sandbox.run("vzmaster", ["newnode", "--key", "absent.pub", "192.0.2.1"]).status(3);
    sandbox.write("bad.pub", "no key\n");
    let bad = sandbox.run("vzmaster", ["newnode", "--key", "bad.pub", "192.0.2.1"]);
    bad.status(2).says("`no key` is no public key of ssh");
}

/// The unit of the firewall, as the script writes it.
fn firewall_unit() -> String {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/fleet/newnode/setup.sh");
    let script = std::fs::read_to_string(source).unwrap();
    let (_, unit) = script.split_once("vz-firewall.service 644 <<END; then new=yes; fi\n").unwrap();
    unit.split_once("\nEND\n").unwrap().0.replace("$nft", "/bin/true")
}

/// The network is up before cloud-init goes on, and that is before sysinit.target: what
/// is early has to be as early as that. systemd drops a job where it cannot be.
#[test]
fn the_firewall_starts_before_the_network_where_cloud_init_waits_for_it() {
    let test = "the_firewall_starts_before_the_network_where_cloud_init_waits_for_it";
    if !require(test, &[Need::Program("systemd-analyze", "systemd")]) {
        return;
    }
    let sandbox = Sandbox::new();
    let unit = firewall_unit();
    sandbox.write("vz-firewall.service", &unit);
    // The order of Debian's networking.service and cloud-init.service.
    for (name, order) in [
        ("networking", "After=local-fs.target network-pre.target\nBefore=network.target"),
        ("cloud-init", "After=networking.service\nBefore=network-online.target sysinit.target"),
    ] {
        let service = "[Service]\nType=oneshot\nExecStart=/bin/true\n";
        let text = format!("[Unit]\nDefaultDependencies=no\n{order}\n{service}");
        sandbox.write(&format!("{name}.service"), text);
        let link = sandbox.path(format!("multi-user.target.wants/{name}.service"));
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(format!("../{name}.service"), link).unwrap();
    }
    let wanted = unit.lines().find_map(|line| line.strip_prefix("WantedBy=")).unwrap();
    let link = sandbox.path(format!("{wanted}.wants/vz-firewall.service"));
    std::fs::create_dir_all(link.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("../vz-firewall.service", link).unwrap();
    let mut verify = sandbox.command("systemd-analyze");
    verify.args(["verify", "--man=no", "multi-user.target"]);
    verify.env("SYSTEMD_UNIT_PATH", format!("{}:", sandbox.path("").display()));
    let said = Finished::of(&mut verify).stderr();
    assert!(!said.contains("ordering cycle"), "{said}");
}

/// Ports that pods have open stay open when a firewall is made around them.
#[test]
fn ports_of_running_pods_are_read_from_their_records() {
    let sandbox = Sandbox::new();
    let pod = |name: &str, ports: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  hostNetwork: true\n  containers:\n  - {{name: app, image: 'bundle:app', ports: {ports}}}\n"
        );
        let (pods, violations) = vz::fleet::pod::read(&text);
        assert_eq!(violations, []);
        let config =
            serde_json::json!({ "root": { "readonly": true }, "process": { "args": ["app"] } });
        let built = Built { name: "app".into(), id: "a".repeat(64), config };
        let runtime = Runtime { name: "crun".into(), path: "/usr/bin/crun".into() };
        let machine =
            Machine { runtime, systemd: 257, store: "/var/lib/vz".into(), secrets: [].into() };
        let revision = render(&pods[0], &[("app".to_owned(), built)].into(), &machine).unwrap();
        sandbox.write(&format!("pods/{name}/current/{RECORD}"), &revision.files[RECORD]);
    };
    pod("web", "[{containerPort: 80}, {containerPort: 53, protocol: UDP}]");
    pod("quiet", "[]");
    pod("ended", "[{containerPort: 99}]");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/fleet/newnode/setup.sh");
    let script = std::fs::read_to_string(source).unwrap();
    let (_, function) = script.rsplit_once("\nopened() {").unwrap();
    let (function, _) = function.split_once("\n}\n").unwrap();
    let function = function.replace("/etc/vz/pods", "pods");
    let text =
        format!("systemctl() {{ [ \"$3\" != 'vz-ended.*' ]; }}\nopened() {{{function}\n}}\nopened");
    let said = sandbox.run("sh", ["-c", &text]).success().stdout();
    let mut ports: Vec<&str> = said.lines().collect();
    ports.sort_unstable();
    assert_eq!(ports, ["53 udp", "80 tcp"]);
}

#[test]
fn a_node_that_took_everything_back_is_not_told_to_keep_it() {
    let sandbox = Sandbox::new();
    let keep = || {
        let script = KEEP.replace("/run/vz", ".");
        sandbox.run("sh", ["-c", &script]).success().stdout()
    };
    assert_eq!(keep(), "undone\n");
    sandbox.write("newnode-undo", "");
    assert_eq!(keep(), "kept\n");
    assert!(!sandbox.path("newnode-undo").exists());
    // Where the answer was lost it is asked for again.
    assert_eq!(keep(), "kept\n");
}

#[test]
fn a_bare_machine_becomes_a_node_once() {
    let test = "a_bare_machine_becomes_a_node_once";
    let Ok(value) = std::env::var("VZ_TEST_BARE") else {
        reduced(test, "no bare machine: set VZ_TEST_BARE=SSH_CONFIG:NODE");
        return;
    };
    if !require(test, &[Need::Program("ssh", "openssh-client")]) {
        return;
    }
    let (config, name) = value.split_once(':').expect("SSH_CONFIG:NODE");
    let sandbox = Sandbox::new();
    sandbox.write("key.pub", KEY);
    sandbox.write("hosts.ini", format!("node-x ansible_host={name} ansible_user=root\n"));
    let make = || {
        let mut command = sandbox.command("vzmaster");
        command.args(["-F", config, "newnode", "--key", "key.pub", "--user", "ann", "--json"]);
        let done = Finished::of(command.arg("node-x").env_remove("SSH_AUTH_SOCK")).success();
        serde_json::from_str::<serde_json::Value>(&done.stdout()).unwrap()
    };
    let on = |line: &str| {
        let mut ssh = sandbox.command("ssh");
        let said = Finished::of(ssh.args(["-F", config, "-l", "root", name, line])).success();
        said.stdout().trim().to_owned()
    };
    make();
    assert_eq!(make()["changed"], serde_json::json!([]), "the second run");
    assert_eq!(on("hostname"), "node-x");
    assert_eq!(on("sudo -u ann sudo -n id -un"), "root");
    assert_eq!(on("systemctl is-active vz-firewall apt-daily-upgrade.timer | sort -u"), "active");
    assert_eq!(on("systemctl is-active vz-newnode-guard.timer || :"), "inactive");
    assert_eq!(on("sshd -T | grep ^passwordauthentication"), "passwordauthentication no");
    assert!(on("nft list chain inet vz_node input").contains("policy drop"));
    // Where nobody comes in again, what may lock out is taken back.
    let bare = "cd /etc/ssh && rm -f sshd_config.d/00-vz.conf; systemctl disable -q --now vz-firewall; rm -f /etc/vz/firewall.nft";
    on(bare);
    let guarded = |open: &[&str]| {
        let wish = Wish {
            name: None,
            user: Some("ann".into()),
            keys: vec![KEY.trim().into()],
            runtime: newnode::Runtime::Crun,
            firewall: true,
            open: open.iter().map(ToString::to_string).collect(),
            guard: 3,
        };
        sandbox.write("guarded.sh", wish.script(Stage::All));
        let mut ssh = sandbox.command("ssh");
        ssh.args(["-F", config, "-l", "root", name, "sh -s"]);
        ssh.stdin(std::fs::File::open(sandbox.path("guarded.sh")).unwrap());
        assert!(Finished::of(&mut ssh).success().stdout().ends_with("\nguarded\nend\n"));
    };
    guarded(&[]);
    assert_eq!(on("systemctl is-active vz-firewall"), "active");
    on("sleep 6");
    assert_eq!(on("systemctl is-active vz-firewall || :"), "inactive");
    assert_eq!(on("ls /etc/ssh/sshd_config.d/00-vz.conf 2>/dev/null || echo gone"), "gone");
    make();
    // What was there before is there again: the firewall of the first time.
    let before = on("cat /etc/vz/firewall.nft");
    guarded(&["9/tcp"]);
    assert!(on("nft list set inet vz_node fixed_tcp").contains(" 9"));
    on("sleep 6");
    assert_eq!(on("cat /etc/vz/firewall.nft"), before);
    assert!(!on("nft list set inet vz_node fixed_tcp").contains(" 9"));
    assert_eq!(on("systemctl is-active vz-firewall"), "active");
}
