//! Deployments that are broken off, or cannot write.

use super::*;
use crate::fleet::on_node::watch;

/// Whatever is cut, the node has the old revision, at once or after a reboot.
#[track_caller]
fn is_taken_back(one: &Revision, two: &Revision) {
    for reboot in [false, true] {
        let node = Node::new();
        node.apply(one, None).unwrap();
        node.tried(two, Some(one)).unwrap();
        if reboot {
            node.reboots();
            assert_eq!(node.now(), "good");
            let lost = confirm(&node.site(), "web", &two.id, &mut |_| ()).unwrap_err();
            assert!(lost.to_string().contains("knows nothing"), "{lost}");
        } else {
            watch(&node.site(), "web").unwrap();
            assert_eq!(node.now(), "good");
            let late = confirm(&node.site(), "web", &two.id, &mut |_| ()).unwrap();
            assert!(late.failure.unwrap().contains("did not come"));
            let last = node.pods().history("web").unwrap().pop().unwrap();
            assert!(last.outcome.contains("the one before runs again"), "{last:?}");
        }
        assert_eq!(node.pods().link("web", "current").as_ref(), Some(&one.id));
        // And the next try is as any other.
        node.apply(two, Some(one)).unwrap();
        assert_eq!(node.runs(), "better, better");
    }
}

#[test]
fn what_is_not_confirmed_is_taken_back() {
    is_taken_back(&revision("good", 'a'), &revision("better", 'b'));
    is_taken_back(&apart("good", 'a'), &apart("better", 'b'));
}

#[test]
fn what_was_broken_off_before_it_was_judged_is_taken_back() {
    for (one, two) in [
        (revision("good", 'a'), revision("better", 'b')),
        (apart("good", 'a'), apart("better", 'b')),
    ] {
        let node = Node::new();
        node.apply(&one, None).unwrap();
        node.tried(&two, Some(&one)).unwrap();
        let pods = node.pods();
        let pending = pods.pending("web").unwrap();
        pods.set_pending("web", Some(&Pending { judged: None, ..pending })).unwrap();
        watch(&node.site(), "web").unwrap();
        assert_eq!(node.runs(), "good, good");
    }
}

#[test]
fn what_was_confirmed_and_broken_off_is_ended() {
    let node = Node::new();
    let (one, two) = (apart("good", 'a'), apart("better", 'b'));
    node.apply(&one, None).unwrap();
    node.tried(&two, Some(&one)).unwrap();
    node.pods().set_link("web", "current", Some(&two.id)).unwrap();
    watch(&node.site(), "web").unwrap();
    assert_eq!((node.now(), node.pods().pending("web")), ("better".to_owned(), None));
}

#[test]
fn what_was_to_be_repaired_and_was_broken_off_runs_again_itself() {
    let node = Node::new();
    let (one, two) = (revision("good", 'a'), revision("better", 'b'));
    node.apply(&one, None).unwrap();
    node.apply(&two, Some(&one)).unwrap();
    node.tried(&two, Some(&two)).unwrap();
    let pods = node.pods();
    let pending = pods.pending("web").unwrap();
    pods.set_pending("web", Some(&Pending { judged: None, ..pending })).unwrap();
    watch(&node.site(), "web").unwrap();
    assert_eq!((node.runs(), pods.pending("web")), ("better, better".to_owned(), None));
}

/// The guard ends what was confirmed, at once, and until it has ended it.
#[test]
fn the_one_before_is_stopped_in_the_end() {
    let node = Node::new();
    let (one, two) = (apart("good", 'a'), apart("better", 'b'));
    node.apply(&one, None).unwrap();
    node.tried(&two, Some(&one)).unwrap();
    node.stuck.set(true);
    let applied = confirm(&node.site(), "web", &two.id, &mut |_| ()).unwrap();
    assert_eq!((applied.current.as_ref(), applied.failure), (Some(&two.id), None));
    assert!(watch(&node.site(), "web").is_err());
    node.stuck.set(false);
    let pending = node.pods().pending("web").unwrap();
    let until = pending.until + 3600;
    node.pods().set_pending("web", Some(&Pending { until, ..pending })).unwrap();
    watch(&node.site(), "web").unwrap();
    assert_eq!((node.runs(), node.pods().pending("web")), ("better, better".to_owned(), None));
}

#[test]
fn a_store_that_cannot_be_written_to_undoes_nothing() {
    let node = Node::new();
    let (one, two, bad) = (apart("good", 'a'), apart("better", 'b'), apart("deaf", 'b'));
    node.apply(&one, None).unwrap();
    let record: Record = serde_json::from_str(&one.files[RECORD]).unwrap();
    let address = node.dir.path().join(format!("pods/web/tags/{}.address", record.tag));
    let full = node.dir.path().join("store/.pinned.new");
    let inode = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(&address).unwrap());
    let before = inode();
    // What goes back writes nothing that is there.
    assert_eq!(node.apply(&bad, Some(&one)).unwrap().restored, Some(true));
    assert_eq!(inode(), before);
    node.tried(&two, Some(&one)).unwrap();
    fs::create_dir(&full).unwrap();
    let applied = confirm(&node.site(), "web", &two.id, &mut |_| ()).unwrap();
    assert_eq!((applied.failure, node.runs()), (None, "better, better".to_owned()));
    // And the next one is refused before anything is touched.
    let error = node.apply(&one, Some(&two)).unwrap_err();
    assert!(error.to_string().contains("cannot write"), "{error}");
    assert_eq!((node.runs(), node.pods().pending("web")), ("better, better".to_owned(), None));
}
