//! Applying a delta of a large file where memory is short.

use std::path::{Path, PathBuf};

use crate::sandbox::{Finished, Need, Sandbox, require};

/// A memory cgroup with a limit, page cache counted.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// Nothing where this machine lets nobody make one.
    fn new(limit: u64) -> Option<Self> {
        let name = format!("vz-test-{}", std::process::id());
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let (dir, file) = match v1.is_dir() {
            true => (v1.join(name), "memory.limit_in_bytes"),
            false => (Path::new("/sys/fs/cgroup").join(name), "memory.max"),
        };
        std::fs::create_dir(&dir).ok()?;
        let group = MemoryGroup(dir);
        std::fs::write(group.0.join(file), limit.to_string()).ok()?;
        Some(group)
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Writes a file of 130 MB and one with 20,000 small changes, two stretches swapped,
/// and 1 MB that is new.
fn write_pair(sandbox: &Sandbox) {
    let old = noise(130_000_000);
    sandbox.write("old", &old);
    let mut new = old;
    (0..new.len()).step_by(6500).for_each(|at| new[at] ^= 0x20);
    let (front, back) = new.split_at_mut(65_000_000);
    front[1_000_000..9_000_000].swap_with_slice(&mut back[1_000_000..9_000_000]);
    new.truncate(129_000_000);
    new.extend(noise(1_000_000).iter().rev());
    sandbox.write("new", &new);
}

fn in_64_mib(test: &str, format: &str, effort: &str) {
    if !require(test, &[Need::Root]) {
        return;
    }
    let sandbox = Sandbox::new();
    write_pair(&sandbox);
    let args = ["delta", "--format", format, "--effort", effort, "old", "new", "-o", "delta"];
    sandbox.run("vzbuild", args).success();
    let Some(group) = MemoryGroup::new(64 << 20) else {
        assert!(std::env::var_os("VZ_TEST_ALL").is_none(), "{test} needs a memory cgroup");
        return;
    };
    // Pages that are cached already would be charged to nobody.
    sandbox.run("dd", ["if=old", "iflag=nocache", "count=0", "status=none"]).success();
    let script = "echo $$ > \"$0/cgroup.procs\" && exec \"$@\"";
    let vzbuild = env!("CARGO_BIN_EXE_vzbuild");
    let mut command = sandbox.command("sh");
    command.args(["-c", script]).arg(&group.0);
    command.args([vzbuild, "patch", "old", "delta", "-o", "result"]);
    Finished::of(&mut command).success();
    let read = |name: &str| std::fs::read(sandbox.path(name)).unwrap();
    assert!(read("result") == read("new"));
}

#[test]
fn a_delta_of_130_mb_applies_in_64_mib() {
    in_64_mib("a_delta_of_130_mb_applies_in_64_mib", "vz", "1");
}

#[test]
fn a_vcdiff_of_130_mb_applies_in_64_mib() {
    in_64_mib("a_vcdiff_of_130_mb_applies_in_64_mib", "vcdiff", "1");
}
