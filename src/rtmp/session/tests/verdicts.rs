//! Who may publish, and how it ends.

use super::*;
use crate::rtmp::limits::MAX_NAME;

#[test]
fn media_sent_before_the_verdict_is_neither_lost_nor_read() {
    let mut peer = Peer::new();
    peer.connect();
    peer.publish("key");
    peer.message(9, 1, 0, b"picture").unwrap();
    assert_eq!(peer.events.len(), 1);
    assert!(!peer.input.is_empty());
    peer.session.accept_publish();
    peer.feed().unwrap();
    assert!(peer.input.is_empty());
    assert!(matches!(peer.events[1], Event::Video { .. }));
}

#[test]
fn refused_publish_says_why_and_may_be_tried_again() {
    let mut peer = Peer::new();
    peer.connect();
    peer.publish("key");
    peer.replies();
    peer.session.refuse_publish(&Refusal::bad_name("Taken."));
    assert_eq!(peer.replies(), ["1: onStatus 0 NetStream.Publish.BadName"]);
    peer.events.clear();
    // What it still sends goes nowhere.
    peer.message(9, 1, 0, b"picture").unwrap();
    assert_eq!(peer.events, []);
    peer.publish("other");
    assert_eq!(peer.only_request().name, "other");
}

#[test]
fn second_publish_on_a_connection_is_refused() {
    let mut peer = Peer::publishing();
    peer.publish("other");
    assert_eq!(peer.events, []);
    assert_eq!(peer.replies(), ["1: onStatus 0 NetStream.Publish.BadName"]);
    assert!(peer.session.is_publishing());
}

#[test]
fn publish_before_connect_is_refused() {
    let mut peer = Peer::new();
    peer.publish("key");
    assert_eq!(peer.events, []);
    assert_eq!(peer.replies(), ["1: onStatus 0 NetStream.Publish.BadName"]);
}

#[test]
fn name_over_the_limit_is_refused() {
    let mut peer = Peer::new();
    peer.connect();
    peer.replies();
    peer.publish(&"k".repeat(MAX_NAME + 1));
    assert_eq!(peer.events, []);
    assert_eq!(peer.replies(), ["1: onStatus 0 NetStream.Publish.BadName"]);
}

#[test]
fn verdicts_nobody_asked_for_do_nothing() {
    let mut peer = Peer::new();
    peer.session.accept_publish();
    peer.session.refuse_publish(&Refusal::bad_name(""));
    peer.session.unpublish("");
    peer.session.ping(0);
    assert_eq!(peer.session.take_output(), None);
}

#[test]
fn every_way_to_end_gives_one_unpublish_and_leaves_room_for_another_publish() {
    for (name, arguments) in [
        ("FCUnpublish", &[string("key")][..]),
        ("closeStream", &[]),
        ("deleteStream", &[n(1.0)]),
        ("deleteStream", &[]),
    ] {
        let mut peer = Peer::publishing();
        peer.call(name, 8.0, arguments);
        peer.call("closeStream", 0.0, &[]);
        assert_eq!(peer.events, [Event::Unpublish], "{name}");
        peer.events.clear();
        peer.publish("again");
        assert_eq!(peer.only_request().name, "again");
    }
}

#[test]
fn deleting_another_stream_ends_nothing() {
    let mut peer = Peer::new();
    peer.connect();
    peer.call("createStream", 2.0, &[]);
    peer.call("createStream", 3.0, &[]);
    peer.publish("key");
    peer.session.accept_publish();
    peer.events.clear();
    for id in [2.0, 77.0, -1.0, f64::NAN, 1e300] {
        peer.call("deleteStream", 4.0, &[n(id)]);
    }
    assert_eq!(peer.events, []);
    assert!(peer.session.is_publishing());
}

#[test]
fn server_ends_a_publish() {
    let mut peer = Peer::publishing();
    peer.session.unpublish("The server is shutting down.");
    assert_eq!(
        peer.replies(),
        ["1: onStatus 0 NetStream.Unpublish.Success"]
    );
    peer.message(9, 1, 0, b"picture").unwrap();
    assert_eq!(peer.events, []);
}

#[test]
fn server_ends_a_publish_for_what_it_holds() {
    let mut peer = Peer::publishing();
    let refusal = Refusal {
        code: "NetStream.Publish.Rejected",
        description: "No VP6.".into(),
    };
    peer.session.fail_publish(&refusal);
    peer.session.fail_publish(&refusal);
    assert_eq!(peer.replies(), ["1: onStatus 0 NetStream.Publish.Rejected"]);
    assert!(!peer.session.is_publishing());
}
