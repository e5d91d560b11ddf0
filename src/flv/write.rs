//! Writes the bodies of FLV tags, which are also the payloads of RTMP's media messages.
//!
//! Adobe's FLV specification 10.1, annex E.4: AVC and AAC, their codec configurations and frames, and `onMetaData`. Only the
//! classic headers: what the enhanced ones are for (HEVC, AV1, …) is not published from here. No file header, no tag headers:
//! RTMP has its own.

use bytes::{BufMut, Bytes, BytesMut};
use rml_rtmp::rml_amf0::{self, Amf0Value};

/// What `onMetaData` tells about a stream. Receivers show it; none may depend on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Metadata {
    /// Name and version of the program that made the stream.
    pub encoder: String,
    /// The video track, if there is one.
    pub video: Option<VideoMetadata>,
    /// The audio track, if there is one.
    pub audio: Option<AudioMetadata>,
}

/// An H.264 track in `onMetaData`.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoMetadata {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Pictures a second.
    pub fps: f64,
    /// Bits a second.
    pub bitrate: u32,
}

/// An AAC track in `onMetaData`.
#[derive(Debug, Clone, PartialEq)]
pub struct AudioMetadata {
    /// Samples a second.
    pub sample_rate: u32,
    /// Whether it has two channels.
    pub stereo: bool,
    /// Bits a second.
    pub bitrate: u32,
}

/// The H.264 sequence header: `avcc` is an AVCDecoderConfigurationRecord.
pub fn avc_header(avcc: &[u8]) -> Bytes {
    avc(true, 0, 0, avcc)
}

/// One H.264 picture, its NAL units length-prefixed as `avcC` says. `composition_ms` is presentation time less decoding
/// time; it has 24 bits, signed, and is cut to them.
pub fn avc_picture(key: bool, composition_ms: i32, nal_units: &[u8]) -> Bytes {
    avc(key, 1, composition_ms, nal_units)
}

/// The AAC sequence header: `config` is an AudioSpecificConfig.
pub fn aac_header(config: &[u8]) -> Bytes {
    aac(0, config)
}

/// One raw AAC frame, without ADTS header.
pub fn aac_frame(frame: &[u8]) -> Bytes {
    aac(1, frame)
}

impl Metadata {
    /// The script tag's body: the name `onMetaData` and an object.
    pub fn write(&self) -> Bytes {
        let mut properties = vec![(
            "encoder",
            Amf0Value::Utf8String(self.encoder.chars().take(MAX_ENCODER).collect()),
        )];
        if let Some(video) = &self.video {
            properties.extend([
                ("videocodecid", Amf0Value::Number(f64::from(AVC))),
                ("width", Amf0Value::Number(f64::from(video.width))),
                ("height", Amf0Value::Number(f64::from(video.height))),
                ("framerate", Amf0Value::Number(video.fps)),
                (
                    "videodatarate",
                    Amf0Value::Number(f64::from(video.bitrate) / 1000.0),
                ),
            ]);
        }
        if let Some(audio) = &self.audio {
            properties.extend([
                ("audiocodecid", Amf0Value::Number(f64::from(AAC >> 4))),
                (
                    "audiosamplerate",
                    Amf0Value::Number(f64::from(audio.sample_rate)),
                ),
                ("audiosamplesize", Amf0Value::Number(16.0)),
                ("stereo", Amf0Value::Boolean(audio.stereo)),
                (
                    "audiodatarate",
                    Amf0Value::Number(f64::from(audio.bitrate) / 1000.0),
                ),
            ]);
        }
        let object = properties
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let values = vec![
            Amf0Value::Utf8String("onMetaData".to_owned()),
            Amf0Value::Object(object),
        ];
        // It fails for strings over 65535 bytes alone, and there are none.
        rml_amf0::serialize(&values).unwrap_or_default().into()
    }
}

fn avc(key: bool, packet_type: u8, composition_ms: i32, data: &[u8]) -> Bytes {
    let mut tag = BytesMut::with_capacity(5 + data.len());
    let frame_type = if key { 1 } else { 2 };
    tag.put_u8(frame_type << 4 | AVC);
    tag.put_u8(packet_type);
    let [_, time @ ..] = composition_ms.to_be_bytes();
    tag.put_slice(&time);
    tag.put_slice(data);
    tag.freeze()
}

fn aac(packet_type: u8, data: &[u8]) -> Bytes {
    let mut tag = BytesMut::with_capacity(2 + data.len());
    tag.put_u8(AAC);
    tag.put_u8(packet_type);
    tag.put_slice(data);
    tag.freeze()
}

/// CodecID of H.264.
const AVC: u8 = 7;
/// SoundFormat 10 with the rate, size and type that the specification fixes for AAC whatever the stream's are.
const AAC: u8 = 0xaf;
/// Characters; at four bytes each far below what an AMF0 string may hold.
const MAX_ENCODER: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_by_the_specification() {
        assert_eq!(&avc_header(&[1, 66])[..], &[0x17, 0, 0, 0, 0, 1, 66]);
        assert_eq!(&avc_picture(true, 0, &[9])[..], &[0x17, 1, 0, 0, 0, 9]);
        assert_eq!(&avc_picture(false, 80, &[9])[..], &[0x27, 1, 0, 0, 80, 9]);
        assert_eq!(
            &avc_picture(false, -1, &[])[..],
            &[0x27, 1, 0xff, 0xff, 0xff]
        );
        assert_eq!(&aac_header(&[0x11, 0x88])[..], &[0xaf, 0, 0x11, 0x88]);
        assert_eq!(&aac_frame(&[5])[..], &[0xaf, 1, 5]);
    }

    #[test]
    fn metadata_is_readable() {
        let metadata = Metadata {
            encoder: "x".repeat(100_000),
            video: Some(VideoMetadata {
                width: 640,
                height: 360,
                fps: 30.0,
                bitrate: 1_500_000,
            }),
            audio: None,
        };
        let values = rml_amf0::deserialize(&mut &metadata.write()[..]).unwrap();
        let [Amf0Value::Utf8String(name), Amf0Value::Object(properties)] = &values[..] else {
            panic!("{values:?}")
        };
        assert_eq!(name, "onMetaData");
        assert_eq!(properties["width"], Amf0Value::Number(640.0));
        assert_eq!(properties["videodatarate"], Amf0Value::Number(1500.0));
        assert!(!properties.contains_key("audiocodecid"));
    }
}
