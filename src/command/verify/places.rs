//! Where the paths of both runs are looked up: the bundle, and the root that it
//! was made from.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context;
use bundler::{Kind, RootPath, Rootfs};
use oci_spec::runtime::Spec;
use tracer::Record;

use super::compare::{Held, Places};
use crate::command::bundle::contents::{SECRECY, SECRET};

/// The bundle, and what of the original is known.
pub(super) struct Roots<'a> {
    rootfs: Rootfs,
    original: Option<&'a Rootfs>,
    sockets: BTreeSet<&'a [u8]>,
    /// Places of the bundle that are the host's.
    volumes: Vec<RootPath>,
}

impl<'a> Roots<'a> {
    /// Opens the bundle's root, which is made by `first`'s run of `original`.
    pub(super) fn open(
        rootfs: &Path,
        config: &Spec,
        first: &'a Record,
        original: Option<&'a Rootfs>,
    ) -> anyhow::Result<Self> {
        let rootfs =
            Rootfs::open(rootfs).with_context(|| format!("cannot open `{}`", rootfs.display()))?;
        let binds = config.mounts().iter().flatten().filter(|m| m.typ().as_deref() == Some("bind"));
        let volumes = binds
            .filter_map(|m| RootPath::new(m.destination().as_os_str().as_encoded_bytes()).ok());
        let sockets = first.sockets.iter().map(|path| path.0.as_slice()).collect();
        Ok(Roots { rootfs, original, sockets, volumes: volumes.collect() })
    }

    fn is_socket(&self, path: &RootPath) -> bool {
        let kind = self.original.and_then(|root| root.lstat(path).ok()).map(|meta| meta.kind);
        self.sockets.contains(path.as_bytes()) || kind == Some(Kind::Socket)
    }
}

impl Places for Roots<'_> {
    fn held(&self, path: &[u8]) -> Held {
        let Ok(path) = RootPath::new(path) else { return Held::Absent };
        match self.rootfs.lstat(&path) {
            Ok(_) => Held::There,
            Err(_) if SECRET.contains(&path.as_bytes()) => Held::LeftOut(SECRECY),
            Err(_) if self.is_socket(&path) => {
                Held::LeftOut("it is a socket, which its server makes anew")
            }
            Err(_) if self.volumes.iter().any(|volume| path.starts_with(volume)) => {
                Held::LeftOut("it lies on a volume")
            }
            Err(_) => Held::Absent,
        }
    }

    fn original(&self, path: &[u8]) -> Option<bool> {
        let path = RootPath::new(path).ok()?;
        self.original.map(|root| root.lstat(&path).is_ok())
    }
}
