//! What the pipeline passes around: codec configurations and access units.
//!
//! The demuxer ([`crate::flv`]) produces these, [`crate::time`] puts them on the stream's own timeline, and the muxer
//! ([`crate::ts`]) turns them into packets. Nothing here knows RTMP, TS or HLS.

use bytes::Bytes;

use crate::codec::{aac, h264, mp3};
use crate::time::Ticks;

/// Which elementary stream something belongs to. A stream carries at most one of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Track {
    /// The video elementary stream.
    Video,
    /// The audio elementary stream.
    Audio,
}

/// Configuration of the video elementary stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VideoConfig {
    /// H.264 / AVC (ISO/IEC 14496-10).
    H264(h264::Config),
}

/// Configuration of the audio elementary stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AudioConfig {
    /// AAC (ISO/IEC 14496-3), carried as ADTS.
    Aac(aac::Config),
    /// MPEG-1/2 audio layer III (ISO/IEC 11172-3, 13818-3).
    Mp3(mp3::Config),
}

/// The elementary streams of a programme and how they are coded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tracks {
    /// Video, once its codec configuration has been seen.
    pub video: Option<VideoConfig>,
    /// Audio, once its codec configuration has been seen.
    pub audio: Option<AudioConfig>,
}

/// One coded picture, or one audio frame, on the stream's timeline.
#[derive(Debug, Clone)]
pub struct AccessUnit {
    /// The elementary stream it belongs to.
    pub track: Track,
    /// Decoding time, 90 kHz, unwrapped.
    pub dts: Ticks,
    /// Presentation time, 90 kHz, unwrapped; never before `dts`.
    pub pts: Ticks,
    /// Whether a decoder can start here: an IDR picture. Always true for audio.
    pub key: bool,
    /// The coded bytes.
    pub payload: Payload,
}

/// The coded bytes of an access unit, as the publisher framed them; never copied before they are packetised.
#[derive(Debug, Clone)]
pub enum Payload {
    /// NAL units of one coded picture.
    H264(h264::NalUnits),
    /// One raw AAC frame (`raw_data_block`), without ADTS header.
    Aac(Bytes),
    /// One whole MP3 frame, with its own header.
    Mp3(Bytes),
}

impl Payload {
    /// Bytes as the publisher sent them.
    pub fn size(&self) -> usize {
        match self {
            Self::H264(units) => units.len(),
            Self::Aac(frame) | Self::Mp3(frame) => frame.len(),
        }
    }
}

impl VideoConfig {
    /// Picture width and height in pixels, after cropping.
    pub fn resolution(&self) -> (u32, u32) {
        match self {
            Self::H264(config) => (config.width, config.height),
        }
    }

    /// The `CODECS` entry (RFC 6381), for example `avc1.64001f`.
    pub fn codec_string(&self) -> String {
        match self {
            Self::H264(config) => config.codec_string(),
        }
    }
}

impl AudioConfig {
    /// Length of one access unit in samples, and samples per second, both of the core codec (as ADTS states them).
    pub fn frame(&self) -> (u32, u32) {
        match self {
            Self::Aac(config) => (aac::SAMPLES_PER_FRAME, config.sample_rate),
            Self::Mp3(config) => (config.samples_per_frame, config.sample_rate),
        }
    }

    /// The `CODECS` entry (RFC 6381), for example `mp4a.40.2`.
    pub fn codec_string(&self) -> String {
        match self {
            Self::Aac(config) => config.codec_string(),
            Self::Mp3(_) => "mp4a.40.34".to_owned(),
        }
    }
}
