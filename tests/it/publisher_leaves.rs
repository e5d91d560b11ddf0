//! A publisher that stops in the middle of a segment: what grows ends cleanly, what was announced is withdrawn, the playlist ends.

use std::sync::Arc;

use crate::common::media::Clip;
use crate::common::playlist;
use crate::common::publisher::Publisher;
use crate::common::recording::Recording;
use crate::common::server::TestServer;
use crate::common::ts_check;
use crate::common::viewer::{self, Viewer};

#[tokio::test(flavor = "multi_thread")]
async fn by_vanishing() {
    leaves("live/vanishes", async |publisher| publisher.vanish()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_good_order() {
    leaves("live/finishes", Publisher::finish).await;
}

async fn leaves(name: &str, leave: impl AsyncFnOnce(Publisher)) {
    let server = Arc::new(TestServer::start());
    let mut publisher = Publisher::start(&server, name, &Clip::default()).await;
    publisher.send_until(2600).await;
    let path = playlist::media_path(&server, name).await;
    let before = playlist::fetch(&server, &path).await;
    let mut viewers = Vec::new();
    for entry in &before.entries[2..] {
        let mut viewer = Viewer::connect(server.http).await;
        viewer
            .ask("GET", &playlist::sibling(&path, &entry.uri), &[])
            .await;
        assert_eq!(viewer.head().await.status, 200);
        viewers.push(viewer);
    }
    leave(publisher).await;
    server.wait_for_end(name).await;

    let mut bodies = Vec::new();
    for mut viewer in viewers {
        let mut body = Vec::new();
        // Panics unless the body ends as HTTP says it must.
        while let Some(chunk) = viewer.next_chunk().await {
            body.extend(chunk.bytes);
        }
        bodies.push(body);
        // And the connection can be used again.
        viewer.ask("GET", "/healthz", &[]).await;
        assert_eq!(viewer.response().await.text(), "ok\n");
    }
    let (grown, announced) = bodies.split_first().unwrap();
    assert!(!grown.is_empty());
    let segment = ts_check::check(&[grown], true);
    assert!(
        (15..=18).contains(&segment.video.len()),
        "{}",
        segment.video.len()
    );
    assert!(
        announced.iter().all(Vec::is_empty),
        "nothing was ever in them"
    );

    let after = playlist::fetch(&server, &path).await;
    assert!(after.ended, "{}", after.text);
    assert_eq!(after.last_sequence(), Some(before.entries[2].sequence));
    assert_eq!(after.target_duration, before.target_duration);
    assert!(
        (0.5..0.65).contains(&after.entries.last().unwrap().seconds),
        "{}",
        after.text
    );
    for entry in &before.entries[3..] {
        let path = playlist::sibling(&path, &entry.uri);
        assert_eq!(viewer::get(server.http, &path).await.status(), 404);
    }
    let listed = viewer::get(server.http, "/api/streams").await.text();
    assert_eq!(listed, "{\"streams\":[]}\n");
    server.assert_no_panics();
}

/// A name is free again at once, and the new run's playlist and segments have other names.
#[tokio::test(flavor = "multi_thread")]
async fn and_comes_back() {
    let server = Arc::new(TestServer::start());
    let mut seen = Vec::new();
    for _ in 0..2 {
        let mut publisher = Publisher::start(&server, "live/again", &Clip::default()).await;
        publisher.send_until(2600).await;
        let path = playlist::media_path(&server, "live/again").await;
        seen.push(playlist::fetch(&server, &path).await);
        publisher.vanish();
        server.wait_for_end("live/again").await;
    }
    let uris = |run: usize| seen[run].entries.iter().map(|entry| &entry.uri);
    assert!(uris(0).all(|uri| uris(1).all(|other| other != uri)));
    let recording = Recording::follow(&server, "live/again").await;
    recording.check();
    server.assert_no_panics();
}

/// A publisher that never got as far as anything playable.
#[tokio::test(flavor = "multi_thread")]
async fn before_there_was_anything() {
    let server = Arc::new(TestServer::start());
    let publisher = Publisher::start(&server, "live/nothing", &Clip::default()).await;
    let mut viewer = Viewer::connect(server.http).await;
    viewer.ask("GET", "/live/nothing/playlist.m3u8", &[]).await;
    publisher.vanish();
    assert_eq!(viewer.response().await.status(), 404);
    server.assert_no_panics();
}
