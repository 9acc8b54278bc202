//! The verdict, for people and for scripts.

use serde_json::{Value, json};
use tracer::record::End;

use super::compare::{Ending, Finding, Reason};
use super::narrow::Narrowed;
use super::trial::{Done, Verdict};
use crate::cli::build;
use crate::report;

/// Prints it: text or JSON to standard output, warnings to standard error.
pub(super) fn print(
    args: &build::Verify,
    verdict: &Verdict,
    narrowed: Option<&Narrowed>,
) -> anyhow::Result<()> {
    if args.json {
        let mut value = json(verdict);
        if let Some(narrowed) = narrowed {
            value["narrowed"] = narrowed.json();
        }
        return report::json(&value);
    }
    verdict.say_warnings();
    for warning in &verdict.of_machine {
        report::warn("vzbuild", warning);
    }
    let narrowed = narrowed.map(Narrowed::text).unwrap_or_default();
    report::data((text(verdict) + &narrowed).as_bytes())
}

impl Verdict {
    /// The lines of [`text`].
    pub(in crate::command) fn text(&self) -> String {
        text(self)
    }

    /// The same for scripts.
    pub(in crate::command) fn json(&self) -> Value {
        json(self)
    }

    fn what(&self) -> &'static str {
        if self.is_image { "image" } else { "bundle" }
    }

    fn way_out(&self, finding: &Finding) -> String {
        match finding.reason {
            Reason::Missing if self.is_image && !finding.is_lost => {
                "add its line to the spec, or trace again, and make the image anew".to_owned()
            }
            _ => way_out(finding),
        }
    }

    /// Prints what differs and is no fault of the bundle; what the machine may have
    /// caused is left to those who did not say it when they made the bundle.
    pub(in crate::command) fn say_warnings(&self) {
        for warning in &self.comparison.warnings {
            report::warn("vzbuild", warning);
        }
    }
}

/// One line a scenario, two a finding, one for the verdict.
fn text(verdict: &Verdict) -> String {
    let mut text = String::new();
    for done in &verdict.scenarios {
        text.push_str(&scenario(done));
    }
    let found = &verdict.comparison;
    for finding in &found.findings {
        text.push_str(&format!(
            "{}: {}\n  before: {}; now: {}{}\n  way out: {}\n",
            word(&finding.reason),
            finding.path.0.escape_ascii(),
            finding.first,
            finding.second,
            asked_by(finding),
            verdict.way_out(finding)
        ));
    }
    for course in &found.courses {
        text.push_str(&format!(
            "another course: {}\n  before: {}; now: {}{}\n  way out: trace that course too{}\n",
            course.path.0.escape_ascii(),
            course.first,
            course.second,
            asked_by(course),
            if verdict.is_image { "" } else { "; --fix adds the path" }
        ));
    }
    for port in &found.ports {
        text.push_str(&format!(
            "not listening: {} port {}\n  way out: if it lies below 1024, --cap CAP_NET_BIND_SERVICE; else see the program's own messages\n",
            port.protocol, port.port
        ));
    }
    let troubles = verdict.scenarios.iter().filter(|done| !done.is_as_before()).count();
    let count = |number: usize, what: &str| match number {
        0 => None,
        _ => Some(report::count(number, what)),
    };
    let differences = [
        count(found.findings.len(), "path"),
        count(found.ports.len(), "port"),
        count(troubles, "scenario"),
    ];
    let differences: Vec<String> = differences.into_iter().flatten().collect();
    let runs = count(verdict.scenarios.len(), "scenario").unwrap_or_default();
    text.push_str(&match verdict.is_equal() {
        true => {
            let but = verdict.unproven.as_ref().map(|unproven| format!("; {unproven}"));
            let but = but.unwrap_or_default();
            format!("verified: the {} does as the first run did, in {runs}{but}\n", verdict.what())
        }
        false => format!("different: {}\n", differences.join(", ")),
    });
    text
}

impl Done {
    fn is_as_before(&self) -> bool {
        self.first == self.second && self.trouble.is_none()
    }
}

fn scenario(done: &Done) -> String {
    let Done { name, first, second, paths, trouble, last_words, .. } = done;
    let mut line = if done.is_as_before() {
        format!(
            "as before: {name}: {}, {}\n",
            end_in_words(second.end),
            report::count(paths, "path")
        )
    } else if first == second {
        format!("different: {name}\n")
    } else {
        let is_told = first.still_ran != second.still_ran;
        let words = |ending: &Ending| match ending.still_ran.filter(|_| is_told) {
            Some(true) => format!("still running when it was ended ({})", end_in_words(ending.end)),
            Some(false) => format!("{} by itself", end_in_words(ending.end)),
            None => end_in_words(ending.end),
        };
        format!("different: {name}: {}, was {}\n", words(second), words(first))
    };
    if let Some(trouble) = trouble {
        line.push_str(&format!("  {trouble}\n"));
    }
    if !done.is_as_before() && !last_words.is_empty() {
        line.push_str(&format!("  it said: {}\n", last_words.trim().escape_debug()));
    }
    line
}

/// `exit status 0`, `ended by SIGTERM`.
pub(in crate::command) fn end_in_words(end: End) -> String {
    match end {
        End::Exited(status) => format!("exit status {status}"),
        End::Signaled(signal) => {
            let known = nix::sys::signal::Signal::try_from(signal);
            format!("ended by {}", known.map_or(format!("signal {signal}"), |s| s.to_string()))
        }
    }
}

fn asked_by(finding: &Finding) -> String {
    match finding.process.0.as_slice() {
        b"" => String::new(),
        process => format!(" ({})", process.escape_ascii()),
    }
}

fn word(reason: &Reason) -> &'static str {
    match reason {
        Reason::Missing => "missing",
        Reason::Hidden => "hidden",
        Reason::ReadOnly => "read-only",
        Reason::Denied => "denied",
    }
}

/// What to do about a finding.
fn way_out(finding: &Finding) -> String {
    let path = finding.path.0.escape_ascii();
    match finding.reason {
        Reason::Missing if finding.is_lost => {
            "the original root does not have it either: restore it, or trace again".to_owned()
        }
        Reason::Missing => {
            "add its line to the spec and make the bundle anew; --fix does both".to_owned()
        }
        Reason::Hidden => {
            "a mount of config.json covers it: mount it elsewhere, or let the tmpfs copy what is \
             below (tmpcopyup)"
                .to_owned()
        }
        Reason::ReadOnly if finding.path.0 == b"/" => {
            "make the bundle with --writable: nothing can be mounted over the root itself"
                .to_owned()
        }
        Reason::ReadOnly => format!(
            "make the bundle with --tmpfs {path}, or --volume HOST:{path} if it is to be kept"
        ),
        Reason::Denied => {
            "compare owner, mode and user (`vzbuild run BUNDLE -- ls -ln` where there is ls), or \
             give the capability that it needs with --cap"
                .to_owned()
        }
    }
}

fn json(verdict: &Verdict) -> Value {
    let scenarios = verdict.scenarios.iter().map(|done| {
        json!({
            "command": done.name,
            "equal": done.is_as_before(),
            "first": done.first.end,
            "second": done.second.end,
            "stillRan": [done.first.still_ran, done.second.still_ran],
            "paths": done.paths,
            "trouble": done.trouble,
            "lastWords": done.last_words,
        })
    });
    let found = &verdict.comparison;
    let finding = |finding: &Finding| {
        json!({
            "path": finding.path,
            "reason": word(&finding.reason),
            "first": finding.first,
            "second": finding.second,
            "process": finding.process,
            "wayOut": verdict.way_out(finding),
        })
    };
    json!({
        "equal": verdict.is_equal(),
        "scenarios": scenarios.collect::<Vec<_>>(),
        "findings": found.findings.iter().map(finding).collect::<Vec<_>>(),
        "otherCourses": found.courses.iter().map(finding).collect::<Vec<_>>(),
        "notListening": found.ports,
        "onlySecondFound": found.found,
        "unproven": verdict.unproven,
        "warnings": found.warnings.iter().chain(&verdict.of_machine).collect::<Vec<_>>(),
    })
}
