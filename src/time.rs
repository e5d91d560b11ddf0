//! 90 kHz time: wrap, rebase and repair. The only file that does wrap arithmetic.
//!
//! RTMP timestamps are milliseconds in 32 bits (Adobe's RTMP specification 5.3.1), set by encoders of every quality;
//! MPEG-TS wants 90 kHz in 33 bits (ISO/IEC 13818-1 2.4.3.6) that never go wrong. [`Timeline`] takes the first and gives
//! the second. Each track's time is unwrapped and gets an offset; a repair changes an offset, never a single unit:
//!
//! ```text
//! RTMP ms ──unwrap 24, 31, 32 bits──► ms, 64 bits ──× 90 + offset──► position ──plausible?──► strictly rising dts
//!                                                     ▲                           │ no
//!                                                     └──── the other track's ◄───┘
//!                                                           offset, or one that continues where the track was
//! ```
//!
//! What is plausible is judged against the arrival times and the other track, step by step, never against a clock of
//! its own: pushing a file faster than real time, a picture every ten seconds, a pause that shows in the times, and a
//! clock that runs a little fast are all legal and left alone.
//!
//! Audio positions are counted in samples from an anchor, because players click when frames do not lie exactly end to
//! end, and milliseconds cannot say where they lie; the publisher's times only correct the anchor.
//!
//! Nothing here reads a clock, and nothing decides about wall-clock time.

use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::time::Duration;

use crate::media::Track;

mod rhythm;

pub use self::rhythm::Rhythm;

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

    /// The time nearest to `self` that has these 33 bits: the way back from [`Ticks::to_pts33`].
    pub const fn nearest_pts33(self, bits: u64) -> Self {
        const WRAP: i64 = 1 << 33;
        let ahead = (bits as i64).wrapping_sub(self.0) & (WRAP - 1);
        let step = if ahead < WRAP / 2 {
            ahead
        } else {
            ahead - WRAP
        };
        Self(self.0.saturating_add(step))
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
    /// Times that jumped ahead although no such time had passed; put right after the unit before.
    pub jumps_ahead: u64,
    /// Times that jumped back; put right after the unit before.
    pub jumps_back: u64,
    /// Times that began to stand still, so that arrival times (or samples counted) took their place.
    pub stalled: u64,
    /// Single decoding times that did not rise and were lifted to just after the one before.
    pub not_rising: u64,
    /// Tracks whose times were too far from the other track's, and were put where they arrived.
    pub skew: u64,
    /// Composition times that put presentation before decoding, so that all later decoding times moved back.
    pub negative_composition: u64,
    /// Holes in the audio, or overlaps, of more than 100 ms; the samples are counted from a new anchor.
    pub audio_gaps: u64,
}

impl Repairs {
    /// All kinds together.
    pub fn total(&self) -> u64 {
        self.jumps_ahead
            + self.jumps_back
            + self.stalled
            + self.not_rising
            + self.skew
            + self.negative_composition
            + self.audio_gaps
    }
}

/// A run's raw RTMP times in, the stream's own timeline out.
///
/// Whatever goes in: decoding times of a track rise strictly and are never before the start, presentation is never
/// before decoding, and no unit lands more than 3 seconds behind the other track's latest (video decoding times one
/// second more, where negative composition times moved them back); nor more than 3 seconds ahead of where the other track
/// should be by now, by a step that exceeds the arrival times by more than 250 ms. How far apart well-behaved tracks lie
/// is not touched.
#[derive(Debug)]
pub struct Timeline {
    start: Ticks,
    video: Option<Clock>,
    audio: Option<Audio>,
    /// Offset of the audio minus offset of the video, as found when the second of them appeared. When both jump
    /// together, keeping it keeps lips and voice together.
    relation: Ticks,
    /// How far video decoding times are moved back, to leave room for negative composition times.
    shift: Ticks,
    video_floor: Ticks,
    audio_floor: Ticks,
    repairs: Repairs,
}

impl Timeline {
    /// A timeline whose first access unit is decoded at `start`, and none earlier.
    pub fn new(start: Ticks) -> Self {
        Self {
            start,
            video: None,
            audio: None,
            relation: Ticks::ZERO,
            shift: Ticks::ZERO,
            video_floor: start,
            audio_floor: start,
            repairs: Repairs::default(),
        }
    }

    /// Places a video access unit.
    ///
    /// `timestamp` and `composition` are in ms as FLV has them, `arrival` counts from any fixed origin.
    pub fn video(&mut self, timestamp: u32, composition: i32, arrival: Duration) -> Stamp {
        let arrival = Ticks::from_duration(arrival);
        let position = self.place_video(timestamp, arrival);
        let composition = i64::from(composition).clamp(-MAX_SHIFT_MS, MAX_COMPOSITION_MS);
        let composition = Ticks::from_millis(composition);
        if -composition > self.shift {
            self.shift = -composition;
            self.repairs.negative_composition += 1;
        }
        let dts = self.rise(position - self.shift, self.video_floor);
        self.video_floor = dts + ONE_TICK;
        Stamp {
            dts,
            pts: dts.max(position + composition),
        }
    }

    /// Places an audio frame of `samples` at `sample_rate` Hz.
    ///
    /// `timestamp` is in ms as FLV has it, `arrival` counts from any fixed origin.
    pub fn audio(
        &mut self,
        timestamp: u32,
        samples: u32,
        sample_rate: u32,
        arrival: Duration,
    ) -> Stamp {
        let arrival = Ticks::from_duration(arrival);
        let length = Samples::new(samples, sample_rate);
        let position = self.place_audio(timestamp, length, arrival);
        let dts = self.rise(position, self.audio_floor);
        self.audio_floor = dts + ONE_TICK;
        Stamp { dts, pts: dts }
    }

    /// What was repaired so far.
    pub fn repairs(&self) -> &Repairs {
        &self.repairs
    }

    fn rise(&mut self, position: Ticks, floor: Ticks) -> Ticks {
        // Before the start is no fault of the publisher's: the other track simply came first.
        if position < floor && position >= self.start {
            self.repairs.not_rising += 1;
        }
        position.max(floor)
    }

    fn place_video(&mut self, timestamp: u32, arrival: Ticks) -> Ticks {
        let other = self.audio.as_ref().map(|audio| audio.clock);
        let Some(mut clock) = self.video else {
            let clock = self.first(timestamp, arrival, other);
            if let Some(other) = other {
                self.relation = other.offset - clock.offset;
            }
            self.video = Some(clock);
            return clock.front;
        };
        let step = clock.unwrap(timestamp, arrival);
        let mut position = clock.position();
        if let Some(fault) = clock.fault(position, other, arrival) {
            self.count(fault);
            position = self.realign(Track::Video, &mut clock, other, arrival);
        } else if step > 0 {
            // Going back and forth is no progress.
            clock.repeats = if position > clock.front {
                0
            } else {
                clock.repeats
            };
        } else {
            clock.repeats += 1;
            if clock.repeats >= STALLED {
                self.repairs.stalled += u64::from(clock.repeats == STALLED);
                position = clock.front + (arrival - clock.front_at);
                clock.move_to(position);
            }
        }
        if let Some(moved) = self.catch_up(&mut clock, position, other, arrival) {
            position = moved;
        }
        clock.advance(position, arrival);
        self.video = Some(clock);
        position
    }

    fn place_audio(&mut self, timestamp: u32, length: Samples, arrival: Ticks) -> Ticks {
        let other = self.video;
        let Some(Audio {
            mut clock,
            mut counter,
        }) = self.audio.take()
        else {
            let clock = self.first(timestamp, arrival, other);
            if let Some(other) = other {
                self.relation = clock.offset - other.offset;
            }
            let mut counter = Counter::new(clock.front, length.rate);
            counter.count(length);
            self.audio = Some(Audio { clock, counter });
            return clock.front;
        };
        let step = clock.unwrap(timestamp, arrival);
        let next = counter.position(length.rate);
        let claimed = clock.position();
        let mut position = next;
        if step == 0 {
            clock.repeats += 1;
            if clock.repeats >= STALLED {
                self.repairs.stalled += u64::from(clock.repeats == STALLED);
                clock.move_to(next);
            }
        } else if (claimed - next).is_within(AUDIO_GAP) {
            clock.repeats = 0;
            counter.follow(claimed - next);
        } else {
            clock.repeats = 0;
            position = match clock.fault(claimed, other, arrival) {
                Some(fault) => {
                    self.count(fault);
                    self.realign(Track::Audio, &mut clock, other, arrival)
                }
                None => {
                    self.repairs.audio_gaps += 1;
                    claimed
                }
            };
            if (position - next).is_within(AUDIO_GAP) {
                position = next;
            }
        }
        if let Some(moved) = self.catch_up(&mut clock, position, other, arrival) {
            position = moved;
        }
        if position != next {
            counter = Counter::new(position, length.rate);
        }
        counter.count(length);
        clock.advance(position, arrival);
        clock.step = length.ticks();
        self.audio = Some(Audio { clock, counter });
        position
    }

    /// The clock of a track at its first unit: on the other track's base, when that is anywhere near its arrival.
    fn first(&mut self, timestamp: u32, arrival: Ticks, other: Option<Clock>) -> Clock {
        let Some(other) = other else {
            let mut clock = Clock {
                raw: timestamp,
                unwrapped: timestamp.into(),
                offset: Ticks::ZERO,
                front: self.start,
                front_at: arrival,
                step: FIRST_STEP,
                repeats: 0,
            };
            clock.move_to(self.start);
            return clock;
        };
        let mut clock = Clock {
            step: FIRST_STEP,
            repeats: 0,
            ..other
        };
        clock.unwrap(timestamp, arrival);
        let expected = other.expected_now(arrival);
        if !(clock.position() - expected).is_within(MAX_SKEW) {
            self.repairs.skew += 1;
            clock.move_to(expected);
        }
        clock.front = clock.position();
        clock.front_at = arrival;
        clock
    }

    /// After a jump: gives the track the offset that the other track has got since, if that continues it, and else one
    /// of its own.
    fn realign(
        &mut self,
        track: Track,
        clock: &mut Clock,
        other: Option<Clock>,
        arrival: Ticks,
    ) -> Ticks {
        let expected = clock.expected_next(arrival);
        if let Some(other) = other {
            let relation = if track == Track::Audio {
                self.relation
            } else {
                -self.relation
            };
            let offset = other.offset + relation;
            let shared = clock.position() - clock.offset + offset;
            let plausible = clock.front - MAX_STEP_BACK..=expected + MAX_STEP_BACK;
            if plausible.contains(&shared) {
                clock.offset = offset;
                return shared;
            }
            // The other track never followed an earlier jump, so what there is now is how they belong together.
            let now = clock.offset - other.offset;
            self.relation = if track == Track::Audio { now } else { -now };
        }
        clock.move_to(expected);
        expected
    }

    /// Lets a track that has fallen behind the other one by more than the skew allowed join it again.
    fn catch_up(
        &mut self,
        clock: &mut Clock,
        position: Ticks,
        other: Option<Clock>,
        arrival: Ticks,
    ) -> Option<Ticks> {
        let other = other.filter(|other| position < other.front - MAX_SKEW)?;
        self.repairs.skew += 1;
        let expected = other.expected_now(arrival);
        clock.move_to(expected);
        Some(expected)
    }

    fn count(&mut self, fault: Fault) {
        match fault {
            Fault::Ahead => self.repairs.jumps_ahead += 1,
            Fault::Back => self.repairs.jumps_back += 1,
        }
    }
}

/// How a jump goes.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Ahead,
    Back,
}

/// The times of one track.
#[derive(Debug, Clone, Copy)]
struct Clock {
    /// Last timestamp as it came.
    raw: u32,
    /// The same in ms, unwrapped.
    unwrapped: i64,
    /// What makes a position out of the unwrapped time.
    offset: Ticks,
    /// Latest position.
    front: Ticks,
    /// When the unit at the latest position arrived.
    front_at: Ticks,
    /// Last step ahead.
    step: Ticks,
    /// How often in a row the time did not rise.
    repeats: u32,
}

impl Clock {
    /// Takes the next timestamp; returns the step from the one before in ms, negative if it went back.
    fn unwrap(&mut self, raw: u32, arrival: Ticks) -> i64 {
        let longest = (MAX_STEP + (arrival - self.front_at)).0 / TICKS_PER_MS;
        let plausible = |step: &i64| (-MAX_STEP_BACK.0 / TICKS_PER_MS..=longest).contains(step);
        // Wraps of 32 bits resolve themselves.
        let mut step = i64::from(raw.wrapping_sub(self.raw).cast_signed());
        if !plausible(&step) {
            // Encoders that count in 24 or 31 bits wrap earlier. Steps that wrapping explains are no jumps.
            let wraps = [1i64 << 24, 1 << 31]
                .into_iter()
                .filter(|&wrap| i64::from(raw.max(self.raw)) < wrap);
            let wrapped = wraps
                .flat_map(|wrap| [step + wrap, step - wrap])
                .find(plausible);
            step = wrapped.unwrap_or(step);
        }
        self.raw = raw;
        self.unwrapped += step;
        step
    }

    fn position(&self) -> Ticks {
        Ticks::from_millis(self.unwrapped) + self.offset
    }

    /// Sets the offset so that the last timestamp lies at `position`.
    fn move_to(&mut self, position: Ticks) {
        self.offset = position - Ticks::from_millis(self.unwrapped);
    }

    fn advance(&mut self, position: Ticks, arrival: Ticks) {
        if position > self.front {
            self.step = (position - self.front).min(MAX_REPEATED_STEP);
            self.front = position;
            self.front_at = arrival;
        }
    }

    /// Where a unit that has just arrived lies when this track is played as it arrives.
    fn expected_now(&self, arrival: Ticks) -> Ticks {
        self.front + (arrival - self.front_at).max(Ticks::ZERO)
    }

    /// Where the track's next unit lies when its timestamp says nothing: one step on; after a silence, as long after.
    fn expected_next(&self, arrival: Ticks) -> Ticks {
        let now = self.expected_now(arrival);
        let next = self.front + self.step;
        if now > next + MAX_JITTER { now } else { next }
    }

    /// What is wrong with a position for the next unit.
    fn fault(&self, position: Ticks, other: Option<Self>, arrival: Ticks) -> Option<Fault> {
        if position < self.front - MAX_STEP_BACK {
            return Some(Fault::Back);
        }
        let ahead = position - self.expected_now(arrival);
        let limit = match other {
            // What the other track has reached, in its times or by its arrival, is no jump.
            Some(other) if position <= other.expected_now(arrival) + MAX_SKEW => return None,
            Some(_) => MAX_JITTER,
            None => MAX_STEP,
        };
        (ahead > limit).then_some(Fault::Ahead)
    }
}

/// The audio track.
#[derive(Debug)]
struct Audio {
    clock: Clock,
    counter: Counter,
}

/// A number of samples at a rate.
#[derive(Debug, Clone, Copy)]
struct Samples {
    count: u32,
    rate: u32,
}

impl Samples {
    /// Keeps both within what codecs have, so that nothing below can divide by zero or run away.
    fn new(count: u32, rate: u32) -> Self {
        Self {
            count: count.clamp(1, MAX_SAMPLES),
            rate: rate.clamp(MIN_SAMPLE_RATE, MAX_SAMPLE_RATE),
        }
    }

    fn ticks(self) -> Ticks {
        Ticks(i64::from(self.count) * Ticks::PER_SECOND / i64::from(self.rate))
    }
}

/// Counts samples from an anchor, without rounding errors that add up.
#[derive(Debug)]
struct Counter {
    /// A position that is exact, whole seconds of samples before the next frame.
    anchor: Ticks,
    rate: u32,
    /// Samples since the anchor, less than a second of them.
    samples: u32,
    /// How far the publisher's times are from the count: a running mean, in units of 1 / [`DRIFT_MEMORY`] ticks.
    drift: i64,
    /// Ticks counted that have not been used to follow a drift yet.
    unused: i64,
}

impl Counter {
    fn new(anchor: Ticks, rate: u32) -> Self {
        Self {
            anchor,
            rate,
            samples: 0,
            drift: 0,
            unused: 0,
        }
    }

    /// Where the next frame begins; `rate` is its rate, which a new configuration may have changed.
    fn position(&mut self, rate: u32) -> Ticks {
        let position = self.anchor
            + Samples {
                count: self.samples,
                rate: self.rate,
            }
            .ticks();
        if rate != self.rate {
            *self = Self::new(position, rate);
        }
        position
    }

    fn count(&mut self, length: Samples) {
        let samples = self.samples + length.count;
        self.anchor += Ticks(i64::from(samples / self.rate) * Ticks::PER_SECOND);
        self.samples = samples % self.rate;
        self.unused = (self.unused + length.ticks().0).min(2 * SLEW);
    }

    /// Follows a publisher whose sound card and clock do not agree: by one tick in [`SLEW`], which is 500 ppm and no ear
    /// can tell, while the mean distance is more than rounding to milliseconds explains.
    fn follow(&mut self, distance: Ticks) {
        self.drift += distance.0 - self.drift / DRIFT_MEMORY;
        if self.unused >= SLEW && (self.drift / DRIFT_MEMORY).abs() > DRIFT_IGNORED {
            self.unused -= SLEW;
            self.anchor += Ticks(self.drift.signum());
        }
    }
}

impl Ticks {
    fn is_within(self, limit: Self) -> bool {
        (-limit..=limit).contains(&self)
    }
}

const ONE_TICK: Ticks = Ticks(1);
const TICKS_PER_MS: i64 = 90;

/// How far a step may go beyond what arrival explains before it is a jump, for a track on its own. Wi-Fi and phones
/// deliver in bursts of a second or two.
const MAX_STEP: Ticks = Ticks::from_millis(3000);

/// The same with another track to compare with, which has not come this far either.
const MAX_JITTER: Ticks = Ticks::from_millis(250);

/// How far tracks may be apart before they are taken to be on different bases. Encoders interleave within a second.
const MAX_SKEW: Ticks = Ticks::from_millis(3000);

/// Steps back up to this are lifted one by one; longer ones are jumps.
const MAX_STEP_BACK: Ticks = Ticks::from_millis(500);

/// So many timestamps in a row that do not rise are a clock that stands still. Fewer are pictures sent in pieces, or
/// audio stamped in batches.
const STALLED: u32 = 10;

/// Longest step used to go on after a jump.
const MAX_REPEATED_STEP: Ticks = Ticks::from_millis(1000);

/// Step to go on with when there was none yet: 30 pictures per second.
const FIRST_STEP: Ticks = Ticks(3000);

/// A distance between samples counted and time claimed that is a hole or an overlap, not jitter.
const AUDIO_GAP: Ticks = Ticks::from_millis(100);

/// Ticks of audio for each tick of correction.
const SLEW: i64 = 2000;

/// Frames over which drift is averaged: about five seconds.
const DRIFT_MEMORY: i64 = 256;

/// Mean distance that rounding to milliseconds, one way or the other, and some jitter explain.
const DRIFT_IGNORED: i64 = 2 * TICKS_PER_MS;

/// Longest presentation before decoding that is made room for; beyond it presentation is put to decoding.
const MAX_SHIFT_MS: i64 = 1000;

/// Longest presentation after decoding: six frames of a source with a picture every ten seconds.
const MAX_COMPOSITION_MS: i64 = 60_000;

/// More samples than a frame of any codec carried has.
const MAX_SAMPLES: u32 = 8192;

/// Rates beyond those of any codec carried.
const MIN_SAMPLE_RATE: u32 = 4000;
const MAX_SAMPLE_RATE: u32 = 384_000;

#[cfg(test)]
mod tests;
