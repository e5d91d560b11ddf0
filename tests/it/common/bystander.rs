//! Somebody else's stream, which goes on undisturbed whatever is done to the server meanwhile.

use std::sync::Arc;

use super::flv;
use super::media::Clip;
use super::publisher::Publisher;
use super::recording::Recording;
use super::server::TestServer;
use super::{compare, viewer};

/// A publisher that has sent half of its clip.
pub(crate) struct Bystander {
    pub(crate) server: Arc<TestServer>,
    publisher: Publisher,
}

impl Bystander {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    pub(crate) async fn with(options: &[&str]) -> Self {
        let server = Arc::new(TestServer::with(options));
        let mut publisher = Publisher::start(&server, NAME, &Clip::default()).await;
        publisher.send_until(2200).await;
        Self { server, publisher }
    }

    /// Sends the other half and checks that all of it came out; and that nothing panicked.
    pub(crate) async fn finish(mut self) {
        self.publisher.send_until(u32::MAX).await;
        self.publisher.finish().await;
        let programme = Recording::follow(&self.server, NAME).await.check();
        compare::assert_same(&flv::read(&Clip::default().file().await), &programme);
        self.server.assert_no_panics();
        let metrics = viewer::get(self.server.http, "/metrics").await.text();
        assert!(metrics.contains("\nlhls_panics_total 0\n"), "{metrics}");
    }
}

/// Its stream's name, which is taken.
pub(crate) const NAME: &str = "live/bystander";
