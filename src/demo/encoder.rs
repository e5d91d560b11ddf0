//! Encodes the test picture as H.264 for live use, by OpenH264 (built from its bundled source).
//!
//! Constrained baseline: no B pictures, no reordering, one slice, no lookahead, every picture coded, so each picture that
//! goes in comes out in the same call. NAL units leave length-prefixed (ISO/IEC 14496-15, 5.3.3), parameter sets apart
//! as `avcC` (5.3.3.1). One thread: the picture is small, and its CPU belongs to the server.

use bytes::{BufMut, Bytes, BytesMut};
use openh264::OpenH264API;
use openh264::encoder::{
    BitRate, Complexity, EncodedBitStream, Encoder, EncoderConfig, FrameRate, FrameType,
    IntraFramePeriod, Profile, RateControlMode, SpsPpsStrategy, UsageType, VuiConfig,
};
use openh264::formats::YUVSlices;

use super::picture::Picture;
use super::sps;

/// A picture encoder, its settings fixed for life.
pub struct VideoEncoder {
    encoder: Encoder,
    fps: u32,
    parameter_sets: Option<(Bytes, Bytes)>,
}

/// One coded picture.
#[derive(Debug, Clone)]
pub struct CodedPicture {
    /// Whether it is an IDR picture.
    pub key: bool,
    /// NAL units, each after its length in 4 bytes; parameter sets left out.
    pub data: Bytes,
}

/// Why a picture could not be encoded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The library refused its settings or the picture.
    #[error("OpenH264: {0}")]
    OpenH264(#[from] openh264::Error),
    /// The library returned no coded picture though told never to skip one.
    #[error("OpenH264 skipped a picture")]
    Skipped,
}

impl VideoEncoder {
    /// An encoder for `fps` pictures a second at about `bitrate` bits a second.
    pub fn new(fps: u32, bitrate: u32) -> Result<Self, Error> {
        let config = EncoderConfig::new()
            .usage_type(UsageType::CameraVideoRealTime)
            .profile(Profile::Baseline)
            .complexity(Complexity::Low)
            .rate_control_mode(RateControlMode::Bitrate)
            .bitrate(BitRate::from_bps(bitrate))
            .max_frame_rate(FrameRate::from_hz(fps as f32))
            // Without it rate control gives up, and says so on stderr; `encode` lets no picture be skipped.
            .skip_frames(true)
            .num_threads(1)
            // Key pictures come when asked for, and only then.
            .intra_frame_period(IntraFramePeriod::auto())
            .scene_change_detect(false)
            .sps_pps_strategy(SpsPpsStrategy::ConstantId)
            // Both cost more than they give with a drawn picture.
            .adaptive_quantization(false)
            .background_detection(false)
            .vui(VuiConfig::bt709());
        let encoder = Encoder::with_api_config(OpenH264API::from_source(), config)?;
        Ok(Self {
            encoder,
            fps,
            parameter_sets: None,
        })
    }

    /// Encodes one picture; `key` makes it an IDR picture.
    pub fn encode(
        &mut self,
        picture: &Picture,
        key: bool,
        timestamp_ms: u64,
    ) -> Result<CodedPicture, Error> {
        if key && self.parameter_sets.is_some() {
            self.encoder.force_intra_frame();
        }
        let (width, height) = picture.dimensions();
        let source = YUVSlices::new(
            picture.planes(),
            (width, height),
            (width, width / 2, width / 2),
        );
        let timestamp = openh264::Timestamp::from_millis(timestamp_ms);
        // A skip is decided before anything is coded and drains rate control's bucket by one picture's share, so it helps
        // to ask again. The cadence must be exact; a rate a little above the target is the lesser evil.
        for _ in 0..MAX_TRIES {
            let coded = self.encoder.encode_at(&source, timestamp)?;
            if matches!(coded.frame_type(), FrameType::Skip) {
                continue;
            }
            let key = matches!(coded.frame_type(), FrameType::IDR);
            let (data, sps, pps) = collect(&coded);
            if let (Some(sps), Some(pps)) = (sps, pps) {
                self.parameter_sets = Some((sps::with_timing(&sps, self.fps), pps));
            }
            return if data.is_empty() {
                Err(Error::Skipped)
            } else {
                Ok(CodedPicture { key, data })
            };
        }
        Err(Error::Skipped)
    }

    /// `avcC` (AVCDecoderConfigurationRecord, length size 4); `None` before the first picture.
    pub fn config(&self) -> Option<Bytes> {
        let (sps, pps) = self.parameter_sets.as_ref()?;
        let mut record = BytesMut::with_capacity(11 + sps.len() + pps.len());
        record.put_u8(1);
        record.put_slice(sps.get(1..4)?);
        record.put_u8(0xff); // reserved bits set, length size 4
        record.put_u8(0xe1); // reserved bits set, one SPS
        record.put_u16(u16::try_from(sps.len()).ok()?);
        record.put_slice(sps);
        record.put_u8(1);
        record.put_u16(u16::try_from(pps.len()).ok()?);
        record.put_slice(pps);
        Some(record.freeze())
    }

    /// SPS and PPS; `None` before the first picture.
    pub fn parameter_sets(&self) -> Option<(Bytes, Bytes)> {
        self.parameter_sets.clone()
    }
}

impl std::fmt::Debug for VideoEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VideoEncoder")
            .field("fps", &self.fps)
            .finish_non_exhaustive()
    }
}

/// A picture's NAL units, length-prefixed, and apart from them its SPS and PPS.
fn collect(coded: &EncodedBitStream<'_>) -> (Bytes, Option<Bytes>, Option<Bytes>) {
    let (mut data, mut sps, mut pps) = (BytesMut::new(), None, None);
    for layer in (0..coded.num_layers()).filter_map(|i| coded.layer(i)) {
        for nal in (0..layer.nal_count()).filter_map(|i| layer.nal_unit(i)) {
            let nal = strip_start_code(nal);
            match nal.first().map(|header| header & 0x1f) {
                Some(SPS) => sps = Some(Bytes::copy_from_slice(nal)),
                Some(PPS) => pps = Some(Bytes::copy_from_slice(nal)),
                Some(_) => {
                    data.put_u32(nal.len() as u32);
                    data.put_slice(nal);
                }
                None => {}
            }
        }
    }
    (data.freeze(), sps, pps)
}

fn strip_start_code(nal: &[u8]) -> &[u8] {
    let zeros = nal.iter().take_while(|&&byte| byte == 0).count();
    match nal.get(zeros..) {
        Some([1, rest @ ..]) if zeros >= 2 => rest,
        _ => nal,
    }
}

/// A bucket that holds a second's bits is empty after as many skips as there are pictures in it, 120 at most.
const MAX_TRIES: usize = 128;
const SPS: u8 = 7;
const PPS: u8 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::cells::decode_cells;
    use openh264::decoder::Decoder;
    use openh264::formats::YUVSource;

    /// Draws, encodes and decodes `count` pictures and gives each decoded one with the time drawn into it.
    fn round_trip(
        width: usize,
        height: usize,
        bitrate: u32,
        count: u64,
        mut check: impl FnMut(u64, &[u8], usize),
    ) -> usize {
        let mut picture = Picture::new(width, height);
        let mut encoder = VideoEncoder::new(30, bitrate).unwrap();
        let mut decoder = Decoder::new().unwrap();
        let mut bytes = 0;
        for number in 0..count {
            let unix_ms = 1_795_223_125_678 + number * 100 / 3;
            picture.draw(unix_ms, number);
            let coded = encoder
                .encode(&picture, number % 30 == 0, number * 100 / 3)
                .unwrap();
            assert_eq!(coded.key, number % 30 == 0, "picture {number}");
            bytes += coded.data.len();

            let mut annex_b = Vec::new();
            let (sps, pps) = encoder.parameter_sets().unwrap();
            let sets = if coded.key {
                vec![&sps[..], &pps[..]]
            } else {
                Vec::new()
            };
            let mut rest = &coded.data[..];
            let mut nals = sets;
            while let [a, b, c, d, tail @ ..] = rest {
                let (nal, next) = tail.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
                nals.push(nal);
                rest = next;
            }
            for nal in nals {
                annex_b.extend_from_slice(&[0, 0, 0, 1]);
                annex_b.extend_from_slice(nal);
            }
            let decoded = decoder
                .decode(&annex_b)
                .unwrap()
                .expect("every picture comes out at once");
            assert_eq!(decoded.dimensions(), (width, height));
            check(unix_ms, decoded.y(), decoded.strides().0);
        }
        bytes
    }

    #[test]
    fn strip_survives_the_encoder() {
        for (width, height, bitrate) in [
            (640, 360, 1_500_000),
            (640, 360, 400_000),
            (320, 180, 300_000),
        ] {
            round_trip(width, height, bitrate, 65, |unix_ms, luma, stride| {
                assert_eq!(
                    decode_cells(luma, width, height, stride),
                    Some(unix_ms),
                    "{width}x{height} at {bitrate}"
                );
            });
        }
    }

    #[test]
    fn strip_survives_encoder_and_scaling() {
        // Bilinear, as a player does it, to sizes that share no factor with the original.
        round_trip(640, 360, 1_000_000, 5, |unix_ms, luma, stride| {
            for (width, height) in [(1067, 601), (427, 239), (320, 180), (251, 141)] {
                let mut scaled = vec![0u8; width * height];
                for y in 0..height {
                    for x in 0..width {
                        let position = |i: usize, to: usize, from: usize| {
                            let p = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5)
                                .clamp(0.0, from as f64 - 1.001);
                            (p as usize, p.fract())
                        };
                        let ((x0, fx), (y0, fy)) =
                            (position(x, width, 640), position(y, height, 360));
                        let level = |x: usize, y: usize| f64::from(luma[y * stride + x]);
                        let row = |y: usize| level(x0, y) * (1.0 - fx) + level(x0 + 1, y) * fx;
                        scaled[y * width + x] =
                            (row(y0) * (1.0 - fy) + row(y0 + 1) * fy).round() as u8;
                    }
                }
                assert_eq!(
                    decode_cells(&scaled, width, height, width),
                    Some(unix_ms),
                    "{width}x{height}"
                );
            }
        });
    }

    #[test]
    fn bitrate_is_kept_below_the_target() {
        let bytes = round_trip(640, 360, 1_500_000, 90, |_, _, _| {});
        let bits_a_second = bytes * 8 / 3;
        assert!(bits_a_second < 1_800_000, "{bits_a_second}");
    }

    #[test]
    fn config_record() {
        let mut picture = Picture::new(640, 360);
        let mut encoder = VideoEncoder::new(30, 1_500_000).unwrap();
        assert!(encoder.config().is_none());
        picture.draw(0, 0);
        encoder.encode(&picture, true, 0).unwrap();
        let record = encoder.config().unwrap();
        let (sps, pps) = encoder.parameter_sets().unwrap();
        assert_eq!(&record[..6], &[1, sps[1], sps[2], sps[3], 0xff, 0xe1]);
        assert_eq!(record.len(), 11 + sps.len() + pps.len());
        // Constrained baseline: profile 66 with constraint_set1_flag.
        assert_eq!((sps[1], sps[2] & 0x40), (66, 0x40));
    }
}
