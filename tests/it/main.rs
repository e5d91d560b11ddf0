//! The whole server from outside: real encoders and players, scripted peers, and what they may not break.
//!
//! One behaviour a module. They are one binary because linking is the slow part. Every test starts its own server in process, on
//! ports of its own; what is waited for is always a condition, bounded generously, so a loaded machine makes them slow and not red.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

mod access_units_arrive_untouched;
mod bad_http;
#[cfg(feature = "tls")]
mod bad_http2;
mod bad_rtmp;
#[cfg(feature = "tls")]
mod bad_tls;
mod behind_caches;
mod cli;
mod config_file;
mod encoder_quirks;
mod encoders_publish;
mod ffmpeg_round_trip;
mod fuzz_targets;
mod golden_playlists;
mod group_of_pictures_length;
mod growing_connections;
mod hooks;
mod hostile_viewers;
mod http_conventions;
#[cfg(feature = "demo")]
mod latency_viewer;
mod low_latency;
mod memory_of_publishers;
mod operators;
mod playlist_invariants;
mod prometheus;
mod proxies;
mod publisher_leaves;
mod reconnect;
#[cfg(all(feature = "demo", feature = "tls"))]
mod reloads;
mod segments_grow;
mod short_segments;
mod signed_playback;
mod stream_keys;
mod systemd;
#[cfg(feature = "tls")]
mod tls;
mod viewers;
