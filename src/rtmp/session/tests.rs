use super::super::test_util;
use super::*;
use amf::{object, string};

mod commands;
mod encoders;
mod flow;
mod hostile;
mod verdicts;

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
