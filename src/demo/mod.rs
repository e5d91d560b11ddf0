//! The built-in test signal: a picture with a clock that people and machines can read, and a tone that beeps on the second.
//!
//! ```text
//!  picture (cells, font) ─► encoder ─┐
//!                                    ├─► publisher ─► rtmp::push ─► any RTMP server
//!                    tone (a loop) ──┘
//! ```
//!
//! It goes through a real RTMP connection, as any encoder's stream would, to this server or to another one. The time strip
//! ([`cells`]) carries the moment each picture was drawn, so glass-to-glass latency can be read off a viewer's screen.
//!
//! Built with the feature `demo` only. Not here: reading the signal back over HLS.

pub mod cells;
pub mod encoder;
pub mod font;
pub mod picture;
pub mod publisher;
mod sps;
pub mod stamp;
pub mod tone;
