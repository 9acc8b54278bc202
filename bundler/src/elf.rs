//! What an ELF file says about what it needs, read in bounded pieces.
//!
//! Only the headers, the dynamic section, its strings and the notes are read,
//! each by positioned reads with a limit, so that a file of any size, or one
//! made to mislead, costs little memory. Layouts and numbers: elf(5), the
//! System V gABI, and `elf.h` of glibc.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

mod dynamic;
mod notes;
mod sections;
mod symbols;

pub use notes::DlopenNote;
pub use sections::section;

/// Most bytes of program headers that Linux takes (`load_elf_phdrs`).
const MAX_HEADERS: usize = 64 * 1024;
/// Longest path with its NUL, in bytes (`PATH_MAX`): bounds each string.
const PATH_MAX: usize = 4096;

/// Something that can be read at any position: an open file, or bytes.
pub trait ReadAt {
    /// Reads at `offset` into `buffer`; returns the bytes read, 0 at the end.
    ///
    /// # Errors
    /// As `pread`.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(count)
    }
}

/// Width of addresses (`EI_CLASS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names of elf.h say it")]
pub enum Class {
    Elf32,
    Elf64,
}

/// What decides whether two ELF files fit into one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Abi {
    /// Width of addresses.
    pub class: Class,
    /// Processor (`e_machine`), such as 62 for x86-64.
    pub machine: u16,
    /// Whether the most significant byte comes first.
    pub big_endian: bool,
}

/// What an ELF file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elf {
    /// Processor, width and byte order.
    pub abi: Abi,
    /// Processor-specific flags (`e_flags`): on ARM the float ABI.
    pub flags: u32,
    /// PT_INTERP: the program that loads this one.
    pub interpreter: Option<Box<[u8]>>,
    /// Whether it has a dynamic section; a static program has none.
    pub dynamic: bool,
    /// DT_NEEDED, in order: libraries by name, or by path where there is a slash.
    pub needed: Vec<Box<[u8]>>,
    /// DT_FILTER and DT_AUXILIARY: libraries loaded to stand in for this one;
    /// of the second kind (`true`) it does without.
    pub filters: Vec<(Box<[u8]>, bool)>,
    /// DT_SONAME: the name that others need it by.
    pub soname: Option<Box<[u8]>>,
    /// DT_RPATH; nothing where there is a DT_RUNPATH, as the loader has it.
    pub rpath: Option<Box<[u8]>>,
    /// DT_RUNPATH.
    pub runpath: Option<Box<[u8]>>,
    /// DF_1_NODEFLIB: the default directories are not searched.
    pub no_default_dirs: bool,
    /// Libraries that it may load while running.
    pub dlopen: Vec<DlopenNote>,
    /// Whether there was a `.note.dlopen` that could not be read.
    pub bad_dlopen: bool,
    /// Lowest x86-64 level (1 to 4) that it says it needs.
    pub isa_level: Option<u8>,
    symbols: symbols::Table,
}

/// Why a file that begins as ELF could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ElfError {
    /// The file ends too early, or an offset points past its end.
    #[error("the file ends before its {0}")]
    Truncated(&'static str),
    /// Something is larger than any real file has it.
    #[error("its {0} is too large")]
    TooLarge(&'static str),
    /// A field has a value that no version of the format knows.
    #[error("its {0} is invalid")]
    Invalid(&'static str),
    /// The file could not be read.
    #[error("cannot read its {what}: {}", io::Error::from_raw_os_error(*errno))]
    Read {
        /// What was to be read.
        what: &'static str,
        /// The error's number, errno(3).
        errno: i32,
    },
}

impl Elf {
    /// Reads what `source` says of itself; nothing where it is no ELF file.
    ///
    /// # Errors
    /// Where it begins as an ELF file and does not go on as one.
    pub fn read<R: ReadAt + ?Sized>(source: &R) -> Result<Option<Elf>, ElfError> {
        let head = read_head(source)?;
        Elf::read_with_head(source, head)
    }

    /// As [`Elf::read`], with what [`read_head`] has read.
    pub(crate) fn read_with_head<R: ReadAt + ?Sized>(
        source: &R,
        head: Vec<u8>,
    ) -> Result<Option<Elf>, ElfError> {
        if !head.starts_with(b"\x7fELF") {
            return Ok(None);
        }
        let image = Image::new(source, head)?;
        image.describe().map(Some)
    }

    /// Whether it imports a function or variable of one of these names, each
    /// at most 63 bytes. Symbols that cannot be read count as no import.
    pub fn imports<R: ReadAt + ?Sized>(&self, source: &R, names: &[&str]) -> Vec<bool> {
        symbols::imports(&self.symbols, self.abi, source, names)
    }
}

/// A file with its head in memory and its segments known.
struct Image<'a, R: ?Sized> {
    source: &'a R,
    head: Vec<u8>,
    abi: Abi,
    flags: u32,
    segments: Vec<Segment>,
}

/// A program header.
#[derive(Clone, Copy, Debug)]
struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    size: u64,
    align: u64,
}

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;

impl<'a, R: ReadAt + ?Sized> Image<'a, R> {
    fn new(source: &'a R, head: Vec<u8>) -> Result<Self, ElfError> {
        let class = match head.get(4) {
            Some(1) => Class::Elf32,
            Some(2) => Class::Elf64,
            Some(_) => return Err(ElfError::Invalid("class")),
            None => return Err(ElfError::Truncated("header")),
        };
        let big_endian = match head.get(5) {
            Some(1) => false,
            Some(2) => true,
            Some(_) => return Err(ElfError::Invalid("byte order")),
            None => return Err(ElfError::Truncated("header")),
        };
        let mut abi = Abi { class, machine: 0, big_endian };
        let header = Fields { bytes: &head, abi, what: "header" };
        abi.machine = header.u16(18)?;
        let wide = class == Class::Elf64;
        let (table, flags, each, count) = if wide {
            (header.u64(32)?, header.u32(48)?, header.u16(54)?, header.u16(56)?)
        } else {
            (header.u32(28)?.into(), header.u32(36)?, header.u16(42)?, header.u16(44)?)
        };
        let mut image = Image { source, head, abi, flags, segments: Vec::new() };
        if count > 0 {
            image.segments = image.program_headers(table, each, count)?;
        }
        Ok(image)
    }

    fn program_headers(&self, at: u64, each: u16, count: u16) -> Result<Vec<Segment>, ElfError> {
        let what = "program headers";
        let size: u16 = if self.abi.class == Class::Elf64 { 56 } else { 32 };
        if each != size {
            return Err(ElfError::Invalid("program header size"));
        }
        let length = usize::from(size) * usize::from(count);
        if length > MAX_HEADERS {
            return Err(ElfError::TooLarge(what));
        }
        let table = self.bytes(at, length, what)?;
        table
            .chunks_exact(size.into())
            .map(|bytes| {
                let header = Fields { bytes, abi: self.abi, what };
                let word = |wide, narrow| header.word(wide, narrow);
                Ok(Segment {
                    kind: header.u32(0)?,
                    offset: word(8, 4)?,
                    address: word(16, 8)?,
                    size: word(32, 16)?,
                    align: word(48, 28)?,
                })
            })
            .collect()
    }

    fn describe(self) -> Result<Elf, ElfError> {
        let dynamic = dynamic::read(&self)?;
        let notes = notes::read(&self)?;
        Ok(Elf {
            abi: self.abi,
            flags: self.flags,
            interpreter: self.interpreter()?,
            dynamic: dynamic.present,
            needed: dynamic.needed,
            filters: dynamic.filters,
            soname: dynamic.soname,
            rpath: dynamic.rpath,
            runpath: dynamic.runpath,
            no_default_dirs: dynamic.no_default_dirs,
            dlopen: notes.dlopen,
            bad_dlopen: notes.bad_dlopen,
            isa_level: notes.isa_level,
            symbols: dynamic.symbols,
        })
    }

    fn interpreter(&self) -> Result<Option<Box<[u8]>>, ElfError> {
        let what = "interpreter";
        // A file of debugging symbols alone keeps the header, of no size.
        let is_interpreter = |s: &&Segment| s.kind == PT_INTERP && s.size > 0;
        let Some(segment) = self.segments.iter().find(is_interpreter) else {
            return Ok(None);
        };
        let length = usize::try_from(segment.size).unwrap_or(usize::MAX);
        if length > PATH_MAX {
            return Err(ElfError::TooLarge(what));
        }
        let bytes = self.bytes(segment.offset, length, what)?;
        match bytes.split(|&b| b == 0).next() {
            Some(path) if !path.is_empty() && path.len() < bytes.len() => Ok(Some(path.into())),
            _ => Err(ElfError::Invalid(what)),
        }
    }

    /// Where in the file the byte lies that is loaded at `address`, and how
    /// many bytes of its segment follow.
    fn offset_of(&self, address: u64) -> Option<(u64, u64)> {
        self.segments.iter().filter(|s| s.kind == PT_LOAD).find_map(|s| {
            let inside = address.checked_sub(s.address).filter(|&n| n < s.size)?;
            Some((s.offset.checked_add(inside)?, s.size - inside))
        })
    }

    /// Reads exactly `length` bytes; the caller has bounded it.
    fn bytes(&self, at: u64, length: usize, what: &'static str) -> Result<Vec<u8>, ElfError> {
        let known = usize::try_from(at).ok().and_then(|at| self.head.get(at..)?.get(..length));
        if let Some(known) = known {
            return Ok(known.to_vec());
        }
        let mut bytes = vec![0; length];
        match read_full(self.source, &mut bytes, at, what)? {
            n if n == length => Ok(bytes),
            _ => Err(ElfError::Truncated(what)),
        }
    }

    /// Reads the string at `at`, up to its NUL, of at most `limit` bytes.
    fn string(&self, at: u64, limit: u64, what: &'static str) -> Result<Box<[u8]>, ElfError> {
        let mut bytes = vec![0; PATH_MAX.min(usize::try_from(limit).unwrap_or(PATH_MAX))];
        let length = read_full(self.source, &mut bytes, at, what)?;
        bytes.truncate(length);
        match bytes.iter().position(|&b| b == 0) {
            Some(end) => Ok(bytes.get(..end).unwrap_or_default().into()),
            None if length < PATH_MAX => Err(ElfError::Truncated(what)),
            None => Err(ElfError::TooLarge(what)),
        }
    }
}

/// Reads the beginning of a file, in most cases all that is wanted of it.
pub(crate) fn read_head<R: ReadAt + ?Sized>(source: &R) -> Result<Vec<u8>, ElfError> {
    let mut head = vec![0; PATH_MAX];
    loop {
        // Of a regular file, less than was asked for means that it ends there.
        match source.read_at(&mut head, 0) {
            Ok(length) => {
                head.truncate(length);
                return Ok(head);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => {
                return Err(ElfError::Read {
                    what: "header",
                    errno: e.raw_os_error().unwrap_or(0),
                });
            }
        }
    }
}

/// Reads until `buffer` is full or the source ends; returns the bytes read.
fn read_full<R: ReadAt + ?Sized>(
    source: &R,
    buffer: &mut [u8],
    at: u64,
    what: &'static str,
) -> Result<usize, ElfError> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let Some(at) = at.checked_add(done as u64).filter(|&at| at <= i64::MAX as u64) else {
            return Err(ElfError::Truncated(what));
        };
        match source.read_at(rest, at) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(ElfError::Read { what, errno: e.raw_os_error().unwrap_or(0) }),
        }
    }
    Ok(done)
}

/// Numbers at offsets of some bytes, in an ABI's byte order.
#[derive(Clone, Copy)]
struct Fields<'a> {
    bytes: &'a [u8],
    abi: Abi,
    what: &'static str,
}

impl Fields<'_> {
    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], ElfError> {
        let found = self.bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
        let mut array = *found.ok_or(ElfError::Truncated(self.what))?;
        if self.abi.big_endian {
            array.reverse();
        }
        Ok(array)
    }

    fn u16(&self, at: usize) -> Result<u16, ElfError> {
        Ok(u16::from_le_bytes(self.array(at)?))
    }

    fn u32(&self, at: usize) -> Result<u32, ElfError> {
        Ok(u32::from_le_bytes(self.array(at)?))
    }

    fn u64(&self, at: usize) -> Result<u64, ElfError> {
        Ok(u64::from_le_bytes(self.array(at)?))
    }

    /// An address-wide number, at `wide` in a 64-bit file, else at `narrow`.
    fn word(&self, wide: usize, narrow: usize) -> Result<u64, ElfError> {
        match self.abi.class {
            Class::Elf64 => self.u64(wide),
            Class::Elf32 => Ok(self.u32(narrow)?.into()),
        }
    }
}

#[cfg(test)]
mod tests;
