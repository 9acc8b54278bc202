//! From the system calls of runs to a seccomp profile. Pure.
//!
//! A profile is a list of groups, each with why it is there, so that a reader can
//! tell what the program does when it serves from what it does only to start, and
//! both from what no run has shown.

mod unseen;

use std::collections::BTreeSet;

use oci_spec::runtime::{LinuxSeccomp, LinuxSyscall};
use serde_json::{Value, json};
use tracer::record::{Abi, Syscall};

/// What a refused call fails with, as on a kernel that does not have it: libraries
/// know other ways then. With EPERM, the default, they give up.
const ENOSYS: u32 = 38;
/// `CLONE_NEW*` of <linux/sched.h>, as docker's default profile masks them.
const NAMESPACES: u64 = 0x7e02_0000;
/// `AF_VSOCK` of <sys/socket.h>, which knows no network namespaces.
const AF_VSOCK: u64 = 40;

/// What becomes of a call that no group has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beyond {
    /// It fails.
    Errno,
    /// It is done, and the kernel's log tells.
    Log,
}

/// What a profile is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// What becomes of other calls.
    pub beyond: Beyond,
    /// Whether the runtime puts the filter on before it gives up its rights, as
    /// it must where execve(2) may give new ones.
    pub new_privileges: bool,
    /// Whether clone3(2), whose flags no filter sees, is allowed although the
    /// runs used no namespaces: the libraries go back to clone(2) without it.
    pub clone3: bool,
}

/// Calls that are allowed for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    why: &'static str,
    names: BTreeSet<String>,
    /// Conditions on an argument, of which one must be met, if there are any.
    only_if: Vec<Value>,
}

/// Returns the profile that allows `calls` and what they imply, as a file that podman
/// and docker take: `config.json`'s form, and a comment in each rule.
pub fn document(calls: &[Syscall], wanted: Use) -> Value {
    let mut document = profile(calls, wanted);
    let Some(rules) = document["syscalls"].as_array_mut() else { return document };
    let names = rules.iter().flat_map(|rule| rule["names"].as_array()).flatten();
    let allowed: BTreeSet<&str> = names.filter_map(Value::as_str).collect();
    let refused: Vec<&str> =
        unseen::REFUSED.into_iter().filter(|name| !allowed.contains(name)).collect();
    if wanted.beyond == Beyond::Errno && !refused.is_empty() {
        // Docker before 23.0 passes over `defaultErrnoRet`, and with EPERM libraries do not
        // look for another way. The runtimes pass over a rule that says what the default is.
        rules.push(json!({
            "names": refused,
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": ENOSYS,
            "comment": "refused as unknown, so that libraries go another way",
        }));
        document.sort_all_objects();
    }
    document
}

/// The profile with a comment in each rule.
fn profile(calls: &[Syscall], wanted: Use) -> Value {
    let architectures = abis(calls).map(|abi| match abi {
        Abi::X86_64 => "SCMP_ARCH_X86_64",
        Abi::I386 => "SCMP_ARCH_X86",
        Abi::X32 => "SCMP_ARCH_X32",
    });
    let rules = groups(calls, wanted).into_iter().flat_map(|group| rules(&group));
    let mut profile = json!({
        "architectures": architectures.collect::<Vec<_>>(),
        "syscalls": rules.collect::<Vec<_>>(),
    });
    match wanted.beyond {
        Beyond::Log => profile["defaultAction"] = "SCMP_ACT_LOG".into(),
        Beyond::Errno => {
            profile["defaultAction"] = "SCMP_ACT_ERRNO".into();
            profile["defaultErrnoRet"] = ENOSYS.into();
        }
    }
    profile.sort_all_objects();
    profile
}

/// The calling conventions of `calls`, and this machine's own.
fn abis(calls: &[Syscall]) -> impl Iterator<Item = Abi> {
    [Abi::X86_64, Abi::I386, Abi::X32]
        .into_iter()
        .filter(|abi| *abi == Abi::X86_64 || calls.iter().any(|call| call.abi == *abi))
}

/// The same for `config.json`, which has no comments.
///
/// # Errors
/// None in practice: the profile is of that form.
pub fn seccomp(calls: &[Syscall], wanted: Use) -> serde_json::Result<LinuxSeccomp> {
    serde_json::from_value(profile(calls, wanted))
}

/// Names of `calls` that `profile` does not allow at all; those that it leaves out
/// on purpose are none.
pub fn beyond(calls: &[Syscall], profile: &LinuxSeccomp) -> BTreeSet<String> {
    let rules = profile.syscalls().iter().flatten();
    let allowed: BTreeSet<&String> = rules.flat_map(LinuxSyscall::names).collect();
    let others = calls.iter().map(|call| &call.name).filter(|name| !allowed.contains(name));
    others.filter(|name| !unseen::REFUSED.contains(&name.as_str())).cloned().collect()
}

fn groups(calls: &[Syscall], wanted: Use) -> Vec<Group> {
    let is_made = |name: &str| calls.iter().any(|call| call.name == name);
    let namespaces =
        ["clone", "clone3"].iter().flat_map(|name| arguments(calls, name)).any(|flags| flags != 0);
    let clone3 = namespaces || wanted.clone3;
    let left_out = unseen::REFUSED.iter().filter(|name| !(clone3 && **name == "clone3"));
    let elsewhere: BTreeSet<&str> = left_out.chain(&unseen::GUARDED).copied().collect();
    let made = |start_only: bool| {
        // A call may be made to start by one ABI and to serve by another.
        let calls = calls.iter().filter(move |call| call.start_only == start_only);
        calls.map(|call| call.name.as_str()).collect::<Vec<_>>()
    };
    let older = unseen::OLDER.iter().filter(|(newer, _)| is_made(newer));
    let older = older.flat_map(|(_, older)| older.iter().copied());
    let has_phases = calls.iter().any(|call| call.start_only);
    let mut lists: Vec<(&str, Vec<&str>)> = vec![
        (if has_phases { "made when ready" } else { "made" }, made(false)),
        ("made to start only", made(true)),
        ("not seen: the kernel and C libraries, in other circumstances", unseen::ALWAYS.into()),
        ("not seen: in the place of newer calls, on kernels without them", older.collect()),
        ("not seen: container runtimes, before the program begins", unseen::RUNTIMES.into()),
    ];
    if wanted.new_privileges {
        let why =
            "not seen: container runtimes without no-new-privileges, before the program begins";
        lists.push((why, unseen::PRIVILEGED_RUNTIMES.into()));
    }
    let has = |name: &str| abis(calls).any(|abi| tracer::syscall_number(abi, name).is_some());
    let mut taken = BTreeSet::new();
    let mut groups = Vec::new();
    for (why, list) in lists {
        let names = list.into_iter().filter(|name| !elsewhere.contains(name) && has(name));
        let names: BTreeSet<&str> = names.filter(|name| taken.insert(*name)).collect();
        if !names.is_empty() {
            let names = names.into_iter().map(str::to_owned).collect();
            groups.push(Group { why, names, only_if: Vec::new() });
        }
    }
    groups.extend(guarded(calls, namespaces));
    groups
}

/// Calls that are allowed with some arguments only: no more than docker's default
/// profile has, unless a run showed it.
fn guarded(calls: &[Syscall], namespaces: bool) -> Vec<Group> {
    let is_made = |name: &str| calls.iter().any(|call| call.name == name);
    let group = |why, name: &str, only_if| Group { why, names: [name.to_owned()].into(), only_if };
    let mut groups = Vec::new();
    if namespaces {
        groups.push(group("made, with new namespaces", "clone", Vec::new()));
    } else if is_made("clone") || is_made("clone3") {
        let masked = json!({
            "index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": NAMESPACES, "valueTwo": 0,
        });
        groups.push(group("made, without new namespaces", "clone", vec![masked]));
    }
    let equal = |value: u64| json!({ "index": 0, "op": "SCMP_CMP_EQ", "value": value });
    let personas: Vec<Value> = arguments(calls, "personality").into_iter().map(equal).collect();
    if !personas.is_empty() {
        groups.push(group("made, for this", "personality", personas));
    }
    if arguments(calls, "socket").contains(&AF_VSOCK) {
        groups.push(group("made, for AF_VSOCK too", "socket", Vec::new()));
    } else if is_made("socket") {
        groups.push(group("made, not for AF_VSOCK", "socket", other_families()));
    }
    groups
}

/// Conditions of which one holds for each family but AF_VSOCK: a bit of its number
/// differs. The kernel takes the low half of the argument alone, so it must not be
/// compared whole; families have six bits (`AF_MAX` of <linux/socket.h> is 46).
fn other_families() -> Vec<Value> {
    let differs = |bit: u64| {
        let (mask, value) = (1 << bit, !AF_VSOCK & (1 << bit));
        json!({ "index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": mask, "valueTwo": value })
    };
    (0..6).map(differs).collect()
}

/// What the first argument of a call was.
fn arguments(calls: &[Syscall], name: &str) -> BTreeSet<u64> {
    let calls = calls.iter().filter(|call| call.name == name);
    calls.flat_map(|call| call.arguments.iter().copied()).collect()
}

/// A rule for each alternative.
fn rules(group: &Group) -> Vec<Value> {
    let rule = json!({ "names": group.names, "action": "SCMP_ACT_ALLOW", "comment": group.why });
    let with = |condition: &Value| {
        let mut rule = rule.clone();
        rule["args"] = json!([condition]);
        rule
    };
    match group.only_if.as_slice() {
        [] => vec![rule],
        alternatives => alternatives.iter().map(with).collect(),
    }
}

#[cfg(test)]
mod tests;
