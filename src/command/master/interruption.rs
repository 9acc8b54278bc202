//! What a deployment or rollback says that is interrupted: each host has then what the node itself
//! makes of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::fleet::plan::Step;
use crate::interrupt;
use crate::push::outcome::short;
use crate::push::target::Node;
use crate::report;

/// How far one pod is on one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing was ordered.
    Waiting,
    /// The node was told to run the new revision, and did not answer yet.
    Trying,
    /// The new revision runs, and is confirmed.
    Done,
    /// The node went back, or refused, or could not be reached.
    Failed,
    /// The node was told to run the old revision again, since the new one failed elsewhere.
    TakingBack,
    /// The old revision runs again.
    TakenBack,
    /// The node was told to remove the pod.
    Removing,
    /// It is removed.
    Removed,
}

/// How far a deployment is.
#[derive(Debug, Default)]
struct Course {
    /// What is being done, as `while nodes were asked`.
    phase: String,
    /// By host and pod.
    pods: BTreeMap<(String, String), Way>,
}

/// A pod on its way from one revision to another.
#[derive(Debug)]
struct Way {
    stage: Stage,
    /// What was there before, and what is wished.
    from: String,
    to: String,
}

/// The course of a deployment, which the first SIGINT, SIGTERM or SIGHUP prints and ends;
/// a second one ends it at once.
#[derive(Debug)]
pub(super) struct Watched(Arc<Mutex<Course>>);

impl Watched {
    /// Begins to wait for signals.
    ///
    /// # Errors
    /// When that cannot be done.
    pub(super) fn start(phase: &str) -> anyhow::Result<Self> {
        let course = Course { phase: phase.to_owned(), ..Course::default() };
        let course = Arc::new(Mutex::new(course));
        let shared = Arc::clone(&course);
        // It makes a second one end the program.
        interrupt::flag().context("cannot wait for signals")?;
        let mut signals =
            Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot wait for signals")?;
        std::thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                // Kept, so that nothing goes on that is not told.
                let course = lock(&shared);
                report::end("vzmaster", course.text(), 128 + signal);
            }
        });
        Ok(Watched(course))
    }

    /// Says what is being done now, as `while nodes were asked`.
    pub(super) fn phase(&self, phase: &str) {
        phase.clone_into(&mut lock(&self.0).phase);
    }

    /// Says how far a step is.
    pub(super) fn set(&self, node: &Node, step: &Step, stage: Stage) {
        let id = |id: &Option<String>| id.as_deref().map_or("nothing", short).to_owned();
        self.note(node, &step.pod, Way { stage, from: id(&step.from), to: id(&step.to) });
    }

    /// Says how far a rollback is, of which only the node knows the revisions.
    pub(super) fn set_rollback(&self, node: &Node, pod: &str, stage: Stage) {
        let (from, to) = ("what ran".to_owned(), "the earlier revision".to_owned());
        self.note(node, pod, Way { stage, from, to });
    }

    fn note(&self, node: &Node, pod: &str, way: Way) {
        lock(&self.0).pods.insert((node.label.clone(), pod.to_owned()), way);
    }
}

fn lock(course: &Mutex<Course>) -> MutexGuard<'_, Course> {
    course.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Course {
    fn text(&self) -> String {
        let mut text = format!("interrupted {}", self.phase);
        let begun = self.pods.values().any(|way| way.stage != Stage::Waiting);
        if !begun {
            text.push_str(": no pod was changed");
            return text;
        }
        for ((host, pod), Way { stage, from, to }) in &self.pods {
            let line = match stage {
                Stage::Waiting if to == "nothing" => {
                    "was to be removed, and is there still: stopped, where another pod has its place".to_owned()
                }
                Stage::Waiting => format!("not begun: it has {from} still"),
                Stage::Trying => format!(
                    "{to} was being tried: the node goes back to {from} by itself, within a minute of having judged it"
                ),
                Stage::Done => format!("{to} runs"),
                Stage::Failed => format!("failed: it has {from}, as far as is known"),
                Stage::TakingBack => {
                    format!("was being taken back to {from}: it may have {to} still")
                }
                Stage::TakenBack => format!("taken back to {from}"),
                Stage::Removing => "was being removed: it may be there still".to_owned(),
                Stage::Removed => "removed".to_owned(),
            };
            text.push_str(&format!("\n  {host}: {pod}: {line}"));
        }
        text.push_str("\n  `vzmaster ps` and `vzmaster diff` say what is there");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_has_what_its_node_makes_of_it() {
        let mut course =
            Course { phase: "while web was being deployed".into(), ..Course::default() };
        let add = |course: &mut Course, host: &str, stage: Stage, from: &str| {
            let way = Way { stage, from: from.to_owned(), to: "new".to_owned() };
            course.pods.insert((host.to_owned(), "web".to_owned()), way);
        };
        add(&mut course, "b", Stage::Waiting, "old");
        add(&mut course, "c", Stage::Waiting, "nothing");
        let text = course.text();
        assert_eq!(text, "interrupted while web was being deployed: no pod was changed");
        add(&mut course, "a", Stage::Done, "old");
        add(&mut course, "b", Stage::Trying, "old");
        let expected = "\
interrupted while web was being deployed
  a: web: new runs
  b: web: new was being tried: the node goes back to old by itself, within a minute of having judged it
  c: web: not begun: it has nothing still
  `vzmaster ps` and `vzmaster diff` say what is there";
        assert_eq!(course.text(), expected);
    }
}
