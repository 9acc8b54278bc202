//! Builds a target from a base and a delta, in one pass.

use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};

use crate::container::{HEADER_LEN, Header, HeaderError};
use crate::manifest::{Digest, Entry, FileInfo, Kind, Manifest};
use crate::plan::{How, Planned};
use crate::record::{Codec, Record};
use crate::tree::{Files, Limits, Sink, TreeError};
use crate::{Error, ReadAt, Stream, StreamReader, elf, plan, record, split, vcdiff};

/// Reads the head and the records of `delta`, which needs no base.
///
/// # Errors
/// Whatever of `delta` cannot be understood.
pub fn inspect(delta: &dyn ReadAt, limits: Limits) -> Result<(Header, Vec<Record>), TreeError> {
    let header = read_header(delta)?;
    let mut input = open_streams(delta)?;
    let mut reader =
        record::Reader::open(&mut input, limits.records).map_err(TreeError::Records)?;
    let mut records = Vec::with_capacity(reader.most());
    while let Some(record) = reader.next().map_err(TreeError::Records)? {
        records.push(record);
    }
    Ok((header, records))
}

/// Builds in `sink` what `delta` makes of `base`, and returns its manifest.
///
/// `base` is what the base is known to be, with digests of what `files` really has.
/// Content of the base is read by position. Everything is checked: each file as it
/// ends, the whole tree before [`Sink::commit`].
///
/// # Errors
/// Whatever is wrong with delta or base, and failed reads and writes; then
/// [`Sink::commit`] was not called or did not succeed.
pub fn apply(
    delta: &dyn ReadAt,
    base: &Manifest,
    files: &dyn Files,
    sink: &mut dyn Sink,
    limits: Limits,
) -> Result<Manifest, TreeError> {
    let header = read_header(delta)?;
    let nothing = Manifest::default();
    let base = if header.base == nothing.digest() { &nothing } else { base };
    if base.digest() != header.base {
        return Err(TreeError::Base { paths: header.locator.differing(base) });
    }
    let mut input = open_streams(delta)?;
    let mut records =
        record::Reader::open(&mut input, limits.records).map_err(TreeError::Records)?;
    let Planned { entries, ways } = plan::resolve(base, &mut records)?;
    let sizes = entries.iter().filter_map(Entry::file).map(|info| info.size);
    let size = sizes.fold(0, u64::saturating_add);
    if size > limits.target {
        return Err(TreeError::TooLarge { size, limit: limits.target });
    }
    // What the records say is seen to be a tree before anything is written.
    let mut target = Manifest::from_sorted(entries)?;

    let mut builder = Builder { base, files, sink, input };
    for (number, how) in ways.into_iter().enumerate() {
        let (built, rest) = target.entries_mut().split_at_mut(number);
        if let Some(entry) = rest.first_mut() {
            builder.build(entry, how, built)?;
        }
    }
    builder.finish(delta.len())?;
    let actual = target.digest();
    if actual != header.target {
        return Err(TreeError::Target { promised: header.target, actual });
    }
    sink.commit().map_err(TreeError::Commit)?;
    Ok(target)
}

fn read_header(delta: &dyn ReadAt) -> Result<Header, TreeError> {
    let mut bytes = [0; HEADER_LEN];
    let len = bytes.len().min(usize::try_from(delta.len()).unwrap_or(usize::MAX));
    let read = delta.read_exact_at(&mut bytes[..len], 0);
    read.map_err(|e| TreeError::Records(Error::ReadStreams(e)))?;
    Header::read(&bytes[..len]).map_err(|e| match e {
        HeaderError::Magic => TreeError::Magic,
        HeaderError::Version(found) => TreeError::Version(found),
        HeaderError::Truncated => TreeError::Truncated,
    })
}

fn open_streams(delta: &dyn ReadAt) -> Result<StreamReader<'_>, TreeError> {
    // Nothing is allocated for the streams' length, and what is read of them is
    // bounded by the records.
    let input = StreamReader::open(delta, HEADER_LEN as u64, u64::MAX >> 1);
    input.map_err(TreeError::Records)
}

struct Builder<'a> {
    base: &'a Manifest,
    files: &'a dyn Files,
    sink: &'a mut dyn Sink,
    input: StreamReader<'a>,
}

impl Builder<'_> {
    /// Makes one entry, after those that are `built`, and sets its digest.
    fn build(&mut self, entry: &mut Entry, how: How, built: &[Entry]) -> Result<(), TreeError> {
        let write = |path: &[u8]| {
            let path = path.to_vec();
            move |source| TreeError::Write { path, source }
        };
        match (how, entry.file().copied()) {
            (How::Keep(number), Some(info)) => {
                let from = &self.base.entries()[number];
                if !self.sink.keep(entry, from).map_err(write(&entry.path))? {
                    self.copy(entry, info, &from.path)?;
                    self.sink.end(entry).map_err(write(&entry.path))?;
                }
            }
            (How::Again(number), Some(info)) => {
                let from = built.get(number).and_then(|from| Some((from, from.file()?)));
                let (from, FileInfo { digest, .. }) =
                    from.ok_or_else(|| TreeError::Record { path: entry.path.clone() })?;
                entry.kind = Kind::File(FileInfo { digest: *digest, ..info });
                self.sink.again(entry, from).map_err(write(&entry.path))?;
            }
            (How::Travel { codec, base, check }, Some(info)) => {
                let digest = self.decode(entry, info.size, codec, base)?;
                if digest.0[..4] != check {
                    return Err(TreeError::Content { path: entry.path.clone() });
                }
                entry.kind = Kind::File(FileInfo { digest, ..info });
                self.sink.end(entry).map_err(write(&entry.path))?;
            }
            _ => self.sink.special(entry).map_err(write(&entry.path))?,
        }
        Ok(())
    }

    /// Copies what the base has at `from`, and checks it.
    fn copy(&mut self, entry: &Entry, info: FileInfo, from: &[u8]) -> Result<(), TreeError> {
        let read = |source| TreeError::Read { path: from.to_vec(), source };
        let write = |source| TreeError::Write { path: entry.path.clone(), source };
        let old = self.files.open(from).map_err(read)?;
        self.sink.begin(entry).map_err(write)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 128 << 10];
        let mut at = 0;
        loop {
            let n = old.read_at(&mut buffer, at).map_err(read)?;
            at += n as u64;
            let bytes = buffer.get(..n).unwrap_or_default();
            if bytes.is_empty() || at > info.size {
                break;
            }
            hasher.update(bytes);
            self.sink.write(bytes).map_err(write)?;
        }
        if at != info.size || Digest(hasher.finalize().into()) != info.digest {
            return Err(TreeError::Base { paths: vec![from.to_vec()] });
        }
        Ok(())
    }

    /// Decodes the next file of the streams into the sink; returns its digest.
    fn decode(
        &mut self,
        entry: &Entry,
        size: u64,
        codec: Codec,
        base: Option<usize>,
    ) -> Result<Digest, TreeError> {
        let path = &entry.path;
        let write = |source| TreeError::Write { path: path.clone(), source };
        self.sink.begin(entry).map_err(write)?;
        let old: Box<dyn ReadAt + '_> = match base {
            None => Box::new(Vec::new()),
            Some(number) => {
                let from = &self.base.entries()[number].path;
                let read = |source| TreeError::Read { path: from.clone(), source };
                self.files.open(from).map_err(read)?
            }
        };
        let mut out = Verifier { sink: self.sink, hasher: Sha256::new(), left: size };
        decode_content(codec, &*old, size, &mut self.input, &mut out).map_err(|e| e.of(path))?;
        match out.left {
            0 => Ok(Digest(out.hasher.finalize().into())),
            _ => Err(TreeError::Content { path: path.clone() }),
        }
    }

    /// Nothing of the streams may be left, and nothing behind them.
    fn finish(&mut self, len: u64) -> Result<(), TreeError> {
        if !self.input.is_finished().map_err(TreeError::Records)? {
            return Err(TreeError::Trailing);
        }
        if self.input.end() != len {
            return Err(TreeError::Trailing);
        }
        Ok(())
    }
}

/// What a codec can fail with, before it is known for which file.
#[derive(Debug)]
pub(crate) enum ContentError {
    Codec(Error),
    Vcdiff(vcdiff::VcdiffError),
}

impl ContentError {
    fn of(self, path: &[u8]) -> TreeError {
        let path = path.to_vec();
        match self {
            ContentError::Codec(source) => TreeError::Decode { path, source },
            ContentError::Vcdiff(source) => TreeError::Vcdiff { path, source },
        }
    }
}

/// Takes one file off the streams.
pub(crate) fn decode_content(
    codec: Codec,
    old: &dyn ReadAt,
    size: u64,
    input: &mut StreamReader<'_>,
    out: &mut dyn Write,
) -> Result<(), ContentError> {
    match codec {
        // A copy never gets here.
        Codec::Copy | Codec::Again | Codec::Full => {
            let whole = &mut Taken { input, stream: Stream::Extra, left: size };
            io::copy(whole, out).map(drop).map_err(|e| ContentError::Codec(Error::WriteNew(e)))
        }
        Codec::Split => split::decode(old, size, input, out).map_err(ContentError::Codec),
        Codec::Elf => elf::decode(old, size, input, out).map_err(ContentError::Codec),
        Codec::Vcdiff => {
            let left = input.u64(Stream::Literal).map_err(ContentError::Codec)?;
            let mut literal = Taken { input, stream: Stream::Literal, left };
            let limits = vcdiff::Limits { target: size, window: vcdiff::WINDOW as u64 };
            let decoded = vcdiff::decode(&mut literal, old, out, limits);
            match decoded.map_err(ContentError::Vcdiff)? {
                decoded if decoded.target_len == size && literal.left == 0 => Ok(()),
                _ => Err(ContentError::Codec(Error::Impossible(Stream::Literal))),
            }
        }
    }
}

/// So many bytes of a stream.
struct Taken<'r, 'a> {
    input: &'r mut StreamReader<'a>,
    stream: Stream,
    left: u64,
}

impl Read for Taken<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.input.take(self.stream, &mut buf[..n]).map_err(io::Error::other)?;
        self.left -= n as u64;
        Ok(n)
    }
}

/// Hashes what goes into the sink, and lets through no more than was declared.
struct Verifier<'a> {
    sink: &'a mut dyn Sink,
    hasher: Sha256,
    left: u64,
}

impl Write for Verifier<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_all(buf)?;
        Ok(buf.len())
    }

    fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
        let left = self.left.checked_sub(buf.len() as u64);
        self.left = left.ok_or_else(|| io::Error::other("it is longer than declared"))?;
        self.hasher.update(buf);
        self.sink.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
