//! Layers of images: any bytes are unpacked inside or refused.

use bundler::image::{UnpackOptions, Unpacker};
use bundler::tar_reader::TarReader;

/// Writes the right sum into every block that has the magic of a header, which a
/// fuzzer would hardly find by itself.
fn with_sums(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    for block in data.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    data
}

/// Content lies in the file that it belongs to, front to back.
pub fn tar(data: &[u8]) {
    let data = with_sums(data);
    let mut reader = TarReader::new(data.as_slice());
    let mut buffer = [0; 1000];
    while let Ok(Some(member)) = reader.next_member() {
        let mut end = 0;
        while let Ok(Some((offset, count))) = reader.content(&mut buffer) {
            assert!(offset >= end && offset + count as u64 <= member.size);
            end = offset + count as u64;
        }
    }
    assert!(reader.position() <= data.len() as u64);
}

/// Two layers, cut where the first byte says, one over the other: nothing is made
/// or changed beside their root, and what is there can be removed.
pub fn layer(data: &[u8]) {
    let Some((cut, data)) = data.split_first() else { return };
    let data = with_sums(data);
    let (one, two) = data.split_at((usize::from(*cut) * 512).min(data.len()));
    let shared = std::path::Path::new("/dev/shm");
    let parent = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
    let above = tempfile::tempdir_in(parent).expect("a temporary directory");
    let (root, outside) = (above.path().join("root"), above.path().join("outside"));
    std::fs::create_dir(&root).expect("the root");
    std::fs::write(&outside, "untouched").expect("a file");
    let options = UnpackOptions { max_bytes: Some(1 << 20), ..UnpackOptions::default() };
    let mut unpacker = Unpacker::new(&root, &options).expect("an empty directory");
    let done = unpacker.layer(one, "one").and_then(|()| unpacker.layer(two, "two"));
    if done.is_ok() {
        unpacker.finish().expect("what was made is there");
        // Closed directories are not for others to remove than root.
        let _ = std::fs::remove_dir_all(&root);
    } else {
        std::fs::remove_dir_all(&root).expect("it can be removed");
        std::fs::create_dir(&root).expect("the root");
    }
    assert_eq!(std::fs::read(&outside).expect("the file"), b"untouched");
    let names = std::fs::read_dir(above.path()).expect("the directory").count();
    assert!(names <= 2, "something was made outside");
}
