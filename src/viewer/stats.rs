//! What is measured: distributions in bounded memory, and the sums of all viewers.

use std::collections::BTreeMap;
use std::time::Duration;

use super::demux::Faults;

/// A distribution of signed times, exact to 10 µs or a thousandth, whichever is more.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Distribution {
    counts: BTreeMap<i64, u64>,
    count: u64,
    sum: f64,
    max: i64,
    min: i64,
}

/// By which clock latency was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Clock {
    /// The time strip in the picture: from drawing.
    Picture,
    /// The stamp next to the picture: from the moment the encoder handed it over.
    Sent,
    /// PROGRAM-DATE-TIME and the time stamps since.
    Date,
}

/// Sums over all viewers.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Latency of access units, from the clock's moment to their last byte, by clock.
    pub latency: BTreeMap<Clock, Distribution>,
    /// The same without what they waited for the rest of their part (or segment, if it comes only when it is whole).
    pub delivery: BTreeMap<Clock, Distribution>,
    /// How long access units waited for the rest of their part or segment.
    pub waiting: Distribution,
    /// By how much the way of one access unit took longer or shorter than that of the one before.
    pub jitter: Distribution,
    /// From the start of the command to the end of the first media playlist.
    pub playlist_at: Distribution,
    /// From the start of the command to the first byte of media.
    pub byte_at: Distribution,
    /// From the start of the command to the last byte of the first key picture.
    pub picture_at: Distribution,
    /// Requests answered, by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests that got no answer, or not all of it.
    pub failures: u64,
    /// Bytes of all bodies.
    pub bytes: u64,
    /// Bytes of segments and parts.
    pub media_bytes: u64,
    /// Media time that these bytes span, summed over the viewers.
    pub media_time: Duration,
    /// Playlists, segments and parts read.
    pub playlists: u64,
    /// Segments read, to their end.
    pub segments: u64,
    /// Parts read.
    pub parts: u64,
    /// Access units: pictures, or audio frames where there is no video.
    pub units: u64,
    /// Those of them that can be decoded on their own.
    pub keys: u64,
    /// Access units of the other track.
    pub other_units: u64,
    /// Access units that were there before the viewer came; their latency says nothing.
    pub caught_up: u64,
    /// Segments that were never listed or could not be had.
    pub segments_missed: u64,
    /// Playlists that went back.
    pub playlists_back: u64,
    /// Parts that were never listed or could not be had.
    pub parts_missed: u64,
    /// Preload hints at something that did not become the next part.
    pub wrong_hints: u64,
    /// Faults in the packets.
    pub faults: Faults,
    /// Pictures missing by their decoding times.
    pub pictures_missed: u64,
    /// Decoding times that did not rise.
    pub times_back: u64,
    /// Stalls of a player with a small buffer: how long each was.
    pub stalls: Distribution,
    /// Viewers that have had a picture.
    pub playing: usize,
    /// Access units that the decoder was too slow for.
    pub undecoded: u64,
}

impl Distribution {
    /// Adds a time in microseconds.
    pub fn add(&mut self, micros: i64) {
        let micros = micros.clamp(-LIMIT, LIMIT);
        let mut step = 10;
        while micros.abs() / step > 10_000 {
            step *= 10;
        }
        let rounded = (micros.abs() + step / 2) / step * step * micros.signum();
        *self.counts.entry(rounded).or_default() += 1;
        (self.max, self.min) = if self.count == 0 {
            (micros, micros)
        } else {
            (self.max.max(micros), self.min.min(micros))
        };
        self.count += 1;
        self.sum += micros as f64;
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// All of them added up, in microseconds.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// The mean in microseconds.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// The largest, in microseconds.
    pub fn max(&self) -> Option<i64> {
        (self.count > 0).then_some(self.max)
    }

    /// The smallest, in microseconds.
    pub fn min(&self) -> Option<i64> {
        (self.count > 0).then_some(self.min)
    }

    /// The time that this share of all is at most, in microseconds: `0.95` for p95.
    pub fn quantile(&self, share: f64) -> Option<i64> {
        let rank = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        self.counts.iter().find_map(|(&micros, &count)| {
            seen += count;
            (seen >= rank).then_some(micros.clamp(self.min, self.max))
        })
    }
}

impl Clock {
    /// All of them, the most telling first.
    pub const ALL: [Self; 3] = [Self::Picture, Self::Sent, Self::Date];

    /// Its name in JSON and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Picture => "picture",
            Self::Sent => "sent",
            Self::Date => "date",
        }
    }

    /// What is measured by it.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Picture => "picture drawn -> last byte here",
            Self::Sent => "picture encoded -> last byte here",
            Self::Date => "PROGRAM-DATE-TIME -> last byte here",
        }
    }
}

impl Totals {
    /// Counts an answer.
    pub fn answered(&mut self, status: u16) {
        *self.statuses.entry(status).or_default() += 1;
    }

    /// Adds an access unit's latency, which includes `waiting`; both in microseconds.
    pub fn latency(&mut self, clock: Clock, micros: i64, waiting: i64) {
        self.latency.entry(clock).or_default().add(micros);
        self.delivery
            .entry(clock)
            .or_default()
            .add(micros - waiting);
    }

    /// The clock whose latency is the result: what the pictures say, if they say it, else what the server says.
    pub fn headline(&self) -> Option<Clock> {
        let pictures = self
            .latency
            .get(&Clock::Picture)
            .map_or(0, Distribution::count);
        let dates = self
            .latency
            .get(&Clock::Date)
            .map_or(0, Distribution::count);
        if pictures > 0 {
            Some(Clock::Picture)
        } else {
            (dates > 0).then_some(Clock::Date)
        }
    }

    /// Everything that was missing or came twice.
    pub fn gaps(&self) -> u64 {
        self.segments_missed
            + self.playlists_back
            + self.parts_missed
            + self.faults.continuity_gaps
            + self.faults.repeats
            + self.faults.sync_losses
            + self.pictures_missed
            + self.times_back
    }
}

/// A day: whatever takes longer is a wrong clock.
const LIMIT: i64 = 86_400_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let mut distribution = Distribution::default();
        assert_eq!(distribution.quantile(0.5), None);
        for millis in 1..=100 {
            distribution.add(millis * 1000);
        }
        assert_eq!(distribution.quantile(0.5), Some(50_000));
        assert_eq!(distribution.quantile(0.95), Some(95_000));
        assert_eq!(distribution.quantile(1.0), Some(100_000));
        assert_eq!(distribution.quantile(0.0), Some(1000));
        assert_eq!(
            (distribution.min(), distribution.max()),
            (Some(1000), Some(100_000))
        );
        assert_eq!(distribution.mean(), Some(50_500.0));
    }

    #[test]
    fn precision_and_signs() {
        for micros in [0, 7, -7, 1234, -1234, 123_456, 98_765_432, -5_000_000] {
            let mut distribution = Distribution::default();
            distribution.add(micros);
            distribution.add(micros + 3 * micros.signum());
            let found = distribution.quantile(0.5).unwrap();
            assert!(
                (found - micros).abs() <= 10.max(micros.abs() / 1000),
                "{micros} {found}"
            );
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut distribution = Distribution::default();
        for n in 0..1_000_000i64 {
            distribution.add(n * 86_400 - 43_200_000_000);
        }
        assert!(distribution.counts.len() < 150_000);
        distribution.add(i64::MIN + 1);
        distribution.add(i64::MAX);
        assert_eq!(distribution.max(), Some(LIMIT));
    }

    #[test]
    fn pictures_are_believed_before_dates() {
        let mut totals = Totals::default();
        assert_eq!(totals.headline(), None);
        totals.latency(Clock::Date, 5000, 1000);
        assert_eq!(totals.headline(), Some(Clock::Date));
        totals.latency(Clock::Picture, 5000, 1000);
        assert_eq!(totals.headline(), Some(Clock::Picture));
        assert_eq!(totals.delivery[&Clock::Picture].max(), Some(4000));
    }
}
