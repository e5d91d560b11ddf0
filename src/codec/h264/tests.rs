use proptest::prelude::*;

use super::*;

/// What x264 in FFmpeg sends for 640x360 at 30000/1001, Main profile.
const RECORD: &[u8] = b"\x01\x4d\x40\x1e\xff\xe1\x00\x17\x67\x4d\x40\x1e\xec\xa0\x50\x17\xfc\xb8\x08\x80\x00\x01\xf4\x80\
    \x00\x75\x30\x07\x8b\x16\xcb\x01\x00\x04\x68\xce\x0f\xc8";

/// The same for 1920x1080 at 25, High profile, with the record's four bytes at the end.
const RECORD_HIGH: &[u8] = b"\x01\x64\x00\x28\xff\xe1\x00\x1b\x67\x64\x00\x28\xac\xd9\x40\x78\x02\x27\xe5\xc0\x44\x00\x00\
    \x03\x00\x04\x00\x00\x03\x00\xc8\x3c\x60\xc6\x58\x01\x00\x06\x68\xeb\xe3\xcb\x22\xc0\xfd\xf8\xf8\x00";

/// The same for 720x576, High 4:2:2, interlaced.
const RECORD_422: &[u8] =
    b"\x01\x7a\x00\x1e\xff\xe1\x00\x18\x67\x7a\x00\x1e\xbc\xd9\x40\xb4\x24\xd8\x08\x80\x00\x00\x03\
    \x00\x80\x00\x00\x19\x0f\x8a\x14\xcb\x01\x00\x06\x68\xfb\xa3\xcb\x22\xc0\xfe\xf8\xf8\x00";

fn sps() -> &'static [u8] {
    &RECORD[8..31]
}

fn pps() -> &'static [u8] {
    &RECORD[34..]
}

fn prefixed(units: &[&[u8]]) -> Vec<u8> {
    units
        .iter()
        .flat_map(|unit| [&(unit.len() as u32).to_be_bytes()[..], unit].concat())
        .collect()
}

fn list(units: &NalUnits) -> Vec<&[u8]> {
    units.iter().collect()
}

/// Writes an SPS bit by bit, for pictures no encoder at hand makes.
#[derive(Default)]
struct Writer(Vec<bool>);

impl Writer {
    fn bits(mut self, count: u32, value: u32) -> Self {
        self.0
            .extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
        self
    }

    fn ue(self, value: u32) -> Self {
        let bits = (value + 1).ilog2();
        self.bits(bits, 0).bits(bits + 1, value + 1)
    }

    /// A Baseline SPS of so many macroblocks, up to and without the VUI flag.
    fn baseline(columns: u32, rows: u32) -> Self {
        let start = Self::default()
            .bits(8, 0x67)
            .bits(8, 66)
            .bits(8, 0xc0)
            .bits(8, 10);
        // id, frame number, order count type 2, references, gaps, size, frames only, 8x8, no cropping.
        let sizes = start
            .ue(0)
            .ue(0)
            .ue(2)
            .ue(1)
            .bits(1, 0)
            .ue(columns - 1)
            .ue(rows - 1);
        sizes.bits(1, 1).bits(1, 1).bits(1, 0)
    }

    fn bytes(mut self) -> Bytes {
        self.0.push(true);
        self.0.resize(self.0.len().next_multiple_of(8), false);
        let mut escaped = Vec::new();
        for byte in self
            .0
            .chunks(8)
            .map(|byte| byte.iter().fold(0, |sum, &bit| sum << 1 | u8::from(bit)))
        {
            if byte <= 3 && escaped.ends_with(&[0, 0]) {
                escaped.push(3);
            }
            escaped.push(byte);
        }
        escaped.into()
    }
}

#[test]
fn record_of_ffmpeg() {
    let config = Config::from_avcc(RECORD).expect("valid");
    assert_eq!((config.width, config.height), (640, 360));
    assert!((config.frame_rate.expect("rate") - 30000.0 / 1001.0).abs() < 1e-9);
    assert_eq!(
        (config.profile, config.compatibility, config.level),
        (77, 0x40, 30)
    );
    assert_eq!(config.codec_string(), "avc1.4d401e");
    assert_eq!(config.nal_length_size, 4);
    assert_eq!((&config.sps[0][..], &config.pps[0][..]), (sps(), pps()));
}

#[test]
fn record_of_high_profile_with_cropping() {
    let config = Config::from_avcc(RECORD_HIGH).expect("valid");
    assert_eq!(
        (config.width, config.height, config.frame_rate),
        (1920, 1080, Some(25.0))
    );
    assert_eq!(config.codec_string(), "avc1.640028");
}

#[test]
fn record_of_interlaced_422() {
    let config = Config::from_avcc(RECORD_422).expect("valid");
    assert_eq!(
        (config.width, config.height, config.frame_rate),
        (720, 576, Some(25.0))
    );
}

#[test]
fn record_with_wrong_reserved_bits() {
    // OME met devices that leave them zero.
    let mut record = RECORD.to_vec();
    record[4] &= 0x03;
    record[5] &= 0x1f;
    assert_eq!(Config::from_avcc(&record), Config::from_avcc(RECORD));
    record[0] = 0;
    assert_eq!(Config::from_avcc(&record), Config::from_avcc(RECORD));
}

#[test]
fn record_states_the_length_size() {
    for size in 1..=4 {
        let mut record = RECORD.to_vec();
        record[4] = 0xfc | (size - 1);
        assert_eq!(
            Config::from_avcc(&record).expect("valid").nal_length_size,
            size
        );
    }
}

#[test]
fn record_with_start_codes() {
    let annex_b = [b"\0\0\0\x01", sps(), b"\0\0\0\x01", pps()].concat();
    assert_eq!(Config::from_avcc(&annex_b), Config::from_avcc(RECORD));
    // In front of the SPS within the record.
    let length = (sps().len() + 4) as u8;
    let inner = [&RECORD[..7], &[length], b"\0\0\0\x01", sps(), &RECORD[31..]].concat();
    assert_eq!(Config::from_avcc(&inner), Config::from_avcc(RECORD));
}

#[test]
fn record_without_parameter_sets() {
    assert_eq!(
        Config::from_avcc(b"\x01\x4d\x40\x1e\xff\xe0\x00"),
        Err(Error::NoSps)
    );
    assert_eq!(Config::from_avcc(&RECORD[..31]), Err(Error::NoPps));
    let record =
        Record::parse(b"\x01\x4d\x40\x1e\xfd\xe0\x00").expect("legal: they come in the stream");
    assert_eq!(record.nal_length_size, 2);
}

#[test]
fn record_that_is_cut_off() {
    assert_eq!(
        Config::from_avcc(&RECORD[..20]),
        Err(Error::Truncated {
            at: 8,
            len: 20,
            field: "SPS"
        })
    );
    let error = Error::Truncated {
        at: 4,
        len: 3,
        field: "lengthSizeMinusOne",
    };
    assert_eq!(Config::from_avcc(&RECORD[..3]), Err(error));
    let huge = vec![0; MAX_RECORD + 1];
    assert!(matches!(
        Config::from_avcc(&huge),
        Err(Error::TooLarge { .. })
    ));
}

#[test]
fn sps_that_exceeds_its_level_is_taken() {
    // Level 1 allows 99 macroblocks; this is 1920x1088.
    let sps = Writer::baseline(120, 68).bits(1, 0).bytes();
    let config =
        Config::from_parameter_sets(vec![sps], vec![Bytes::from_static(pps())], 4).expect("valid");
    assert_eq!(
        (config.width, config.height, config.frame_rate),
        (1920, 1088, None)
    );
    assert_eq!(config.codec_string(), "avc1.42c00a");
}

#[test]
fn sps_of_an_impossible_size_is_refused() {
    let parse =
        |columns| Sps::parse(&Writer::baseline(columns, 4).bits(1, 0).bytes()).map(|sps| sps.width);
    assert_eq!(parse(1024), Ok(16384));
    assert_eq!(
        parse(1025),
        Err(Error::Resolution {
            width: 16400,
            height: 64
        })
    );
    assert!(matches!(parse(u32::MAX - 1), Err(Error::Resolution { .. })));
}

#[test]
fn nonsense_frame_rates_are_no_frame_rate() {
    // VUI with nothing but timing.
    let rate = |units, scale| {
        let vui = Writer::baseline(4, 4)
            .bits(1, 1)
            .bits(4, 0)
            .bits(1, 1)
            .bits(32, units)
            .bits(32, scale);
        Sps::parse(&vui.bytes()).expect("valid").frame_rate
    };
    assert_eq!(rate(1, 50), Some(25.0));
    assert_eq!(rate(0, 0), None);
    assert_eq!(rate(0, 50), None);
    assert_eq!(rate(1, 180_000), None);
    assert_eq!(rate(u32::MAX, 1), None);
}

#[test]
fn length_prefixed_units_of_every_size() {
    for size in 1..=4u8 {
        let prefix = |length: u32| length.to_be_bytes()[4 - usize::from(size)..].to_vec();
        let data = [prefix(2), vec![0x65, 1], prefix(0), prefix(1), vec![0x0a]].concat();
        let units = NalUnits::detect(data.into(), size);
        assert_eq!(
            list(&units),
            [&[0x65, 1][..], &[0x0a]],
            "length size {size}"
        );
    }
}

#[test]
fn length_prefixed_units_end_where_they_are_cut_off() {
    let units = NalUnits::detect(
        Bytes::from_static(b"\0\0\0\x02\x65\x01\0\0\0\x09\x41\x02"),
        4,
    );
    assert_eq!(list(&units), [b"\x65\x01"]);
    assert!(list(&NalUnits::detect(Bytes::from_static(b"\0\0"), 4)).is_empty());
}

#[test]
fn units_are_not_copied() {
    let data = Bytes::from(prefixed(&[&[0x65, 1, 2, 3]]));
    let range = data.as_ptr_range();
    let units = NalUnits::detect(data, 4);
    assert!(units.iter().all(|unit| range.contains(&unit.as_ptr())));
}

#[test]
fn annex_b_in_place_of_lengths_is_detected() {
    for start in [&b"\0\0\x01"[..], b"\0\0\0\x01"] {
        let data = [
            start,
            b"\x09\xf0",
            start,
            b"\x65\x88\x80\x40",
            start,
            b"\x65\x00\x01\x02\x00\x00",
        ]
        .concat();
        let units = NalUnits::detect(data.into(), 4);
        assert_eq!(
            list(&units),
            [&b"\x09\xf0"[..], b"\x65\x88\x80\x40", b"\x65\x00\x01\x02"]
        );
    }
}

#[test]
fn lengths_that_look_like_start_codes_are_lengths() {
    let long = [&[0x65][..], &[7; 0x104]].concat();
    let data = prefixed(&[&[0x0a], &long]);
    assert_eq!(
        list(&NalUnits::detect(data.into(), 4)),
        [&[0x0a][..], &long]
    );
    let data = prefixed(&[&long]);
    assert!(data.starts_with(b"\0\0\x01"));
    assert_eq!(list(&NalUnits::detect(data.into(), 4)), [&long[..]]);
}

#[test]
fn start_codes_behind_lengths_are_removed() {
    let data = prefixed(&[
        b"\0\0\0\x01\x67\x01",
        b"\0\0\x01\x68\x02\0\0\0\x01\x65\x03",
        b"\x41\x04",
    ]);
    let units = NalUnits::detect(data.into(), 4);
    assert_eq!(
        list(&units),
        [b"\x67\x01", b"\x68\x02", b"\x65\x03", b"\x41\x04"]
    );
}

#[test]
fn recovery_point_of_x264_open_gop() {
    assert!(nal::has_recovery_point(b"\x06\x06\x01\xc4\x80"));
    // Behind a user data message that is longer than 255 bytes and has emulation prevention in it.
    let user_data = [
        &b"\x06\x05\xff\x05"[..],
        &[0, 0, 3, 1],
        &[9; 257],
        &[0x06, 0x01, 0xc4, 0x80],
    ]
    .concat();
    assert!(nal::has_recovery_point(&user_data));
    assert!(!nal::has_recovery_point(b"\x06\x05\x03\x06\x01\xc4\x80"));
    assert!(!nal::has_recovery_point(b"\x06\x06"));
    assert!(!nal::has_recovery_point(b"\x06\xff\xff\xff"));
    assert!(!nal::has_recovery_point(b""));
}

#[test]
fn parameter_sets_in_the_stream_replace_those_with_their_id() {
    let config = Config::from_avcc(RECORD).expect("valid");
    let same = NalUnits::detect(prefixed(&[sps(), pps(), b"\x65\x01"]).into(), 4);
    assert!(config.updated(&same).is_none());
    let small = Writer::baseline(4, 4).bits(1, 0).bytes();
    let updated = config
        .updated(&NalUnits::detect(prefixed(&[&small]).into(), 4))
        .expect("new")
        .expect("valid");
    assert_eq!(
        (updated.width, updated.sps.len(), updated.pps.len()),
        (64, 1, 1)
    );
    assert!(!updated.same_format(&config));
    // A second PPS (id 1) is added.
    let updated = config.updated(&NalUnits::detect(
        prefixed(&[b"\x68\x4e\x0f\xc8"]).into(),
        4,
    ));
    let updated = updated.expect("new").expect("valid");
    assert_eq!(updated.pps.len(), 2);
    assert!(updated.same_format(&config));
}

#[test]
fn number_and_size_of_parameter_sets_are_bounded() {
    let mut sets = ParameterSets::default();
    let units: Vec<Vec<u8>> = (0..2000u32)
        .map(|id| [&[0x68], &id.wrapping_mul(2_654_435_761).to_be_bytes()[..]].concat())
        .collect();
    let units: Vec<&[u8]> = units.iter().map(Vec::as_slice).collect();
    let _ = sets.collect(&NalUnits::detect(prefixed(&units).into(), 4));
    assert!(sets.pps.len() <= 256);
    let big = vec![0x67; MAX_PARAMETER_SET + 1];
    assert!(matches!(sets.add(&big), Err(Error::TooLarge { .. })));
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(
        prop_oneof![3 => Just(0), 1 => Just(1), 1 => Just(3), 1 => Just(0x67), 4 => any::<u8>()],
        0..300,
    )
}

proptest! {
    #[test]
    fn any_record_parses_or_fails(bytes in bytes()) {
        let _ = Config::from_avcc(&bytes);
        let _ = Config::from_avcc(&[&RECORD[..5], &bytes].concat());
    }

    #[test]
    fn any_sps_parses_or_fails(bytes in bytes(), profile in prop::sample::select(&HIGH_PROFILES[..])) {
        let _ = Sps::parse(&bytes);
        if let Ok(sps) = Sps::parse(&[&[0x67, profile, 0, 30], &bytes[..]].concat()) {
            prop_assert!(sps.width > 0 && sps.height > 0 && sps.width <= MAX_SIDE && sps.height <= MAX_SIDE);
            prop_assert!(sps.frame_rate.is_none_or(f64::is_finite));
        }
    }

    #[test]
    fn any_bytes_are_some_units(bytes in bytes(), size in 0..7u8) {
        for units in [NalUnits::detect(bytes.clone().into(), size), NalUnits::annex_b(bytes.clone().into())] {
            prop_assert!(units.iter().all(|unit| !unit.is_empty()));
            prop_assert!(units.iter().map(<[u8]>::len).sum::<usize>() <= bytes.len());
            for unit in units.iter() {
                let _ = nal::has_recovery_point(unit);
            }
            let mut sets = ParameterSets::default();
            let _ = sets.collect(&units);
        }
    }

    #[test]
    fn both_framings_give_the_same_units(
        units in prop::collection::vec(prop::collection::vec(2..255u8, 1..50), 0..8),
    ) {
        let slices: Vec<&[u8]> = units.iter().map(Vec::as_slice).collect();
        let annex_b: Vec<u8> = slices.iter().flat_map(|unit| [b"\0\0\0\x01", *unit].concat()).collect();
        let (prefixed, annex_b) = (NalUnits::detect(prefixed(&slices).into(), 4), NalUnits::detect(annex_b.into(), 4));
        prop_assert_eq!(list(&prefixed), list(&annex_b));
        prop_assert_eq!(list(&prefixed), slices);
    }
}
