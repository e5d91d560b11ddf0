//! Whether what came out is what went in: access unit by access unit, byte for byte, with its times.

use super::flv::Tag;
use super::ts_check::{Programme, Unit};

/// Compares a clip with what was made of it. Sound from before the first picture may be missing.
pub(crate) fn assert_same(tags: &[Tag], programme: &Programme) {
    let media = |kind| {
        tags.iter()
            .filter(move |tag| tag.kind == kind && !tag.is_header())
    };
    let pictures: Vec<&Tag> = media(9).collect();
    let sounds: Vec<&Tag> = media(8).collect();
    let zero = match (pictures.first(), sounds.first()) {
        (Some(tag), _) => (pts(tag), programme.video[0].pts),
        (None, Some(tag)) => (pts(tag), programme.audio[0].pts),
        (None, None) => panic!("nothing to compare"),
    };
    assert_eq!(pictures.len(), programme.video.len(), "number of pictures");
    for (index, (tag, unit)) in pictures.iter().zip(&programme.video).enumerate() {
        assert_eq!(
            (pts(tag) - zero.0) * 90,
            unit.pts - zero.1,
            "presentation time of picture {index}"
        );
        assert_eq!(
            unit.pts - unit.dts,
            i64::from(tag.composition()) * 90,
            "composition time of picture {index}"
        );
        assert_eq!(coded(tag), coded_out(unit), "bytes of picture {index}");
    }
    let early = sounds.len() - programme.audio.len();
    let dropped = sounds[..early].iter();
    for tag in dropped {
        assert!(
            pictures.first().is_some_and(|first| pts(tag) < pts(first)),
            "the frame of sound at {} ms is missing",
            tag.timestamp
        );
    }
    for (index, (tag, unit)) in sounds[early..].iter().zip(&programme.audio).enumerate() {
        let expected = (pts(tag) - zero.0) * 90;
        let off = unit.pts - zero.1 - expected;
        // The clip's times are rounded to milliseconds; ours are exact to the sample.
        assert!(
            off.abs() <= 135,
            "frame of sound {index} is {off} ticks from where it was"
        );
        match tag.body[0] >> 4 {
            10 => {
                let header = if unit.payload[1] & 1 == 1 { 7 } else { 9 };
                assert_eq!(
                    tag.body[2..],
                    unit.payload[header..],
                    "frame of sound {index}"
                );
            }
            _ => assert_eq!(tag.body[1..], unit.payload[..], "frame of sound {index}"),
        }
    }
}

/// Checks that frames of sound lie end to end, to the tick: `samples` each, at `rate`.
pub(crate) fn assert_gapless(sound: &[Unit], samples: i64, rate: i64) {
    let first = sound[0].pts;
    for (index, unit) in sound.iter().enumerate() {
        let exact = index as f64 * samples as f64 * 90_000.0 / rate as f64;
        let off = (unit.pts - first) as f64 - exact;
        assert!(
            off.abs() <= 2.0,
            "frame of sound {index} is {off} ticks from its samples' place"
        );
    }
}

fn pts(tag: &Tag) -> i64 {
    let composition = if tag.kind == 9 { tag.composition() } else { 0 };
    i64::from(tag.timestamp) + i64::from(composition)
}

/// The NAL units of a tag that are the picture itself and its messages.
fn coded(tag: &Tag) -> Vec<&[u8]> {
    let mut units = Vec::new();
    let mut rest = &tag.body[5..];
    while let Some((length, data)) = rest.split_first_chunk() {
        let (unit, behind) = data.split_at(u32::from_be_bytes(*length) as usize);
        units.push(unit);
        rest = behind;
    }
    units.retain(|unit| is_content(unit));
    units
}

fn coded_out(unit: &Unit) -> Vec<&[u8]> {
    let mut units = unit.nal_units();
    units.retain(|unit| is_content(unit));
    units
}

/// Not a parameter set, a delimiter or filler: those come and go.
fn is_content(unit: &[u8]) -> bool {
    !matches!(unit[0] & 0x1f, 7..=12)
}
