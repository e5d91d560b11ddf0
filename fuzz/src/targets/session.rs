//! The server's session: any bytes, or any sequence of messages, give events in an order that makes sense, and replies that are proper
//! chunks and commands, within the limits.

use bytes::BytesMut;
use lhls::rtmp::amf::Command;
use lhls::rtmp::chunk::{ChunkReader, kind};
use lhls::rtmp::limits::{MAX_AMF_DEPTH, MAX_PENDING_OUTPUT};
use lhls::rtmp::session::{Event, Refusal, Session, SessionConfig};

use super::script::Script;
use super::wire;

/// The input, its messages, the values of one command (its decoder states 100 times its bytes), and the replies.
pub fn memory_bound(length: usize) -> usize {
    let written = 64 * length + MOST_WRITTEN;
    2 * (200 * written.min(64 << 10) + 4 * written + 4 * MAX_PENDING_OUTPUT)
}

/// The first byte says how the rest is to be read.
pub fn run(data: &[u8]) {
    let mut script = Script(data);
    match script.byte() {
        // Handshake and all. It takes far longer than what follows, so this is one case of many.
        0 => {
            let mut peer = Peer::new(Session::new(SessionConfig::default()));
            peer.feed(script.0);
        }
        mode @ 1..0x40 => {
            let mut peer = Peer::after_handshake();
            for piece in script.0.chunks(usize::from(mode).pow(2)) {
                peer.feed(piece);
            }
        }
        mode @ 0x40..0x80 => {
            let mut peer = Peer::after_handshake();
            peer.feed(&wire::until_publish("live", "stream"));
            assert!(peer.session.is_publishing());
            for piece in script.0.chunks(usize::from(mode - 0x3f).pow(2)) {
                peer.feed(piece);
            }
        }
        0x80.. => messages(script),
    }
}

/// One operation a message or a verdict.
fn messages(mut script: Script<'_>) {
    let mut peer = Peer::after_handshake();
    let mut chunk_size = 128;
    let mut time = 0_u32;
    let mut written = 0;
    while !script.is_over() && !peer.over && written < MOST_WRITTEN {
        let mut bytes = Vec::new();
        let operation = script.byte();
        let stream = u32::from(operation >> 6);
        match operation & 0x3f {
            0 => bytes = wire::until_publish("live", "stream"),
            1 => {
                chunk_size = 1 + usize::from(script.u16());
                let size = (chunk_size as u32).to_be_bytes();
                wire::message(&mut bytes, 2, (1, 0, 0), &size, 128);
            }
            2 => peer.accept = !peer.accept,
            3 => peer.session.ping(time),
            4 => peer.session.unpublish("Over."),
            5 => peer.session.fail_publish(&Refusal::bad_name("Failed.")),
            6 => time = script.u32(),
            7 => {
                let payload = script.short();
                wire::message(&mut bytes, 4, (9, stream, time), payload, chunk_size);
            }
            8 => {
                let payload = script.short();
                wire::message(&mut bytes, 5, (8, stream, time), payload, chunk_size);
            }
            9 => {
                let payload = script.short();
                wire::message(&mut bytes, 6, (22, stream, time), payload, chunk_size);
            }
            10 => {
                let (kind, payload) = (script.byte(), script.short());
                wire::message(&mut bytes, 2, (kind, stream, time), payload, chunk_size);
            }
            11 => {
                let mut connect = wire::connect(&[("app", "live")]);
                // Before the end of the object, so that they are properties of it.
                connect.truncate(connect.len() - 3);
                connect.extend_from_slice(script.short());
                wire::message(&mut bytes, 3, (20, 0, 0), &connect, chunk_size);
            }
            12 => {
                let name = String::from_utf8_lossy(script.short());
                let publish = wire::command("publish", 4, &[&name]);
                wire::message(&mut bytes, 3, (20, stream, 0), &publish, chunk_size);
            }
            13 => {
                let payload = [&b"\x02\x00\x0aonMetaData"[..], script.short()].concat();
                wire::message(&mut bytes, 4, (18, stream, time), &payload, chunk_size);
            }
            14 => {
                let depth = usize::from(script.byte()) % (2 * MAX_AMF_DEPTH);
                let nested = [b"\x02\x00\x01x".to_vec(), b"\x0a\0\0\0\x01".repeat(depth)].concat();
                wire::message(&mut bytes, 3, (20, stream, 0), &nested, chunk_size);
            }
            15 => bytes = script.short().to_vec(),
            choice => {
                let name = COMMANDS[usize::from(choice) % COMMANDS.len()];
                let mut command = wire::command(name, 5, &[]);
                command.extend_from_slice(script.take(usize::from(choice & 3) * 3));
                let (kind, prefix) = if choice & 4 == 0 {
                    (20, &[][..])
                } else {
                    (17, &[0][..])
                };
                let payload = [prefix, &command].concat();
                wire::message(&mut bytes, 3, (kind, stream, 0), &payload, chunk_size);
            }
        }
        written += bytes.len();
        peer.feed(&bytes);
    }
}

struct Peer {
    session: Session,
    input: BytesMut,
    events: Vec<Event>,
    accept: bool,
    publishing: bool,
    over: bool,
    /// Reads the replies.
    reader: ChunkReader,
    replies: BytesMut,
    /// Bytes of the answer to the handshake that are still to come.
    handshake: usize,
}

impl Peer {
    fn new(session: Session) -> Self {
        Self {
            handshake: 3073,
            ..Self::with(session)
        }
    }

    fn after_handshake() -> Self {
        Self::with(Session::after_handshake(SessionConfig::default()))
    }

    fn with(session: Session) -> Self {
        Self {
            session,
            input: BytesMut::new(),
            events: Vec::new(),
            accept: true,
            publishing: false,
            over: false,
            reader: ChunkReader::new(),
            replies: BytesMut::new(),
            handshake: 0,
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        if self.over {
            return;
        }
        self.input.extend_from_slice(bytes);
        loop {
            let fed = self.session.feed(&mut self.input, &mut self.events);
            self.over |= fed.is_err();
            let mut wants_verdict = false;
            // Ending a publish from our side gives no event.
            self.publishing &= self.session.is_publishing() || !self.events.is_empty();
            for event in self.events.drain(..) {
                assert!(!wants_verdict, "{event:?} before the verdict");
                match event {
                    Event::Publish(_) => {
                        assert!(!self.publishing);
                        wants_verdict = true;
                    }
                    Event::Unpublish => assert!(std::mem::take(&mut self.publishing)),
                    Event::Audio { payload, .. } | Event::Video { payload, .. } => {
                        assert!(self.publishing && !payload.is_empty());
                    }
                    Event::Metadata(_) => assert!(self.publishing),
                    Event::Connect(_) => unreachable!("connecting needs no verdict here"),
                }
            }
            assert_eq!(self.session.awaits_verdict(), wants_verdict);
            if wants_verdict && self.accept {
                self.session.accept_publish();
                self.publishing = true;
            } else if wants_verdict {
                self.session.refuse_publish(&Refusal::bad_name("No."));
            }
            self.read_replies();
            if self.over || !wants_verdict {
                break;
            }
        }
    }

    fn read_replies(&mut self) {
        if let Some(output) = self.session.take_output() {
            // What one message asks for comes on top of what was there before it.
            assert!(output.len() <= MAX_PENDING_OUTPUT + 8192);
            self.replies.extend_from_slice(&output);
        }
        if self.handshake > 0 && !self.replies.is_empty() {
            let _ = self.replies.split_to(self.handshake);
            self.handshake = 0;
        }
        loop {
            match self.reader.read(&mut self.replies) {
                Ok(Some(message)) => {
                    if message.kind == kind::COMMAND_AMF0 {
                        Command::decode(&message.payload).expect("a reply that can be read");
                    }
                }
                Ok(None) => break,
                Err(error) => panic!("a reply that is no chunk: {error}"),
            }
        }
        assert!(self.replies.is_empty(), "half a reply");
    }
}

const COMMANDS: [&str; 14] = [
    "connect",
    "createStream",
    "publish",
    "releaseStream",
    "FCPublish",
    "FCUnpublish",
    "closeStream",
    "deleteStream",
    "_checkbw",
    "getStreamLength",
    "play",
    "_result",
    "onStatus",
    "nothing",
];
const MOST_WRITTEN: usize = 64 << 10;
