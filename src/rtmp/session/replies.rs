//! What the server says: control messages, answers to commands, and `onStatus`, in chunks.

use super::request::shorten;
use crate::rtmp::amf::{self, Amf0Value};
use bytes::{Bytes, BytesMut};
use rml_rtmp::chunk_io::ChunkSerializer;
use rml_rtmp::messages::{MessagePayload, RtmpMessage, UserControlEventType};
use rml_rtmp::time::RtmpTimestamp;

/// Writes replies and keeps them until they are taken.
pub(super) struct Replies {
    writer: ChunkSerializer,
    chunk_size: u32,
    chunk_size_announced: bool,
    output: BytesMut,
}

impl Replies {
    /// `chunk_size` is taken up once it has been announced.
    pub(super) fn new(chunk_size: u32) -> Self {
        Self {
            writer: ChunkSerializer::new(),
            chunk_size: chunk_size.clamp(INITIAL_CHUNK_SIZE, 65_536),
            chunk_size_announced: false,
            output: BytesMut::new(),
        }
    }

    /// Bytes waiting to be sent.
    pub(super) fn len(&self) -> usize {
        self.output.len()
    }

    pub(super) fn take(&mut self) -> Option<Bytes> {
        (!self.output.is_empty()).then(|| self.output.split().freeze())
    }

    /// Bytes that come before chunks: the handshake's.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// A user control message about a message stream.
    pub(super) fn user_control_stream(&mut self, event_type: UserControlEventType, stream_id: u32) {
        self.control(RtmpMessage::UserControl {
            event_type,
            stream_id: Some(stream_id),
            buffer_length: None,
            timestamp: None,
        });
    }

    /// A user control message with a time in milliseconds.
    pub(super) fn user_control_time(&mut self, event_type: UserControlEventType, time: u32) {
        self.control(RtmpMessage::UserControl {
            event_type,
            stream_id: None,
            buffer_length: None,
            timestamp: Some(RtmpTimestamp::new(time)),
        });
    }

    pub(super) fn announce_chunk_size(&mut self) {
        if !std::mem::replace(&mut self.chunk_size_announced, true) {
            let size = self.chunk_size;
            let packet = self.writer.set_max_chunk_size(size, RtmpTimestamp::new(0));
            if let Ok(packet) = packet {
                self.output.extend_from_slice(&packet.bytes);
            }
        }
    }

    pub(super) fn result(&mut self, transaction: f64, value: Amf0Value) {
        // Number 0 says that no answer is wanted.
        if transaction != 0.0 {
            self.command(0, "_result", transaction, Amf0Value::Null, vec![value]);
        }
    }

    pub(super) fn error(&mut self, transaction: f64, code: &str, description: String) {
        if transaction != 0.0 {
            let info = status_info("error", code, &description);
            self.command(0, "_error", transaction, Amf0Value::Null, vec![info]);
        }
    }

    pub(super) fn status(&mut self, stream_id: u32, level: &str, code: &str, description: &str) {
        let info = status_info(level, code, description);
        self.command(stream_id, "onStatus", 0.0, Amf0Value::Null, vec![info]);
    }

    pub(super) fn fc_status(&mut self, name: &str, code: &str) {
        let info = status_info("status", code, "");
        self.command(0, name, 0.0, Amf0Value::Null, vec![info]);
    }

    pub(super) fn command(
        &mut self,
        stream_id: u32,
        name: &str,
        transaction_id: f64,
        command_object: Amf0Value,
        additional_arguments: Vec<Amf0Value>,
    ) {
        // A peer need not read replies over 128 bytes before it was told a larger chunk size.
        self.announce_chunk_size();
        let message = RtmpMessage::Amf0Command {
            command_name: name.to_owned(),
            transaction_id,
            command_object,
            additional_arguments,
        };
        self.send(message, stream_id);
    }

    pub(super) fn control(&mut self, message: RtmpMessage) {
        self.send(message, 0);
    }

    fn send(&mut self, message: RtmpMessage, stream_id: u32) {
        let time = RtmpTimestamp::new(0);
        let packet = MessagePayload::from_rtmp_message(message, time, stream_id)
            .ok()
            .and_then(|payload| {
                // Full headers are understood by all, but this writer would repeat them inside a message.
                let full = payload.data.len() <= self.chunk_size as usize;
                self.writer.serialize(&payload, full, false).ok()
            });
        // Writing fails on strings over 64 KiB only; ours are cut to less.
        if let Some(packet) = packet {
            self.output.extend_from_slice(&packet.bytes);
        }
    }
}

/// The information object of `onStatus`, `_error` and the answer to `connect`.
pub(super) fn status_info(level: &str, code: &str, description: &str) -> Amf0Value {
    amf::object([
        ("level", amf::string(level)),
        ("code", amf::string(code)),
        (
            "description",
            amf::string(shorten(description, MAX_DESCRIPTION)),
        ),
    ])
}

/// Bytes of a description that are sent; encoders show it in one line.
const MAX_DESCRIPTION: usize = 1000;

/// Chunk size before another is announced (specification section 5.4.1).
const INITIAL_CHUNK_SIZE: u32 = 128;
