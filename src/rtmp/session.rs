//! The server's side of one RTMP connection, from the handshake to the end of publishing.
//!
//! RTMP specification 1.0, sections 5 and 7, and what encoders need beyond it: answers to `releaseStream`, `FCPublish`
//! and their like, commands in any order, and refusals they can show to their users.
//!
//! ```text
//!  feed(bytes) ─► Publish ─► the caller's verdict ─► Video, Audio, Metadata ... ─► Unpublish
//!        └► take_output ─► peer       accept_publish / refuse_publish
//! ```
//!
//! `feed` stops at a request to publish, and leaves the rest of its input where it is until there is a verdict. So nothing
//! is stored for a publisher that does not wait (most do), and the events of one call never reach past a decision that the
//! caller has yet to make. What is fed must be appended to the same buffer each time; that is also how received bytes are
//! counted for acknowledgements.
//!
//! Deliberately not here: timeouts and idle limits (the caller has the clock), playback (`play` is refused: it goes over
//! HTTP), authentication, the contents of audio and video, and any trust in metadata.

mod acks;
mod replies;
mod request;

pub use request::{ConnectRequest, PublishRequest, Refusal};

use super::amf::{self, Amf0Value, Command};
use super::chunk::{self, ChunkReader, Message, kind};
use super::handshake::{self, Progress, ServerHandshake};
use super::limits::{
    MAX_AGGREGATE_TAGS, MAX_MESSAGE_STREAMS, MAX_MESSAGES_WITHOUT_MEDIA, MAX_PENDING_OUTPUT,
};
use acks::Acks;
use bytes::{Buf, Bytes, BytesMut};
use replies::{Replies, status_info};
use request::{Connect, shorten};
use rml_rtmp::messages::{PeerBandwidthLimitType, RtmpMessage, UserControlEventType};
use std::fmt;

/// What the server announces to its peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionConfig {
    /// Bytes the peer may send before it needs an acknowledgement. We send one at every half of this, or of the window the
    /// peer asks for.
    pub window_ack_size: u32,
    /// Chunk size of what we send, in bytes, 128 to 65536. Replies are short; it only must exceed the longest.
    pub chunk_size: u32,
    /// Whether `connect` too waits for a verdict: then it is told by [`Event::Connect`].
    pub ask_connect: bool,
    /// FourCC codes of enhanced RTMP that the rest of the server takes, for encoders that ask.
    pub four_ccs: Vec<&'static str>,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            window_ack_size: 2_500_000,
            chunk_size: 4096,
            ask_connect: false,
            four_ccs: Vec::new(),
        }
    }
}

/// What a publisher did.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// It wants to connect. Answer with [`Session::accept_connect`] or [`Session::refuse_connect`], then feed again.
    Connect(ConnectRequest),
    /// It wants to publish. Answer with [`Session::accept_publish`] or [`Session::refuse_publish`], then feed again.
    Publish(PublishRequest),
    /// The body of an FLV video tag.
    Video {
        /// Milliseconds on the publisher's clock; wraps at 2^32, and may jump.
        timestamp: u32,
        /// Never empty.
        payload: Bytes,
    },
    /// The body of an FLV audio tag.
    Audio {
        /// Milliseconds on the publisher's clock; wraps at 2^32, and may jump.
        timestamp: u32,
        /// Never empty.
        payload: Bytes,
    },
    /// `onMetaData`: what the publisher says about its stream, an object as a rule. For information only, it is often wrong.
    Metadata(Amf0Value),
    /// The end of publishing. A later [`Event::Publish`] on the same connection is possible.
    Unpublish,
}

/// Why a connection must be closed, once what [`Session::take_output`] still gives has been sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The handshake failed, or the peer does not speak RTMP.
    #[error(transparent)]
    Handshake(#[from] handshake::Error),
    /// Chunks that cannot be read.
    #[error(transparent)]
    Chunk(#[from] chunk::Error),
    /// A command that cannot be read.
    #[error("unreadable command: {0}")]
    Command(#[from] amf::Error),
    /// See [`MAX_MESSAGES_WITHOUT_MEDIA`].
    #[error("{MAX_MESSAGES_WITHOUT_MEDIA} messages in a row without any published media")]
    NoMedia,
    /// See [`MAX_PENDING_OUTPUT`].
    #[error("asks for more replies than it reads: over {MAX_PENDING_OUTPUT} bytes wait to be sent")]
    TooManyReplies,
}

/// The server's side of one connection.
pub struct Session {
    config: SessionConfig,
    /// Until it is over.
    handshake: Option<ServerHandshake>,
    reader: ChunkReader,
    replies: Replies,
    connect: Option<Connect>,
    /// The `connect` that awaits its verdict.
    connecting: Option<Command>,
    publishing: Publishing,
    /// Bits of the message streams on which a second publish was refused while the first goes on.
    refused_streams: u32,
    /// The peer sent `FCPublish` and waits for `onFCPublish`.
    fc_publish: bool,
    /// Bit `n` is set while message stream `n` exists.
    message_streams: u32,
    messages_without_media: u32,
    acks: Acks,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Publishing {
    No,
    /// Asked for on this message stream; no verdict yet.
    Pending(u32),
    Active(u32),
}

impl Session {
    /// A session for a connection just accepted, before its handshake.
    pub fn new(config: SessionConfig) -> Self {
        let mut reader = ChunkReader::new();
        reader.allow_media(false);
        Self {
            handshake: Some(ServerHandshake::new()),
            reader,
            replies: Replies::new(config.chunk_size),
            connect: None,
            connecting: None,
            publishing: Publishing::No,
            refused_streams: 0,
            fc_publish: false,
            message_streams: 0,
            messages_without_media: 0,
            acks: Acks::new(config.window_ack_size),
            config,
        }
    }

    /// A session for a connection whose handshake is over, somebody else having done it.
    pub fn after_handshake(config: SessionConfig) -> Self {
        Self {
            handshake: None,
            ..Self::new(config)
        }
    }

    /// Consumes bytes from the front of `input` and appends what they mean to `events`.
    ///
    /// Nothing is consumed while a verdict on [`Event::Publish`] is due. After an error the connection is over: send
    /// the output, then close.
    pub fn feed(&mut self, input: &mut BytesMut, events: &mut Vec<Event>) -> Result<(), Error> {
        while let Some(handshake) = &mut self.handshake {
            match handshake.feed(input)? {
                Progress::Waiting => return Ok(()),
                Progress::Reply(bytes) => self.replies.raw(&bytes),
                Progress::Done => self.handshake = None,
            }
        }
        self.acks.arrived(input.len());
        let result = self.read_messages(input, events);
        self.acks.left(input.len());
        if let Some(total) = self.acks.due() {
            let sequence_number = total;
            self.replies
                .control(RtmpMessage::Acknowledgement { sequence_number });
        }
        result
    }

    /// Bytes to send to the peer, if any.
    pub fn take_output(&mut self) -> Option<Bytes> {
        self.replies.take()
    }

    /// A publish or a connect was asked for and awaits its verdict; [`feed`](Self::feed) consumes nothing.
    pub fn awaits_verdict(&self) -> bool {
        self.connecting.is_some() || matches!(self.publishing, Publishing::Pending(_))
    }

    /// A publish was accepted and has not ended.
    pub fn is_publishing(&self) -> bool {
        matches!(self.publishing, Publishing::Active(_))
    }

    /// The verdict on [`Event::Connect`]: go on. Feed again afterwards.
    pub fn accept_connect(&mut self) {
        if let Some(command) = self.connecting.take() {
            self.connected(&command);
        }
    }

    /// The verdict on [`Event::Connect`]: no. The caller closes the connection.
    pub fn refuse_connect(&mut self, description: &str) {
        if let Some(command) = self.connecting.take() {
            let code = "NetConnection.Connect.Rejected";
            self.replies
                .error(only_connect(&command), code, description.to_owned());
        }
    }

    /// The verdict on [`Event::Publish`]: go on. Feed again afterwards.
    pub fn accept_publish(&mut self) {
        let Publishing::Pending(stream_id) = self.publishing else {
            return;
        };
        self.publishing = Publishing::Active(stream_id);
        self.reader.allow_media(true);
        self.replies
            .user_control_stream(UserControlEventType::StreamBegin, stream_id);
        if std::mem::take(&mut self.fc_publish) {
            self.replies.fc_status("onFCPublish", PUBLISH_START);
        }
        self.replies
            .status(stream_id, "status", PUBLISH_START, "Publishing.");
    }

    /// The verdict on [`Event::Publish`]: no. The peer may ask again, or is closed by the caller.
    pub fn refuse_publish(&mut self, refusal: &Refusal) {
        let Publishing::Pending(stream_id) = self.publishing else {
            return;
        };
        self.publishing = Publishing::No;
        self.fc_publish = false;
        self.replies
            .status(stream_id, "error", refusal.code, &refusal.description);
    }

    /// Ends a running publish because of what is being published, in words for the publisher's user.
    pub fn fail_publish(&mut self, refusal: &Refusal) {
        if let Publishing::Active(stream_id) = self.publishing {
            self.end_run();
            self.replies
                .status(stream_id, "error", refusal.code, &refusal.description);
        }
    }

    /// Ends a running publish from our side, with the reason in words for the publisher's user.
    pub fn unpublish(&mut self, reason: &str) {
        if let Publishing::Active(stream_id) = self.publishing {
            self.end_run();
            self.replies
                .status(stream_id, "status", UNPUBLISH_SUCCESS, reason);
        }
    }

    fn end_run(&mut self) {
        self.publishing = Publishing::No;
        self.refused_streams = 0;
        self.reader.allow_media(false);
    }

    /// Asks the peer for a sign of life; any bytes it sends are one. Nothing is sent before `connect`.
    ///
    /// `now` is in milliseconds on any clock, and wraps.
    pub fn ping(&mut self, now: u32) {
        if self.connect.is_some() {
            self.replies
                .user_control_time(UserControlEventType::PingRequest, now);
        }
    }

    fn read_messages(
        &mut self,
        input: &mut BytesMut,
        events: &mut Vec<Event>,
    ) -> Result<(), Error> {
        while !self.awaits_verdict() {
            let Some(message) = self.reader.read(input)? else {
                break;
            };
            self.messages_without_media += 1;
            if self.messages_without_media > MAX_MESSAGES_WITHOUT_MEDIA {
                return Err(Error::NoMedia);
            }
            self.message(message, events)?;
            if self.replies.len() > MAX_PENDING_OUTPUT {
                return Err(Error::TooManyReplies);
            }
        }
        Ok(())
    }

    fn message(&mut self, message: Message, events: &mut Vec<Event>) -> Result<(), Error> {
        let payload = message.payload;
        match message.kind {
            // Not by the number of the stream that is published, which some encoders get wrong.
            kind::AUDIO | kind::VIDEO | kind::AGGREGATE | kind::DATA_AMF0 | kind::DATA_AMF3
                if self.was_refused(message.stream_id) => {}
            kind::AUDIO | kind::VIDEO => {
                self.media(message.kind, message.timestamp, payload, events)
            }
            kind::AGGREGATE => self.aggregate(message.timestamp, payload, events),
            kind::DATA_AMF0 => self.data(&payload, events),
            kind::DATA_AMF3 => self.data(&amf::strip_amf3_prefix(&payload), events),
            kind::COMMAND_AMF0 => {
                let command = Command::decode(&payload)?;
                self.command(message.stream_id, command, events);
            }
            kind::COMMAND_AMF3 => {
                let command = Command::decode(&amf::strip_amf3_prefix(&payload))?;
                self.command(message.stream_id, command, events);
            }
            kind::USER_CONTROL => self.user_control(&payload),
            kind::WINDOW_ACK_SIZE => {
                if let Some(&size) = payload.first_chunk() {
                    self.acks.set_window(u32::from_be_bytes(size));
                }
            }
            // The peer's acknowledgements tell nothing that TCP does not; we send too little for a bandwidth limit.
            _ => {}
        }
        Ok(())
    }

    /// Media that is not part of a running publish is dropped: some encoders send on after they unpublish, or after a refusal.
    fn media(&mut self, kind: u8, timestamp: u32, payload: Bytes, events: &mut Vec<Event>) {
        if !self.is_publishing() || payload.is_empty() {
            return;
        }
        self.messages_without_media = 0;
        events.push(match kind {
            kind::AUDIO => Event::Audio { timestamp, payload },
            _ => Event::Video { timestamp, payload },
        });
    }

    /// An aggregate holds FLV tags. Their times count from the first one's, which is the message's.
    fn aggregate(&mut self, timestamp: u32, mut payload: Bytes, events: &mut Vec<Event>) {
        let mut offset = None;
        let mut tags = 0;
        while let Some(&[tag, a, b, c, d, e, f, upper, ..]) =
            payload.first_chunk::<FLV_TAG_HEADER>()
        {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            let time = u32::from_be_bytes([upper, d, e, f]);
            payload.advance(FLV_TAG_HEADER);
            if payload.len() < length {
                // Cut off in the middle: what came before is good.
                break;
            }
            tags += 1;
            if tags > MAX_AGGREGATE_TAGS {
                break;
            }
            let body = payload.split_to(length);
            let offset = *offset.get_or_insert_with(|| timestamp.wrapping_sub(time));
            let time = time.wrapping_add(offset);
            // Data is left out: it could make events many times the size of the message, and is for information only.
            if let kind @ (kind::AUDIO | kind::VIDEO) = tag & 0x1f {
                self.media(kind, time, body, events);
            }
            // Each tag is followed by its length, to read a file backwards; some leave out the last.
            payload.advance(FLV_BACK_POINTER.min(payload.len()));
        }
    }

    /// Data is for information only, so none is worth an error: FFmpeg, for one, sends a timecode that is no AMF0.
    fn data(&mut self, payload: &[u8], events: &mut Vec<Event>) {
        if !self.is_publishing() {
            return;
        }
        let mut values = amf::decode(payload).unwrap_or_default().into_iter();
        let mut name = values.next();
        if name.as_ref().and_then(amf::as_str) == Some("@setDataFrame") {
            name = values.next();
        }
        if name.as_ref().and_then(amf::as_str) == Some("onMetaData") {
            events.push(Event::Metadata(values.next().unwrap_or(Amf0Value::Null)));
        }
    }

    fn user_control(&mut self, payload: &[u8]) {
        if let Some(&[0, PING_REQUEST, a, b, c, d]) = payload.first_chunk() {
            self.replies.user_control_time(
                UserControlEventType::PingResponse,
                u32::from_be_bytes([a, b, c, d]),
            );
        }
    }

    fn command(&mut self, stream_id: u32, command: Command, events: &mut Vec<Event>) {
        let transaction = command.transaction;
        match command.name.as_str() {
            "connect" => self.on_connect(command, events),
            "createStream" => self.on_create_stream(transaction),
            "publish" => self.on_publish(stream_id, &command, events),
            "releaseStream" | "_checkbw" => self.replies.result(transaction, Amf0Value::Undefined),
            "getStreamLength" => self.replies.result(transaction, Amf0Value::Number(0.0)),
            "FCPublish" => {
                self.replies.result(transaction, Amf0Value::Undefined);
                if self.is_publishing() {
                    self.replies.fc_status("onFCPublish", PUBLISH_START);
                } else {
                    self.fc_publish = true;
                }
            }
            "FCUnpublish" => {
                self.replies.result(transaction, Amf0Value::Undefined);
                self.fc_publish = false;
                self.replies.fc_status("onFCUnpublish", UNPUBLISH_SUCCESS);
                self.end_publish(events);
            }
            "closeStream" if self.was_refused(stream_id) => {}
            "closeStream" => self.end_publish(events),
            "deleteStream" => {
                let id = match command.arguments.first() {
                    Some(&Amf0Value::Number(id)) => Some(id as u32),
                    _ => None,
                };
                self.message_streams &= !id.and_then(bit).unwrap_or(0);
                // Some publish on a stream they never created: any deletion ends that.
                let gone = match self.publishing {
                    Publishing::Active(id) => self.message_streams & bit(id).unwrap_or(0) == 0,
                    _ => false,
                };
                if id.is_none() || gone {
                    self.end_publish(events);
                }
            }
            "play" | "play2" => self.replies.status(
                stream_id,
                "error",
                "NetStream.Play.Failed",
                "This server takes streams in over RTMP; playback is over HTTP (HLS).",
            ),
            // Answers to us, and notices that expect none.
            name if name.starts_with(['_', '@', '|']) || name.starts_with("on") => {}
            name => {
                let name = shorten(name, 64);
                self.replies.error(
                    transaction,
                    "NetConnection.Call.Failed",
                    format!("There is no method {name} here."),
                );
            }
        }
    }

    fn on_connect(&mut self, command: Command, events: &mut Vec<Event>) {
        if self.connect.is_some() {
            return self.replies.error(
                command.transaction,
                "NetConnection.Connect.Rejected",
                "This connection is connected already.".into(),
            );
        }
        if self.config.ask_connect {
            let connect = Connect::from_object(&command.object);
            events.push(Event::Connect(connect.request()));
            self.connecting = Some(command);
        } else {
            self.connected(&command);
        }
    }

    fn connected(&mut self, command: &Command) {
        self.connect = Some(Connect::from_object(&command.object));
        self.replies.control(RtmpMessage::WindowAcknowledgement {
            size: self.config.window_ack_size,
        });
        self.replies.control(RtmpMessage::SetPeerBandwidth {
            size: self.config.window_ack_size,
            limit_type: PeerBandwidthLimitType::Dynamic,
        });
        self.replies.announce_chunk_size();

        let server = amf::object([
            // Some encoders look for a version of Adobe's server here.
            ("fmsVer", amf::string("FMS/3,0,1,123")),
            ("capabilities", Amf0Value::Number(31.0)),
        ]);
        let mut status = status_info("status", "NetConnection.Connect.Success", "Connected.");
        if let Amf0Value::Object(properties) = &mut status {
            // AMF0, whatever was asked for.
            properties.insert("objectEncoding".into(), Amf0Value::Number(0.0));
            let asked = amf::property(&command.object, "fourCcList").is_some();
            if asked && !self.config.four_ccs.is_empty() {
                let four_ccs = self.config.four_ccs.iter().map(|&c| amf::string(c));
                properties.insert(
                    "fourCcList".into(),
                    Amf0Value::StrictArray(four_ccs.collect()),
                );
            }
        }
        self.replies
            .command(0, "_result", only_connect(command), server, vec![status]);
    }

    fn on_create_stream(&mut self, transaction: f64) {
        let free = (1..=MAX_MESSAGE_STREAMS).find(|id| self.message_streams & (1 << id) == 0);
        match free {
            Some(id) => {
                self.message_streams |= 1 << id;
                let id = Amf0Value::Number(f64::from(id));
                self.replies
                    .command(0, "_result", transaction, Amf0Value::Null, vec![id]);
            }
            None => self.replies.error(
                transaction,
                "NetConnection.Call.Failed",
                format!("A connection may have {MAX_MESSAGE_STREAMS} streams."),
            ),
        }
    }

    fn on_publish(&mut self, stream_id: u32, command: &Command, events: &mut Vec<Event>) {
        let verdict = match &self.connect {
            None => Err(Refusal::bad_name("Connect before publishing.")),
            Some(_) if self.is_publishing() => Err(Refusal::bad_name(
                "This connection is publishing already; open another for a second stream.",
            )),
            Some(connect) => connect.publish(command.string(0).unwrap_or_default()),
        };
        match verdict {
            Ok(request) => {
                self.publishing = Publishing::Pending(stream_id);
                events.push(Event::Publish(request));
            }
            Err(refusal) => {
                if matches!(self.publishing, Publishing::Active(id) if id != stream_id) {
                    self.refused_streams |= bit(stream_id).unwrap_or(0);
                }
                self.replies
                    .status(stream_id, "error", refusal.code, &refusal.description);
            }
        }
    }

    /// Whether what comes on this message stream is a publish that was refused beside the one that goes on.
    fn was_refused(&self, stream_id: u32) -> bool {
        self.refused_streams & bit(stream_id).unwrap_or(0) != 0
    }

    /// FCUnpublish, closeStream and deleteStream may all come, one after the other.
    fn end_publish(&mut self, events: &mut Vec<Event>) {
        if self.is_publishing() {
            self.unpublish("Publishing has ended.");
            events.push(Event::Unpublish);
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("handshake_done", &self.handshake.is_none())
            .field("connected", &self.connect.is_some())
            .field("publishing", &self.publishing)
            .finish_non_exhaustive()
    }
}

/// The number of a connect: without one it means the only one it can have.
fn only_connect(command: &Command) -> f64 {
    match command.transaction {
        0.0 => 1.0,
        number => number,
    }
}

/// The bit of a message stream's id in the set of those that exist.
fn bit(message_stream: u32) -> Option<u32> {
    1_u32.checked_shl(message_stream)
}

const PUBLISH_START: &str = "NetStream.Publish.Start";
const UNPUBLISH_SUCCESS: &str = "NetStream.Unpublish.Success";

/// User control event (specification section 7.1.7).
const PING_REQUEST: u8 = 6;

/// Type, length, timestamp in two fields, and stream id (FLV specification, annex E.4.1).
const FLV_TAG_HEADER: usize = 11;
const FLV_BACK_POINTER: usize = 4;

#[cfg(test)]
mod tests;
