//! `linux.seccomp` of a `config.json` as a filter of the kernel's (config-linux.md,
//! "Seccomp"). Names that nobody knows here are left out, as runc does.

use anyhow::{Context, bail};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag,
    LinuxSeccompOperator, Spec,
};
use tracer::record::Abi;
use tracer::seccomp::{Action, Comparison, Condition, Filter, Rule};

/// EPERM, which is what a call fails with where the profile gives no number.
const EPERM: u32 = 1;

/// The filter of a container, and when its process puts it on: last of all, or,
/// where it may still gain privileges by execve(2), while it has those that the
/// kernel wants for a filter then.
#[derive(Debug)]
pub struct Seccomp {
    filter: Option<Filter>,
    is_last: bool,
}

impl Seccomp {
    /// The filter that `spec` asks for.
    ///
    /// # Errors
    /// What of it this runner does not have.
    pub fn of(spec: &Spec) -> anyhow::Result<Self> {
        let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
        let filter = profile.map(filter).transpose().context(
            "the embedded runner does not have all of `linux.seccomp` of config.json: install \
             runc or crun",
        )?;
        let process = spec.process().as_ref();
        let is_last = process.is_some_and(|process| process.no_new_privileges() == Some(true));
        Ok(Seccomp { filter, is_last })
    }

    /// Before the process gives up anything.
    ///
    /// # Errors
    /// As seccomp(2).
    pub fn begin(&self) -> anyhow::Result<()> {
        self.install(!self.is_last)
    }

    /// When nothing is left to do but to execute the program.
    ///
    /// # Errors
    /// As seccomp(2).
    pub fn end(&self) -> anyhow::Result<()> {
        self.install(self.is_last)
    }

    fn install(&self, is_time: bool) -> anyhow::Result<()> {
        match &self.filter {
            Some(filter) if is_time => filter.install().context("cannot install a seccomp filter"),
            _ => Ok(()),
        }
    }
}

fn filter(profile: &LinuxSeccomp) -> anyhow::Result<Filter> {
    use LinuxSeccompFilterFlag::{SeccompFilterFlagSpecAllow, SeccompFilterFlagTsync};
    // The one is always asked for, the other means nothing to a single thread.
    let known = [SeccompFilterFlagSpecAllow, SeccompFilterFlagTsync];
    if let Some(flag) = profile.flags().iter().flatten().find(|flag| !known.contains(flag)) {
        bail!("the flag {flag} is not known");
    }
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let architectures = profile.architectures().iter().flatten();
    let abis: Vec<Abi> = architectures
        .filter_map(|arch| match arch {
            Arch::ScmpArchX86 => Some(Abi::I386),
            Arch::ScmpArchX32 => Some(Abi::X32),
            // Programs of other machines do not run here.
            _ => None,
        })
        .collect();
    let mut rules = Vec::new();
    for syscall in profile.syscalls().iter().flatten() {
        let action = action(syscall.action(), syscall.errno_ret())?;
        for conditions in alternatives(syscall.args().as_deref().unwrap_or_default())? {
            let rule = |name| Rule { name, conditions: conditions.clone(), action };
            rules.extend(syscall.names().iter().map(|name| rule(name)));
        }
    }
    Ok(Filter::new(default, &abis, &rules))
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> anyhow::Result<Action> {
    use LinuxSeccompAction as A;
    Ok(match action {
        A::ScmpActAllow => Action::Allow,
        A::ScmpActLog => Action::Log,
        A::ScmpActErrno => {
            let number = errno.unwrap_or(EPERM);
            Action::Errno(u16::try_from(number).with_context(|| format!("no error {number}"))?)
        }
        A::ScmpActTrap => Action::Trap,
        A::ScmpActKill | A::ScmpActKillThread => Action::KillThread,
        A::ScmpActKillProcess => Action::KillProcess,
        A::ScmpActNotify | A::ScmpActTrace => bail!("the action {action} asks another process"),
    })
}

/// The conditions of a rule. Several on one argument are as many rules, each of
/// one condition, as runc and crun have it.
fn alternatives(args: &[LinuxSeccompArg]) -> anyhow::Result<Vec<Vec<Condition>>> {
    let conditions = args.iter().map(condition).collect::<anyhow::Result<Vec<_>>>()?;
    let indices: std::collections::BTreeSet<u8> = conditions.iter().map(|c| c.argument).collect();
    if indices.len() < conditions.len() {
        return Ok(conditions.into_iter().map(|condition| vec![condition]).collect());
    }
    Ok(vec![conditions])
}

fn condition(arg: &LinuxSeccompArg) -> anyhow::Result<Condition> {
    use LinuxSeccompOperator as O;
    let argument = u8::try_from(arg.index()).ok().filter(|index| *index < 6);
    let argument = argument.with_context(|| format!("no argument {}", arg.index()))?;
    let (comparison, value) = match arg.op() {
        O::ScmpCmpNe => (Comparison::NotEqual, arg.value()),
        O::ScmpCmpLt => (Comparison::Less, arg.value()),
        O::ScmpCmpLe => (Comparison::AtMost, arg.value()),
        O::ScmpCmpEq => (Comparison::Equal, arg.value()),
        O::ScmpCmpGe => (Comparison::AtLeast, arg.value()),
        O::ScmpCmpGt => (Comparison::Greater, arg.value()),
        O::ScmpCmpMaskedEq => {
            (Comparison::Masked(arg.value()), arg.value_two().unwrap_or_default())
        }
    };
    Ok(Condition { argument, comparison, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(profile: Value, expected: Result<(), &str>) {
        let profile: LinuxSeccomp = serde_json::from_value(profile).unwrap();
        let found = filter(&profile).map(drop).map_err(|error| error.to_string());
        assert_eq!(found.as_ref().map_err(String::as_str).copied(), expected);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        let base = |action: &str| json!({ "defaultAction": action });
        check(base("SCMP_ACT_ERRNO"), Ok(()));
        check(base("SCMP_ACT_NOTIFY"), Err("the action SCMP_ACT_NOTIFY asks another process"));
        let mut flags = base("SCMP_ACT_LOG");
        flags["flags"] = json!(["SECCOMP_FILTER_FLAG_TSYNC"]);
        check(flags.clone(), Ok(()));
        flags["flags"] = json!(["SECCOMP_FILTER_FLAG_LOG"]);
        check(flags, Err("the flag SECCOMP_FILTER_FLAG_LOG is not known"));
        let with = |args: Value| {
            json!({
                "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64"],
                "syscalls": [{ "names": ["clone", "new_one"], "action": "SCMP_ACT_ALLOW", "args": args }],
            })
        };
        let masked = json!([{ "index": 0, "value": 2, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }]);
        check(with(masked), Ok(()));
        check(with(json!([{ "index": 6, "value": 2, "op": "SCMP_CMP_EQ" }])), Err("no argument 6"));
    }

    #[test]
    fn several_conditions_on_one_argument_are_alternatives() {
        let arg = |index: u8, value: u64| {
            let arg = json!({ "index": index, "value": value, "op": "SCMP_CMP_EQ" });
            serde_json::from_value::<LinuxSeccompArg>(arg).unwrap()
        };
        let counts = |args: &[LinuxSeccompArg]| {
            alternatives(args).unwrap().iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(counts(&[]), [0]);
        assert_eq!(counts(&[arg(0, 1), arg(1, 2)]), [2]);
        assert_eq!(counts(&[arg(0, 1), arg(0, 2), arg(0, 3)]), [1, 1, 1]);
    }
}
