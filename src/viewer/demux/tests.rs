//! Against our own muxer, against handmade packets, and against noise.

use super::*;
use crate::codec::{aac, h264};
use crate::media::{AccessUnit, AudioConfig, Payload, Tracks, VideoConfig};
use crate::ts::Muxer;
use bytes::Bytes;
use proptest::prelude::*;

pub(in crate::viewer) fn muxer() -> Muxer {
    let mut muxer = Muxer::new();
    muxer.set_tracks(Tracks {
        video: Some(VideoConfig::H264(h264::Config {
            profile: 66,
            compatibility: 0xc0,
            level: 30,
            width: 640,
            height: 360,
            frame_rate: None,
            sps: vec![Bytes::from_static(&[0x67, 1, 2, 3])],
            pps: vec![Bytes::from_static(&[0x68, 4])],
            nal_length_size: 4,
        })),
        audio: Some(AudioConfig::Aac(aac::Config::parse(&[0x11, 0x90]).unwrap())),
    });
    muxer
}

pub(in crate::viewer) fn picture(dts: i64, key: bool, size: usize) -> AccessUnit {
    let mut unit = vec![9u8; size];
    unit[0] = if key { 0x65 } else { 0x41 };
    let mut data = (size as u32).to_be_bytes().to_vec();
    data.extend(unit);
    AccessUnit {
        track: Track::Video,
        dts: Ticks::new(dts),
        pts: Ticks::new(dts + 3000),
        key,
        payload: Payload::H264(h264::NalUnits::length_prefixed(data.into(), 4)),
    }
}

fn sound(dts: i64) -> AccessUnit {
    AccessUnit {
        track: Track::Audio,
        dts: Ticks::new(dts),
        pts: Ticks::new(dts),
        key: true,
        payload: Payload::Aac(vec![7; 200].into()),
    }
}

/// Three pictures, the last larger than a PES packet can say, with sound between them.
fn segment(muxer: &mut Muxer, start: i64) -> Vec<u8> {
    let mut out = Vec::new();
    muxer.write_tables(&mut out);
    muxer
        .write(&picture(start, true, 9000), true, &mut out)
        .unwrap();
    muxer.write(&sound(start + 100), false, &mut out).unwrap();
    muxer
        .write(&picture(start + 3000, false, 100), false, &mut out)
        .unwrap();
    muxer
        .write(&picture(start + 6000, false, 70_000), false, &mut out)
        .unwrap();
    muxer.write(&sound(start + 6100), false, &mut out).unwrap();
    out
}

pub(in crate::viewer) fn at(millis: u64) -> Arrival {
    use std::sync::OnceLock;
    static START: OnceLock<Instant> = OnceLock::new();
    Arrival {
        instant: *START.get_or_init(Instant::now) + std::time::Duration::from_millis(millis),
        unix_micros: millis as i64 * 1000,
    }
}

#[test]
fn our_own_segments() {
    let mut muxer = muxer();
    let mut demuxer = Demuxer::new(false);
    for start in [(1 << 33) - 4000, (1 << 33) + 5000] {
        let bytes = segment(&mut muxer, start);
        let mut units = Vec::new();
        demuxer.push(&bytes, at(1), &mut units);
        demuxer.end_resource(&mut units);
        let got: Vec<_> = units
            .iter()
            .map(|unit| (unit.track, unit.dts.get() - units[0].dts.get(), unit.key))
            .collect();
        assert_eq!(
            got,
            [
                (Track::Video, 0, true),
                (Track::Audio, 100, true),
                (Track::Video, 3000, false),
                (Track::Audio, 6100, true),
                (Track::Video, 6000, false),
            ]
        );
        assert_eq!(units[0].dts.to_pts33(), Ticks::new(start).to_pts33());
        assert!(units.iter().all(|unit| unit.data.len() <= HEAD));
        assert_eq!(units[4].pts - units[4].dts, Ticks::new(3000));
    }
    assert!(demuxer.has_video());
    assert_eq!(demuxer.faults(), Faults::default());
}

#[test]
fn units_are_complete_with_their_last_byte() {
    let mut muxer = muxer();
    let mut out = Vec::new();
    muxer.write_tables(&mut out);
    muxer
        .write(&picture(0, true, 3000), true, &mut out)
        .unwrap();
    let mut demuxer = Demuxer::new(true);
    let mut units = Vec::new();
    for (index, packet) in out.chunks(100).enumerate() {
        assert!(units.is_empty());
        demuxer.push(packet, at(index as u64), &mut units);
    }
    let last = (out.len() - 1) / 100;
    assert_eq!(units.len(), 1, "without waiting for what comes after");
    assert_eq!(units[0].arrival, at(last as u64));
    let types: Vec<_> = nal_units(&units[0].data)
        .map(|unit| unit[0] & 0x1f)
        .collect();
    assert_eq!(types, [9, 7, 8, 5]);
    assert_eq!(nal_units(&units[0].data).last().unwrap().len(), 3000);
}

#[test]
fn missing_and_repeated_packets_are_counted() {
    let bytes = segment(&mut muxer(), 0);
    let packets: Vec<_> = bytes.chunks(PACKET).collect();
    let feed = |packets: &[&[u8]]| {
        let mut demuxer = Demuxer::new(false);
        let mut units = Vec::new();
        demuxer.push(&packets.concat(), at(0), &mut units);
        demuxer.faults()
    };
    let mut without = packets.clone();
    without.remove(6);
    assert_eq!(feed(&without).continuity_gaps, 1);
    let mut twice = packets.clone();
    twice.insert(6, packets[6]);
    assert_eq!(
        feed(&twice),
        Faults {
            repeats: 1,
            ..Faults::default()
        }
    );
    let noise: &[u8] = &[1, 2, 3];
    let mut noisy = packets.clone();
    noisy.insert(6, noise);
    assert_eq!(
        feed(&noisy),
        Faults {
            sync_losses: 1,
            ..Faults::default()
        }
    );
}

#[test]
fn a_cut_packet_does_not_shift_the_next_segment() {
    let mut muxer = muxer();
    let mut demuxer = Demuxer::new(false);
    let mut units = Vec::new();
    let first = segment(&mut muxer, 0);
    demuxer.push(&first[..first.len() - 50], at(0), &mut units);
    demuxer.end_resource(&mut units);
    units.clear();
    demuxer.push(&segment(&mut muxer, 90_000), at(0), &mut units);
    demuxer.end_resource(&mut units);
    assert_eq!(units.len(), 5);
    assert_eq!(demuxer.faults().sync_losses, 1);
}

proptest! {
    #[test]
    fn noise_is_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..2000), tables: bool, step in 1usize..400) {
        let mut stream = Vec::new();
        if tables {
            stream = segment(&mut muxer(), 0);
        }
        // Every packet has a sync byte, so that the noise gets further in.
        bytes.iter_mut().step_by(PACKET).for_each(|byte| *byte = SYNC);
        stream.extend(&bytes);
        let mut demuxer = Demuxer::new(true);
        let mut units = Vec::new();
        for piece in stream.chunks(step) {
            demuxer.push(piece, at(0), &mut units);
        }
        demuxer.end_resource(&mut units);
        let least = if tables { 4 } else { 0 };
        prop_assert!(units.len() >= least);
    }
}
