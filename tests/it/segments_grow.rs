//! Segments are sent while they grow: every piece at once, as an HTTP chunk of its own. No times are measured here: what has
//! arrived is compared with what the publisher has sent so far.

use std::sync::Arc;

use crate::common::media::Clip;
use crate::common::playlist::{self, Playlist};
use crate::common::publisher::Publisher;
use crate::common::server::TestServer;
use crate::common::viewer::{self, Viewer};
use crate::common::within;

#[tokio::test(flavor = "multi_thread")]
async fn the_first_bytes_come_long_before_the_last_are_made() {
    let (server, mut publisher, path) = live("live/grow").await;
    let playlist = playlist::fetch(&server, &path).await;
    // The clip is at 2.1 s: two segments are done, the third grows.
    let growing = &playlist.entries[2];
    let mut viewer = Viewer::connect(server.http).await;
    viewer
        .ask("GET", &playlist::sibling(&path, &growing.uri), &[])
        .await;
    let head = viewer.head().await;
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-type"), Some("video/mp2t"));
    assert_eq!(head.header("transfer-encoding"), Some("chunked"));
    let first = viewer.next_chunk().await.expect("what there is so far");
    assert_eq!(first.bytes[0], 0x47);

    // From here on each picture is an HTTP chunk, and is here before the next is even sent.
    let mut chunks = vec![first];
    for _ in 0..10 {
        let before = pieces(&server);
        while pieces(&server) == before {
            publisher.send_one().await;
        }
        let chunk = within("the chunk of a piece", viewer.next_chunk()).await;
        chunks.push(chunk.expect("the segment still grows"));
    }
    assert!(
        chunks
            .windows(2)
            .all(|pair| pair[0].arrived <= pair[1].arrived)
    );
    for chunk in &chunks {
        assert_eq!(chunk.bytes.len() % 188, 0, "whole packets in every chunk");
    }
    publisher.send_until(3500).await;
    while let Some(chunk) = viewer.next_chunk().await {
        chunks.push(chunk);
    }
    let whole = viewer::get(server.http, &playlist::sibling(&path, &growing.uri)).await;
    assert_eq!(
        whole.header("content-length"),
        Some(whole.bytes().len().to_string().as_str())
    );
    let grown: Vec<u8> = chunks.into_iter().flat_map(|chunk| chunk.bytes).collect();
    assert!(grown == whole.bytes(), "grown and finished are the same");
    publisher.finish().await;
    server.assert_no_panics();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announced_segment_is_answered_at_once() {
    let (server, mut publisher, path) = live("live/announced").await;
    let playlist = playlist::fetch(&server, &path).await;
    assert_eq!(playlist.entries.len(), 5, "{}", playlist.text);
    let mut viewers = Vec::new();
    for entry in &playlist.entries[3..] {
        let mut viewer = Viewer::connect(server.http).await;
        viewer
            .ask("GET", &playlist::sibling(&path, &entry.uri), &[])
            .await;
        // The publisher sends nothing meanwhile, so this is before the segment's first byte exists.
        let head = viewer.head().await;
        assert_eq!(head.status, 200);
        assert_eq!(head.header("transfer-encoding"), Some("chunked"));
        viewers.push(viewer);
    }
    // One more is announced to players built on ffmpeg.
    let beyond = playlist.last_sequence().unwrap() + 2;
    let uri = playlist.entries[0].uri.as_str();
    let uri = uri.replace(&playlist.media_sequence.to_string(), &beyond.to_string());
    let beyond = playlist::sibling(&path, &uri);
    assert_eq!(viewer::get(server.http, &beyond).await.status(), 404);

    publisher.send_until(10_000).await;
    for viewer in &mut viewers {
        let chunk = viewer.next_chunk().await.expect("the segment came");
        assert_eq!(chunk.bytes[0], 0x47);
    }
    publisher.finish().await;
    server.assert_no_panics();
}

/// A finished segment after each of them, three states of one playlist: what was announced is what comes.
#[tokio::test(flavor = "multi_thread")]
async fn announced_names_become_the_segments_they_announced() {
    let (server, mut publisher, path) = live("live/names").await;
    let mut history: Vec<Playlist> = Vec::new();
    for millis in [3100, 4100] {
        history.push(playlist::fetch(&server, &path).await);
        publisher.send_until(millis).await;
    }
    publisher.finish().await;
    server.wait_for_end("live/names").await;
    history.push(playlist::fetch(&server, &path).await);
    playlist::check_history(&history);
    let last = history.last().unwrap();
    assert!(last.ended);
    assert_eq!(last.last_sequence(), history[0].last_sequence());
    server.assert_no_panics();
}

/// A publisher that has sent a little more than two groups of pictures of one second.
async fn live(name: &str) -> (Arc<TestServer>, Publisher, String) {
    let server = Arc::new(TestServer::start());
    let mut publisher = Publisher::start(&server, name, &Clip::default()).await;
    publisher.send_until(2200).await;
    server.wait_for_playlist(name).await;
    let path = playlist::media_path(&server, name).await;
    (server, publisher, path)
}

fn pieces(server: &TestServer) -> u64 {
    server.metrics.pieces.get()
}
