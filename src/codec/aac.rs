//! AAC: `AudioSpecificConfig` and ADTS headers.
//!
//! Implements ISO/IEC 14496-3 1.6.2.1 (`AudioSpecificConfig`, with both ways of signalling SBR and PS, 1.6.5), 4.4.1
//! (`GASpecificConfig`, program config element) and 1.A.2 (ADTS). Object types ADTS cannot carry are refused by name,
//! because MPEG-TS segments hold AAC as ADTS.
//!
//! It does not look into audio frames.

use std::ops::Range;

use bytes::Bytes;

/// Samples (of the core codec) in one AAC frame. Frames of 960 samples exist, but ADTS cannot say so: they are refused.
pub const SAMPLES_PER_FRAME: u32 = 1024;

/// Bytes of an ADTS header without checksum.
pub const ADTS_HEADER: usize = 7;

/// Longest raw frame that fits an ADTS frame with its 13-bit length.
pub const MAX_FRAME: usize = 0x1fff - ADTS_HEADER;

/// Why an AAC configuration or frame cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The configuration has no bytes; some encoders send such a one before the real one.
    #[error("empty AudioSpecificConfig")]
    Empty,
    /// The configuration ends before what it announces.
    #[error("AudioSpecificConfig of {len} bytes is cut off at {field}")]
    Truncated {
        /// Length of the configuration in bytes.
        len: usize,
        /// What was to be read.
        field: &'static str,
    },
    /// A field has a value that means nothing.
    #[error("AudioSpecificConfig has the reserved value {value} in {field}")]
    Reserved {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u32,
    },
    /// A kind of AAC (or another codec) that ADTS, and so MPEG-TS, cannot carry here.
    #[error("{name} cannot be carried in ADTS")]
    Unsupported {
        /// Its usual name.
        name: String,
    },
    /// A frame too long for the 13-bit length of ADTS.
    #[error("AAC frame of {len} bytes, ADTS carries at most {MAX_FRAME}")]
    FrameTooLong {
        /// Length of the raw frame in bytes.
        len: usize,
    },
}

/// What an AAC elementary stream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Audio object type of the core codec: 1 Main, 2 LC, 3 SSR, 4 LTP.
    pub object_type: u8,
    /// Sample rate of the core codec in Hz, one of the standard rates; with SBR, the output has twice this rate.
    pub sample_rate: u32,
    /// Number of channels of the core codec, the low-frequency channel included.
    pub channels: u8,
    /// Whether spectral band replication (HE-AAC) is signalled.
    pub sbr: bool,
    /// Whether parametric stereo (HE-AAC v2) is signalled.
    pub ps: bool,
    /// The configuration as it came.
    pub raw: Bytes,
    /// `sampling_frequency_index` of `sample_rate`.
    rate_index: u8,
    /// `channel_configuration` of ADTS: 1 to 7, or 0 when only a program config element in the stream describes it.
    channel_configuration: u8,
}

impl Config {
    /// Reads an `AudioSpecificConfig`.
    pub fn parse(asc: &[u8]) -> Result<Self, Error> {
        if asc.is_empty() {
            return Err(Error::Empty);
        }
        // Anything past the bytes a real configuration can have is not looked at.
        let mut bits = Bits {
            data: &asc[..asc.len().min(MAX_CONFIG)],
            at: 0,
        };
        let mut object_type = bits.object_type()?;
        let (rate, rate_index) = bits.sample_rate()?;
        let channel_configuration = bits.take(4, "channelConfiguration")?;
        let (mut sbr, mut ps) = (false, false);
        if object_type == SBR || object_type == PS {
            // Hierarchical signalling: the extension comes first, then the core.
            sbr = true;
            ps = object_type == PS;
            bits.sample_rate()?;
            object_type = bits.object_type()?;
        }
        if !(1..=4).contains(&object_type) {
            return Err(match object_type {
                0 => Error::Reserved {
                    field: "audioObjectType",
                    value: 0,
                },
                other => Error::Unsupported {
                    name: object_type_name(other),
                },
            });
        }
        if bits.take(1, "frameLengthFlag")? == 1 {
            return Err(Error::Unsupported {
                name: "AAC with 960 samples per frame".to_owned(),
            });
        }
        if bits.take(1, "dependsOnCoreCoder")? == 1 {
            bits.take(14, "coreCoderDelay")?;
        }
        bits.take(1, "extensionFlag")?;
        let (channels, channel_configuration) = match channel_configuration {
            0 => bits.program_config()?,
            n @ 1..=6 => (n as u8, n as u8),
            7 => (8, 7),
            n @ (11 | 12 | 14) => {
                return Err(Error::Unsupported {
                    name: format!("AAC channel configuration {n}"),
                });
            }
            value => {
                return Err(Error::Reserved {
                    field: "channelConfiguration",
                    value,
                });
            }
        };
        if !sbr {
            (sbr, ps) = bits.sync_extension();
        }
        Ok(Self {
            object_type: object_type as u8,
            sample_rate: rate,
            channels,
            sbr,
            ps,
            raw: Bytes::copy_from_slice(asc),
            rate_index,
            channel_configuration,
        })
    }

    /// The ADTS header of a raw frame of `frame_len` bytes.
    ///
    /// ```text
    /// syncword 12 | ID 1 | layer 2 | no CRC 1 | profile 2 | rate 4 | private 1 | channels 3 | original 1 | home 1
    /// copyright 1 | copyright start 1 | frame length 13 | buffer fullness 11 | raw blocks - 1: 2
    /// ```
    pub fn adts_header(&self, frame_len: usize) -> Result<[u8; ADTS_HEADER], Error> {
        if frame_len > MAX_FRAME {
            return Err(Error::FrameTooLong { len: frame_len });
        }
        let len = frame_len + ADTS_HEADER;
        let channels = self.channel_configuration;
        Ok([
            0xff,
            0xf1,
            (self.object_type - 1) << 6 | self.rate_index << 2 | channels >> 2,
            channels << 6 | (len >> 11) as u8,
            (len >> 3) as u8,
            // Buffer fullness 0x7ff: variable rate, nothing is promised.
            (len << 5) as u8 | 0x1f,
            0xfc,
        ])
    }

    /// Where the raw frames are when `data` is, against the rules, a whole number of ADTS frames of this configuration;
    /// some cameras put them into FLV as they are.
    pub fn adts_frames(&self, data: &[u8]) -> Option<Vec<Range<usize>>> {
        let mut frames = Vec::new();
        let mut at = 0;
        while at < data.len() {
            let &[0xff, flags, kind, high, middle, low, blocks, ..] = data.get(at..)? else {
                return None;
            };
            let is_adts = flags & 0xf6 == 0xf0;
            // The profile is not compared: cameras that send ADTS here get it wrong. The rate they get right.
            let len =
                usize::from(high & 3) << 11 | usize::from(middle) << 3 | usize::from(low >> 5);
            let header = if flags & 1 == 1 {
                ADTS_HEADER
            } else {
                ADTS_HEADER + 2
            };
            if !is_adts || kind >> 2 & 0xf != self.rate_index || blocks & 3 != 0 || len <= header {
                return None;
            }
            if at + len > data.len() {
                return None;
            }
            frames.push(at + header..at + len);
            at += len;
        }
        (!frames.is_empty()).then_some(frames)
    }

    /// The RFC 6381 codec string: `mp4a.40.2` for LC, `.5` for HE-AAC, `.29` for HE-AAC v2.
    pub fn codec_string(&self) -> String {
        let object_type = match (self.sbr, self.ps) {
            (_, true) => PS,
            (true, false) => SBR,
            (false, false) => self.object_type.into(),
        };
        format!("mp4a.40.{object_type}")
    }
}

/// Reads bits, most significant first.
struct Bits<'a> {
    data: &'a [u8],
    /// Position in bits.
    at: usize,
}

impl Bits<'_> {
    fn left(&self) -> usize {
        (self.data.len() * 8).saturating_sub(self.at)
    }

    fn peek(&self, count: usize) -> Option<u32> {
        (self.left() >= count).then(|| {
            (self.at..self.at + count).fold(0, |value, bit| {
                value << 1 | u32::from(self.data[bit / 8] >> (7 - bit % 8) & 1)
            })
        })
    }

    fn take(&mut self, count: usize, field: &'static str) -> Result<u32, Error> {
        let value = self.peek(count).ok_or(Error::Truncated {
            len: self.data.len(),
            field,
        })?;
        self.at += count;
        Ok(value)
    }

    fn object_type(&mut self) -> Result<u32, Error> {
        match self.take(5, "audioObjectType")? {
            ESCAPE => Ok(32 + self.take(6, "audioObjectTypeExt")?),
            object_type => Ok(object_type),
        }
    }

    /// A sample rate, as the nearest standard rate, and its index.
    fn sample_rate(&mut self) -> Result<(u32, u8), Error> {
        const EXPLICIT: u32 = 15;
        let index = self.take(4, "samplingFrequencyIndex")?;
        if index != EXPLICIT {
            let rate = SAMPLE_RATES.get(index as usize).copied();
            let rate = rate.ok_or(Error::Reserved {
                field: "samplingFrequencyIndex",
                value: index,
            })?;
            return Ok((rate, index as u8));
        }
        let rate = self.take(24, "samplingFrequency")?;
        let near = |&(_, standard): &(u8, u32)| {
            u64::from(rate.abs_diff(standard)) * 100 <= u64::from(standard) * 2
        };
        let found = (0..).zip(SAMPLE_RATES).find(near);
        let (index, standard) = found.ok_or_else(|| Error::Unsupported {
            name: format!("AAC with a sample rate of {rate} Hz"),
        })?;
        Ok((standard, index))
    }

    /// Reads a program config element (4.4.1.1) up to the counts: the number of channels and the ADTS channel
    /// configuration with the same elements, or 0.
    fn program_config(&mut self) -> Result<(u8, u8), Error> {
        self.take(4 + 2 + 4, "program_config_element")?;
        let mut counts = [0; 6];
        for (count, width) in counts.iter_mut().zip([4, 4, 4, 2, 3, 4]) {
            *count = self.take(width, "program_config_element")? as usize;
        }
        let [front, side, back, lfe, data, coupling] = counts;
        for (width, field) in [
            (4, "mono_mixdown"),
            (4, "stereo_mixdown"),
            (3, "matrix_mixdown"),
        ] {
            if self.take(1, field)? == 1 {
                self.take(width, field)?;
            }
        }
        let (mut single, mut pairs) = (0, 0);
        for _ in 0..front + side + back {
            match self.take(5, "channel elements")? >> 4 {
                0 => single += 1,
                _ => pairs += 1,
            }
        }
        self.take(4 * lfe + 4 * data, "lfe and data elements")?;
        self.take(5 * coupling, "coupling elements")?;
        self.at = self.at.next_multiple_of(8);
        let comment = self.take(8, "comment_field_bytes")?;
        // A comment may be cut off: nothing that follows it is needed.
        self.at += comment as usize * 8;
        let channels = single + 2 * pairs + lfe as u8;
        if channels == 0 {
            return Err(Error::Reserved {
                field: "number of channels",
                value: 0,
            });
        }
        let configuration = match (single, pairs, lfe) {
            (1, 0, 0) => 1,
            (0, 1, 0) => 2,
            (1, 1, 0) => 3,
            (2, 1, 0) => 4,
            (1, 2, 0) => 5,
            (1, 2, 1) => 6,
            (1, 3, 1) => 7,
            _ => 0,
        };
        Ok((channels, configuration))
    }

    /// Backward compatible signalling of SBR and PS (1.6.5.3): behind the core's configuration, after a sync word.
    fn sync_extension(&mut self) -> (bool, bool) {
        const SBR_SYNC: u32 = 0x2b7;
        const PS_SYNC: u32 = 0x548;
        // Encoders disagree about padding before the sync word, so it is searched for.
        while let Some(word) = self.peek(11) {
            if word != SBR_SYNC {
                self.at += 1;
                continue;
            }
            self.at += 11;
            let sbr = self.object_type() == Ok(SBR) && self.take(1, "sbrPresentFlag") == Ok(1);
            let ps = sbr
                && self.sample_rate().is_ok()
                && self.take(11, "syncExtensionType") == Ok(PS_SYNC)
                && self.take(1, "psPresentFlag") == Ok(1);
            return (sbr, ps);
        }
        (false, false)
    }
}

/// What people call an object type that is not carried.
fn object_type_name(object_type: u32) -> String {
    let name = match object_type {
        6 => "AAC Scalable",
        7 => "TwinVQ",
        8 => "CELP",
        9 => "HVXC",
        17 => "ER AAC LC",
        19 => "ER AAC LTP",
        20 => "ER AAC Scalable",
        22 => "ER BSAC",
        23 => "AAC-LD (low delay)",
        32 => "MPEG audio layer I",
        33 => "MPEG audio layer II",
        34 => "MPEG audio layer III in an AAC tag",
        35 => "DST",
        36 => "MPEG-4 ALS",
        37 | 38 => "MPEG-4 SLS",
        39 => "AAC-ELD (enhanced low delay)",
        42 => "xHE-AAC (USAC)",
        other => return format!("MPEG-4 audio object type {other}"),
    };
    name.to_owned()
}

const SBR: u32 = 5;
const PS: u32 = 29;
const ESCAPE: u32 = 31;

/// Longest configuration looked at: a program config element with a comment of 255 bytes fits.
const MAX_CONFIG: usize = 512;

/// Table 1.18: sample rates by `samplingFrequencyIndex`.
const SAMPLE_RATES: [u32; 13] = [
    96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350,
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PCE_HEXAGONAL: [u8; 26] =
        *b"\x11\x80\x04\xc8\x08\x02\x00\x88\x40\x0dLavc59.37.100\x56\xe5\x00";

    fn parse(asc: &[u8]) -> Config {
        Config::parse(asc).expect("valid configuration")
    }

    fn summary(asc: &[u8]) -> (u8, u32, u8, bool, bool, String) {
        let config = parse(asc);
        (
            config.object_type,
            config.sample_rate,
            config.channels,
            config.sbr,
            config.ps,
            config.codec_string(),
        )
    }

    fn unsupported(asc: &[u8]) -> String {
        match Config::parse(asc) {
            Err(Error::Unsupported { name }) => name,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lc_of_obs_and_ffmpeg() {
        assert_eq!(
            summary(&[0x12, 0x10]),
            (2, 44_100, 2, false, false, "mp4a.40.2".into())
        );
        // FFmpeg adds an extension that says there is no SBR.
        let asc = [0x12, 0x10, 0x56, 0xe5, 0x00];
        assert_eq!(
            summary(&asc),
            (2, 44_100, 2, false, false, "mp4a.40.2".into())
        );
        assert_eq!(summary(&[0x11, 0xb0, 0x56, 0xe5, 0x00]).2, 6);
    }

    #[test]
    fn he_aac_hierarchical_gives_the_core_rate() {
        let asc = [0x2b, 0x92, 0x08, 0x00];
        assert_eq!(
            summary(&asc),
            (2, 22_050, 2, true, false, "mp4a.40.5".into())
        );
        // Core profile and rate go into ADTS.
        assert_eq!(
            parse(&asc).adts_header(100).expect("header")[2],
            0x40 | 7 << 2
        );
    }

    #[test]
    fn he_aac_v2_hierarchical() {
        assert_eq!(
            summary(&[0xeb, 0x8a, 0x08, 0x00]),
            (2, 22_050, 1, true, true, "mp4a.40.29".into())
        );
    }

    #[test]
    fn he_aac_backward_compatible() {
        assert_eq!(
            summary(&[0x13, 0x90, 0x56, 0xe5, 0xa0]),
            (2, 22_050, 2, true, false, "mp4a.40.5".into())
        );
        let v2 = [0x13, 0x88, 0x56, 0xe5, 0xa5, 0x48, 0x80];
        assert_eq!(
            summary(&v2),
            (2, 22_050, 1, true, true, "mp4a.40.29".into())
        );
    }

    #[test]
    fn explicit_rate_is_the_nearest_standard_one() {
        // Object type 2, index 15, 24 bits of rate, 2 channels.
        let asc = |rate: u32| {
            (2u64 << 35 | 15 << 31 | u64::from(rate) << 7 | 2 << 3).to_be_bytes()[3..].to_vec()
        };
        assert_eq!(parse(&asc(44_056)).sample_rate, 44_100);
        assert_eq!(parse(&asc(48_000)).sample_rate, 48_000);
        assert_eq!(
            unsupported(&asc(37_000)),
            "AAC with a sample rate of 37000 Hz"
        );
    }

    #[test]
    fn program_config_element_gives_the_channels() {
        // FFmpeg's hexagonal layout: two single channels and two pairs are no standard configuration.
        let config = parse(&PCE_HEXAGONAL);
        assert_eq!((config.channels, config.sample_rate), (6, 48_000));
        let header = config.adts_header(10).expect("header");
        assert_eq!(
            (header[2] & 1, header[3] >> 6),
            (0, 0),
            "described in the stream"
        );
    }

    #[test]
    fn kinds_adts_cannot_carry_are_named() {
        assert_eq!(
            unsupported(&[0xf8, 0xe8, 0x50, 0x00]),
            "AAC-ELD (enhanced low delay)"
        );
        assert_eq!(unsupported(&[0xf9, 0x48, 0x40, 0x00]), "xHE-AAC (USAC)");
        assert_eq!(unsupported(&[0xb9, 0x90]), "AAC-LD (low delay)");
        assert_eq!(unsupported(&[0x12, 0x14]), "AAC with 960 samples per frame");
        assert_eq!(unsupported(&[0x11, 0xe0]), "AAC channel configuration 12");
    }

    #[test]
    fn bad_configurations_are_explained() {
        assert_eq!(Config::parse(&[]), Err(Error::Empty));
        assert_eq!(
            Config::parse(&[0x12]),
            Err(Error::Truncated {
                len: 1,
                field: "samplingFrequencyIndex"
            })
        );
        let reserved = |field, value| Err(Error::Reserved { field, value });
        assert_eq!(Config::parse(&[0x00, 0x00]), reserved("audioObjectType", 0));
        assert_eq!(
            Config::parse(&[0x16, 0x90]),
            reserved("samplingFrequencyIndex", 13)
        );
    }

    #[test]
    fn adts_header_as_ffmpeg_writes_it() {
        let header = parse(&[0x12, 0x10]).adts_header(371 - 7).expect("header");
        assert_eq!(header, [0xff, 0xf1, 0x50, 0x80, 0x2e, 0x7f, 0xfc]);
    }

    #[test]
    fn adts_header_is_bounded_by_13_bits() {
        let config = parse(&[0x12, 0x10]);
        let header = config.adts_header(MAX_FRAME).expect("header");
        assert_eq!((header[3] & 3, header[4], header[5] >> 5), (3, 0xff, 7));
        assert_eq!(
            config.adts_header(MAX_FRAME + 1),
            Err(Error::FrameTooLong { len: 8185 })
        );
    }

    #[test]
    fn adts_frames_are_found_and_split() {
        let config = parse(&[0x12, 0x10]);
        let mut data = config.adts_header(3).expect("header").to_vec();
        data.extend([1, 2, 3]);
        assert_eq!(
            config.adts_frames(&data),
            Some(std::iter::once(7..10).collect())
        );
        data.extend(config.adts_header(2).expect("header"));
        data.extend([4, 5]);
        assert_eq!(config.adts_frames(&data), Some(vec![7..10, 17..19]));
        // With a checksum, the header has two bytes more.
        let with_crc = [0xff, 0xf0, 0x50, 0x80, 0x01, 0x5f, 0xfc, 0xaa, 0xbb, 9];
        assert_eq!(
            config.adts_frames(&with_crc),
            Some(std::iter::once(9..10).collect())
        );
        // Not to the end, another rate, or a raw frame.
        assert_eq!(config.adts_frames(&data[..18]), None);
        assert_eq!(parse(&[0x11, 0x90]).adts_frames(&data), None);
        assert_eq!(config.adts_frames(&[0x21, 0x10, 0x05]), None);
        assert_eq!(config.adts_frames(&[]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_fail(bytes in prop::collection::vec(any::<u8>(), 0..600), frame in 0..9000usize) {
            if let Ok(config) = Config::parse(&bytes) {
                prop_assert!((7350..=96_000).contains(&config.sample_rate) && config.channels > 0);
                let _ = config.adts_header(frame);
                let _ = config.adts_frames(&bytes);
                prop_assert!(config.codec_string().starts_with("mp4a.40."));
            }
        }

        #[test]
        fn adts_frames_of_any_bytes(bytes in prop::collection::vec(prop_oneof![Just(0xff), any::<u8>()], 0..100)) {
            let _ = parse(&[0x12, 0x10]).adts_frames(&bytes);
        }

        #[test]
        fn own_headers_are_recognised(lengths in prop::collection::vec(1..200usize, 1..5)) {
            let config = parse(&[0x12, 0x10]);
            let mut data = Vec::new();
            for &length in &lengths {
                data.extend(config.adts_header(length).expect("header"));
                data.resize(data.len() + length, 0xff);
            }
            let found = config.adts_frames(&data).expect("frames");
            prop_assert_eq!(found.iter().map(|frame| frame.len()).collect::<Vec<_>>(), lengths);
        }
    }
}
