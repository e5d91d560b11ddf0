use proptest::prelude::*;

use super::*;

const START: Ticks = Ticks(900_000);
const AAC: (u32, u32) = (1024, 48_000);

/// Feeds a timeline with regular video (25 fps) and audio, whose raw times a test bends.
struct Publisher {
    timeline: Timeline,
    arrival: u64,
    video: Vec<Stamp>,
    audio: Vec<Stamp>,
}

impl Publisher {
    fn new() -> Self {
        Self {
            timeline: Timeline::new(START),
            arrival: 5_000_000,
            video: Vec::new(),
            audio: Vec::new(),
        }
    }

    fn video(&mut self, timestamp: u32, composition: i32) -> Stamp {
        let stamp =
            self.timeline
                .video(timestamp, composition, Duration::from_millis(self.arrival));
        if let Some(last) = self.video.last() {
            assert!(stamp.dts > last.dts, "{stamp:?} after {last:?}");
        }
        assert!(stamp.pts >= stamp.dts && stamp.dts >= START);
        self.video.push(stamp);
        stamp
    }

    fn audio(&mut self, timestamp: u32) -> Stamp {
        let stamp =
            self.timeline
                .audio(timestamp, AAC.0, AAC.1, Duration::from_millis(self.arrival));
        if let Some(last) = self.audio.last() {
            assert!(stamp.dts > last.dts, "{stamp:?} after {last:?}");
        }
        self.audio.push(stamp);
        stamp
    }

    /// Sends both tracks for `seconds`, in real time, with `bend` applied to the true time (ms) of each track.
    fn both(&mut self, from: u64, seconds: u64, bend: impl Fn(Track, u64) -> u32) {
        let (mut video, mut audio) = (from, 0);
        while video < from + seconds * 1000 {
            self.arrival += 40;
            self.video(bend(Track::Video, video), 0);
            video += 40;
            while from + audio * 64 / 3 < video {
                self.audio(bend(Track::Audio, from + audio * 64 / 3));
                audio += 1;
            }
        }
    }

    /// Video minus audio at the end, in ms.
    fn skew(&self) -> i64 {
        (self.video.last().expect("video").dts - self.audio.last().expect("audio").dts).0 / 90
    }

    /// Largest step between stamps, in ms.
    fn largest_step(stamps: &[Stamp]) -> i64 {
        stamps
            .windows(2)
            .map(|pair| (pair[1].dts - pair[0].dts).0 / 90)
            .max()
            .expect("steps")
    }

    fn span(stamps: &[Stamp]) -> i64 {
        (stamps[stamps.len() - 1].dts - stamps[0].dts).0 / 90
    }
}

#[test]
fn regular_times_are_kept_exactly() {
    let mut publisher = Publisher::new();
    publisher.both(0, 60, |_, time| time as u32);
    for (index, stamp) in (0..).zip(&publisher.video) {
        assert_eq!(stamp.dts, START + Ticks::from_millis(index * 40));
    }
    for (index, stamp) in (0..).zip(&publisher.audio) {
        assert_eq!(
            stamp.pts,
            START + Ticks(index * 1920),
            "sample-exact, not rounded to ms"
        );
    }
    assert_eq!(*publisher.timeline.repairs(), Repairs::default());
}

#[test]
fn audio_at_23_ms_keeps_its_23_ms() {
    let mut publisher = Publisher::new();
    assert_eq!(publisher.video(0, 0).dts, START);
    assert_eq!(publisher.audio(23).dts, START + Ticks::from_millis(23));
    assert_eq!(publisher.timeline.repairs().total(), 0);
}

#[test]
fn audio_before_the_first_picture_waits_for_the_start() {
    let mut publisher = Publisher::new();
    publisher.video(1040, 0);
    assert_eq!(publisher.audio(1000).dts, START);
    assert_eq!(publisher.audio(1021).dts, START + Ticks(1));
    assert_eq!(
        publisher.audio(1043).dts,
        START + Ticks(2 * 1920 - 3600),
        "where it belongs"
    );
    assert_eq!(publisher.timeline.repairs().total(), 0);
}

#[test]
fn audio_of_44100_hz_is_sample_exact_for_hours() {
    let mut timeline = Timeline::new(START);
    for index in 0..1_000_000u64 {
        let millis = index * 1024 * 1000 / 44_100;
        let stamp = timeline.audio(millis as u32, 1024, 44_100, Duration::from_millis(millis));
        let exact = (index * 1024 * 90_000 / 44_100) as i64;
        let distance = (stamp.pts - START).0 - exact;
        assert!(
            (-1..=0).contains(&distance),
            "frame {index} is {distance} ticks off"
        );
    }
    assert_eq!(timeline.repairs().total(), 0);
}

#[test]
fn audio_of_a_batching_encoder_is_even() {
    // Four frames with one timestamp each time.
    let mut publisher = Publisher::new();
    for index in 0..1000u64 {
        publisher.arrival += 21;
        publisher.audio((index / 4 * 4 * 64 / 3) as u32);
    }
    let steps: Vec<i64> = publisher
        .audio
        .windows(2)
        .map(|pair| (pair[1].dts - pair[0].dts).0)
        .collect();
    assert!(
        steps.iter().all(|step| (1919..=1921).contains(step)),
        "{steps:?}"
    );
    assert_eq!(publisher.timeline.repairs().total(), 0);
}

#[test]
fn audio_that_drifts_is_followed_without_a_step() {
    // The sound card runs 300 ppm slow against the clock of the timestamps: 1.08 s in an hour.
    let mut publisher = Publisher::new();
    let frames = 170_000u64;
    for index in 0..frames {
        let time = index * 64 * 10_003 / 30_000;
        publisher.arrival += 21;
        publisher.audio(time as u32);
    }
    let steps: Vec<i64> = publisher
        .audio
        .windows(2)
        .map(|pair| (pair[1].dts - pair[0].dts).0)
        .collect();
    assert!(steps.iter().all(|step| (1919..=1921).contains(step)));
    let last = (frames - 1) * 64 * 10_003 / 30_000;
    let off = Publisher::span(&publisher.audio) - last as i64;
    assert!(off.abs() < 30, "{off} ms off");
    assert_eq!(publisher.timeline.repairs().total(), 0);
}

#[test]
fn audio_gap_is_a_gap() {
    let mut publisher = Publisher::new();
    publisher.both(0, 2, |_, time| time as u32);
    let before = publisher.audio.len();
    publisher.both(2500, 2, |_, time| time as u32);
    assert!(
        publisher.audio[before].dts - publisher.audio[before - 1].dts > Ticks::from_millis(480)
    );
    assert!(publisher.skew().abs() <= 40);
    assert_eq!(publisher.timeline.repairs().audio_gaps, 1);
    assert_eq!(publisher.timeline.repairs().total(), 1);
}

#[test]
fn audio_with_a_wrong_rate_stays_with_the_video() {
    // Declares 44100 Hz and sends 48000: its timestamps are true.
    let mut timeline = Timeline::new(START);
    for index in 0..10_000u64 {
        let millis = index * 64 / 3;
        let arrival = Duration::from_millis(millis);
        let audio = timeline.audio(millis as u32, 1024, 44_100, arrival);
        let video = timeline.video(millis as u32, 0, arrival);
        assert!(
            (audio.dts - video.dts).is_within(Ticks::from_millis(130)),
            "frame {index}"
        );
    }
}

#[test]
fn audio_rate_change_counts_on() {
    let mut timeline = Timeline::new(START);
    for index in 0..100u64 {
        let (millis, rate) = if index < 50 {
            (index * 64 / 3, 48_000)
        } else {
            (1066 + (index - 50) * 32, 32_000)
        };
        timeline.audio(millis as u32, 1024, rate, Duration::from_millis(millis));
    }
    let last = timeline.audio(1066 + 50 * 32, 1024, 32_000, Duration::from_secs(3));
    assert_eq!(last.pts, START + Ticks(50 * 1920 + 50 * 2880));
}

fn wraps_at(bits: u32) {
    let wrap = 1u64 << bits;
    let from = wrap - 3000;
    let mut publisher = Publisher::new();
    publisher.both(from, 6, |_, time| (time % wrap) as u32);
    assert_eq!(
        publisher.timeline.repairs().total(),
        0,
        "{:?}",
        publisher.timeline.repairs()
    );
    assert_eq!(Publisher::span(&publisher.video), 6000 - 40);
    assert_eq!(Publisher::largest_step(&publisher.video), 40);
    assert_eq!(Publisher::largest_step(&publisher.audio), 21);
}

#[test]
fn wrap_of_32_bits_after_49_days() {
    wraps_at(32);
}

#[test]
fn wrap_of_31_bits() {
    wraps_at(31);
}

#[test]
fn wrap_of_24_bits_after_4_hours() {
    wraps_at(24);
}

#[test]
fn wrap_of_33_bits_in_the_output_after_26_hours() {
    assert_eq!(Ticks((1 << 33) - 1).to_pts33(), (1 << 33) - 1);
    assert_eq!(Ticks(1 << 33).to_pts33(), 0);
    assert_eq!(Ticks((5 << 33) + 7).to_pts33(), 7);
    assert_eq!(Ticks(-1).to_pts33(), (1 << 33) - 1);
}

#[test]
fn ticks_convert_exactly() {
    assert_eq!(
        Ticks::from_duration(Duration::from_millis(1500)),
        Ticks(135_000)
    );
    assert_eq!(Ticks(135_000).as_duration(), Duration::from_millis(1500));
    assert_eq!(Ticks(-1).as_duration(), Duration::ZERO);
    assert_eq!(Ticks::from_duration(Duration::MAX), Ticks(i64::MAX));
    assert_eq!(Ticks(45_000).as_seconds_f64(), 0.5);
}

fn jumps_together(to: u64) -> Publisher {
    let mut publisher = Publisher::new();
    publisher.both(100_000, 16, |_, time| time as u32);
    let skew = publisher.skew();
    publisher.both(to, 16, |_, time| time as u32);
    assert!(
        (publisher.skew() - skew).abs() <= 1,
        "{} then {}",
        skew,
        publisher.skew()
    );
    assert!(Publisher::largest_step(&publisher.video) <= 80);
    assert!(Publisher::largest_step(&publisher.audio) <= 80);
    let span = Publisher::span(&publisher.video);
    assert!((span - 31_960).abs() <= 40, "{span}");
    publisher
}

#[test]
fn jump_ahead_of_both_tracks_keeps_them_together() {
    let publisher = jumps_together(4_000_000);
    assert_eq!(publisher.timeline.repairs().jumps_ahead, 2);
    assert_eq!(publisher.timeline.repairs().total(), 2);
}

#[test]
fn jump_back_of_both_tracks_keeps_them_together() {
    let publisher = jumps_together(0);
    assert_eq!(publisher.timeline.repairs().jumps_back, 2);
    assert_eq!(publisher.timeline.repairs().total(), 2);
}

#[test]
fn jump_of_video_alone_is_undone() {
    let mut publisher = Publisher::new();
    publisher.both(0, 16, |track, time| match track {
        Track::Video if time >= 8000 => (time + 777_777) as u32,
        _ => time as u32,
    });
    assert!(publisher.skew().abs() <= 40);
    assert_eq!(publisher.timeline.repairs().total(), 1);
    let skew = publisher.skew();
    // And when both jump later, they still belong together as they are now.
    publisher.both(5_000_000, 16, |track, time| match track {
        Track::Video => (time + 777_777) as u32,
        Track::Audio => time as u32,
    });
    assert!(
        (publisher.skew() - skew).abs() <= 1,
        "{skew} then {}",
        publisher.skew()
    );
}

#[test]
fn jump_for_a_single_picture_costs_nothing_after() {
    let mut publisher = Publisher::new();
    publisher.both(0, 10, |track, time| match track {
        Track::Video if time == 5000 => 4_000_000_000,
        _ => time as u32,
    });
    assert!(publisher.skew().abs() <= 40);
    assert!(Publisher::largest_step(&publisher.video) <= 80);
}

#[test]
fn constant_video_times_of_atem_follow_arrival() {
    let mut publisher = Publisher::new();
    publisher.both(0, 10, |track, time| {
        if track == Track::Video {
            0
        } else {
            time as u32
        }
    });
    assert!(publisher.skew().abs() <= 80, "{}", publisher.skew());
    assert_eq!(publisher.timeline.repairs().stalled, 1);
}

#[test]
fn constant_times_of_both_tracks_follow_arrival_and_samples() {
    let mut publisher = Publisher::new();
    publisher.both(0, 10, |_, _| 4242);
    assert!(publisher.skew().abs() <= 80, "{}", publisher.skew());
    assert!((Publisher::span(&publisher.video) - 9960).abs() <= 40);
    assert_eq!(Publisher::largest_step(&publisher.audio), 21);
    // And times that start to run again are taken as they run.
    publisher.both(1_000_000, 4, |_, time| time as u32);
    assert!(publisher.skew().abs() <= 100, "{}", publisher.skew());
}

#[test]
fn decoding_times_that_do_not_rise_are_lifted() {
    // GLive T80: now and then the same time twice, or the time before.
    let mut publisher = Publisher::new();
    for index in 0..100u32 {
        publisher.arrival += 40;
        let time = 400
            + if index % 10 == 9 {
                index * 40 - 60
            } else {
                index * 40
            };
        publisher.video(time, 0);
    }
    assert_eq!(publisher.timeline.repairs().not_rising, 10);
    assert_eq!(publisher.timeline.repairs().total(), 10);
    assert_eq!(Publisher::span(&publisher.video), 98 * 40);
}

#[test]
fn negative_composition_of_wirecast_moves_decoding_back() {
    let mut publisher = Publisher::new();
    for gop in 0..50u32 {
        for (index, composition) in [40, 80, -80, -40].into_iter().enumerate() {
            publisher.arrival += 40;
            publisher.video(gop * 160 + index as u32 * 40, composition);
        }
    }
    let steady = &publisher.video[8..];
    let first = 8 * 40;
    for (index, stamp) in (0..).zip(steady) {
        let composition = [40, 80, -80, -40][index as usize % 4];
        let time = START + Ticks::from_millis(first + index * 40);
        assert_eq!(
            stamp.pts,
            time + Ticks::from_millis(composition),
            "presentation stays where it was"
        );
        assert_eq!(stamp.dts, time - Ticks::from_millis(80));
    }
    assert_eq!(publisher.timeline.repairs().negative_composition, 1);
}

#[test]
fn tracks_on_different_bases_are_put_where_they_arrive() {
    let mut publisher = Publisher::new();
    publisher.both(0, 16, |track, time| match track {
        Track::Video => time as u32,
        Track::Audio => (time + 1_700_000_000) as u32,
    });
    assert!(publisher.skew().abs() <= 40);
    assert_eq!(publisher.timeline.repairs().skew, 1);
    assert_eq!(publisher.timeline.repairs().total(), 1);
    let skew = publisher.skew();
    // They go on to jump together.
    publisher.both(50_000, 16, |track, time| match track {
        Track::Video => time as u32,
        Track::Audio => (time + 1_700_000_000) as u32,
    });
    assert!((publisher.skew() - skew).abs() <= 1);
}

#[test]
fn late_audio_joins_in_its_place() {
    let mut publisher = Publisher::new();
    for index in 0..250u32 {
        publisher.arrival += 40;
        publisher.video(index * 40, 0);
    }
    let audio = publisher.audio(9_960);
    assert_eq!(audio.dts, START + Ticks::from_millis(9_960));
    assert_eq!(publisher.timeline.repairs().total(), 0);
}

#[test]
fn one_picture_in_ten_seconds_is_legal() {
    let mut publisher = Publisher::new();
    for second in 0..100u32 {
        publisher.arrival += 1000;
        if second % 10 == 0 {
            let video = publisher.video(second * 1000, 0);
            assert_eq!(
                video.dts,
                START + Ticks::from_millis((second * 1000).into())
            );
        }
        for index in 0..46 {
            publisher.audio(second * 1000 + index * 64 / 3);
        }
    }
    assert_eq!(publisher.timeline.repairs().jumps_ahead, 0);
    assert_eq!(publisher.timeline.repairs().skew, 0);
}

#[test]
fn one_picture_in_ten_seconds_without_audio_is_legal() {
    let mut publisher = Publisher::new();
    for index in 0..100u32 {
        publisher.arrival += 10_000;
        let video = publisher.video(index * 10_000, 0);
        assert_eq!(
            video.dts,
            START + Ticks::from_millis((index * 10_000).into())
        );
    }
    assert_eq!(publisher.timeline.repairs().total(), 0);
}

#[test]
fn pause_that_shows_in_the_times_is_legal() {
    let mut publisher = Publisher::new();
    publisher.both(0, 4, |_, time| time as u32);
    publisher.arrival += 60_000;
    publisher.both(64_000, 4, |_, time| time as u32);
    assert_eq!(Publisher::span(&publisher.video), 68_000 - 40);
    assert!(publisher.skew().abs() <= 40);
    // The audio counts its hole; nothing was moved.
    assert_eq!(
        publisher.timeline.repairs().total(),
        publisher.timeline.repairs().audio_gaps
    );
}

#[test]
fn pause_in_which_the_times_start_again_is_kept_as_long_as_it_was() {
    let mut publisher = Publisher::new();
    publisher.both(1_000_000, 4, |_, time| time as u32);
    publisher.arrival += 10_000;
    publisher.both(0, 4, |_, time| time as u32);
    assert!((Publisher::span(&publisher.video) - 17_960).abs() <= 100);
    assert!(publisher.skew().abs() <= 60, "{}", publisher.skew());
}

#[test]
fn file_pushed_faster_than_real_time_is_legal() {
    let mut publisher = Publisher::new();
    publisher.both(0, 20, |_, time| time as u32);
    let slow: Vec<Stamp> = publisher
        .video
        .iter()
        .chain(&publisher.audio)
        .copied()
        .collect();
    // The same without any time passing, with the video ending early.
    let mut publisher = Publisher::new();
    let mut audio = 0;
    for video in 0..500u32 {
        publisher.video(video * 40, 0);
        while audio * 64 / 3 < (video + 1) * 40 {
            publisher.audio(audio * 64 / 3);
            audio += 1;
        }
    }
    let fast: Vec<Stamp> = publisher
        .video
        .iter()
        .chain(&publisher.audio)
        .copied()
        .collect();
    assert_eq!(slow, fast);
    for index in 0..1000 {
        publisher.audio((audio + index) * 64 / 3);
    }
    assert_eq!(
        Publisher::span(&publisher.audio),
        i64::from((audio + 999) * 64 / 3)
    );
    assert_eq!(publisher.timeline.repairs().total(), 0);
}

#[test]
fn network_that_stalls_and_bursts_is_legal() {
    let mut publisher = Publisher::new();
    publisher.both(0, 4, |_, time| time as u32);
    publisher.arrival += 20_000;
    let late = publisher.arrival;
    for index in 100..600u32 {
        publisher.arrival = late;
        publisher.video(index * 40, 0);
    }
    assert_eq!(Publisher::span(&publisher.video), 599 * 40);
    assert_eq!(publisher.timeline.repairs().total(), 0);
}

/// What a hostile or broken publisher may do next.
#[derive(Debug, Clone)]
struct Unit {
    video: bool,
    raw: Raw,
    composition: i32,
    passed: u64,
}

#[derive(Debug, Clone)]
enum Raw {
    Any(u32),
    Step(i32),
    Same,
}

fn units() -> impl Strategy<Value = Vec<Unit>> {
    let raw = prop_oneof![
        1 => any::<u32>().prop_map(Raw::Any),
        1 => Just(Raw::Any(0)),
        2 => (-5000..20_000i32).prop_map(Raw::Step),
        4 => (-100..400i32).prop_map(Raw::Step),
        8 => (20..42i32).prop_map(Raw::Step),
        2 => Just(Raw::Same),
    ];
    let composition = prop_oneof![8 => Just(0), 2 => -200..200i32, 1 => -8_388_608..8_388_608i32];
    let passed = prop_oneof![8 => 0..50u64, 1 => Just(0), 1 => 0..20_000u64];
    let unit = (any::<bool>(), raw, composition, passed);
    let unit = unit.prop_map(|(video, raw, composition, passed)| Unit {
        video,
        raw,
        composition,
        passed,
    });
    prop::collection::vec(unit, 1..400)
}

proptest! {
    #[test]
    fn any_input_gives_times_that_rise_and_stay_together(
        units in units(),
        start in -(1i64 << 40)..(1i64 << 40),
        mut raws in any::<[u32; 2]>(),
    ) {
        let start = Ticks(start);
        let mut timeline = Timeline::new(start);
        // The latest of each track: its decoding time, and when it last went on by more than a lift of one tick.
        let mut latest: [Option<(Ticks, Ticks)>; 2] = [None; 2];
        let mut now = 0;
        for unit in units {
            now += unit.passed;
            let arrival = Duration::from_millis(now);
            let track = usize::from(unit.video);
            let raw = match unit.raw {
                Raw::Any(raw) => raw,
                Raw::Step(step) => raws[track].wrapping_add_signed(step),
                Raw::Same => raws[track],
            };
            raws[track] = raw;
            let stamp = match unit.video {
                true => timeline.video(raw, unit.composition, arrival),
                false => timeline.audio(raw, AAC.0, AAC.1, arrival),
            };
            let arrival = Ticks::from_duration(arrival);
            prop_assert!(stamp.dts >= start && stamp.pts >= stamp.dts);
            if let Some((last, _)) = latest[track] {
                prop_assert!(stamp.dts > last, "{:?} after {:?}", stamp, last);
            }
            // Units lifted by a tick each, on either side.
            let lifted = Ticks::from_millis(10);
            let back = MAX_SKEW + Ticks::from_millis(MAX_SHIFT_MS) + lifted;
            if let Some((other, other_arrival)) = latest[1 - track] {
                prop_assert!(stamp.dts >= other - back, "{:?} too far behind {:?}", stamp, other);
                if let Some((last, last_arrival)) = latest[track] {
                    let by_arrival = last + (arrival - last_arrival) + MAX_REPEATED_STEP + MAX_STEP_BACK;
                    let by_other = other + (arrival - other_arrival) + MAX_SKEW;
                    let room = lifted + Ticks::from_millis(MAX_SHIFT_MS);
                    prop_assert!(stamp.dts <= by_arrival.max(by_other) + room, "{:?} too far ahead", stamp);
                }
            }
            let rose_at = match latest[track] {
                Some((last, at)) if stamp.dts == last + ONE_TICK => at,
                _ => arrival,
            };
            latest[track] = Some((stamp.dts, rose_at));
        }
    }

    #[test]
    fn extreme_arguments_do_not_overflow(
        units in prop::collection::vec(any::<(bool, u32, i32, u64, u32, u32)>(), 1..200),
    ) {
        let mut timeline = Timeline::new(Ticks(0));
        for (video, timestamp, composition, arrival, samples, rate) in units {
            let arrival = Duration::from_nanos(arrival);
            match video {
                true => timeline.video(timestamp, composition, arrival),
                false => timeline.audio(timestamp, samples, rate, arrival),
            };
        }
    }

    #[test]
    fn good_input_is_never_repaired(
        base: u32,
        step in 8..1000u32,
        offset in 0..2000u32,
        delays in prop::collection::vec(0..2000u64, 300),
    ) {
        let mut timeline = Timeline::new(START);
        let mut audio = 0u32;
        for (index, delay) in (0..).zip(delays) {
            let time = index * step;
            let arrival = Duration::from_millis(u64::from(time) + delay);
            let stamp = timeline.video(base.wrapping_add(time), 0, arrival);
            prop_assert_eq!(stamp.dts, START + Ticks::from_millis(time.into()));
            while audio * 64 / 3 + offset < time + step {
                let exact = START + Ticks::from_millis(offset.into()) + Ticks(i64::from(audio) * 1920);
                let timestamp = base.wrapping_add(offset + audio * 64 / 3);
                prop_assert_eq!(timeline.audio(timestamp, AAC.0, AAC.1, arrival).dts, exact);
                audio += 1;
            }
        }
        prop_assert_eq!(timeline.repairs().total(), 0);
    }
}

#[test]
fn thirty_three_bits_are_unwrapped() {
    for base in [
        0,
        5,
        (1 << 33) - 3,
        (1 << 33) + 7,
        9 << 33,
        -(1 << 33) - 100,
    ] {
        for step in [0, 1, 2999, 4_000_000_000, -1, -3000, -4_000_000_000] {
            let (base, time) = (Ticks::new(base), Ticks::new(base + step));
            assert_eq!(base.nearest_pts33(time.to_pts33()), time);
        }
    }
}
