//! Many tasks and many calls: nothing is lost, and the same run gives the same spec.

use crate::sandbox::{count, require};
use crate::tracee::{Build, Outcome, Traced};

/// Counts the log's lines about files below the prepared directory, each of
/// which must be JSON.
fn uses_logged(traced: &Traced) -> usize {
    let below = traced.dir.join("").display().to_string();
    let lines = traced.sandbox.lines("log");
    let lines = lines.iter().map(|line| {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"))
    });
    lines.filter(|value| value.to_string().contains(&below)).count()
}

fn traced_twice(name: &str, count: u32) -> (Traced, Outcome) {
    let mut traced = Traced::prepare(name, Build::Native);
    traced.env.push(("TRACEE_COUNT", count.to_string()));
    let first = traced.run(&["--log", "log"]);
    traced.assert_seen(&first);
    let second = traced.run(&[]);
    assert!(first.spec == second.spec, "two runs, two specs");
    (traced, first)
}

#[test]
fn no_open_of_16_threads_is_lost() {
    if require("16 threads", Build::Native.needs()) {
        let opens = count("opens of each of 16 threads", 100_000, 10_000);
        let (traced, _) = traced_twice("threads", opens);
        assert_eq!(uses_logged(&traced), 16 * opens as usize);
    }
}

#[test]
fn no_child_is_lost() {
    if require("many forks", Build::Native.needs()) {
        let forks = count("forks", 100_000, 3_000);
        let (traced, _) = traced_twice("forks", forks);
        assert_eq!(uses_logged(&traced), forks as usize);
    }
}
