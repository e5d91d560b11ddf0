//! Headers of FLV audio and video tags, classic and enhanced.
//!
//! Implements Adobe's Video File Format specification, version 10.1, annex E.4.2 and E.4.3, and Enhanced RTMP v1 and v2
//! (FourCC headers, ModEx). Codecs that are not carried are named, so that a refusal can say what came.
//!
//! It does not look into the payload behind the header.

use bytes::Bytes;

/// A video tag's header and what follows it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum VideoTag {
    /// An `AVCDecoderConfigurationRecord`.
    AvcConfig(Bytes),
    /// NAL units of one picture.
    AvcFrame {
        /// Presentation minus decoding time in ms.
        composition: i32,
        /// What the frame type field says, which is not always true.
        key: bool,
        data: Bytes,
    },
    /// Nothing to play: end of sequence, seek commands, colour metadata.
    Nothing,
}

/// An audio tag's header and what follows it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AudioTag {
    /// An `AudioSpecificConfig`.
    AacConfig(Bytes),
    /// One raw AAC frame.
    AacFrame(Bytes),
    /// MP3 frames.
    Mp3(Bytes),
    /// Nothing to play: end of sequence, channel layout.
    Nothing,
}

/// Why a header is no use.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TagError {
    /// A codec or feature that is not carried, by its usual name.
    Unsupported(String),
    /// The tag is shorter than its header.
    Truncated,
}

pub(super) fn parse_video(mut tag: Bytes) -> Result<VideoTag, TagError> {
    const ENHANCED: u8 = 0x80;
    let Some(first) = take(&mut tag) else {
        return Ok(VideoTag::Nothing);
    };
    let frame_type = first >> 4 & 7;
    if first & ENHANCED != 0 {
        return parse_enhanced_video(frame_type, first & 0xf, tag);
    }
    // Five is a message to the player (start and end of a client-side seek), not a picture, whatever the codec says.
    if frame_type == INFO_FRAME {
        return Ok(VideoTag::Nothing);
    }
    match first & 0xf {
        7 => {}
        codec => return Err(TagError::Unsupported(legacy_video_name(codec))),
    }
    // A key frame of nothing: some devices send a bare header.
    let Some(packet_type) = take(&mut tag) else {
        return Ok(VideoTag::Nothing);
    };
    match packet_type {
        // The composition time of a header or an end means nothing.
        0 => take_signed(&mut tag)
            .ok_or(TagError::Truncated)
            .map(|_| VideoTag::AvcConfig(tag)),
        1 => {
            let composition = take_signed(&mut tag).ok_or(TagError::Truncated)?;
            Ok(VideoTag::AvcFrame {
                composition,
                key: frame_type == KEY_FRAME,
                data: tag,
            })
        }
        _ => Ok(VideoTag::Nothing),
    }
}

fn parse_enhanced_video(
    frame_type: u8,
    packet_type: u8,
    mut tag: Bytes,
) -> Result<VideoTag, TagError> {
    let packet_type = skip_extensions(packet_type, &mut tag)?;
    if frame_type == INFO_FRAME && packet_type != METADATA {
        return Ok(VideoTag::Nothing);
    }
    if packet_type == VIDEO_MULTITRACK {
        return Err(TagError::Unsupported(
            "Enhanced RTMP multitrack video".to_owned(),
        ));
    }
    let four_cc = take_four_cc(&mut tag)?;
    if &four_cc != b"avc1" {
        return Err(TagError::Unsupported(four_cc_name(four_cc)));
    }
    let key = frame_type == KEY_FRAME;
    match packet_type {
        SEQUENCE_START => Ok(VideoTag::AvcConfig(tag)),
        CODED_FRAMES => {
            let composition = take_signed(&mut tag).ok_or(TagError::Truncated)?;
            Ok(VideoTag::AvcFrame {
                composition,
                key,
                data: tag,
            })
        }
        CODED_FRAMES_X => Ok(VideoTag::AvcFrame {
            composition: 0,
            key,
            data: tag,
        }),
        // End of sequence, metadata, and whatever is invented next.
        _ => Ok(VideoTag::Nothing),
    }
}

pub(super) fn parse_audio(mut tag: Bytes) -> Result<AudioTag, TagError> {
    const ENHANCED: u8 = 9;
    let Some(first) = take(&mut tag) else {
        return Ok(AudioTag::Nothing);
    };
    // Rate, size and channels in the low half are not looked at: they are wrong more often than right.
    match first >> 4 {
        ENHANCED => parse_enhanced_audio(first & 0xf, tag),
        2 | 14 => Ok(AudioTag::Mp3(tag)),
        10 => match take(&mut tag) {
            Some(0) => Ok(AudioTag::AacConfig(tag)),
            Some(1) => Ok(AudioTag::AacFrame(tag)),
            _ => Ok(AudioTag::Nothing),
        },
        format => Err(TagError::Unsupported(legacy_audio_name(format))),
    }
}

fn parse_enhanced_audio(packet_type: u8, mut tag: Bytes) -> Result<AudioTag, TagError> {
    let packet_type = skip_extensions(packet_type, &mut tag)?;
    if packet_type == AUDIO_MULTITRACK {
        return Err(TagError::Unsupported(
            "Enhanced RTMP multitrack audio".to_owned(),
        ));
    }
    let four_cc = take_four_cc(&mut tag)?;
    match (&four_cc, packet_type) {
        (b"mp4a", SEQUENCE_START) => Ok(AudioTag::AacConfig(tag)),
        (b"mp4a", CODED_FRAMES) => Ok(AudioTag::AacFrame(tag)),
        (b".mp3", CODED_FRAMES) => Ok(AudioTag::Mp3(tag)),
        // Starts that .mp3 does not need, ends, channel layouts, and whatever is invented next.
        (b"mp4a" | b".mp3", _) => Ok(AudioTag::Nothing),
        _ => Err(TagError::Unsupported(four_cc_name(four_cc))),
    }
}

/// Reads past ModEx prefixes (Enhanced RTMP v2: `size - 1` in one byte, or 255 and then in two, so many bytes, then a
/// byte with the next packet type in its low half) to the real packet type.
fn skip_extensions(mut packet_type: u8, tag: &mut Bytes) -> Result<u8, TagError> {
    while packet_type == MOD_EX {
        let mut size = usize::from(take(tag).ok_or(TagError::Truncated)?) + 1;
        if size == 256 {
            let [high, low] = [take(tag), take(tag)].map(|byte| byte.ok_or(TagError::Truncated));
            size = usize::from(u16::from_be_bytes([high?, low?])) + 1;
        }
        if size > tag.len() {
            return Err(TagError::Truncated);
        }
        let _ = tag.split_to(size);
        packet_type = take(tag).ok_or(TagError::Truncated)? & 0xf;
    }
    Ok(packet_type)
}

fn take(tag: &mut Bytes) -> Option<u8> {
    let byte = *tag.first()?;
    let _ = tag.split_to(1);
    Some(byte)
}

/// A composition time: 24 bits, signed.
fn take_signed(tag: &mut Bytes) -> Option<i32> {
    let &[high, middle, low, ..] = &tag[..] else {
        return None;
    };
    let _ = tag.split_to(3);
    Some(i32::from_be_bytes([high, middle, low, 0]) >> 8)
}

fn take_four_cc(tag: &mut Bytes) -> Result<[u8; 4], TagError> {
    let &[a, b, c, d, ..] = &tag[..] else {
        return Err(TagError::Truncated);
    };
    let _ = tag.split_to(4);
    Ok([a, b, c, d])
}

fn legacy_video_name(codec: u8) -> String {
    let name = match codec {
        1 => "JPEG video",
        2 => "Sorenson H.263 (Flash video)",
        3 | 6 => "Flash Screen video",
        4 | 5 => "VP6",
        // Numbers that Chinese CDNs and their encoders agreed on before there was Enhanced RTMP.
        12 => "HEVC / H.265",
        13 => "AV1",
        other => return format!("video with FLV codec id {other}"),
    };
    name.to_owned()
}

fn legacy_audio_name(format: u8) -> String {
    let name = match format {
        0 | 3 => "uncompressed PCM",
        1 => "ADPCM",
        4..=6 => "Nellymoser",
        7 => "G.711 A-law",
        8 => "G.711 mu-law",
        11 => "Speex",
        13 => "Opus",
        other => return format!("audio with FLV sound format {other}"),
    };
    name.to_owned()
}

fn four_cc_name(four_cc: [u8; 4]) -> String {
    let name = match &four_cc {
        b"hvc1" | b"hev1" => "HEVC / H.265",
        b"vvc1" => "VVC / H.266",
        b"av01" => "AV1",
        b"vp08" => "VP8",
        b"vp09" => "VP9",
        b"Opus" => "Opus",
        b"ac-3" => "AC-3 (Dolby Digital)",
        b"ec-3" => "E-AC-3 (Dolby Digital Plus)",
        b"fLaC" => "FLAC",
        other => return format!("codec with FourCC \"{}\"", other.escape_ascii()),
    };
    format!("{name} (FourCC \"{}\")", four_cc.escape_ascii())
}

const KEY_FRAME: u8 = 1;
const INFO_FRAME: u8 = 5;

// Packet types of Enhanced RTMP; audio and video share all numbers but multitrack's.
const SEQUENCE_START: u8 = 0;
const CODED_FRAMES: u8 = 1;
const CODED_FRAMES_X: u8 = 3;
const METADATA: u8 = 4;
const AUDIO_MULTITRACK: u8 = 5;
const VIDEO_MULTITRACK: u8 = 6;
const MOD_EX: u8 = 7;
