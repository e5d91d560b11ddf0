//! Where one session's segments begin and end.
//!
//! A segment is cut at the first key frame at or after the target duration. Because TARGETDURATION may never be exceeded, it is
//! also cut at an earlier key frame when the next one would come too late, and, as the last resort, inside a group of pictures.
//!
//! A cutter starts without a session: the first group of pictures is gathered in a growing segment until the second key frame tells
//! what TARGETDURATION has to be. The wait is bounded by [`super::packager::LONGEST_TARGET`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Now;
use super::packager::{LONGEST_TARGET, Settings};
use super::parts::{BasePart, PartPlan};
use super::segment::{Piece, Segment};
use super::session::{self, Growing, Session, Start};
use crate::media::{AccessUnit, Track};
use crate::time::Ticks;

/// Whether a segment ends in front of an access unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// It goes on.
    No,
    /// At a key frame.
    Key,
    /// Inside a group of pictures, because TARGETDURATION would be exceeded.
    Forced,
    /// Inside a group of pictures, because the segment has become too heavy.
    Heavy,
    /// In front of it media is missing, more than the segment may last.
    Gap,
}

/// What a cut is decided in front of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arriving {
    pub(super) track: Track,
    pub(super) pts: Ticks,
    pub(super) key: bool,
}

impl From<&AccessUnit> for Arriving {
    fn from(unit: &AccessUnit) -> Self {
        Self {
            track: unit.track,
            pts: unit.pts,
            key: unit.key,
        }
    }
}

/// The growing segment of one session, and when to end it.
#[derive(Debug)]
pub(super) struct Cutter {
    id: String,
    segment: Arc<Segment>,
    start: Start,
    start_pts: Ticks,
    session: Option<Arc<Session>>,
    /// The duration beyond which a segment's EXTINF would round to more than TARGETDURATION.
    limit: Ticks,
    last_key: Ticks,
    /// Index of the piece the last key frame is in; `None` when a segment before this one has it.
    key_piece: Option<usize>,
    /// Lengths of the latest groups of pictures.
    gops: VecDeque<Ticks>,
    /// The base parts of the growing segment.
    parts: Vec<BasePart>,
    /// Whether these are of one picture each, because it is not known yet how long parts are.
    single_pictures: bool,
    finished_bits: u64,
    finished_time: Duration,
    independent: bool,
}

impl Cutter {
    /// Starts the first segment, of no session yet.
    pub(super) fn new(pts: Ticks, start: Start, now: Now) -> Self {
        Self {
            id: session::session_id(now.wall),
            segment: Arc::new(Segment::pending(session::first_sequence(now.wall))),
            start,
            start_pts: pts,
            session: None,
            limit: LONGEST_TARGET,
            last_key: pts,
            key_piece: start.independent.then_some(0),
            gops: VecDeque::with_capacity(GOPS),
            parts: Vec::new(),
            single_pictures: true,
            finished_bits: 0,
            finished_time: Duration::ZERO,
            independent: start.independent,
        }
    }

    /// Starts with pieces and base parts that another session has had already: the group of pictures that broke its promise.
    pub(super) fn resume(&mut self, pieces: Vec<Piece>, parts: Vec<BasePart>) {
        for piece in pieces {
            self.segment.append(piece);
        }
        self.parts = parts;
        self.single_pictures = false;
    }

    pub(super) fn segment(&self) -> &Segment {
        &self.segment
    }

    pub(super) fn start_pts(&self) -> Ticks {
        self.start_pts
    }

    pub(super) fn is_open(&self) -> bool {
        self.session.is_some()
    }

    /// Whether the growing segment has anything.
    pub(super) fn has_begun(&self) -> bool {
        self.segment.piece_count() > 0
    }

    /// Whether the segment would be longer than it may be if it went on until `end`, or is heavier already.
    pub(super) fn is_full(&self, end: Ticks, settings: &Settings) -> bool {
        end - self.start_pts > self.limit || self.is_heavy(settings)
    }

    fn is_heavy(&self, settings: &Settings) -> bool {
        self.segment.size() > settings.retain_bytes / 4
    }

    /// Whether every segment so far started with a key frame.
    pub(super) fn is_independent(&self) -> bool {
        self.independent
    }

    /// Whether a wider session than this could not be had.
    pub(super) fn is_widest(&self) -> bool {
        self.limit >= LONGEST_TARGET
    }

    /// The session; only for a cutter that is open.
    pub(super) fn session(&self) -> Arc<Session> {
        self.session.clone().unwrap_or_else(|| {
            unreachable!("asked for the session of a cutter that is still learning")
        })
    }

    /// The last group of pictures: when it starts, its pieces and its base parts so far. `None` if it began in an earlier segment.
    pub(super) fn last_group(&self) -> Option<(Ticks, Vec<Piece>, Vec<BasePart>)> {
        let first = self.key_piece?;
        let mut pieces = Vec::new();
        let mut cursor = first;
        self.segment.read(&mut cursor, usize::MAX, &mut pieces);
        let parts = self.parts.iter().filter(|part| part.pieces.start >= first);
        let rebased = parts.map(|part| BasePart {
            pieces: part.pieces.start - first..part.pieces.end - first,
            ..part.clone()
        });
        Some((self.last_key, pieces, rebased.collect()))
    }

    /// Closes a base part: the pieces since the last one.
    pub(super) fn add_part(&mut self, duration: Duration, independent: bool) {
        let start = self.parts.last().map_or(0, |part| part.pieces.end);
        let part = BasePart {
            pieces: start..self.segment.piece_count(),
            duration,
            independent,
        };
        if part.pieces.is_empty() {
            return;
        }
        if let Some(session) = &self.session {
            session.add_part(&part);
        }
        self.parts.push(part);
    }

    /// Bits a second over all finished segments.
    pub(super) fn average_bit_rate(&self) -> Option<u64> {
        (self.finished_time > Duration::ZERO)
            .then(|| (self.finished_bits as f64 / self.finished_time.as_secs_f64()) as u64)
    }

    /// Notes a key frame; the length of the group of pictures that it ends, if it ends one.
    pub(super) fn note_key(&mut self, pts: Ticks) -> Option<Duration> {
        let gop = pts - self.last_key;
        self.last_key = pts;
        self.key_piece = Some(self.segment.piece_count());
        if gop <= Ticks::ZERO {
            return None;
        }
        if self.gops.len() == GOPS {
            self.gops.pop_front();
        }
        self.gops.push_back(gop);
        Some(gop.as_duration())
    }

    /// Opens the session for groups of pictures of length `gop`, and returns it.
    pub(super) fn open_for(
        &mut self,
        gop: Ticks,
        plan: PartPlan,
        settings: &Settings,
        now: Now,
    ) -> Arc<Session> {
        let target = Ticks::from_duration(settings.segment_duration);
        let expected = expected_duration(gop, target);
        let target_duration = settings.target_duration.unwrap_or_else(|| {
            let seconds = (expected.as_seconds_f64() + 0.02).round().max(1.0);
            (seconds as u32).min(LONGEST_TARGET.as_duration().as_secs() as u32)
        });
        self.limit = Ticks::from_millis(i64::from(target_duration) * 1000 + 499);
        let announce = settings
            .announce
            .unwrap_or_else(|| announce_count(target_duration, expected));
        if std::mem::take(&mut self.single_pictures) {
            self.parts = plan.group(&self.parts);
        }
        let session = Arc::new(Session::open(
            self.id.clone(),
            session::Settings {
                target_duration,
                part_target: plan.target,
                announce,
                retain: settings.retain,
                retain_bytes: settings.retain_bytes,
            },
            Growing {
                segment: Arc::clone(&self.segment),
                start: self.start,
                parts: self.parts.clone(),
            },
            expected.as_duration(),
            now.instant,
        ));
        self.session = Some(Arc::clone(&session));
        session
    }

    /// Whether a cut in front of `pts`, inside a group of pictures, is due to key frames that have become rare, and not to pictures that are
    /// missing for `missing`.
    pub(super) fn is_overdue(&self, pts: Ticks, missing: Ticks) -> bool {
        missing == Ticks::ZERO || pts - self.last_key - missing > self.limit
    }

    /// Whether the segment ends in front of `unit`. `interval` is the usual distance of access units.
    pub(super) fn decide(
        &self,
        unit: Arriving,
        changed: bool,
        interval: Ticks,
        settings: &Settings,
    ) -> Cut {
        let elapsed = unit.pts - self.start_pts;
        if self.segment.piece_count() == 0 {
            return Cut::No;
        }
        // What came in time has been within the limit: the rest is missing.
        if elapsed > self.limit {
            return Cut::Gap;
        }
        if unit.key {
            let target = Ticks::from_duration(settings.segment_duration);
            let tolerance = match unit.track {
                Track::Video => tolerance(target),
                Track::Audio => Ticks::new(interval.get() / 2),
            };
            // The longest, since a group that a change of scene or a hole has cut short says nothing about the next.
            let longest = self.gops.iter().max();
            let too_late = longest.is_some_and(|&gop| self.is_open() && elapsed + gop > self.limit);
            if changed || too_late || elapsed >= target - tolerance {
                return Cut::Key;
            }
        }
        let next = elapsed + interval + interval;
        match (next > self.limit, self.is_heavy(settings)) {
            (false, false) => Cut::No,
            _ if unit.key => Cut::Key,
            (true, _) => Cut::Forced,
            (false, true) => Cut::Heavy,
        }
    }

    /// Ends the segment at `end` and starts the next at `start_pts`. What the ended one weighed, bits, and lasted.
    pub(super) fn roll(
        &mut self,
        end: Ticks,
        start_pts: Ticks,
        start: Start,
        filler: &Bytes,
        now: Now,
    ) -> Option<(u64, Duration)> {
        let duration = self.duration_until(end);
        let bits = self.segment.size() * 8;
        self.finished_bits += bits;
        self.finished_time += duration;
        self.segment = self
            .session
            .as_ref()?
            .roll(duration, start, filler, now.instant)?;
        self.start = start;
        self.start_pts = start_pts;
        self.key_piece = start.independent.then_some(0);
        self.parts.clear();
        self.independent &= start.independent;
        Some((bits, duration))
    }

    /// The pending segment turns out to start at `pts`, as `start` says, after nothing has come for as long as `outage`.
    pub(super) fn restart(
        &mut self,
        pts: Ticks,
        start: Start,
        outage: Duration,
        filler: &Bytes,
        now: Now,
    ) {
        self.start_pts = pts;
        self.last_key = pts;
        self.correct_by(start, |session| {
            session.restart(start, outage, filler, now.instant)
        });
    }

    /// The publisher has gone; nothing has come since then.
    pub(super) fn publisher_left(&self, since: Instant, now: Now) {
        if let Some(session) = &self.session {
            session.publisher_left(since, now.instant);
        }
    }

    /// The pending segment starts otherwise than was foretold.
    pub(super) fn correct(&mut self, start: Start, filler: &Bytes, now: Now) {
        self.correct_by(start, |session| session.correct(start, filler, now.instant));
    }

    fn correct_by(&mut self, start: Start, correct: impl FnOnce(&Session) -> Option<Arc<Segment>>) {
        self.start = start;
        self.key_piece = start.independent.then_some(0);
        self.independent &= start.independent;
        if let Some(segment) = self.session.as_deref().and_then(correct) {
            self.segment = segment;
        }
    }

    /// EXTINF of the segment when it ends at `end`. Pictures may have stayed away for up to a second, which is no gap yet, and the cut comes
    /// with the one after that; what lies beyond the promise is a hole to players then.
    fn duration_until(&self, end: Ticks) -> Duration {
        (end - self.start_pts).min(self.limit).as_duration()
    }

    /// Ends the session at `end`.
    pub(super) fn end(&self, end: Ticks, now: Now) {
        if let Some(session) = &self.session {
            session.end(self.duration_until(end), now.instant);
        }
    }
}

/// How long segments of whole groups of pictures will be.
fn expected_duration(gop: Ticks, target: Ticks) -> Ticks {
    let gop = gop.max(Ticks::new(1));
    let groups = (target - tolerance(target)).get().div_euclid(gop.get()) + 1;
    let exact = (target - tolerance(target)).get() % gop.get() == 0;
    Ticks::new(gop.get() * (groups - i64::from(exact && groups > 1)))
}

/// How many segments to announce so that a player that starts three target durations from the end starts on the growing segment.
fn announce_count(target_duration: u32, expected: Ticks) -> usize {
    let segments = 3.0 * f64::from(target_duration) / expected.as_seconds_f64().max(0.05);
    // Segments that are a little short of their round length must not count as one more.
    ((segments - 0.15).ceil() as usize)
        .saturating_sub(1)
        .clamp(1, MOST_ANNOUNCED)
}

/// Key frames may come this much before the target and still end a segment: encoders' times jitter.
fn tolerance(target: Ticks) -> Ticks {
    Ticks::new(target.get() / 20)
}

/// Announced segments cost little, but a list of dozens helps nobody.
const MOST_ANNOUNCED: usize = 12;
/// Groups of pictures whose lengths are remembered.
const GOPS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: i64) -> Ticks {
        Ticks::from_millis(millis)
    }

    #[test]
    fn as_many_are_announced_as_reach_three_target_durations() {
        for (target_duration, millis, count) in [
            (1, 1000, 2),
            (1, 500, 5),
            (2, 2000, 2),
            (1, 967, 2),
            (1, 1001, 2),
            (8, 8333, 2),
            (2, 1500, 3),
            (1, 250, 11),
        ] {
            assert_eq!(
                announce_count(target_duration, ms(millis)),
                count,
                "{target_duration} s, {millis} ms"
            );
        }
    }

    #[test]
    fn segments_are_whole_groups_of_pictures() {
        for (gop, target, expected) in [
            (1000, 1000, 1000),
            (500, 1000, 1000),
            (2000, 1000, 2000),
            (960, 1000, 960),
            (700, 1000, 1400),
            (480, 1000, 960),
        ] {
            assert_eq!(
                expected_duration(ms(gop), ms(target)),
                ms(expected),
                "{gop} ms at {target} ms"
            );
        }
    }
}
