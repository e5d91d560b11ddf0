//! Viewers that hold on to connections, send too much ahead, or read too little: they lose their places, by limits with names, and
//! nobody else notices. What takes minutes or thousands of connections is in `scripts/hostile`.

use std::sync::Arc;
use std::time::Duration;

use crate::common::bystander::{self, Bystander};
use crate::common::media::Clip;
use crate::common::publisher::Publisher;
use crate::common::server::TestServer;
use crate::common::viewer::{self, Viewer};
use crate::common::{eventually, playlist};

#[tokio::test(flavor = "multi_thread")]
async fn who_has_been_idle_for_longest_gives_up_its_place() {
    let server = TestServer::with(&["--max-connections", "3"]);
    let mut viewers = Vec::new();
    for _ in 0..3 {
        let mut viewer = Viewer::connect(server.http).await;
        viewer.ask("GET", "/healthz", &[]).await;
        assert_eq!(viewer.response().await.status(), 200);
        viewers.push(viewer);
    }
    // The first asks again, so the second is the one.
    viewers[0].ask("GET", "/healthz", &[]).await;
    assert_eq!(viewers[0].response().await.status(), 200);
    // All have just been answered, and keep their places for 0.3 s.
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(viewer::get(server.http, "/healthz").await.status(), 200);
    viewers.remove(1).expect_close().await;
    for viewer in &mut viewers {
        viewer.ask("GET", "/healthz", &[]).await;
        assert_eq!(viewer.response().await.status(), 200);
    }
    assert_eq!(limit(&server, "idle_connection"), 1);
    assert_eq!(limit(&server, "http_connections"), 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_keep_nobody_out() {
    let bystander = Bystander::with(&["--max-connections", "20"]).await;
    let http = bystander.server.http;
    let mut silent = Vec::new();
    for round in 0..100 {
        silent.push(Viewer::connect(http).await);
        if round % 10 == 9 {
            assert_eq!(viewer::get(http, "/healthz").await.status(), 200);
        }
    }
    // What is open has a place; the others have been closed.
    for mut viewer in silent.drain(..50) {
        viewer.expect_close().await;
    }
    eventually("no more connections than there may be", || {
        (bystander.server.metrics.http_connections.get() <= 20).then_some(())
    })
    .await;
    assert!(limit(&bystander.server, "idle_connection") >= 80);
    drop(silent);
    bystander.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_being_answered_keeps_its_place() {
    let bystander = Bystander::with(&["--max-connections", "2"]).await;
    let http = bystander.server.http;
    let path = playlist::media_path(&bystander.server, bystander::NAME).await;
    let list = playlist::fetch(&bystander.server, &path).await;
    let announced = playlist::sibling(&path, &list.entries.last().unwrap().uri);
    let nobody = || (bystander.server.metrics.http_connections.get() == 0).then_some(());
    eventually("a place that those who asked have left", nobody).await;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut viewer = Viewer::connect(http).await;
        viewer.ask("GET", &announced, &[]).await;
        assert_eq!(viewer.head().await.status, 200);
        waiting.push(viewer);
    }
    let response = viewer::get(http, "/healthz").await;
    assert_eq!(response.status(), 503);
    assert_eq!(limit(&bystander.server, "http_connections"), 1);
    // The places of those who have gone are given away again.
    drop(waiting);
    eventually("a free place", nobody).await;
    bystander.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_requests_sent_ahead_are_answered_one_after_the_other() {
    let bystander = Bystander::start().await;
    let http = bystander.server.http;
    let path = playlist::media_path(&bystander.server, bystander::NAME).await;
    let mut viewer = Viewer::connect(http).await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    viewer.send(request.repeat(500).as_bytes()).await.unwrap();
    for _ in 0..500 {
        viewer.expect_body();
        assert_eq!(viewer.response().await.status(), 200);
    }
    // And the same on many connections.
    let mut tasks = Vec::new();
    for _ in 0..500 {
        let path = path.clone();
        tasks.push(tokio::spawn(async move {
            viewer::get(http, &path).await.status()
        }));
    }
    for task in tasks {
        assert_eq!(task.await.unwrap(), 200);
    }
    bystander.finish().await;
}

/// On one thread, since only its clock can be put forward.
#[tokio::test]
async fn who_stops_reading_is_cut_off_and_can_come_again() {
    // Heavy enough that the kernel's buffers do not hold it.
    let clip = Clip {
        video: Some(&[
            "-tune zerolatency -b:v 24M -minrate 24M -maxrate 24M -bufsize 24M -nal-hrd cbr",
        ]),
        ..Clip::default()
    };
    let server = Arc::new(TestServer::with(&["--publish-timeout", "10m"]));
    let mut publisher = Publisher::start(&server, "live/deaf", &clip).await;
    publisher.send_until(2500).await;
    let path = playlist::media_path(&server, "live/deaf").await;
    let list = playlist::fetch(&server, &path).await;
    let segment = playlist::sibling(&path, &list.entries[0].uri);
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut deaf = Viewer::over(socket.connect(server.http).await.unwrap());
    deaf.ask("GET", &segment, &[]).await;
    let head = deaf.head().await;
    let length: usize = head.header("content-length").unwrap().parse().unwrap();
    assert!(length > 200_000, "{length}");

    // The server finds the socket full before the time is over, and its timer done after that.
    tokio::time::pause();
    while limit(&server, "viewer_stalled") == 0 {
        tokio::time::advance(Duration::from_secs(1)).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
    tokio::time::resume();
    let mut buffer = vec![0; 65_536];
    let mut taken = 0;
    loop {
        match deaf.trickle(&mut buffer).await {
            0 => break,
            count => taken += count,
        }
    }
    assert!(taken < length, "it was broken off");
    assert_eq!(limit(&server, "viewer_stalled"), 1);

    // It comes again, at the edge, and so does what the publisher sends from now on.
    let list = playlist::fetch(&server, &path).await;
    let next = playlist::sibling(&path, &list.entries.last().unwrap().uri);
    let mut again = Viewer::connect(server.http).await;
    again.ask("GET", &next, &[]).await;
    assert_eq!(again.head().await.status, 200);
    publisher.send_until(u32::MAX).await;
    assert!(again.next_chunk().await.is_some());
    publisher.finish().await;
    server.assert_no_panics();
}

/// How often a limit has been hit.
fn limit(server: &TestServer, name: &str) -> u64 {
    let text = server.metrics.encode(&[]);
    let line = format!("lhls_limits_hit_total{{reason=\"{name}\"}} ");
    text.lines()
        .find_map(|found| found.strip_prefix(&line))
        .map_or(0, |count| count.parse().unwrap())
}
