//! The built-in test picture for a publisher, and viewers that measure: good peers beside whatever a test does to a server.

use std::time::Duration;

use lhls::demo::publisher::{self, PublishOptions, Summary};
use lhls::dial::Trust;
use lhls::viewer::report::Report;
use lhls::viewer::{self, Mode, Options};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::within;

/// A publisher, until it is told to stop.
pub(crate) struct Source {
    task: JoinHandle<Result<Summary, publisher::Error>>,
    stop: CancellationToken,
}

impl Source {
    pub(crate) fn start(url: &str) -> Self {
        let stop = CancellationToken::new();
        let options = PublishOptions {
            size: (320, 180),
            trust: Trust::Anybody,
            ..PublishOptions::new(url.parse().unwrap())
        };
        let task = tokio::spawn(publisher::publish(options, stop.clone()));
        Self { task, stop }
    }

    /// It must have gone on until now.
    pub(crate) async fn finish(self) {
        assert!(!self.task.is_finished(), "the publisher has ended early");
        self.stop.cancel();
        within("the publisher", self.task).await.unwrap().unwrap();
    }
}

/// Some viewers of a stream, which may not be there yet, until they are told to stop.
pub(crate) struct Audience {
    task: JoinHandle<Result<Report, viewer::Error>>,
    enough: CancellationToken,
}

impl Audience {
    pub(crate) fn watch(url: &str, mode: Mode, viewers: usize) -> Self {
        let enough = CancellationToken::new();
        let options = Options {
            url: format!("{url}?wait=20").parse().unwrap(),
            trust: Trust::Anybody,
            mode: Some(mode),
            viewers,
            duration: None,
            buffer: Duration::from_secs(1),
            decode: false,
        };
        let task = tokio::spawn(viewer::watch(options, enough.clone(), |_, _| {}));
        Self { task, enough }
    }

    /// They must have watched until now without an error, and without a fault in what they got. On a machine that stands still for seconds
    /// the publisher leaves out pictures, and viewers come too late for parts: that is for `scripts/reloads` to judge.
    pub(crate) async fn finish(self) {
        self.enough.cancel();
        let report = within("a report", self.task).await.unwrap().unwrap();
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        assert!(report.totals.units > 0, "{}", report.table());
        let totals = &report.totals;
        let late = totals.pictures_missed + totals.parts_missed + totals.segments_missed;
        assert_eq!(totals.gaps(), late, "{}", report.table());
    }
}
