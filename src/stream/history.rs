//! What has happened to a stream: its runs, the last few of them.

use std::collections::VecDeque;
use std::time::SystemTime;

use super::Entrance;
use crate::time::Repairs;

/// One uninterrupted publish.
#[derive(Debug, Clone)]
pub struct Run {
    /// Counts from 1 in the stream's life.
    pub number: u64,
    /// What it meant to the stream.
    pub entrance: Entrance,
    /// When it began.
    pub started: SystemTime,
    /// When it ended, and why; `None` while it goes on.
    pub ended: Option<(SystemTime, RunEnd)>,
    /// What the encoder calls itself, as far as that is fit to print.
    pub encoder: Option<String>,
    /// Identifier of its connection: [`crate::stream::connections`].
    pub connection: Option<u64>,
    /// Repairs of its times so far.
    pub repairs: Repairs,
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// The encoder said goodbye.
    Goodbye,
    /// The connection broke, or was closed without a word.
    Lost,
    /// The encoder sent nothing for too long.
    Silent,
    /// Another publisher took over.
    Replaced,
    /// What came was no proper RTMP, or of a kind that cannot be carried.
    Refused,
    /// An operator closed the connection.
    Kicked,
    /// An operator ended the stream.
    Ended,
    /// The server was stopped.
    Shutdown,
}

impl RunEnd {
    /// The word for it in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Goodbye => "goodbye",
            Self::Lost => "lost",
            Self::Silent => "silent",
            Self::Replaced => "replaced",
            Self::Refused => "refused",
            Self::Kicked => "kicked",
            Self::Ended => "ended",
            Self::Shutdown => "shutdown",
        }
    }
}

/// The last runs of a stream, oldest first.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<Run>);

impl History {
    pub(super) fn begin(&mut self, number: u64, entrance: Entrance, now: SystemTime) {
        if self.0.len() == MAX_RUNS {
            self.0.pop_front();
        }
        self.0.push_back(Run {
            number,
            entrance,
            started: now,
            ended: None,
            encoder: None,
            connection: None,
            repairs: Repairs::default(),
        });
    }

    /// Ends the run that goes on, if one does; only the first reason counts.
    pub(super) fn end(&mut self, reason: RunEnd, now: SystemTime) {
        if let Some(run) = self.0.back_mut().filter(|run| run.ended.is_none()) {
            run.ended = Some((now, reason));
        }
    }

    pub(super) fn last_mut(&mut self) -> Option<&mut Run> {
        self.0.back_mut()
    }

    pub(super) fn to_vec(&self) -> Vec<Run> {
        self.0.iter().cloned().collect()
    }
}

/// What a peer calls itself, fit to be shown: printable, and not too long.
pub fn printable(text: &str) -> String {
    text.chars()
        .filter(|character| !character.is_control())
        .take(MAX_TEXT)
        .collect()
}

/// Runs that are remembered: an encoder that comes and goes every minute fills them in twenty.
const MAX_RUNS: usize = 20;
/// Characters of an encoder's or player's name: the longest User-Agents are about this long.
const MAX_TEXT: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_runs_are_remembered() {
        let mut history = History::default();
        for number in 1..=50 {
            history.begin(number, Entrance::Reconnect, SystemTime::UNIX_EPOCH);
            history.end(RunEnd::Replaced, SystemTime::UNIX_EPOCH);
            history.end(RunEnd::Lost, SystemTime::UNIX_EPOCH);
        }
        let runs = history.to_vec();
        assert_eq!((runs.len(), runs[0].number), (MAX_RUNS, 31));
        assert!(runs.iter().all(|run| {
            run.ended
                .is_some_and(|(_, reason)| reason == RunEnd::Replaced)
        }));
    }

    #[test]
    fn names_of_encoders_are_cut_and_cleaned() {
        assert_eq!(printable("FMLE/3.0\n\u{1b}[31m"), "FMLE/3.0[31m");
        assert_eq!(printable(&"x".repeat(10_000)).len(), MAX_TEXT);
    }
}
