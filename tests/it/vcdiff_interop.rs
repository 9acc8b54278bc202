//! The stock `xdelta3` command is the judge of our VCDIFF, both ways.

use crate::delta::{text, two_versions};
use crate::sandbox::{Need, Sandbox, require};

/// Bytes that do not compress.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let next = std::iter::from_fn(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Some(state.to_le_bytes()[3])
    });
    next.take(len).collect()
}

/// Ours applied by `xdelta3 -d`, and what `xdelta3 -e` writes applied by us.
#[track_caller]
fn check(name: &str, old: impl AsRef<[u8]>, new: impl AsRef<[u8]>) {
    if !require(name, &[Need::Program("xdelta3", "xdelta3")]) {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.write("old", &old);
    sandbox.write("new", &new);
    sandbox.run("vzbuild", ["delta", "--format", "vcdiff", "old", "new", "-o", "ours"]).success();
    sandbox.run("xdelta3", ["-d", "-s", "old", "ours", "back"]).success();
    let back = std::fs::read(sandbox.path("back")).unwrap();
    assert!(back == new.as_ref(), "xdelta3 makes something else of ours");

    for level in ["-1", "-9"] {
        let args = ["-e", level, "-S", "none", "-f", "-s", "old", "new", "theirs"];
        sandbox.run("xdelta3", args).success();
        sandbox.run("vzbuild", ["patch", "old", "theirs", "-o", "back"]).success();
        let back = std::fs::read(sandbox.path("back")).unwrap();
        assert!(back == new.as_ref(), "we make something else of theirs at {level}");
    }
}

#[test]
fn edited_text_and_its_like() {
    let old = text(20_000, 3);
    check("vcdiff of text", &old, old.replacen("77 ", "seventy-seven ", 50));
    check("vcdiff of equal files", &old, &old);
    check("vcdiff from nothing", "", &old);
    check("vcdiff to nothing", &old, "");
    check("vcdiff of nothing", "", "");
}

#[test]
fn bytes_that_do_not_compress() {
    let old = noise(3_000_000, 1);
    let mut new = old[1_000_000..].to_vec();
    new.extend(noise(100_000, 2));
    new.extend_from_slice(&old[..1_500_000]);
    check("vcdiff of moved blocks", &old, &new);
    check("vcdiff of strangers", &old[..300_000], noise(300_000, 9));
}

#[test]
fn runs_and_repetitions() {
    check("vcdiff of zeros", vec![0; 100_000], vec![0; 3_000_000]);
    check("vcdiff of repetitions", "abc", "abcabcabd".repeat(40_000));
}

#[test]
fn several_windows_and_a_source_that_is_shorter_or_longer() {
    let old = noise(11 << 20, 5);
    let mut new = old.clone();
    new.splice(9 << 20..(9 << 20) + 3, *b"between the windows");
    check("vcdiff of several windows", &old, &new);
    check("vcdiff of a longer source", &old, &new[3 << 20..]);
    check("vcdiff of a shorter source", &old[..1 << 20], &new[..9 << 20]);
}

#[test]
fn real_programs() {
    let read = |path: &str| std::fs::read(path).unwrap();
    let tool = read(env!("CARGO_BIN_EXE_smith-strace"));
    check("vcdiff of programs", read("/bin/sh"), read("/bin/ls"));
    let mut patched = tool.clone();
    (0..patched.len()).step_by(1237).for_each(|at| patched[at] = patched[at].wrapping_add(3));
    check("vcdiff of a program with many small changes", &tool, &patched);
}

#[test]
fn trees_go_as_their_layer_tars() {
    if !require("vcdiff of trees", &[Need::Program("xdelta3", "xdelta3")]) {
        return;
    }
    let sandbox = Sandbox::new();
    two_versions(&sandbox);
    // A delta from nothing gives the tars themselves.
    sandbox.write("nothing", "");
    for tree in ["old", "new"] {
        let tar = format!("{tree}.tar");
        let args = ["delta", "--format", "vcdiff", "nothing", tree, "-o", "all"];
        sandbox.run("vzbuild", args).success();
        sandbox.run("xdelta3", ["-d", "-s", "nothing", "all", &tar]).success();
    }
    sandbox.run("vzbuild", ["delta", "--format", "vcdiff", "old", "new", "-o", "ours"]).success();
    sandbox.run("xdelta3", ["-d", "-s", "old.tar", "ours", "back.tar"]).success();
    let read = |name: &str| std::fs::read(sandbox.path(name)).unwrap();
    assert!(read("back.tar") == read("new.tar"));
    let args = ["-e", "-S", "none", "-s", "old.tar", "new.tar", "theirs"];
    sandbox.run("xdelta3", args).success();
    sandbox.run("vzbuild", ["patch", "old", "theirs", "-o", "result.tar"]).success();
    assert!(read("result.tar") == read("new.tar"));
}

#[test]
fn secondary_compression_is_refused_by_name() {
    if !require("vcdiff with djw", &[Need::Program("xdelta3", "xdelta3")]) {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.write("old", "x");
    sandbox.write("new", text(5000, 1));
    for (compressor, name) in [("djw", "djw"), ("lzma", "lzma")] {
        let args = ["-e", "-S", compressor, "-f", "-s", "old", "new", "theirs"];
        sandbox.run("xdelta3", args).success();
        let refused = sandbox.run("vzbuild", ["patch", "old", "theirs", "-o", "back"]);
        refused.status(3).says(&format!("secondary compression with {name} is not supported"));
    }
}
