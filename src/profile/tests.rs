use super::*;
use serde_json::json;

fn call(name: &str) -> Syscall {
    Syscall {
        name: name.to_owned(),
        abi: Abi::X86_64,
        start_only: false,
        errors: BTreeSet::new(),
        arguments: BTreeSet::new(),
        process: Default::default(),
    }
}

fn with(name: &str, arguments: &[u64]) -> Syscall {
    Syscall { arguments: arguments.iter().copied().collect(), ..call(name) }
}

const PLAIN: Use = Use { beyond: Beyond::Errno, new_privileges: false, clone3: false };

fn made(calls: &[Syscall], wanted: Use) -> LinuxSeccomp {
    seccomp(calls, wanted).unwrap()
}

/// The rules of the profile that have `name`, as their arguments.
fn rules_for(profile: &LinuxSeccomp, name: &str) -> Vec<Value> {
    let rules = profile.syscalls().iter().flatten();
    let rules = rules.filter(|rule| rule.names().iter().any(|own| own == name));
    rules.map(|rule| serde_json::to_value(rule.args()).unwrap()).collect()
}

#[test]
fn each_call_is_allowed_once_with_the_reason_that_says_most() {
    let start = Syscall { start_only: true, ..call("listen") };
    let document = document(&[call("read"), start, call("statx")], PLAIN);
    let groups = document["syscalls"].as_array().unwrap();
    let why = |name: &str| -> Vec<&str> {
        let has =
            groups.iter().filter(|group| group["names"].as_array().unwrap().contains(&json!(name)));
        has.map(|group| group["comment"].as_str().unwrap()).collect()
    };
    assert_eq!(why("read"), ["made when ready"]);
    assert_eq!(why("listen"), ["made to start only"]);
    assert_eq!(why("futex").len(), 1);
    assert!(why("lstat")[0].contains("newer calls"), "{:?}", why("lstat"));
    assert!(why("tgkill")[0].contains("runtimes"));
    for absent in ["ptrace", "capset", "sigreturn", "socket"] {
        assert!(why(absent).is_empty(), "{absent}");
    }
    assert_eq!(document["defaultErrnoRet"], 38);
    assert_eq!(document["architectures"], json!(["SCMP_ARCH_X86_64"]));
}

#[test]
fn architectures_are_those_of_the_calls() {
    let i386 = Syscall { abi: Abi::I386, ..call("_llseek") };
    let x32 = Syscall { abi: Abi::X32, ..call("read") };
    let profile = made(&[call("read"), i386, x32], PLAIN);
    let expected = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
    assert_eq!(serde_json::to_value(profile.architectures()).unwrap(), expected);
}

#[test]
fn new_namespaces_are_refused_unless_a_run_made_some() {
    let masked =
        json!([{ "index": 0, "value": NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }]);
    let profile = made(&[with("clone3", &[0])], PLAIN);
    assert_eq!(rules_for(&profile, "clone"), [masked]);
    assert!(rules_for(&profile, "clone3").is_empty());
    let profile = made(&[with("clone3", &[0, 0x1000_0000])], PLAIN);
    assert_eq!(rules_for(&profile, "clone"), [Value::Null]);
    assert_eq!(rules_for(&profile, "clone3"), [Value::Null]);
    let profile = made(&[with("clone3", &[0])], Use { clone3: true, ..PLAIN });
    assert_eq!((rules_for(&profile, "clone").len(), rules_for(&profile, "clone3").len()), (1, 1));
    assert!(rules_for(&made(&[call("read")], PLAIN), "clone").is_empty());
}

#[test]
fn arguments_that_were_seen_are_the_only_ones() {
    let profile = made(&[with("personality", &[0, 8]), with("socket", &[1, 2])], PLAIN);
    let values = |name: &str| {
        let rules = rules_for(&profile, name);
        rules
            .iter()
            .map(|args| (args[0]["op"].clone(), args[0]["value"].clone()))
            .collect::<Vec<_>>()
    };
    let equal = |value: u64| (json!("SCMP_CMP_EQ"), json!(value));
    assert_eq!(values("personality"), [equal(0), equal(8)]);
    let is_allowed = |family: u64| {
        rules_for(&profile, "socket").iter().any(|args| {
            let number = |name: &str| args[0][name].as_u64().unwrap();
            assert_eq!(args[0]["op"], "SCMP_CMP_MASKED_EQ");
            family & number("value") == number("valueTwo")
        })
    };
    assert!((0..46).all(|family| is_allowed(family) == (family != AF_VSOCK)));
    // The kernel does not look at the high half.
    assert!(!is_allowed(0x1_0000_0000 | AF_VSOCK) && is_allowed(0x1_0000_0002));
    let profile = made(&[with("socket", &[AF_VSOCK])], PLAIN);
    assert_eq!(rules_for(&profile, "socket"), [Value::Null]);
}

#[test]
fn what_a_later_run_makes_beyond_the_profile_is_named() {
    let profile = made(&[call("read"), with("clone3", &[0])], PLAIN);
    let later = [call("read"), call("ptrace"), with("clone3", &[0]), call("io_uring_setup")];
    assert_eq!(beyond(&later, &profile), ["ptrace".to_owned()].into());
}

#[test]
fn every_name_of_the_tables_is_a_call() {
    let older = unseen::OLDER.iter().flat_map(|(newer, older)| older.iter().chain([newer]));
    let tables: [&[&str]; 5] = [
        &unseen::ALWAYS,
        &unseen::RUNTIMES,
        &unseen::PRIVILEGED_RUNTIMES,
        &unseen::REFUSED,
        &unseen::GUARDED,
    ];
    for name in tables.iter().copied().flatten().chain(older) {
        let is_known = [Abi::X86_64, Abi::I386]
            .into_iter()
            .any(|abi| tracer::syscall_number(abi, name).is_some());
        assert!(is_known, "{name}");
    }
}

#[test]
fn a_soft_start_logs_and_the_rest_is_the_same() {
    let log = made(&[call("read")], Use { beyond: Beyond::Log, ..PLAIN });
    assert_eq!(log.default_action(), oci_spec::runtime::LinuxSeccompAction::ScmpActLog);
    assert_eq!(log.default_errno_ret(), None);
    assert_eq!(log.syscalls(), made(&[call("read")], PLAIN).syscalls());
}
