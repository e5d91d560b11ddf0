//! lhls: live video in over RTMP, out as HLS whose segments are announced early and grow while they are watched.
//!
//! ```text
//!  publisher: OBS, ffmpeg, GStreamer …
//!     │ bytes
//!  rtmp      chunks → messages → session                  sans-IO; sockets in rtmp::listener, rtmp::push
//!     │ bodies of audio and video messages
//!  flv       tags → codec configurations, access units    codec: H.264, AAC, MP3
//!     │ access units with the publisher's times
//!  time      unwrap, rebase, repair: one 90 kHz timeline
//!     │ access units on it
//!  hls       packager: what rides together, parts, where to cut
//!  ts        PAT and PMT, PES, PCR                        access unit in, 188-byte packets out
//!     │ pieces: one picture and the sound that came with it
//!  stream    the hub: streams by name, their rings, waking those who wait
//!     │
//!  http      playlists, segments as they grow, parts, pages, metrics
//!     │ bytes
//!  viewers: any HLS player, LL-HLS players, browsers
//! ```
//!
//! Data goes down only. What is above the hub is plain structs without sockets, tasks or a clock of their own: time comes in as a
//! parameter. [`media`] is what the layers pass to each other, and every layer may use it, [`time`] and [`codec`].
//!
//! # Words
//!
//! - A *publisher* sends a *stream*, one named live programme, that *viewers* play. A *run* is one uninterrupted publish.
//! - *Access unit*: one coded picture or one audio frame. *Piece*: the bytes appended at once, a picture and its sound.
//! - *Segment*: what a playlist lists ([`hls::segment`]). It is announced while *pending*, then *growing*, then *finished*; or
//!   *withdrawn*, when the stream ends first. *Part*: consecutive pieces of a segment with a name of their own, for LL-HLS.
//! - *Session*: one media playlist and its ring of segments ([`hls::session`]); its TARGETDURATION never changes.
//! - *Chunk* is an RTMP chunk, or HTTP's transfer coding, and nothing else.
//!
//! # Where to look
//!
//! | question | module |
//! |---|---|
//! | what do the options mean, and their ranges? | [`cli`], [`config`] |
//! | what may a publisher make the server hold? | [`rtmp::limits`] |
//! | how are a publisher's broken times repaired? | [`mod@time`] |
//! | when does a stream go live, a segment end, a part close? | [`hls::packager`] |
//! | what stands in a playlist, and what are files called? | [`hls::playlist`], [`hls::names`] |
//! | how does a piece get to a viewer? | [`hls::segment`], [`stream::subscribers`], [`http::body`] |
//! | what happens when a publisher goes, comes back, is replaced? | [`stream`] |
//! | what is answered on which path? | [`mod@http`] |
//! | who encrypts, and whom do we believe about addresses? | `tls`, [`proxy`] |
//! | how does it start and end? | [`server`] |
//! | who may publish, who may play? | [`auth`] |
//! | what is counted? | [`metrics`] |
//! | how is a stream doing, and what is wrong with it? | [`stream::health`], [`stream::warnings`] |
//! | what may operators see and do? | [`http::admin`] |
//! | how is latency measured without a browser? | [`viewer`] |
//!
//! The decisions behind it and their reasons are in `docs/design.md`.
//!
//! Not here: transcoding, more than one rendition of a stream, recording.

pub mod auth;
pub mod cli;
pub mod codec;
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
pub mod dial;
pub mod flv;
pub mod hls;
pub mod hooks;
pub mod http;
pub mod live;
pub mod media;
pub mod metrics;
pub mod net;
pub mod outbound;
pub mod proxy;
pub mod rtmp;
pub mod server;
pub mod stream;
pub mod systemd;
pub mod time;
#[cfg(feature = "tls")]
pub mod tls;
pub mod ts;
pub mod viewer;
