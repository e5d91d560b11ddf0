use proptest::prelude::*;

use super::*;

/// What x264 in FFmpeg sends for 640x360 at 30000/1001, Main profile.
const RECORD: &[u8] = b"\x01\x4d\x40\x1e\xff\xe1\x00\x17\x67\x4d\x40\x1e\xec\xa0\x50\x17\xfc\xb8\x08\x80\x00\x01\xf4\x80\
    \x00\x75\x30\x07\x8b\x16\xcb\x01\x00\x04\x68\xce\x0f\xc8";

/// SPS and PPS of a 720x576 stream.
const OTHER_SPS: &[u8] =
    b"\x67\x7a\x00\x1e\xbc\xd9\x40\xb4\x24\xd8\x08\x80\x00\x00\x03\x00\x80\x00\x00\x19\x0f\x8a\x14\xcb";
const OTHER_PPS: &[u8] = b"\x68\xfb\xa3\xcb\x22\xc0";

/// AAC-LC, 44100 Hz, stereo.
const ASC: &[u8] = b"\x12\x10";

fn sps() -> &'static [u8] {
    &RECORD[8..31]
}

fn pps() -> &'static [u8] {
    &RECORD[34..]
}

fn tag(header: &[u8], payload: &[u8]) -> Bytes {
    [header, payload].concat().into()
}

fn config_tag() -> Bytes {
    tag(b"\x17\x00\x00\x00\x00", RECORD)
}

fn key_tag(units: &[&[u8]]) -> Bytes {
    tag(b"\x17\x01\x00\x00\x00", &prefixed(units))
}

fn prefixed(units: &[&[u8]]) -> Vec<u8> {
    units
        .iter()
        .flat_map(|unit| [&(unit.len() as u32).to_be_bytes()[..], unit].concat())
        .collect()
}

const IDR: &[u8] = b"\x65\x88\x84\x00";
const SLICE: &[u8] = b"\x41\x9a\x23\x6c";

/// A demuxer and a short form of what came out of it.
#[derive(Default)]
struct Bench(Demuxer);

impl Bench {
    fn configured() -> Self {
        let mut bench = Self::default();
        assert_eq!(bench.video(config_tag()), ["video 640x360"]);
        assert_eq!(
            bench.audio(tag(b"\xaf\x00", ASC)),
            ["audio mp4a.40.2 44100"]
        );
        bench
    }

    fn video(&mut self, tag: Bytes) -> Vec<String> {
        let mut out = Vec::new();
        let result = self.0.video(1000, tag, &mut out);
        Self::describe(out, result)
    }

    fn audio(&mut self, tag: Bytes) -> Vec<String> {
        let mut out = Vec::new();
        let result = self.0.audio(1000, tag, &mut out);
        Self::describe(out, result)
    }

    fn describe(out: Vec<Event>, result: Result<(), Error>) -> Vec<String> {
        let error = result.err().map(|error| match error {
            Error::Unsupported { codec, .. } => format!("unsupported {codec}"),
            Error::Malformed { reason, .. } => format!("malformed {reason}"),
        });
        out.into_iter().map(Self::event).chain(error).collect()
    }

    fn event(event: Event) -> String {
        match event {
            Event::Video(config) => {
                let (width, height) = config.resolution();
                format!("video {width}x{height}")
            }
            Event::Audio(config) => format!("audio {} {}", config.codec_string(), config.frame().1),
            Event::Frame(frame) => {
                let units = match &frame.payload {
                    Payload::H264(units) => units
                        .iter()
                        .map(|unit| nal::kind(unit).to_string())
                        .collect(),
                    Payload::Aac(data) | Payload::Mp3(data) => {
                        vec![format!("{} bytes", data.len())]
                    }
                };
                let key = if frame.key { "key " } else { "" };
                format!(
                    "{key}{}{:+} {}",
                    frame.timestamp,
                    frame.composition,
                    units.join(",")
                )
            }
        }
    }
}

#[test]
fn classic_avc_and_aac() {
    let mut bench = Bench::configured();
    assert_eq!(bench.video(key_tag(&[IDR])), ["key 1000+0 5"]);
    assert_eq!(
        bench.video(tag(b"\x27\x01\x00\x00\x50", &prefixed(&[SLICE]))),
        ["1000+80 1"]
    );
    assert_eq!(
        bench.audio(tag(b"\xaf\x01", &[1, 2, 3])),
        ["key 1000+0 3 bytes"]
    );
}

#[test]
fn composition_time_is_signed() {
    let mut bench = Bench::configured();
    assert_eq!(
        bench.video(tag(b"\x27\x01\xff\xff\xd8", &prefixed(&[SLICE]))),
        ["1000-40 1"]
    );
    assert_eq!(
        bench.video(tag(b"\x27\x01\x80\x00\x00", &prefixed(&[SLICE]))),
        ["1000-8388608 1"]
    );
    assert_eq!(
        bench.video(tag(b"\x27\x01\x7f\xff\xff", &prefixed(&[SLICE]))),
        ["1000+8388607 1"]
    );
}

#[test]
fn payload_is_not_copied() {
    let mut bench = Bench::configured();
    let tag = key_tag(&[IDR]);
    let range = tag.as_ptr_range();
    let mut out = Vec::new();
    bench.0.video(0, tag, &mut out).expect("good tag");
    let Some(Event::Frame(Frame {
        payload: Payload::H264(units),
        ..
    })) = out.pop()
    else {
        panic!("{out:?}")
    };
    assert!(units.iter().all(|unit| range.contains(&unit.as_ptr())));
}

#[test]
fn empty_payload_of_dji_is_ignored() {
    let mut bench = Bench::configured();
    for tag in [&b""[..], b"\x17", b"\x17\x01\x00\x00\x00"] {
        assert!(bench.video(Bytes::from_static(tag)).is_empty());
    }
    // A NAL unit of no bytes.
    let empty_unit = bench.video(key_tag(&[b""]));
    assert_eq!(empty_unit, ["malformed no NAL unit in 4 bytes"]);
    for tag in [&b""[..], b"\xaf", b"\xaf\x01"] {
        assert!(bench.audio(Bytes::from_static(tag)).is_empty());
    }
    assert_eq!(
        bench.video(Bytes::from_static(b"\x17\x01\x00")),
        ["malformed the tag ends within its header"]
    );
}

#[test]
fn annex_b_in_place_of_lengths() {
    let mut bench = Bench::configured();
    let data = [b"\0\0\0\x01", IDR, b"\0\0\0\x01", IDR].concat();
    assert_eq!(
        bench.video(tag(b"\x17\x01\x00\x00\x00", &data)),
        ["key 1000+0 5,5"]
    );
}

#[test]
fn annex_b_only_with_parameter_sets_in_the_stream() {
    let mut bench = Bench::default();
    let data = [b"\0\0\0\x01", sps(), b"\0\0\0\x01", pps(), b"\0\0\x01", IDR].concat();
    assert_eq!(
        bench.video(tag(b"\x17\x01\x00\x00\x00", &data)),
        ["video 640x360", "key 1000+0 7,8,5"]
    );
}

#[test]
fn repeated_headers_of_osmo_action_are_one() {
    let mut bench = Bench::configured();
    assert!(bench.video(config_tag()).is_empty());
    assert!(bench.audio(tag(b"\xaf\x00", ASC)).is_empty());
    // Other bytes around the same parameter sets are no change either.
    let mut record = RECORD.to_vec();
    record[4] = 3;
    assert!(
        bench
            .video(tag(b"\x17\x00\x00\x00\x00", &record))
            .is_empty()
    );
}

#[test]
fn changed_headers_are_announced() {
    let mut bench = Bench::configured();
    let record = [
        &b"\x01\x7a\x00\x1e\xff\xe1\x00\x18"[..],
        OTHER_SPS,
        &[1, 0, OTHER_PPS.len() as u8],
        OTHER_PPS,
    ];
    assert_eq!(
        bench.video(tag(b"\x17\x00\x00\x00\x00", &record.concat())),
        ["video 720x576"]
    );
    assert_eq!(bench.video(config_tag()), ["video 640x360"]);
    assert_eq!(
        bench.audio(tag(b"\xaf\x00", b"\x11\x90")),
        ["audio mp4a.40.2 48000"]
    );
}

#[test]
fn broken_headers_leave_the_good_ones() {
    let mut bench = Bench::configured();
    assert_eq!(
        bench
            .video(tag(b"\x17\x00\x00\x00\x00", &RECORD[..20]))
            .len(),
        1
    );
    assert_eq!(bench.video(key_tag(&[IDR])), ["key 1000+0 5"]);
    assert_eq!(bench.audio(tag(b"\xaf\x00", b"\x16\x90")).len(), 1);
    assert_eq!(bench.audio(tag(b"\xaf\x01", &[1])), ["key 1000+0 1 bytes"]);
}

#[test]
fn parameter_sets_only_in_the_stream() {
    let mut bench = Bench::default();
    // A record that says how long lengths are and no more.
    assert!(
        bench
            .video(tag(
                b"\x17\x00\x00\x00\x00",
                b"\x01\x4d\x40\x1e\xff\xe0\x00"
            ))
            .is_empty()
    );
    assert_eq!(
        bench.video(key_tag(&[sps(), pps(), IDR])),
        ["video 640x360", "key 1000+0 7,8,5"]
    );
    assert_eq!(
        bench.video(key_tag(&[sps(), pps(), IDR])),
        ["key 1000+0 7,8,5"]
    );
    assert_eq!(
        bench.video(key_tag(&[OTHER_SPS, OTHER_PPS, IDR])),
        ["video 720x576", "key 1000+0 7,8,5"]
    );
}

#[test]
fn parameter_sets_in_a_tag_of_their_own() {
    let mut bench = Bench::default();
    assert!(bench.video(key_tag(&[sps()])).is_empty());
    assert_eq!(bench.video(key_tag(&[pps()])), ["video 640x360"]);
    assert_eq!(bench.video(key_tag(&[IDR])), ["key 1000+0 5"]);
}

#[test]
fn broken_parameter_sets_in_the_stream_drop_the_tag() {
    let mut bench = Bench::configured();
    assert_eq!(bench.video(key_tag(&[b"\x67\x42", IDR])).len(), 1);
    assert_eq!(bench.video(key_tag(&[IDR])), ["key 1000+0 5"]);
}

#[test]
fn frames_before_their_configuration_are_dropped() {
    let mut bench = Bench::default();
    assert_eq!(
        bench.video(key_tag(&[IDR])),
        ["malformed video before its configuration (no SPS and PPS yet)"]
    );
    let audio = bench.audio(tag(b"\xaf\x01", &[1]));
    assert_eq!(
        audio,
        ["malformed AAC before its configuration (AudioSpecificConfig)"]
    );
}

#[test]
fn info_frames_are_ignored() {
    let mut bench = Bench::configured();
    assert!(bench.video(Bytes::from_static(b"\x57\x00")).is_empty());
    assert!(bench.video(Bytes::from_static(b"\x52\x01")).is_empty());
    assert!(bench.video(Bytes::from_static(b"\xd1\x01")).is_empty());
}

#[test]
fn end_of_sequence_is_ignored() {
    let mut bench = Bench::configured();
    assert!(
        bench
            .video(Bytes::from_static(b"\x17\x02\x00\x00\x00"))
            .is_empty()
    );
    assert!(bench.video(Bytes::from_static(b"\x92avc1")).is_empty());
    assert!(bench.audio(Bytes::from_static(b"\x92mp4a")).is_empty());
}

#[test]
fn key_frames_are_what_they_are() {
    let mut bench = Bench::configured();
    // The flag alone makes no key frame, an IDR picture without the flag does.
    assert_eq!(bench.video(key_tag(&[SLICE])), ["1000+0 1"]);
    assert_eq!(
        bench.video(tag(b"\x27\x01\x00\x00\x00", &prefixed(&[IDR]))),
        ["key 1000+0 5"]
    );
}

#[test]
fn open_gop_of_x264_starts_at_its_recovery_point() {
    let mut bench = Bench::configured();
    let units: [&[u8]; 2] = [b"\x06\x06\x01\xc4\x80", SLICE];
    assert_eq!(bench.video(key_tag(&units)), ["key 1000+0 6,1"]);
    assert_eq!(
        bench.video(tag(b"\x27\x01\x00\x00\x00", &prefixed(&units))),
        ["1000+0 6,1"]
    );
}

#[test]
fn empty_aac_configuration_is_waited_out() {
    let mut bench = Bench::default();
    assert_eq!(
        bench.audio(Bytes::from_static(b"\xaf\x00")),
        ["malformed empty AudioSpecificConfig"]
    );
    assert_eq!(
        bench.audio(tag(b"\xaf\x00", ASC)),
        ["audio mp4a.40.2 44100"]
    );
    assert_eq!(bench.audio(tag(b"\xaf\x01", &[1])), ["key 1000+0 1 bytes"]);
    assert_eq!(
        bench.audio(Bytes::from_static(b"\xaf\x00")),
        ["malformed empty AudioSpecificConfig"]
    );
    assert_eq!(bench.audio(tag(b"\xaf\x01", &[1])), ["key 1000+0 1 bytes"]);
}

#[test]
fn aac_rate_is_the_configurations_not_the_flags() {
    let mut bench = Bench::default();
    assert_eq!(
        bench.audio(tag(b"\xa2\x00", b"\x11\x90")),
        ["audio mp4a.40.2 48000"]
    );
}

#[test]
fn adts_inside_flv_is_stripped() {
    let mut bench = Bench::configured();
    let config = aac::Config::parse(ASC).expect("valid");
    let frame = [&config.adts_header(2).expect("header")[..], &[1, 2]].concat();
    assert_eq!(
        bench.audio(tag(b"\xaf\x01", &frame)),
        ["key 1000+0 2 bytes"]
    );
    let two = [&frame[..], &frame].concat();
    assert_eq!(
        bench.audio(tag(b"\xaf\x01", &two)),
        ["key 1000+0 2 bytes", "key 1023+0 2 bytes"]
    );
}

#[test]
fn aac_frames_longer_than_adts_are_dropped() {
    let mut bench = Bench::configured();
    let error = bench.audio(tag(b"\xaf\x01", &vec![0x21; 9000]));
    assert_eq!(
        error,
        ["malformed AAC frame of 9000 bytes, ADTS carries at most 8184"]
    );
}

#[test]
fn several_mp3_frames_in_a_tag_are_split() {
    let mut bench = Bench::default();
    let mut frame = b"\xff\xfb\x90\x64".to_vec();
    frame.resize(417, 0);
    let three = [&frame[..], &frame, &frame, b"TAG"].concat();
    let frames = [
        "audio mp4a.40.34 44100",
        "key 1000+0 417 bytes",
        "key 1026+0 417 bytes",
        "key 1052+0 417 bytes",
    ];
    assert_eq!(bench.audio(tag(b"\x2f", &three)), frames);
    assert_eq!(bench.audio(tag(b"\x2f", &frame)), ["key 1000+0 417 bytes"]);
    assert_eq!(
        bench.audio(tag(b"\x2f", &frame[..400])),
        ["malformed MP3 frame of 417 bytes is cut off after 400"]
    );
    assert_eq!(
        bench.audio(tag(b"\x2f", b"junk")),
        ["malformed no MPEG audio frame header (sync word ff ex)"]
    );
    assert!(bench.audio(Bytes::from_static(b"\x2f")).is_empty());
}

#[test]
fn mp3_of_8_khz() {
    let mut frame = b"\xff\xe3\x18\xc4".to_vec();
    frame.resize(72, 0);
    let expected = ["audio mp4a.40.34 8000", "key 1000+0 72 bytes"];
    assert_eq!(Bench::default().audio(tag(b"\xee", &frame)), expected);
}

#[test]
fn enhanced_headers_of_carried_codecs() {
    let mut bench = Bench::default();
    assert_eq!(bench.video(tag(b"\x90avc1", RECORD)), ["video 640x360"]);
    assert_eq!(
        bench.video(tag(b"\x91avc1\xff\xff\xd8", &prefixed(&[IDR]))),
        ["key 1000-40 5"]
    );
    assert_eq!(
        bench.video(tag(b"\xa3avc1", &prefixed(&[SLICE]))),
        ["1000+0 1"]
    );
    assert!(
        bench
            .video(Bytes::from_static(b"\x94avc1\x02\x00"))
            .is_empty()
    );
    assert_eq!(
        bench.audio(tag(b"\x90mp4a", ASC)),
        ["audio mp4a.40.2 44100"]
    );
    assert_eq!(
        bench.audio(tag(b"\x91mp4a", &[1, 2])),
        ["key 1000+0 2 bytes"]
    );
    assert!(
        bench
            .audio(Bytes::from_static(b"\x94mp4a\x01\x02"))
            .is_empty()
    );
    let mut frame = b"\xff\xfb\x90\x64".to_vec();
    frame.resize(417, 0);
    assert_eq!(
        bench.audio(tag(b"\x91.mp3", &frame)),
        ["audio mp4a.40.34 44100", "key 1000+0 417 bytes"]
    );
}

#[test]
fn enhanced_extensions_are_skipped() {
    let mut bench = Bench::configured();
    // A nanosecond offset (three bytes) in front of coded frames, twice.
    let header = b"\x97\x02\x00\x00\x07\x07\x02\x00\x00\x09\x01avc1\x00\x00\x28";
    assert_eq!(
        bench.video(tag(header, &prefixed(&[IDR]))),
        ["key 1000+40 5"]
    );
    // One of 256 bytes and more has its size in two more bytes.
    let long = [&b"\x97\xff\x01\x2b"[..], &[0; 300], b"\x03avc1"].concat();
    assert_eq!(bench.video(tag(&long, &prefixed(&[IDR]))), ["key 1000+0 5"]);
    assert_eq!(
        bench.audio(tag(b"\x97\x02\x00\x00\x07\x01mp4a", &[1])),
        ["key 1000+0 1 bytes"]
    );
    let cut = bench.video(Bytes::from_static(b"\x97\x20\x00"));
    assert_eq!(cut, ["malformed the tag ends within its header"]);
}

#[test]
fn other_codecs_are_refused_by_name() {
    let video = |tag: &'static [u8]| Bench::default().video(Bytes::from_static(tag)).concat();
    assert_eq!(
        video(b"\x90hvc1\x01"),
        "unsupported HEVC / H.265 (FourCC \"hvc1\")"
    );
    assert_eq!(video(b"\x90av01\x01"), "unsupported AV1 (FourCC \"av01\")");
    assert_eq!(video(b"\x90vp09\x01"), "unsupported VP9 (FourCC \"vp09\")");
    assert_eq!(
        video(b"\x90\xffx\"y\x01"),
        "unsupported codec with FourCC \"\\xffx\\\"y\""
    );
    assert_eq!(
        video(b"\x96\x01avc1"),
        "unsupported Enhanced RTMP multitrack video"
    );
    assert_eq!(
        video(b"\x12\x00"),
        "unsupported Sorenson H.263 (Flash video)"
    );
    assert_eq!(video(b"\x14\x00"), "unsupported VP6");
    assert_eq!(video(b"\x1c\x00\x00\x00\x00"), "unsupported HEVC / H.265");
    let audio = |tag: &'static [u8]| Bench::default().audio(Bytes::from_static(tag)).concat();
    assert_eq!(audio(b"\x90Opus"), "unsupported Opus (FourCC \"Opus\")");
    assert_eq!(
        audio(b"\x90ac-3"),
        "unsupported AC-3 (Dolby Digital) (FourCC \"ac-3\")"
    );
    assert_eq!(audio(b"\x90fLaC"), "unsupported FLAC (FourCC \"fLaC\")");
    assert_eq!(
        audio(b"\x95\x00mp4a"),
        "unsupported Enhanced RTMP multitrack audio"
    );
    assert_eq!(audio(b"\xb2\x00"), "unsupported Speex");
    assert_eq!(audio(b"\x62\x00"), "unsupported Nellymoser");
    assert_eq!(audio(b"\x3f\x00"), "unsupported uncompressed PCM");
    assert_eq!(audio(b"\x72\x00"), "unsupported G.711 A-law");
    assert_eq!(
        audio(b"\xaf\x00\xf9\x48\x40\x00"),
        "unsupported xHE-AAC (USAC)"
    );
    assert_eq!(
        audio(b"\x2f\xff\xfd\x90\x64"),
        "unsupported MPEG audio layer 2"
    );
}

#[test]
fn refusals_say_what_to_send_instead() {
    let mut out = Vec::new();
    let error = Demuxer::new()
        .video(0, Bytes::from_static(b"\x90hvc1"), &mut out)
        .expect_err("refused");
    let text = "HEVC / H.265 (FourCC \"hvc1\") is not supported: set the encoder to a single H.264 (AVC) video track";
    assert_eq!(error.to_string(), text);
    let error = Demuxer::new()
        .audio(70, Bytes::from_static(b"\xaf\x00"), &mut out)
        .expect_err("dropped");
    assert_eq!(
        error.to_string(),
        "audio tag at 70 ms dropped: empty AudioSpecificConfig"
    );
}

proptest! {
    #[test]
    fn any_tags_are_taken_or_refused(
        tags in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..80)), 0..40),
    ) {
        let mut demuxer = Demuxer::new();
        let mut out = Vec::new();
        for (video, bytes) in tags {
            let _ = match video {
                true => demuxer.video(0, bytes.into(), &mut out),
                false => demuxer.audio(0, bytes.into(), &mut out),
            };
        }
    }

    #[test]
    fn any_payload_behind_good_headers_is_taken_or_refused(
        tags in prop::collection::vec((0..9usize, prop::collection::vec(0..9u8, 0..60), any::<[u8; 4]>()), 0..40),
    ) {
        const HEADERS: [&[u8]; 9] = [
            b"\x17\x00\x00\x00\x00", b"\x17\x01\x00\x00\x00", b"\x90avc1", b"\x93avc1", b"\x97",
            b"\xaf\x00", b"\xaf\x01", b"\x2f\xff\xfb", b"\x91mp4a",
        ];
        let mut bench = Bench::configured();
        for (header, few, any) in tags {
            let tag = tag(HEADERS[header], &[&any[..], &few].concat());
            let out = if header < 5 { bench.video(tag) } else { bench.audio(tag) };
            prop_assert!(out.len() <= 3, "{:?}", out);
        }
    }
}
