//! Commands and data, in every form that they come in.

use super::*;

#[test]
fn connect_object_missing_or_odd() {
    for object in [
        NULL,
        Amf0Value::Undefined,
        n(1.0),
        object([("app", NULL), ("pageUrl", NULL)]),
    ] {
        let mut peer = Peer::new();
        peer.command(0, &[string("connect"), n(1.0), object]);
        assert_eq!(peer.replies(), CONNECTED);
    }
    let mut peer = Peer::new();
    peer.command(0, &[string("connect")]);
    assert_eq!(peer.replies(), CONNECTED);
}

#[test]
fn connect_as_ecma_array_without_end_envivio() {
    let mut payload = amf::encode(&[string("connect"), n(1.0)]).unwrap().to_vec();
    payload.extend([8, 0, 0, 0, 1, 0, 3]);
    payload.extend(b"app");
    payload.extend([2, 0, 4]);
    payload.extend(b"live");
    let mut peer = Peer::new();
    peer.message(20, 0, 0, &payload).unwrap();
    peer.publish("key");
    assert_eq!(peer.only_request().app, "live");
}

#[test]
fn second_connect_gets_an_error() {
    let mut peer = Peer::new();
    peer.connect();
    peer.replies();
    peer.connect();
    assert_eq!(
        peer.replies(),
        ["0: _error 1 NetConnection.Connect.Rejected"]
    );
}

#[test]
fn four_ccs_are_told_only_to_those_who_ask() {
    let answer = |asks: bool, four_ccs: &[&'static str]| {
        let mut peer = Peer::with(SessionConfig {
            four_ccs: four_ccs.to_vec(),
            ..SessionConfig::default()
        });
        let list = Amf0Value::StrictArray(vec![string("hvc1")]);
        let name = if asks { "fourCcList" } else { "other" };
        peer.command(
            0,
            &[
                string("connect"),
                n(1.0),
                object([("app", string("live")), (name, list)]),
            ],
        );
        let output = peer.session.take_output().unwrap();
        output.windows(10).any(|w| w == b"fourCcList")
    };
    assert!(answer(true, &["hvc1"]));
    assert!(!answer(false, &["hvc1"]));
    assert!(!answer(true, &[]));
}

#[test]
fn amf3_commands_and_data() {
    let mut peer = Peer::new();
    let app = object([("app", string("live"))]);
    let connect = amf::encode(&[string("connect"), n(1.0), app]).unwrap();
    peer.message(17, 0, 0, &[&[0][..], &connect].concat())
        .unwrap();
    assert_eq!(peer.replies(), CONNECTED);
    peer.publish("key");
    peer.session.accept_publish();
    peer.events.clear();
    let data = amf::encode(&[string("onMetaData"), NULL]).unwrap();
    peer.message(15, 1, 0, &[&[0][..], &data].concat()).unwrap();
    assert_eq!(peer.events, [Event::Metadata(NULL)]);
}

#[test]
fn unknown_commands_get_an_error_or_silence() {
    let mut peer = Peer::new();
    peer.connect();
    peer.replies();
    peer.call("getMovieLength", 9.0, &[]);
    peer.call(&"x".repeat(5000), 10.0, &[]);
    peer.call("getStreamLength", 11.0, &[string("key")]);
    // No answer wanted, or answers themselves.
    peer.call("whatever", 0.0, &[]);
    peer.call("onFI", 12.0, &[]);
    peer.call("_result", 13.0, &[]);
    peer.call("_error", 14.0, &[]);
    assert_eq!(
        peer.replies(),
        [
            "0: _error 9 NetConnection.Call.Failed",
            "0: _error 10 NetConnection.Call.Failed",
            "0: _result 11 0"
        ]
    );
}

#[test]
fn play_is_refused_with_the_way_to_go() {
    let mut peer = Peer::new();
    peer.connect();
    peer.replies();
    peer.command(1, &[string("play"), n(0.0), NULL, string("key")]);
    let output = peer.session.take_output().unwrap();
    assert!(output.windows(4).any(|w| w == b"HTTP"));
    peer.replies.extend_from_slice(&output);
    assert_eq!(peer.replies(), ["1: onStatus 0 NetStream.Play.Failed"]);
}

#[test]
fn unknown_user_control_events_are_ignored_swf_verify() {
    let mut peer = Peer::publishing();
    for payload in [
        &[0, 31, 0, 0, 0, 1][..],
        &[0, 32, 0],
        &[0, 26],
        &[0],
        &[0, 6, 1],
    ] {
        peer.message(4, 0, 0, payload).unwrap();
    }
    for kind in [5, 6, 3] {
        peer.message(kind, 0, 0, &[1]).unwrap();
    }
    assert_eq!(peer.replies(), [""; 0]);
    assert_eq!(peer.events, []);
}

#[test]
fn metadata_forms() {
    let mut peer = Peer::publishing();
    for values in [
        &[string("onMetaData")][..],
        &[string("@setDataFrame"), string("onMetaData")],
        &[string("@setDataFrame")],
        &[string("onTextData"), NULL],
        &[string("onCuePoint"), NULL],
        &[n(1.0)],
    ] {
        let payload = amf::encode(values).unwrap();
        peer.message(18, 1, 0, &payload).unwrap();
    }
    assert_eq!(peer.events, [Event::Metadata(NULL), Event::Metadata(NULL)]);
}

/// Its pictures went among those of the first.
#[test]
fn a_second_publish_on_a_connection_is_refused_with_all_that_comes_on_it() {
    let mut peer = Peer::publishing();
    peer.call("createStream", 8.0, &[]);
    peer.command(2, &[string("publish"), n(9.0), NULL, string("other")]);
    peer.message(9, 2, 0, b"of the second").unwrap();
    peer.message(9, 1, 0, b"of the first").unwrap();
    // The numbers of message streams are not to be relied on otherwise.
    peer.message(8, 0, 0, b"of the first too").unwrap();
    peer.command(2, &[string("closeStream"), n(0.0), NULL]);
    assert!(peer.session.is_publishing());
    let payloads: Vec<&[u8]> = peer
        .events
        .iter()
        .map(|event| match event {
            Event::Video { payload, .. } | Event::Audio { payload, .. } => &payload[..],
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(payloads, [&b"of the first"[..], b"of the first too"]);
    // It may have its turn when the first has ended.
    peer.command(1, &[string("closeStream"), n(0.0), NULL]);
    peer.events.clear();
    peer.command(2, &[string("publish"), n(9.0), NULL, string("other")]);
    peer.session.accept_publish();
    peer.events.clear();
    peer.message(9, 2, 0, b"of the second").unwrap();
    assert_eq!(peer.events.len(), 1);
}
