//! What tracing costs, beside strace: `cargo bench --bench overhead [-- ROUNDS [WORKLOAD…]]`
//!
//! Each workload runs untraced, under smith-strace, under `strace -f -e
//! trace=%file` and under the same with `--seccomp-bpf`, interleaved, all on one
//! CPU. Figures are CPU seconds (user + system) of the whole process tree, and
//! wall seconds; the table has medians of ROUNDS (5) rounds as ratios to the
//! untraced run. `added` is what smith-strace adds as a share of what `strace
//! --seccomp-bpf` adds, each the median of the differences to the untraced run
//! of the same round. Needs strace, perl, python3, node, java, gcc, make, git
//! and cargo; a workload whose program is absent is said and left out.

#![expect(clippy::print_stdout, reason = "the table is what it is for")]

#[path = "overhead/workloads.rs"]
mod workloads;

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::Pid;
use workloads::Workload;

/// The ways to run a workload, the untraced one first.
const MODES: [(&str, &[&str]); 4] = [
    ("untraced", &[]),
    ("smith-strace", &[env!("CARGO_BIN_EXE_smith-strace"), "-q", "-o", "SPEC", "--"]),
    ("strace %file", &["strace", "-f", "-o", "/dev/null", "-e", "trace=%file", "--"]),
    (
        "strace --seccomp-bpf",
        &["strace", "-f", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=%file", "--"],
    ),
];

#[derive(Clone, Copy, Debug)]
struct Cost {
    cpu: f64,
    wall: f64,
}

fn main() {
    // `cargo bench` adds `--bench`; `cargo test` must not start a benchmark.
    let mut args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let rounds = args.first().and_then(|a| a.parse().ok()).unwrap_or(5);
    if args.first().is_some_and(|a| a.parse::<usize>().is_ok()) {
        args.remove(0);
    }
    let mut one_cpu = CpuSet::new();
    one_cpu.set(0).expect("CPU 0 fits a CpuSet");
    sched_setaffinity(Pid::from_raw(0), &one_cpu).expect("a process may choose among its CPUs");
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("overhead");
    std::fs::create_dir_all(&dir).expect("the target directory is writable");

    println!(
        "{:<22} {:>9} {:>13} {:>13} {:>21} {:>7}",
        "workload", "untraced", "smith-strace", "strace %file", "strace --seccomp-bpf", "added"
    );
    println!(
        "{:<22} {:>9} {:>13} {:>13} {:>21} {:>7}",
        "", "cpu s", "cpu × (wall ×)", "cpu ×", "cpu × (wall ×)", ""
    );
    let mut shares = Vec::new();
    for workload in workloads::all(&dir) {
        if !args.is_empty() && !args.iter().any(|a| workload.name.contains(a.as_str())) {
            continue;
        }
        match measure(&workload, rounds, &dir) {
            Ok(costs) => shares.extend(print_row(&workload, &costs)),
            Err(why) => println!("{:<22} left out: {why}", workload.name),
        }
    }
    let log_sum: f64 = shares.iter().map(|s: &f64| s.ln()).sum();
    if !shares.is_empty() {
        println!("geometric mean of `added`: {:.3}", (log_sum / shares.len() as f64).exp());
    }
}

/// Prints medians; returns the share of strace's added time that ours adds.
fn print_row(workload: &Workload, costs: &[Vec<Cost>; 4]) -> Option<f64> {
    let [untraced, ours, file, bpf] = costs.each_ref().map(|costs| median(costs));
    let added = |traced: &[Cost]| -> Vec<f64> {
        costs[0].iter().zip(traced).map(|(untraced, traced)| traced.cpu - untraced.cpu).collect()
    };
    let (ours_added, bpf_added) = (sorted(added(&costs[1])), sorted(added(&costs[3])));
    let share = middle(&ours_added) / middle(&bpf_added);
    // Where even strace adds nothing in more than a quarter of the rounds, it is noise.
    let told = (bpf_added[bpf_added.len() / 4] > 0.0 && share > 0.0).then_some(share);
    println!(
        "{:<22} {:>9.3} {:>6.2} ({:>4.2}) {:>13.2} {:>14.2} ({:>4.2}) {:>7}",
        workload.name,
        untraced.cpu,
        ours.cpu / untraced.cpu,
        ours.wall / untraced.wall,
        file.cpu / untraced.cpu,
        bpf.cpu / untraced.cpu,
        bpf.wall / untraced.wall,
        told.map_or_else(|| "noise".to_owned(), |s| format!("{s:.2}")),
    );
    told
}

fn measure(workload: &Workload, rounds: usize, dir: &Path) -> Result<[Vec<Cost>; 4], String> {
    (workload.prepare)(dir)?;
    run(workload, MODES[0].1, dir)?; // warms the caches
    let mut costs: [Vec<Cost>; 4] = Default::default();
    for _ in 0..rounds {
        for (mode, costs) in MODES.iter().zip(&mut costs) {
            costs.push(run(workload, mode.1, dir)?);
        }
    }
    Ok(costs)
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

fn middle(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

fn median(costs: &[Cost]) -> Cost {
    Cost {
        cpu: middle(&sorted(costs.iter().map(|c| c.cpu).collect())),
        wall: middle(&sorted(costs.iter().map(|c| c.wall).collect())),
    }
}

fn run(workload: &Workload, tracer: &[&str], dir: &Path) -> Result<Cost, String> {
    (workload.reset)(dir)?;
    let spec = dir.join("spec").into_os_string();
    let mut words: Vec<OsString> = tracer
        .iter()
        .map(|word| if *word == "SPEC" { spec.clone() } else { OsString::from(word) })
        .collect();
    words.extend(workload.args.iter().map(OsString::from));
    let (cpu, start) = (children_cpu(), Instant::now());
    #[expect(clippy::disallowed_methods, reason = "a benchmark starts what it measures")]
    let status = Command::new(&words[0])
        .args(&words[1..])
        .current_dir(workload.cwd(dir))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|e| format!("{}: {e}", words[0].display()))?;
    let cost = Cost { wall: start.elapsed().as_secs_f64(), cpu: children_cpu() - cpu };
    if status.success() { Ok(cost) } else { Err(format!("{words:?}: {status}")) }
}

/// CPU seconds, user and system, of all children that have ended so far.
fn children_cpu() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("getrusage(2) of children");
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|t| t.tv_sec() as f64 + t.tv_usec() as f64 / 1e6)
        .sum()
}
