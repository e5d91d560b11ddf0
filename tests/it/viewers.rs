//! Viewers of every kind: early ones, slow ones, many at once. All get the same bytes, and none is in another's way.

use std::sync::Arc;

use crate::common::media::Clip;
use crate::common::playlist;
use crate::common::publisher::Publisher;
use crate::common::recording::{self, Recording};
use crate::common::server::TestServer;
use crate::common::viewer::{self, Viewer};

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_before_there_is_data_waits_for_it() {
    let server = Arc::new(TestServer::start());
    assert_eq!(
        viewer::get(server.http, "/live/early/playlist.m3u8")
            .await
            .status(),
        404,
        "nobody publishes"
    );
    let mut publisher = Publisher::start(&server, "live/early", &Clip::default()).await;
    let mut viewer = Viewer::connect(server.http).await;
    viewer.ask("GET", "/live/early/playlist.m3u8", &[]).await;
    // The answer needs the second key frame, so it cannot be on its way yet.
    publisher.send_until(500).await;
    publisher.send_until(1500).await;
    let response = viewer.response().await;
    assert_eq!(response.status(), 200);
    assert!(response.text().contains("#EXT-X-STREAM-INF"));
    publisher.finish().await;
    server.assert_no_panics();
}

/// With the target duration given there is no need to wait for the second key frame.
#[tokio::test(flavor = "multi_thread")]
async fn a_configured_target_duration_spares_the_wait() {
    let server = Arc::new(TestServer::with(&["--target-duration", "2"]));
    let mut publisher = Publisher::start(&server, "live/told", &Clip::default()).await;
    publisher.send_until(500).await;
    let path = playlist::media_path(&server, "live/told").await;
    let playlist = playlist::fetch(&server, &path).await;
    assert_eq!(playlist.target_duration, 2);
    publisher.finish().await;
    server.assert_no_panics();
}

#[tokio::test(flavor = "multi_thread")]
async fn all_get_the_same_bytes_whenever_they_join() {
    let server = Arc::new(TestServer::start());
    let mut publisher = Publisher::start(&server, "live/same", &Clip::default()).await;
    publisher.send_until(2050).await;
    let path = playlist::media_path(&server, "live/same").await;
    let playlist = playlist::fetch(&server, &path).await;
    let segment = playlist::sibling(&path, &playlist.entries[3].uri);
    let mut tasks = Vec::new();
    // Some wait from before its first byte, some join while it grows, some come when it is finished.
    for millis in [2050, 2500, 3050, 3300, 3700, 4100, 4500] {
        publisher.send_until(millis).await;
        for _ in 0..3 {
            let mut viewer = Viewer::connect(server.http).await;
            viewer.ask("GET", &segment, &[]).await;
            assert_eq!(viewer.head().await.status, 200);
            tasks.push(tokio::spawn(async move {
                let mut body = Vec::new();
                while let Some(chunk) = viewer.next_chunk().await {
                    body.extend(chunk.bytes);
                }
                body
            }));
        }
    }
    publisher.finish().await;
    let mut bodies = Vec::new();
    for task in tasks {
        bodies.push(task.await.unwrap());
    }
    assert!(bodies[0].len() > 1000);
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]));
    server.assert_no_panics();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_reads_at_a_trickle_hurts_nobody() {
    // Heavy enough that the kernel's buffers do not hold it.
    let clip = Clip {
        video: Some(&[
            "-tune zerolatency -b:v 24M -minrate 24M -maxrate 24M -bufsize 24M -nal-hrd cbr",
        ]),
        audio: None,
        ..Clip::default()
    };
    let server = Arc::new(TestServer::start());
    let publisher = Publisher::start(&server, "live/trickle", &clip).await;
    let others = recording::start(&server, "live/trickle");
    let publisher = tokio::spawn(publisher.play(1.0));
    server.wait_for_playlist("live/trickle").await;
    let path = playlist::media_path(&server, "live/trickle").await;
    let playlist = playlist::fetch(&server, &path).await;
    let segment = playlist::sibling(&path, &playlist.entries[1].uri);

    // One with a small window that takes a little at a time.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut slow = Viewer::over(socket.connect(server.http).await.unwrap());
    slow.ask("GET", &segment, &[]).await;
    let mut buffer = vec![0; 2048];
    let mut taken = 0;
    while !publisher.is_finished() {
        taken += slow.trickle(&mut buffer).await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    publisher.await.unwrap();
    let recording: Recording = others.await.unwrap();
    let programme = recording.check();
    assert_eq!(programme.video.len(), 150, "the others missed nothing");
    let whole = viewer::get(server.http, &segment).await.bytes();
    assert!(taken < whole.len(), "it was meant to be slow");

    // In the end it gets all, too; chunk headers come on top.
    loop {
        let count = slow.trickle(&mut buffer).await;
        taken += count;
        if count == 0 || taken > whole.len() {
            break;
        }
    }
    assert!(taken > whole.len(), "{taken} of {}", whole.len());
    server.assert_no_panics();
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_counted_while_they_are_there() {
    let server = Arc::new(TestServer::start());
    let mut publisher = Publisher::start(&server, "live/count", &Clip::default()).await;
    publisher.send_until(2100).await;
    let path = playlist::media_path(&server, "live/count").await;
    let mut viewer = Viewer::connect(server.http).await;
    viewer.ask("GET", &path, &[]).await;
    viewer.response().await;
    let list = viewer::get(server.http, "/api/streams").await.text();
    assert!(list.contains("\"viewers\":1"), "{list}");
    drop(viewer);
    crate::common::eventually("the viewer to be forgotten", || {
        let stream = server.registry.find("live/count")?;
        (stream.viewers() == 0).then_some(())
    })
    .await;
    publisher.finish().await;
    server.assert_no_panics();
}
