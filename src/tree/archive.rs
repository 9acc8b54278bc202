//! Tars, read in place by position and written as deterministic layer tars.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufReader, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, bail};
use bundler::tar_header;
use delta::{Entry, FileInfo, Files, Kind, Manifest, ReadAt, Sink};
use tar::EntryType;

use super::directory::layer_entry;
use super::{FileAt, FileSink};

/// A tar that is read.
#[derive(Debug)]
pub struct Archive {
    file: FileAt,
    contents: BTreeMap<Vec<u8>, (u64, u64)>,
    manifest: Manifest,
}

/// Whether `file` starts as a tar does: `ustar` at 257 (POSIX.1-2017, pax, "ustar
/// Header Block"; GNU's differs only behind it).
pub(super) fn is_tar(file: &File) -> io::Result<bool> {
    let mut magic = [0; 5];
    match file.read_exact_at(&mut magic, 257) {
        Ok(()) => Ok(&magic == b"ustar"),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

impl Archive {
    /// Reads and digests the tar in `file`.
    ///
    /// # Errors
    /// What cannot be read; sparse members; members that make no tree.
    pub fn open(mut file: File) -> anyhow::Result<Self> {
        file.rewind()?;
        let content = FileAt::whole(file.try_clone()?)?;
        let mut contents = BTreeMap::new();
        let mut entries: BTreeMap<Vec<u8>, Entry> = BTreeMap::new();
        let mut links: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
        let mut tar = tar::Archive::new(BufReader::new(file));
        for member in tar.entries_with_seek()? {
            let mut member = member?;
            let kind = member.header().entry_type();
            if matches!(kind, EntryType::XGlobalHeader) {
                continue;
            }
            let (entry, linked) = describe(&mut member, &content)?;
            if let Kind::File(info) = &entry.kind {
                contents.insert(entry.path.clone(), (member.raw_file_position(), info.size));
            }
            match linked {
                Some(target) => links.entry(target).or_default().push(entry.path.clone()),
                None => drop(links.remove(&entry.path)),
            }
            if let Some(twice) = entries.insert(entry.path.clone(), entry) {
                bail!("`{}` comes twice in the tar", twice.path.escape_ascii());
            }
        }
        for (target, names) in links {
            link(&mut entries, &mut contents, target, names)?;
        }
        add_parents(&mut entries);
        let manifest = Manifest::new(entries.into_values().collect())?;
        Ok(Archive { file: content, contents, manifest })
    }

    /// What is in it.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The tar itself.
    pub fn content(&self) -> &FileAt {
        &self.file
    }
}

impl Files for Archive {
    fn open(&self, path: &[u8]) -> io::Result<Box<dyn ReadAt + '_>> {
        let (start, len) = self.contents.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(self.file.part(*start, *len)))
    }
}

type Member<'a> = tar::Entry<'a, BufReader<File>>;

/// The entry of a member; with the path that it is a hard link to, if it is one.
fn describe(member: &mut Member<'_>, tar: &FileAt) -> anyhow::Result<(Entry, Option<Vec<u8>>)> {
    let path = normal(&member.path_bytes());
    let cannot = || format!("cannot read `{}` in the tar", path.escape_ascii());
    let mut xattrs = Vec::new();
    let mut mtime = i64::try_from(member.header().mtime().with_context(cannot)?)?;
    for record in member.pax_extensions().with_context(cannot)?.into_iter().flatten() {
        let record = record.with_context(cannot)?;
        let (key, value) = (record.key_bytes(), record.value_bytes());
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            xattrs.push((name.to_vec(), value.to_vec()));
        } else if key == b"mtime" {
            mtime = seconds(value).with_context(cannot)?;
        } else if key.starts_with(b"GNU.sparse.") {
            bail!("`{}` in the tar is sparse, which is not read", path.escape_ascii());
        }
    }
    xattrs.sort();
    let header = member.header();
    let device = || -> io::Result<(u32, u32)> {
        Ok((header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0)))
    };
    let mut linked = None;
    let target = member.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
    let kind = match header.entry_type() {
        EntryType::Regular | EntryType::Continuous => {
            let part = tar.part(member.raw_file_position(), member.size());
            let (size, digest) = (member.size(), super::digest(&part).with_context(cannot)?);
            Kind::File(FileInfo { size, mtime, digest })
        }
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink(target),
        EntryType::Link => {
            linked = Some(normal(&target));
            Kind::HardLink(normal(&target))
        }
        EntryType::Fifo => Kind::Fifo,
        EntryType::Char => device().map(|(a, b)| Kind::CharDevice(a, b)).with_context(cannot)?,
        EntryType::Block => device().map(|(a, b)| Kind::BlockDevice(a, b)).with_context(cannot)?,
        other => bail!("`{}` in the tar is of the unknown type {other:?}", path.escape_ascii()),
    };
    let id = |id: io::Result<u64>| -> anyhow::Result<u32> { Ok(u32::try_from(id?)?) };
    let (uid, gid) = (id(member.header().uid())?, id(member.header().gid())?);
    let mode = member.header().mode().with_context(cannot)? & 0o7777;
    Ok((Entry { path, mode, uid, gid, kind, xattrs }, linked))
}

/// The whole seconds of a pax time, rounded down.
fn seconds(value: &[u8]) -> anyhow::Result<i64> {
    let text = std::str::from_utf8(value)?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let down = i64::from(whole.starts_with('-') && fraction.bytes().any(|b| b != b'0'));
    Ok(whole.parse::<i64>()? - down)
}

/// Members are `a`, `./a` or `a/`, as their writers like it.
fn normal(path: &[u8]) -> Vec<u8> {
    let parts = path.split(|&b| b == b'/').skip_while(|part| *part == b".");
    let mut path = parts.collect::<Vec<_>>().join(&b'/');
    while path.last() == Some(&b'/') {
        path.pop();
    }
    path
}

/// Makes the first name, in the order of trees, the file, and the others links to it.
fn link(
    entries: &mut BTreeMap<Vec<u8>, Entry>,
    contents: &mut BTreeMap<Vec<u8>, (u64, u64)>,
    target: Vec<u8>,
    mut names: Vec<Vec<u8>>,
) -> anyhow::Result<()> {
    let Some(file) = entries.get(&target).filter(|entry| entry.file().is_some()).cloned() else {
        bail!("a hard link in the tar names `{}`, which is no file of it", target.escape_ascii());
    };
    let content = contents.remove(&target).context("a file without content")?;
    names.push(target);
    names.sort_by(|a, b| a.split(|c| *c == b'/').cmp(b.split(|c| *c == b'/')));
    let first = names[0].clone();
    for name in names {
        let kind = if name == first { file.kind.clone() } else { Kind::HardLink(first.clone()) };
        // A name of a file has all the file's attributes, but a layer has none of a link.
        let xattrs = if name == first { file.xattrs.clone() } else { Vec::new() };
        let made = Entry { path: name.clone(), kind, xattrs, ..file.clone() };
        entries.insert(name, made);
    }
    contents.insert(first, content);
    Ok(())
}

/// Adds directories that the tar takes for granted.
fn add_parents(entries: &mut BTreeMap<Vec<u8>, Entry>) {
    let mut missing = BTreeSet::new();
    missing.insert(Vec::new());
    for path in entries.keys() {
        for (at, _) in path.iter().enumerate().filter(|(_, b)| **b == b'/') {
            missing.insert(path[..at].to_vec());
        }
    }
    for path in missing {
        let kind = Kind::Directory;
        let new = Entry { path, mode: 0o755, uid: 0, gid: 0, kind, xattrs: Vec::new() };
        entries.entry(new.path.clone()).or_insert(new);
    }
}

/// Writes a deterministic layer tar: the same bytes for the same tree, and the
/// same that the bundler writes for it.
#[derive(Debug)]
struct TarWriter<W> {
    out: W,
    padding: usize,
    /// The mtimes of files, which further names of them have too.
    mtimes: HashMap<Vec<u8>, i64>,
    /// Where the contents of files lie.
    starts: HashMap<Vec<u8>, (u64, u64)>,
}

impl<W: Write> TarWriter<W> {
    fn new(out: W) -> Self {
        TarWriter { out, padding: 0, mtimes: HashMap::new(), starts: HashMap::new() }
    }

    fn header(&mut self, entry: &Entry) -> io::Result<()> {
        let mut made = layer_entry(entry)?;
        match &entry.kind {
            Kind::HardLink(target) => made.mtime = self.mtimes.get(target).copied().unwrap_or(0),
            _ => drop(self.mtimes.insert(entry.path.clone(), made.mtime)),
        }
        let mut header = Vec::new();
        tar_header::write(&made, &entry.xattrs, &mut header);
        self.out.write_all(&header)?;
        self.padding = tar_header::padding(entry.file().map_or(0, |info| info.size));
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.out.write_all(&[0; tar_header::BLOCK][..self.padding])
    }
}

/// A layer tar that takes its name when it is whole.
#[derive(Debug)]
pub struct ArchiveSink(TarWriter<FileSink>);

impl ArchiveSink {
    /// Starts a tar beside `target`.
    ///
    /// # Errors
    /// When it cannot be made there.
    pub fn create(target: &Path) -> io::Result<Self> {
        Ok(ArchiveSink(TarWriter::new(FileSink::create(target).map_err(io::Error::other)?)))
    }
}

impl Sink for ArchiveSink {
    fn special(&mut self, entry: &Entry) -> io::Result<()> {
        self.0.header(entry)
    }

    fn again(&mut self, entry: &Entry, from: &Entry) -> io::Result<()> {
        let (start, len) = self.0.starts.get(&from.path).ok_or(io::ErrorKind::NotFound)?;
        let there = self.0.out.content()?.part(*start, *len);
        self.0.header(entry)?;
        super::each_chunk(&there, |chunk| self.0.out.write_all(chunk))?;
        self.0.end()
    }

    fn begin(&mut self, entry: &Entry) -> io::Result<()> {
        let len = entry.file().map_or(0, |info| info.size);
        self.0.header(entry)?;
        self.0.starts.insert(entry.path.clone(), (self.0.out.content()?.len(), len));
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.out.write_all(bytes)
    }

    fn end(&mut self, _: &Entry) -> io::Result<()> {
        self.0.end()
    }

    fn commit(&mut self) -> io::Result<()> {
        self.0.out.write_all(&tar_header::END)?;
        self.0.out.finish().map_err(io::Error::other)
    }
}

/// Compares what is written with a file.
struct Comparer<'a> {
    content: &'a FileAt,
    at: u64,
}

impl Write for Comparer<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut there = vec![0; buf.len()];
        self.content.read_exact_at(&mut there, self.at)?;
        self.at += buf.len() as u64;
        if there == buf { Ok(buf.len()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Archive {
    /// Whether writing its tree as a layer tar gives this very tar.
    pub fn is_deterministic(&self) -> bool {
        let mut writer = TarWriter::new(Comparer { content: &self.file, at: 0 });
        let mut write = || -> io::Result<()> {
            for entry in self.manifest.entries() {
                writer.header(entry)?;
                if entry.file().is_some() {
                    super::each_chunk(&*self.open_at(&entry.path)?, |chunk| {
                        writer.out.write_all(chunk)
                    })?;
                }
                writer.end()?;
            }
            writer.out.write_all(&tar_header::END)
        };
        write().is_ok() && writer.out.at == self.file.len()
    }

    fn open_at(&self, path: &[u8]) -> io::Result<Box<dyn ReadAt + '_>> {
        Files::open(self, path)
    }
}
