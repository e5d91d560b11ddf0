//! What the connection of a viewer is like before, during and after a segment that grows: that segment is written by other means than all
//! other answers, and nobody may be able to tell.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::common::media::Clip;
use crate::common::media_playlist::Entry;
use crate::common::playlist;
use crate::common::publisher::Publisher;
use crate::common::server::TestServer;
use crate::common::viewer::{self, Viewer};
use crate::common::{eventually, within};

/// A stream at 2.2 s, with two segments finished, one growing and two announced.
struct Live {
    server: Arc<TestServer>,
    publisher: Publisher,
    media: String,
    /// The paths of all five.
    segments: Vec<String>,
}

impl Live {
    async fn start(options: &[&str], clip: &Clip) -> Self {
        let server = Arc::new(TestServer::with(options));
        let mut publisher = Publisher::start(&server, "live/a", clip).await;
        publisher.send_until(2200).await;
        server.wait_for_playlist("live/a").await;
        let media = playlist::media_path(&server, "live/a").await;
        let segments = within("five segments", async {
            loop {
                let entries = playlist::fetch(&server, &media).await.entries;
                if entries.len() == 5 {
                    let path = |entry: &Entry| playlist::sibling(&media, &entry.uri);
                    return entries.iter().map(path).collect();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        Self {
            server,
            publisher,
            media,
            segments,
        }
    }

    async fn ask(&self, segment: usize) -> Viewer {
        let mut viewer = Viewer::connect(self.server.http).await;
        viewer.ask("GET", &self.segments[segment], &[]).await;
        assert_eq!(viewer.head().await.status, 200);
        viewer
    }

    async fn until_connections_are(&self, count: i64) {
        eventually("as many connections", || {
            (self.server.metrics.http_connections.get() == count).then_some(())
        })
        .await;
    }
}

async fn body(viewer: &mut Viewer) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(chunk) = viewer.next_chunk().await {
        body.extend(chunk.bytes);
    }
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_sent_ahead_are_answered_behind_it() {
    let mut live = Live::start(&[], &Clip::default()).await;
    let mut viewer = Viewer::connect(live.server.http).await;
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    // All in one packet, some of it while the segment grows, and a request in two halves.
    let mut text = ask("/healthz") + &ask(&live.segments[2]) + &ask(&live.media);
    text += &ask(&live.segments[3]);
    viewer.send(text.as_bytes()).await.unwrap();
    viewer.expect_body();
    assert_eq!(viewer.response().await.text(), "ok\n");
    viewer.expect_body();
    assert_eq!(viewer.head().await.status, 200);
    assert!(viewer.next_chunk().await.is_some());
    let (first, second) = ("GET /healthz HT", "TP/1.1\r\nHost: a\r\n\r\n");
    viewer.send(first.as_bytes()).await.unwrap();
    live.publisher.send_until(3300).await;
    assert!(!body(&mut viewer).await.is_empty());
    viewer.expect_body();
    assert!(viewer.response().await.text().starts_with("#EXTM3U"));
    viewer.expect_body();
    assert_eq!(viewer.head().await.status, 200);
    assert!(viewer.next_chunk().await.is_some());
    viewer.send(second.as_bytes()).await.unwrap();
    live.publisher.send_until(4300).await;
    let grown = body(&mut viewer).await;
    viewer.expect_body();
    assert_eq!(viewer.response().await.text(), "ok\n");
    assert_eq!(live.server.metrics.http_connections.get(), 1);
    let whole = viewer::get(live.server.http, &live.segments[3]).await;
    assert!(whole.bytes().ends_with(&grown));
    live.publisher.finish().await;
    live.server.assert_no_panics();
}

/// More than is read ahead while a segment grows stays where it is, and is answered later all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_requests_sent_ahead_of_its_end() {
    let mut live = Live::start(&[], &Clip::default()).await;
    let mut viewer = live.ask(3).await;
    let text = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
    viewer.send(text.as_bytes()).await.unwrap();
    live.publisher.send_until(4300).await;
    assert!(!body(&mut viewer).await.is_empty());
    for _ in 0..1000 {
        viewer.expect_body();
        assert_eq!(viewer.response().await.status(), 200);
    }
    live.publisher.finish().await;
    live.server.assert_no_panics();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_that_is_hung_up_on_behind_it() {
    let mut live = Live::start(&[], &Clip::default()).await;
    let mut viewer = Viewer::connect(live.server.http).await;
    let headers = ["Connection: x, Close"];
    viewer.ask("GET", &live.segments[2], &headers).await;
    let head = viewer.head().await;
    assert_eq!(head.header("connection"), Some("close"));
    live.publisher.send_until(3300).await;
    assert!(!body(&mut viewer).await.is_empty());
    viewer.expect_close().await;
    live.publisher.finish().await;
    live.server.assert_no_panics();
}

/// A request with a body is hyper's to answer to the end, whatever it is for.
#[tokio::test(flavor = "multi_thread")]
async fn it_looks_like_any_other_answer() {
    let mut live = Live::start(&[], &Clip::default()).await;
    let mut heads = Vec::new();
    let mut viewers = Vec::new();
    for with_body in [true, false] {
        let mut viewer = Viewer::connect(live.server.http).await;
        let path = &live.segments[2];
        let text = match with_body {
            true => format!("GET {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
            false => format!("GET {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n"),
        };
        viewer.send(text.as_bytes()).await.unwrap();
        let mut head = vec![0; 2048];
        let length = viewer.trickle(&mut head).await;
        let head = String::from_utf8_lossy(&head[..length]).into_owned();
        let (head, _) = head.split_once("\r\n\r\n").unwrap();
        let lines = head.lines().filter(|line| !line.starts_with("date: "));
        heads.push(lines.map(str::to_owned).collect::<BTreeSet<_>>());
        assert!(head.contains("\r\ndate: ") && head.ends_with(" GMT"));
        viewers.push(viewer);
    }
    assert_eq!(heads[0], heads[1]);
    live.publisher.send_until(3300).await;
    live.publisher.finish().await;
    live.server.assert_no_panics();
}

/// Heads may wait for the first piece to go with, but not for long. The publisher is silent.
#[tokio::test]
async fn many_are_answered_before_there_is_anything_to_send() {
    let mut live = Live::start(&[], &Clip::default()).await;
    let mut viewers = Vec::new();
    for _ in 0..150 {
        let mut viewer = Viewer::connect(live.server.http).await;
        viewer.ask("GET", &live.segments[4], &[]).await;
        viewers.push(viewer);
    }
    for viewer in &mut viewers {
        assert_eq!(viewer.head().await.status, 200);
    }
    live.publisher.send_until(4300).await;
    for viewer in &mut viewers {
        assert!(viewer.next_chunk().await.is_some());
    }
    live.publisher.finish().await;
    live.server.assert_no_panics();
}

/// The publisher is silent, so nothing is written that could fail.
#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_is_gone_at_once() {
    let live = Live::start(&[], &Clip::default()).await;
    live.until_connections_are(0).await;
    let mut viewers = Vec::new();
    for segment in [2, 3, 4] {
        for _ in 0..3 {
            viewers.push(live.ask(segment).await);
        }
    }
    live.until_connections_are(9).await;
    let mut half_closed = viewers.pop().unwrap();
    half_closed.hang_up().await;
    live.until_connections_are(8).await;
    viewers.truncate(4);
    live.until_connections_are(4).await;
    drop(viewers);
    live.until_connections_are(0).await;
    live.publisher.finish().await;
    live.server.assert_no_panics();
}

/// Its socket is full again and again, and the writer goes on without it; others are at the edge meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn who_reads_in_fits_gets_every_byte_once() {
    let clip = Clip {
        video: Some(&[
            "-tune zerolatency -b:v 24M -minrate 24M -maxrate 24M -bufsize 24M -nal-hrd cbr",
        ]),
        ..Clip::default()
    };
    let live = Live::start(&[], &clip).await;
    let mut tasks = Vec::new();
    for pause in [0, 10, 30, 100, 300] {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16_384).unwrap();
        let mut viewer = Viewer::over(socket.connect(live.server.http).await.unwrap());
        viewer.ask("GET", &live.segments[3], &[]).await;
        assert_eq!(viewer.head().await.status, 200);
        let next = live.segments[4].clone();
        tasks.push(tokio::spawn(async move {
            let mut body = Vec::new();
            while let Some(chunk) = viewer.next_chunk().await {
                body.extend(chunk.bytes);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            // And goes on with the next, wherever that is by now.
            viewer.ask("GET", &next, &[]).await;
            assert_eq!(viewer.head().await.status, 200);
            assert!(viewer.next_chunk().await.is_some());
            body
        }));
    }
    live.publisher.play(2.0).await;
    let whole = viewer::get(live.server.http, &live.segments[3]).await;
    for task in tasks {
        assert!(task.await.unwrap() == whole.bytes());
    }
    live.server.assert_no_panics();
}

/// When it has ended, the connection is idle like any other.
#[tokio::test(flavor = "multi_thread")]
async fn its_place_can_be_given_away_after_it_and_not_during_it() {
    let mut live = Live::start(&["--max-connections", "2"], &Clip::default()).await;
    live.until_connections_are(0).await;
    let mut first = live.ask(2).await;
    let second = live.ask(4).await;
    let turned_away = viewer::get(live.server.http, "/healthz").await;
    assert_eq!(turned_away.status(), 503);
    live.publisher.send_until(3300).await;
    assert!(!body(&mut first).await.is_empty());
    // It keeps its place for 0.3 s.
    tokio::time::sleep(Duration::from_millis(400)).await;
    let served = viewer::get(live.server.http, "/healthz").await;
    assert_eq!(served.status(), 200);
    first.expect_close().await;
    drop(second);
    live.publisher.finish().await;
    live.server.assert_no_panics();
}

/// The clock of this test runs ahead whenever everybody waits.
#[tokio::test]
async fn who_asks_for_nothing_after_it_is_hung_up_on() {
    let options = ["--publish-timeout", "10m", "--retain", "10m"];
    let mut live = Live::start(&options, &Clip::default()).await;
    let mut viewer = live.ask(2).await;
    let mut waiting = live.ask(4).await;
    live.publisher.send_until(3300).await;
    assert!(!body(&mut viewer).await.is_empty());
    tokio::time::pause();
    viewer.expect_close().await;
    // Whoever waits for what is announced is not idle.
    tokio::time::resume();
    live.publisher.send_until(4300).await;
    assert!(waiting.next_chunk().await.is_some());
    live.publisher.finish().await;
    live.server.assert_no_panics();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_lets_it_end_first() {
    let Live {
        server,
        publisher,
        segments,
        ..
    } = Live::start(&[], &Clip::default()).await;
    let mut viewers = Vec::new();
    for segment in [2, 4] {
        let mut viewer = Viewer::connect(server.http).await;
        viewer.ask("GET", &segments[segment], &[]).await;
        assert_eq!(viewer.head().await.status, 200);
        viewers.push(viewer);
    }
    let server = Arc::into_inner(server).unwrap();
    let ending = tokio::spawn(server.stop());
    // The publisher has gone, so the first has ended, and the other will never come.
    assert!(!body(&mut viewers[0]).await.is_empty());
    assert!(body(&mut viewers[1]).await.is_empty());
    for viewer in &mut viewers {
        viewer.expect_close().await;
    }
    within("the server's end", ending).await.unwrap();
    drop(publisher);
}
