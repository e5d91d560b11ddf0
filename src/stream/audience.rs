//! Whether anybody watches a stream, so that work nobody would notice can be put off.
//!
//! It counts connections that have asked for the stream, playlists included. Whoever has asked a moment ago counts as well: players come
//! back for the next playlist, caches on connections of their own.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::subscribers::Subscribers;

/// Who watches one stream.
#[derive(Debug)]
pub(super) struct Audience {
    viewers: AtomicUsize,
    /// When the last one left, in milliseconds since `origin`: at first, when the stream began.
    left: AtomicU64,
    origin: Instant,
    /// Those to wake when the first comes.
    arrivals: Subscribers,
}

impl Audience {
    /// Of a stream that begins at `now`, which counts as watched for its first moments.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            viewers: AtomicUsize::new(0),
            left: AtomicU64::new(0),
            origin: now,
            arrivals: Subscribers::default(),
        }
    }

    /// How many there are now.
    pub(super) fn viewers(&self) -> usize {
        self.viewers.load(Ordering::Relaxed)
    }

    /// One more.
    pub(super) fn join(&self) {
        if self.viewers.fetch_add(1, Ordering::AcqRel) == 0 {
            self.arrivals.wake_all();
        }
    }

    /// One less.
    pub(super) fn leave(&self, now: Instant) {
        let since = now.saturating_duration_since(self.origin);
        self.left
            .fetch_max(since.as_millis() as u64, Ordering::Relaxed);
        self.viewers.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether somebody watches, or did a moment ago.
    pub(super) fn is_present(&self, now: Instant) -> bool {
        let left = self.origin + Duration::from_millis(self.left.load(Ordering::Relaxed));
        self.viewers.load(Ordering::Acquire) > 0 || now.saturating_duration_since(left) < LINGER
    }

    /// Resolves when somebody watches.
    pub(super) async fn arrives(&self) {
        let watched = || (self.viewers.load(Ordering::Acquire) > 0).then_some(());
        self.arrivals.wait_for(watched).await
    }
}

/// For how long an audience that has gone still counts. A player whose requests are further apart than this, each on a connection of its own,
/// costs some wake-ups, and nothing else: the first of its requests ends the pause.
const LINGER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_just_gone_counts_for_a_while() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let audience = Audience::new(start);
        assert!(audience.is_present(at(4)), "a stream that has just begun");
        assert!(!audience.is_present(at(5)));
        audience.join();
        audience.join();
        audience.leave(at(20));
        assert!(audience.is_present(at(100)), "one is left");
        audience.leave(at(100));
        assert!(audience.is_present(at(104)));
        assert!(!audience.is_present(at(105)));
    }

    #[tokio::test]
    async fn the_first_to_come_wakes() {
        let audience = std::sync::Arc::new(Audience::new(Instant::now()));
        let waiting = tokio::spawn({
            let audience = std::sync::Arc::clone(&audience);
            async move { audience.arrives().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        audience.join();
        waiting.await.unwrap();
    }
}
