//! The client against a scripted server.

use super::*;
use crate::rtmp::test_util;

/// What a server does: read the client's messages, send its own.
struct Server {
    client: Client,
    reader: ChunkReader,
    from_client: BytesMut,
}

impl Server {
    /// A client whose handshake is done, with its first messages read up to Set Chunk Size.
    fn connected() -> Self {
        let mut client =
            Client::new(&"rtmp://example.com/live/inst/key?token=1".parse().unwrap()).unwrap();
        let hello = client.take_output();
        assert_eq!((hello.len(), hello[0]), (1537, 3));
        // The plain handshake: S1 of any content, S2 the echo of C1.
        let mut answer = BytesMut::from(&[3u8][..]);
        answer.extend_from_slice(&[0; 1536]);
        answer.extend_from_slice(&hello[1..]);
        // In two pieces, the border inside S1.
        let rest = answer.split_off(1000);
        client.handle_input(&mut answer).unwrap();
        answer.unsplit(rest);
        client.handle_input(&mut answer).unwrap();
        assert!(answer.is_empty());
        let output = client.take_output();
        assert_eq!(&output[..1536], &[0; 1536], "C2 is the echo of S1");
        let mut server = Self {
            client,
            reader: ChunkReader::new(),
            from_client: BytesMut::from(&output[1536..]),
        };
        let connect = server.command();
        assert_eq!(
            (connect.name.as_str(), connect.transaction),
            ("connect", 1.0)
        );
        let text = |name| {
            amf::property(&connect.object, name)
                .and_then(amf::as_str)
                .unwrap()
        };
        assert_eq!(text("app"), "live/inst");
        assert_eq!(text("tcUrl"), "rtmp://example.com/live/inst");
        assert_eq!(text("type"), "nonprivate");
        assert!(text("flashVer").starts_with("FMLE/3.0 (compatible; lhls/"));
        assert!(server.message().is_none());
        server
    }

    /// As above, and the stream is accepted.
    fn ready() -> Self {
        let mut server = Self::connected();
        server.result(1.0, Amf0Value::Null);
        server.commands(["releaseStream", "FCPublish", "createStream"]);
        server.result(4.0, Amf0Value::Number(7.0));
        let publish = server.message().unwrap();
        assert_eq!(publish.stream_id, 7);
        let publish = Command::decode(&publish.payload).unwrap();
        assert_eq!(
            (publish.string(0), publish.string(1)),
            (Some("key?token=1"), Some("live"))
        );
        server.status("status", "NetStream.Publish.Start");
        assert_eq!(server.client.poll_event(), Some(Event::Ready));
        server
    }

    fn message(&mut self) -> Option<Message> {
        self.from_client
            .extend_from_slice(&self.client.take_output());
        self.reader.read(&mut self.from_client).unwrap()
    }

    fn command(&mut self) -> Command {
        let message = self.message().expect("a command");
        assert_eq!(message.kind, kind::COMMAND_AMF0);
        Command::decode(&message.payload).unwrap()
    }

    fn commands<const N: usize>(&mut self, names: [&str; N]) {
        for name in names {
            assert_eq!(self.command().name, name);
        }
        assert!(self.message().is_none());
    }

    fn send(&mut self, kind: u8, payload: Bytes) {
        let message = Message {
            kind,
            stream_id: 0,
            timestamp: 0,
            payload,
        };
        let mut bytes = BytesMut::from(&test_util::message(3, &message, 128)[..]);
        self.client.handle_input(&mut bytes).unwrap();
        assert!(bytes.is_empty());
    }

    fn values(&mut self, values: &[Amf0Value]) {
        self.send(kind::COMMAND_AMF0, amf::encode(values).unwrap());
    }

    fn result(&mut self, transaction: f64, value: Amf0Value) {
        self.values(&[
            amf::string("_result"),
            Amf0Value::Number(transaction),
            Amf0Value::Null,
            value,
        ]);
    }

    fn error(&mut self, transaction: f64, information: Amf0Value) {
        self.values(&[
            amf::string("_error"),
            Amf0Value::Number(transaction),
            Amf0Value::Null,
            information,
        ]);
    }

    fn status(&mut self, level: &str, code: &str) {
        let information = amf::object([
            ("level", amf::string(level)),
            ("code", amf::string(code)),
            ("description", amf::string("in\r\nwords")),
        ]);
        self.values(&[
            amf::string("onStatus"),
            Amf0Value::Number(0.0),
            Amf0Value::Null,
            information,
        ]);
    }
}

#[test]
fn accepted_stream_carries_media() {
    let mut server = Server::ready();
    server
        .client
        .metadata(
            0,
            &amf::encode(&[amf::string("onMetaData"), amf::object([])]).unwrap(),
        )
        .unwrap();
    let data = server.message().unwrap();
    assert_eq!((data.kind, data.stream_id), (kind::DATA_AMF0, 7));
    let values = amf::decode(&data.payload).unwrap();
    assert_eq!(
        values[..2],
        [amf::string("@setDataFrame"), amf::string("onMetaData")]
    );

    // Times on both sides of the extended timestamp, equal steps (which a writer may shorten to nothing), and pictures
    // of several chunks.
    for (i, time) in [0u32, 33, 66, 0xff_fffe, 0xff_ffff, 0x100_0000, u32::MAX, 32]
        .into_iter()
        .enumerate()
    {
        let picture = Bytes::from(vec![i as u8; 150_000]);
        server.client.video(time, picture.clone()).unwrap();
        server
            .client
            .audio(time, Bytes::from_static(&[0xaf, 1, 2]))
            .unwrap();
        let video = server.message().unwrap();
        assert_eq!(
            (video.kind, video.stream_id, video.timestamp),
            (kind::VIDEO, 7, time)
        );
        assert_eq!(video.payload, picture);
        let audio = server.message().unwrap();
        assert_eq!(
            (audio.kind, audio.timestamp, audio.payload.len()),
            (kind::AUDIO, time, 3)
        );
    }
    server.client.close().unwrap();
    server.commands(["FCUnpublish", "deleteStream"]);
    server.client.video(40, Bytes::from_static(&[1])).unwrap();
    assert!(server.message().is_none());
}

#[test]
fn bad_name_is_a_refusal() {
    let mut server = Server::connected();
    server.result(1.0, Amf0Value::Null);
    server.commands(["releaseStream", "FCPublish", "createStream"]);
    server.result(4.0, Amf0Value::Number(1.0));
    server.commands(["publish"]);
    server.status("error", "NetStream.Publish.BadName");
    let refusal = Event::Refused {
        code: "NetStream.Publish.BadName".into(),
        description: "inwords".into(),
    };
    assert_eq!(server.client.poll_event(), Some(refusal));
    assert_eq!(server.client.poll_event(), None);
    server.client.video(0, Bytes::from_static(&[1])).unwrap();
    assert!(server.message().is_none());
}

#[test]
fn bad_name_is_a_refusal_at_any_level() {
    let mut server = Server::connected();
    server.result(1.0, Amf0Value::Null);
    server.commands(["releaseStream", "FCPublish", "createStream"]);
    server.result(4.0, Amf0Value::Number(1.0));
    server.status("status", "NetStream.Publish.BadName");
    assert!(matches!(
        server.client.poll_event(),
        Some(Event::Refused { .. })
    ));
}

/// Found by fuzzing: the caller was told of a refusal with nothing in it.
#[test]
fn empty_code_is_no_code() {
    let mut server = Server::connected();
    server.error(1.0, amf::object([("code", amf::string(""))]));
    let refusal = Event::Refused {
        code: "connect".into(),
        description: String::new(),
    };
    assert_eq!(server.client.poll_event(), Some(refusal));
}

#[test]
fn rejected_connection_names_the_redirect() {
    let mut server = Server::connected();
    let ex = amf::object([
        ("code", Amf0Value::Number(302.0)),
        ("redirect", amf::string("rtmp://other/live")),
    ]);
    server.error(
        1.0,
        amf::object([
            ("level", amf::string("error")),
            ("code", amf::string("NetConnection.Connect.Rejected")),
            ("description", amf::string("busy")),
            ("ex", ex),
        ]),
    );
    assert_eq!(
        server.client.poll_event(),
        Some(Event::Refused {
            code: "NetConnection.Connect.Rejected".into(),
            description: "busy; the server redirects to rtmp://other/live".into(),
        })
    );
}

#[test]
fn unknown_statuses_and_commands_are_passed_over() {
    let mut server = Server::connected();
    server.values(&[
        amf::string("onBWDone"),
        Amf0Value::Number(0.0),
        Amf0Value::Null,
    ]);
    server.result(1.0, Amf0Value::Null);
    server.commands(["releaseStream", "FCPublish", "createStream"]);
    server.result(4.0, Amf0Value::Number(1.0));
    server.commands(["publish"]);
    server.status("status", "NetStream.Something.Redirected");
    server.values(&[
        amf::string("onFCPublish"),
        Amf0Value::Number(0.0),
        Amf0Value::Null,
    ]);
    assert_eq!(server.client.poll_event(), None);
    server.status("status", "NetStream.Publish.Start");
    assert_eq!(server.client.poll_event(), Some(Event::Ready));
    server.status("warning", "NetStream.Something.Else");
    server.status("status", "NetStream.Publish.Start");
    assert_eq!(server.client.poll_event(), None);
    server.status("status", "NetStream.Unpublish.Success");
    assert!(matches!(
        server.client.poll_event(),
        Some(Event::Closed { .. })
    ));
}

#[test]
fn error_to_release_stream_is_tolerated() {
    let mut server = Server::connected();
    server.result(1.0, Amf0Value::Null);
    server.commands(["releaseStream", "FCPublish", "createStream"]);
    server.error(
        2.0,
        amf::object([
            ("code", amf::string("NetConnection.Call.Failed")),
            ("level", amf::string("error")),
        ]),
    );
    server.error(3.0, Amf0Value::Undefined);
    assert_eq!(server.client.poll_event(), None);
    server.result(4.0, Amf0Value::Number(1.0));
    server.commands(["publish"]);
}

#[test]
fn create_stream_without_a_number_is_a_refusal() {
    for id in [
        Amf0Value::Null,
        Amf0Value::Number(-1.0),
        Amf0Value::Number(f64::NAN),
        amf::string("1"),
    ] {
        let mut server = Server::connected();
        server.result(1.0, Amf0Value::Null);
        server.result(4.0, id);
        assert!(matches!(
            server.client.poll_event(),
            Some(Event::Refused { .. })
        ));
    }
}

#[test]
fn ping_and_bandwidth_are_answered() {
    let mut server = Server::ready();
    server.send(kind::USER_CONTROL, Bytes::from_static(&[0, 6, 1, 2, 3, 4]));
    let pong = server.message().unwrap();
    assert_eq!(
        (pong.kind, &pong.payload[..]),
        (kind::USER_CONTROL, &[0, 7, 1, 2, 3, 4][..])
    );
    server.send(
        kind::SET_PEER_BANDWIDTH,
        Bytes::from_static(&[0, 0, 16, 0, 2]),
    );
    let window = server.message().unwrap();
    assert_eq!(
        (window.kind, &window.payload[..]),
        (kind::WINDOW_ACK_SIZE, &[0, 0, 16, 0][..])
    );
    for short in [&[0u8][..], &[0, 6, 1], &[0, 32]] {
        server.send(kind::USER_CONTROL, Bytes::from_static(short));
        server.send(kind::SET_PEER_BANDWIDTH, Bytes::from_static(&[1]));
        server.send(kind::WINDOW_ACK_SIZE, Bytes::from_static(&[1]));
    }
    assert!(server.message().is_none());
}

#[test]
fn acknowledges_by_running_total() {
    let mut server = Server::ready();
    server.send(kind::WINDOW_ACK_SIZE, Bytes::from_static(&[0, 0, 0x40, 0]));
    let mut totals = Vec::new();
    for _ in 0..40 {
        server.send(kind::DATA_AMF0, Bytes::from(vec![0; 1000]));
        while let Some(message) = server.message() {
            assert_eq!(message.kind, kind::ACKNOWLEDGEMENT);
            totals.push(word(&message.payload).unwrap());
        }
    }
    assert!(totals.len() >= 4, "{totals:?}");
    assert!(
        totals
            .windows(2)
            .all(|pair| pair[1] - pair[0] >= 0x2000 && pair[1] - pair[0] < 0x4000),
        "{totals:?}"
    );
}

#[test]
fn what_is_not_rtmp_is_an_error() {
    let mut client = Client::new(&"rtmp://h/a/b".parse().unwrap()).unwrap();
    assert!(matches!(
        client.handle_input(&mut BytesMut::from(&b"HTTP/1.1 400 Bad Request\r\n"[..])),
        Err(Error::Handshake(_))
    ));
}

#[test]
fn nested_amf_is_an_error() {
    let mut server = Server::ready();
    let mut payload = BytesMut::from(
        &amf::encode(&[amf::string("onStatus"), Amf0Value::Number(0.0)]).unwrap()[..],
    );
    payload.extend_from_slice(&[10, 0, 0, 0, 1].repeat(5000));
    let message = Message {
        kind: kind::COMMAND_AMF0,
        stream_id: 0,
        timestamp: 0,
        payload: payload.freeze(),
    };
    let mut bytes = BytesMut::from(&test_util::message(3, &message, 128)[..]);
    assert!(matches!(
        server.client.handle_input(&mut bytes),
        Err(Error::Amf(_))
    ));
}
