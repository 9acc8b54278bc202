//! Sender and receiver meet in memory.

use std::fs;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

mod hostile;

use super::bundle::Bundle;
use super::cache::Cache;
use super::fanout::Deltas;
use super::frame::Type;
use super::link::Link;
use super::outcome::Outcome;
use super::plan::Mode;
use super::protocol::{Commit, Have, Hello, Offer, Reply, Task, VERSION};
use super::receiver::{self, Identity};
use super::sender::{self, Push};
use super::store::Store;

/// A node's store and a user's cache.
struct World {
    dir: tempfile::TempDir,
    store: Store,
    /// Bytes a second that the line is known to take.
    rate: Option<f64>,
}

fn identity() -> Identity {
    Identity { receiver: "r".into(), arch: "x86_64".into() }
}

fn link(stream: &UnixStream, output: impl Write + Send + 'static) -> Link {
    try_link(stream, output).unwrap()
}

fn try_link(
    stream: &UnixStream,
    output: impl Write + Send + 'static,
) -> Result<Link, super::link::LinkError> {
    let ours = stream.try_clone().unwrap();
    let hang_up = move || drop(ours.shutdown(Shutdown::Both));
    Link::start(stream.try_clone().unwrap(), output, Duration::from_secs(20), hang_up)
}

/// Breaks the connection after so many bytes.
struct Cut {
    stream: UnixStream,
    left: usize,
}

impl Write for Cut {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = buf.len().min(self.left);
        self.stream.write_all(&buf[..n])?;
        self.left -= n;
        if n < buf.len() {
            self.stream.shutdown(Shutdown::Both)?;
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn push_of<'a>(bundle: &'a Bundle, deltas: &'a Deltas<'a>, mode: Mode) -> Push<'a> {
    Push {
        bundle,
        name: "web",
        deltas,
        mode,
        rate: None,
        keep: 3,
        plan: false,
        receiver: "r",
        progress: &|_| (),
    }
}

impl World {
    fn new() -> Self {
        // In memory where that can be: these tests make thousands of files.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let store = Store::new(dir.path().join("store"));
        World { dir, store, rate: None }
    }

    /// Writes a bundle whose files have these contents.
    fn bundle(&self, name: &str, files: &[(&str, Vec<u8>)]) -> PathBuf {
        let dir = self.dir.path().join(name);
        for (path, content) in files {
            let path = dir.join("rootfs").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            let time = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
            file.set_modified(time).unwrap();
        }
        let config = r#"{"root":{"path":"rootfs","readonly":true}}"#;
        fs::write(dir.join("config.json"), config).unwrap();
        dir
    }

    fn push(&self, dir: &Path, mode: Mode) -> anyhow::Result<Outcome> {
        self.push_cut(dir, mode, usize::MAX)
    }

    /// Pushes over a connection that breaks after `limit` bytes from the sender.
    fn push_cut(&self, dir: &Path, mode: Mode, limit: usize) -> anyhow::Result<Outcome> {
        let bundle = Bundle::open(dir)?;
        let cache = Cache::new(self.dir.path().join("cache"));
        let deltas = Deltas::new(&bundle, &cache);
        let push = Push { rate: self.rate, ..push_of(&bundle, &deltas, mode) };
        let (near, far) = UnixStream::pair()?;
        let store = self.store.clone();
        let node = thread::spawn(move || {
            // The sender may be gone before this end is up.
            let Ok(mut link) = try_link(&far, far.try_clone().unwrap()) else { return };
            let _ = receiver::serve(&mut link, &store, &identity());
        });
        let result = {
            let output = Cut { stream: near.try_clone()?, left: limit };
            let mut link = link(&near, output);
            let started = Instant::now();
            link.say(&push.hello()).map_err(anyhow::Error::from).and_then(|()| {
                let mut outcome = push.run(&mut link, Duration::ZERO)?;
                sender::count(&mut outcome, &link, started);
                Ok(outcome)
            })
        };
        drop(near.shutdown(Shutdown::Both));
        node.join().expect("the receiver panicked");
        if result.is_ok() {
            cache.keep(&bundle.manifest, &bundle)?;
        }
        result
    }

    fn current(&self) -> Option<PathBuf> {
        let id = self.store.current("web")?;
        Some(self.store.revision("web", &id))
    }

    /// Plays a sender that says whatever it wants; returns the last replies.
    fn hostile(&self, act: impl FnOnce(&mut Link)) -> Vec<Reply> {
        let (near, far) = UnixStream::pair().unwrap();
        let store = self.store.clone();
        let node = thread::spawn(move || {
            let mut link = link(&far, far.try_clone().unwrap());
            let _ = receiver::serve(&mut link, &store, &identity());
            drop(far.shutdown(Shutdown::Write));
        });
        let mut link = link(&near, near.try_clone().unwrap());
        act(&mut link);
        let _ = near.shutdown(Shutdown::Write);
        let replies = std::iter::from_fn(|| link.hear().ok()).collect();
        node.join().expect("the receiver panicked");
        replies
    }
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let step = |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(step).collect()
}

fn assert_same(bundle: &Path, revision: &Path) {
    for entry in walkdir::WalkDir::new(bundle).min_depth(1) {
        let entry = entry.unwrap();
        let other = revision.join(entry.path().strip_prefix(bundle).unwrap());
        let (a, b) = (entry.metadata().unwrap(), fs::symlink_metadata(&other).unwrap());
        assert_eq!(a.file_type(), b.file_type(), "{}", other.display());
        if a.is_file() {
            assert!(fs::read(entry.path()).unwrap() == fs::read(&other).unwrap());
            assert!(entry.file_name() == "config.json" || a.mtime() == b.mtime());
        }
    }
}

#[test]
fn first_all_then_nothing_then_what_changed() {
    let world = World::new();
    let (big, text) = (noise(400_000, 7), b"listen 80\n".repeat(900));
    let old = world.bundle("old", &[("bin/app", big.clone()), ("etc/conf", text.clone())]);
    let first = world.push(&old, Mode::Auto).unwrap();
    assert_eq!(first.way, "files");
    assert_same(&old, &world.current().unwrap());

    let again = world.push(&old, Mode::Auto).unwrap();
    assert_eq!((again.way, again.payload), ("present", 0));
    assert!(again.sent < 300, "{}", again.sent);

    let mut edited = text;
    edited.extend_from_slice(b"listen 443\n");
    let new = world.bundle("new", &[("bin/app", big), ("etc/conf", edited)]);
    let update = world.push(&new, Mode::Always).unwrap();
    assert_eq!(update.way, "delta");
    assert!(update.payload < 400 && update.sent < update.payload + 1000, "{update:?}");
    let receipt = update.receipt.unwrap();
    assert_eq!(receipt.linked, 2, "{receipt:?}");
    let current = world.current().unwrap();
    assert_same(&new, &current);
    let before = world.store.revision("web", &receipt.previous.unwrap());
    let inode = |dir: &Path| fs::metadata(dir.join("rootfs/bin/app")).unwrap().ino();
    assert_eq!(inode(&before), inode(&current));
    assert_same(&old, &before);
}

/// What writes into its root would change the revision to go back to, too.
#[test]
fn revisions_that_are_written_to_share_no_file() {
    for (old_is, new_is) in [("readonly", "writable"), ("writable", "readonly")] {
        let world = World::new();
        let files = [("app", noise(50_000, 3))];
        let bundles = ["old", "new"].map(|name| world.bundle(name, &files));
        for (dir, is) in bundles.iter().zip([old_is, new_is]) {
            if is == "writable" {
                fs::write(dir.join("config.json"), r#"{"root":{"path":"rootfs"}}"#).unwrap();
            }
        }
        world.push(&bundles[0], Mode::Auto).unwrap();
        let before = world.current().unwrap();
        for mode in [Mode::Always, Mode::Never] {
            let outcome = world.push(&bundles[1], mode).unwrap();
            // No byte of it travels again.
            assert!(outcome.payload < 1000, "{outcome:?}");
            let at = |dir: &Path| fs::metadata(dir.join("rootfs/app")).unwrap().ino();
            assert_ne!(at(&before), at(&world.current().unwrap()), "{old_is}, {new_is}");
            fs::remove_dir_all(world.store.revision("web", &outcome.target)).unwrap();
        }
    }
}

#[test]
fn over_a_fast_line_a_large_program_goes_whole() {
    let mut world = World::new();
    let mut program = noise(14 << 20, 1);
    let old = world.bundle("old", &[("app", program.clone())]);
    program[9] ^= 1;
    let new = world.bundle("new", &[("app", program)]);
    world.push(&old, Mode::Auto).unwrap();
    world.rate = Some(100e6);
    assert_eq!(world.push(&new, Mode::Auto).unwrap().way, "files");
    let id = world.store.current("web").unwrap();
    fs::remove_dir_all(world.store.revision("web", &id)).unwrap();
    // Who asks for a delta waits for it.
    assert_eq!(world.push(&new, Mode::Smaller).unwrap().way, "delta");
}

#[test]
fn a_file_with_another_mode_is_no_link_into_the_old_revision() {
    let world = World::new();
    let old = world.bundle("old", &[("app", noise(50_000, 3))]);
    world.push(&old, Mode::Auto).unwrap();
    let before = world.current().unwrap();
    for mode in [Mode::Always, Mode::Never] {
        let new = world.bundle(&format!("new-{mode:?}"), &[("app", noise(50_000, 3))]);
        let bits = if mode == Mode::Always { 0o755 } else { 0o711 };
        fs::set_permissions(new.join("rootfs/app"), fs::Permissions::from_mode(bits)).unwrap();
        let outcome = world.push(&new, mode).unwrap();
        assert!(outcome.payload < 1000, "{outcome:?}");
        let at = |dir: &Path| fs::metadata(dir.join("rootfs/app")).unwrap();
        let current = world.current().unwrap();
        assert_eq!(at(&current).mode() & 0o7777, bits);
        assert_ne!(at(&before).ino(), at(&current).ino());
    }
    assert_eq!(fs::metadata(before.join("rootfs/app")).unwrap().mode() & 0o111, 0);
}

/// Broken off at any byte, the node is as before, and the next push sends the rest.
#[test]
fn a_push_that_breaks_is_taken_up_again() {
    let world = World::new();
    let content =
        |seed| [("a", noise(300_000, seed)), ("b", noise(200_000, seed + 1)), ("c", noise(9, 5))];
    let bundles = [world.bundle("1", &content(1)), world.bundle("2", &content(50))];
    let mut whole = Vec::new();
    for mode in [Mode::Never, Mode::Auto] {
        let fresh = World::new();
        whole.push(fresh.push(&bundles[0], mode).unwrap().sent as usize);
    }
    let mut before = None;
    for (bundle, mode) in bundles.iter().zip([Mode::Never, Mode::Auto]) {
        let mut sent = 0;
        for limit in [8, 20, 100, 300, 5000, 120_000, 120_100, 150_000] {
            assert!(world.push_cut(bundle, mode, limit).is_err(), "{limit}");
            assert_eq!(world.current(), before, "{limit}");
            sent += limit;
        }
        let rest = world.push(bundle, mode).unwrap();
        // What was lost each time is less than two pieces.
        assert!(
            (rest.sent as usize) < whole[0].saturating_sub(100_000),
            "{} of {}",
            rest.sent,
            whole[0]
        );
        assert!(sent > 0);
        let current = world.current();
        assert_same(bundle, current.as_ref().unwrap());
        assert!(current != before);
        assert_eq!(fs::read_dir(world.store.root().join("incoming")).unwrap().count(), 0);
        before = current;
    }
}

#[test]
fn a_delta_that_breaks_is_taken_up_where_it_broke() {
    let world = World::new();
    let old = world.bundle("old", &[("a", noise(500_000, 1))]);
    world.push(&old, Mode::Auto).unwrap();
    let before = world.current();
    let new = world.bundle("new", &[("a", noise(500_000, 1)), ("b", noise(400_000, 2))]);
    assert!(world.push_cut(&new, Mode::Always, 250_000).is_err());
    assert_eq!(world.current(), before);
    let rest = world.push(&new, Mode::Always).unwrap();
    assert_eq!(rest.way, "delta");
    assert!(rest.payload < 200_000, "{rest:?}");
    assert_same(&new, &world.current().unwrap());
}

#[test]
fn a_damaged_base_is_seen_and_only_what_is_damaged_goes_whole() {
    let world = World::new();
    let old = world.bundle("old", &[("a", noise(100_000, 1)), ("b", noise(300_000, 2))]);
    world.push(&old, Mode::Auto).unwrap();
    let file = world.current().unwrap().join("rootfs/a");
    let mut bytes = fs::read(&file).unwrap();
    bytes[5000] ^= 1;
    fs::write(&file, bytes).unwrap();
    let new =
        world.bundle("new", &[("a", noise(100_000, 1)), ("b", noise(300_000, 2)), ("c", vec![1])]);
    let outcome = world.push(&new, Mode::Always).unwrap();
    assert_eq!(outcome.damaged, 1);
    assert!((100_000..110_000).contains(&outcome.payload), "{outcome:?}");
    assert_same(&new, &world.current().unwrap());
}

#[test]
fn a_damaged_revision_that_is_pushed_again_is_mended() {
    let world = World::new();
    let dir = world.bundle("b", &[("a", noise(100_000, 1)), ("b", noise(300_000, 2))]);
    world.push(&dir, Mode::Auto).unwrap();
    let revision = world.current().unwrap();
    fs::remove_file(revision.join("rootfs/a")).unwrap();
    fs::write(revision.join("rootfs/extra"), "x").unwrap();
    let outcome = world.push(&dir, Mode::Auto).unwrap();
    assert_eq!(outcome.damaged, 1);
    assert_same(&dir, &world.current().unwrap());
    assert!(!world.current().unwrap().join("rootfs/extra").exists());
}

#[test]
fn two_contents_in_one_place_are_two_files() {
    let world = World::new();
    let dir = world.bundle("b", &[("a", noise(10, 1)), ("b", noise(10, 1)), ("empty", vec![])]);
    world.push(&dir, Mode::Never).unwrap();
    let inode = |name: &str| {
        fs::metadata(world.current().unwrap().join("rootfs").join(name)).unwrap().ino()
    };
    assert_ne!(inode("a"), inode("b"));
    assert_same(&dir, &world.current().unwrap());
}

/// The delta names the content once; the node copies it.
#[test]
fn a_content_that_a_delta_brings_twice_is_two_files() {
    let world = World::new();
    world.push(&world.bundle("old", &[("a", noise(50_000, 1))]), Mode::Auto).unwrap();
    let twice = noise(200_000, 2);
    let new = world.bundle(
        "new",
        &[("a", noise(50_000, 1)), ("b", twice.clone()), ("c/d", twice.clone()), ("e", twice)],
    );
    fs::set_permissions(new.join("rootfs/e"), fs::Permissions::from_mode(0o755)).unwrap();
    let outcome = world.push(&new, Mode::Always).unwrap();
    assert_eq!(outcome.way, "delta");
    assert!(outcome.payload < 220_000, "{outcome:?}");
    assert_eq!(outcome.receipt.unwrap().written, 600_000);
    let current = world.current().unwrap();
    assert_same(&new, &current);
    let file = |name: &str| fs::metadata(current.join("rootfs").join(name)).unwrap();
    assert_ne!(file("b").ino(), file("e").ino());
    assert_ne!(file("b").ino(), file("c/d").ino());
    assert_eq!(file("e").mode() & 0o7777, 0o755);
}

/// The last thing before the switch fails; nothing has to be sent again.
#[test]
fn a_build_that_breaks_uses_no_pieces_up() {
    let world = World::new();
    let dir = world.bundle("b", &[("a", noise(300_000, 1)), ("b", noise(200_000, 2))]);
    // The place that the revision is to take cannot be had.
    let revs = world.store.root().join("revs");
    fs::create_dir_all(&revs).unwrap();
    std::os::unix::fs::symlink("/nowhere/at/all", revs.join("web")).unwrap();
    assert!(world.push(&dir, Mode::Never).is_err());
    assert!(world.current().is_none());
    fs::remove_file(revs.join("web")).unwrap();
    let outcome = world.push(&dir, Mode::Never).unwrap();
    assert!(outcome.payload < 1000, "{outcome:?}");
    assert_same(&dir, &world.current().unwrap());
    assert_eq!(fs::read_dir(world.store.root().join("incoming")).unwrap().count(), 0);
}

#[test]
fn more_damaged_files_than_fit_into_a_frame_are_sent_anew() {
    let world = World::new();
    let names: Vec<String> = (0..4100).map(|n| format!("d{}/f{n}", n % 50)).collect();
    let files: Vec<(&str, Vec<u8>)> =
        names.iter().map(|name| (name.as_str(), name.as_bytes().to_vec())).collect();
    let dir = world.bundle("b", &files);
    world.push(&dir, Mode::Auto).unwrap();
    let rootfs = world.current().unwrap().join("rootfs");
    for n in 0..50 {
        fs::remove_dir_all(rootfs.join(format!("d{n}"))).unwrap();
    }
    let outcome = world.push(&dir, Mode::Auto).unwrap();
    assert_eq!((outcome.way, outcome.damaged), ("files", 4100));
    assert_same(&dir, &world.current().unwrap());
}
