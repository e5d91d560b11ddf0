//! The inbound chunk reader: bytes in, whole RTMP messages out.
//!
//! RTMP specification 1.0, section 5.3 (chunking), and the habits of real senders where they differ from it:
//!
//! - A type-3 chunk should repeat the extended timestamp; old librtmp and FFmpeg leave it out. The next four bytes are
//!   taken for it only if they equal the field last seen on that chunk stream.
//! - A type-3 chunk that starts a message right after a type-0 one takes that header's timestamp as its delta by the
//!   specification (FMLE relies on it); GStreamer and others mean a delta of zero. The first reading is used only below
//!   one second, so a wrong guess stays small.
//! - A new chunk stream may open with a type-1 header (librtmp's ping), and control messages may come on any chunk stream.
//! - A full header in the middle of a message starts a new one and drops the old, unless it is the running message's own
//!   header again: some writers send that with every chunk.
//! - Messages without payload are dropped.
//!
//! A message that lies whole in one chunk is handed out without a copy; any other is copied once into its own buffer, which
//! grows with what has arrived, never with what is announced. The announced chunk size is taken as it is, up to 2^31-1: it
//! reserves nothing, since a chunk never holds more than the rest of its message, and message length is limited.
//!
//! Deliberately not here: what messages mean (except Set Chunk Size and Abort, which are about chunks), aggregates, and the
//! timeline: timestamps are the sender's 32-bit milliseconds, wrapping.

use super::limits::{
    ASSEMBLY_STEP, MAX_CHUNK_STREAMS, MAX_MEDIA_MESSAGE, MAX_OPEN_BYTES, MAX_OPEN_MESSAGES,
    MAX_OTHER_MESSAGE,
};
use bytes::{Buf, Bytes, BytesMut};

/// One complete RTMP message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Message type id; see [`kind`].
    pub kind: u8,
    /// Message stream id: 0 for the connection itself, else what `createStream` gave out.
    pub stream_id: u32,
    /// Milliseconds on the sender's clock; wraps at 2^32, and may jump.
    pub timestamp: u32,
    /// Never empty. It may share memory with the buffer it was read from, so keep it only as long as needed.
    pub payload: Bytes,
}

/// Message type ids (specification sections 5.4 and 7.1).
pub mod kind {
    #![allow(missing_docs)]
    pub const SET_CHUNK_SIZE: u8 = 1;
    pub const ABORT: u8 = 2;
    pub const ACKNOWLEDGEMENT: u8 = 3;
    pub const USER_CONTROL: u8 = 4;
    pub const WINDOW_ACK_SIZE: u8 = 5;
    pub const SET_PEER_BANDWIDTH: u8 = 6;
    pub const AUDIO: u8 = 8;
    pub const VIDEO: u8 = 9;
    pub const DATA_AMF3: u8 = 15;
    pub const COMMAND_AMF3: u8 = 17;
    pub const DATA_AMF0: u8 = 18;
    pub const COMMAND_AMF0: u8 = 20;
    pub const AGGREGATE: u8 = 22;
}

/// Why a peer's chunks cannot be read any further. There is no way to find the next chunk, so the connection must end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The header relies on an earlier one that was never sent.
    #[error(
        "chunk stream {chunk_stream} begins with a type-{format} header, which leaves out the message's length; expected type 0 or 1"
    )]
    NoEarlierHeader {
        /// Chunk stream id.
        chunk_stream: u32,
        /// Header type, 2 or 3.
        format: u8,
    },
    /// See [`MAX_CHUNK_STREAMS`].
    #[error("more than {MAX_CHUNK_STREAMS} chunk streams on one connection")]
    TooManyChunkStreams,
    /// See [`MAX_OPEN_MESSAGES`].
    #[error("more than {MAX_OPEN_MESSAGES} messages begun and not finished")]
    TooManyOpenMessages,
    /// See [`MAX_OPEN_BYTES`].
    #[error("more than {MAX_OPEN_BYTES} bytes in messages begun and not finished")]
    TooManyOpenBytes,
    /// See [`MAX_MEDIA_MESSAGE`] and [`MAX_OTHER_MESSAGE`].
    #[error("a message of type {kind} announces {length} bytes; the limit is {limit}")]
    MessageTooLong {
        /// Message type id.
        kind: u8,
        /// Announced length in bytes.
        length: usize,
        /// The limit for that type in bytes.
        limit: usize,
    },
    /// Zero, or the top bit set.
    #[error("Set Chunk Size announces {0} bytes; expected 1 to 2147483647")]
    BadChunkSize(u32),
    /// A Set Chunk Size or Abort too short for its one field.
    #[error("a control message of type {kind} holds {length} bytes; expected 4")]
    TruncatedControl {
        /// Message type id, 1 or 2.
        kind: u8,
        /// Bytes it holds.
        length: usize,
    },
}

/// Puts messages together from the chunks of one direction of one connection.
///
/// After an error it must not be used any more.
#[derive(Debug)]
pub struct ChunkReader {
    /// Bytes of payload in a full chunk, as last announced by the sender.
    chunk_size: usize,
    /// Bytes of an audio, video, aggregate or data message at the most.
    media_limit: usize,
    /// Few, so a search from the front beats a map, and no choice of ids can make it slow.
    streams: Vec<ChunkStream>,
    open_messages: usize,
    open_bytes: usize,
}

impl ChunkReader {
    /// A reader for a connection whose handshake has just ended.
    pub fn new() -> Self {
        Self {
            chunk_size: INITIAL_CHUNK_SIZE,
            media_limit: MAX_MEDIA_MESSAGE,
            streams: Vec::new(),
            open_messages: 0,
            open_bytes: 0,
        }
    }

    /// Whether long media and data messages are taken; else they may be no longer than any other message. They are at first.
    ///
    /// This is for connections that have no business to send media (yet), so that they cannot make us hold what media may take.
    pub fn allow_media(&mut self, allow: bool) {
        self.media_limit = if allow {
            MAX_MEDIA_MESSAGE
        } else {
            MAX_OTHER_MESSAGE
        };
    }

    /// The next complete message out of `input`, consumed from its front; `None` when more bytes are needed.
    ///
    /// `input` keeps at most one unfinished chunk, and so never needs to hold more than [`MAX_MEDIA_MESSAGE`] and a header.
    /// Set Chunk Size and Abort are obeyed and not returned.
    pub fn read(&mut self, input: &mut BytesMut) -> Result<Option<Message>, Error> {
        while let Some(chunk) = self.parse_header(input)? {
            if input.len() < chunk.header_length + chunk.payload_length {
                break;
            }
            input.advance(chunk.header_length);
            let Some(message) = self.take_chunk(chunk, input)? else {
                continue;
            };
            match message.kind {
                kind::SET_CHUNK_SIZE => self.set_chunk_size(&message)?,
                kind::ABORT => self.abort(&message)?,
                _ => return Ok(Some(message)),
            }
        }
        Ok(None)
    }

    /// Bytes held in messages that are not complete yet.
    pub fn open_bytes(&self) -> usize {
        self.open_bytes
    }

    /// Reads the header at the front of `input` without consuming or changing anything, for the rest of its chunk may
    /// not have come yet.
    fn parse_header(&self, input: &[u8]) -> Result<Option<Chunk>, Error> {
        let mut fields = Fields(input);
        let Some((format, chunk_stream)) = fields.basic_header() else {
            return Ok(None);
        };
        let position = self.streams.iter().position(|s| s.id == chunk_stream);
        let known = position.and_then(|at| self.streams.get(at));
        let mut header = match known {
            Some(stream) => stream.header,
            None if format > 1 => {
                return Err(Error::NoEarlierHeader {
                    chunk_stream,
                    format,
                });
            }
            None if self.streams.len() >= MAX_CHUNK_STREAMS => {
                return Err(Error::TooManyChunkStreams);
            }
            None => Header::default(),
        };
        let running = known.and_then(|s| s.partial.as_ref()).map(BytesMut::len);

        let Some(continues) = (match format {
            3 => fields
                .repeated_timestamp(header.extended)
                .map(|()| running.is_some()),
            _ => fields.message_header(format, &mut header),
        }) else {
            return Ok(None);
        };
        // Only a type-0 header can say beyond doubt that it means the message already running.
        let continues = continues || (format == 0 && known.is_some_and(|s| s.header == header));
        let received = if continues { running } else { None };
        if format == 3 && received.is_none() {
            header.timestamp = header.timestamp.wrapping_add(header.delta);
        }

        let limit = match header.kind {
            kind::AUDIO | kind::VIDEO | kind::AGGREGATE | kind::DATA_AMF0 | kind::DATA_AMF3 => {
                self.media_limit
            }
            _ => MAX_OTHER_MESSAGE,
        };
        if header.length > limit {
            return Err(Error::MessageTooLong {
                kind: header.kind,
                length: header.length,
                limit,
            });
        }
        let remaining = header.length.saturating_sub(received.unwrap_or(0));
        Ok(Some(Chunk {
            position,
            chunk_stream,
            header,
            continues: received.is_some(),
            header_length: input.len() - fields.0.len(),
            payload_length: remaining.min(self.chunk_size),
        }))
    }

    /// Takes a chunk's payload, which is there whole, off the front of `input`; gives the message if that was its end.
    fn take_chunk(&mut self, chunk: Chunk, input: &mut BytesMut) -> Result<Option<Message>, Error> {
        let header = chunk.header;
        let at = chunk.position.unwrap_or_else(|| {
            self.streams.push(ChunkStream {
                id: chunk.chunk_stream,
                header,
                partial: None,
            });
            self.streams.len() - 1
        });
        let Some(stream) = self.streams.get_mut(at) else {
            return Ok(None);
        };
        stream.header = header;
        let mut partial = stream.partial.take();
        if let Some(open) = &partial {
            self.open_messages -= 1;
            self.open_bytes -= open.len();
            if !chunk.continues {
                partial = None;
            }
        }

        let payload = if partial.is_none() && chunk.payload_length == header.length {
            input.split_to(chunk.payload_length)
        } else {
            let mut open = partial.unwrap_or_default();
            let (arrived, _) = input.split_at(chunk.payload_length);
            if open.capacity() - open.len() < arrived.len() {
                let ahead = ASSEMBLY_STEP.max(open.len()).max(arrived.len());
                open.reserve(ahead.min(header.length - open.len()));
            }
            open.extend_from_slice(arrived);
            input.advance(chunk.payload_length);
            open
        };

        if payload.len() < header.length {
            if self.open_messages >= MAX_OPEN_MESSAGES {
                return Err(Error::TooManyOpenMessages);
            }
            if self.open_bytes + payload.len() > MAX_OPEN_BYTES {
                return Err(Error::TooManyOpenBytes);
            }
            self.open_messages += 1;
            self.open_bytes += payload.len();
            stream.partial = Some(payload);
            return Ok(None);
        }
        if payload.is_empty() {
            return Ok(None);
        }
        Ok(Some(Message {
            kind: header.kind,
            stream_id: header.stream_id,
            timestamp: header.timestamp,
            payload: payload.freeze(),
        }))
    }

    fn set_chunk_size(&mut self, message: &Message) -> Result<(), Error> {
        let size = control_field(message)?;
        if size == 0 || size > i32::MAX as u32 {
            return Err(Error::BadChunkSize(size));
        }
        self.chunk_size = size as usize;
        Ok(())
    }

    fn abort(&mut self, message: &Message) -> Result<(), Error> {
        let id = control_field(message)?;
        let stream = self.streams.iter_mut().find(|s| s.id == id);
        if let Some(open) = stream.and_then(|s| s.partial.take()) {
            self.open_messages -= 1;
            self.open_bytes -= open.len();
        }
        Ok(())
    }
}

impl Default for ChunkReader {
    fn default() -> Self {
        Self::new()
    }
}

/// What a chunk stream's headers have said so far, and the message running on it.
#[derive(Debug)]
struct ChunkStream {
    id: u32,
    header: Header,
    /// What has come of a message that is not complete.
    partial: Option<BytesMut>,
}

/// The values later headers of the same chunk stream may leave out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Header {
    timestamp: u32,
    /// What a type-3 chunk that starts a message adds to the timestamp.
    delta: u32,
    /// The extended timestamp field as last sent, if the last header had one.
    extended: Option<u32>,
    length: usize,
    kind: u8,
    stream_id: u32,
}

/// A chunk's header, read but not yet taken.
struct Chunk {
    position: Option<usize>,
    chunk_stream: u32,
    header: Header,
    /// It goes on with the running message.
    continues: bool,
    header_length: usize,
    payload_length: usize,
}

/// Reads header fields off the front; `None` when the bytes end early.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    /// Header type (0 to 3) and chunk stream id (2 to 65599).
    fn basic_header(&mut self) -> Option<(u8, u32)> {
        let [first] = self.take()?;
        let id = match first & 0x3f {
            0 => {
                let [low] = self.take()?;
                64 + u32::from(low)
            }
            1 => 64 + u32::from(u16::from_le_bytes(self.take()?)),
            id => u32::from(id),
        };
        Some((first >> 6, id))
    }

    /// A header of type 0, 1 or 2. Such a header never continues a message: the answer is always `false`.
    fn message_header(&mut self, format: u8, header: &mut Header) -> Option<bool> {
        let field = self.u24()?;
        if format < 2 {
            header.length = self.u24()? as usize;
            [header.kind] = self.take()?;
        }
        if format == 0 {
            header.stream_id = u32::from_le_bytes(self.take()?);
        }
        header.extended = match field {
            EXTENDED => Some(u32::from_be_bytes(self.take()?)),
            _ => None,
        };
        let time = header.extended.unwrap_or(field);
        if format == 0 {
            header.timestamp = time;
            header.delta = if time < FIRST_DELTA_LIMIT { time } else { 0 };
        } else {
            header.timestamp = header.timestamp.wrapping_add(time);
            header.delta = time;
        }
        Some(false)
    }

    /// Skips the extended timestamp of a type-3 chunk if the sender repeats it.
    fn repeated_timestamp(&mut self, extended: Option<u32>) -> Option<()> {
        let Some(value) = extended else {
            return Some(());
        };
        let field = value.to_be_bytes();
        let seen = self.0.get(..field.len()).unwrap_or(self.0);
        if field.starts_with(seen) {
            let _: [u8; 4] = self.take()?;
        }
        Some(())
    }

    fn u24(&mut self) -> Option<u32> {
        let [a, b, c] = self.take()?;
        Some(u32::from_be_bytes([0, a, b, c]))
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }
}

/// The one 32-bit field of Set Chunk Size and Abort.
fn control_field(message: &Message) -> Result<u32, Error> {
    match message.payload.first_chunk() {
        Some(field) => Ok(u32::from_be_bytes(*field)),
        None => Err(Error::TruncatedControl {
            kind: message.kind,
            length: message.payload.len(),
        }),
    }
}

/// Chunk size until the sender announces another (specification section 5.4.1).
const INITIAL_CHUNK_SIZE: usize = 128;

/// A 24-bit timestamp field of this value says that a 32-bit one follows the header.
const EXTENDED: u32 = 0x00ff_ffff;

/// Milliseconds. A type-0 timestamp below this may be meant as the delta of the type-3 message after it; a larger one is a
/// point in time and no delta.
const FIRST_DELTA_LIMIT: u32 = 1000;

#[cfg(test)]
mod tests;
