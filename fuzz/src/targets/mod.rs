//! What each fuzz target does with an input: plain functions, so that an ordinary test can run them as well as libFuzzer.
//!
//! `run` panics when something is wrong with the server. `memory_bound` says how many bytes it may hold at once on the heap for
//! an input of that length; only libFuzzer's programs check it, for only they count allocations.
//!
//! Inputs for the targets with a protocol below them begin with a byte that chooses between raw bytes and a sequence of
//! operations ([`script`]), which gets further in than chance would.
//!
//! The checkers of transport streams and playlists are those of the tests, `crate::common` there as here.

pub mod amf;
pub mod chunks;
pub mod client;
pub mod codec;
pub mod flv;
pub mod http;
pub mod ingest;
pub mod publisher;
pub mod script;
pub mod session;
pub mod wire;

/// What a target does with an input.
pub type Run = fn(&[u8]);

/// Every target by name.
pub const TARGETS: [(&str, Run); 8] = [
    ("chunks", chunks::run),
    ("amf", amf::run),
    ("codec", codec::run),
    ("flv", flv::run),
    ("session", session::run),
    ("client", client::run),
    ("http", http::run),
    ("ingest", ingest::run),
];
