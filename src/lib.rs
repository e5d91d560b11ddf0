//! lhls: live video in over RTMP, out as HLS whose segments are announced early and grow while they are watched.

pub mod cli;
pub mod codec;
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
pub mod flv;
pub mod hls;
pub mod http;
pub mod media;
pub mod metrics;
pub mod net;
pub mod rtmp;
pub mod server;
pub mod stream;
pub mod time;
pub mod ts;
pub mod viewer;
