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

/// Pushes a bundle to a node that claims to have `revisions` (its id where there are
/// none) and goes on as `node` does; returns the error, and what that returned.
fn meet<T: Send + 'static>(
    revisions: &[&str],
    node: impl FnOnce(&mut Link) -> T + Send + 'static,
) -> (String, T) {
    let world = World::new();
    let dir = world.bundle("b", &[("a", noise(10_000, 1))]);
    let bundle = Bundle::open(&dir).unwrap();
    let cache = Cache::new(world.dir.path().join("cache"));
    let deltas = Deltas::new(&bundle, &cache);
    let push = push_of(&bundle, &deltas, Mode::Auto);
    let (near, far) = UnixStream::pair().unwrap();
    let mut revisions: Vec<String> = revisions.iter().map(|id| (*id).to_owned()).collect();
    if revisions.is_empty() {
        revisions.push(bundle.id.clone());
    }
    let have = Have {
        version: VERSION,
        receiver: "r".into(),
        arch: String::new(),
        revisions,
        current: None,
        partial: None,
        empty: false,
    };
    let node = thread::spawn(move || {
        let mut link = link(&far, far.try_clone().unwrap());
        link.say(&Reply::Have(have)).unwrap();
        node(&mut link)
    });
    let mut link = link(&near, near.try_clone().unwrap());
    link.say(&push.hello()).unwrap();
    let error = push.run(&mut link, Duration::ZERO).unwrap_err();
    near.shutdown(Shutdown::Both).unwrap();
    (format!("{error:#}"), node.join().unwrap())
}

fn damaged() -> Reply {
    Reply::Damaged { files: vec![], found: 1, all: true }
}

/// A node that finds damage whatever is sent to it does not hold the sender.
#[test]
fn a_node_that_is_always_damaged_is_given_up() {
    let (_, offers) = meet(&[], |link| {
        let mut offers = 0;
        while let Ok(frame) = link.receive() {
            let offer = serde_json::from_slice::<Offer>(&frame.payload);
            if frame.kind != Type::Message || offer.is_err() {
                continue;
            }
            offers += 1;
            let _ = link.say(&damaged());
        }
        offers
    });
    assert!(offers <= 3);
}

#[test]
fn a_hostile_receiver_gets_an_error_and_no_files_it_should_not() {
    let need = |first| Reply::Need { runs: vec![(first, 1, 0)], more: false, damaged: 0 };
    let receipt =
        Reply::Receipt(crate::push::protocol::Receipt { target: "x".into(), ..Default::default() });
    for (second, expected) in [
        (need(77), "not there"),
        (need(0), "something else"),
        (receipt, "need"),
        (damaged(), "need"),
    ] {
        let (error, ()) = meet(&[&"1".repeat(64), "../../x"], move |link| {
            link.say(&second).unwrap();
            link.say(&Reply::Need { runs: vec![], more: false, damaged: 0 }).unwrap();
            while link.receive().is_ok() {}
        });
        assert!(error.contains(expected), "{error}");
    }
}
