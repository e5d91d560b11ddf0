//! A stream that no encoder made: as large and as regular as wanted, and with the time of sending inside each picture.
//!
//! The pictures are H.264 in form (parameter sets of 1280x720, slices of bytes that need no escaping), so a server cannot tell; a
//! decoder could. Each begins with an SEI message (user data, ISO/IEC 14496-10, D.2.7) that holds [`MARK`], the time at which the
//! picture was sent, and its number. It lies in the first transport stream packet of its picture, so it can be found in the bytes
//! that a viewer reads without taking the stream apart.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use lhls::flv::write;

/// What to send.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Bits a second of the video.
    pub bit_rate: u32,
    /// Pictures a second.
    pub fps: u32,
    /// Pictures from one key picture to the next.
    pub gop: u32,
    /// Whether there is sound: AAC frames of 345 bytes, 48 kHz, 129 kb/s.
    pub audio: bool,
}

/// The stream, ready to be sent: tag bodies of FLV.
#[derive(Debug, Clone)]
pub struct Signal {
    options: Options,
    key: Vec<u8>,
    delta: Vec<u8>,
    audio: Bytes,
}

/// What a picture says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Nanoseconds since 1970 at which it was sent.
    pub sent: u64,
    /// Its number, from 0.
    pub number: u32,
}

impl Signal {
    /// Makes the pictures. A key picture is eight times as large as another, as with a real encoder at a moderate rate.
    pub fn new(options: Options) -> Self {
        let group = options.bit_rate / 8 * options.gop / options.fps;
        let delta = (group / (options.gop - 1 + KEY_WEIGHT)).max(80) as usize;
        let key = if options.gop == 1 {
            group as usize
        } else {
            delta * KEY_WEIGHT as usize
        };
        Self {
            options,
            key: picture(key, 0x65),
            delta: picture(delta, 0x41),
            audio: write::aac_frame(&noise(345)),
        }
    }

    /// What was asked for.
    pub fn options(&self) -> Options {
        self.options
    }

    /// The H.264 sequence header.
    pub fn video_header(&self) -> Bytes {
        write::avc_header(&avcc())
    }

    /// The AAC sequence header: AAC-LC, 48 kHz, stereo.
    pub fn audio_header(&self) -> Bytes {
        write::aac_header(&[0x11, 0x90])
    }

    /// Picture `number`, said to be sent at `sent`.
    pub fn picture(&self, number: u32, sent: u64) -> Bytes {
        let key = number.is_multiple_of(self.options.gop);
        let template = if key { &self.key } else { &self.delta };
        let mut units = template.clone();
        let digits = format!("{sent:016x}{number:08x}");
        units[MARK_AT..MARK_AT + digits.len()].copy_from_slice(digits.as_bytes());
        write::avc_picture(key, 0, &units)
    }

    /// A frame of sound; all are alike.
    pub fn audio_frame(&self) -> Bytes {
        self.audio.clone()
    }

    /// When picture `number` is due, after the start.
    pub fn picture_time(&self, number: u32) -> Duration {
        Duration::from_nanos(u64::from(number) * 1_000_000_000 / u64::from(self.options.fps))
    }

    /// When frame `number` of the sound is due, after the start.
    pub fn audio_time(&self, number: u32) -> Duration {
        Duration::from_nanos(u64::from(number) * 1024 * 1_000_000_000 / 48_000)
    }
}

impl Mark {
    /// The mark in front of whose digits `MARK` was found; `bytes` begins with the digits.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let digits = std::str::from_utf8(bytes.get(..24)?).ok()?;
        Some(Self {
            sent: u64::from_str_radix(&digits[..16], 16).ok()?,
            number: u32::from_str_radix(&digits[16..], 16).ok()?,
        })
    }
}

/// Nanoseconds since 1970.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos() as u64
}

fn picture(size: usize, slice: u8) -> Vec<u8> {
    let mut sei = vec![0x06, 0x05, 40];
    sei.extend_from_slice(MARK);
    sei.extend_from_slice(&[b'0'; 24]);
    sei.push(0x80);
    let mut coded = vec![slice];
    coded.extend(noise(size.saturating_sub(sei.len() + 9).max(16)));
    let mut units = Vec::new();
    for unit in [sei, coded] {
        units.extend_from_slice(&(unit.len() as u32).to_be_bytes());
        units.extend_from_slice(&unit);
    }
    units
}

/// Bytes that look coded and have no zero among them, so that nothing needs escaping.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 24) as u8 | 1
    })
    .take(size)
    .collect()
}

fn avcc() -> Vec<u8> {
    let mut record = vec![1, SPS[1], SPS[2], SPS[3], 0xff, 0xe1, 0, SPS.len() as u8];
    record.extend_from_slice(&SPS);
    record.extend_from_slice(&[1, 0, PPS.len() as u8]);
    record.extend_from_slice(&PPS);
    record
}

/// In front of the digits; also the sixteen bytes of the SEI message's UUID.
pub const MARK: &[u8; 16] = b"lhls-bench-mark:";
/// Length prefix, NAL unit header, SEI type and size, [`MARK`].
const MARK_AT: usize = 4 + 3 + MARK.len();
/// How many times as large as another a key picture is.
const KEY_WEIGHT: u32 = 8;
/// Constrained Baseline profile, level 3.1, 1280x720, pictures in the order in which they are sent (`pic_order_cnt_type` 2).
const SPS: [u8; 9] = [0x67, 0x42, 0xc0, 0x1f, 0xda, 0x01, 0x40, 0x16, 0xe4];
const PPS: [u8; 4] = [0x68, 0xce, 0x3c, 0x80];
