//! The client side of a publish: handshake, `connect`, `publish`, and then media out. Sans-IO.
//!
//! Adobe's RTMP specification 1.0, sections 5 and 7, with `releaseStream` and `FCPublish` as every encoder sends them before
//! `createStream`. Servers answer those two as they please, so nothing is made of the answers.
//!
//! ```text
//!  we     C0 C1 ────► C2 connect, Set Chunk Size ──► releaseStream FCPublish createStream ──► publish ──► media
//!  server      S0 S1 S2 ───────────────────► _result ─────────────────────────► _result ──► onStatus
//! ```
//!
//! The server is trusted as little as a publisher: what it sends goes through [`ChunkReader`] and the bounded AMF0 decoder.
//! Time limits are the caller's business, who has the clock and the socket ([`super::push`]).
//!
//! Not here: playing, RTMPS, Adobe's challenge of user and password, following a redirect (the refusal names its target).

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use rml_rtmp::chunk_io::ChunkSerializer;
use rml_rtmp::messages::MessagePayload;
use rml_rtmp::time::RtmpTimestamp;

use super::amf::{self, Amf0Value, Command};
use super::chunk::{self, ChunkReader, Message, kind};
use super::handshake::{self, ClientHandshake, Progress};
use super::url::Url;

/// One publishing connection.
///
/// Feed it what the server sends with [`handle_input`](Self::handle_input), send on what [`take_output`](Self::take_output)
/// gives after every call, and drain [`poll_event`](Self::poll_event). After an error only the output may still be sent.
pub struct Client {
    app: String,
    name: String,
    tc_url: String,
    state: State,
    handshake: ClientHandshake,
    reader: ChunkReader,
    writer: ChunkSerializer,
    output: BytesMut,
    events: VecDeque<Event>,
    /// Bytes read since the handshake; wraps, as the acknowledgement's field does.
    received: u32,
    acknowledged: u32,
    /// Bytes the server wants to hear about at the latest; 0 for never.
    window: u32,
}

/// What the caller must know of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The server has accepted the stream: media may be sent.
    Ready,
    /// The server has refused connection or stream. Both texts are the server's own.
    Refused {
        /// Such as `NetStream.Publish.BadName`; the command's name if the server gave none.
        code: String,
        /// For people; may be empty.
        description: String,
    },
    /// The server has ended a stream it had accepted.
    Closed {
        /// Such as `NetStream.Unpublish.Success`.
        code: String,
        /// For people; may be empty.
        description: String,
    },
}

/// Why the connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What answers there does not speak RTMP.
    #[error("no RTMP handshake: {0}")]
    Handshake(#[from] handshake::Error),
    /// The server's chunks cannot be read.
    #[error("unreadable RTMP from the server: {0}")]
    Chunk(#[from] chunk::Error),
    /// A command of the server cannot be read.
    #[error("unreadable command from the server: {0}")]
    Amf(#[from] amf::Error),
    /// A message of ours does not fit the protocol.
    #[error("cannot write an RTMP message: {0}")]
    Write(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Handshake,
    Connecting,
    Creating,
    Publishing { stream_id: u32 },
    Ready { stream_id: u32 },
    Ended,
}

impl Client {
    /// Begins to publish to `url`; the first output is the handshake.
    pub fn new(url: &Url) -> Result<Self, Error> {
        let (handshake, hello) = ClientHandshake::start()?;
        Ok(Self {
            app: url.app().to_owned(),
            name: url.name().to_owned(),
            tc_url: url.tc_url(),
            state: State::Handshake,
            handshake,
            reader: ChunkReader::new(),
            writer: ChunkSerializer::new(),
            output: BytesMut::from(&hello[..]),
            events: VecDeque::new(),
            received: 0,
            acknowledged: 0,
            window: 0,
        })
    }

    /// Takes what the server has sent. What is left in `input` is the start of something unfinished: leave it there.
    pub fn handle_input(&mut self, input: &mut BytesMut) -> Result<(), Error> {
        while self.state == State::Handshake {
            match self.handshake.feed(input)? {
                Progress::Waiting => return Ok(()),
                Progress::Reply(reply) => self.output.extend_from_slice(&reply),
                Progress::Done => self.connect()?,
            }
        }
        let length = input.len();
        while let Some(message) = self.reader.read(input)? {
            self.handle_message(&message)?;
        }
        self.received = self.received.wrapping_add((length - input.len()) as u32);
        self.acknowledge()
    }

    /// What the server has not answered yet, for the message when it hangs up or falls silent.
    pub fn waiting_for(&self) -> &'static str {
        match self.state {
            State::Handshake => "the handshake",
            State::Connecting => "connect (does the server know the application?)",
            State::Creating => "createStream",
            State::Publishing { .. } => "publish (does the server allow the stream's name or key?)",
            State::Ready { .. } | State::Ended => "nothing",
        }
    }

    /// The next event, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What is to be sent to the server, and forgotten here; empty if there is nothing.
    pub fn take_output(&mut self) -> Bytes {
        self.output.split().freeze()
    }

    /// Sends one FLV audio tag body, `timestamp` in milliseconds. Dropped unless the stream is ready.
    pub fn audio(&mut self, timestamp: u32, body: Bytes) -> Result<(), Error> {
        self.media(kind::AUDIO, timestamp, body)
    }

    /// Sends one FLV video tag body, `timestamp` (decoding time) in milliseconds. Dropped unless the stream is ready.
    pub fn video(&mut self, timestamp: u32, body: Bytes) -> Result<(), Error> {
        self.media(kind::VIDEO, timestamp, body)
    }

    /// Sends an FLV script tag body, such as `onMetaData` with its object, for the server to keep for viewers to come.
    pub fn metadata(&mut self, timestamp: u32, body: &[u8]) -> Result<(), Error> {
        let mut payload = BytesMut::from(&amf::encode(&[amf::string("@setDataFrame")])?[..]);
        payload.extend_from_slice(body);
        self.media(kind::DATA_AMF0, timestamp, payload.freeze())
    }

    /// Ends the stream in good order: `FCUnpublish` and `deleteStream`. Nothing can be sent afterwards.
    pub fn close(&mut self) -> Result<(), Error> {
        if let State::Publishing { stream_id } | State::Ready { stream_id } = self.state {
            let name = amf::string(self.name.clone());
            self.command(0, "FCUnpublish", UNPUBLISH, Amf0Value::Null, &[name])?;
            let id = Amf0Value::Number(f64::from(stream_id));
            self.command(0, "deleteStream", DELETE_STREAM, Amf0Value::Null, &[id])?;
        }
        self.state = State::Ended;
        Ok(())
    }

    fn connect(&mut self) -> Result<(), Error> {
        self.state = State::Connecting;
        let object = amf::object([
            ("app", amf::string(self.app.clone())),
            ("type", amf::string("nonprivate")),
            ("flashVer", amf::string(FLASH_VERSION)),
            ("tcUrl", amf::string(self.tc_url.clone())),
        ]);
        self.command(0, "connect", CONNECT, object, &[])?;
        let announcement = self
            .writer
            .set_max_chunk_size(CHUNK_SIZE, RtmpTimestamp::new(0))
            .map_err(|error| Error::Write(error.to_string()))?;
        self.output.extend_from_slice(&announcement.bytes);
        Ok(())
    }

    fn handle_message(&mut self, message: &Message) -> Result<(), Error> {
        match message.kind {
            kind::COMMAND_AMF0 => self.handle_command(&Command::decode(&message.payload)?),
            kind::COMMAND_AMF3 => {
                self.handle_command(&Command::decode(&amf::strip_amf3_prefix(&message.payload))?)
            }
            kind::WINDOW_ACK_SIZE => {
                if let Some(window) = word(&message.payload) {
                    self.window = window;
                }
                Ok(())
            }
            kind::SET_PEER_BANDWIDTH => match word(&message.payload) {
                // The specification asks for this answer; some servers hold back until they have it.
                Some(window) => self.message(
                    kind::WINDOW_ACK_SIZE,
                    0,
                    0,
                    Bytes::copy_from_slice(&window.to_be_bytes()),
                ),
                None => Ok(()),
            },
            kind::USER_CONTROL => match &message.payload[..] {
                [0, PING_REQUEST, time @ ..] if time.len() >= 4 => {
                    let answer = [&[0, PING_RESPONSE], &time[..4]].concat();
                    self.message(kind::USER_CONTROL, 0, 0, answer.into())
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn handle_command(&mut self, command: &Command) -> Result<(), Error> {
        let information = [&command.object].into_iter().chain(&command.arguments);
        match (command.name.as_str(), self.state) {
            ("_result", State::Connecting) if command.transaction == CONNECT => {
                self.state = State::Creating;
                let name = amf::string(self.name.clone());
                self.command(
                    0,
                    "releaseStream",
                    RELEASE_STREAM,
                    Amf0Value::Null,
                    std::slice::from_ref(&name),
                )?;
                self.command(0, "FCPublish", FC_PUBLISH, Amf0Value::Null, &[name])?;
                self.command(0, "createStream", CREATE_STREAM, Amf0Value::Null, &[])
            }
            ("_result", State::Creating) if command.transaction == CREATE_STREAM => {
                let id = information
                    .filter_map(|value| value.clone().get_number())
                    .next();
                let Some(id) = id.filter(|id| (0.0..=f64::from(u32::MAX)).contains(id)) else {
                    self.refused("createStream", "the server gave no stream id");
                    return Ok(());
                };
                let stream_id = id as u32;
                self.state = State::Publishing { stream_id };
                let arguments = [amf::string(self.name.clone()), amf::string("live")];
                self.command(stream_id, "publish", PUBLISH, Amf0Value::Null, &arguments)
            }
            ("_error", State::Connecting) if command.transaction == CONNECT => {
                self.status(command, "connect")
            }
            ("_error", State::Creating) if command.transaction == CREATE_STREAM => {
                self.status(command, "createStream")
            }
            ("_error", State::Publishing { .. }) if command.transaction == PUBLISH => {
                self.status(command, "publish")
            }
            ("onStatus", _) => self.status(command, "onStatus"),
            ("close", _) => self.status(command, "close"),
            _ => Ok(()),
        }
    }

    /// Judges a status, an error or a close.
    fn status(&mut self, command: &Command, fallback: &str) -> Result<(), Error> {
        let status = Status::of(command);
        let code = status.code.as_deref().unwrap_or(fallback);
        let good = command.name == "onStatus" && status.level.as_deref() != Some("error");
        match self.state {
            State::Publishing { stream_id } if good && code == "NetStream.Publish.Start" => {
                self.state = State::Ready { stream_id };
                self.events.push_back(Event::Ready);
            }
            // Seen with level "status", or none, from servers in the field.
            _ if good && !FATAL.iter().any(|prefix| code.starts_with(prefix)) => {}
            State::Ready { .. } => {
                self.state = State::Ended;
                self.events.push_back(Event::Closed {
                    code: code.to_owned(),
                    description: status.description,
                });
            }
            State::Ended => {}
            _ => self.refused(code, &status.description),
        }
        Ok(())
    }

    fn refused(&mut self, code: &str, description: &str) {
        self.state = State::Ended;
        self.events.push_back(Event::Refused {
            code: code.to_owned(),
            description: description.to_owned(),
        });
    }

    fn media(&mut self, kind: u8, timestamp: u32, body: Bytes) -> Result<(), Error> {
        match self.state {
            State::Ready { stream_id } => self.message(kind, stream_id, timestamp, body),
            _ => Ok(()),
        }
    }

    fn command(
        &mut self,
        stream_id: u32,
        name: &str,
        transaction: f64,
        object: Amf0Value,
        arguments: &[Amf0Value],
    ) -> Result<(), Error> {
        let mut values = vec![amf::string(name), Amf0Value::Number(transaction), object];
        values.extend_from_slice(arguments);
        self.message(kind::COMMAND_AMF0, stream_id, 0, amf::encode(&values)?)
    }

    fn message(
        &mut self,
        kind: u8,
        stream_id: u32,
        timestamp: u32,
        payload: Bytes,
    ) -> Result<(), Error> {
        let message = MessagePayload {
            timestamp: RtmpTimestamp::new(timestamp),
            type_id: kind,
            message_stream_id: stream_id,
            data: payload,
        };
        // "Can be dropped" makes the writer begin every message with a full header. The 4 to 11 bytes saved by the short
        // forms are not worth it: servers differ on what a message means that begins with no header at all.
        let packet = self
            .writer
            .serialize(&message, false, true)
            .map_err(|error| Error::Write(error.to_string()))?;
        self.output.extend_from_slice(&packet.bytes);
        Ok(())
    }

    /// Tells the server how much has arrived, at the latest every half of its window.
    fn acknowledge(&mut self) -> Result<(), Error> {
        if self.window > 0
            && self.received.wrapping_sub(self.acknowledged) >= self.window.div_ceil(2)
        {
            self.acknowledged = self.received;
            self.message(
                kind::ACKNOWLEDGEMENT,
                0,
                0,
                Bytes::copy_from_slice(&self.received.to_be_bytes()),
            )?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the name: it may be a key.
        f.debug_struct("Client")
            .field("tc_url", &self.tc_url)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// The information object of `onStatus` and `_error`.
struct Status {
    level: Option<String>,
    code: Option<String>,
    description: String,
}

impl Status {
    fn of(command: &Command) -> Self {
        let values = || [&command.object].into_iter().chain(&command.arguments);
        let text = |name| {
            values()
                .find_map(|value| amf::property(value, name))
                .and_then(amf::as_str)
                .map(clean)
        };
        let mut description = text("description").unwrap_or_default();
        let redirect = values()
            .find_map(|value| amf::property(value, "ex"))
            .and_then(|ex| amf::property(ex, "redirect"))
            .and_then(amf::as_str);
        if let Some(target) = redirect {
            if !description.is_empty() {
                description.push_str("; ");
            }
            description.push_str("the server redirects to ");
            description.push_str(&clean(target));
        }
        Self {
            level: text("level"),
            // An empty one tells as much as none.
            code: text("code").filter(|code| !code.is_empty()),
            description,
        }
    }
}

/// A server's text made fit for a log line.
fn clean(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(MAX_TEXT)
        .collect()
}

fn word(mut payload: &[u8]) -> Option<u32> {
    (payload.len() >= 4).then(|| payload.get_u32())
}

// Transaction ids. `close` waits for no answer.
const CONNECT: f64 = 1.0;
const RELEASE_STREAM: f64 = 2.0;
const FC_PUBLISH: f64 = 3.0;
const CREATE_STREAM: f64 = 4.0;
const PUBLISH: f64 = 5.0;
const UNPUBLISH: f64 = 6.0;
const DELETE_STREAM: f64 = 7.0;

/// Status codes that end a stream whatever their level.
const FATAL: [&str; 6] = [
    "NetConnection.Connect.Closed",
    "NetConnection.Connect.Rejected",
    "NetStream.Publish.BadName",
    "NetStream.Publish.Denied",
    "NetStream.Publish.Unauthorized",
    "NetStream.Unpublish",
];
const FLASH_VERSION: &str = concat!(
    "FMLE/3.0 (compatible; lhls/",
    env!("CARGO_PKG_VERSION"),
    ")"
);
/// Bytes. A picture then takes one chunk or few; every server met takes it.
const CHUNK_SIZE: u32 = 65536;
/// Characters kept of a text that goes to a log.
const MAX_TEXT: usize = 300;
// User control events (7.1.7).
const PING_REQUEST: u8 = 6;
const PING_RESPONSE: u8 = 7;

#[cfg(test)]
mod tests;
