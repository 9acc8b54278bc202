//! File systems that a node's store can lie on.

use std::fs;
use std::path::{Path, PathBuf};

use crate::sandbox::Sandbox;

/// What the store lies on.
#[derive(Clone, Copy)]
pub enum Ground {
    /// The machine's own disk.
    Plain,
    /// Memory, with room for so many bytes and inodes.
    Tmpfs { bytes: u64, inodes: u64 },
    /// ext4 with a journal on a loop device, whose power can be cut.
    Ext4,
}

/// A store on its ground; unmounted when it is dropped.
pub struct Mount {
    ground: Ground,
    pub store: PathBuf,
    image: PathBuf,
}

impl Mount {
    /// Makes the folder `store` of the sandbox. The receiver lies elsewhere, since one
    /// with debug information is larger than most of these file systems.
    pub fn new(sandbox: &Sandbox, ground: Ground) -> Self {
        let mount = Mount { ground, store: sandbox.path("store"), image: sandbox.path("image") };
        fs::create_dir(&mount.store).unwrap();
        let store = mount.store.as_os_str();
        match ground {
            Ground::Plain => {}
            Ground::Tmpfs { bytes, inodes } => {
                let options = format!("size={bytes},nr_inodes={inodes}");
                let args = ["-t", "tmpfs", "-o", &options, "none"].map(std::ffi::OsStr::new);
                sandbox.run("mount", args.into_iter().chain([store])).success();
            }
            Ground::Ext4 => {
                fs::File::create(&mount.image).unwrap().set_len(64 << 20).unwrap();
                let image = mount.image.as_os_str();
                sandbox.run("mkfs.ext4", ["-q".as_ref(), "-F".as_ref(), image]).success();
                mount.mount_image(sandbox);
            }
        }
        let _ = fs::create_dir(sandbox.path("bin"));
        std::os::unix::fs::symlink(sandbox.path("bin"), mount.store.join("bin")).unwrap();
        sandbox.run("sync", ["-f".as_ref(), store]).success();
        mount
    }

    fn mount_image(&self, sandbox: &Sandbox) {
        let args = ["-o".as_ref(), "loop".as_ref(), self.image.as_os_str(), self.store.as_os_str()];
        sandbox.run("mount", args).success();
    }

    /// The power goes: what the journal and the disk do not have yet is lost.
    pub fn cut_power(&self, sandbox: &Sandbox) {
        let args = ["-x", "-c", "shutdown"].map(std::ffi::OsStr::new);
        sandbox.run("xfs_io", args.into_iter().chain([self.store.as_os_str()])).success();
    }

    /// The node boots: the journal is replayed. Nothing may be at work on it any more.
    pub fn boot(&self, sandbox: &Sandbox) {
        let unmounted = || sandbox.run("umount", [&self.store]).output().status.success();
        assert!((0..100).any(|_| {
            let done = unmounted();
            if !done {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            done
        }));
        self.mount_image(sandbox);
    }

    /// Files that fill what is left, of bytes or of inodes.
    pub fn fill(&self, inodes: bool) -> Vec<PathBuf> {
        let mut made = Vec::new();
        for number in 0.. {
            let path = self.store.join(format!("filler.{number}"));
            let written = match inodes {
                true => fs::write(&path, ""),
                false => fs::write(&path, vec![1; 64 << 10]),
            };
            let full = written.is_err();
            if path.exists() {
                made.push(path);
            }
            if full {
                break;
            }
        }
        made
    }

    /// Whether this is its own file system.
    fn is_mounted(&self) -> bool {
        !matches!(self.ground, Ground::Plain)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.is_mounted() {
            unmount(&self.store);
        }
    }
}

fn unmount(path: &Path) {
    use nix::mount::{MntFlags, umount2};
    let _ = umount2(path, MntFlags::MNT_DETACH);
}
