//! Writes a layer: its tar in order, through the digest, and its tree.
//!
//! Workers take batches of entries, read each file once and write it into the
//! tree; what the tar has of it goes in chunks to one consumer, which takes the
//! batches in order, digests them and passes them on. Each worker may be a
//! fixed number of chunks ahead, so memory does not grow with the layer, and
//! the worker with the earliest batch never waits for another.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread;

use crate::copy::{Feed, copy_entry};
use crate::digest::{DiffId, DiffIdHasher, FileDigest};
use crate::layer::{Entry, Layer, Node};
use crate::path::RootPath;
use crate::rootfs::Rootfs;
use crate::tar_header;
use crate::tree::{Tree, Unkept};

/// Chunks that a worker may be ahead of the consumer; of 256 KiB each.
const AHEAD: usize = 6;
/// A batch ends after so many entries, or after [`BATCH_BYTES`].
const BATCH_ENTRIES: usize = 64;
/// Bytes of content after which a batch ends.
const BATCH_BYTES: u64 = 1 << 20;
/// More workers than this gain nothing: the digest is made by one.
const MAX_WORKERS: usize = 6;

/// Why a layer could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AssembleError {
    /// A file of the root could not be read.
    #[error("cannot read `{path}` in the root")]
    Read {
        /// The file.
        path: RootPath,
        /// What the system said.
        source: io::Error,
    },
    /// A file went away after the layer was planned.
    #[error("`{0}` vanished while the bundle was written")]
    Vanished(RootPath),
    /// A file is not as it was when the layer was planned.
    #[error("`{0}` changed while the bundle was written")]
    Changed(RootPath),
    /// A file of the bundle could not be written.
    #[error("cannot write `{path}` in the bundle")]
    Write {
        /// The file.
        path: RootPath,
        /// What the system said.
        source: io::Error,
    },
    /// The tar could not be written.
    #[error("cannot write the tar")]
    Tar(#[source] io::Error),
    /// A worker could not be started or ended early.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Digests of regular files by their paths; other names of a file have none.
pub type Digests = BTreeMap<RootPath, FileDigest>;

/// Where a layer goes beside its tree, and who watches.
#[derive(Default)]
pub struct Sinks<'a> {
    /// Takes the bytes of the tar.
    pub tar: Option<&'a mut dyn Write>,
    /// Takes the digests of all files, which are then made on the way.
    pub digests: Option<&'a Mutex<Digests>>,
    /// Called with the number of tar bytes that went by since the last call.
    pub progress: Option<&'a dyn Fn(u64)>,
    /// Ends the work with [`AssembleError::Interrupted`] once it is true.
    pub stop: Option<&'a AtomicBool>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembled {
    /// Digest of the layer's tar.
    pub diff_id: DiffId,
    /// Bytes of the layer's tar.
    pub tar_bytes: u64,
    /// What the tree lacks of the layer, since this user may not write it.
    pub unkept: Vec<Unkept>,
}

/// A piece of a batch on its way from a worker to the consumer.
pub(crate) enum Piece {
    /// Bytes of the tar.
    Data(Vec<u8>),
    /// The batch ends here.
    End,
    /// The batch failed here.
    Failed(AssembleError),
}

/// Writes `layer` of `rootfs` into the empty directory `tree`, where one is
/// given, and into `sinks`, and returns its digest.
///
/// # Errors
/// The first file, in order, that cannot be read or written or that changed;
/// the sinks then have part of the layer.
pub fn assemble(
    layer: &Layer,
    rootfs: &Rootfs,
    tree: Option<&Path>,
    mut sinks: Sinks<'_>,
) -> Result<Assembled, AssembleError> {
    let root_error = |source| AssembleError::Write { path: RootPath::root(), source };
    let tree = tree.map(Tree::new).transpose().map_err(root_error)?;
    if let Some(tree) = &tree {
        each(&layer.entries, |node| *node == Node::Directory, |entry| tree.make_directory(entry))?;
    }
    let batches = batches(&layer.entries);
    let count = thread::available_parallelism().map_or(2, usize::from).clamp(2, MAX_WORKERS);
    let halt = AtomicBool::new(false);
    let (turns_in, turns) = channel();
    let next = Mutex::new((batches.iter(), turns_in));

    let (diff_id, tar_bytes) = thread::scope(|scope| {
        let mut outlets = Vec::with_capacity(count);
        for number in 0..count {
            let (pieces_in, pieces) = sync_channel(AHEAD);
            let (spare_in, spare) = channel();
            outlets.push(Outlet { pieces, spare: spare_in });
            let (next, halt, tree) = (&next, &halt, tree.as_ref());
            let feed = Feed::new(pieces_in, spare, sinks.digests);
            let work = move || work(number, next, rootfs, tree, feed, halt);
            thread::Builder::new().spawn_scoped(scope, work).map_err(AssembleError::Thread)?;
        }
        let consumed = consume(batches.len(), &turns, &outlets, &mut sinks);
        halt.store(true, Ordering::Relaxed);
        // Workers that wait to pass on a chunk must not wait any longer.
        drop(outlets);
        consumed
    })?;

    let Some(tree) = tree else { return Ok(Assembled { diff_id, tar_bytes, unkept: vec![] }) };
    for entry in &layer.entries {
        if let Node::HardLink(target) = &entry.node {
            let write = |source| AssembleError::Write { path: entry.path.clone(), source };
            tree.make_hard_link(entry, target).map_err(write)?;
        }
    }
    tree.sort_directories();
    let deepest_first = layer.entries.iter().rev();
    each(deepest_first, |node| *node == Node::Directory, |entry| tree.finish_directory(entry))?;
    Ok(Assembled { diff_id, tar_bytes, unkept: tree.into_unkept() })
}

fn each<'a>(
    entries: impl IntoIterator<Item = &'a Entry>,
    which: impl Fn(&Node) -> bool,
    act: impl Fn(&Entry) -> io::Result<()>,
) -> Result<(), AssembleError> {
    for entry in entries.into_iter().filter(|entry| which(&entry.node)) {
        act(entry).map_err(|source| AssembleError::Write { path: entry.path.clone(), source })?;
    }
    Ok(())
}

/// Cuts the entries into runs for one worker each.
fn batches(entries: &[Entry]) -> Vec<&[Entry]> {
    let mut bytes = 0;
    let mut size = 0;
    entries
        .chunk_by(|entry, _| {
            bytes += entry.node.size();
            size += 1;
            let full = bytes >= BATCH_BYTES || size >= BATCH_ENTRIES;
            if full {
                (bytes, size) = (0, 0);
            }
            !full
        })
        .collect()
}

/// The consumer's ends of a worker's channels.
struct Outlet {
    pieces: Receiver<Piece>,
    /// Takes emptied chunks back.
    spare: Sender<Vec<u8>>,
}

type Batches<'a, 'b> = Mutex<(std::slice::Iter<'b, &'a [Entry]>, Sender<usize>)>;

fn work(
    number: usize,
    next: &Batches<'_, '_>,
    rootfs: &Rootfs,
    tree: Option<&Tree>,
    mut feed: Feed<'_>,
    halt: &AtomicBool,
) {
    loop {
        let batch = {
            let Ok(mut next) = next.lock() else { return };
            let Some(batch) = next.0.next() else { return };
            // Under the lock, so that turns come in the order of the batches.
            if halt.load(Ordering::Relaxed) || next.1.send(number).is_err() {
                return;
            }
            *batch
        };
        for entry in batch {
            if let Err(error) = copy_entry(entry, rootfs, tree, &mut feed) {
                feed.fail(error);
                return;
            }
        }
        if feed.end().is_err() {
            return;
        }
    }
}

fn consume(
    batches: usize,
    turns: &Receiver<usize>,
    outlets: &[Outlet],
    sinks: &mut Sinks<'_>,
) -> Result<(DiffId, u64), AssembleError> {
    let ended = || AssembleError::Thread(io::Error::other("a worker ended early"));
    let mut hasher = DiffIdHasher::default();
    let mut total = 0;
    let mut pass = |bytes: &[u8]| {
        if sinks.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            return Err(AssembleError::Interrupted);
        }
        hasher.update(bytes);
        total += bytes.len() as u64;
        if let Some(tar) = &mut sinks.tar {
            tar.write_all(bytes).map_err(AssembleError::Tar)?;
        }
        if let Some(progress) = sinks.progress {
            progress(bytes.len() as u64);
        }
        Ok(())
    };
    for _ in 0..batches {
        let worker = turns.recv().map_err(|_| ended())?;
        let outlet = outlets.get(worker).ok_or_else(ended)?;
        loop {
            match outlet.pieces.recv().map_err(|_| ended())? {
                Piece::Data(mut chunk) => {
                    pass(&chunk)?;
                    chunk.clear();
                    // The worker may be done and not want it back.
                    let _ = outlet.spare.send(chunk);
                }
                Piece::End => break,
                Piece::Failed(error) => return Err(error),
            }
        }
    }
    pass(&tar_header::END)?;
    if let Some(tar) = &mut sinks.tar {
        tar.flush().map_err(AssembleError::Tar)?;
    }
    Ok((hasher.finish(), total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Planner;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn path(text: &str) -> RootPath {
        RootPath::new(text.as_bytes()).unwrap()
    }

    fn plan(dir: &Path, paths: &[&str], latest: Option<i64>) -> (Rootfs, Layer) {
        let rootfs = Rootfs::open(dir).unwrap();
        let mut planner = Planner::new(&rootfs, latest);
        for text in paths {
            planner.add(&path(text)).unwrap();
        }
        let layer = planner.finish().unwrap();
        (rootfs, layer)
    }

    /// Writes the layer both ways and returns the tar.
    fn write(rootfs: &Rootfs, layer: &Layer, tree: &Path) -> (Vec<u8>, Assembled) {
        let mut tar = Vec::new();
        let sinks = Sinks { tar: Some(&mut tar), ..Sinks::default() };
        let done = assemble(layer, rootfs, Some(tree), sinks).unwrap();
        (tar, done)
    }

    #[test]
    fn the_digest_is_that_of_the_tar_whichever_sink_there_is() {
        let root = tempfile::tempdir().unwrap();
        let mut names = Vec::new();
        for number in 0..300 {
            // Sizes around a chunk, with every remainder of a block.
            fs::write(root.path().join(format!("f{number}")), vec![7; number * 1777]).unwrap();
            names.push(format!("/f{number}"));
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (rootfs, layer) = plan(root.path(), &names, None);
        let tree = tempfile::tempdir().unwrap();
        let (tar, done) = write(&rootfs, &layer, tree.path());
        let mut hasher = DiffIdHasher::default();
        hasher.update(&tar);
        assert_eq!(done.diff_id, hasher.finish());
        assert_eq!(done.tar_bytes, tar.len() as u64);
        assert_eq!(
            done.diff_id,
            assemble(&layer, &rootfs, None, Sinks::default()).unwrap().diff_id
        );

        let unpacked = tempfile::tempdir().unwrap();
        tar::Archive::new(tar.as_slice()).unpack(unpacked.path()).unwrap();
        for name in &names {
            let original = fs::read(root.path().join(&name[1..])).unwrap();
            assert!(fs::read(tree.path().join(&name[1..])).unwrap() == original, "{name}");
            assert!(fs::read(unpacked.path().join(&name[1..])).unwrap() == original, "{name}");
        }
    }

    #[test]
    fn every_file_has_the_digests_of_its_content() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("abc"), "abc").unwrap();
        fs::hard_link(root.path().join("abc"), root.path().join("other")).unwrap();
        fs::write(root.path().join("empty"), "").unwrap();
        // A hole, then as many bytes as a chunk has.
        let sparse = fs::File::create(root.path().join("sparse")).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&sparse, &[0; 256 << 10], 256 << 10).unwrap();
        fs::write(root.path().join("zeros"), [0; 512 << 10]).unwrap();
        let (rootfs, layer) =
            plan(root.path(), &["/abc", "/empty", "/other", "/sparse", "/zeros"], None);
        let digests = Mutex::default();
        let sinks = Sinks { digests: Some(&digests), ..Sinks::default() };
        assemble(&layer, &rootfs, None, sinks).unwrap();
        let digests = digests.into_inner().unwrap();
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let abc = digests[&path("/abc")];
        assert_eq!(hex(&abc.sha1), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert!(hex(&abc.sha256).starts_with("ba7816bf8f01cfea414140de5dae2223"));
        assert!(hex(&digests[&path("/empty")].sha1).starts_with("da39a3ee5e6b4b0d"));
        assert_eq!(digests[&path("/sparse")], digests[&path("/zeros")]);
        assert!(!digests.contains_key(&path("/other")));
    }

    #[test]
    fn links_modes_and_times_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir(at("closed")).unwrap();
        fs::write(at("closed/a"), "text").unwrap();
        fs::hard_link(at("closed/a"), at("b")).unwrap();
        symlink("/closed/a", at("l")).unwrap();
        fs::set_permissions(at("b"), PermissionsExt::from_mode(0o4710)).unwrap();
        fs::set_permissions(at("closed"), PermissionsExt::from_mode(0o1500)).unwrap();
        let (rootfs, layer) = plan(root.path(), &["/closed/a", "/b", "/l"], Some(1_000_000_000));
        let tree = tempfile::tempdir().unwrap();
        write(&rootfs, &layer, tree.path());
        let look = |name: &str| fs::symlink_metadata(tree.path().join(name)).unwrap();
        assert_eq!(look("b").mode() & 0o7777, 0o4710);
        assert_eq!(look("closed").mode() & 0o7777, 0o1500);
        assert_eq!(look("b").ino(), look("closed/a").ino());
        assert_eq!(
            (look("b").mtime(), look("closed").mtime(), look("l").mtime()),
            (1_000_000_000, 0, 0)
        );
        assert_eq!(fs::read_link(tree.path().join("l")).unwrap(), Path::new("/closed/a"));
        fs::set_permissions(at("closed"), PermissionsExt::from_mode(0o700)).unwrap();
        fs::set_permissions(tree.path().join("closed"), PermissionsExt::from_mode(0o700)).unwrap();
    }

    #[test]
    fn holes_stay_holes_in_the_tree_and_are_zeros_in_the_tar() {
        let root = tempfile::tempdir().unwrap();
        let sparse = fs::File::create(root.path().join("s")).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 5 << 20).unwrap();
        sparse.set_len(9 << 20).unwrap();
        let (rootfs, layer) = plan(root.path(), &["/s"], None);
        let tree = tempfile::tempdir().unwrap();
        let (tar, _) = write(&rootfs, &layer, tree.path());
        assert!(tar.len() > 9 << 20);
        let original = fs::read(root.path().join("s")).unwrap();
        assert!(fs::read(tree.path().join("s")).unwrap() == original);
        assert!(fs::metadata(tree.path().join("s")).unwrap().blocks() * 512 < 1 << 20);
    }

    #[test]
    fn a_file_that_changed_or_vanished_is_named() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a"), "text").unwrap();
        let (rootfs, layer) = plan(root.path(), &["/a"], None);
        fs::write(root.path().join("a"), "longer text").unwrap();
        let error = assemble(&layer, &rootfs, None, Sinks::default()).unwrap_err();
        assert_eq!(error.to_string(), "`/a` changed while the bundle was written");
        fs::remove_file(root.path().join("a")).unwrap();
        let error = assemble(&layer, &rootfs, None, Sinks::default()).unwrap_err();
        assert_eq!(error.to_string(), "`/a` vanished while the bundle was written");
    }

    #[test]
    fn a_sink_that_fails_or_a_wish_to_stop_ends_all_workers() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("big"), vec![1; 20 << 20]).unwrap();
        let (rootfs, layer) = plan(root.path(), &["/big"], None);
        let stop = AtomicBool::new(true);
        let sinks = Sinks { stop: Some(&stop), ..Sinks::default() };
        let ended = assemble(&layer, &rootfs, None, sinks);
        assert!(matches!(ended, Err(AssembleError::Interrupted)));
        let mut full = &mut [0_u8; 1000][..];
        let sinks = Sinks { tar: Some(&mut full), ..Sinks::default() };
        assert!(matches!(assemble(&layer, &rootfs, None, sinks), Err(AssembleError::Tar(_))));
    }

    #[test]
    fn a_parent_that_is_a_link_is_refused() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("d")).unwrap();
        fs::write(root.path().join("d/f"), "").unwrap();
        symlink("/d", root.path().join("l")).unwrap();
        let rootfs = Rootfs::open(root.path()).unwrap();
        let mut planner = Planner::new(&rootfs, None);
        let error = planner.add(&path("/l/f")).unwrap_err();
        assert_eq!(error.to_string(), "`/l` is no directory, and `/l/f` is to lie below it");
    }

    /// Guards the form of layers: nodes re-create the tar from its files and
    /// know it by this digest. Where it changes, every layer does: say so in
    /// the changelog.
    #[test]
    fn the_digest_of_a_layer_does_not_change() {
        let entry = |text: &str, node, mtime| Entry {
            path: path(text),
            mode: 0o755,
            uid: 1,
            gid: 2_500_000,
            mtime,
            node,
            found: false,
        };
        let entries = vec![
            entry("/", Node::Directory, 0),
            entry("/a", Node::Made(b"text".to_vec()), 1_600_000_000),
            entry("/b", Node::HardLink(path("/a")), 1_600_000_000),
            entry("/c", Node::Symlink(b"a".to_vec()), 0),
            entry(&format!("/{}", "d".repeat(200)), Node::CharDevice(1, 3), -1),
        ];
        let layer = Layer { entries, ..Layer::default() };
        let rootfs = Rootfs::open(Path::new("/")).unwrap();
        let done = assemble(&layer, &rootfs, None, Sinks::default()).unwrap();
        assert_eq!(
            done.diff_id.to_string(),
            "sha256:9e9d63f0060b2dc2ea75190ca6f863d8317ea129f14d24af2c59532ece15a3b9"
        );
    }
}
