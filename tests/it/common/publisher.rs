//! A publisher of known tags that goes exactly as far as it is told.

use std::collections::VecDeque;
use std::time::Duration;

use lhls::rtmp::amf::{self, Amf0Value};
use tokio::time::Instant;

use super::flv::{self, Tag};
use super::media::Clip;
use super::peer::Peer;
use super::server::TestServer;

/// A publisher whose stream the server has accepted.
pub(crate) struct Publisher {
    peer: Peer,
    waiting: VecDeque<Tag>,
}

impl Publisher {
    /// Of a clip.
    pub(crate) async fn start(server: &TestServer, name: &str, clip: &Clip) -> Self {
        let tags = flv::read(&clip.file().await);
        Self::of_tags(server, name, tags).await
    }

    pub(crate) async fn of_tags(server: &TestServer, name: &str, tags: Vec<Tag>) -> Self {
        let mut peer = Peer::publishing(server.rtmp, name).await;
        peer.set_chunk_size(4096).await.unwrap();
        Self {
            peer,
            waiting: tags.into(),
        }
    }

    /// Sends the next tag. False when there is none.
    pub(crate) async fn send_next(&mut self) -> bool {
        let Some(tag) = self.waiting.pop_front() else {
            return false;
        };
        let chunk_stream = if tag.kind == 9 { 6 } else { 4 };
        self.peer
            .message(chunk_stream, tag.kind, 1, tag.timestamp, &tag.body)
            .await
            .unwrap();
        true
    }

    /// Sends the next tag. False when there is none, or the server has closed the connection.
    pub(crate) async fn try_send_next(&mut self) -> bool {
        let Some(tag) = self.waiting.pop_front() else {
            return false;
        };
        self.peer
            .message(4, tag.kind, 1, tag.timestamp, &tag.body)
            .await
            .is_ok()
    }

    /// Sends what comes before this time of the clip, at once, and waits until the server has dealt with it.
    pub(crate) async fn send_until(&mut self, millis: u32) {
        while self
            .waiting
            .front()
            .is_some_and(|tag| tag.timestamp < millis)
        {
            self.send_next().await;
        }
        self.peer.settle().await;
    }

    /// Sends the next tag and waits until the server has dealt with it.
    pub(crate) async fn send_one(&mut self) {
        assert!(self.send_next().await, "the clip has more");
        self.peer.settle().await;
    }

    /// Sends all that is left, at so many times its own speed, and ends in good order.
    pub(crate) async fn play(mut self, speed: f64) {
        let start = Instant::now();
        let first = self.waiting.front().map_or(0, |tag| tag.timestamp);
        while let Some(tag) = self.waiting.front() {
            let due = f64::from(tag.timestamp - first) / 1000.0 / speed;
            tokio::time::sleep_until(start + Duration::from_secs_f64(due)).await;
            self.send_next().await;
        }
        self.finish().await;
    }

    /// Ends in good order.
    pub(crate) async fn finish(mut self) {
        let id = [Amf0Value::Number(1.0)];
        let _ = self
            .peer
            .command(0, "FCUnpublish", Amf0Value::Null, &[amf::string("name")])
            .await;
        let _ = self
            .peer
            .command(0, "deleteStream", Amf0Value::Null, &id)
            .await;
        self.peer.hang_up().await;
        self.peer.expect_close().await;
    }

    /// Vanishes: the connection just closes.
    pub(crate) fn vanish(self) {}
}
