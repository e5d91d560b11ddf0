//! Peers that mean harm, or another port.

use super::*;
use proptest::prelude::*;

#[test]
fn a_hundred_thousand_create_stream() {
    let mut peer = Peer::new();
    peer.connect();
    peer.session.take_output();
    let call = amf::encode(&[string("createStream"), n(2.0), NULL]).unwrap();
    let mut given = 0;
    let (mut sent, mut output) = (0, 0);
    let error = loop {
        if let Err(error) = peer.message(20, 0, 0, &call) {
            break error;
        }
        sent += 1;
        given = given.max(peer.session.message_streams.count_ones());
        output += peer.session.take_output().map_or(0, |o| o.len());
        assert!(sent < 100_000);
    };
    assert!(matches!(error, Error::NoMedia), "{error}");
    assert_eq!(
        (given, sent),
        (MAX_MESSAGE_STREAMS, MAX_MESSAGES_WITHOUT_MEDIA - 1)
    );
    assert!(output < 300_000, "{output}");
}

#[test]
fn replies_that_are_not_read_do_not_pile_up() {
    // Each of these is answered, and media in between keeps the count of other messages low.
    let mut peer = Peer::publishing();
    let call = amf::encode(&[string("createStream"), n(2.0), NULL]).unwrap();
    let error = loop {
        if let Err(error) = peer.message(20, 0, 0, &call) {
            break error;
        }
        peer.message(9, 1, 0, b"picture").unwrap();
        peer.events.clear();
    };
    assert!(matches!(error, Error::TooManyReplies), "{error}");
    assert!(peer.session.take_output().unwrap().len() < MAX_PENDING_OUTPUT + 1000);
}

#[test]
fn media_never_asked_for_is_dropped_then_refused() {
    let mut peer = Peer::new();
    let error = loop {
        if let Err(error) = peer.message(9, 1, 0, b"picture") {
            break error;
        }
    };
    assert!(matches!(error, Error::NoMedia));
    assert_eq!(peer.events, []);
}

#[test]
fn nested_5000_deep_command_is_refused_and_metadata_ignored() {
    let deep = [0x0a, 0, 0, 0, 1].repeat(5000);
    let mut payload = amf::encode(&[string("connect"), n(1.0)]).unwrap().to_vec();
    payload.extend(&deep);
    let error = Peer::new().message(20, 0, 0, &payload).unwrap_err();
    assert!(
        error.to_string().contains("nested deeper than 16"),
        "{error}"
    );

    let mut peer = Peer::publishing();
    let mut payload = amf::encode(&[string("onMetaData")]).unwrap().to_vec();
    payload.extend(&deep);
    peer.message(18, 1, 0, &payload).unwrap();
    assert_eq!(peer.events, []);
}

#[test]
fn http_request_on_the_rtmp_port() {
    let mut session = Session::new(SessionConfig::default());
    let mut input = BytesMut::from("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let error = session.feed(&mut input, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("HTTP request"), "{error}");
    assert_eq!(session.take_output(), None);
}

#[test]
fn long_descriptions_are_cut_and_fit_small_chunks() {
    let mut peer = Peer::with(SessionConfig {
        chunk_size: 1,
        ..SessionConfig::default()
    });
    peer.connect();
    peer.publish("key");
    let refusal = Refusal::bad_name("é".repeat(100_000));
    peer.session.refuse_publish(&refusal);
    let replies = peer.replies();
    assert_eq!(
        replies.last().unwrap(),
        "1: onStatus 0 NetStream.Publish.BadName"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whole messages of any kind with any contents: no panic, no unbounded output.
    #[test]
    fn arbitrary_messages_never_panic(
        messages in prop::collection::vec(
            (prop::sample::select(vec![1_u8, 2, 3, 4, 5, 6, 8, 9, 15, 17, 18, 20, 22]), 0..3_u32, any::<u32>(),
             prop::collection::vec(prop_oneof![0..0x12_u8, any::<u8>()], 1..200)),
            0..40),
        publishing: bool,
    ) {
        let mut peer = if publishing { Peer::publishing() } else { Peer::new() };
        for (kind, stream_id, time, payload) in messages {
            if peer.message(kind, stream_id, time, &payload).is_err() {
                break;
            }
            peer.session.accept_publish();
        }
        prop_assert!(peer.session.take_output().map_or(0, |o| o.len()) <= MAX_PENDING_OUTPUT + 1000);
    }

    /// Known commands with arguments of any type, in any order.
    #[test]
    fn commands_in_any_order_never_panic(
        calls in prop::collection::vec(
            (prop::sample::select(vec!["connect", "createStream", "publish", "releaseStream", "FCPublish", "FCUnpublish",
                "deleteStream", "closeStream", "play", "_checkbw", "getStreamLength", "x"]),
             any::<f64>(), 0..4_usize, 0..5_u8),
            0..60),
    ) {
        let mut peer = Peer::new();
        for (name, number, argument, verdict) in calls {
            let argument = [NULL, n(number), string("key"), object([("app", string("live"))])][argument].clone();
            peer.command(1, &[string(name), n(number), argument.clone(), argument]);
            match verdict {
                0 => peer.session.accept_publish(),
                1 => peer.session.refuse_publish(&Refusal::bad_name("No.")),
                2 => peer.session.unpublish("Over."),
                _ => {}
            }
            peer.feed().unwrap();
            peer.replies();
        }
        let count = |wanted: fn(&Event) -> bool| peer.events.iter().filter(|e| wanted(e)).count();
        prop_assert!(count(|e| *e == Event::Unpublish) <= count(|e| matches!(e, Event::Publish(_))));
    }
}
