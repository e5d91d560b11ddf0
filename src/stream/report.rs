//! What a stream says of itself when an operator asks.

use std::time::Duration;

use super::health::Snapshot;
use super::history::Run;
use super::warnings::{Facts, Warning};
use crate::media::{Tracks, VideoConfig};

/// A look at a stream.
#[derive(Debug, Clone)]
pub struct Report {
    /// Where it is in its life.
    pub state: State,
    /// The tracks that are listed.
    pub tracks: Tracks,
    /// What has arrived lately.
    pub snapshot: Snapshot,
    /// The last runs, oldest first.
    pub runs: Vec<Run>,
    /// What its segments are meant to last.
    pub segment_duration: Duration,
    /// How long ago a time of the run that goes on was repaired.
    pub last_repair: Option<Duration>,
}

/// Where a stream is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Somebody publishes, but there is nothing to play yet.
    Starting,
    /// Somebody publishes.
    Live,
    /// The publisher has gone and is waited for.
    Waiting,
    /// It is over; what was made can still be fetched for a while.
    Ended,
}

impl State {
    /// The word for it in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Live => "live",
            Self::Waiting => "waiting",
            Self::Ended => "ended",
        }
    }

    /// Whether somebody publishes.
    pub fn is_publishing(self) -> bool {
        matches!(self, Self::Starting | Self::Live)
    }
}

impl Report {
    /// What is wrong with what is being published; nothing while nobody does.
    pub fn warnings(&self) -> Vec<Warning> {
        if !self.state.is_publishing() {
            return Vec::new();
        }
        let repairs = self.runs.last().map_or(0, |run| run.repairs.total());
        let facts = Facts {
            snapshot: &self.snapshot,
            segment_duration: self.segment_duration,
            playable: self.state == State::Live,
            sampling: match &self.tracks.video {
                Some(VideoConfig::H264(config)) => config.sampling(),
                None => None,
            },
            repairs: (repairs, self.last_repair),
        };
        facts.warnings()
    }
}
