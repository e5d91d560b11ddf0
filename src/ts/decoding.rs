//! Decoding times that the players' converters follow.
//!
//! hls.js, and what else makes MP4 of transport streams piece by piece, takes the last picture of a piece to last as long as the one before it,
//! moves the first picture of the next piece to where that one ends, and from then on believes itself. A hole in the pictures (an encoder that
//! had no time, or dropped some because the line was slow) in front of a part of two pictures then shifts all pictures that follow against the
//! sound, by the length of the hole and for good. Whoever sees no hole does not mend it: so behind one, decoding times go on from the last picture in
//! steps a third longer than usual until they have caught up. Presentation times, and with them what is seen when, stay as they are.

use crate::time::{Rhythm, Ticks};

/// Gives pictures their decoding times.
#[derive(Debug, Default)]
pub(super) struct DecodingTimes {
    /// The last picture's decoding time as it came, and as it was written.
    last: Option<(Ticks, Ticks)>,
    rhythm: Rhythm,
}

impl DecodingTimes {
    /// The decoding time to write for the next picture, which is to be decoded at `dts`: that or earlier, and later than the picture before.
    pub(super) fn next(&mut self, dts: Ticks) -> Ticks {
        let written = match self.last {
            Some((came, written)) if dts > came => {
                let usual = self.rhythm.usual();
                self.rhythm.note(dts - came);
                usual.map_or(dts, |usual| {
                    let step = Ticks::new((usual.get() * 4 / 3).max(1));
                    dts.min(written + step).max(dts - LONGEST_LAG)
                })
            }
            // A timeline of its own.
            _ => dts,
        };
        self.last = Some((dts, written));
        written
    }
}

/// No picture is decoded earlier than this before it would have been.
const LONGEST_LAG: Ticks = Ticks::from_millis(2000);

#[cfg(test)]
mod tests {
    use super::*;

    fn written(times: impl IntoIterator<Item = i64>) -> Vec<i64> {
        let mut decoding = DecodingTimes::default();
        times
            .into_iter()
            .map(|ms| decoding.next(Ticks::from_millis(ms)).get() / 90)
            .collect()
    }

    #[test]
    fn pictures_at_their_usual_distance_are_left_alone() {
        for rate in [10, 24, 25, 30, 60] {
            let times: Vec<i64> = (0..100).map(|n| (n * 1000 + rate / 2) / rate).collect();
            assert_eq!(written(times.clone()), times);
        }
    }

    #[test]
    fn a_hole_is_caught_up_with_in_small_steps() {
        let times: Vec<i64> = (0..20).chain(32..120).map(|n| n * 100 / 3).collect();
        let out = written(times.clone());
        assert_eq!(out[..20], times[..20]);
        assert!(out.iter().zip(&times).all(|(out, time)| out <= time));
        assert!(
            out.windows(2)
                .all(|pair| (1..=45).contains(&(pair[1] - pair[0])))
        );
        // Four hundred milliseconds at eleven a picture.
        let caught_up = out.iter().zip(&times).rposition(|(out, time)| out < time);
        assert!((50..60).contains(&caught_up.unwrap()), "{caught_up:?}");
    }

    #[test]
    fn a_slower_rate_becomes_the_usual_one() {
        let times: Vec<i64> = (0..20)
            .map(|n| n * 33)
            .chain((0..60).map(|n| 660 + n * 100))
            .collect();
        let out = written(times.clone());
        assert!(
            out.iter()
                .zip(&times)
                .all(|(out, time)| (time - 500..=*time).contains(out))
        );
        assert_eq!(out.last(), times.last());
    }

    #[test]
    fn a_hole_of_any_length_and_times_that_start_anew_are_no_trouble() {
        let times: Vec<i64> = (0..20)
            .map(|n| n * 33)
            .chain((0..9).map(|n| 90_000 + n * 33))
            .collect();
        let out = written(times.clone());
        assert!(out.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(out.iter().zip(&times).all(|(out, time)| time - out <= 2000));
        assert_eq!(written([500, 533, 566, 10, 43]), [500, 533, 566, 10, 43]);
    }
}
