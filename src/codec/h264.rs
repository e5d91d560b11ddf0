//! H.264 / AVC: configuration record, parameter sets and NAL unit framing.
//!
//! Implements the parts of ISO/IEC 14496-10 (NAL units 7.3.1, SPS 7.3.2.1.1 with VUI E.1.1, byte stream Annex B, recovery
//! point SEI D.1.8) and ISO/IEC 14496-15 5.3.3.1 (`AVCDecoderConfigurationRecord`) that a server needs to say what a
//! stream is and where it can be joined. It is tolerant where players are: devices in the field send wrong reserved bits,
//! wrong levels and start codes where lengths belong, and still play everywhere. For that reason only the bit reader of
//! `h264-reader` is used, not its SPS parser, which (rightly, for its purpose) refuses an SPS that breaks the limits of
//! its own level.
//!
//! It does not parse slices, decode anything, or check conformance.

use bytes::Bytes;
use h264_reader::rbsp::{BitRead, BitReader, BitReaderError};

/// Why a configuration record or parameter set cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The configuration record ends before what it announces.
    #[error("avcC record is cut off at byte {at} of {len}: {field} does not fit")]
    Truncated {
        /// Offset at which reading stopped.
        at: usize,
        /// Length of the record.
        len: usize,
        /// What was to be read.
        field: &'static str,
    },
    /// A configuration record or parameter set is bigger than any real one.
    #[error("{what} of {len} bytes, at most {max} are taken")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// There is no sequence parameter set to describe the video.
    #[error("no sequence parameter set (SPS)")]
    NoSps,
    /// There is no picture parameter set, so no picture can be decoded.
    #[error("no picture parameter set (PPS)")]
    NoPps,
    /// The sequence parameter set cannot be parsed.
    #[error("SPS cannot be parsed at {field}")]
    Sps {
        /// Syntax element at which parsing failed.
        field: &'static str,
    },
    /// The sequence parameter set describes a picture no decoder takes.
    #[error(
        "SPS describes a picture of {width}x{height} pixels, at most {MAX_SIDE} each way are taken"
    )]
    Resolution {
        /// Width in pixels after cropping; negative when cropping removes more than there is.
        width: i64,
        /// Height in pixels after cropping.
        height: i64,
    },
}

/// What an H.264 elementary stream is, from its parameter sets.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `profile_idc` of the SPS.
    pub profile: u8,
    /// The constraint flags byte of the SPS.
    pub compatibility: u8,
    /// `level_idc` of the SPS.
    pub level: u8,
    /// Picture width in pixels, after cropping.
    pub width: u32,
    /// Picture height in pixels, after cropping.
    pub height: u32,
    /// Pictures per second as the VUI states them, when they are believable; always finite.
    pub frame_rate: Option<f64>,
    /// Sequence parameter sets, at least one, without start codes.
    pub sps: Vec<Bytes>,
    /// Picture parameter sets, at least one, without start codes.
    pub pps: Vec<Bytes>,
    /// Bytes of the length in front of each NAL unit: 1, 2, 3 or 4.
    pub nal_length_size: u8,
}

// `frame_rate` is never NaN: see `frame_rate()`.
impl Eq for Config {}

impl Config {
    /// Reads an `AVCDecoderConfigurationRecord` (`avcC`), or parameter sets in Annex B framing sent in its place.
    pub fn from_avcc(record: &[u8]) -> Result<Self, Error> {
        let record = Record::parse(record)?;
        Self::from_parameter_sets(record.sps, record.pps, record.nal_length_size)
    }

    /// Describes a stream by its parameter sets, each a NAL unit with its header byte.
    pub fn from_parameter_sets(
        sps: Vec<Bytes>,
        pps: Vec<Bytes>,
        nal_length_size: u8,
    ) -> Result<Self, Error> {
        let first = sps.first().ok_or(Error::NoSps)?;
        let parsed = Sps::parse(first)?;
        if pps.is_empty() {
            return Err(Error::NoPps);
        }
        Ok(Self {
            profile: parsed.profile,
            compatibility: parsed.compatibility,
            level: parsed.level,
            width: parsed.width,
            height: parsed.height,
            frame_rate: parsed.frame_rate,
            sps,
            pps,
            nal_length_size,
        })
    }

    /// The RFC 6381 codec string, for example `avc1.64001f`.
    pub fn codec_string(&self) -> String {
        format!(
            "avc1.{:02x}{:02x}{:02x}",
            self.profile, self.compatibility, self.level
        )
    }

    /// How the pictures are sampled, read anew from the SPS.
    pub fn sampling(&self) -> Option<Sampling> {
        Sampling::parse(self.sps.first()?)
    }

    /// Whether a decoder set up for `self` goes on with `other` without noticing more than new parameter sets: same
    /// profile, level and picture size. A change that is not the same format needs a discontinuity.
    pub fn same_format(&self, other: &Self) -> bool {
        (
            self.profile,
            self.compatibility,
            self.level,
            self.width,
            self.height,
        ) == (
            other.profile,
            other.compatibility,
            other.level,
            other.width,
            other.height,
        )
    }

    /// Takes parameter sets found in the stream into account: a set replaces the one with its id. `None` when nothing
    /// changed, which is the normal case and copies nothing.
    pub fn updated(&self, units: &NalUnits) -> Option<Result<Self, Error>> {
        let known = |unit: &[u8]| match nal::kind(unit) {
            nal::SPS => self.sps.iter().any(|sps| sps == unit),
            nal::PPS => self.pps.iter().any(|pps| pps == unit),
            _ => true,
        };
        if units.iter().all(known) {
            return None;
        }
        let mut sets = ParameterSets {
            sps: self.sps.clone(),
            pps: self.pps.clone(),
        };
        Some(match sets.collect(units) {
            Ok(()) => Self::from_parameter_sets(sets.sps, sets.pps, self.nal_length_size),
            Err(error) => Err(error),
        })
    }
}

/// How pictures are sampled (ISO/IEC 14496-10, 6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    /// `chroma_format_idc`: 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma_format: u8,
    /// Bits of a luma sample.
    pub bit_depth: u8,
}

impl Sampling {
    fn parse(sps: &[u8]) -> Option<Self> {
        let payload = unescape(sps.get(1..)?);
        let mut bits = BitReader::new(&payload[..]);
        let profile = bits.read::<8, u8>("profile_idc").ok()?;
        bits.read::<16, u16>("constraint flags, level_idc").ok()?;
        bits.read_ue("seq_parameter_set_id").ok()?;
        if !HIGH_PROFILES.contains(&profile) {
            return Some(Self {
                chroma_format: 1,
                bit_depth: 8,
            });
        }
        let chroma_format = bits.read_ue("chroma_format_idc").ok()?;
        if chroma_format == 3 {
            bits.read_bit("separate_colour_plane_flag").ok()?;
        }
        let above_eight = bits.read_ue("bit_depth_luma_minus8").ok()?;
        Some(Self {
            chroma_format: u8::try_from(chroma_format).ok().filter(|&idc| idc <= 3)?,
            bit_depth: u8::try_from(above_eight).ok().filter(|&bits| bits <= 6)? + 8,
        })
    }

    /// Whether every decoder takes it: 4:2:0 (or no colour) in 8 bits.
    pub fn is_common(self) -> bool {
        self.chroma_format <= 1 && self.bit_depth == 8
    }
}

impl std::fmt::Display for Sampling {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let format = match self.chroma_format {
            0 => "monochrome",
            1 => "4:2:0",
            2 => "4:2:2",
            _ => "4:4:4",
        };
        write!(formatter, "{format} in {} bits", self.bit_depth)
    }
}

/// The fields of an `AVCDecoderConfigurationRecord` that matter; unlike in [`Config`], parameter sets may be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) nal_length_size: u8,
    pub(crate) sps: Vec<Bytes>,
    pub(crate) pps: Vec<Bytes>,
}

impl Record {
    pub(crate) fn parse(record: &[u8]) -> Result<Self, Error> {
        if record.len() > MAX_RECORD {
            return Err(Error::TooLarge {
                what: "avcC record",
                len: record.len(),
                max: MAX_RECORD,
            });
        }
        let mut sets = ParameterSets::default();
        if start_code(record).is_some() {
            sets.collect_annex_b(record)?;
            return Ok(Self {
                nal_length_size: 4,
                sps: sets.sps,
                pps: sets.pps,
            });
        }
        // The version byte and the reserved bits are not looked at: some devices get them wrong.
        let mut at = 4;
        let length_size = take_byte(record, &mut at, "lengthSizeMinusOne")? & 3;
        let sps_count = take_byte(record, &mut at, "number of SPS")? & 0x1f;
        for _ in 0..sps_count {
            sets.collect_annex_b(take_set(record, &mut at, "SPS")?)?;
        }
        // A record that ends here has its PPS in the stream.
        let pps_count = take_byte(record, &mut at, "number of PPS").unwrap_or(0);
        for _ in 0..pps_count {
            sets.collect_annex_b(take_set(record, &mut at, "PPS")?)?;
        }
        Ok(Self {
            nal_length_size: length_size + 1,
            sps: sets.sps,
            pps: sets.pps,
        })
    }
}

/// Parameter sets being collected, at most one of each id.
#[derive(Debug, Clone, Default)]
pub(crate) struct ParameterSets {
    pub(crate) sps: Vec<Bytes>,
    pub(crate) pps: Vec<Bytes>,
}

impl ParameterSets {
    /// Adds the parameter sets of an access unit.
    pub(crate) fn collect(&mut self, units: &NalUnits) -> Result<(), Error> {
        units.iter().try_for_each(|unit| self.add(unit))
    }

    /// Adds one parameter set, or several with start codes between them.
    fn collect_annex_b(&mut self, data: &[u8]) -> Result<(), Error> {
        if start_code(data).is_none() {
            return self.add(trim_zeros(data));
        }
        AnnexB { rest: data }.try_for_each(|unit| self.add(unit))
    }

    fn add(&mut self, unit: &[u8]) -> Result<(), Error> {
        let sets = match nal::kind(unit) {
            nal::SPS => &mut self.sps,
            nal::PPS => &mut self.pps,
            _ => return Ok(()),
        };
        if unit.len() > MAX_PARAMETER_SET {
            return Err(Error::TooLarge {
                what: "parameter set",
                len: unit.len(),
                max: MAX_PARAMETER_SET,
            });
        }
        let id = parameter_set_id(unit).ok_or(Error::Sps {
            field: "parameter set id",
        })?;
        match sets
            .iter_mut()
            .find(|known| parameter_set_id(known) == Some(id))
        {
            Some(known) if known == unit => {}
            Some(known) => *known = Bytes::copy_from_slice(unit),
            None => sets.push(Bytes::copy_from_slice(unit)),
        }
        Ok(())
    }
}

/// The NAL units of one access unit, in the publisher's bytes and the publisher's framing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NalUnits {
    data: Bytes,
    framing: Framing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// Each unit follows its length, in so many bytes (1 to 4).
    Length(usize),
    /// Units are separated by start codes.
    AnnexB,
}

impl NalUnits {
    /// NAL units that each follow their length in `size` bytes, big endian; `size` is taken as 4 outside 1..=4.
    pub fn length_prefixed(data: Bytes, size: u8) -> Self {
        let size = if (1..=4).contains(&size) { size } else { 4 };
        Self {
            data,
            framing: Framing::Length(size.into()),
        }
    }

    /// NAL units separated by start codes (ISO/IEC 14496-10 Annex B).
    pub fn annex_b(data: Bytes) -> Self {
        Self {
            data,
            framing: Framing::AnnexB,
        }
    }

    /// NAL units as an FLV tag holds them: length-prefixed as the configuration says, except for the devices that send
    /// start codes all the same.
    pub fn detect(data: Bytes, size: u8) -> Self {
        let prefixed = Self::length_prefixed(data, size);
        // `00 00 01 xx` and `00 00 00 01` are also lengths, so the start code only counts when the lengths do not add up.
        if start_code(&prefixed.data).is_some() && !prefixed.is_exact() {
            return Self::annex_b(prefixed.data);
        }
        prefixed
    }

    /// The units in order, each with its header byte, without length or start code; empty ones are left out, and
    /// everything from a unit that is cut off.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> + '_ {
        match self.framing {
            Framing::AnnexB => Units {
                outer: &[],
                size: 0,
                inner: AnnexB { rest: &self.data },
            },
            Framing::Length(size) => Units {
                outer: &self.data,
                size,
                inner: AnnexB { rest: &[] },
            },
        }
    }

    /// Bytes as the publisher sent them, framing included: an upper bound of the size without framing.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there are no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Whether the lengths add up to the data exactly.
    fn is_exact(&self) -> bool {
        let Framing::Length(size) = self.framing else {
            return false;
        };
        let mut rest = &self.data[..];
        while let Some((_, after)) = split_length_prefixed(rest, size) {
            rest = after;
        }
        rest.is_empty()
    }
}

/// Walks length-prefixed units, and start codes inside of them.
struct Units<'a> {
    outer: &'a [u8],
    size: usize,
    /// A length-prefixed unit that turned out to be Annex B; whole input when the framing is Annex B.
    inner: AnnexB<'a>,
}

impl<'a> Iterator for Units<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            if let Some(unit) = self.inner.next() {
                return Some(unit);
            }
            let (unit, rest) = split_length_prefixed(self.outer, self.size)?;
            self.outer = rest;
            if start_code(unit).is_some() {
                self.inner = AnnexB { rest: unit };
            } else if !unit.is_empty() {
                return Some(unit);
            }
        }
    }
}

/// Walks start codes.
struct AnnexB<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for AnnexB<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let (unit, rest) = match find_start_code(self.rest) {
                Some(at) => (&self.rest[..at], &self.rest[at + 3..]),
                None => (self.rest, &[][..]),
            };
            self.rest = rest;
            // Zeros before a start code belong to it, or are trailing_zero_8bits: no NAL unit ends in a zero byte.
            let unit = trim_zeros(unit);
            if !unit.is_empty() {
                return Some(unit);
            }
        }
        None
    }
}

/// NAL unit types (ISO/IEC 14496-10 table 7-1) and what can be told from a unit alone.
pub mod nal {
    /// Coded slice of a picture that is not an IDR picture.
    pub const SLICE: u8 = 1;
    /// First data partition of a slice.
    pub const PARTITION_A: u8 = 2;
    /// Coded slice of an IDR picture: decoding can start here.
    pub const IDR: u8 = 5;
    /// Supplemental enhancement information.
    pub const SEI: u8 = 6;
    /// Sequence parameter set.
    pub const SPS: u8 = 7;
    /// Picture parameter set.
    pub const PPS: u8 = 8;
    /// Access unit delimiter.
    pub const AUD: u8 = 9;
    /// End of sequence.
    pub const END_OF_SEQUENCE: u8 = 10;
    /// End of stream.
    pub const END_OF_STREAM: u8 = 11;
    /// Filler data.
    pub const FILLER: u8 = 12;

    /// `nal_unit_type` of a unit; 0 (unspecified) for an empty one.
    pub fn kind(unit: &[u8]) -> u8 {
        unit.first().map_or(0, |header| header & 0x1f)
    }

    /// Whether a unit carries a part of a picture (types 1 to 5).
    pub fn is_slice(unit: &[u8]) -> bool {
        (SLICE..=IDR).contains(&kind(unit))
    }

    /// Whether an SEI unit announces a recovery point: a decoder can start here, although the picture is not an IDR.
    pub fn has_recovery_point(unit: &[u8]) -> bool {
        const RECOVERY_POINT: usize = 6;
        if kind(unit) != SEI {
            return false;
        }
        let payload = super::unescape(unit.get(1..).unwrap_or_default());
        let mut rest = &payload[..];
        while let Some((kind, after)) = sei_number(rest)
            && let Some((size, after)) = sei_number(after)
        {
            if kind == RECOVERY_POINT {
                return size > 0;
            }
            rest = after.get(size..).unwrap_or_default();
        }
        false
    }

    /// A payload type or size (7.3.2.3.1): a run of bytes of 255, and a last byte, added up.
    fn sei_number(data: &[u8]) -> Option<(usize, &[u8])> {
        let run = data.iter().take_while(|&&byte| byte == 0xff).count();
        let last = data.get(run)?;
        Some((run * 255 + usize::from(*last), data.get(run + 1..)?))
    }
}

/// What an SPS says.
#[derive(Debug)]
struct Sps {
    profile: u8,
    compatibility: u8,
    level: u8,
    width: u32,
    height: u32,
    frame_rate: Option<f64>,
}

impl Sps {
    /// Reads an SPS NAL unit (7.3.2.1.1) up to the timing in its VUI.
    fn parse(unit: &[u8]) -> Result<Self, Error> {
        let payload = unescape(unit.get(1..).unwrap_or_default());
        let mut bits = BitReader::new(&payload[..]);
        let profile = bits.read::<8, u8>("profile_idc")?;
        let compatibility = bits.read::<8, u8>("constraint_set_flags")?;
        let level = bits.read::<8, u8>("level_idc")?;
        bits.read_ue("seq_parameter_set_id")?;
        let (crop_x, crop_y) = if HIGH_PROFILES.contains(&profile) {
            read_chroma(&mut bits)?
        } else {
            (2, 2)
        };
        bits.read_ue("log2_max_frame_num_minus4")?;
        match bits.read_ue("pic_order_cnt_type")? {
            0 => {
                bits.read_ue("log2_max_pic_order_cnt_lsb_minus4")?;
            }
            1 => {
                bits.read_bit("delta_pic_order_always_zero_flag")?;
                bits.read_se("offset_for_non_ref_pic")?;
                bits.read_se("offset_for_top_to_bottom_field")?;
                // Ends with the data at the latest, and that is bounded.
                for _ in 0..bits.read_ue("num_ref_frames_in_pic_order_cnt_cycle")? {
                    bits.read_se("offset_for_ref_frame")?;
                }
            }
            _ => {}
        }
        bits.read_ue("max_num_ref_frames")?;
        bits.read_bit("gaps_in_frame_num_value_allowed_flag")?;
        let columns = i64::from(bits.read_ue("pic_width_in_mbs_minus1")?) + 1;
        let rows = i64::from(bits.read_ue("pic_height_in_map_units_minus1")?) + 1;
        let frames_only = bits.read_bit("frame_mbs_only_flag")?;
        if !frames_only {
            bits.read_bit("mb_adaptive_frame_field_flag")?;
        }
        bits.read_bit("direct_8x8_inference_flag")?;
        let fields = if frames_only { 1 } else { 2 };
        let (mut width, mut height) = (columns * 16, rows * 16 * fields);
        if bits.read_bit("frame_cropping_flag")? {
            let mut side = |name| bits.read_ue(name).map(i64::from);
            width -= crop_x * (side("frame_crop_left_offset")? + side("frame_crop_right_offset")?);
            height -= crop_y
                * fields
                * (side("frame_crop_top_offset")? + side("frame_crop_bottom_offset")?);
        }
        let side = |value: i64| {
            u32::try_from(value)
                .ok()
                .filter(|side| (1..=MAX_SIDE).contains(side))
        };
        let (Some(picture_width), Some(picture_height)) = (side(width), side(height)) else {
            return Err(Error::Resolution { width, height });
        };
        Ok(Self {
            profile,
            compatibility,
            level,
            width: picture_width,
            height: picture_height,
            // Whatever is wrong with the VUI, the stream plays without it.
            frame_rate: read_frame_rate(&mut bits).unwrap_or(None),
        })
    }
}

/// Reads the chroma format and scaling lists of the high profiles; returns the units of cropping in luma samples.
fn read_chroma(bits: &mut impl BitRead) -> Result<(i64, i64), BitReaderError> {
    let format = bits.read_ue("chroma_format_idc")?;
    if format == 3 {
        bits.read_bit("separate_colour_plane_flag")?;
    }
    bits.read_ue("bit_depth_luma_minus8")?;
    bits.read_ue("bit_depth_chroma_minus8")?;
    bits.read_bit("qpprime_y_zero_transform_bypass_flag")?;
    if bits.read_bit("seq_scaling_matrix_present_flag")? {
        for list in 0..if format == 3 { 12 } else { 8 } {
            if bits.read_bit("seq_scaling_list_present_flag")? {
                read_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Ok(match format {
        1 => (2, 2),
        2 => (2, 1),
        // Monochrome, 4:4:4 and separate planes.
        _ => (1, 1),
    })
}

/// Reads past one scaling list (7.3.2.1.1.1).
fn read_scaling_list(bits: &mut impl BitRead, size: usize) -> Result<(), BitReaderError> {
    let mut last = 8i64;
    for _ in 0..size {
        let next = (last + i64::from(bits.read_se("delta_scale")?)).rem_euclid(256);
        if next == 0 {
            break;
        }
        last = next;
    }
    Ok(())
}

/// Reads the VUI (E.1.1) up to its timing.
fn read_frame_rate(bits: &mut impl BitRead) -> Result<Option<f64>, BitReaderError> {
    const EXTENDED_SAR: u8 = 255;
    if !bits.read_bit("vui_parameters_present_flag")? {
        return Ok(None);
    }
    if bits.read_bit("aspect_ratio_info_present_flag")?
        && bits.read::<8, u8>("aspect_ratio_idc")? == EXTENDED_SAR
    {
        bits.skip(32, "sar_width, sar_height")?;
    }
    if bits.read_bit("overscan_info_present_flag")? {
        bits.skip(1, "overscan_appropriate_flag")?;
    }
    if bits.read_bit("video_signal_type_present_flag")? {
        bits.skip(4, "video_format, video_full_range_flag")?;
        if bits.read_bit("colour_description_present_flag")? {
            bits.skip(
                24,
                "colour_primaries, transfer_characteristics, matrix_coefficients",
            )?;
        }
    }
    if bits.read_bit("chroma_loc_info_present_flag")? {
        bits.read_ue("chroma_sample_loc_type_top_field")?;
        bits.read_ue("chroma_sample_loc_type_bottom_field")?;
    }
    if !bits.read_bit("timing_info_present_flag")? {
        return Ok(None);
    }
    let units = bits.read::<32, u32>("num_units_in_tick")?;
    let scale = bits.read::<32, u32>("time_scale")?;
    // Two ticks make a frame, also when frames are coded as frames.
    let rate = f64::from(scale) / (2.0 * f64::from(units));
    // Cameras write nonsense here (0/0, 1/90000 for variable rates); such a value is no value.
    Ok((units != 0 && (MIN_RATE..=MAX_RATE).contains(&rate)).then_some(rate))
}

impl From<BitReaderError> for Error {
    fn from(error: BitReaderError) -> Self {
        let field = match error {
            BitReaderError::ReaderError(field, _) | BitReaderError::ExpGolombTooLarge(field) => {
                field
            }
            _ => "end",
        };
        Self::Sps { field }
    }
}

/// The id of an SPS or PPS unit.
fn parameter_set_id(unit: &[u8]) -> Option<u32> {
    // An id is below 256, so that it lies within the first bytes, before which an SPS has three others.
    let start = if nal::kind(unit) == nal::SPS { 4 } else { 1 };
    let head = unescape(unit.get(1..unit.len().min(start + 8))?);
    BitReader::new(head.get(start - 1..)?)
        .read_ue("id")
        .ok()
        .filter(|&id| id < 256)
}

/// Removes emulation prevention bytes (7.3.1), without complaining about sequences that should have had one; of long
/// units only the start, which is all that is looked at.
fn unescape(data: &[u8]) -> Vec<u8> {
    let mut zeros = 0;
    let mut plain = Vec::with_capacity(data.len().min(MAX_PARAMETER_SET));
    for &byte in data.iter().take(MAX_PARAMETER_SET) {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        plain.push(byte);
    }
    plain
}

fn split_length_prefixed(data: &[u8], size: usize) -> Option<(&[u8], &[u8])> {
    let (prefix, rest) = data.split_at_checked(size)?;
    let length = prefix
        .iter()
        .fold(0usize, |length, &byte| length << 8 | usize::from(byte));
    (size > 0).then(|| rest.split_at_checked(length))?
}

/// Length of the start code that data begins with.
fn start_code(data: &[u8]) -> Option<usize> {
    match data {
        [0, 0, 1, ..] => Some(3),
        [0, 0, 0, 1, ..] => Some(4),
        _ => None,
    }
}

/// Position of the next `00 00 01`.
fn find_start_code(data: &[u8]) -> Option<usize> {
    let mut at = 2;
    while let Some(&byte) = data.get(at) {
        match byte {
            // A byte above 1 can be in none of the three places.
            2.. => at += 3,
            1 if data[at - 2] == 0 && data[at - 1] == 0 => return Some(at - 2),
            _ => at += 1,
        }
    }
    None
}

fn trim_zeros(unit: &[u8]) -> &[u8] {
    let zeros = unit.iter().rev().take_while(|&&byte| byte == 0).count();
    &unit[..unit.len() - zeros]
}

fn take_byte(record: &[u8], at: &mut usize, field: &'static str) -> Result<u8, Error> {
    let byte = record.get(*at).copied().ok_or(Error::Truncated {
        at: *at,
        len: record.len(),
        field,
    })?;
    *at += 1;
    Ok(byte)
}

/// One parameter set of a record, behind its 16-bit length.
fn take_set<'a>(record: &'a [u8], at: &mut usize, field: &'static str) -> Result<&'a [u8], Error> {
    let high = take_byte(record, at, field)?;
    let length = usize::from(u16::from_be_bytes([high, take_byte(record, at, field)?]));
    let set = record.get(*at..*at + length).ok_or(Error::Truncated {
        at: *at,
        len: record.len(),
        field,
    })?;
    *at += length;
    Ok(set)
}

/// Longest configuration record taken. Real ones have 30 to 60 bytes, and a few hundred with scaling lists.
const MAX_RECORD: usize = 64 * 1024;

/// Longest SPS or PPS taken. Scaling lists can take about 800 bytes; more than this serves no decoder.
const MAX_PARAMETER_SET: usize = 4096;

/// Widest and highest picture taken: twice what level 6.2 allows at the usual shapes.
const MAX_SIDE: u32 = 16384;

/// Lowest and highest believable VUI frame rates.
const MIN_RATE: f64 = 0.1;
const MAX_RATE: f64 = 480.0;

/// Profiles whose SPS says its chroma format (7.3.2.1.1).
const HIGH_PROFILES: [u8; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];

#[cfg(test)]
mod tests;
