use super::super::limits::MAX_NAME;
use super::super::test_util;
use super::*;
use amf::{object, string};
use proptest::prelude::*;

/// The client's side, scripted.
struct Peer {
    session: Session,
    input: BytesMut,
    events: Vec<Event>,
    replies: BytesMut,
    reader: ChunkReader,
    chunk_size: usize,
}

const NULL: Amf0Value = Amf0Value::Null;

fn n(value: f64) -> Amf0Value {
    Amf0Value::Number(value)
}

impl Peer {
    fn new() -> Self {
        Self::with(SessionConfig::default())
    }

    fn with(config: SessionConfig) -> Self {
        let mut peer = Self {
            session: Session::new(config),
            input: BytesMut::new(),
            events: Vec::new(),
            replies: BytesMut::new(),
            reader: ChunkReader::new(),
            chunk_size: 128,
        };
        let mut hello = vec![3];
        hello.extend([0; 2 * 1536]);
        peer.bytes(&hello).unwrap();
        let reply = peer.session.take_output().unwrap();
        assert_eq!(reply.len(), 1 + 2 * 1536);
        peer
    }

    /// A peer whose publish of `live/key` was accepted.
    fn publishing() -> Self {
        let mut peer = Self::new();
        peer.connect();
        peer.publish("key");
        peer.session.accept_publish();
        peer.events.clear();
        peer.replies();
        peer
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.input.extend_from_slice(bytes);
        self.feed()
    }

    fn feed(&mut self) -> Result<(), Error> {
        self.session.feed(&mut self.input, &mut self.events)
    }

    fn message(
        &mut self,
        kind: u8,
        stream_id: u32,
        time: u32,
        payload: &[u8],
    ) -> Result<(), Error> {
        let message = Message {
            kind,
            stream_id,
            timestamp: time,
            payload: Bytes::copy_from_slice(payload),
        };
        self.bytes(&test_util::message(3, &message, self.chunk_size))
    }

    fn command(&mut self, stream_id: u32, values: &[Amf0Value]) {
        let payload = amf::encode(values).unwrap();
        self.message(20, stream_id, 0, &payload).unwrap();
    }

    fn call(&mut self, name: &str, transaction: f64, arguments: &[Amf0Value]) {
        let start = [string(name), n(transaction), NULL];
        self.command(0, &[&start[..], arguments].concat());
    }

    fn connect(&mut self) {
        let object = object([
            ("app", string("live")),
            ("tcUrl", string("rtmp://localhost/live")),
            ("flashVer", string("FMLE/3.0")),
        ]);
        self.command(0, &[string("connect"), n(1.0), object]);
    }

    fn publish(&mut self, name: &str) {
        self.command(
            1,
            &[
                string("publish"),
                n(5.0),
                NULL,
                string(name),
                string("live"),
            ],
        );
    }

    /// What the server has sent, a line for each message.
    fn replies(&mut self) -> Vec<String> {
        if let Some(output) = self.session.take_output() {
            self.replies.extend_from_slice(&output);
        }
        let mut lines = Vec::new();
        while let Some(message) = self.reader.read(&mut self.replies).unwrap() {
            let payload = &message.payload;
            let last = payload.last_chunk().map(|b| u32::from_be_bytes(*b));
            lines.push(match message.kind {
                3 => format!("ack {}", last.unwrap()),
                4 => format!("user {} {}", payload[1], last.unwrap()),
                5 => format!("window {}", last.unwrap()),
                6 => "bandwidth".into(),
                _ => describe(message.stream_id, &Command::decode(payload).unwrap()),
            });
        }
        assert!(self.replies.is_empty());
        lines
    }

    fn only_request(&self) -> &PublishRequest {
        match &self.events[..] {
            [Event::Publish(request)] => request,
            other => panic!("{other:?}"),
        }
    }
}

fn describe(stream_id: u32, command: &Command) -> String {
    let what = command.arguments.first().map(|value| {
        match (amf::property(value, "code").and_then(amf::as_str), value) {
            (Some(code), _) => code.to_owned(),
            (None, Amf0Value::Number(number)) => number.to_string(),
            (None, other) => format!("{other:?}"),
        }
    });
    let what = what.unwrap_or_default();
    format!(
        "{stream_id}: {} {} {what}",
        command.name, command.transaction
    )
}

const CONNECTED: [&str; 3] = [
    "window 2500000",
    "bandwidth",
    "0: _result 1 NetConnection.Connect.Success",
];
const STARTED: [&str; 2] = ["user 0 1", "1: onStatus 0 NetStream.Publish.Start"];

// The order of commands of real encoders.

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

// Verdicts

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

// Commands

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

// Pings, acknowledgements, aggregates

#[test]
fn ping_is_sent_and_answered() {
    let mut peer = Peer::publishing();
    peer.session.ping(70_000);
    assert_eq!(peer.replies(), ["user 6 70000"]);
    peer.message(4, 0, 0, &[0, 7, 0, 1, 0x11, 0x70]).unwrap();
    peer.message(4, 0, 0, &[0, 6, 0, 0, 0, 9]).unwrap();
    assert_eq!(peer.replies(), ["user 7 9"]);
}

#[test]
fn acks_carry_the_running_total_at_half_the_window() {
    let mut peer = Peer::publishing();
    let already = peer.session.acks.total();
    peer.bytes(&test_util::control(5, &20_000_u32.to_be_bytes()))
        .unwrap();
    let media = |length: usize| {
        let message = Message {
            kind: 9,
            stream_id: 1,
            timestamp: 0,
            payload: vec![1; length].into(),
        };
        test_util::message(6, &message, 128)
    };
    let mut total = already + 16;
    for expected in [false, true, false, true] {
        let bytes = media(6000);
        total += bytes.len() as u32;
        // In two pieces, of which the first ends inside a chunk: nothing may count twice.
        peer.bytes(&bytes[..3000]).unwrap();
        peer.bytes(&bytes[3000..]).unwrap();
        let expected = expected.then(|| format!("ack {total}"));
        assert_eq!(peer.replies(), expected.into_iter().collect::<Vec<_>>());
    }
}

fn flv_tag(kind: u8, time: u32, body: &[u8]) -> Vec<u8> {
    let mut tag = vec![kind];
    tag.extend(&(body.len() as u32).to_be_bytes()[1..]);
    tag.extend(&time.to_be_bytes()[1..]);
    tag.push(time.to_be_bytes()[0]);
    tag.extend([0; 3]);
    tag.extend(body);
    tag.extend((11 + body.len() as u32).to_be_bytes());
    tag
}

#[test]
fn aggregates_are_split_and_their_times_rebased() {
    let mut peer = Peer::publishing();
    let mut bytes = [
        flv_tag(9, 0x0100_0000, b"picture"),
        flv_tag(8, 0x0100_0015, b"sound"),
        flv_tag(
            18,
            0x0100_0015,
            &amf::encode(&[string("onMetaData")]).unwrap(),
        ),
        flv_tag(8, 0x0100_0015, b""),
        flv_tag(8, 0x0100_002a, b"more"),
    ]
    .concat();
    // The last back pointer is left out, then a tag is cut short.
    bytes.truncate(bytes.len() - 4);
    peer.message(22, 1, 5000, &bytes).unwrap();
    let expected = [
        Event::Video {
            timestamp: 5000,
            payload: "picture".into(),
        },
        Event::Audio {
            timestamp: 5021,
            payload: "sound".into(),
        },
        Event::Audio {
            timestamp: 5042,
            payload: "more".into(),
        },
    ];
    assert_eq!(peer.events, expected);
    peer.events.clear();
    let cut = [
        &flv_tag(9, 7, b"picture")[..],
        &flv_tag(8, 9, b"sound")[..13],
    ]
    .concat();
    peer.message(22, 1, 100, &cut).unwrap();
    assert_eq!(peer.events.len(), 1);
}

// Hostile peers

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
