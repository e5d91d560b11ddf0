//! RTMP: bytes in, events and replies out.
//!
//! Adobe's RTMP specification 1.0, as the encoders in the field really speak it. Everything here is sans-IO: no socket, no
//! clock, no task. Bytes come in as `&mut BytesMut`, replies and events come out, time is a parameter.
//!
//! ```text
//!  bytes ─► handshake ─► chunk ─► message ─► session ─► events (publish, audio, video, metadata)
//!                                   amf ┘        └────► bytes for the peer
//! ```
//!
//! [`chunk`] and [`amf`] serve the client side as well: a server that we publish to is as little trusted as a publisher.
//!
//! Not here: playback over RTMP, encryption (RTMPE; RTMPS is TLS around all of this), the codecs ([`crate::flv`]).

pub mod amf;
pub mod chunk;
pub mod client;
mod dozing;
pub mod handshake;
mod ingest;
pub mod limits;
pub mod listener;
pub mod login;
mod md5;
pub mod push;
pub mod session;
pub mod url;

#[cfg(test)]
pub(crate) mod test_util;
