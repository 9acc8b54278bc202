//! `vzbuild minify`: from an image to a bundle that is proven to do the same.

mod input;
mod output;
mod traced;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use bundler::staging::Staging;
use indicatif::HumanBytes;
use serde_json::json;
use tracer::Spec;

use self::input::{Input, Size};
use self::output::Output;
use self::traced::Traced;
use super::bundle::{self, Report};
use super::settings::unproven;
use super::verify::{
    self, Bundle, Expected, Narrowed, Narrowing, ROUNDS, Scenario, Trial, Verdict,
};
use crate::cli::build;
use crate::interrupt;
use crate::report::{self, Advice, Status};

/// Unpacks, traces, builds, verifies and mends; writes only what is proven.
///
/// # Errors
/// What is no image; a command that does not run in the image itself; what
/// cannot be written.
pub fn run(args: &build::Minify) -> anyhow::Result<ExitCode> {
    let stop = interrupt::flag()?;
    // Whatever is wrong with the place costs no run.
    let output = Output::begin(args)?;
    let work = private_directory(output.beside())?;
    let input = input::open(args, work.dir(), &stop)?;
    // An image is for others, who have what this user has not.
    let is_strict = matches!(output, Output::Image(_));
    let user = args.user.as_deref();
    let container = input.settings.container(user, &args.env, &input.rootfs)?;
    let left_open = |owners_are_lost| unproven(container.uid, container.gid, owners_are_lost);
    refuse_unproven(is_strict && left_open(false).is_some())?;
    let mut traced = traced::trace(args, &input, work.dir(), &stop)?;
    let bundle = work.dir().join("bundle");
    let mut tmpfs = args.tmpfs.clone();
    let mut round = 1;
    let (proof, verdict) = loop {
        build(args, &input, &traced, &bundle, &tmpfs, round)?;
        let unproven = left_open(input.lost_owners.are_in(&bundle.join("rootfs")));
        refuse_unproven(is_strict && unproven.is_some())?;
        let proof = Proof::of(args, &bundle, unproven, &traced)?;
        let trial = proof.trial(&input, &traced, work.dir(), &stop);
        let verdict = trial.run(&Narrowing::default(), &args.narrow.calls())?;
        if verdict.is_settled()
            || round == ROUNDS
            || !mend(&verdict, &mut traced, &mut tmpfs, round)
        {
            break (proof, verdict);
        }
        round += 1;
    };
    let trial = proof.trial(&input, &traced, work.dir(), &stop);
    let narrows = verdict.is_equal() && args.narrow.is_asked_for();
    let narrowed = narrows.then(|| verify::narrow(&trial, &verdict, &args.narrow)).transpose()?;
    let after = Size::of(&bundle.join("rootfs"))?;
    let is_proven = verdict.is_equal() && narrowed.as_ref().is_none_or(Narrowed::is_proven);
    if is_proven {
        narrowed.iter().try_for_each(|narrowed| narrowed.write(&bundle))?;
        output.hand_over(args, &input, work, &bundle, &stop)?;
    }
    say(args, &input, after, round, &Outcome { verdict, narrowed, is_proven })?;
    Ok(if is_proven { Status::Done } else { Status::No }.into())
}

/// Refuses to write an image whose user and owners nothing has shown to be right: an
/// ordinary user is root in a container, and all files are theirs.
fn refuse_unproven(is_unproven: bool) -> anyhow::Result<()> {
    if !is_unproven {
        return Ok(());
    }
    Err(anyhow::anyhow!(
        "the image has a user or owners of files other than root, which only root can have in a \
         container: nothing would be proven"
    ))
    .hint("be root; or write a bundle (-o DIR), which is yours to run")
}

/// What came of it.
struct Outcome {
    verdict: Verdict,
    narrowed: Option<Narrowed>,
    /// Whether the bundle is written.
    is_proven: bool,
}

/// What is run again in the bundle.
struct Proof {
    bundle: Bundle,
    scenarios: Vec<Scenario>,
    outputs: Vec<Expected>,
}

impl Proof {
    fn of(
        args: &build::Minify,
        bundle: &Path,
        unproven: Option<String>,
        traced: &Traced,
    ) -> anyhow::Result<Self> {
        let bundle = verify::open(bundle, unproven)?;
        let scenarios = bundle.runs_of(&traced.record)?;
        let outputs = traced.outputs.iter().filter(|_| args.same_output);
        let outputs = outputs.map(|dir| Expected::of_run(dir)).collect();
        Ok(Proof { bundle, scenarios, outputs })
    }

    fn trial<'a>(
        &'a self,
        input: &'a Input,
        traced: &'a Traced,
        work: &'a Path,
        stop: &'a AtomicBool,
    ) -> Trial<'a> {
        Trial {
            bundle: &self.bundle,
            is_image: false,
            scenarios: &self.scenarios,
            first: &traced.record,
            original: Some(&input.rootfs),
            outputs: &self.outputs,
            work,
            stop,
        }
    }
}

/// A directory beside the output, on whose file system all work is done. It goes when
/// it is dropped, and if not even that happens, with the next one.
fn private_directory(target: &Path) -> anyhow::Result<Staging> {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".work");
    verify::private_directory(&target.with_file_name(name))
}

fn build(
    args: &build::Minify,
    input: &Input,
    traced: &Traced,
    bundle: &Path,
    tmpfs: &[OsString],
    round: usize,
) -> anyhow::Result<()> {
    let spec = traced.write(bundle.with_file_name("spec"))?;
    let root = input.root.clone();
    // What the image itself lacks is no fault; the proof tells.
    let source = build::Source { specs: vec![spec], root, allow_missing: true, listed: false };
    let volumes = input.settings.volumes().filter(|path| path.starts_with('/'));
    let is_free = |path: &&str| {
        let given = args.volume.iter().chain(tmpfs);
        !given.map(|word| word.to_string_lossy()).any(|word| word.split(':').any(|w| w == *path))
    };
    let volumes = volumes.filter(is_free).map(OsString::from);
    let made = build::Bundle {
        // An ordinary user's run was root's, and the image still becomes its own user.
        program: build::Program { user: input.settings.user(args), ..Default::default() },
        tmpfs: tmpfs.iter().cloned().chain(volumes).collect(),
        volume: args.volume.clone(),
        cap: args.cap.clone(),
        writable: args.writable,
        no_sync: true,
        scanner_files: !args.no_scanner_files,
        ..build::Bundle::of(source, bundle)
    };
    bundle::make(&made, if round == 1 { Report::Warnings } else { Report::Quiet })
}

/// Adds what `verdict` names. Returns whether there was anything that this helps.
fn mend(verdict: &Verdict, traced: &mut Traced, tmpfs: &mut Vec<OsString>, round: usize) -> bool {
    let remedy = verdict.remedy(round);
    let is_new = remedy.paths.iter().any(|path| !traced.spec.contains(path))
        || remedy.writable.iter().any(|path| !tmpfs.contains(path));
    traced.spec.unite(remedy.paths.into_iter().collect::<Spec>());
    tmpfs.extend(remedy.writable);
    is_new
}

fn say(
    args: &build::Minify,
    input: &Input,
    after: Size,
    rounds: usize,
    outcome: &Outcome,
) -> anyhow::Result<()> {
    let Outcome { verdict, narrowed, is_proven } = outcome;
    let output = args.output.to_string_lossy().into_owned();
    if args.json {
        let size = |size: Size| json!({ "files": size.files, "bytes": size.bytes });
        let written = is_proven.then_some(&output);
        return report::json(&json!({
            "image": args.image.to_string_lossy(),
            "output": written,
            "before": size(input.size),
            "after": size(after),
            "rounds": rounds,
            "verdict": verdict.json(),
            "narrowed": narrowed.as_ref().map(Narrowed::json),
        }));
    }
    verdict.say_warnings();
    let mut text = verdict.text();
    text.extend(narrowed.as_ref().map(Narrowed::text));
    let (before, ratio) = (input.size, 100.0 * after.bytes as f64 / input.size.bytes.max(1) as f64);
    let sizes = format!(
        "{}, {}; the image has {}, {}: {ratio:.1} % of it",
        report::count(after.files, "file"),
        HumanBytes(after.bytes),
        report::count(before.files, "file"),
        HumanBytes(before.bytes)
    );
    let rights = narrowed.as_ref().filter(|_| *is_proven);
    let rights = rights.map(|narrowed| output::rights(&args.output, narrowed)).transpose()?;
    text.extend(rights.flatten());
    text.push_str(&match is_proven {
        true if output::is_image(&args.output) => format!("{output}: {sizes}\n"),
        true => format!("{output}: {sizes}; run it with `vzbuild run {output}`\n"),
        false => format!("nothing is written; it would have been {sizes}\n"),
    });
    report::data(text.as_bytes())
}
