use bytes::Bytes;
use mpeg2ts::ts::{ReadTsPacket, TsPacketReader, TsPayload};
use proptest::prelude::*;

use super::*;

fn video_config() -> VideoConfig {
    VideoConfig::H264(h264::Config {
        profile: 66,
        compatibility: 0xc0,
        level: 30,
        width: 640,
        height: 360,
        frame_rate: None,
        sps: vec![Bytes::from_static(&[0x67, 1, 2, 3])],
        pps: vec![Bytes::from_static(&[0x68, 4])],
        nal_length_size: 4,
    })
}

fn audio_config() -> AudioConfig {
    AudioConfig::Aac(aac::Config::parse(&[0x11, 0x90]).unwrap())
}

fn muxer(video: bool, audio: bool) -> Muxer {
    let mut muxer = Muxer::new();
    muxer.set_tracks(Tracks {
        video: video.then(video_config),
        audio: audio.then(audio_config),
    });
    muxer
}

fn picture(dts: i64, pts: i64, key: bool, unit: &[u8]) -> AccessUnit {
    let mut data = (unit.len() as u32).to_be_bytes().to_vec();
    data.extend_from_slice(unit);
    AccessUnit {
        track: Track::Video,
        dts: Ticks::new(dts),
        pts: Ticks::new(pts),
        key,
        payload: Payload::H264(h264::NalUnits::length_prefixed(data.into(), 4)),
    }
}

fn sound(pts: i64, length: usize) -> AccessUnit {
    AccessUnit {
        track: Track::Audio,
        dts: Ticks::new(pts),
        pts: Ticks::new(pts),
        key: true,
        payload: Payload::Aac(vec![7; length].into()),
    }
}

/// The PES payloads of a PID, put together again, with PTS and DTS.
fn elementary(bytes: &[u8], pid: u16) -> Vec<(u64, Option<u64>, Vec<u8>)> {
    let mut tables = Vec::new();
    Psi::new().write(&mut tables);
    let mut units: Vec<(u64, Option<u64>, Vec<u8>)> = Vec::new();
    let mut reader = TsPacketReader::new(bytes);
    while let Some(packet) = reader.read_ts_packet().unwrap() {
        if packet.header.pid.as_u16() != pid {
            continue;
        }
        match packet.payload {
            Some(TsPayload::PesStart(pes)) => {
                let dts = pes.header.dts.map(|dts| dts.as_u64());
                units.push((pes.header.pts.unwrap().as_u64(), dts, pes.data.to_vec()));
            }
            Some(TsPayload::PesContinuation(data)) => {
                units.last_mut().unwrap().2.extend_from_slice(&data)
            }
            _ => {}
        }
    }
    units
}

fn pcrs(bytes: &[u8]) -> Vec<u64> {
    let has_pcr = |packet: &&[u8]| packet[3] & 0x20 != 0 && packet[4] > 0 && packet[5] & 0x10 != 0;
    let base = |packet: &[u8]| {
        assert_eq!(packet[10] & 0x7e, 0x7e, "the reserved bits are ones");
        u64::from(u32::from_be_bytes([
            packet[6], packet[7], packet[8], packet[9],
        ])) << 1
            | u64::from(packet[10] >> 7)
    };
    bytes
        .chunks(PACKET_SIZE)
        .filter(has_pcr)
        .map(base)
        .collect()
}

#[test]
fn a_key_frame_is_delimiter_parameter_sets_and_picture() {
    let mut muxer = muxer(true, false);
    let mut out = Vec::new();
    muxer.write_tables(&mut out);
    muxer
        .write(
            &picture(90_000, 96_000, true, &[0x65, 9, 9]),
            true,
            &mut out,
        )
        .unwrap();
    let units = elementary(&out, PID_VIDEO);
    let expected = [
        &ACCESS_UNIT_DELIMITER[..],
        &START_CODE,
        &[0x67, 1, 2, 3],
        &START_CODE,
        &[0x68, 4],
        &START_CODE,
        &[0x65, 9, 9],
    ];
    assert_eq!(units, [(96_000, Some(90_000), expected.concat())]);
}

#[test]
fn the_publishers_delimiters_filler_and_repeated_parameter_sets_are_left_out() {
    let mut muxer = muxer(true, false);
    let units = [
        &[0x09, 0xf0][..],
        &[0x67, 1, 2, 3],
        &[0x0c, 0xff, 0xff],
        &[0x06, 5],
        &[0x65, 1],
    ];
    let mut data = Vec::new();
    for unit in units {
        data.extend_from_slice(&[0, 0, 0, 1]);
        data.extend_from_slice(unit);
    }
    let payload = Payload::H264(h264::NalUnits::annex_b(data.into()));
    let unit = AccessUnit {
        payload,
        ..picture(0, 0, true, &[])
    };
    let mut out = Vec::new();
    muxer.write_tables(&mut out);
    muxer.write(&unit, true, &mut out).unwrap();
    let kinds: Vec<u8> = h264::NalUnits::annex_b(elementary(&out, PID_VIDEO).remove(0).2.into())
        .iter()
        .map(nal::kind)
        .collect();
    assert_eq!(kinds, [nal::AUD, nal::SPS, nal::PPS, nal::SEI, nal::IDR]);
}

#[test]
fn audio_is_one_adts_frame_with_its_length() {
    let mut muxer = muxer(true, true);
    let mut out = Vec::new();
    muxer.write_tables(&mut out);
    muxer.write(&sound(3000, 300), false, &mut out).unwrap();
    let units = elementary(&out, PID_AUDIO);
    assert_eq!(units.len(), 1);
    assert_eq!(
        (units[0].0, units[0].1, units[0].2.len()),
        (3000, None, 307)
    );
    assert_eq!(&units[0].2[..2], [0xff, 0xf1]);
    // PES_packet_length: the payload and 8 bytes of header behind the length field.
    let start = &out[2 * PACKET_SIZE..];
    assert_eq!(u16::from_be_bytes([start[8], start[9]]), 315);
}

#[test]
fn times_wrap_at_33_bits() {
    let mut muxer = muxer(true, false);
    let mut out = Vec::new();
    muxer.write_tables(&mut out);
    let wrap = 1 << 33;
    muxer
        .write(&picture(wrap - 1, wrap + 10, true, &[0x65]), true, &mut out)
        .unwrap();
    muxer
        .write(
            &picture(wrap + 2999, wrap + 3010, false, &[0x41]),
            false,
            &mut out,
        )
        .unwrap();
    let times: Vec<_> = elementary(&out, PID_VIDEO)
        .into_iter()
        .map(|unit| (unit.0, unit.1))
        .collect();
    assert_eq!(times, [(10, Some(wrap as u64 - 1)), (3010, Some(2999))]);
    assert_eq!(pcrs(&out), [wrap as u64 - 9001, wrap as u64 - 6001]);
}

#[test]
fn pcrs_are_close_however_rare_pictures_are() {
    for (video, audio) in [(true, true), (true, false), (false, true)] {
        let mut muxer = muxer(video, audio);
        let mut out = Vec::new();
        for n in 0..40 {
            if video && n % 10 == 0 {
                muxer
                    .write(
                        &picture(90_000 + n * 30_000, 90_000 + n * 30_000, true, &[0x65]),
                        true,
                        &mut out,
                    )
                    .unwrap();
            }
            if audio && n % 3 == 0 {
                muxer
                    .write(&sound(90_000 + n * 30_000, 10), false, &mut out)
                    .unwrap();
            }
        }
        let pcrs = pcrs(&out);
        assert!(pcrs.len() > 100, "{video} {audio}: {}", pcrs.len());
        assert!(
            pcrs.windows(2)
                .all(|pair| pair[0] < pair[1] && pair[1] - pair[0] <= 9000),
            "{video} {audio}: {pcrs:?}"
        );
    }
}

#[test]
fn pictures_behind_the_sound_do_not_set_the_clock_back() {
    for behind in [20_000, 40_000, 100_000] {
        let mut muxer = muxer(true, true);
        let mut out = Vec::new();
        for n in 0..100 {
            let time = 200_000 + n * 3000;
            muxer.write(&sound(time, 10), false, &mut out).unwrap();
            muxer
                .write(
                    &picture(time - behind, time - behind, true, &[0x65]),
                    true,
                    &mut out,
                )
                .unwrap();
        }
        let pcrs = pcrs(&out);
        assert!(
            pcrs.windows(2)
                .all(|pair| pair[0] < pair[1] && pair[1] - pair[0] <= 9000),
            "{behind}: {pcrs:?}"
        );
    }
}

/// Found by fuzzing: a publisher that comes back without its pictures.
#[test]
fn sound_behind_the_last_picture_does_not_set_the_clock_back() {
    let mut muxer = muxer(true, true);
    let mut out = Vec::new();
    let last = picture(200_000, 200_000, true, &[0x65]);
    muxer.write(&last, true, &mut out).unwrap();
    muxer.set_tracks(Tracks {
        video: None,
        audio: Some(audio_config()),
    });
    for n in 0..10 {
        let frame = sound(199_988 + n * 1920, 10);
        muxer.write(&frame, false, &mut out).unwrap();
    }
    let pcrs = pcrs(&out);
    assert_eq!(pcrs.len(), 11);
    assert!(pcrs.windows(2).all(|pair| pair[0] < pair[1]), "{pcrs:?}");
}

#[test]
fn what_cannot_be_carried_leaves_nothing_behind() {
    let mut muxer = muxer(true, true);
    let mut out = vec![1, 2, 3];
    assert!(muxer.write(&sound(0, 9000), false, &mut out).is_err());
    assert_eq!(out, [1, 2, 3]);
    muxer.set_tracks(Tracks::default());
    assert!(matches!(
        muxer.write(&sound(0, 9), false, &mut out),
        Err(Error::UnknownTrack(Track::Audio))
    ));
    assert_eq!(out, [1, 2, 3]);
}

proptest! {
    #[test]
    fn every_length_comes_back_whole_with_counters_running_on(lengths in prop::collection::vec(1usize..2000, 1..20), key: bool) {
        let mut muxer = muxer(true, true);
        let mut out = Vec::new();
        muxer.write_tables(&mut out);
        for (n, &length) in lengths.iter().enumerate() {
            let unit: Vec<u8> = std::iter::once(0x41).chain((1..length).map(|i| i as u8)).collect();
            muxer.write(&picture(n as i64 * 3000, n as i64 * 3000, key, &unit), key, &mut out).unwrap();
            muxer.write(&sound(n as i64 * 3000, length), false, &mut out).unwrap();
        }
        prop_assert_eq!(out.len() % PACKET_SIZE, 0);
        let video = elementary(&out, PID_VIDEO);
        let audio = elementary(&out, PID_AUDIO);
        prop_assert_eq!(video.len(), lengths.len());
        for ((video, audio), length) in video.iter().zip(&audio).zip(&lengths) {
            prop_assert!(video.2.ends_with(&(1..*length).map(|i| i as u8).collect::<Vec<_>>()));
            prop_assert_eq!(audio.2.len(), length + 7);
        }
        for pid in [PID_VIDEO, PID_AUDIO] {
            let counters = out.chunks(PACKET_SIZE)
                .filter(|packet| u16::from_be_bytes([packet[1] & 0x1f, packet[2]]) == pid && packet[3] & 0x10 != 0)
                .map(|packet| packet[3] & 0x0f);
            prop_assert!(counters.enumerate().all(|(n, counter)| counter == (n % 16) as u8));
        }
    }
}
