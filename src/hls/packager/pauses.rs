//! Pauses of the publisher, taken out of the timeline; and taken back where only one track's times have jumped.
//!
//! Not here: the end of a run, which the packager is told of.

use tracing::debug;

use super::Packager;
use crate::media::{AccessUnit, Track};
use crate::time::Ticks;

impl Packager {
    /// Takes a pause of the publisher out of the timeline, so that what follows comes right behind what was before. Players then run dry
    /// for as long and go on at the latency they had; a hole would be played through, and its length added to their latency for good.
    pub(super) fn close_pause(&mut self, mut unit: AccessUnit) -> AccessUnit {
        unit.dts -= self.pauses;
        unit.pts -= self.pauses;
        self.doubt_pause(&mut unit);
        if let Some(last) = self.last_unit {
            let (step, usual) = (unit.dts - last, self.pictures.interval);
            if step > PAUSE && step > usual + usual + usual {
                let pause = step - usual;
                self.pauses += pause;
                unit.dts -= pause;
                unit.pts -= pause;
                self.clock_jumped = true;
                let before = self.doubtful.filter(|before| before.0 == unit.track);
                let before = before.map_or(Ticks::ZERO, |before| before.1);
                self.doubtful = Some((unit.track, before + pause));
                debug!(seconds = pause.as_seconds_f64(), "the publisher has paused");
            }
        }
        // What seemed a pause was one track ahead of the other, which comes now: its times may not go back.
        let own = match unit.track {
            Track::Video => &mut self.last_of_video,
            Track::Audio => &mut self.last_of_audio,
        };
        if let Some(back) = own.map(|last| last - unit.dts)
            && back >= Ticks::ZERO
            && self.pauses > Ticks::ZERO
        {
            let back = back + Ticks::new(1);
            self.pauses -= back;
            unit.dts += back;
            unit.pts += back;
        }
        *own = Some(unit.dts);
        self.last_unit = Some(self.last_unit.map_or(unit.dts, |last| last.max(unit.dts)));
        unit
    }

    /// Takes back what one track has shown for a pause if the other track goes on as if nothing had been: then only the times of the one have
    /// jumped, and stay ahead.
    fn doubt_pause(&mut self, unit: &mut AccessUnit) {
        let Some((_, pause)) = self.doubtful.take_if(|doubtful| doubtful.0 != unit.track) else {
            return;
        };
        let own = match unit.track {
            Track::Video => self.last_of_video,
            Track::Audio => self.last_of_audio,
        };
        let undone = pause.min(self.pauses);
        if undone > Ticks::ZERO
            && own.is_some_and(|last| last - unit.dts > Ticks::new(pause.get() / 2))
        {
            self.pauses -= undone;
            unit.dts += undone;
            unit.pts += undone;
            self.last_unit = self.last_unit.map(|last| last + undone);
        }
    }
}

/// Silence of both tracks that is a pause of the publisher and not a slow source.
const PAUSE: Ticks = Ticks::from_millis(1000);
