//! What the tests share: a server in process, tools run with a bound, scripted peers and viewers, and checkers.

#[cfg(feature = "demo")]
pub(crate) mod audience;
pub(crate) mod bystander;
pub(crate) mod compare;
pub(crate) mod flv;
pub(crate) mod logs;
pub(crate) mod media;
pub(crate) mod media_playlist;
pub(crate) mod peer;
pub(crate) mod playlist;
pub(crate) mod program;
pub(crate) mod publisher;
pub(crate) mod recording;
pub(crate) mod server;
#[cfg(feature = "tls")]
pub(crate) mod tls;
pub(crate) mod tools;
pub(crate) mod ts_check;
pub(crate) mod viewer;

use std::time::Duration;

use tokio::time::Instant;

/// Asks again and again until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            Instant::now() < deadline,
            "waited {PATIENCE:?} in vain for: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits for a future, but not for ever.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} in vain for: {what}"),
    }
}

/// Far more than anything takes; only a hang gets here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
