//! The sound of the test signal: a loop of AAC frames, laid against the clock so that it beeps on the second.
//!
//! The loop is 8 s of 48 kHz mono AAC-LC in ADTS (ISO/IEC 13818-7, 6.2), made by `scripts/make-tone`. It is exactly 375
//! frames of 1024 samples, and frames are counted from the Unix epoch: frame `n` begins `n · 64/3` ms after it and is
//! `n mod 375` of the loop, so every publisher beeps at the same moments. Nothing is encoded here.

use bytes::Bytes;

/// Samples a second.
pub const SAMPLE_RATE: u32 = 48_000;
/// Bits a second, about.
pub const BITRATE: u32 = 43_000;
/// Samples in a frame.
pub const SAMPLES_PER_FRAME: u32 = 1024;

/// The loop, taken apart into raw frames.
#[derive(Debug, Clone)]
pub struct Tone {
    frames: Vec<Bytes>,
}

impl Tone {
    /// Takes the built-in loop apart.
    pub fn new() -> Self {
        Self {
            frames: frames(ASSET),
        }
    }

    /// `AudioSpecificConfig` (ISO/IEC 14496-3, 1.6.2.1): AAC-LC, 48 kHz, mono.
    pub fn config(&self) -> Bytes {
        Bytes::from_static(&[2 << 3 | 3 >> 1, (3 & 1) << 7 | 1 << 3])
    }

    /// The raw frame that begins [`start_us`]`(number)` after the Unix epoch.
    pub fn frame(&self, number: u64) -> Bytes {
        let index = number % (self.frames.len() as u64).max(1);
        self.frames.get(index as usize).cloned().unwrap_or_default()
    }
}

impl Default for Tone {
    fn default() -> Self {
        Self::new()
    }
}

/// Microseconds from the Unix epoch to the first sample of frame `number`, rounded.
pub fn start_us(number: u64) -> u64 {
    (number * 64_000 + 1) / 3
}

/// Microseconds that so many frames last when a second has `rate` samples.
pub fn length_us(frames: u64, rate: u32) -> u64 {
    frames * u64::from(SAMPLES_PER_FRAME) * 1_000_000 / u64::from(rate)
}

/// The first frame that begins at `unix_us` or later.
pub fn first_after(unix_us: u64) -> u64 {
    (unix_us * 3).div_ceil(64_000)
}

/// Raw data blocks of an ADTS stream with one block a frame and no CRC; stops at anything else.
fn frames(mut data: &'static [u8]) -> Vec<Bytes> {
    let mut frames = Vec::new();
    while let [0xff, 0xf1, _, a, b, c, _, ..] = data {
        let length = usize::from(a & 3) << 11 | usize::from(*b) << 3 | usize::from(c >> 5);
        let Some((frame, rest)) = data.split_at_checked(length) else {
            break;
        };
        frames.push(Bytes::from_static(
            frame.get(ADTS_HEADER..).unwrap_or_default(),
        ));
        data = rest;
    }
    frames
}

static ASSET: &[u8] = include_bytes!("assets/tone.aac");
const ADTS_HEADER: usize = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asset_is_what_the_constants_say() {
        // Object type 2 (LC) is profile 1; frequency index 3 is 48 kHz; one channel.
        assert_eq!(ASSET[2] >> 6, 1);
        assert_eq!(ASSET[2] >> 2 & 0xf, 3);
        assert_eq!((ASSET[2] & 1) << 2 | ASSET[3] >> 6, 1);
        let tone = Tone::new();
        assert_eq!(tone.frames.len(), 375);
        assert_eq!(
            tone.frames
                .iter()
                .map(|frame| frame.len() + ADTS_HEADER)
                .sum::<usize>(),
            ASSET.len()
        );
        assert_eq!(&tone.config()[..], &[0x11, 0x88]);
        assert!(tone.frames.iter().all(|frame| !frame.is_empty()));
    }

    #[test]
    fn ten_minutes_of_a_slow_sound_card_last_longer() {
        let frames = 28_125;
        assert_eq!(length_us(frames, SAMPLE_RATE), 600_000_000);
        assert_eq!(length_us(frames, 47_990), 600_125_026);
    }

    #[test]
    fn loop_begins_on_a_second_of_the_clock() {
        let now_us = 1_795_223_125_678_901;
        let first = first_after(now_us);
        assert!(start_us(first) >= now_us && start_us(first - 1) < now_us);
        let boundary = first.next_multiple_of(375);
        assert_eq!(start_us(boundary) % 8_000_000, 0);
        assert_eq!(Tone::new().frame(boundary), Tone::new().frame(0));
    }
}
