//! Codec configurations: avcC, SPS and PPS, AudioSpecificConfig, ADTS, MP3 headers, NAL units.

use bytes::Bytes;
use lhls::codec::h264::{self, NalUnits, nal};
use lhls::codec::{aac, mp3};

use super::script::Script;

/// Parsers copy their input a few times at the most; an SPS may say that there are 255 reference frames.
pub fn memory_bound(length: usize) -> usize {
    64 * length + (64 << 10)
}

/// The first byte says which parser reads the rest.
pub fn run(data: &[u8]) {
    let mut script = Script(data);
    match script.byte() % 6 {
        0 => avcc(script.0),
        1 => parameter_sets(script),
        2 => audio_specific_config(script),
        3 => mp3_frame(script.0),
        4 => nal_units(script),
        _ => updated(script),
    }
}

fn avcc(record: &[u8]) {
    if let Ok(config) = h264::Config::from_avcc(record) {
        check(&config);
        assert!((1..=4).contains(&config.nal_length_size));
    }
}

fn parameter_sets(mut script: Script<'_>) {
    let size = script.byte();
    let sps = Bytes::copy_from_slice(script.short());
    let pps = Bytes::copy_from_slice(script.0);
    if let Ok(config) = h264::Config::from_parameter_sets(vec![sps], vec![pps], size) {
        check(&config);
    }
}

fn check(config: &h264::Config) {
    assert!(!config.sps.is_empty() && !config.pps.is_empty());
    assert!(config.width > 0 && config.height > 0);
    assert!(
        config
            .frame_rate
            .is_none_or(|rate| rate.is_finite() && rate > 0.0)
    );
    assert_eq!(config.codec_string().len(), "avc1.64001f".len());
    assert!(config.same_format(config));
}

fn audio_specific_config(mut script: Script<'_>) {
    let Ok(config) = aac::Config::parse(script.short()) else {
        return;
    };
    assert!(!config.codec_string().is_empty());
    assert!((7350..=96_000).contains(&config.sample_rate));
    let data = script.0;
    if let Ok(header) = config.adts_header(data.len()) {
        // What was written is found again.
        let framed = [&header[..], data].concat();
        let at = aac::ADTS_HEADER..framed.len();
        if !data.is_empty() {
            assert_eq!(config.adts_frames(&framed), Some(vec![at]));
        }
    } else {
        assert!(data.len() > aac::MAX_FRAME);
    }
    for range in config.adts_frames(data).unwrap_or_default() {
        assert!(range.start < range.end && range.end <= data.len());
    }
}

fn mp3_frame(data: &[u8]) {
    if let Ok((config, length)) = mp3::Config::parse(data) {
        assert!(length >= 4);
        assert!(config.sample_rate >= 8000 && config.samples_per_frame >= 384);
        assert!(config.same_format(&config));
    }
}

fn nal_units(mut script: Script<'_>) {
    let size = script.byte();
    let data = Bytes::copy_from_slice(script.0);
    let mut total = 0;
    for units in [
        NalUnits::detect(data.clone(), size),
        NalUnits::length_prefixed(data.clone(), size),
        NalUnits::annex_b(data.clone()),
    ] {
        let mut bytes = 0;
        for unit in units.iter() {
            assert!(!unit.is_empty());
            bytes += unit.len();
            total += usize::from(nal::is_slice(unit)) + usize::from(nal::has_recovery_point(unit));
            assert!(nal::kind(unit) < 32);
        }
        assert!(bytes <= units.len());
    }
    std::hint::black_box(total);
}

/// Parameter sets in the middle of a stream.
fn updated(mut script: Script<'_>) {
    let Ok(config) = h264::Config::from_avcc(script.long()) else {
        return;
    };
    let units = NalUnits::detect(Bytes::copy_from_slice(script.0), config.nal_length_size);
    if let Some(Ok(updated)) = config.updated(&units) {
        check(&updated);
        assert!(
            updated
                .updated(&units)
                .is_none_or(|again| again == Ok(updated.clone()))
        );
    }
}
