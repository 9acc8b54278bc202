//! A memory cgroup that sessions of a node run in, page cache counted.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use crate::sandbox::say;

pub struct MemoryGroup {
    dir: PathBuf,
    limit: &'static str,
}

impl MemoryGroup {
    /// Nothing where this machine lets nobody make one, which VZ_TEST_ALL forbids.
    pub fn new(test: &str) -> Option<Self> {
        let name = format!("vz-push-{}-{test}", std::process::id());
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let (dir, limit) = match v1.is_dir() {
            true => (v1.join(name), "memory.limit_in_bytes"),
            false => (Path::new("/sys/fs/cgroup").join(name), "memory.max"),
        };
        let made = fs::create_dir(&dir).is_ok() && dir.join(limit).exists();
        if !made {
            let _ = fs::remove_dir(&dir);
            assert!(std::env::var_os("VZ_TEST_ALL").is_none(), "{test} needs a memory cgroup");
            say(&format!("SKIPPED {test}: it needs a memory cgroup\n"));
            return None;
        }
        Some(MemoryGroup { dir, limit })
    }

    /// Sets how much memory there is.
    pub fn limit(&self, bytes: u64) {
        fs::write(self.dir.join(self.limit), bytes.to_string()).unwrap();
        // What is swapped out does not count.
        let _ = ["memory.swap.max", "memory.swappiness"].map(|f| fs::write(self.dir.join(f), "0"));
    }

    /// Has a program in the group take more than there is. The kernel kills the sessions
    /// first, whose `oom_score_adj` is the highest (proc(5)), and then that program.
    #[expect(clippy::disallowed_methods, reason = "it is to die, not to end")]
    pub fn overrun(&self) {
        let procs = self.dir.join("cgroup.procs");
        let script = "echo $$ >\"$0\" && exec tail /dev/zero";
        let status = Command::new("sh").args(["-c", script]).arg(procs).status().unwrap();
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "memory has an end");
    }

    /// A line of sshd's configuration that puts each session into the group.
    pub fn force_command(&self) -> String {
        let procs = self.dir.join("cgroup.procs");
        let procs = procs.display();
        let enter = format!("echo $$ >{procs} && echo 1000 >/proc/self/oom_score_adj");
        format!("ForceCommand {enter} && exec sh -c \"$SSH_ORIGINAL_COMMAND\"\n")
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.dir);
    }
}
