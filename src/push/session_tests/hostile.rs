//! Either end against one that says whatever it wants.

use super::*;

fn hello(name: &str, target: &str) -> Hello {
    let (name, target) = (name.to_owned(), target.to_owned());
    Hello { version: VERSION, task: Task::Push { name, target, keep: 3, plan: false } }
}

#[track_caller]
fn assert_refused(world: &World, replies: &[Reply], expected: &str) {
    let Some(Reply::Refused { why, .. }) = replies.last() else { panic!("{replies:?}") };
    assert!(why.contains(expected), "{why}");
    assert!(world.store.names().unwrap().is_empty());
}

#[test]
fn a_hostile_sender_gets_nothing_in_place() {
    let world = World::new();
    let id = "0".repeat(64);
    let say = |message: Hello| world.hostile(|link| link.say(&message).unwrap());
    assert_refused(&world, &say(hello("../x", &id)), "cannot be the name");
    assert_refused(&world, &say(hello("web", "../../etc")), "no digest");
    assert_refused(&world, &say(Hello { version: 9, ..hello("web", &id) }), "version");

    // A listing that is not the announced one, and one that is no bundle.
    let other = delta::Manifest::default().to_bytes();
    let offer = |target: &str, listing: &[u8], declared: u64| {
        let packed = crate::push::pieces::compress(listing).unwrap();
        world.hostile(|link| {
            link.say(&hello("web", target)).unwrap();
            let bytes = packed.len() as u64;
            link.say(&Offer::Files { bytes, listing: declared, ask: true }).unwrap();
            let _ = link.send(Type::Data, &packed);
            let _ = link.say(&Commit::Commit);
        })
    };
    assert_refused(&world, &offer(&id, &other, 10), "not that of");
    let empty = delta::Digest::of(&other).to_string();
    assert_refused(&world, &offer(&empty, &other, 10), "not the listing of a bundle");
    assert_refused(&world, &offer(&empty, &vec![0; 50 << 20], 1000), "decompress");
    assert_refused(&world, &offer(&empty, &other, u64::MAX), "over the limit");
    let escape = b"vz tree 1\n\x01\x05\0\0\0\0\0\0\0../up\xed\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let id = delta::Digest::of(escape).to_string();
    assert_refused(&world, &offer(&id, escape, escape.len() as u64), "cannot read the listing");
    assert!(!world.dir.path().join("up").exists());
}

/// A node that finds damage whatever is sent to it does not hold the sender.
#[test]
fn a_node_that_is_always_damaged_is_given_up() {
    let world = World::new();
    let dir = world.bundle("b", &[("a", noise(10_000, 1))]);
    let bundle = Bundle::open(&dir).unwrap();
    let cache = Cache::new(world.dir.path().join("cache"));
    let deltas = Deltas::new(&bundle, &cache);
    let push = Push {
        bundle: &bundle,
        name: "web",
        deltas: &deltas,
        mode: Mode::Auto,
        keep: 3,
        plan: false,
        receiver: "r",
        progress: &|_| (),
    };
    let (near, far) = UnixStream::pair().unwrap();
    let have = Have {
        version: VERSION,
        receiver: "r".into(),
        arch: String::new(),
        revisions: vec![bundle.id.clone()],
        current: None,
        partial: None,
        empty: false,
    };
    let node = thread::spawn(move || {
        let mut link = link(&far, far.try_clone().unwrap());
        link.say(&Reply::Have(have)).unwrap();
        let mut offers = 0;
        while let Ok(frame) = link.receive() {
            let offer = serde_json::from_slice::<Offer>(&frame.payload);
            if frame.kind != Type::Message || offer.is_err() {
                continue;
            }
            offers += 1;
            let _ = link.say(&Reply::Damaged { files: vec![], found: 1, all: true });
        }
        offers
    });
    let mut link = link(&near, near.try_clone().unwrap());
    link.say(&push.hello()).unwrap();
    assert!(push.run(&mut link, Duration::ZERO).is_err());
    near.shutdown(Shutdown::Both).unwrap();
    assert!(node.join().unwrap() <= 3);
}

#[test]
fn a_hostile_receiver_gets_an_error_and_no_files_it_should_not() {
    let world = World::new();
    let dir = world.bundle("b", &[("a", noise(10_000, 1))]);
    let bundle = Bundle::open(&dir).unwrap();
    let cache = Cache::new(world.dir.path().join("cache"));
    let deltas = Deltas::new(&bundle, &cache);
    let push = Push {
        bundle: &bundle,
        name: "web",
        deltas: &deltas,
        mode: Mode::Auto,
        keep: 3,
        plan: false,
        receiver: "r",
        progress: &|_| (),
    };
    let damaged = || Reply::Damaged { files: vec![], found: 1, all: true };
    let need = |first| Reply::Need { runs: vec![(first, 1, 0)], more: false, damaged: 0 };
    let receipt =
        Reply::Receipt(crate::push::protocol::Receipt { target: "x".into(), ..Default::default() });
    for (second, expected) in [
        (need(77), "not there"),
        (need(0), "something else"),
        (receipt, "need"),
        (damaged(), "need"),
    ] {
        let (near, far) = UnixStream::pair().unwrap();
        let have = Have {
            version: VERSION,
            receiver: "r".into(),
            arch: String::new(),
            revisions: vec!["1".repeat(64), "../../x".into()],
            current: None,
            partial: None,
            empty: false,
        };
        let node = thread::spawn(move || {
            let mut link = link(&far, far.try_clone().unwrap());
            link.say(&Reply::Have(have)).unwrap();
            link.say(&second).unwrap();
            link.say(&Reply::Need { runs: vec![], more: false, damaged: 0 }).unwrap();
            while link.receive().is_ok() {}
        });
        let mut link = link(&near, near.try_clone().unwrap());
        link.say(&push.hello()).unwrap();
        let error = push.run(&mut link, Duration::ZERO).unwrap_err();
        near.shutdown(Shutdown::Both).unwrap();
        node.join().unwrap();
        assert!(format!("{error:#}").contains(expected), "{error:#}");
    }
}
