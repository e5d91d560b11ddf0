use std::time::{Instant, UNIX_EPOCH};

use super::*;
use crate::codec::{aac, h264};
use crate::hls::names::{Early, Listed};
use crate::hls::playlist::Rendered;
use crate::hls::segment::State;
use crate::hls::session::{Directive, PartState, Session, first_sequence};
use crate::media::Payload;

mod foretelling;
mod limits;
mod sound_alone;

/// Feeds a packager from a publisher with a perfect clock.
struct Feed {
    packager: Packager,
    output: Arc<Output>,
    origin: Instant,
    /// Microseconds since the start.
    time: u64,
    audio_sent: u64,
    audio: bool,
    /// From the publisher's time to the stream's.
    offset: Ticks,
    /// Everything comes in the same moment.
    at_once: bool,
}

impl Feed {
    fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            segment_duration: Duration::from_secs(1),
            part_duration: Duration::from_millis(100),
            target_duration: None,
            announce: None,
            retain: Duration::from_secs(20),
            retain_bytes: 64 << 20,
        };
        change(&mut settings);
        let output = Arc::new(Output::default());
        let mut packager = Packager::new(settings, Arc::clone(&output));
        packager.configure_video(video_config(640));
        packager.configure_audio(audio_config());
        Self {
            packager,
            output,
            origin: Instant::now(),
            time: 0,
            audio_sent: 0,
            audio: true,
            offset: Ticks::ZERO,
            at_once: false,
        }
    }

    fn now(&self) -> Now {
        let time = Duration::from_micros(if self.at_once { 0 } else { self.time });
        Now {
            instant: self.origin + time,
            wall: UNIX_EPOCH + Duration::from_secs(1_800_000_000) + time,
        }
    }

    /// Pictures at 30 a second, the first of every `group` a key frame, with their audio.
    fn pictures(&mut self, count: u32, group: u32) {
        self.pictures_from(0, count, group);
    }

    /// The same, from within a group.
    fn pictures_from(&mut self, first: u32, count: u32, group: u32) {
        for n in first..first + count {
            let dts = Ticks::new(90_000 + self.time as i64 * 9 / 100) + self.offset;
            let payload =
                Payload::H264(h264::NalUnits::annex_b(vec![0, 0, 1, 0x65, 1, 2, 3].into()));
            let key = n % group == 0;
            self.push(AccessUnit {
                track: Track::Video,
                dts,
                pts: dts,
                key,
                payload,
            });
            self.time += 33_333 + u64::from(n % 3 == 2);
            while self.audio && self.audio_sent * 21_333 < self.time {
                self.sound();
            }
        }
    }

    fn sound(&mut self) {
        let pts = Ticks::new(90_000 + self.audio_sent as i64 * 1920) + self.offset;
        self.audio_sent += 1;
        self.push(AccessUnit {
            track: Track::Audio,
            dts: pts,
            pts,
            key: true,
            payload: Payload::Aac(vec![1; 50].into()),
        });
    }

    fn push(&mut self, unit: AccessUnit) {
        self.packager.push(unit, self.now());
    }

    fn sessions(&self) -> Vec<Arc<Session>> {
        self.output.sessions()
    }

    fn early(&self) -> String {
        text(
            &self
                .sessions()
                .last()
                .expect("a session")
                .media(Early::Usual),
        )
    }

    fn low_latency(&self) -> String {
        text(
            &self
                .sessions()
                .last()
                .expect("a session")
                .low_latency(0, Listed::Complete)
                .expect("parts"),
        )
    }

    fn multivariant(&self) -> String {
        text(
            &self
                .output
                .multivariant()
                .expect("a multivariant playlist")
                .early[0],
        )
    }
}

fn video_config(width: u32) -> VideoConfig {
    VideoConfig::H264(h264::Config {
        profile: 66,
        compatibility: 0xc0,
        level: 30,
        width,
        height: 360,
        frame_rate: None,
        sps: vec![Bytes::from_static(&[0x67, 1])],
        pps: vec![Bytes::from_static(&[0x68, 2])],
        nal_length_size: 4,
    })
}

fn audio_config() -> AudioConfig {
    AudioConfig::Aac(aac::Config::parse(&[0x11, 0x90]).expect("48 kHz stereo"))
}

fn text(rendered: &Rendered) -> String {
    String::from_utf8(rendered.plain().to_vec()).expect("text")
}

fn values(playlist: &str, tag: &str) -> Vec<String> {
    playlist
        .lines()
        .filter_map(|line| line.strip_prefix(tag))
        .map(|value| value.trim_end_matches(',').to_owned())
        .collect()
}

fn extinf(playlist: &str) -> Vec<f64> {
    values(playlist, "#EXTINF:")
        .iter()
        .map(|value| value.parse().expect("a number"))
        .collect()
}

#[test]
fn the_second_key_frame_tells_the_target_duration() {
    let mut feed = Feed::new(|_| ());
    feed.pictures(30, 30);
    assert!(
        feed.packager.is_live() && feed.output.multivariant().is_none(),
        "nothing can be promised yet"
    );
    feed.pictures(1, 30);
    assert_eq!(values(&feed.early(), "#EXT-X-TARGETDURATION:"), ["1"]);
    assert_eq!(
        extinf(&feed.early()),
        [1.0; 4],
        "one finished, one growing, two announced"
    );
    let multivariant = feed.multivariant();
    assert!(
        multivariant
            .contains("CODECS=\"avc1.42c01e,mp4a.40.2\",RESOLUTION=640x360,FRAME-RATE=30.000\n"),
        "{multivariant}"
    );
}

#[test]
fn short_groups_are_joined_and_the_first_viewer_waits_for_one_of_them_only() {
    let mut feed = Feed::new(|_| ());
    feed.pictures(16, 15);
    assert_eq!(
        extinf(&feed.early()),
        [1.0; 3],
        "the growing one and two announced"
    );
    feed.pictures(14, 30);
    feed.pictures(61, 15);
    assert_eq!(extinf(&feed.early()), [1.0; 5]);
    let mut short = Feed::new(|settings| settings.segment_duration = Duration::from_millis(500));
    short.pictures(61, 15);
    assert_eq!(
        extinf(&short.early()),
        [0.5; 8],
        "two finished, the growing one, five announced"
    );
}

#[test]
fn long_groups_play_later() {
    let mut feed = Feed::new(|_| ());
    feed.pictures(501, 250);
    assert_eq!(values(&feed.early(), "#EXT-X-TARGETDURATION:"), ["8"]);
    assert!((extinf(&feed.early())[0] - 8.333).abs() < 0.001);
}

#[test]
fn a_group_that_never_ends_is_cut_within_bounds() {
    let mut feed = Feed::new(|_| ());
    feed.pictures(1200, 1_000_000);
    let playlist = feed.early();
    assert_eq!(values(&playlist, "#EXT-X-TARGETDURATION:"), ["12"]);
    assert!(
        extinf(&playlist).iter().all(|&seconds| seconds < 12.5),
        "{playlist}"
    );
    assert!(
        !playlist.contains("INDEPENDENT"),
        "no promise that is not kept"
    );
    assert_eq!(feed.sessions().len(), 1);
}

#[test]
fn a_broken_promise_gets_a_second_session_and_keeps_the_first() {
    let mut feed = Feed::new(|_| ());
    feed.pictures(91, 30);
    feed.pictures(29, 120);
    let first = feed.sessions().remove(0);
    for _ in 0..4 {
        feed.pictures(90, 90);
        let playlist = text(&first.media(Early::Usual));
        assert_eq!(values(&playlist, "#EXT-X-TARGETDURATION:"), ["1"]);
        assert!(
            extinf(&playlist).iter().all(|&seconds| seconds < 1.5),
            "{playlist}"
        );
    }
    assert_eq!(feed.sessions().len(), 2);
    let second = feed.early();
    assert_eq!(values(&second, "#EXT-X-TARGETDURATION:"), ["3"]);
    assert!(second.contains("#EXT-X-INDEPENDENT-SEGMENTS"));
    assert!(
        feed.multivariant().contains("media-3.m3u8"),
        "who comes now gets the second"
    );
    // Nobody asks for the first any more.
    feed.pictures(32 * 30, 90);
    assert_eq!(feed.sessions().len(), 1);
    assert!(text(&first.media(Early::Usual)).ends_with("#EXT-X-ENDLIST\n"));
}

#[test]
fn parts_are_the_segment() {
    for (group, part) in [(30, 100), (30, 67), (25, 200), (15, 33)] {
        let mut feed = Feed::new(|settings| settings.part_duration = Duration::from_millis(part));
        feed.pictures(200, group);
        let session = feed.sessions().remove(0);
        for length in 0..session.part_factors().len() {
            let mut pieces: std::collections::BTreeMap<u64, Vec<std::ops::Range<usize>>> =
                Default::default();
            for number in 0.. {
                match session.part(length, number) {
                    PartState::Complete(segment, range) => {
                        assert!(!range.is_empty());
                        pieces.entry(segment.sequence()).or_default().push(range);
                    }
                    PartState::Announced => break,
                    PartState::ToCome | PartState::Unknown => panic!("part {number} is missing"),
                }
            }
            let growing = *pieces.keys().last().expect("segments");
            for (&sequence, ranges) in &pieces {
                assert_eq!(ranges[0].start, 0);
                assert!(
                    ranges.windows(2).all(|pair| pair[0].end == pair[1].start),
                    "{ranges:?}"
                );
                let end = ranges.last().expect("parts").end;
                let segment = session.segment(sequence).expect("kept");
                assert!(
                    sequence == growing || end == segment.piece_count(),
                    "group {group}, part {part}: {sequence}"
                );
            }
        }
    }
}

#[test]
fn part_durations_are_within_the_target_and_near_it() {
    let mut feed = Feed::new(|settings| settings.part_duration = Duration::from_millis(67));
    feed.pictures(200, 30);
    let playlist = feed.low_latency();
    assert_eq!(values(&playlist, "#EXT-X-PART-INF:PART-TARGET="), ["0.067"]);
    let durations = values(&playlist, "#EXT-X-PART:DURATION=");
    assert!(durations.len() > 30);
    for part in durations {
        let seconds: f64 = part
            .split(',')
            .next()
            .and_then(|value| value.parse().ok())
            .expect("a number");
        assert!((0.067 * 0.85..=0.067).contains(&seconds), "{part}");
    }
    assert_eq!(playlist.matches("INDEPENDENT=YES").count(), 4, "{playlist}");
}

#[test]
fn every_part_starts_with_tables_and_parameter_sets_and_has_audio() {
    let mut feed = Feed::new(|_| ());
    feed.pictures(100, 30);
    let session = feed.sessions().remove(0);
    for number in 0..30 {
        let PartState::Complete(segment, range) = session.part(0, number) else {
            panic!("part {number}")
        };
        let pieces: Vec<Bytes> = segment
            .pieces(range)
            .into_iter()
            .map(|piece| piece.bytes)
            .collect();
        let bytes = pieces.concat();
        let pid = |packet: usize| {
            u16::from_be_bytes([bytes[188 * packet + 1] & 0x1f, bytes[188 * packet + 2]])
        };
        assert_eq!((pid(0), pid(1)), (0, 0x1000), "part {number}");
        let pids: Vec<u16> = (0..bytes.len() / 188).map(pid).collect();
        assert!(pids.contains(&0x101), "part {number} has audio");
        let first_video = 188 * pids.iter().position(|&pid| pid == 0x100).expect("video");
        let payload = &bytes[first_video..first_video + 188];
        assert!(
            payload
                .windows(6)
                .any(|bytes| bytes == [0, 0, 0, 1, 0x67, 1]),
            "part {number}"
        );
    }
}

#[test]
fn a_configured_target_duration_needs_no_second_key_frame() {
    let mut feed = Feed::new(|settings| settings.target_duration = Some(2));
    feed.pictures(6, 1000);
    assert_eq!(values(&feed.early(), "#EXT-X-TARGETDURATION:"), ["2"]);
    assert_eq!(
        feed.low_latency().matches("#EXT-X-PART:").count(),
        2,
        "parts from before the session are listed too"
    );
}

#[test]
fn audio_alone_is_cut_by_time() {
    let mut feed = Feed::new(|_| ());
    feed.packager.configured.video = None;
    for _ in 0..200 {
        feed.sound();
        feed.time += 21_333;
    }
    let playlist = feed.early();
    assert_eq!(values(&playlist, "#EXT-X-TARGETDURATION:"), ["1"]);
    assert!(
        extinf(&playlist)
            .iter()
            .all(|seconds| (0.98..1.02).contains(seconds)),
        "{playlist}"
    );
    assert!(!feed.multivariant().contains("RESOLUTION"));
    assert!(
        feed.low_latency().contains("#EXT-X-PART:DURATION=0.10667"),
        "{}",
        feed.low_latency()
    );
}

#[test]
fn video_does_not_wait_long_for_audio_that_never_comes() {
    let mut feed = Feed::new(|_| ());
    feed.audio = false;
    feed.pictures(15, 30);
    assert!(!feed.packager.is_live());
    feed.pictures(2, 100);
    assert!(feed.packager.is_live());
    feed.pictures(60, 30);
    assert!(
        feed.multivariant().contains("CODECS=\"avc1.42c01e\""),
        "a promised track that never came is not listed"
    );
}

#[test]
fn late_audio_comes_with_a_discontinuity_and_another_picture_size_without() {
    let mut feed = Feed::new(|_| ());
    feed.audio = false;
    feed.pictures(61, 30);
    let first: u64 = values(&feed.early(), "#EXT-X-DISCONTINUITY-SEQUENCE:")[0]
        .parse()
        .expect("a number");
    feed.audio = true;
    feed.audio_sent = feed.time / 21_333;
    feed.pictures(61, 30);
    assert_eq!(
        feed.early().matches("#EXT-X-DISCONTINUITY\n").count(),
        1,
        "{}",
        feed.early()
    );
    assert!(feed.multivariant().contains("mp4a.40.2"));
    feed.packager.configure_video(video_config(1280));
    feed.pictures(61, 30);
    assert!(feed.multivariant().contains("RESOLUTION=1280x360"));
    let number = |playlist: &str| {
        values(playlist, "#EXT-X-DISCONTINUITY-SEQUENCE:")[0]
            .parse::<u64>()
            .expect("a number")
    };
    let listed = feed.early().matches("#EXT-X-DISCONTINUITY\n").count() as u64;
    assert_eq!(
        number(&feed.early()) + listed,
        first + 1,
        "{}",
        feed.early()
    );
}

#[test]
fn dates_follow_the_media() {
    let mut feed = Feed::new(|_| ());
    feed.pictures(200, 30);
    let dates = values(&feed.early(), "#EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:");
    assert_eq!(
        dates,
        ["04.000Z", "05.000Z", "06.000Z", "07.000Z", "08.000Z"]
    );
}

#[test]
fn the_end_finishes_and_withdraws() {
    let mut feed = Feed::new(|_| ());
    feed.pictures(75, 30);
    let session = feed.sessions().remove(0);
    let now = feed.now();
    feed.packager.end(now);
    let playlist = text(&session.media(Early::Usual));
    assert!(playlist.ends_with("#EXT-X-ENDLIST\n"));
    let durations = extinf(&playlist);
    assert_eq!(durations.len(), 3);
    assert!((durations[2] - 0.5).abs() < 0.05, "{durations:?}");
    assert!(feed.output.ended());
    assert!(session.reached(
        0,
        Directive {
            sequence: u64::MAX,
            part: None
        }
    ));
}

#[test]
fn a_stream_that_ends_within_its_first_group_can_be_watched() {
    let mut feed = Feed::new(|_| ());
    feed.pictures(20, 30);
    let now = feed.now();
    feed.packager.end(now);
    assert!(feed.early().ends_with("#EXT-X-ENDLIST\n"));
    assert_eq!(extinf(&feed.early()).len(), 1);
    let mut silent = Feed::new(|_| ());
    let now = silent.now();
    silent.packager.end(now);
    assert!(silent.output.multivariant().is_none() && silent.output.ended());
}

#[test]
fn pictures_that_are_missing_end_a_segment_and_do_not_stretch_it() {
    let mut feed = Feed::new(|_| ());
    feed.pictures(91, 30);
    feed.time += 5_000_000;
    feed.audio_sent = feed.time / 21_333;
    feed.pictures(45, 1000);
    let playlist = feed.early();
    assert!(
        extinf(&playlist).iter().all(|&seconds| seconds < 1.5),
        "{playlist}"
    );
    // Players jump over a hole by themselves; entries that they have seen may not change their stretch.
    assert!(!playlist.contains("#EXT-X-DISCONTINUITY\n"), "{playlist}");
}

#[test]
fn key_frames_out_of_turn_and_holes_break_no_promise() {
    // Changes of scene, an encoder that had no time in the middle of a group, and one that had none when the next key frame was due.
    for (before, hole, after) in [
        (9, 0, 21),
        (18, 0, 30),
        (15, 400, 30),
        (28, 400, 15),
        (25, 900, 30),
    ] {
        let mut feed = Feed::new(|_| ());
        feed.pictures(91, 30);
        feed.pictures(before, 1000);
        feed.time += hole * 1000;
        feed.audio_sent = feed.time / 21_333;
        feed.pictures(after, 1000);
        feed.pictures(90, 30);
        let name = format!("{before} pictures, {hole} ms, {after} pictures");
        assert_eq!(feed.sessions().len(), 1, "{name}");
        let playlist = feed.early();
        assert!(
            extinf(&playlist).iter().all(|&seconds| seconds < 1.5),
            "{name}: {playlist}"
        );
    }
}

/// Each picture was taken for the end of a pause, and the sound after it for the proof that there was none: it came out at a tick a frame.
#[test]
fn pictures_that_jump_ahead_of_the_sound_leave_the_sound_alone() {
    let mut feed = Feed::new(|_| ());
    feed.pictures(120, 30);
    feed.audio = false;
    for n in 0..120 {
        feed.offset = Ticks::from_millis(2000);
        feed.pictures_from(n, 1, 30);
        feed.offset = Ticks::ZERO;
        while feed.audio_sent * 21_333 < feed.time {
            let before = feed.packager.last_of_audio.expect("sound");
            feed.sound();
            let step = feed.packager.last_of_audio.expect("sound") - before;
            assert_eq!(step.get(), 1920, "picture {n}");
        }
    }
    let ahead = feed.packager.last_of_video.expect("pictures")
        - feed.packager.last_of_audio.expect("sound");
    assert!(ahead.get() / 90 > 1900, "{ahead:?}");
}

/// Found by fuzzing: the first cut inside the group was due to a hole, and took the key frame with it.
#[test]
fn a_session_does_not_start_inside_a_group_that_was_cut_before() {
    let mut feed = Feed::new(|_| ());
    feed.pictures(91, 30);
    feed.pictures_from(1, 20, 1000);
    feed.time += 900_000;
    feed.audio_sent = feed.time / 21_333;
    feed.pictures_from(1, 90, 1000);
    assert_eq!(feed.sessions().len(), 1);
    feed.pictures(180, 90);
    assert_eq!(feed.sessions().len(), 2);
    let parts = values(&feed.low_latency(), "#EXT-X-PART:");
    assert!(parts[0].contains("INDEPENDENT=YES"), "{parts:?}");
}

impl Feed {
    /// The publisher goes and comes back after an outage, as a new run that continues the timeline.
    fn reconnect(&mut self, outage: Duration, width: u32) {
        let now = self.now();
        self.packager.pause(now);
        let start = self.packager.resume_at().expect("a run");
        self.time += outage.as_micros() as u64;
        self.offset += start - Ticks::new(90_000 + self.time as i64 * 9 / 100) - self.offset;
        self.audio_sent = self.time / 21_333 + 1;
        self.packager.configure_video(video_config(width));
        self.packager.configure_audio(audio_config());
    }
}

#[test]
fn a_publisher_that_comes_back_continues() {
    let mut feed = Feed::new(|_| ());
    feed.pictures(75, 30);
    let session = feed.sessions().remove(0);
    let first: u64 = values(&feed.early(), "#EXT-X-MEDIA-SEQUENCE:")[0]
        .parse()
        .expect("a number");
    // Two finished, one growing.
    let announced = session.segment(first + 3).expect("announced");
    feed.reconnect(Duration::from_secs(5), 640);
    let waiting = feed.early();
    assert!(!waiting.contains("ENDLIST"));
    assert_eq!(
        extinf(&waiting).len(),
        5,
        "the finished ones and three to come: {waiting}"
    );
    assert!(
        (extinf(&waiting)[1] - 0.5).abs() < 0.001,
        "the last one is as long as what it holds: {waiting}"
    );
    assert_eq!(
        announced.piece_count(),
        0,
        "whoever waits for it goes on waiting"
    );
    feed.pictures(31, 30);
    assert!(announced.piece_count() > 0);
    let playlist = feed.early();
    assert!(!playlist.contains("DISCONTINUITY\n"), "{playlist}");
    assert_eq!(
        values(&playlist, "#EXT-X-MEDIA-SEQUENCE:"),
        [(first + 2).to_string()]
    );
    // 2.5 s of the first run, 5 s of outage.
    assert!(
        playlist.contains("DATE-TIME:2027-01-15T08:00:07.5"),
        "{playlist}"
    );
}

#[test]
fn a_publisher_that_comes_back_changed_starts_behind_what_was_announced() {
    let mut feed = Feed::new(|_| ());
    feed.pictures(75, 30);
    let before = feed.early();
    let announced = before.lines().rev().nth(3).expect("an entry").to_owned();
    feed.reconnect(Duration::from_secs(5), 640);
    let other_rate = aac::Config::parse(&[0x12, 0x10]).expect("44.1 kHz stereo");
    feed.packager.configure_audio(AudioConfig::Aac(other_rate));
    feed.pictures(31, 30);
    let playlist = feed.early();
    let lines: Vec<&str> = playlist.lines().collect();
    let first = lines
        .iter()
        .position(|line| *line == "#EXT-X-DISCONTINUITY")
        .expect("a new stretch");
    assert!(
        !before.contains(lines[first + 3]),
        "nobody has seen the entry that starts it: {playlist}"
    );
    assert_eq!(playlist.matches("#EXT-X-DISCONTINUITY\n").count(), 1);
    assert!(
        playlist.contains("#EXT-X-GAP\n#EXTINF:0.00100,\n"),
        "{playlist}"
    );
    assert!(playlist.contains("#EXT-X-VERSION:8\n"), "{playlist}");
    let left = extinf(&lines[..first].join("\n"));
    assert!(
        left.iter().any(|&seconds| seconds > 0.1),
        "what may not have been fetched yet is still listed: {playlist}"
    );
    let (id, sequence) = announced
        .trim_end_matches(".ts")
        .rsplit_once('-')
        .expect("a name");
    assert_eq!(feed.sessions()[0].id(), id);
    let segment = feed.sessions()[0].segment(sequence.parse().expect("a number"));
    assert_eq!(
        segment.map(|segment| segment.state()),
        Some(State::Finished),
        "whoever waits for it is told"
    );
}

#[test]
fn twenty_outages_in_a_row_leave_one_session_and_rising_sequence_numbers() {
    let mut feed = Feed::new(|_| ());
    feed.pictures(75, 30);
    let mut last = 0;
    for n in 0..20 {
        feed.reconnect(Duration::from_secs(5), 640);
        feed.pictures(20 + 7 * n, 30);
        let sequence: u64 = values(&feed.early(), "#EXT-X-MEDIA-SEQUENCE:")[0]
            .parse()
            .expect("a number");
        assert!(sequence > last);
        last = sequence;
    }
    assert_eq!(feed.sessions().len(), 1);
    assert!(!feed.early().contains("DISCONTINUITY\n"));
}
