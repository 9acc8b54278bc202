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

/// Runs `vzbuild LINE` and sends SIGINT as soon as it has begun to write; it may be
/// done before that, so again until it was not.
fn interrupted(sandbox: &Sandbox, line: &str) {
    let before = names(sandbox);
    for _ in 0..20 {
        let mut command = sandbox.command("vzbuild");
        command.args(line.split_whitespace()).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        while child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(1));
            if names(sandbox).iter().any(|name| name.contains(".vz-")) {
                let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
                nix::sys::signal::kill(pid, nix::sys::signal::SIGINT).unwrap();
                break;
            }
        }
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            let result = sandbox.path(line.rsplit(' ').next().unwrap());
            std::fs::remove_file(&result).or_else(|_| std::fs::remove_dir_all(&result)).unwrap();
            continue;
        }
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(130), "{said}");
        assert!(said.contains("interrupted"), "{said}");
        assert_eq!(names(sandbox), before);
        return;
    }
    panic!("`{line}` was never caught at work");
}

#[test]
fn ctrl_c_leaves_nothing_behind() {
    let sandbox = Sandbox::new();
    let big = text(1_200_000, 1);
    sandbox.write("old/big", &big);
    sandbox.write("new/big", [&big[..], "a line"].concat());
    let files = "old/big new/big";
    for (format, pair) in [("vz", "old new"), ("vcdiff", "old new"), ("vz", files)] {
        let delta = format!("delta --format {format} --effort 1 {pair} -o update");
        vzbuild(&sandbox, &delta).success();
        let old = pair.split(' ').next().unwrap();
        interrupted(&sandbox, &format!("patch {old} update -o result"));
        if old == "old" {
            interrupted(&sandbox, &format!("patch {old} update -o result.tar"));
        }
    }
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
