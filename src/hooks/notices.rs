//! Notices on their way: a bounded queue, sent in order, each tried a few times.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{Event, Hooks};
use crate::hls::playlist::iso8601;

/// What happened.
#[derive(Debug)]
pub(super) struct Notice {
    event: Event,
    body: Value,
}

/// Where notices wait.
#[derive(Debug)]
pub(super) struct Queue(mpsc::Sender<Notice>);

impl Queue {
    pub(super) fn new() -> (Self, mpsc::Receiver<Notice>) {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        (Self(sender), receiver)
    }

    /// False if it is full.
    pub(super) fn push(&self, event: Event, mut body: Value) -> bool {
        if let Value::Object(fields) = &mut body {
            // When it happened, not when it is sent.
            fields.insert("time".to_owned(), iso8601(SystemTime::now()).into());
        }
        self.0.try_send(Notice { event, body }).is_ok()
    }
}

/// Sends notices.
#[derive(Debug)]
pub struct Worker {
    hooks: Arc<Hooks>,
    notices: mpsc::Receiver<Notice>,
}

impl Worker {
    pub(super) fn new(hooks: Arc<Hooks>, notices: mpsc::Receiver<Notice>) -> Self {
        Self { hooks, notices }
    }

    /// Sends until `stop`, then what still waits, once each. The caller bounds how long it waits for that.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let notice = tokio::select! {
                notice = self.notices.recv() => notice,
                () = stop.cancelled() => {
                    self.notices.close();
                    self.notices.recv().await
                }
            };
            let Some(notice) = notice else {
                return;
            };
            self.deliver(notice, &stop).await;
        }
    }

    async fn deliver(&self, notice: Notice, stop: &CancellationToken) {
        let Notice { event, body } = notice;
        let mut pause = FIRST_PAUSE;
        for attempt in 1..=ATTEMPTS {
            let problem = match self.hooks.send(event, body.clone()).await {
                Ok((status, _)) if status.is_server_error() => format!("status {status}"),
                // A refusal is taken for an answer: the same again would be refused again.
                Ok(_) => return,
                Err(error) => error.to_string(),
            };
            debug!(
                hook = event.name(),
                attempt, "a notice was not taken: {problem}"
            );
            if attempt == ATTEMPTS || stop.is_cancelled() {
                self.hooks.metrics.limit("hook_dropped");
                warn!(
                    hook = event.name(),
                    "a notice is dropped after {attempt} attempts: {problem}"
                );
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
            pause *= 2;
        }
    }
}

/// Notices that wait, about a kilobyte each; further ones are dropped and counted.
const MAX_WAITING: usize = 1024;
/// How often each is tried, over 15 s: a service that restarts is back by then.
const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
