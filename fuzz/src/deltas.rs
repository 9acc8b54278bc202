//! The entry points of the fuzz targets of deltas. An input is a length in two
//! bytes (little-endian), so many bytes of the old file, and the rest.

use std::io;

use delta::{Digest, Effort, Entry, FileInfo, Files, Kind, Limits, Manifest, ReadAt, Sink};
use delta::{StreamReader, Streams, elf, split, vcdiff};

/// No target may come out longer.
const LIMIT: u64 = 1 << 20;

fn halves(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = data.split_first_chunk::<2>()?;
    Some(rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len())))
}

/// Any VCDIFF is decoded or refused, within the limit; what is encoded comes back.
pub fn vcdiff(data: &[u8]) {
    let Some((old, rest)) = halves(data) else { return };
    let limits = vcdiff::Limits { target: LIMIT, window: vcdiff::MAX_WINDOW };
    let mut out = Vec::new();
    let _ = vcdiff::decode(&mut &rest[..], &old, &mut out, limits);
    assert!(out.len() as u64 <= LIMIT);
    let made = vcdiff::encode(old, rest, Effort::new(1), b"");
    let mut back = Vec::new();
    vcdiff::decode(&mut &made[..], &old, &mut back, limits).expect("what was encoded");
    assert_eq!(back, rest);
}

/// Any block is decoded or refused; what is encoded comes back.
pub fn delta_split(data: &[u8]) {
    let Some((old, rest)) = halves(data) else { return };
    if let Ok(mut input) = StreamReader::open(&rest, 0, LIMIT) {
        let _ = split::decode(&old, 5000, &mut input, &mut Vec::new());
    }
    let mut streams = Streams::new();
    split::encode(old, rest, &mut streams, Effort::new(1));
    let block = streams.finish(Effort::new(1)).expect("memory");
    let mut input = StreamReader::open(&block, 0, u64::MAX >> 1).expect("what was encoded");
    let mut back = Vec::new();
    split::decode(&old, rest.len() as u64, &mut input, &mut back).expect("what was encoded");
    assert_eq!(back, rest);
}

/// Any file is scanned as an executable or left alone, and comes back; any block
/// is decoded against it or refused.
pub fn delta_elf(data: &[u8]) {
    let Some((old, rest)) = halves(data) else { return };
    if let Ok(mut input) = StreamReader::open(&rest, 0, LIMIT) {
        let _ = elf::decode(&old, 5000, &mut input, &mut Vec::new());
    }
    // Both are scanned, each as the old and as the new one.
    for (old, new) in [(old, rest), (rest, old), (old, old)] {
        let mut streams = Streams::new();
        if elf::encode(old, new, &mut streams, Effort::new(1)).is_none() {
            continue;
        }
        let block = streams.finish(Effort::new(1)).expect("memory");
        let mut input = StreamReader::open(&block, 0, u64::MAX >> 1).expect("what was encoded");
        let mut back = Vec::new();
        elf::decode(&old, new.len() as u64, &mut input, &mut back).expect("what was encoded");
        assert_eq!(back, new);
    }
}

/// The base that [`delta_container`] applies to.
pub struct Base(Manifest);

const FILES: [(&[u8], &[u8]); 3] =
    [(b"a", b"one line\nand another\nand a third one\n"), (b"d/b", b"twelve bytes"), (b"d/c", b"")];

impl Base {
    /// Its manifest and contents are always the same.
    pub fn new() -> Self {
        let entry = |path: &[u8], kind| {
            let path = path.to_vec();
            Entry { path, mode: 0o644, uid: 0, gid: 0, kind, xattrs: Vec::new() }
        };
        let mut entries = vec![entry(b"", Kind::Directory), entry(b"d", Kind::Directory)];
        for (path, content) in FILES {
            let (size, digest) = (content.len() as u64, Digest::of(content));
            entries.push(entry(path, Kind::File(FileInfo { size, mtime: 1, digest })));
        }
        Base(Manifest::new(entries).expect("a tree"))
    }

    /// What it is made of.
    pub fn manifest(&self) -> &Manifest {
        &self.0
    }
}

impl Files for Base {
    fn open(&self, path: &[u8]) -> io::Result<Box<dyn ReadAt + '_>> {
        let found = FILES.iter().find(|(name, _)| *name == path);
        let (_, content) = found.ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(*content))
    }
}

/// Counts what it gets, and sees that nothing leads out of the tree.
#[derive(Default)]
struct Counter {
    bytes: u64,
    commits: u64,
}

impl Counter {
    fn look(entry: &Entry) -> io::Result<()> {
        let bad = |name: &[u8]| matches!(name, b"." | b".." | b"");
        assert!(entry.path.is_empty() || !entry.path.split(|b| *b == b'/').any(bad));
        Ok(())
    }
}

impl Sink for Counter {
    fn special(&mut self, entry: &Entry) -> io::Result<()> {
        Self::look(entry)
    }

    fn again(&mut self, entry: &Entry, _: &Entry) -> io::Result<()> {
        Self::look(entry)
    }

    fn begin(&mut self, entry: &Entry) -> io::Result<()> {
        Self::look(entry)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        assert!(self.bytes <= LIMIT);
        Ok(())
    }

    fn end(&mut self, entry: &Entry) -> io::Result<()> {
        Self::look(entry)
    }

    fn commit(&mut self) -> io::Result<()> {
        self.commits += 1;
        Ok(())
    }
}

/// Bytes of a container before its streams.
const HEAD: usize = 106;

/// Any container is applied or refused, within the limits, and what was promised
/// is what came out. An odd first byte puts a head before the rest whose base is
/// the right one.
pub fn delta_container(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let base = Base::new();
    let mut whole = rest.to_vec();
    if first & 1 == 1 && whole.len() >= HEAD {
        whole[..8].copy_from_slice(b"VZDELTA1");
        whole[8..40].copy_from_slice(&base.0.digest().0);
    }
    let limits = Limits { target: LIMIT, records: LIMIT };
    let mut sink = Counter::default();
    let applied = delta::apply(&whole, &base.0, &base, &mut sink, limits);
    assert_eq!(sink.commits, u64::from(applied.is_ok()));
    if let Ok(target) = applied {
        assert_eq!(target.digest().0[..], whole[40..72]);
    }
    let _ = delta::inspect(&whole, limits);
}
