//! What the new process is put into, beside a root directory: another user, a
//! container that the caller sets up.

use std::collections::BTreeSet;
use std::io;

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

/// Whom a program runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary group ids.
    pub groups: BTreeSet<u32>,
}

impl User {
    /// Makes this process one of that user's, for good.
    ///
    /// # Errors
    /// As setgroups(2), setresgid(2), setresuid(2).
    pub(crate) fn assume(&self) -> io::Result<()> {
        let groups: Vec<Gid> = self.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        setgroups(&groups)?;
        setresgid(gid, gid, gid)?;
        setresuid(uid, uid, uid)?;
        Ok(())
    }
}

/// A container that the caller sets up around the new process. Both steps run
/// in that process.
pub trait Surroundings {
    /// Enters it, mounts and all, before anything is traced. Returns what
    /// could not be made as asked for and does not stop the run.
    ///
    /// # Errors
    /// The step that failed, and why.
    fn enter(&self) -> Result<Vec<String>, (String, io::Error)>;

    /// Gives up what the program is not to have, when all else is done.
    ///
    /// # Errors
    /// The step that failed, and why.
    fn assume(&self) -> Result<(), (String, io::Error)>;
}
