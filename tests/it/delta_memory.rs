//! Applying a delta of a large file where memory is short.

use std::path::{Path, PathBuf};

use delta::{Digest, Effort, Kind, Manifest, Stream, Streams};
use vz::tree::Tree;

use crate::sandbox::{Finished, Need, Sandbox, require};

/// A memory cgroup with a limit, page cache counted.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// Nothing where this machine lets nobody make one.
    fn new(limit: u64) -> Option<Self> {
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("main").rsplit(':').next().unwrap_or_default();
        let name = format!("vz-test-{}-{test}", std::process::id());
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let (dir, file) = match v1.is_dir() {
            true => (v1.join(name), "memory.limit_in_bytes"),
            false => (Path::new("/sys/fs/cgroup").join(name), "memory.max"),
        };
        std::fs::create_dir(&dir).ok()?;
        let group = MemoryGroup(dir);
        std::fs::write(group.0.join(file), limit.to_string()).ok()?;
        Some(group)
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Writes a file of 130 MB and one with 20,000 small changes, two stretches swapped,
/// and 1 MB that is new.
fn write_pair(sandbox: &Sandbox) {
    let old = noise(130_000_000);
    sandbox.write("old", &old);
    let mut new = old;
    (0..new.len()).step_by(6500).for_each(|at| new[at] ^= 0x20);
    let (front, back) = new.split_at_mut(65_000_000);
    front[1_000_000..9_000_000].swap_with_slice(&mut back[1_000_000..9_000_000]);
    new.truncate(129_000_000);
    new.extend(noise(1_000_000).iter().rev());
    sandbox.write("new", &new);
}

/// Runs `vzbuild patch old delta -o OUTPUT` where memory is short, if it can be made so.
fn patch_in_64_mib(test: &str, sandbox: &Sandbox, output: &str) -> Option<Finished> {
    let Some(group) = MemoryGroup::new(64 << 20) else {
        assert!(std::env::var_os("VZ_TEST_ALL").is_none(), "{test} needs a memory cgroup");
        return None;
    };
    let script = "echo $$ > \"$0/cgroup.procs\" && exec \"$@\"";
    let vzbuild = env!("CARGO_BIN_EXE_vzbuild");
    let mut command = sandbox.command("sh");
    command.args(["-c", script]).arg(&group.0);
    command.args([vzbuild, "patch", "old", "delta", "-o", output]);
    Some(Finished::of(&mut command))
}

fn in_64_mib(test: &str, format: &str, effort: &str) {
    if !require(test, &[Need::Root]) {
        return;
    }
    let sandbox = Sandbox::new();
    write_pair(&sandbox);
    let args = ["delta", "--format", format, "--effort", effort, "old", "new", "-o", "delta"];
    sandbox.run("vzbuild", args).success();
    // Pages that are cached already would be charged to nobody.
    sandbox.run("dd", ["if=old", "iflag=nocache", "count=0", "status=none"]).success();
    let Some(patched) = patch_in_64_mib(test, &sandbox, "result") else { return };
    patched.success();
    let read = |name: &str| std::fs::read(sandbox.path(name)).unwrap();
    assert!(read("result") == read("new"));
}

#[test]
fn a_delta_of_130_mb_applies_in_64_mib() {
    in_64_mib("a_delta_of_130_mb_applies_in_64_mib", "vz", "1");
}

#[test]
fn a_vcdiff_of_130_mb_applies_in_64_mib() {
    in_64_mib("a_vcdiff_of_130_mb_applies_in_64_mib", "vcdiff", "1");
}

/// More records than any memory holds.
const LARGE: u64 = 1 << 40;

/// A container for the tree in `old`, promising what nobody has, of these streams.
fn container(base: &Manifest, block: &[u8]) -> Vec<u8> {
    let mut bytes = delta::container::MAGIC.to_vec();
    bytes.extend(base.digest().0);
    bytes.extend(Digest::of(b"anything").0);
    bytes.extend([0; 34]);
    bytes.extend(block);
    bytes
}

/// A directory `old` whose file `old/z` has `content`.
fn base(sandbox: &Sandbox, content: &[u8]) -> Manifest {
    sandbox.write("old/z", content);
    Tree::open(&sandbox.path("old")).unwrap().manifest().clone()
}

/// Records that keep all but the last entry of `base`, then have `count` new fifos in
/// its root; the caller goes on with `more` records.
fn fifos(base: &Manifest, count: u64, more: u64, streams: &mut Streams) {
    let manifest = Stream::Manifest;
    let before = base.entries().len() as u64 - 1;
    streams.put_u64(manifest, u64::from(before > 0) + count + more);
    if before > 0 {
        streams.put_byte(manifest, 0);
        streams.put_u64(manifest, before);
    }
    for n in 0..count {
        // New, of kind 4, with the mode and owner of the last: all zero.
        streams.put_byte(manifest, 3 | (4 | 1 << 3) << 2);
        let name = format!("f{n:08}");
        streams.put_u64(manifest, 0);
        streams.put_u64(manifest, name.len() as u64);
        streams.put(manifest, name.as_bytes());
    }
}

#[test]
fn records_that_would_take_all_memory_are_refused() {
    let test = "records_that_would_take_all_memory_are_refused";
    if !require(test, &[Need::Root]) {
        return;
    }
    let sandbox = Sandbox::new();
    let base = base(&sandbox, b"content");
    let mut streams = Streams::new();
    fifos(&base, 2_000_000, LARGE, &mut streams);
    let block = streams.finish(Effort::new(1)).unwrap();
    sandbox.write("delta", container(&base, &block));
    let Some(patched) = patch_in_64_mib(test, &sandbox, "result.tar") else { return };
    patched.status(3).says("records of").says("over the limit");
}

#[test]
fn decoders_that_would_take_all_memory_are_refused() {
    let test = "decoders_that_would_take_all_memory_are_refused";
    if !require(test, &[Need::Root]) {
        return;
    }
    let sandbox = Sandbox::new();
    let base = base(&sandbox, b"content");
    // Thirteen streams of LZMA with lc = 8 and lp = 4, which have 3 million
    // probabilities each.
    let mut block = 0x1FFF_u16.to_le_bytes().to_vec();
    for _ in 0..13 {
        block.extend([4 * 9 + 8, 100, 20, 12]);
    }
    block.extend([0; 13 * 20]);
    sandbox.write("delta", container(&base, &block));
    let Some(patched) = patch_in_64_mib(test, &sandbox, "result.tar") else { return };
    patched.status(3).says("properties of a stream");
}

/// An x86-64 library whose code is `calls` calls, and where that begins.
fn library(calls: usize) -> (Vec<u8>, usize) {
    const START: usize = 120;
    let mut bytes = vec![0; START];
    for n in 0..calls {
        // To somewhere within, each call elsewhere.
        let to = (n * 7919 % calls) as i64 - n as i64 - 1;
        bytes.push(0xE8);
        bytes.extend((to as i32 * 5).to_le_bytes());
    }
    let (code, len) = (calls * 5, bytes.len() as u64);
    bytes[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    for (at, value) in [(16, 3), (18, 62), (54, 56), (56, 1), (58, 64), (60, 2), (62, 0)] {
        bytes[at..at + 2].copy_from_slice(&u16::to_le_bytes(value));
    }
    let segment = [(64, 1), (96, len), (104, len)];
    for (at, value) in [(32, 64), (40, len)].into_iter().chain(segment) {
        bytes[at..at + 8].copy_from_slice(&u64::to_le_bytes(value));
    }
    // Section headers: none, and code (PROGBITS; ALLOC, EXECINSTR).
    bytes.extend([0; 64 + 4]);
    bytes.extend(1_u32.to_le_bytes());
    for value in [6, START as u64, START as u64, code as u64, 0, 16, 0] {
        bytes.extend(u64::to_le_bytes(value));
    }
    (bytes, START)
}

/// All that a delta can make a decoder hold: as many records as it may have, full
/// dictionaries, and a library of as many blocks as it may have, where each
/// reference is predicted wrongly.
#[test]
fn a_delta_that_fills_every_table_is_applied_in_64_mib() {
    const BLOCKS: usize = 1 << 19;
    let test = "a_delta_that_fills_every_table_is_applied_in_64_mib";
    if !require(test, &[Need::Root]) {
        return;
    }
    let sandbox = Sandbox::new();
    let (library, start) = library(BLOCKS);
    let base = base(&sandbox, &library);
    assert!(matches!(base.entries().last().unwrap().kind, Kind::File(_)));
    let mut streams = Streams::new();
    fifos(&base, 80_000, 2, &mut streams);
    let manifest = Stream::Manifest;
    // A new file, as it is, whose bytes fill a dictionary of 8 MiB.
    let plain = 9_u64 << 20;
    streams.put_byte(manifest, 3 | (1 << 3) << 2);
    for number in [0, 1] {
        streams.put_u64(manifest, number);
    }
    streams.put(manifest, b"g");
    streams.put_i64(manifest, 0);
    put_content(1, plain, &Digest::of(&vec![7; plain as usize]), &mut streams);
    streams.put(Stream::Extra, &vec![7; plain as usize]);
    // The library, changed: of its code alone.
    streams.put_byte(manifest, 2 | 16 << 2);
    for number in [0, 1] {
        streams.put_u64(manifest, number);
    }
    streams.put(manifest, b"z");
    put_content(3, 5 * BLOCKS as u64, &Digest::of(b"anything"), &mut streams);
    // Version, no segments, code as before.
    for number in [1, 0, 0, 0, BLOCKS as u64] {
        streams.put_u64(Stream::Header, number);
    }
    for n in 0..BLOCKS {
        streams.put_u64(Stream::Insert, 0);
        streams.put_u64(Stream::Copy, 5);
        streams.put_i64(Stream::Seek, if n == 0 { start as i64 } else { 0 });
        streams.put_u64(Stream::RefRun, 1);
        streams.put_i64(Stream::RefValue, 1);
    }
    streams.put_u64(Stream::RefRun, 0);
    streams.put_u64(Stream::AddRun, 0);
    let block = streams.finish(Effort::new(1)).unwrap();
    sandbox.write("delta", container(&base, &block));
    let Some(patched) = patch_in_64_mib(test, &sandbox, "result.tar") else { return };
    // It gets as far as the last check.
    patched.status(3).says("`z` came out wrong");
}

fn put_content(codec: u8, size: u64, digest: &Digest, streams: &mut Streams) {
    streams.put_byte(Stream::Manifest, codec);
    streams.put_u64(Stream::Manifest, size);
    streams.put_u64(Stream::Manifest, 0);
    streams.put(Stream::Manifest, &digest.0[..4]);
}
