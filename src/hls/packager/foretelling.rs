//! Ending segments with their last picture, where it can be told which one that is.
//!
//! A segment is known to be over when the next key frame comes, and its end can only be sent then. Everybody who reads along would be sent
//! the end, ask for the next segment and be answered, all of it before the key frame: a round trip for each viewer, and for the server
//! the most work in the very moment in which it has the largest picture to send. Players that wait for whole segments would wait for
//! the length of a picture more. An encoder that has made groups of the same number of pictures at the same distance all along will make
//! another one, so the segment ends with the last picture of the group and all that happens between two pictures.
//!
//! If the encoder goes on where its group should have ended, nothing is lost: the next segment starts inside the group and does not
//! promise a key frame.

use bytes::Bytes;

use tracing::debug;

use super::{LONGEST_AUDIO_HOLD, Packager, bit_rate};
use crate::hls::Now;
use crate::hls::cutter::{Arriving, Cut, Cutter};
use crate::hls::session::Start;
use crate::media::{AccessUnit, Track};
use crate::time::Ticks;

impl Packager {
    /// Ends the segments that the next picture would end, if that can be foretold. `dts` is that of the picture that has just gone out.
    pub(super) fn foretell(&mut self, dts: Ticks, now: Now) {
        let Some(end) = self.pictures.foretold_key() else {
            return;
        };
        let (interval, frame) = (self.pictures.interval, self.audio_frame());
        // Where pictures are so far apart that sound goes out between them, it would start the segment, and its first part.
        if self.muxer.tracks().video.is_none() || interval + frame + frame > LONGEST_AUDIO_HOLD {
            return;
        }
        let key = Arriving {
            track: Track::Video,
            pts: end,
            key: true,
        };
        let ends = |cutter: &Cutter| {
            cutter.is_open() && cutter.decide(key, false, interval, &self.settings) == Cut::Key
        };
        // All or none, since they share their parts.
        if self.cutters.is_empty() || !self.cutters.iter().all(ends) {
            return;
        }
        self.foretold = true;
        self.close_part(Some(dts + interval));
        let start = Start {
            date: self.clock.date(end),
            independent: true,
            discontinuity: false,
        };
        for cutter in &mut self.cutters {
            let ended = cutter.roll(end, end, start, &Bytes::new(), now);
            self.peak_bit_rate = self.peak_bit_rate.max(ended.map_or(0, bit_rate));
        }
        self.retire_idle(now);
        self.render_multivariant();
    }

    /// The picture after a foretold end has come. Puts right what was assumed of the segments that it starts.
    pub(super) fn check_foretold(&mut self, unit: &AccessUnit, changed: bool, now: Now) {
        if unit.key && !changed {
            return;
        }
        // What has gone out by itself stays what it was: the change cuts behind it.
        if changed && self.cutters.iter().all(Cutter::has_begun) {
            return;
        }
        let filler = if changed {
            self.drop_sound();
            self.adopt_tracks()
        } else {
            debug!("the encoder goes on where its group of pictures was to end");
            Bytes::new()
        };
        for cutter in &mut self.cutters {
            let start = Start {
                date: self.clock.date(cutter.start_pts()),
                independent: unit.key,
                discontinuity: changed,
            };
            cutter.correct(start, &filler, now);
        }
        self.render_multivariant();
    }
}
