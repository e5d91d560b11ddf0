//! Puts the picture rate into a sequence parameter set, which OpenH264 leaves out.
//!
//! ISO/IEC 14496-10, 7.3.2.1.1 and Annex E: the set is copied bit by bit, with `timing_info` inserted in its VUI. Only for
//! sets of the baseline and main profiles that have a VUI without timing, as the encoder writes them; any other comes back
//! unchanged. Reading of sets from the network is the business of [`crate::codec`].

use bytes::Bytes;

/// The set with `fps` as its fixed picture rate.
pub(super) fn with_timing(nal: &[u8], fps: u32) -> Bytes {
    rewrite(nal, fps).map_or_else(|| Bytes::copy_from_slice(nal), Bytes::from)
}

fn rewrite(nal: &[u8], fps: u32) -> Option<Vec<u8>> {
    let rbsp = unescape(nal);
    let mut reader = BitReader {
        data: &rbsp,
        position: 0,
    };
    reader.bits(8)?; // NAL unit header
    if !matches!(reader.bits(8)?, 66 | 77) {
        return None;
    }
    reader.bits(16)?; // constraint flags, level
    reader.ue()?; // seq_parameter_set_id
    reader.ue()?; // log2_max_frame_num_minus4
    match reader.ue()? {
        0 => {
            reader.ue()?; // log2_max_pic_order_cnt_lsb_minus4
        }
        2 => {}
        _ => return None,
    }
    reader.ue()?; // max_num_ref_frames
    reader.bits(1)?; // gaps_in_frame_num_value_allowed_flag
    reader.ue()?; // pic_width_in_mbs_minus1
    reader.ue()?; // pic_height_in_map_units_minus1
    if reader.bits(1)? == 0 {
        return None; // not frame_mbs_only
    }
    reader.bits(1)?; // direct_8x8_inference_flag
    if reader.bits(1)? == 1 {
        for _ in 0..4 {
            reader.ue()?; // frame_crop offsets
        }
    }
    if reader.bits(1)? == 0 {
        return None; // no VUI
    }
    if reader.bits(1)? == 1 && reader.bits(8)? == 255 {
        reader.bits(32)?; // sar_width, sar_height
    }
    if reader.bits(1)? == 1 {
        reader.bits(1)?; // overscan_appropriate_flag
    }
    if reader.bits(1)? == 1 {
        reader.bits(4)?; // video_format, video_full_range_flag
        if reader.bits(1)? == 1 {
            reader.bits(24)?; // colour description
        }
    }
    if reader.bits(1)? == 1 {
        reader.ue()?; // chroma_sample_loc_type_top_field
        reader.ue()?; // chroma_sample_loc_type_bottom_field
    }
    let flag = reader.position;
    if reader.bits(1)? == 1 {
        return None; // has timing
    }
    let end = rbsp.len() * 8 - 1 - rbsp.last()?.trailing_zeros() as usize;

    let mut bits: Vec<bool> = (0..flag).map(|i| bit(&rbsp, i)).collect();
    bits.push(true);
    // A tick is a field's time, so two ticks make a picture (E.2.1).
    for word in [1, fps.checked_mul(2)?] {
        bits.extend((0..32).rev().map(|i| word >> i & 1 == 1));
    }
    bits.push(true); // fixed_frame_rate_flag
    bits.extend((flag + 1..end).map(|i| bit(&rbsp, i)));
    bits.push(true); // rbsp_stop_one_bit
    let bytes: Vec<u8> = bits
        .chunks(8)
        .map(|chunk| {
            chunk
                .iter()
                .enumerate()
                .fold(0, |byte, (i, &bit)| byte | u8::from(bit) << (7 - i))
        })
        .collect();
    Some(escape(&bytes))
}

struct BitReader<'a> {
    data: &'a [u8],
    position: usize,
}

impl BitReader<'_> {
    fn bits(&mut self, count: usize) -> Option<u32> {
        let end = self
            .position
            .checked_add(count)
            .filter(|&end| end <= self.data.len() * 8)?;
        let value =
            (self.position..end).fold(0, |value, i| value << 1 | u32::from(bit(self.data, i)));
        self.position = end;
        Some(value)
    }

    fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.bits(1)? == 0 {
            zeros += 1;
        }
        (zeros < 32).then_some(())?;
        Some(self.bits(zeros)? + ((1 << zeros) - 1))
    }
}

fn bit(data: &[u8], position: usize) -> bool {
    data.get(position / 8)
        .is_some_and(|byte| byte >> (7 - position % 8) & 1 == 1)
}

/// Takes the emulation prevention bytes out (7.4.1.1).
fn unescape(nal: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(nal.len());
    let mut zeros = 0;
    for &byte in nal {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

/// Puts emulation prevention bytes in.
fn escape(rbsp: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(rbsp.len() + 4);
    let mut zeros = 0;
    for &byte in rbsp {
        if zeros >= 2 && byte <= 3 {
            out.push(3);
            zeros = 0;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::encoder::VideoEncoder;
    use crate::demo::picture::Picture;

    #[test]
    fn rate_is_in_the_encoders_set() {
        for (fps, size) in [(30, (640, 360)), (25, (1280, 720)), (60, (642, 362))] {
            let mut encoder = VideoEncoder::new(fps, 1_500_000).unwrap();
            encoder
                .encode(&Picture::new(size.0, size.1), true, 0)
                .unwrap();
            let (sps, _) = encoder.parameter_sets().unwrap();
            let parsed = h264_reader::nal::sps::SeqParameterSet::from_bits(
                h264_reader::rbsp::BitReader::new(
                    h264_reader::rbsp::ByteReader::skipping_h264_header(&sps[..]),
                ),
            )
            .unwrap();
            assert_eq!(parsed.fps(), Some(f64::from(fps)));
            assert_eq!(
                parsed.pixel_dimensions().unwrap(),
                (size.0 as u32, size.1 as u32)
            );
            let vui = parsed.vui_parameters.unwrap();
            assert_eq!(
                vui.bitstream_restrictions.unwrap().max_num_reorder_frames,
                0
            );
            // Once in, it stays as it is.
            assert_eq!(with_timing(&sps, 50), sps);
        }
    }

    #[test]
    fn other_input_is_left_alone() {
        for nal in [
            &b""[..],
            &[0x67],
            &[0x67, 66, 0, 30],
            &[0; 40],
            &[0xff; 40],
            &[0x67, 100, 0, 30, 1, 2, 3],
        ] {
            assert_eq!(with_timing(nal, 30), nal);
        }
    }

    #[test]
    fn escaping_is_undone() {
        for rbsp in [
            &[0, 0, 0, 0, 0, 1, 0, 0, 3, 0, 0, 4][..],
            &[1, 2, 3],
            &[0, 0, 2],
        ] {
            assert_eq!(unescape(&escape(rbsp)), rbsp);
        }
        assert_eq!(escape(&[0, 0, 1]), [0, 0, 3, 1]);
    }
}
