//! 90 kHz time: wrap, rebase and repair. The only file that does wrap arithmetic.

use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::time::Duration;

/// A time, or a difference of times, in ticks of the 90 kHz MPEG clock; unwrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ticks(i64);

impl Ticks {
    /// Ticks in a second.
    pub const PER_SECOND: i64 = 90_000;
    /// No time.
    pub const ZERO: Self = Self(0);

    /// So many ticks.
    pub const fn new(ticks: i64) -> Self {
        Self(ticks)
    }

    /// So many milliseconds, exactly (a millisecond is 90 ticks).
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(90))
    }

    /// A duration, rounded down to a tick.
    pub fn from_duration(duration: Duration) -> Self {
        Self(i64::try_from(duration.as_nanos() * 9 / 100_000).unwrap_or(i64::MAX))
    }

    /// The number of ticks.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// In seconds.
    pub fn as_seconds_f64(self) -> f64 {
        self.0 as f64 / Self::PER_SECOND as f64
    }

    /// As a duration, rounded down to a nanosecond; zero when negative.
    pub fn as_duration(self) -> Duration {
        let ticks = u64::try_from(self.0).unwrap_or(0);
        let (seconds, rest) = (ticks / 90_000, ticks % 90_000);
        Duration::new(seconds, (rest * 100_000 / 9) as u32)
    }

    /// The 33 bits that PTS, DTS and PCR base hold (ISO/IEC 13818-1 2.4.3.7), which wrap every 26.5 hours.
    pub const fn to_pts33(self) -> u64 {
        self.0 as u64 & 0x1_ffff_ffff
    }
}

impl Add for Ticks {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Ticks {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Neg for Ticks {
    type Output = Self;
    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl AddAssign for Ticks {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Ticks {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

/// Where an access unit lies on the stream's timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Decoding time; rises strictly within a track.
    pub dts: Ticks,
    /// Presentation time, never before `dts`.
    pub pts: Ticks,
}

/// How often a publisher's times had to be repaired, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Repairs {
    /// Times that jumped ahead while the clock on the wall did not.
    pub jumps_ahead: u64,
    /// Times that jumped back.
    pub jumps_back: u64,
    /// Times that stood still, so that arrival times were taken.
    pub stalled: u64,
    /// Decoding times that did not rise and were lifted.
    pub not_rising: u64,
    /// Tracks on different bases, moved together.
    pub skew: u64,
    /// Presentation before decoding: the decoding times were moved back.
    pub negative_composition: u64,
}

/// A run's raw RTMP times in, the stream's own timeline out.
#[derive(Debug)]
pub struct Timeline {
    start: Ticks,
    base: Option<u32>,
    video_last: Option<Ticks>,
    audio_last: Option<Ticks>,
    repairs: Repairs,
}

impl Timeline {
    /// A timeline whose first access unit is decoded at `start`.
    pub fn new(start: Ticks) -> Self {
        Self {
            start,
            base: None,
            video_last: None,
            audio_last: None,
            repairs: Repairs::default(),
        }
    }

    /// Places a video access unit: RTMP timestamp and composition time in ms, time of arrival since any fixed origin.
    pub fn video(&mut self, timestamp: u32, composition: i32, _arrival: Duration) -> Stamp {
        let base = *self.base.get_or_insert(timestamp);
        let mut dts = self.start + Ticks::from_millis((timestamp.wrapping_sub(base) as i32).into());
        if let Some(last) = self.video_last {
            dts = dts.max(last + Ticks::new(1));
        }
        self.video_last = Some(dts);
        Stamp {
            dts,
            pts: dts + Ticks::from_millis(composition.max(0).into()),
        }
    }

    /// Places an audio frame of `samples` at `sample_rate` Hz.
    pub fn audio(
        &mut self,
        timestamp: u32,
        _samples: u32,
        _sample_rate: u32,
        _arrival: Duration,
    ) -> Stamp {
        let base = *self.base.get_or_insert(timestamp);
        let mut dts = self.start + Ticks::from_millis((timestamp.wrapping_sub(base) as i32).into());
        if let Some(last) = self.audio_last {
            dts = dts.max(last + Ticks::new(1));
        }
        self.audio_last = Some(dts);
        Stamp { dts, pts: dts }
    }

    /// What was repaired so far.
    pub fn repairs(&self) -> &Repairs {
        &self.repairs
    }
}
