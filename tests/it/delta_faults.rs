//! What is wrong with a delta or its base is said, and nothing is left behind.

use crate::delta::{text, two_versions};
use crate::sandbox::{Finished, Sandbox};

fn vzbuild(sandbox: &Sandbox, line: &str) -> Finished {
    sandbox.run("vzbuild", line.split_whitespace())
}

/// Names in the sandbox, hidden ones too.
fn names(sandbox: &Sandbox) -> Vec<String> {
    let entries = std::fs::read_dir(sandbox.path("")).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_base_that_was_touched_is_named_and_nothing_is_left() {
    let sandbox = Sandbox::new();
    two_versions(&sandbox);
    vzbuild(&sandbox, "delta old new -o update").success();
    let kept = sandbox.path("old/rootfs/etc/kept.conf");
    std::fs::write(&kept, text(500, 99)).unwrap();
    let before = names(&sandbox);
    vzbuild(&sandbox, "patch old update -o result").status(3).says(
        "the base is not the one that the delta was made from: `rootfs/etc/kept.conf` differs",
    );
    assert_eq!(names(&sandbox), before);
}

#[test]
fn an_old_result_stays_when_a_patch_fails() {
    let sandbox = Sandbox::new();
    sandbox.write("a", text(3000, 1));
    sandbox.write("b", text(3001, 1));
    sandbox.write("result", "as before");
    for format in ["vz", "vcdiff"] {
        vzbuild(&sandbox, &format!("delta --format {format} a b -o ab")).success();
        let whole = std::fs::read(sandbox.path("ab")).unwrap();
        for len in [0, 3, 8, 50, whole.len() / 2, whole.len() - 1] {
            sandbox.write("cut", &whole[..len]);
            vzbuild(&sandbox, "patch a cut -o result").status(3);
            assert_eq!(sandbox.lines("result"), ["as before"]);
        }
        sandbox.write("other", text(2999, 7));
        vzbuild(&sandbox, "patch other ab -o result").status(3);
        assert_eq!(sandbox.lines("result"), ["as before"]);
    }
    let hidden = |name: &String| name.starts_with('.');
    assert!(!names(&sandbox).iter().any(hidden), "{:?}", names(&sandbox));
}

#[test]
fn a_vcdiff_cut_between_windows_is_refused() {
    // The format does not tell where it ends: our application header does.
    let sandbox = Sandbox::new();
    let big = text(700_000, 1);
    assert!(big.len() > 8 << 20);
    sandbox.write("a", "nothing in common");
    sandbox.write("b", &big);
    vzbuild(&sandbox, "delta --format vcdiff --effort 1 a b -o ab").success();
    let whole = std::fs::read(sandbox.path("ab")).unwrap();
    let header = whole.iter().position(|b| *b == b' ').unwrap();
    // The first window starts behind the header: magic, indicator, length, text.
    let start = 6 + usize::from(whole[5]);
    assert!(header < start);
    let mut at = start + 1;
    let mut len = 0;
    loop {
        len = len << 7 | usize::from(whole[at] & 0x7f);
        at += 1;
        if whole[at - 1] & 0x80 == 0 {
            break;
        }
    }
    assert!(at + len < whole.len(), "there is but one window");
    sandbox.write("cut", &whole[..at + len]);
    vzbuild(&sandbox, "patch a cut -o result").status(3).says("damaged or incomplete");
    assert!(!sandbox.path("result").exists());
}

#[test]
fn what_is_no_delta_is_said_so() {
    let sandbox = Sandbox::new();
    sandbox.write("a", "old");
    sandbox.write("junk", "this is a letter and no delta");
    vzbuild(&sandbox, "patch a junk -o b").status(3).says("neither a delta of vzbuild nor VCDIFF");
    vzbuild(&sandbox, "delta --stat junk").status(3).says("it does not start with VZDELTA");
    sandbox.write("future", "VZDELTA2 and what we cannot know");
    vzbuild(&sandbox, "patch a future -o b").status(3).says("version `2`");
    vzbuild(&sandbox, "delta a").status(2);
}

#[test]
fn a_full_disk_leaves_what_was_there() {
    use crate::sandbox::{Need, require};
    if !require("a_full_disk", &[Need::Root]) {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.write("a", text(30_000, 1));
    sandbox.write("b", text(90_000, 5));
    vzbuild(&sandbox, "delta --effort 1 a b -o ab").success();
    std::fs::create_dir(sandbox.path("small")).unwrap();
    sandbox.run("mount", ["-t", "tmpfs", "-o", "size=512K", "vz-test", "small"]).success();
    sandbox.write("small/result", "as before");
    let patched = vzbuild(&sandbox, "patch a ab -o small/result");
    let left = names(&sandbox);
    let lines = sandbox.lines("small/result");
    sandbox.run("umount", ["small"]).success();
    patched.status(3).says("over the limit");
    assert_eq!(lines, ["as before"]);
    assert!(!left.iter().any(|name| name.starts_with('.')));
}
