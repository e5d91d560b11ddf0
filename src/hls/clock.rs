//! What the packager knows of time: which wall-clock time the media has, and how far apart pictures are.

use std::time::{Duration, SystemTime};

use crate::media::{AccessUnit, Track};
use crate::time::Ticks;

/// Which wall-clock time a time of the media belongs to.
///
/// The first access unit sets it; later ones correct it slowly, so that jitter on the network does not shake PROGRAM-DATE-TIME while
/// a publisher's clock that runs too fast or too slow is followed.
#[derive(Debug, Default)]
pub(super) struct DateClock {
    /// Microseconds since 1970 of media time 0.
    origin: Option<i64>,
}

impl DateClock {
    pub(super) fn note(&mut self, pts: Ticks, wall: SystemTime, restart: bool) {
        let wall = wall
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_micros() as i64;
        let seen = wall - pts.get() * 100 / 9;
        self.origin = Some(match self.origin {
            Some(origin) if !restart && (seen - origin).abs() < DATE_STEP => {
                origin + ((seen - origin) / 256).clamp(-DATE_SLEW, DATE_SLEW)
            }
            _ => seen,
        });
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
    /// Distance of the last two access units.
    pub(super) interval: Ticks,
    /// Presentation end of what has been seen.
    pub(super) end: Ticks,
    /// `end` as it was before the last access unit.
    pub(super) end_before_gap: Ticks,
    /// Access units and their time since the last key frame, and in the group before it.
    group: (u32, Ticks),
    last_group: Option<(u32, Ticks)>,
    group_start: Ticks,
}

impl PictureClock {
    /// Notes an access unit. True if media is missing in front of it.
    pub(super) fn note(&mut self, unit: &AccessUnit, audio_frame: Ticks) -> bool {
        let step = self.last_dts.map(|last| unit.dts - last);
        let gap = step
            .is_some_and(|step| step > GAP && step > self.interval + self.interval + self.interval);
        if unit.track == Track::Audio {
            self.interval = audio_frame;
        } else if let Some(step) = step.filter(|_| !gap) {
            self.interval = step;
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
                self.last_group = Some((self.group.0, unit.pts - self.group_start));
            }
            self.group_start = unit.pts;
            self.group.0 = 0;
        }
        self.group.0 += 1;
        gap
    }

    /// A new run starts at `pts`; the time before it tells nothing about the encoder.
    pub(super) fn resume(&mut self, pts: Ticks) {
        self.group = (0, Ticks::ZERO);
        self.group_start = pts;
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

impl Default for PictureClock {
    fn default() -> Self {
        Self {
            last_dts: None,
            interval: Ticks::from_millis(33),
            end: Ticks::ZERO,
            end_before_gap: Ticks::ZERO,
            group: (0, Ticks::ZERO),
            last_group: None,
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
/// A hole in the media that is longer than this is not just a slow source.
const GAP: Ticks = Ticks::from_millis(1000);
/// Microseconds off beyond which the wall clock or the publisher has really jumped.
const DATE_STEP: i64 = 1_000_000;
/// Microseconds of correction per access unit.
const DATE_SLEW: i64 = 100;
