//! A pod in the place of another one, which nothing wishes any more.

use super::*;
use crate::fleet::on_node::watch;

fn of(pod: &str, network: &str, program: &str) -> Revision {
    named(pod, network, &format!("    command: [{program}]\n"), 'a', secret::FIRST)
}

/// A node with the pod `old`, and the tag of its revision.
fn node(network: &str) -> (Node, String) {
    let node = Node::new();
    let old = of("old", network, "good");
    node.apply(&old, None).unwrap();
    let record: Record = serde_json::from_str(&old.files[RECORD]).unwrap();
    node.events.borrow_mut().clear();
    (node, record.tag)
}

#[test]
fn a_pod_takes_the_place_of_another_one_without_a_gap() {
    let (node, _) = node("hostNetwork: false");
    let new = of("web", "hostNetwork: false", "better");
    node.tried_instead(&new, None, &["old"]).unwrap();
    assert_eq!(node.now().split('+').count(), 2, "{}", node.now());
    let record: Record = serde_json::from_str(&new.files[RECORD]).unwrap();
    assert_eq!(node.published.borrow().as_ref(), Some(&record.tag));
    confirm(&node.site(), "web", &new.id, &mut |_| ()).unwrap();
    assert_eq!(node.runs(), "better, better");
}

#[test]
fn a_pod_that_shares_the_network_stops_before_another_one_takes_its_place() {
    let (node, _) = node("hostNetwork: true");
    node.tried_instead(&of("web", "hostNetwork: true", "better"), None, &["old"]).unwrap();
    assert_eq!(node.now(), "better");
    assert_eq!(node.events.borrow()[..2], ["stop good", "start better"]);
}

#[test]
fn what_made_way_runs_again_where_the_other_one_does_not() {
    for network in ["hostNetwork: false", "hostNetwork: true"] {
        let (node, tag) = node(network);
        let applied = node.tried_instead(&of("web", network, "crash"), None, &["old"]).unwrap();
        assert!(applied.failure.is_some());
        assert_eq!(node.runs(), "good, good", "{network}");
        // What nobody confirms goes, too.
        node.tried_instead(&of("web", network, "better"), None, &["old"]).unwrap();
        watch(&node.site(), "web").unwrap();
        assert_eq!(node.now(), "good", "{network}");
        let leads = node.published.borrow().clone();
        assert_eq!(leads, (network == "hostNetwork: false").then_some(tag));
    }
}

#[test]
fn what_made_way_can_be_started_again() {
    let (node, _) = node("hostNetwork: false");
    let new = of("web", "hostNetwork: false", "better");
    node.tried_instead(&new, None, &["old"]).unwrap();
    confirm(&node.site(), "web", &new.id, &mut |_| ()).unwrap();
    let control = |pod: &str, verb| {
        control(&node.site(), &node.pods(), (pod, "a test"), verb, &mut |_| ()).unwrap();
    };
    control("web", Control::Stop);
    control("old", Control::Start);
    assert_eq!(node.now(), "good");
}
