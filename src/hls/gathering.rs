//! What is held back until a stream can go live: until there is a key frame and some audio, or one of them has been waited for long
//! enough.

use std::time::{Duration, Instant};

use super::Now;
use crate::media::{AccessUnit, Track, Tracks};

/// The tracks that have sent something to be carried.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) video: bool,
    pub(super) audio: bool,
}

/// What is held back before going live.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    pub(super) units: Vec<(AccessUnit, Now)>,
    pub(super) first_video: Option<Instant>,
    pub(super) first_audio: Option<Instant>,
    /// What `units` weigh.
    bytes: u64,
}

impl Seen {
    pub(super) fn note(&mut self, track: Track) {
        match track {
            Track::Video => self.video = true,
            Track::Audio => self.audio = true,
        }
    }
}

impl Gathering {
    pub(super) fn add(&mut self, unit: AccessUnit, now: Now) {
        self.bytes += unit.payload.size() as u64 + UNIT_OVERHEAD;
        self.units.push((unit, now));
    }

    /// Whether there is all that the stream needs, or enough has been waited, or held: a peer may send faster than in real time.
    pub(super) fn complete(&self, configured: &Tracks, limit: u64, now: Instant) -> bool {
        if self.bytes > limit {
            return true;
        }
        let waited =
            |since: Option<Instant>| since.map(|since| now.saturating_duration_since(since));
        match (waited(self.first_video), waited(self.first_audio)) {
            (Some(_), Some(_)) => true,
            (Some(video), None) => video >= AUDIO_WAIT,
            (None, Some(audio)) => {
                audio
                    >= if configured.video.is_some() {
                        KEY_FRAME_WAIT
                    } else {
                        VIDEO_WAIT
                    }
            }
            (None, None) => false,
        }
    }
}

/// What a unit takes beside its payload, the allocation that it may keep alive alone included.
const UNIT_OVERHEAD: u64 = 256;
/// Audio configured with the video arrives within a few frames of it; a stream without audio starts this much later.
const AUDIO_WAIT: Duration = Duration::from_millis(500);
/// Some encoders send sound while the camera still starts.
const VIDEO_WAIT: Duration = Duration::from_secs(1);
/// Video that has sent its configuration will send a key frame; sound waits longer for it.
const KEY_FRAME_WAIT: Duration = Duration::from_secs(3);
