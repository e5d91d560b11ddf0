//! MPEG audio layer III: frame headers.
//!
//! Implements the header of ISO/IEC 11172-3 2.4.1.3, its extension to half rates in ISO/IEC 13818-3, and the quarter
//! rates everyone calls MPEG 2.5.
//!
//! It does not carry layers I and II, nor free-format bit rates, and does not look behind the header.

/// Why an MPEG audio frame cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no frame header where one belongs.
    #[error("no MPEG audio frame header (sync word ff ex)")]
    NoSync,
    /// Another layer.
    #[error("MPEG audio layer {0}")]
    Layer(u8),
    /// A field has a reserved value, or the bit rate is free.
    #[error("MPEG audio header has an unusable {0}")]
    Reserved(&'static str),
    /// The frame is longer than the data.
    #[error("MP3 frame of {needs} bytes is cut off after {has}")]
    Truncated {
        /// Bytes there are.
        has: usize,
        /// Bytes the header announces.
        needs: usize,
    },
}

/// What an MP3 elementary stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Samples per second.
    pub sample_rate: u32,
    /// 1 or 2.
    pub channels: u8,
    /// Samples in one frame: 1152, or 576 at half and quarter rates.
    pub samples_per_frame: u32,
    /// Bits per second of the frame this was read from; frames of variable-rate streams differ.
    pub bitrate: Option<u32>,
}

impl Config {
    /// Reads the header a frame begins with; returns the length of the whole frame in bytes as well.
    pub fn parse(frame: &[u8]) -> Result<(Self, usize), Error> {
        let &[0xff, version, rates, mode, ..] = frame else {
            return Err(Error::NoSync);
        };
        if version & 0xe0 != 0xe0 {
            return Err(Error::NoSync);
        }
        // 1, 2 or 4: what the rates of MPEG-1 are divided by.
        let divisor = match version >> 3 & 3 {
            3 => 1,
            2 => 2,
            0 => 4,
            _ => return Err(Error::Reserved("version")),
        };
        match version >> 1 & 3 {
            1 => {}
            2 => return Err(Error::Layer(2)),
            3 => return Err(Error::Layer(1)),
            _ => return Err(Error::Reserved("layer")),
        }
        let kilobits = if divisor == 1 {
            &FULL_RATES
        } else {
            &LOW_RATES
        };
        let bitrate = match kilobits.get(usize::from(rates >> 4)) {
            Some(&kilobits) if kilobits > 0 => kilobits * 1000,
            _ => return Err(Error::Reserved("bit rate")),
        };
        let sample_rate = [44100, 48000, 32000]
            .get(usize::from(rates >> 2 & 3))
            .ok_or(Error::Reserved("sample rate"))?;
        let sample_rate = sample_rate / divisor;
        let samples_per_frame = if divisor == 1 { 1152 } else { 576 };
        let padding = u32::from(rates >> 1 & 1);
        let length = samples_per_frame / 8 * bitrate / sample_rate + padding;
        let channels = if mode >> 6 == 3 { 1 } else { 2 };
        let config = Self {
            sample_rate,
            channels,
            samples_per_frame,
            bitrate: Some(bitrate),
        };
        Ok((config, length as usize))
    }

    /// Whether frames of both can follow each other in one stream: all but the bit rate is the same.
    pub fn same_format(&self, other: &Self) -> bool {
        Self {
            bitrate: None,
            ..*self
        } == Self {
            bitrate: None,
            ..*other
        }
    }
}

/// Kilobits per second by index, MPEG-1 layer III; 0 is free format.
const FULL_RATES: [u32; 15] = [
    0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320,
];

/// The same at half and quarter sample rates.
const LOW_RATES: [u32; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(header: [u8; 4]) -> Result<(u32, u8, u32, u32, usize), Error> {
        let (config, length) = Config::parse(&header)?;
        let bitrate = config.bitrate.expect("bit rate");
        Ok((
            config.sample_rate,
            config.channels,
            config.samples_per_frame,
            bitrate,
            length,
        ))
    }

    #[test]
    fn headers_of_all_three_versions() {
        assert_eq!(
            parse([0xff, 0xfb, 0x90, 0x64]),
            Ok((44_100, 2, 1152, 128_000, 417))
        );
        assert_eq!(
            parse([0xff, 0xfb, 0x92, 0x64]),
            Ok((44_100, 2, 1152, 128_000, 418))
        );
        assert_eq!(
            parse([0xff, 0xfb, 0x50, 0xc4]),
            Ok((44_100, 1, 1152, 64_000, 208))
        );
        assert_eq!(
            parse([0xff, 0xf3, 0x84, 0xc4]),
            Ok((24_000, 1, 576, 64_000, 192))
        );
        assert_eq!(
            parse([0xff, 0xe3, 0x18, 0xc4]),
            Ok((8000, 1, 576, 8000, 72))
        );
    }

    #[test]
    fn what_is_not_carried_is_explained() {
        assert_eq!(parse([0xff, 0xfd, 0x90, 0x64]), Err(Error::Layer(2)));
        assert_eq!(parse([0xff, 0xff, 0x90, 0x64]), Err(Error::Layer(1)));
        assert_eq!(
            parse([0xff, 0xfb, 0x00, 0x64]),
            Err(Error::Reserved("bit rate"))
        );
        assert_eq!(
            parse([0xff, 0xfb, 0xf0, 0x64]),
            Err(Error::Reserved("bit rate"))
        );
        assert_eq!(
            parse([0xff, 0xfb, 0x9c, 0x64]),
            Err(Error::Reserved("sample rate"))
        );
        assert_eq!(
            parse([0xff, 0xeb, 0x90, 0x64]),
            Err(Error::Reserved("version"))
        );
        assert_eq!(
            parse([0xff, 0xf9, 0x90, 0x64]),
            Err(Error::Reserved("layer"))
        );
        assert_eq!(Config::parse(b"ID3"), Err(Error::NoSync));
    }

    #[test]
    fn frames_of_variable_rate_are_one_format() {
        let (low, _) = Config::parse(&[0xff, 0xfb, 0x50, 0x64]).expect("frame");
        let (high, _) = Config::parse(&[0xff, 0xfb, 0x90, 0x64]).expect("frame");
        let (mono, _) = Config::parse(&[0xff, 0xfb, 0x90, 0xc4]).expect("frame");
        assert!(low.same_format(&high));
        assert!(!low.same_format(&mono));
    }

    proptest! {
        #[test]
        fn any_header_parses_or_fails(header: [u8; 4]) {
            if let Ok((config, length)) = Config::parse(&header) {
                prop_assert!(length >= 24 && config.sample_rate >= 8000);
            }
        }
    }
}
