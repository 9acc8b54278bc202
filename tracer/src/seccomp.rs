//! Seccomp filters for others than the tracer: rules by name become a program.

use std::io;

use libc::sock_filter;

use crate::arch::{AUDIT_I386, AUDIT_X86_64, X32_BIT};
use crate::bpf::{self, ABOVE, ALLOW, AND, AT_LEAST, EQUAL, LOAD, NUMBER, RETURN};
use crate::bpf::{argument, branch, op};
use crate::names;
use crate::record::Abi;
use crate::sys;

/// What becomes of a call (seccomp(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It happens.
    Allow,
    /// It happens and is logged.
    Log,
    /// It fails with this error number.
    Errno(u16),
    /// SIGSYS is sent.
    Trap,
    /// The thread ends.
    KillThread,
    /// The process ends.
    KillProcess,
}

impl Action {
    fn code(self) -> u32 {
        match self {
            Action::Allow => ALLOW,
            Action::Log => libc::SECCOMP_RET_LOG,
            Action::Errno(number) => libc::SECCOMP_RET_ERRNO | u32::from(number),
            Action::Trap => libc::SECCOMP_RET_TRAP,
            Action::KillThread => libc::SECCOMP_RET_KILL_THREAD,
            Action::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        }
    }
}

/// How an argument, unsigned, compares with a condition's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// It is the value.
    Equal,
    /// It is not.
    NotEqual,
    /// It is smaller.
    Less,
    /// It is smaller or the value.
    AtMost,
    /// It is larger or the value.
    AtLeast,
    /// It is larger.
    Greater,
    /// Its bits of this mask are the value.
    Masked(u64),
}

/// What an argument must be for a rule to apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub argument: u8,
    /// How it is compared.
    pub comparison: Comparison,
    /// With what.
    pub value: u64,
}

/// What becomes of the calls of one name where all conditions are met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule<'a> {
    /// Name of the call; an ABI that does not have it is not concerned.
    pub name: &'a str,
    /// All of them must be met.
    pub conditions: Vec<Condition>,
    /// What becomes of the call.
    pub action: Action,
}

/// A filter that a process can put on itself.
#[derive(Clone, Debug)]
pub struct Filter(Vec<sock_filter>);

impl Filter {
    /// A filter for `abis`, beside x86-64. Of several rules for a call the
    /// first whose conditions are met counts, those without conditions last;
    /// where none does, `default`. A call by another ABI kills its process.
    pub fn new(default: Action, abis: &[Abi], rules: &[Rule<'_>]) -> Self {
        let mut x86_64 = vec![op(LOAD, NUMBER)];
        let mut rows = rows(Abi::X86_64, rules);
        if abis.contains(&Abi::X32) {
            rows.extend(self::rows(Abi::X32, rules));
        } else {
            // -1 is no call of x32 but one that a tracer took away.
            x86_64.extend([
                branch(EQUAL, u32::MAX, 2, 0),
                branch(AT_LEAST, X32_BIT, 0, 1),
                op(RETURN, Action::KillProcess.code()),
            ]);
        }
        search(rows, default, &mut x86_64);
        let mut sections = vec![(AUDIT_X86_64, x86_64)];
        if abis.contains(&Abi::I386) {
            let mut i386 = vec![op(LOAD, NUMBER)];
            search(self::rows(Abi::I386, rules), default, &mut i386);
            sections.push((AUDIT_I386, i386));
        }
        Filter(bpf::by_abi(sections, Action::KillProcess.code()))
    }

    /// Puts it on this thread and all that it starts, for good.
    ///
    /// # Errors
    /// `EACCES` without CAP_SYS_ADMIN and `no_new_privs`, `EINVAL` where it is
    /// too long or the kernel has no filters.
    pub fn install(&self) -> io::Result<()> {
        sys::install_filter(&self.0)
    }
}

type Rules<'a> = Vec<(&'a [Condition], Action)>;

/// The rules by number, those without conditions last.
fn rows<'a>(abi: Abi, rules: &'a [Rule<'_>]) -> Vec<(u32, Rules<'a>)> {
    let mut rows = std::collections::BTreeMap::<u32, Rules<'a>>::new();
    let (with, without): (Vec<_>, Vec<_>) =
        rules.iter().partition(|rule| !rule.conditions.is_empty());
    for rule in with.into_iter().chain(without) {
        if let Some(number) = names::number(abi, rule.name) {
            rows.entry(number).or_default().push((&rule.conditions, rule.action));
        }
    }
    rows.into_iter().collect()
}

fn search(rows: Vec<(u32, Rules<'_>)>, default: Action, program: &mut Vec<sock_filter>) {
    let leaf = |rules: &Rules<'_>, program: &mut Vec<sock_filter>| {
        for (conditions, action) in rules {
            program.extend(rule(conditions, *action));
            if conditions.is_empty() {
                return;
            }
        }
        program.push(op(RETURN, default.code()));
    };
    bpf::tree(&bpf::ranges(rows, &Rules::new()), &leaf, program);
}

/// A rule's code, which goes on behind its end where a condition is not met.
fn rule(conditions: &[Condition], action: Action) -> Vec<sock_filter> {
    let mut code = vec![op(RETURN, action.code())];
    for condition in conditions.iter().rev() {
        let mut before = test(condition, code.len());
        before.append(&mut code);
        code = before;
    }
    code
}

/// Code that goes on behind its end where the condition is met, and `rest`
/// instructions further where it is not.
fn test(condition: &Condition, rest: usize) -> Vec<sock_filter> {
    let (low, high) = (condition.value as u32, (condition.value >> 32) as u32);
    let at = argument(condition.argument);
    // Six conditions of six instructions fit: a jump reaches 255.
    let rest = rest as u8;
    let (load_low, load_high) = (op(LOAD, at), op(LOAD, at + 4));
    // Both halves, the high one first: where it decides, the low one is left out.
    let compare = |code: u16, met: u8, not_met: u8| {
        vec![
            load_high,
            branch(ABOVE, high, 3 + met, 0),
            branch(EQUAL, high, 0, 2 + not_met),
            load_low,
            branch(code, low, met, not_met),
        ]
    };
    match condition.comparison {
        Comparison::Equal => {
            vec![load_high, branch(EQUAL, high, 0, 2 + rest), load_low, branch(EQUAL, low, 0, rest)]
        }
        Comparison::NotEqual => {
            vec![load_high, branch(EQUAL, high, 0, 2), load_low, branch(EQUAL, low, rest, 0)]
        }
        Comparison::Greater => compare(ABOVE, 0, rest),
        Comparison::AtLeast => compare(AT_LEAST, 0, rest),
        Comparison::AtMost => compare(ABOVE, rest, 0),
        Comparison::Less => compare(AT_LEAST, rest, 0),
        Comparison::Masked(mask) => vec![
            load_high,
            op(AND, (mask >> 32) as u32),
            branch(EQUAL, high, 0, 3 + rest),
            load_low,
            op(AND, mask as u32),
            branch(EQUAL, low, 0, rest),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(name: &str, conditions: Vec<Condition>) -> Rule<'_> {
        Rule { name, conditions, action: Action::Allow }
    }

    #[track_caller]
    fn check(filter: &Filter, audit: u32, number: u32, arg: u64, expected: Action) {
        let data = bpf::Data { number, audit, args: [arg; 6] };
        assert_eq!(bpf::run(&filter.0, &data), expected.code(), "{number} of {audit:#x}, {arg:#x}");
    }

    #[test]
    fn each_abi_has_its_own_numbers() {
        let rules = [allow("read", vec![]), allow("openat", vec![]), allow("_llseek", vec![])];
        let (no, kill) = (Action::Errno(38), Action::KillProcess);
        let both = Filter::new(no, &[Abi::I386], &rules);
        for (audit, number, expected) in [
            (AUDIT_X86_64, 0, Action::Allow),
            (AUDIT_X86_64, 1, no),
            (AUDIT_X86_64, 257, Action::Allow),
            (AUDIT_X86_64, 140, no),
            (AUDIT_X86_64, X32_BIT, kill),
            (AUDIT_X86_64, X32_BIT | 257, kill),
            (AUDIT_X86_64, u32::MAX, no),
            (AUDIT_I386, 3, Action::Allow),
            (AUDIT_I386, 295, Action::Allow),
            (AUDIT_I386, 140, Action::Allow),
            (AUDIT_I386, 4, no),
            (0xC000_00B7, 0, kill),
        ] {
            check(&both, audit, number, 0, expected);
        }
        let one = Filter::new(no, &[], &rules);
        check(&one, AUDIT_I386, 3, 0, kill);
        let x32 = Filter::new(no, &[Abi::X32], &rules);
        check(&x32, AUDIT_X86_64, X32_BIT | 257, 0, Action::Allow);
        check(&x32, AUDIT_X86_64, X32_BIT | 1, 0, no);
    }

    #[test]
    fn conditions_look_at_both_halves_of_an_argument() {
        use Comparison::{AtLeast, AtMost, Equal, Greater, Less, Masked, NotEqual};
        let values =
            [0, 1, 5, 6, 7, 1 << 32, (1 << 32) + 5, (1 << 32) + 6, (2 << 32) + 5, u64::MAX];
        for value in values {
            for comparison in
                [Equal, NotEqual, Less, AtMost, AtLeast, Greater, Masked(0x2_0000_0004)]
            {
                let condition = Condition { argument: 2, comparison, value };
                let rules = [allow("read", vec![condition])];
                let filter = Filter::new(Action::Log, &[], &rules);
                for argument in values {
                    let is_met = match comparison {
                        Equal => argument == value,
                        NotEqual => argument != value,
                        Less => argument < value,
                        AtMost => argument <= value,
                        AtLeast => argument >= value,
                        Greater => argument > value,
                        Masked(mask) => argument & mask == value,
                    };
                    let expected = if is_met { Action::Allow } else { Action::Log };
                    check(&filter, AUDIT_X86_64, 0, argument, expected);
                }
            }
        }
    }

    #[test]
    fn all_conditions_of_a_rule_and_one_rule_of_several_must_apply() {
        let at = |argument, comparison, value| Condition { argument, comparison, value };
        let rules = [
            allow(
                "socket",
                vec![
                    at(0, Comparison::AtLeast, 10),
                    at(1, Comparison::AtMost, 20),
                    at(5, Comparison::NotEqual, 15),
                ],
            ),
            allow("socket", vec![at(3, Comparison::Equal, 3)]),
            Rule { name: "read", conditions: vec![], action: Action::Errno(1) },
            allow("read", vec![at(0, Comparison::Equal, 7)]),
        ];
        let filter = Filter::new(Action::Errno(38), &[], &rules);
        let (no, yes) = (Action::Errno(38), Action::Allow);
        for (arg, expected) in [(9, no), (10, yes), (15, no), (20, yes), (21, no), (3, yes)] {
            check(&filter, AUDIT_X86_64, 41, arg, expected);
        }
        check(&filter, AUDIT_X86_64, 0, 7, yes);
        check(&filter, AUDIT_X86_64, 0, 8, Action::Errno(1));
    }

    #[test]
    fn a_filter_of_all_calls_fits_the_kernel() {
        let names: Vec<&str> =
            (0..500).filter_map(|number| names::name(Abi::X86_64, number)).collect();
        let every_other: Vec<_> = names.iter().step_by(2).map(|name| allow(name, vec![])).collect();
        let filter = Filter::new(Action::Errno(1), &[Abi::I386, Abi::X32], &every_other);
        // BPF_MAXINSNS of <linux/bpf_common.h>.
        assert!(filter.0.len() < 4096, "{}", filter.0.len());
    }
}
