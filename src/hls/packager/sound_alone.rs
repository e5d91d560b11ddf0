//! Sound that goes on while pictures stay away: a camera that is changed, an application in the background, a broken cable.
//!
//! Sound rides with pictures, and pictures decide where segments end. When there are none, sound goes out by itself, in pieces of a tenth of
//! a second, and ends segments and parts before they get longer than was promised. Segments of sound alone count as ones that end where a
//! key frame was foretold: whether the next picture is one is seen when it comes. The tables go on to list the pictures.

use bytes::Bytes;
use tracing::debug;

use super::{LONGEST_TARGET, Packager, bit_rate};
use crate::hls::Now;
use crate::hls::cutter::Cutter;
use crate::hls::session::Start;
use crate::time::Ticks;

/// Sound since the last picture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alone {
    /// Time of its first frame. Sound may be ahead of the pictures or behind them, so only its length counts.
    pub(super) since: Ticks,
    /// The last picture's presentation, and its end.
    pub(super) picture: (Ticks, Ticks),
}

impl Alone {
    /// Where pictures would be that had gone on until this time of the sound.
    fn at(self, sound: Ticks) -> Ticks {
        self.picture.0 + (sound - self.since)
    }
}

impl Packager {
    /// Leaves out sound that waits and is of the old kind, which cannot follow a change.
    pub(super) fn drop_sound(&mut self) {
        self.stats.dropped += self.audio.len() as u64;
        self.audio.clear();
    }

    /// At the end of the stream: sends sound that waits for a picture that never came, in a segment of its own, since the one it belonged to
    /// has ended.
    pub(super) fn send_sound_alone(&mut self, now: Now) {
        self.flush_audio(now);
        self.close_part(None);
    }

    /// Ends the segments in front of the waiting sound if it would make one of them too long, or too heavy.
    pub(super) fn cut_for_sound(&mut self, now: Now) {
        let (Some(alone), Some((start, end))) = (self.alone, self.waiting_sound()) else {
            return;
        };
        let (start, end) = (alone.at(start), alone.at(end));
        let is_full = |cutter: &Cutter| cutter.is_full(end, &self.settings);
        if !self.cutters.iter().any(is_full) || !self.cutters.iter().all(Cutter::has_begun) {
            return;
        }
        debug!("a segment ends without a picture behind it");
        self.close_part(None);
        let next = Start {
            date: self.clock.date(start),
            independent: true,
            discontinuity: false,
        };
        let plan = self.part_plan();
        for cutter in &mut self.cutters {
            if !cutter.is_open() {
                self.output
                    .add(cutter.open_for(LONGEST_TARGET, plan, &self.settings, now));
            }
            let ended = cutter.roll(start, start, next, &Bytes::new(), now);
            self.peak_bit_rate = self.peak_bit_rate.max(ended.map_or(0, bit_rate));
        }
        self.foretold = true;
        self.retire_idle(now);
        self.render_multivariant();
    }

    /// The waiting sound is about to go out by itself. Where it starts a segment, that may never get a picture, and has to have a clock; where
    /// the picture that was foretold has not come, it has to have a length. Returns the length of the sound.
    pub(super) fn carry_sound_alone(&mut self, bytes: &mut Vec<u8>) -> Ticks {
        let Some((first, last)) = self.waiting_sound() else {
            return Ticks::ZERO;
        };
        let starts = !self.cutters.iter().all(Cutter::has_begun);
        let starts = starts && self.muxer.tracks().video.is_some();
        if let Some(dts) = self.pictures.last_dts.filter(|_| starts) {
            // Half an interval, so that no rounding puts it behind the next picture.
            let between = dts + Ticks::new(self.pictures.interval.get() / 2);
            if let Err(error) = self.muxer.write_clock(between, bytes) {
                debug!(%error, "the clock cannot be carried");
            }
        }
        if let Some(alone) = self.alone.filter(|_| self.foretold) {
            let least = alone.picture.1 + self.audio_frame();
            self.pictures.end = self.pictures.end.max(alone.at(last)).max(least);
        }
        last - first
    }

    /// Sound of this length has gone out by itself. A part is closed when it has no picture and room for no more sound.
    pub(super) fn note_sound_alone(&mut self, length: Ticks) {
        let Some(part) = self.part.as_mut().filter(|part| part.pictures == 0) else {
            return;
        };
        part.sound += length;
        let next = (part.sound + length).as_duration();
        if self.plan.is_some_and(|plan| next > plan.target) {
            self.close_part(None);
        }
    }

    /// Where the waiting sound begins and ends.
    fn waiting_sound(&self) -> Option<(Ticks, Ticks)> {
        let (first, last) = (self.audio.first()?, self.audio.last()?);
        Some((first.pts, last.pts + self.audio_frame()))
    }
}
