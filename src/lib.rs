//! lhls: live video in over RTMP, out as HLS whose segments are announced early and grow while they are watched.

pub mod codec;
#[cfg(feature = "demo")]
pub mod demo;
pub mod flv;
pub mod media;
pub mod rtmp;
pub mod time;
