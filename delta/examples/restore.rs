//! Encodes one pair into a file, or restores from one by positioned reads, which
//! shows what a decoder needs of memory.
//!
//! `restore encode OLD NEW BLOCK` writes 8 bytes of length, then the streams;
//! `restore decode OLD BLOCK NEW` restores.

use std::env;
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use delta::{Effort, ReadAt, StreamReader, Streams, elf};

/// A file, and its length when it was opened.
struct Old(File, u64);

impl ReadAt for Old {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(&self.0, buf, offset)
    }

    fn len(&self) -> u64 {
        self.1
    }
}

fn open(path: &Path) -> io::Result<Old> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    Ok(Old(file, len))
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let [mode, first, second, third] = arguments.as_slice() else {
        return Err("usage: restore encode OLD NEW BLOCK | restore decode OLD BLOCK NEW".into());
    };
    if mode == "encode" {
        let (old, new) = (fs::read(first)?, fs::read(second)?);
        let mut streams = Streams::new();
        elf::encode(&old, &new, &mut streams, Effort::default()).ok_or("not understood")?;
        let mut block = (new.len() as u64).to_le_bytes().to_vec();
        block.extend(streams.finish(Effort::default())?);
        return Ok(fs::write(third, block)?);
    }
    let (old, block) = (open(first.as_ref())?, open(second.as_ref())?);
    let mut len = [0; 8];
    block.read_exact_at(&mut len, 0)?;
    let len = u64::from_le_bytes(len);
    let mut input = StreamReader::open(&block, 8, 4 * len)?;
    let mut out = BufWriter::new(File::create(third)?);
    elf::decode(&old, len, &mut input, &mut out)?;
    Ok(out.flush()?)
}
