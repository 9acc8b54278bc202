//! The check itself: each kind of line that a tracee prints can fail.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::sandbox::require;
use crate::tracee::{Build, Outcome, Traced};

/// Whether the check refuses what the tracee said.
fn refuses(traced: &Traced, outcome: &Outcome) -> bool {
    catch_unwind(AssertUnwindSafe(|| traced.assert_seen(outcome))).is_err()
}

fn told(lie: &str) -> (Traced, Outcome) {
    let mut traced = Traced::prepare("lies", Build::Native);
    traced.env.push(("TRACEE_LIE", lie.to_owned()));
    let outcome = traced.run(&[]);
    (traced, outcome)
}

#[test]
fn the_truth_passes_and_every_lie_fails() {
    if !require("the check itself", Build::Native.needs()) {
        return;
    }
    let (traced, outcome) = told("");
    traced.assert_seen(&outcome);
    let lies = [
        "omit",
        "used untouched",
        "used nowhere",
        "mapped untouched",
        "absent read",
        "absent changed",
        "made read",
        "made nowhere",
        "changed read",
        "changed untouched",
        "deleted changed",
        "deleted nowhere",
        "pseudo read",
        "pseudo untouched",
        "unseen ptrace",
        "list listed",
        "write read",
        "execute read",
        "link read",
    ];
    for lie in lies {
        let (traced, outcome) = told(lie);
        assert!(refuses(&traced, &outcome), "`{lie}` passes");
    }
}

#[test]
fn an_original_that_is_not_the_original_fails() {
    if !require("the check of originals", Build::Native.needs()) {
        return;
    }
    for name in ["changed", "deleted"] {
        let (traced, outcome) = told("");
        let path = traced.dir.join(name);
        let kept = traced.sandbox.path("spec.originals").join(path.strip_prefix("/").unwrap());
        std::fs::write(&kept, "something else").unwrap();
        assert!(refuses(&traced, &outcome), "another original of {name} passes");
        std::fs::remove_file(&kept).unwrap();
        assert!(refuses(&traced, &outcome), "no original of {name} passes");
    }
}
