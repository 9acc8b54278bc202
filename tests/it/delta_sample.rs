//! Deltas of the past, in testdata/delta, and the bytes that we write today.

use std::path::{Path, PathBuf};

use crate::sandbox::Sandbox;

const TARGET: &str = "7d5f98e481d2bf680441366e94e72e7ed8bb17780b1d021cecc7bfbbadd94bbe";

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/delta").join(name)
}

fn digest(path: PathBuf) -> String {
    delta::Digest::of(&std::fs::read(path).unwrap()).to_string()
}

fn patch(sandbox: &Sandbox, name: &str) {
    let (old, new) = (sample("old.tar"), sandbox.path("new.tar"));
    let mut command = sandbox.command("vzbuild");
    command.arg("patch").arg(old).arg(sample(name)).arg("-o").arg(new);
    crate::sandbox::Finished::of(&mut command).success();
}

#[test]
fn deltas_of_the_past_still_apply() {
    for name in ["1.vz", "1.vcdiff"] {
        let sandbox = Sandbox::new();
        patch(&sandbox, name);
        assert_eq!(digest(sandbox.path("new.tar")), TARGET, "{name} has to apply for ever");
    }
}

#[test]
fn equal_inputs_give_the_bytes_that_they_gave_before() {
    let sandbox = Sandbox::new();
    patch(&sandbox, "1.vz");
    for (format, name) in [("vz", "1.vz"), ("vcdiff", "1.vcdiff")] {
        let mut command = sandbox.command("vzbuild");
        command.args(["delta", "--format", format]).arg(sample("old.tar"));
        command.args(["new.tar", "-o", "delta"]);
        crate::sandbox::Finished::of(&mut command).success();
        assert_eq!(
            digest(sandbox.path("delta")),
            digest(sample(name)),
            "the encoder writes other bytes than when {name} was made: if it chooses \
             otherwise, add a sample beside the old ones and compare with that; if the \
             format changed, it needs a new version too"
        );
    }
}
