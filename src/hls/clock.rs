//! What the packager knows of time: which wall-clock time the media has, and how far apart pictures are.

use std::time::{Duration, SystemTime};

use crate::media::{AccessUnit, Track};
use crate::time::{Rhythm, Ticks};

/// Which wall-clock time a time of the media belongs to.
///
/// An access unit can arrive late but never early, so the earliest say when the media was made: an early one sets the clock at once, a
/// late one only pulls at it gently, so that a publisher's clock that runs slow is followed. A stalled uplink that then delivers in a
/// burst leaves PROGRAM-DATE-TIME alone; only if everything has come late for a while has the publisher or the wall clock jumped.
#[derive(Debug, Default)]
pub(super) struct DateClock {
    /// Microseconds since 1970 of media time 0.
    origin: Option<i64>,
    /// Since when, in microseconds since 1970, everything has been later than [`DATE_STEP`], and by how much at least.
    late: Option<(i64, i64)>,
}

impl DateClock {
    pub(super) fn note(&mut self, pts: Ticks, wall: SystemTime, restart: bool) {
        let wall = wall
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_micros() as i64;
        let seen = wall - pts.get() * 100 / 9;
        let Some(origin) = self.origin.filter(|_| !restart) else {
            (self.origin, self.late) = (Some(seen), None);
            return;
        };
        let lateness = seen - origin;
        let correction = if lateness <= DATE_STEP {
            self.late = None;
            if lateness < 0 {
                lateness
            } else {
                (lateness / 256).min(DATE_SLEW)
            }
        } else {
            let (since, least) = self.late.unwrap_or((wall, lateness));
            let least = least.min(lateness);
            self.late = Some((since, least));
            if wall - since > DATE_PATIENCE {
                self.late = None;
                least
            } else {
                0
            }
        };
        self.origin = Some(origin + correction);
    }

    pub(super) fn date(&self, pts: Ticks) -> SystemTime {
        let micros = self.origin.unwrap_or(0) + pts.get() * 100 / 9;
        SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }
}

/// How far apart pictures (or, without video, audio frames) are and where the last one ends.
#[derive(Debug)]
pub(super) struct PictureClock {
    pub(super) last_dts: Option<Ticks>,
    /// Usual distance of access units.
    pub(super) interval: Ticks,
    rhythm: Rhythm,
    /// Time for which pictures are missing in the group that is being received: what their distances are longer than usual.
    pub(super) missing: Ticks,
    /// Presentation end of what has been seen.
    pub(super) end: Ticks,
    /// `end` as it was before the last access unit.
    pub(super) end_before_gap: Ticks,
    /// Access units and their time since the last key frame, and in the group before it.
    group: (u32, Ticks),
    last_group: Option<(u32, Ticks)>,
    /// How many groups in a row have been like the last one.
    alike: u32,
    group_start: Ticks,
}

impl PictureClock {
    /// Notes an access unit.
    pub(super) fn note(&mut self, unit: &AccessUnit, audio_frame: Ticks) {
        // Pictures may join behind the time that sound alone has reached: that is no distance.
        let step = self.last_dts.map(|last| unit.dts - last);
        let step = step.filter(|&step| step > Ticks::ZERO);
        let gap = step
            .is_some_and(|step| step > GAP && step > self.interval + self.interval + self.interval);
        if unit.key {
            self.missing = Ticks::ZERO;
        }
        if unit.track == Track::Audio {
            self.interval = audio_frame;
        } else if let Some(step) = step.filter(|_| !gap) {
            if !unit.key && step > self.interval + self.interval {
                self.missing += step - self.interval;
            }
            self.rhythm.note(step);
            self.interval = self.rhythm.usual().unwrap_or(step);
        }
        self.last_dts = Some(unit.dts);
        self.end_before_gap = self.end;
        self.end = if self.end == Ticks::ZERO {
            unit.pts
        } else {
            self.end
        }
        .max(unit.pts + self.interval);
        if unit.key {
            if self.group.0 > 0 {
                let group = (self.group.0, unit.pts - self.group_start);
                let alike = self
                    .last_group
                    .is_some_and(|last| last.0 == group.0 && are_equal(last.1, group.1));
                self.alike = if alike { self.alike + 1 } else { 0 };
                self.last_group = Some(group);
            }
            self.group_start = unit.pts;
            self.group.0 = 0;
        }
        self.group.0 += 1;
    }

    /// A new run starts at `pts`; the time before it tells nothing about the encoder.
    pub(super) fn resume(&mut self, pts: Ticks) {
        self.group = (0, Ticks::ZERO);
        self.group_start = pts;
        self.alike = 0;
    }

    /// Where the picture that is presented last begins and ends.
    pub(super) fn latest(&self) -> (Ticks, Ticks) {
        (self.end - self.interval, self.end)
    }

    /// Presentation time of the next picture, if that can only be a key frame: the encoder has made groups of so many pictures and this
    /// length all along.
    pub(super) fn foretold_key(&self) -> Option<Ticks> {
        let (pictures, length) = self.last_group.filter(|_| self.alike >= ALIKE)?;
        let expected = self.group_start + length;
        (self.group.0 == pictures && are_equal(expected, self.end)).then_some(expected)
    }

    /// Pictures a second, as measured over the last group of pictures, put right to the standard rate it must be.
    pub(super) fn frame_rate(&self) -> Option<f64> {
        let (pictures, time) = self.last_group.filter(|&(_, time)| time > Ticks::ZERO)?;
        let measured = f64::from(pictures) / time.as_seconds_f64();
        let standard = STANDARD_RATES
            .iter()
            .min_by(|a, b| (*a - measured).abs().total_cmp(&(*b - measured).abs()))?;
        Some(if (standard - measured).abs() / measured < 0.0015 {
            *standard
        } else {
            measured
        })
    }
}

/// Whether times are the same but for the publisher's rounding.
fn are_equal(a: Ticks, b: Ticks) -> bool {
    (a - b).get().abs() <= ROUNDING.get()
}

impl Default for PictureClock {
    fn default() -> Self {
        Self {
            last_dts: None,
            interval: Ticks::from_millis(33),
            rhythm: Rhythm::default(),
            missing: Ticks::ZERO,
            end: Ticks::ZERO,
            end_before_gap: Ticks::ZERO,
            group: (0, Ticks::ZERO),
            last_group: None,
            alike: 0,
            group_start: Ticks::ZERO,
        }
    }
}

const STANDARD_RATES: [f64; 12] = [
    10.0,
    12.5,
    15.0,
    24_000.0 / 1001.0,
    24.0,
    25.0,
    30_000.0 / 1001.0,
    30.0,
    50.0,
    60_000.0 / 1001.0,
    60.0,
    120.0,
];
/// Groups of pictures that have to be alike until the end of the next is foretold.
const ALIKE: u32 = 4;
/// Publishers' times are whole milliseconds, and distances of pictures are averages of those.
const ROUNDING: Ticks = Ticks::from_millis(3);
/// A hole in the media that is longer than this is not just a slow source.
const GAP: Ticks = Ticks::from_millis(1000);
/// Microseconds off beyond which the wall clock or the publisher has really jumped.
const DATE_STEP: i64 = 1_000_000;
/// Microseconds of correction per access unit.
const DATE_SLEW: i64 = 100;
/// Microseconds for which all has to be late before that is the new normal: longer than a connection takes to work off a stall.
const DATE_PATIENCE: i64 = 5_000_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::media::Payload;

    /// Notes an access unit made at `made` ms that arrives at `arrives` ms.
    fn note(clock: &mut DateClock, made: u64, arrives: u64) {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000 + arrives);
        clock.note(Ticks::from_millis(made as i64), wall, false);
    }

    /// How many ms the date of an access unit is after the moment at which it was made.
    fn error(clock: &DateClock, made: u64) -> i64 {
        let date = clock.date(Ticks::from_millis(made as i64));
        let date = date.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        date.as_millis() as i64 - (1_000_000 + made) as i64
    }

    /// Found by fuzzing: their distance from the sound counted, and the next run started that much in the past.
    #[test]
    fn pictures_that_join_sound_behind_its_time_have_no_negative_distance() {
        let mut clock = PictureClock::default();
        for (track, ms) in [
            (Track::Audio, 3000),
            (Track::Video, 2000),
            (Track::Video, 2040),
        ] {
            let dts = Ticks::from_millis(ms);
            let unit = AccessUnit {
                track,
                dts,
                pts: dts,
                key: true,
                payload: Payload::Aac(bytes::Bytes::new()),
            };
            clock.note(&unit, Ticks::from_millis(21));
            assert!(clock.interval > Ticks::ZERO, "{:?}", clock.interval);
        }
        assert_eq!(clock.interval, Ticks::from_millis(40));
    }

    #[test]
    fn a_stall_and_the_burst_after_it_leave_the_date_alone() {
        for stall in [500, 2000, 4000] {
            let mut clock = DateClock::default();
            for made in (0..30_000).step_by(20) {
                // Nothing arrives for a while from second 10 on, then all of it at once.
                let held = (10_000..10_000 + stall).contains(&made);
                note(&mut clock, made, if held { 10_000 + stall } else { made });
                assert!(error(&clock, made).abs() <= 20, "stall {stall}, at {made}");
            }
        }
    }

    #[test]
    fn a_late_start_is_put_right_at_once() {
        let mut clock = DateClock::default();
        note(&mut clock, 0, 150);
        assert_eq!(error(&clock, 0), 150);
        note(&mut clock, 20, 20);
        assert_eq!(error(&clock, 20), 0);
    }

    #[test]
    fn a_lasting_jump_is_followed() {
        let mut clock = DateClock::default();
        for made in (0..20_000).step_by(20) {
            note(
                &mut clock,
                made,
                if made < 10_000 { made } else { made + 3000 },
            );
        }
        assert!((error(&clock, 20_000) - 3000).abs() <= 1);
        note(&mut clock, 20_000, 20_000 - 5000);
        assert_eq!(error(&clock, 20_000), -5000);
    }

    #[test]
    fn a_slow_publisher_is_followed() {
        // 47 990 Hz for 48 000: 0.2 ms a second.
        let mut clock = DateClock::default();
        for made in (0..600_000).step_by(20) {
            note(&mut clock, made, made + made * 10 / 47_990);
        }
        let drift = 600_000 * 10 / 47_990;
        assert!((error(&clock, 600_000) - drift).abs() <= 5);
    }
}
