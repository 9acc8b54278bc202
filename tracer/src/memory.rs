//! A tracee's memory, read through `/proc/TID/mem`.

use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::sys::{self, Tid};

/// Longest path that the kernel takes, with its NUL, in bytes (`PATH_MAX`).
const PATH_MAX: usize = 4096;
/// What is read at once: few paths are longer.
const CHUNK: usize = 256;

/// An address in the tracee's memory; never a pointer of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceeAddr(pub(crate) u64);

/// Why something could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The address is bad or the path too long: the call fails too.
    Bad,
    /// The kernel does not let this tracer read (a process that is not dumpable).
    Denied,
}

/// The memory of one program run: shared by its threads, new after an exec.
#[derive(Debug)]
pub(crate) struct Memory {
    file: OnceCell<Result<File, Option<i32>>>,
}

impl Memory {
    /// Memory that is opened at the first read.
    pub(crate) fn new() -> Self {
        Memory { file: OnceCell::new() }
    }

    /// Reads up to `into.len()` bytes at `address` on behalf of the stopped
    /// task `tid` and returns how many could be read.
    pub(crate) fn read(
        &self,
        tid: Tid,
        address: TraceeAddr,
        into: &mut [u8],
    ) -> Result<usize, Fault> {
        let open = || File::open(format!("/proc/{tid}/mem")).map_err(|e| e.raw_os_error());
        match self.file.get_or_init(open) {
            Ok(file) => match file.read_at(into, address.0) {
                Ok(0) | Err(_) => Err(Fault::Bad),
                Ok(count) => Ok(count),
            },
            Err(Some(libc::EACCES | libc::EPERM)) => Err(Fault::Denied),
            // Out of descriptors, or no /proc: word by word then.
            Err(_) => peek(tid, address, into),
        }
    }

    /// Reads exactly `into.len()` bytes.
    pub(crate) fn read_exact(
        &self,
        tid: Tid,
        address: TraceeAddr,
        into: &mut [u8],
    ) -> Result<(), Fault> {
        let count = self.read(tid, address, into)?;
        if count == into.len() { Ok(()) } else { Err(Fault::Bad) }
    }

    /// Reads a little-endian word of 4 or 8 bytes.
    pub(crate) fn read_word(&self, tid: Tid, at: TraceeAddr, size: usize) -> Result<u64, Fault> {
        let mut bytes = [0; 8];
        self.read_exact(tid, at, bytes.get_mut(..size).ok_or(Fault::Bad)?)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Reads the path at `address` into `path`, without its NUL.
    pub(crate) fn read_path(
        &self,
        tid: Tid,
        address: TraceeAddr,
        path: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        path.clear();
        let mut next = address.0;
        while path.len() < PATH_MAX {
            let mut chunk = [0; CHUNK];
            let count = self.read(tid, TraceeAddr(next), &mut chunk)?;
            let read = chunk.get(..count).unwrap_or_default();
            if let Some(end) = read.iter().position(|&byte| byte == 0) {
                path.extend_from_slice(&read[..end]);
                return if path.len() < PATH_MAX { Ok(()) } else { Err(Fault::Bad) };
            }
            path.extend_from_slice(read);
            next = next.wrapping_add(count as u64);
        }
        Err(Fault::Bad)
    }
}

fn peek(tid: Tid, address: TraceeAddr, into: &mut [u8]) -> Result<usize, Fault> {
    let mut count = 0;
    for part in into.chunks_mut(8) {
        let word: io::Result<u64> = sys::peek(tid, address.0.wrapping_add(count as u64));
        let Ok(word) = word else { break };
        part.copy_from_slice(&word.to_le_bytes()[..part.len()]);
        count += part.len();
    }
    if count == 0 { Err(Fault::Bad) } else { Ok(count) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This process reads itself: no ptrace is needed for that.
    fn own(bytes: &[u8]) -> Result<Vec<u8>, Fault> {
        let tid = std::process::id() as Tid;
        let mut path = Vec::new();
        let address = TraceeAddr(bytes.as_ptr() as u64);
        Memory::new().read_path(tid, address, &mut path).map(|()| path)
    }

    #[test]
    fn a_path_ends_at_its_nul() {
        assert_eq!(own(b"/etc/\xffpasswd\0rest"), Ok(b"/etc/\xffpasswd".to_vec()));
    }

    #[test]
    fn a_path_longer_than_a_chunk_is_read_whole() {
        let mut long = vec![b'x'; 4095];
        long.push(0);
        assert_eq!(own(&long).map(|p| p.len()), Ok(4095));
        long.insert(0, b'x');
        assert_eq!(own(&long), Err(Fault::Bad));
    }

    #[test]
    fn a_bad_address_is_a_fault() {
        let tid = std::process::id() as Tid;
        let mut path = Vec::new();
        assert_eq!(Memory::new().read_path(tid, TraceeAddr(8), &mut path), Err(Fault::Bad));
    }
}
