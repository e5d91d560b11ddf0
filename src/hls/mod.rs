//! HLS (RFC 8216): segments, the sessions that list them, and the playlists' text.
//!
//! - [`segment`]: one segment's bytes and state, append-only.
//! - [`session`]: the ring of segments behind one media playlist.
//! - [`playlist`]: playlists as text.
//! - [`names`]: what all these are called.
//! - [`packager`]: access units in, pieces of segments out; decides when to cut.
//! - [`output`]: what viewers of one stream can reach.
//!
//! No sockets, no runtime, no clock: the time comes in with each access unit.

mod clock;
mod cutter;
mod gathering;
pub mod names;
pub mod output;
pub mod packager;
mod parts;
pub mod playlist;
pub mod segment;
pub mod session;

use std::time::{Instant, SystemTime};

/// The present moment, read once where it enters and handed down.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Monotonic time, for measuring.
    pub instant: Instant,
    /// Wall-clock time, for PROGRAM-DATE-TIME and names.
    pub wall: SystemTime,
}

impl Now {
    /// Reads both clocks.
    pub fn read() -> Self {
        Self {
            instant: Instant::now(),
            wall: SystemTime::now(),
        }
    }
}
