//! What a root file system has from the machine that it runs on.

use std::path::PathBuf;

use bundler::resolve::Resolver;
use bundler::{Kind, Rootfs};

use crate::cli::strace::Args;

/// Files that a container gets from what starts it (docker, podman).
pub(crate) const OF_THE_MACHINE: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

/// Those of them that the root of an isolated run lacks or has empty.
pub(super) fn stand_ins(args: &Args) -> Vec<PathBuf> {
    let Some(root) = args.root.as_ref().filter(|_| args.isolate) else { return Vec::new() };
    let Ok(rootfs) = Rootfs::open(root) else { return Vec::new() };
    let resolver = Resolver::new(&rootfs);
    let has = |path: &str| {
        let found = resolver.resolve(path.as_bytes());
        found.is_ok_and(|found| found.meta.kind == Kind::File && found.meta.size > 0)
    };
    OF_THE_MACHINE.into_iter().filter(|path| !has(path)).map(PathBuf::from).collect()
}
