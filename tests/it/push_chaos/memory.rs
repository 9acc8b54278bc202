//! A memory cgroup that sessions of a node run in, page cache counted.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

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

    /// Sets how much memory there is from now on, or somewhat more: version 1 answers
    /// EBUSY as long as so little cannot be had.
    pub fn limit(&self, bytes: u64) {
        for more in 0..64 {
            let bytes = bytes + (more << 18);
            match fs::write(self.dir.join(self.limit), bytes.to_string()) {
                Err(e) if e.kind() == ErrorKind::ResourceBusy => {
                    thread::sleep(Duration::from_millis(20));
                }
                written => return written.unwrap(),
            }
        }
        panic!("the group's memory cannot be limited to {bytes} bytes");
    }

    /// A line of sshd's configuration that puts each session into the group.
    pub fn force_command(&self) -> String {
        let procs = self.dir.join("cgroup.procs");
        let procs = procs.display();
        format!("ForceCommand echo $$ >{procs} && exec sh -c \"$SSH_ORIGINAL_COMMAND\"\n")
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.dir);
    }
}
