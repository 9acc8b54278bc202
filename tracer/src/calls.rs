//! All system calls of a run, as a seccomp profile is made of them.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use nix::errno::Errno;

use crate::arch::{self, Call};
use crate::memory::TraceeAddr;
use crate::names;
use crate::record::{Abi, BytePath, Syscall};
use crate::sys::Tid;
use crate::task::{Process, Task};

/// Errors by which the kernel tells that a right is lacking: ENOMEM is what
/// mlock(2) says without CAP_IPC_LOCK.
const REFUSALS: [Errno; 3] = [Errno::EPERM, Errno::EACCES, Errno::ENOMEM];

/// The bits `CLONE_NEW*` of <linux/sched.h> that clone(2) has, and CLONE_NEWTIME,
/// which only clone3(2) has.
const NAMESPACES: u64 = 0x7e02_0000;
const NAMESPACES_OF_CLONE3: u64 = NAMESPACES | 0x80;

/// So many values of an argument are kept: more than there are address families.
const MAX_ARGUMENTS: usize = 64;

/// Names of refused calls, and of the errors.
pub(crate) type Refusals = BTreeSet<(String, String)>;

/// A call by ABI and number, the latter without the x32 bit.
pub(crate) type Key = (Abi, u32);

/// What is known of one call.
#[derive(Debug)]
struct Seen {
    when_ready: bool,
    /// Error numbers.
    refusals: BTreeSet<i32>,
    arguments: BTreeSet<u64>,
    process: Rc<Process>,
}

/// The calls of a run, by number.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    seen: BTreeMap<Key, Seen>,
    /// Whether the program was ever said to be ready.
    was_ready: bool,
    expected: Option<Refusals>,
}

impl Calls {
    /// No call yet; refusals other than those `expected` are to be told.
    pub(crate) fn new(expected: Option<Refusals>) -> Self {
        Calls { expected, ..Calls::default() }
    }

    /// The task begins a call.
    pub(crate) fn begun(&mut self, tid: Tid, task: &Task, call: &Call, is_ready: bool) -> Key {
        let abi = match call.abi {
            arch::Abi::I386 => Abi::I386,
            arch::Abi::X86_64 if call.is_x32 => Abi::X32,
            arch::Abi::X86_64 => Abi::X86_64,
        };
        let key = (abi, call.number);
        self.was_ready |= is_ready;
        let seen = self.seen.entry(key).or_insert_with(|| Seen {
            when_ready: false,
            refusals: BTreeSet::new(),
            arguments: BTreeSet::new(),
            process: Rc::clone(&task.process),
        });
        seen.when_ready |= is_ready;
        if seen.arguments.len() < MAX_ARGUMENTS {
            seen.arguments.extend(argument(tid, task, call, key));
        }
        key
    }

    /// A call has ended. Returns whether it was refused and must not have been.
    pub(crate) fn ended(&mut self, key: Key, result: i64) -> bool {
        let error = REFUSALS.into_iter().find(|error| i64::from(*error as i32) == -result);
        // The result of a return from a signal handler is the interrupted code's.
        let name = names::name(key.0, key.1).filter(|name| !name.ends_with("sigreturn"));
        let (Some(error), Some(name)) = (error, name) else { return false };
        if let Some(seen) = self.seen.get_mut(&key) {
            seen.refusals.insert(error as i32);
        }
        let refusal = (name.to_owned(), format!("{error:?}"));
        self.expected.as_ref().is_some_and(|expected| !expected.contains(&refusal))
    }

    /// The calls by name, sorted, and the numbers that have none here.
    pub(crate) fn list(&self) -> (Vec<Syscall>, Vec<u32>) {
        let mut unnamed = Vec::new();
        let mut calls: Vec<Syscall> = Vec::new();
        for (&(abi, number), seen) in &self.seen {
            let Some(name) = names::name(abi, number) else {
                unnamed.push(number);
                continue;
            };
            calls.push(Syscall {
                name: name.to_owned(),
                abi,
                start_only: self.was_ready && !seen.when_ready,
                errors: errors(&seen.refusals),
                arguments: seen.arguments.clone(),
                process: BytePath(seen.process.name.to_vec()),
            });
        }
        calls.sort();
        (calls, unnamed)
    }
}

fn errors(numbers: &BTreeSet<i32>) -> BTreeSet<String> {
    numbers.iter().map(|number| format!("{:?}", Errno::from_raw(*number))).collect()
}

/// What a profile has to know of a call's first argument.
fn argument(tid: Tid, task: &Task, call: &Call, (abi, number): Key) -> Option<u64> {
    match names::name(abi, number)? {
        "clone" => Some(call.arg(0) & NAMESPACES),
        "clone3" => {
            let flags = task.memory.read_word(tid, TraceeAddr(call.arg(0)), 8);
            Some(flags.unwrap_or(0) & NAMESPACES_OF_CLONE3)
        }
        "personality" | "socket" => Some(call.arg(0) & u64::from(u32::MAX)),
        _ => None,
    }
}
