//! The order of commands of real encoders.

use super::*;
use crate::rtmp::limits::MAX_OTHER_MESSAGE;

#[test]
fn ffmpeg_order() {
    let mut peer = Peer::new();
    peer.bytes(&test_util::set_chunk_size(60_000)).unwrap();
    peer.chunk_size = 60_000;
    peer.connect();
    assert_eq!(peer.replies(), CONNECTED);
    peer.message(5, 0, 0, &2_500_000_u32.to_be_bytes()).unwrap();
    peer.call("releaseStream", 2.0, &[string("key")]);
    peer.call("FCPublish", 3.0, &[string("key")]);
    peer.call("createStream", 4.0, &[]);
    peer.call("_checkbw", 5.0, &[]);
    assert_eq!(
        peer.replies(),
        [
            "0: _result 2 Undefined",
            "0: _result 3 Undefined",
            "0: _result 4 1",
            "0: _result 5 Undefined"
        ]
    );
    peer.publish("key");
    let request = peer.only_request();
    assert_eq!((&request.app[..], &request.name[..]), ("live", "key"));
    assert_eq!(request.flash_ver.as_deref(), Some("FMLE/3.0"));
    assert!(peer.session.awaits_verdict());
    assert_eq!(peer.replies(), [""; 0], "nothing before the verdict");

    peer.session.accept_publish();
    assert!(peer.session.is_publishing());
    assert_eq!(
        peer.replies(),
        [
            STARTED[0],
            "0: onFCPublish 0 NetStream.Publish.Start",
            STARTED[1]
        ]
    );

    peer.events.clear();
    let properties = object([("width", n(640.0))]);
    let data = [
        string("@setDataFrame"),
        string("onMetaData"),
        properties.clone(),
    ];
    peer.message(18, 1, 0, &amf::encode(&data).unwrap())
        .unwrap();
    // A data message that is no AMF0: FFmpeg's timecode.
    peer.message(18, 1, 0, &[1, 2, 3, 4]).unwrap();
    peer.message(9, 1, 40, b"picture").unwrap();
    peer.message(8, 1, 43, b"sound").unwrap();
    assert_eq!(
        peer.events,
        [
            Event::Metadata(properties),
            Event::Video {
                timestamp: 40,
                payload: "picture".into()
            },
            Event::Audio {
                timestamp: 43,
                payload: "sound".into()
            },
        ]
    );
    peer.events.clear();
    peer.call("FCUnpublish", 6.0, &[string("key")]);
    peer.call("deleteStream", 7.0, &[n(1.0)]);
    assert_eq!(peer.events, [Event::Unpublish]);
    assert_eq!(
        peer.replies(),
        [
            "0: _result 6 Undefined",
            "0: onFCUnpublish 0 NetStream.Unpublish.Success",
            "1: onStatus 0 NetStream.Unpublish.Success"
        ]
    );
}

#[test]
fn obs_order_with_an_empty_key() {
    let mut peer = Peer::new();
    peer.bytes(&test_util::set_chunk_size(4096)).unwrap();
    peer.chunk_size = 4096;
    let object = object([
        ("app", string("live/key")),
        ("type", string("nonprivate")),
        ("flashVer", string("FMLE/3.0 (compatible; FMSc/1.0)")),
        ("swfUrl", string("rtmp://localhost/live/key")),
        ("tcUrl", string("rtmp://localhost/live/key")),
    ]);
    peer.command(0, &[string("connect"), n(1.0), object]);
    peer.call("releaseStream", 2.0, &[string("")]);
    peer.call("FCPublish", 3.0, &[string("")]);
    peer.call("createStream", 4.0, &[]);
    peer.publish("");
    let request = peer.only_request();
    assert_eq!((&request.app[..], &request.name[..]), ("live", "key"));
    peer.session.accept_publish();
    // OBS: FCUnpublish and deleteStream at the end, then it closes.
    peer.call("FCUnpublish", 6.0, &[string("")]);
    peer.call("deleteStream", 7.0, &[n(1.0)]);
    assert_eq!(peer.events.last(), Some(&Event::Unpublish));
}

#[test]
fn gstreamer_rtmp2sink_order() {
    let mut peer = Peer::new();
    // connect first, in chunks of 128; chunk size and window only after the answer.
    peer.connect();
    peer.bytes(&test_util::set_chunk_size(65_536)).unwrap();
    peer.message(5, 0, 0, &2_500_000_u32.to_be_bytes()).unwrap();
    peer.call("releaseStream", 2.0, &[string("key")]);
    peer.call("FCPublish", 3.0, &[string("key")]);
    peer.call("createStream", 4.0, &[]);
    peer.publish("key");
    assert_eq!(peer.only_request().name, "key");
}

#[test]
fn librtmp_order_with_pings_in_type1_headers() {
    let mut peer = Peer::new();
    peer.connect();
    peer.call("releaseStream", 2.0, &[string("key")]);
    peer.call("FCPublish", 3.0, &[string("key")]);
    peer.call("createStream", 4.0, &[]);
    peer.publish("key");
    peer.session.accept_publish();
    peer.replies();
    let mut ping = test_util::type1(2, 0, 6, 4);
    ping.extend([0, 6, 0, 0, 1, 2]);
    peer.bytes(&ping).unwrap();
    assert_eq!(peer.replies(), ["user 7 258"]);
}

#[test]
fn fmle_order_with_times_by_repeated_headers() {
    let mut peer = Peer::new();
    let object = object([
        ("app", string("live")),
        ("flashVer", string("FMLE/3.0 (compatible; FMSc/1.0)")),
        ("swfUrl", string("rtmp://localhost/live")),
        ("tcUrl", string("rtmp://localhost/live")),
    ]);
    peer.command(0, &[string("connect"), n(1.0), object]);
    peer.call("releaseStream", 2.0, &[string("key")]);
    peer.call("FCPublish", 3.0, &[string("key")]);
    peer.call("createStream", 4.0, &[]);
    peer.publish("key");
    peer.session.accept_publish();
    peer.events.clear();
    let mut audio = test_util::type0(4, 23, 1, 8, 1);
    audio.extend([b'a', 0xc4, b'b']);
    peer.bytes(&audio).unwrap();
    let times: Vec<u32> = peer
        .events
        .iter()
        .map(|event| match event {
            Event::Audio { timestamp, .. } => *timestamp,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(times, [23, 46]);
}

#[test]
fn haivision_order_create_stream_first() {
    let mut peer = Peer::new();
    peer.connect();
    peer.call("createStream", 2.0, &[]);
    peer.call("releaseStream", 3.0, &[string("key")]);
    peer.call("_checkbw", 4.0, &[]);
    peer.publish("key");
    peer.session.accept_publish();
    peer.replies();
    peer.call("FCPublish", 6.0, &[string("key")]);
    assert_eq!(
        peer.replies(),
        [
            "0: _result 6 Undefined",
            "0: onFCPublish 0 NetStream.Publish.Start"
        ]
    );
}

#[test]
fn publish_without_create_stream_and_without_type_lal() {
    let mut peer = Peer::new();
    peer.connect();
    peer.command(0, &[string("publish"), n(2.0), NULL, string("key")]);
    assert_eq!(peer.only_request().name, "key");
    peer.session.accept_publish();
    assert!(
        peer.replies()
            .contains(&"0: onStatus 0 NetStream.Publish.Start".into())
    );
    peer.call("deleteStream", 3.0, &[n(1.0)]);
    assert_eq!(peer.events.last(), Some(&Event::Unpublish));
}

#[test]
fn publish_without_a_name_is_left_to_the_caller() {
    for arguments in [&[][..], &[NULL], &[n(3.0)]] {
        let mut peer = Peer::new();
        peer.connect();
        peer.call("publish", 2.0, arguments);
        assert_eq!(peer.only_request().name, "");
    }
}

#[test]
fn whole_conversation_byte_by_byte_and_at_once() {
    let record = |pieces: usize| {
        let mut script = BytesMut::new();
        let mut peer = Peer::new();
        let mut send = |kind, values: &[Amf0Value]| {
            let message = Message {
                kind,
                stream_id: 1,
                timestamp: 0,
                payload: amf::encode(values).unwrap(),
            };
            script.extend_from_slice(&test_util::message(3, &message, 128));
        };
        let app = object([("app", string("live"))]);
        send(20, &[string("connect"), n(1.0), app]);
        send(20, &[string("publish"), n(2.0), NULL, string("key")]);
        send(9, &[string("stands for video")]);
        send(20, &[string("closeStream"), n(0.0), NULL]);
        for piece in script.chunks(pieces) {
            peer.bytes(piece).unwrap();
            if peer.session.awaits_verdict() {
                peer.session.accept_publish();
                peer.feed().unwrap();
            }
        }
        (peer.replies(), peer.events)
    };
    let expected = record(1);
    assert_eq!(expected.1.len(), 3);
    for pieces in [7, 128, 100_000] {
        assert_eq!(record(pieces), expected);
    }
}

/// OBS reads no chunk over 128 bytes before it has been told of a larger size.
#[test]
fn chunk_size_is_announced_before_the_first_long_reply_obs() {
    let mut peer = Peer::new();
    peer.connect();
    let output = peer.session.take_output().unwrap();
    let size = output.windows(4).position(|w| w == 4096_u32.to_be_bytes());
    let reply = output.windows(7).position(|w| w == b"_result");
    assert!(size.is_some() && size < reply);
    assert!(output.len() - reply.unwrap() > 128);
    // The reader goes by what it is told: it would not find its way otherwise.
    peer.replies.extend_from_slice(&output);
    assert_eq!(peer.replies(), CONNECTED);
}

/// A file that is sent on as it is has the place of every key frame in its metadata. The connection was closed at its header.
#[test]
fn metadata_with_the_index_of_a_long_file_is_passed_over() {
    let mut peer = Peer::publishing();
    let places = Amf0Value::StrictArray(vec![n(1.0); 40_000]);
    let metadata = object([("keyframes", object([("times", places)]))]);
    let payload = amf::encode(&[string("onMetaData"), metadata]).unwrap();
    assert!(payload.len() > 4 * MAX_OTHER_MESSAGE);
    peer.message(18, 1, 0, &payload).unwrap();
    peer.message(9, 1, 0, b"picture").unwrap();
    assert!(matches!(peer.events[..], [Event::Video { .. }]));
    // A command has no business to be so long, and neither has anything before publishing.
    assert!(peer.message(20, 1, 0, &payload).is_err());
    let mut peer = Peer::new();
    peer.connect();
    assert!(peer.message(18, 0, 0, &payload).is_err());
}
