//! The publishing client: whatever a server answers, the client says proper things, and reports each end once.

use std::sync::OnceLock;

use bytes::{Bytes, BytesMut};
use lhls::rtmp::amf::Command;
use lhls::rtmp::chunk::{ChunkReader, kind};
use lhls::rtmp::client::{Client, Event};
use lhls::rtmp::url::Url;

use super::script::Script;
use super::wire;

/// The input, its messages, the values of one command (its decoder states 100 times its bytes), and what is to be sent.
pub fn memory_bound(length: usize) -> usize {
    let written = 64 * length + MOST_WRITTEN;
    2 * (200 * written.min(64 << 10) + 16 * written + (64 << 10))
}

/// The first byte says how the rest is to be read.
pub fn run(data: &[u8]) {
    let mut script = Script(data);
    match script.byte() {
        0 => Server::new().feed(script.0),
        mode @ 1..0x80 => {
            let mut server = Server::after_handshake();
            for piece in script.0.chunks(usize::from(mode).pow(2)) {
                server.feed(piece);
            }
        }
        0x80.. => messages(script),
    }
}

fn messages(mut script: Script<'_>) {
    let mut server = Server::after_handshake();
    let mut chunk_size = 128;
    let mut time = 0_u32;
    while !script.is_over() && !server.over && server.sent < MOST_WRITTEN {
        let mut bytes = Vec::new();
        let operation = script.byte();
        match operation & 0x0f {
            0 => {
                let mut result = wire::command("_result", 1, &[]);
                result.extend_from_slice(script.short());
                wire::message(&mut bytes, 3, (20, 0, 0), &result, chunk_size);
            }
            1 => {
                let mut result = wire::command("_result", 4, &[]);
                result.extend([0]);
                result.extend(f64::from(script.byte()).to_be_bytes());
                wire::message(&mut bytes, 3, (20, 0, 0), &result, chunk_size);
            }
            2 => {
                let code = CODES[usize::from(script.byte()) % CODES.len()];
                let level = ["status", "error", "warning"][usize::from(operation >> 4) % 3];
                let status = wire::status(level, code, &String::from_utf8_lossy(script.short()));
                wire::message(&mut bytes, 5, (20, 1, 0), &status, chunk_size);
            }
            3 => {
                let mut error = wire::command("_error", script.byte(), &[]);
                error.extend_from_slice(script.short());
                wire::message(&mut bytes, 3, (20, 0, 0), &error, chunk_size);
            }
            4 => {
                chunk_size = 1 + usize::from(script.u16());
                let size = (chunk_size as u32).to_be_bytes();
                wire::message(&mut bytes, 2, (1, 0, 0), &size, 128);
            }
            5 => {
                let window = script.u32().to_be_bytes();
                let kind = if operation & 0x10 == 0 { 5 } else { 6 };
                wire::message(&mut bytes, 2, (kind, 0, 0), &window, chunk_size);
            }
            6 => {
                let ping = [&[0, 6], script.take(4)].concat();
                wire::message(&mut bytes, 2, (4, 0, 0), &ping, chunk_size);
            }
            7 => {
                let (kind, payload) = (script.byte(), script.short());
                wire::message(&mut bytes, 6, (kind, 0, 0), payload, chunk_size);
            }
            8 => {
                let mut command = wire::command("close", 0, &[]);
                command.extend_from_slice(script.short());
                wire::message(
                    &mut bytes,
                    3,
                    (17, 0, 0),
                    &[&[0][..], &command].concat(),
                    chunk_size,
                );
            }
            9 => bytes = script.short().to_vec(),
            10 => {
                let body = Bytes::copy_from_slice(script.short());
                server.write(|client| client.audio(time, body));
            }
            11 => {
                let body = Bytes::copy_from_slice(script.short());
                server.write(|client| client.video(time, body));
            }
            12 => {
                let body = script.short();
                server.write(|client| client.metadata(time, body));
            }
            13 if operation >> 4 == 1 => time = script.u32(),
            13 if operation >> 4 == 0 => server.write(Client::close),
            _ => bytes = wire::welcome(),
        }
        server.feed(&bytes);
    }
}

struct Server {
    client: Client,
    input: BytesMut,
    sent: usize,
    ready: bool,
    ended: bool,
    over: bool,
    handshake_over: bool,
    reader: ChunkReader,
    said: BytesMut,
}

impl Server {
    fn new() -> Self {
        static URL: OnceLock<Url> = OnceLock::new();
        let url = URL.get_or_init(|| "rtmp://localhost/live/stream".parse().expect("a URL"));
        Self {
            client: Client::new(url).expect("a handshake"),
            input: BytesMut::new(),
            sent: 0,
            ready: false,
            ended: false,
            over: false,
            handshake_over: false,
            reader: ChunkReader::new(),
            said: BytesMut::new(),
        }
    }

    fn after_handshake() -> Self {
        let mut server = Self::new();
        let mut hello = vec![0; 3073];
        hello[0] = 3;
        server.feed(&hello);
        assert!(!server.over);
        server
    }

    fn feed(&mut self, bytes: &[u8]) {
        if self.over {
            return;
        }
        self.sent += bytes.len();
        self.input.extend_from_slice(bytes);
        self.over |= self.client.handle_input(&mut self.input).is_err();
        self.look();
    }

    fn write(&mut self, act: impl FnOnce(&mut Client) -> Result<(), lhls::rtmp::client::Error>) {
        act(&mut self.client).expect("media that can be written");
        self.look();
    }

    fn look(&mut self) {
        self.said.extend_from_slice(&self.client.take_output());
        while let Some(event) = self.client.poll_event() {
            assert!(!self.ended, "{event:?} after the end");
            match event {
                Event::Ready => assert!(!std::mem::replace(&mut self.ready, true)),
                Event::Refused { code, .. } => {
                    assert!(!self.ready && !code.is_empty());
                    self.ended = true;
                }
                Event::Closed { .. } => {
                    assert!(self.ready);
                    self.ended = true;
                }
            }
        }
        assert!(!self.client.waiting_for().is_empty());
        // C0, C1 and C2 come before chunks, and all of them before the first message.
        let handshake = 1 + 2 * 1536;
        if self.said.len() < handshake && !self.handshake_over {
            return;
        }
        if !self.handshake_over {
            let _ = self.said.split_to(handshake);
            self.handshake_over = true;
        }
        while let Some(message) = self.reader.read(&mut self.said).expect("proper chunks") {
            if message.kind == kind::COMMAND_AMF0 {
                Command::decode(&message.payload).expect("a proper command");
            }
        }
        assert!(self.said.is_empty(), "half a message");
    }
}

const CODES: [&str; 8] = [
    "NetStream.Publish.Start",
    "NetStream.Publish.BadName",
    "NetStream.Publish.Denied",
    "NetStream.Unpublish.Success",
    "NetConnection.Connect.Closed",
    "NetConnection.Connect.Rejected",
    "NetStream.Data.Start",
    "",
];
const MOST_WRITTEN: usize = 64 << 10;
