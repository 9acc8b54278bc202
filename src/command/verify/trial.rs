//! Scenarios run in the bundle, and what came of it.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::Context;
use bundler::Rootfs;
use tracer::Record;

use super::again::{self, Bundle, Scenario};
use super::compare::{self, Comparison, Ending};
use super::narrow::Narrowing;
use super::output::{self, Expected, last_line};
use super::places;
use crate::command::scenario::{self, Calls, Request};
use crate::command::source;
use crate::runner::around::{Around, Overlay};

/// A scenario that was run in the bundle.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) name: String,
    /// How it ended before.
    pub(super) first: Ending,
    pub(super) second: Ending,
    pub(super) time: Duration,
    /// How many paths it used.
    pub(super) paths: usize,
    /// Why it did not start, or its exercise failed.
    pub(super) trouble: Option<String>,
    /// The last line that it wrote to standard error.
    pub(super) last_words: String,
}

/// What came of all scenarios.
#[derive(Debug)]
pub(in crate::command) struct Verdict {
    pub(super) scenarios: Vec<Done>,
    pub(super) comparison: Comparison,
    /// What may be otherwise on another machine.
    pub(super) of_machine: Vec<String>,
    /// Whether it was an image that was run, and not a bundle.
    pub(super) is_image: bool,
    /// What the runs leave open.
    pub(super) unproven: Option<String>,
    /// What the second run showed.
    pub(super) second: Record,
}

impl Verdict {
    /// Whether the bundle did as the first run did.
    pub(in crate::command) fn is_equal(&self) -> bool {
        self.comparison.is_equal() && self.scenarios.iter().all(|done| done.trouble.is_none())
    }

    /// Whether there is nothing to mend.
    pub(in crate::command) fn is_settled(&self) -> bool {
        self.is_equal() && self.comparison.courses.is_empty()
    }
}

/// What is run and compared, time and again.
#[derive(Clone, Copy, Debug)]
pub(in crate::command) struct Trial<'a> {
    pub(in crate::command) bundle: &'a Bundle,
    /// Whether it is an image, unpacked.
    pub(in crate::command) is_image: bool,
    pub(in crate::command) scenarios: &'a [Scenario],
    /// What the first runs showed.
    pub(in crate::command) first: &'a Record,
    pub(in crate::command) original: Option<&'a Rootfs>,
    /// What each is to write, where that is compared too.
    pub(in crate::command) outputs: &'a [Expected],
    /// Where files of the runs go.
    pub(in crate::command) work: &'a Path,
    pub(in crate::command) stop: &'a AtomicBool,
}

impl Trial<'_> {
    /// Runs each scenario in the bundle cut down by `narrowing`, and compares.
    ///
    /// # Errors
    /// A container that cannot be made, a program that cannot be traced.
    pub(in crate::command) fn run(
        &self,
        narrowing: &Narrowing,
        calls: &Calls,
    ) -> anyhow::Result<Verdict> {
        let work = tempfile::Builder::new().prefix("trial-").tempdir_in(self.work)?;
        let mut second = Record::default();
        let mut done = Vec::new();
        for (index, (scenario, before)) in self.scenarios.iter().zip(&self.first.runs).enumerate() {
            let dir = work.path().join(index.to_string());
            fs::create_dir_all(dir.join("overlay"))?;
            let mut spec = scenario.spec.clone();
            narrowing.apply(&mut spec);
            let foreign = again::foreign(&spec);
            let around = Around {
                spec,
                overlay: Some(Overlay {
                    dir: dir.join("overlay"),
                    places: self.bundle.places.clone(),
                    replaced: self.bundle.replaced.clone(),
                }),
                join: None,
                stdout: dir.join("stdout"),
                stderr: dir.join("stderr"),
            };
            let (until, calls) = (scenario.until.clone(), calls.clone());
            let request = Request { around, until, foreign, calls };
            let begin = Instant::now();
            let report = scenario::perform(&request, &dir, self.stop)
                .with_context(|| format!("cannot run `{}` in it", scenario.name))?;
            let expected = self.outputs.get(index);
            let other_output = expected.map(|before| output::differs(before, &dir)).transpose()?;
            let other_output = other_output.flatten();
            let run = report.record.runs.first().cloned().unwrap_or_default();
            let ends = compare::endings(before, &run);
            done.push(Done {
                name: scenario.name.clone(),
                first: ends.0,
                second: ends.1,
                time: begin.elapsed(),
                paths: report.record.files.len(),
                trouble: report.not_started.or(report.exercise).or(other_output),
                last_words: last_line(&dir.join("stderr")).unwrap_or_default(),
            });
            second = second.unite(report.record);
        }
        let (bundle, first) = (self.bundle, self.first);
        let rootfs = bundle.dir.join("rootfs");
        let places = places::Roots::open(&rootfs, &bundle.spec, first, self.original)?;
        let comparison = compare::compare(first, &second, &places);
        let of_machine = source::only_seen_here(first, &second.host);
        let is_image = self.is_image;
        let unproven = bundle.unproven.clone();
        Ok(Verdict { scenarios: done, comparison, of_machine, is_image, unproven, second })
    }
}
