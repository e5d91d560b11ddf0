//! How a stream is doing: a minute of figures, one set a second, from what arrives.
//!
//! Fed with every access unit, so it costs some additions each and neither a clock reading nor an allocation. It has no timer either:
//! a second begins with the first access unit in it, and seconds without any are told from the gaps when somebody asks.
//!
//! What the figures mean for the operator is in [`super::warnings`].

use std::time::{Duration, Instant};

use crate::media::{AccessUnit, Payload, Track};
use crate::time::Ticks;

/// The statistics of one stream, over all its runs.
#[derive(Debug)]
pub struct Health {
    origin: Instant,
    /// A ring: the second `n` is at `n % KEPT`, unless something newer or older is.
    seconds: [Slot; KEPT],
    /// The second that is being filled.
    current: u64,
    run: Run,
}

/// What happened in one second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Second {
    /// Bytes of video.
    pub video_bytes: u32,
    /// Bytes of audio.
    pub audio_bytes: u32,
    /// Pictures.
    pub pictures: u32,
    /// Pictures that the encoder left out, told from the gaps between the others.
    pub skipped: u32,
    /// Length of the last whole group of pictures; zero if none is known.
    pub gop: Ticks,
    /// How much later than the least delayed one an access unit came, at most: the upload's queue.
    pub late: Ticks,
    /// Pieces that were measured on their way to waiting viewers, and the sum of their times in microseconds.
    pub delivered: (u64, u64),
}

/// A second in the ring.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    number: u64,
    second: Second,
    /// What had been delivered in all when it began.
    delivered_before: (u64, u64),
}

/// What starts anew with each run.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    /// The second in which it began.
    began: u64,
    last_picture: Option<Ticks>,
    last_key: Option<Ticks>,
    pictures_since_key: u32,
    gop: Ticks,
    gop_pictures: u32,
    /// Usual distance of pictures: a slow average, in sixteenths of a tick.
    interval: i64,
    /// Latest presentation time.
    front: Option<Ticks>,
    reordered: bool,
    /// Least delay of an access unit; rises slowly, to follow clocks that drift.
    floor: Option<Ticks>,
    audio: bool,
    video: bool,
}

/// A look at the statistics.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Whole seconds, the last one last: the last minute, or as much of it as the stream has lived.
    pub history: Vec<Second>,
    /// Whole seconds of the run that goes on, among them.
    pub run_seconds: usize,
    /// Video and audio in bits per second, over the last few whole seconds of this run.
    pub bit_rates: (f64, f64),
    /// Pictures per second, likewise.
    pub frame_rate: f64,
    /// Length of the last whole group of pictures of this run.
    pub gop: Option<Duration>,
    /// Pictures in it.
    pub gop_pictures: u32,
    /// The longest group of this run in the last minute; the one that grows counts, when it is the longest.
    pub longest_gop: Option<Duration>,
    /// Whether pictures come in another order than they are shown, which takes B-frames.
    pub reordered: bool,
    /// Mean time of a piece from the ring to a waiting viewer's socket, over the last few seconds.
    pub delivery: Option<Duration>,
    /// Greatest delay of an access unit over the least, in the last few seconds.
    pub late: Duration,
    /// Whether this run has sent sound.
    pub audio: bool,
    /// Whether this run has sent pictures.
    pub video: bool,
}

impl Health {
    /// Of a stream that starts now.
    pub fn new(now: Instant) -> Self {
        Self {
            origin: now,
            seconds: [Slot::default(); KEPT],
            current: 0,
            run: Run::default(),
        }
    }

    /// A new run starts.
    pub fn begin_run(&mut self, now: Instant) {
        self.run = Run {
            began: self.number(now),
            ..Run::default()
        };
    }

    /// Access units are about to be noted that have arrived at `now`. `delivered` counts pieces measured so far, and microseconds.
    pub fn tick(&mut self, now: Instant, delivered: impl FnOnce() -> (u64, u64)) {
        let number = self.number(now);
        if number == self.current {
            return;
        }
        self.current = number;
        if let Some(floor) = &mut self.run.floor {
            *floor += DRIFT;
        }
        let gop = self.run.gop;
        self.seconds[number as usize % KEPT] = Slot {
            number,
            second: Second {
                gop,
                ..Second::default()
            },
            delivered_before: delivered(),
        };
    }

    /// Notes an access unit on the stream's timeline, arrived so long after any fixed point.
    pub fn note(&mut self, unit: &AccessUnit, arrival: Ticks) {
        let second = &mut self.seconds[self.current as usize % KEPT].second;
        let run = &mut self.run;
        match unit.track {
            Track::Audio => {
                second.audio_bytes = second.audio_bytes.saturating_add(size(&unit.payload));
                run.audio = true;
                // With pictures, only they are looked at: sound may be interleaved loosely.
                if run.video {
                    return;
                }
            }
            Track::Video => {
                second.video_bytes = second.video_bytes.saturating_add(size(&unit.payload));
                second.pictures += 1;
                run.video = true;
                second.skipped += run.picture(unit);
                second.gop = run.gop;
            }
        }
        let delay = arrival - unit.dts;
        let floor = run.floor.map_or(delay, |floor| floor.min(delay));
        run.floor = Some(floor);
        second.late = second.late.max(delay - floor);
    }

    /// The figures at `now`.
    pub fn snapshot(&self, now: Instant, delivered: (u64, u64)) -> Snapshot {
        let number = self.number(now);
        let first = number.saturating_sub(SHOWN);
        let history: Vec<Second> = (first..number)
            .map(|at| self.second(at, delivered))
            .collect();
        let run_seconds = number.saturating_sub(self.run.began).min(SHOWN) as usize;
        // The run's first second is not a whole one.
        let recent = run_seconds.saturating_sub(1).min(RECENT);
        let recent = &history[history.len() - recent..];
        let mean = |read: fn(&Second) -> u32| match recent.len() {
            0 => 0.0,
            count => {
                recent
                    .iter()
                    .map(|second| f64::from(read(second)))
                    .sum::<f64>()
                    / count as f64
            }
        };
        let (pieces, micros) = recent.iter().fold((0, 0), |sum, second| {
            (sum.0 + second.delivered.0, sum.1 + second.delivered.1)
        });
        let run = &self.run;
        let known = |length: Ticks| (length > Ticks::ZERO).then(|| length.as_duration());
        let growing = match (run.last_key, run.last_picture) {
            (Some(key), Some(last)) => last - key,
            _ => Ticks::ZERO,
        };
        let groups = history[history.len() - run_seconds..]
            .iter()
            .map(|second| second.gop);
        let longest = groups.fold(run.gop.max(growing), Ticks::max);
        Snapshot {
            run_seconds,
            bit_rates: (
                8.0 * mean(|second| second.video_bytes),
                8.0 * mean(|second| second.audio_bytes),
            ),
            frame_rate: mean(|second| second.pictures),
            gop: known(run.gop),
            gop_pictures: run.gop_pictures,
            longest_gop: known(longest),
            reordered: run.reordered,
            delivery: (pieces > 0).then(|| Duration::from_micros(micros / pieces)),
            late: recent
                .iter()
                .map(|second| second.late.as_duration())
                .max()
                .unwrap_or_default(),
            audio: run.audio,
            video: run.video,
            history,
        }
    }

    fn number(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.origin).as_secs()
    }

    fn second(&self, number: u64, delivered: (u64, u64)) -> Second {
        let slot = |number: u64| {
            let slot = &self.seconds[number as usize % KEPT];
            (slot.number == number).then_some(slot)
        };
        let Some(found) = slot(number) else {
            return Second::default();
        };
        let after = match slot(number + 1) {
            Some(next) => next.delivered_before,
            None if number == self.current => delivered,
            // Nothing came for a while; what was delivered belongs to no second in particular.
            None => found.delivered_before,
        };
        Second {
            delivered: (
                after.0.saturating_sub(found.delivered_before.0),
                after.1.saturating_sub(found.delivered_before.1),
            ),
            ..found.second
        }
    }
}

impl Run {
    /// Notes a picture. Returns how many seem to have been left out before it.
    fn picture(&mut self, unit: &AccessUnit) -> u32 {
        let step = self.last_picture.map(|last| unit.dts - last);
        self.last_picture = Some(unit.dts);
        if unit.key {
            if let Some(key) = self.last_key {
                self.gop = unit.dts - key;
                self.gop_pictures = self.pictures_since_key;
            }
            self.last_key = Some(unit.dts);
            self.pictures_since_key = 0;
        }
        self.pictures_since_key += 1;
        // Shown before one that came earlier. Negative composition times, once repaired, look the same only for one picture.
        if self.front.is_some_and(|front| unit.pts < front) {
            self.reordered = true;
        }
        self.front = self.front.max(Some(unit.pts));
        let Some(step) = step.map(Ticks::get).filter(|&step| step > 0) else {
            return 0;
        };
        if self.interval == 0 {
            self.interval = step * 16;
            return 0;
        }
        let usual = (self.interval / 16).max(1);
        self.interval += step.min(2 * usual) - usual;
        if step * 4 <= usual * 7 {
            return 0;
        }
        let left_out = (step + usual / 2) / usual - 1;
        left_out.clamp(0, MOST_SKIPPED) as u32
    }
}

fn size(payload: &Payload) -> u32 {
    let bytes = match payload {
        Payload::H264(units) => units.len(),
        Payload::Aac(bytes) | Payload::Mp3(bytes) => bytes.len(),
    };
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Seconds that a snapshot shows.
const SHOWN: u64 = 60;
/// Slots of the ring: those shown, and the one that is being filled; a power of two makes the place cheap to find.
const KEPT: usize = 64;
/// Seconds that rates of the moment are averaged over.
const RECENT: usize = 5;
/// What the least delay is raised by each second. Clocks drift less than a millisecond a second.
const DRIFT: Ticks = Ticks::from_millis(1);
/// A longer gap is a pause, not pictures left out one by one.
const MOST_SKIPPED: i64 = 30;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::codec::h264::NalUnits;

    /// Feeds a stream of 25 pictures a second, a key frame each second, all of `size` bytes.
    struct Feeder {
        health: Health,
        origin: Instant,
        picture: i64,
    }

    impl Feeder {
        fn new() -> Self {
            let origin = Instant::now();
            let mut health = Health::new(origin);
            health.begin_run(origin);
            Self {
                health,
                origin,
                picture: 0,
            }
        }

        fn at(&self, millis: i64) -> Instant {
            self.origin + Duration::from_millis(millis as u64)
        }

        /// `late` in milliseconds; `composition` too.
        fn picture(&mut self, size: usize, composition: i64, late: i64) {
            let millis = self.picture * 40;
            let dts = Ticks::from_millis(millis);
            let unit = AccessUnit {
                track: Track::Video,
                dts,
                pts: dts + Ticks::from_millis(composition),
                key: self.picture % 25 == 0,
                payload: Payload::H264(NalUnits::length_prefixed(vec![0; size].into(), 4)),
            };
            let now = self.at(millis + late);
            self.health.tick(now, || (0, 0));
            self.health.note(&unit, Ticks::from_millis(millis + late));
            self.picture += 1;
        }

        fn sound(&mut self, size: usize) {
            let unit = AccessUnit {
                track: Track::Audio,
                dts: Ticks::ZERO,
                pts: Ticks::ZERO,
                key: true,
                payload: Payload::Aac(Bytes::from(vec![0; size])),
            };
            self.health.note(&unit, Ticks::ZERO);
        }

        fn snapshot(&self) -> Snapshot {
            self.health.snapshot(self.at(self.picture * 40), (0, 0))
        }
    }

    #[test]
    fn an_even_stream_has_even_figures() {
        let mut feeder = Feeder::new();
        for _ in 0..10 * 25 {
            feeder.picture(1000, 80, 0);
        }
        feeder.sound(500);
        let snapshot = feeder.snapshot();
        assert_eq!(snapshot.history.len(), 10);
        assert_eq!(snapshot.bit_rates, (200_000.0, 800.0));
        assert_eq!(snapshot.frame_rate, 25.0);
        assert_eq!(snapshot.gop, Some(Duration::from_secs(1)));
        assert_eq!((snapshot.gop_pictures, snapshot.reordered), (25, false));
        assert_eq!(snapshot.late, Duration::ZERO);
        assert!(snapshot.history.iter().all(|second| second.skipped == 0));
    }

    #[test]
    fn pictures_shown_before_earlier_ones_are_b_frames() {
        let mut feeder = Feeder::new();
        for composition in [80, 80, 0, 80] {
            feeder.picture(1000, composition, 0);
        }
        assert!(feeder.snapshot().reordered);
    }

    #[test]
    fn a_stuck_upload_shows_in_what_comes_late() {
        let mut feeder = Feeder::new();
        for picture in 0..4 * 25 {
            feeder.picture(1000, 0, if picture == 60 { 300 } else { 20 });
        }
        let late = feeder.snapshot().late;
        assert!((270..=280).contains(&late.as_millis()), "{late:?}");
    }

    #[test]
    fn gaps_are_pictures_left_out() {
        let mut feeder = Feeder::new();
        for _ in 0..25 {
            feeder.picture(1000, 0, 0);
        }
        feeder.picture += 2;
        for _ in 0..25 {
            feeder.picture(1000, 0, 0);
        }
        let skipped: u32 = feeder
            .snapshot()
            .history
            .iter()
            .map(|second| second.skipped)
            .sum();
        assert_eq!(skipped, 2);
    }

    #[test]
    fn silence_is_seconds_of_nothing() {
        let mut feeder = Feeder::new();
        for _ in 0..3 * 25 {
            feeder.picture(1000, 0, 0);
        }
        let snapshot = feeder.health.snapshot(feeder.at(8_000), (0, 0));
        assert_eq!(snapshot.history.len(), 8);
        assert_eq!(snapshot.history[5], Second::default());
        assert_eq!(snapshot.frame_rate, 0.0);
        // Long after, nothing of it is taken for something new.
        let snapshot = feeder.health.snapshot(feeder.at(500_000), (0, 0));
        assert_eq!(snapshot.history, vec![Second::default(); 60]);
    }

    #[test]
    fn a_group_that_does_not_end_counts() {
        let mut feeder = Feeder::new();
        for picture in 0..5 * 25 {
            feeder.picture = picture;
            // After the first one, there are no more key frames.
            let dts = Ticks::from_millis(picture * 40);
            let unit = AccessUnit {
                track: Track::Video,
                dts,
                pts: dts,
                key: picture == 0,
                payload: Payload::H264(NalUnits::length_prefixed(Bytes::new(), 4)),
            };
            feeder.health.tick(feeder.at(picture * 40), || (0, 0));
            feeder.health.note(&unit, dts);
        }
        let snapshot = feeder.snapshot();
        assert_eq!(snapshot.gop, None);
        assert_eq!(snapshot.longest_gop, Some(Duration::from_millis(4960)));
    }

    #[test]
    fn deliveries_belong_to_the_second_they_fall_into() {
        let mut feeder = Feeder::new();
        for (second, total) in [(0, (0, 0)), (1, (10, 1000)), (2, (30, 5000))] {
            feeder.health.tick(feeder.at(second * 1000), || total);
        }
        let history = feeder.health.snapshot(feeder.at(3000), (31, 5100)).history;
        let delivered: Vec<_> = history.iter().map(|second| second.delivered).collect();
        assert_eq!(delivered, [(10, 1000), (20, 4000), (1, 100)]);
    }
}
