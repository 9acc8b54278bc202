use super::*;
use crate::fleet::network;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA+G9kBd/Pn1n5GrBQ9JrZTPsaoetAS2AnEOGTXZ29gs ann's";

pub(super) fn wish() -> Wish {
    Wish {
        name: Some("node-a".into()),
        user: Some("ann".into()),
        keys: vec![KEY.into()],
        runtime: Runtime::Crun,
        firewall: true,
        open: vec!["8080/tcp".into()],
        guard: 90,
    }
}

#[test]
fn values_are_words_to_the_shell_whatever_is_in_them() {
    let script = wish().script(Stage::All);
    let expected = format!(
        "stage=all\nname=node-a\nuser=ann\nkeys='{}'\nruntime=crun\nfirewall=yes\nopen=8080/tcp\nguard=90\n",
        KEY.replace('\'', "'\"'\"'")
    );
    assert!(script.starts_with(&expected), "{script}");
    assert!(script.ends_with("\nmain </dev/null\n"));
}

#[test]
fn what_is_no_name_user_key_or_port_is_refused() {
    let check = |change: &dyn Fn(&mut Wish), expected: &str| {
        let mut wish = wish();
        change(&mut wish);
        let error = wish.check().err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(expected) && error.is_empty() == expected.is_empty(), "{error}");
    };
    check(&|_| (), "");
    check(&|wish| wish.name = Some("node-a.example.com".into()), "");
    check(&|wish| wish.name = Some("a b".into()), "`a b` cannot be a host name");
    check(&|wish| wish.user = Some("Ann".into()), "`Ann` cannot be the name of a user");
    check(&|wish| wish.user = Some("-x".into()), "`-x` cannot be");
    check(&|wish| wish.keys.clear(), "no public key to log in with");
    check(&|wish| wish.keys.push("-----BEGIN OPENSSH PRIVATE KEY-----".into()), "is no public key");
    check(&|wish| wish.keys.push(format!("{KEY}\nroot")), "is no public key");
    check(&|wish| wish.keys.push(format!("command=\"x\" {KEY}")), "is no public key");
    for bad in ["80", "0/tcp", "x/udp", "99999/tcp", "80/tcp;reboot"] {
        check(&|wish| wish.open.push(bad.into()), "is no port");
    }
}

#[test]
fn a_report_is_whole_or_none() {
    let said = "Welcome, changed man\nchanged swap: 512 MiB in /swapfile\nkept user ann\nwarning no firewall\n";
    assert_eq!(Report::parse(said), None);
    let report = Report::parse(&format!("{said}end\n")).unwrap();
    assert_eq!(report.changed, ["swap: 512 MiB in /swapfile"]);
    assert_eq!(report.kept, ["user ann"]);
    assert_eq!((report.warnings, report.guarded), (vec!["no firewall".to_owned()], false));
    assert!(Report::parse("guarded\nend\n").unwrap().guarded);
}

#[test]
fn the_firewall_lets_pods_in_by_either_address() {
    let script = wish().script(Stage::All);
    for (ip, subnet) in [("ip", network::SUBNET), ("ip6", network::SUBNET6)] {
        let rule = format!("iifname \"vz*\" {ip} saddr {subnet} accept");
        assert!(script.contains(&rule), "{rule}");
    }
}
