//! What a bundle needs, for people and for scripts.

use std::collections::BTreeSet;

use oci_spec::runtime::LinuxSyscall;
use serde_json::{Value, json};

use super::Narrowed;
use crate::command::verify::Verdict;
use crate::profile::Beyond;

impl Narrowed {
    /// One line for the capabilities, one for the system calls.
    pub(in crate::command) fn text(&self) -> String {
        let mut text = String::new();
        let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
        let kept = if self.kept.is_empty() { "none".to_owned() } else { list(&self.kept) };
        if self.asked_capabilities() {
            text.push_str(&format!("capabilities: {kept}"));
            if !self.dropped.is_empty() {
                text.push_str(&format!("; not needed: {}", list(&self.dropped)));
            }
            text.push('\n');
        }
        if let Some(wanted) = self.wanted {
            let (made, start_only) = self.counts();
            let beyond = match wanted.beyond {
                Beyond::Errno => "others fail with ENOSYS",
                Beyond::Log => "others are logged",
            };
            let allowed = self.allowed().len();
            text.push_str(&format!(
                "system calls: {made} made, {start_only} of them to start only; {allowed} allowed, \
                 {beyond}\n"
            ));
        }
        match &self.failed {
            None => text.push_str(&format!("proven; runs made for it: {}\n", self.runs)),
            Some(verdict) => {
                text.push_str(&verdict.text());
                text.push_str(
                    "not proven: under the profile it differs, or makes other calls each time; \
                               none is written\n",
                );
            }
        }
        text
    }

    /// The same for scripts.
    pub(in crate::command) fn json(&self) -> Value {
        let (made, start_only) = self.counts();
        let seccomp = self
            .wanted
            .map(|_| json!({ "made": made, "startOnly": start_only, "allowed": self.allowed() }));
        let capabilities = self.asked_capabilities();
        let capabilities =
            capabilities.then(|| json!({ "kept": self.kept, "dropped": self.dropped }));
        json!({
            "proven": self.is_proven(),
            "runs": self.runs,
            "capabilities": capabilities,
            "seccomp": seccomp,
            "failed": self.failed.as_ref().map(Verdict::json),
        })
    }

    fn asked_capabilities(&self) -> bool {
        self.narrowing.capabilities.is_some()
    }

    /// How many calls were made, and how many of them to start only.
    fn counts(&self) -> (usize, usize) {
        let names = |start_only: bool| -> BTreeSet<&String> {
            let calls = self.syscalls.iter().filter(|call| call.start_only == start_only);
            calls.map(|call| &call.name).collect()
        };
        let (serving, starting) = (names(false), names(true));
        let start_only = starting.difference(&serving).count();
        (serving.len() + start_only, start_only)
    }

    /// The calls that the profile allows, if only with some arguments.
    fn allowed(&self) -> BTreeSet<&String> {
        let rules = self.narrowing.seccomp.iter().flat_map(|profile| profile.syscalls().iter());
        rules.flatten().flat_map(LinuxSyscall::names).collect()
    }
}
