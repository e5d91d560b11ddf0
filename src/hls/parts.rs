//! The parts of a session's segments, at one length (draft-pantos-hls-rfc8216bis, 4.4.4.9).
//!
//! A part is a run of consecutive pieces of one segment, so its bytes are bytes of the segment. The packager closes base parts of
//! `--part-duration`; a list of factor *n* joins up to *n* of them, never across segments. Parts are numbered through, not within
//! their segment: whether the next picture is a key frame is not known when the next part is announced, but its number is.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::names::part_name;
use super::playlist::MediaPart;
use super::segment::Segment;
use crate::time::Ticks;

/// A complete part.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) number: u64,
    pub(super) segment: Arc<Segment>,
    pub(super) pieces: Range<usize>,
    pub(super) duration: Duration,
    pub(super) independent: bool,
}

/// A base part as the packager closes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BasePart {
    /// Its pieces, by index in the segment.
    pub(super) pieces: Range<usize>,
    /// From its first picture to the next part's.
    pub(super) duration: Duration,
    /// Whether it starts with a key frame.
    pub(super) independent: bool,
}

/// The parts of one length.
#[derive(Debug)]
pub(super) struct PartList {
    factor: usize,
    parts: VecDeque<Part>,
    /// Number of the part that comes next.
    next: u64,
    /// Base parts of the part that is being filled.
    open: Vec<BasePart>,
}

impl PartList {
    pub(super) fn new(factor: usize) -> Self {
        Self {
            factor,
            parts: VecDeque::new(),
            next: 0,
            open: Vec::new(),
        }
    }

    /// Base parts to a full part.
    pub(super) fn factor(&self) -> usize {
        self.factor
    }

    /// Number of the part that comes next: what the preload hint names.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The part with this number, if it is complete and still kept.
    pub(super) fn get(&self, number: u64) -> Option<&Part> {
        let first = self.parts.front()?.number;
        self.parts
            .get(usize::try_from(number.checked_sub(first)?).ok()?)
    }

    /// The complete parts of a segment.
    pub(super) fn of(&self, sequence: u64) -> impl Iterator<Item = &Part> {
        let start = self
            .parts
            .partition_point(|part| part.segment.sequence() < sequence);
        self.parts
            .range(start..)
            .take_while(move |part| part.segment.sequence() == sequence)
    }

    /// A part of this list as playlists list it, in the session `id`.
    pub(super) fn describe(&self, part: &Part, id: &str) -> MediaPart {
        MediaPart {
            uri: part_name(id, self.factor, part.number),
            duration: part.duration,
            independent: part.independent,
        }
    }

    /// Takes in a base part of the growing segment. True if that completed a part.
    pub(super) fn push(&mut self, base: BasePart, segment: &Arc<Segment>) -> bool {
        self.open.push(base);
        self.open.len() >= self.factor && self.close(segment)
    }

    /// Ends the part that is being filled, because its segment ends. True if there was one.
    pub(super) fn close(&mut self, segment: &Arc<Segment>) -> bool {
        let (Some(first), Some(last)) = (self.open.first(), self.open.last()) else {
            return false;
        };
        self.parts.push_back(Part {
            number: self.next,
            segment: Arc::clone(segment),
            pieces: first.pieces.start..last.pieces.end,
            duration: self.open.iter().map(|base| base.duration).sum(),
            independent: first.independent,
        });
        self.next += 1;
        self.open.clear();
        true
    }

    /// Forgets the parts of segments before this one.
    pub(super) fn evict_before(&mut self, sequence: u64) {
        while self
            .parts
            .front()
            .is_some_and(|part| part.segment.sequence() < sequence)
        {
            self.parts.pop_front();
        }
    }
}

/// How long the base parts are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct PartPlan {
    /// Pictures (or audio frames, without video) in a part.
    pub(super) pictures: u32,
    /// Usual time of one.
    pub(super) picture: Ticks,
    /// PART-TARGET: the time of a full part, rounded up to milliseconds, as publishers' times are.
    pub(super) target: Duration,
}

impl PartPlan {
    /// Parts of as many whole pictures as come closest to `duration`.
    pub(super) fn new(picture: Ticks, duration: Duration) -> Self {
        let picture = picture.max(Ticks::from_millis(1));
        let pictures = (duration.as_secs_f64() / picture.as_seconds_f64())
            .round()
            .max(1.0) as u32;
        let full = Ticks::new(picture.get() * i64::from(pictures));
        // A tick less, so that 100.000 ms that arithmetic made 100.001 is not rounded up to 101.
        let millis = (full.get() - 1).div_euclid(Ticks::PER_SECOND / 1000) + 1;
        Self {
            pictures,
            picture,
            target: Ticks::from_millis(millis).as_duration(),
        }
    }

    /// Joins base parts of one picture each to parts of this plan; a key frame starts a new one.
    pub(super) fn group(&self, single: &[BasePart]) -> Vec<BasePart> {
        let mut parts: Vec<BasePart> = Vec::new();
        let mut joined = 0;
        for part in single {
            match parts.last_mut() {
                Some(last) if joined < self.pictures && !part.independent => {
                    last.pieces.end = part.pieces.end
                }
                _ => {
                    joined = 0;
                    parts.push(part.clone());
                }
            }
            joined += 1;
            if let Some(last) = parts.last_mut() {
                let full = Ticks::new(self.picture.get() * i64::from(joined));
                last.duration = full.as_duration().min(self.target);
            }
        }
        parts
    }
}

/// The factors to offer for base parts of this length: the base itself, and those that come to at least 200 ms and 500 ms. hls.js needs
/// parts of twice the round trip and more; docs/players.md has the figures. At least: a second of 30 pictures is then two parts and not
/// two and a tiny one, over which hls.js may lose the thread on a long line.
pub(super) fn factors(base: Duration) -> Vec<usize> {
    let base = (base.as_secs_f64() * 1e3).max(1.0);
    // A base of 66.67 ms is meant to go into 200 ms three times.
    let factor = |millis: f64| ((millis / base - 0.1).ceil() as usize).max(1);
    let mut factors = vec![1, factor(200.0), factor(500.0)];
    factors.dedup();
    factors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(index: usize, independent: bool) -> BasePart {
        BasePart {
            pieces: 2 * index..2 * index + 2,
            duration: Duration::from_millis(67),
            independent,
        }
    }

    #[test]
    fn longer_parts_join_base_parts_but_not_segments() {
        let mut list = PartList::new(3);
        let segments = [5, 6].map(|sequence| Arc::new(Segment::pending(sequence)));
        let completed: Vec<bool> = (0..5)
            .map(|n| list.push(base(n, n == 0), &segments[0]))
            .collect();
        assert_eq!(completed, [false, false, true, false, false]);
        assert_eq!(list.next(), 1);
        assert!(
            list.close(&segments[0]),
            "the segment ends with a short part"
        );
        assert!(!list.close(&segments[0]));
        list.push(base(0, true), &segments[1]);
        let parts: Vec<_> = list
            .of(5)
            .map(|part| (part.number, part.pieces.clone(), part.independent))
            .collect();
        assert_eq!(parts, [(0, 0..6, true), (1, 6..10, false)]);
        assert_eq!(list.of(6).count(), 0);
        assert_eq!(
            list.get(1).map(|part| part.duration),
            Some(Duration::from_millis(134))
        );
        assert!(list.get(2).is_none());
    }

    #[test]
    fn parts_go_with_their_segment() {
        let mut list = PartList::new(1);
        for sequence in 5..8 {
            list.push(base(0, true), &Arc::new(Segment::pending(sequence)));
        }
        list.evict_before(7);
        assert!(list.get(1).is_none());
        assert_eq!(list.get(2).map(|part| part.segment.sequence()), Some(7));
        assert_eq!(list.next(), 3);
    }

    #[test]
    fn three_lengths() {
        assert_eq!(factors(Duration::from_micros(66_667)), [1, 3, 8]);
        assert_eq!(factors(Duration::from_millis(100)), [1, 2, 5]);
        assert_eq!(factors(Duration::from_millis(200)), [1, 3]);
        assert_eq!(factors(Duration::from_millis(1000)), [1]);
    }
}
