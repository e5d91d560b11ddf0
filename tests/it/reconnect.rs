//! Publishers that go and come back, or are replaced: viewers go on where they were.

use std::sync::Arc;
use std::time::Duration;

use crate::common::media::Clip;
use crate::common::playlist;
use crate::common::publisher::Publisher;
use crate::common::server::TestServer;
use crate::common::ts_check;
use crate::common::viewer::{self, Viewer};
use crate::common::{eventually, within};

const WINDOW: &[&str] = &["--reconnect-window", "60s"];

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_who_waits_through_an_outage_gets_its_bytes() {
    let (server, publisher, path) = live("live/outage", WINDOW).await;
    let before = playlist::fetch(&server, &path).await;
    // The one that comes after the growing one.
    let announced = playlist::sibling(&path, &before.entries[3].uri);
    let mut viewer = Viewer::connect(server.http).await;
    viewer.ask("GET", &announced, &[]).await;
    assert_eq!(viewer.head().await.status, 200);
    publisher.vanish();
    paused(&server).await;
    let waiting = playlist::fetch(&server, &path).await;
    assert!(!waiting.ended);

    let mut back = Publisher::start(&server, "live/outage", &Clip::default()).await;
    back.send_until(3200).await;
    let chunk = within("the announced segment", viewer.next_chunk()).await;
    assert!(!chunk.expect("bytes").bytes.is_empty());
    let after = playlist::fetch(&server, &path).await;
    playlist::check_history(&[before.clone(), waiting, after.clone()]);
    assert!(
        !after.text.contains("#EXT-X-DISCONTINUITY\n"),
        "{}",
        after.text
    );
    // Continuity counters, clock and times run on over the outage.
    let mut segments = Vec::new();
    for sequence in before.media_sequence..after.media_sequence + 2 {
        let uri = &before.entries[0]
            .uri
            .replace(&before.media_sequence.to_string(), &sequence.to_string());
        segments.push(
            viewer::get(server.http, &playlist::sibling(&path, uri))
                .await
                .bytes(),
        );
    }
    let segments: Vec<&[u8]> = segments.iter().map(Vec::as_slice).collect();
    ts_check::check(&segments, true);
    assert_eq!(server.metrics.reconnects.get(), 1);
    back.finish().await;
    server.assert_no_panics();
}

/// hls.js asks for the playlist again and again during an outage. It is told of the end of it at once, in two steps.
#[tokio::test(flavor = "multi_thread")]
async fn a_script_with_parts_is_led_over_the_outage() {
    let (server, publisher, _) = live("live/seam", WINDOW).await;
    let script = "Sec-Fetch-Dest: empty";
    let ask = async |path: &str| {
        let mut viewer = Viewer::connect(server.http).await;
        viewer.ask("GET", path, &[script]).await;
        viewer
    };
    let entry = ask("/live/seam/ll.m3u8").await.response().await.text();
    let list = entry.lines().last().unwrap();
    assert!(list.starts_with("join"), "{entry}");
    let list = format!("/live/seam/{list}");
    publisher.vanish();
    paused(&server).await;
    let before = ask(&list).await.response().await.text();
    // Not much longer, it is made to wait.
    let mut waiting = within("an outage that is long enough", async {
        loop {
            let mut viewer = ask(&list).await;
            let answer = tokio::time::timeout(Duration::from_millis(500), viewer.head()).await;
            if answer.is_err() {
                return viewer;
            }
        }
    })
    .await;
    let mut back = Publisher::start(&server, "live/seam", &Clip::default()).await;
    back.send_until(300).await;
    let bridge = within("the bridge", waiting.response()).await.text();
    let (known, _) = before.split_once("#EXT-X-PRELOAD-HINT").unwrap();
    assert!(bridge.starts_with(known), "{bridge}");
    let number = |text: &str| -> u64 {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:"));
        line.unwrap().parse().unwrap()
    };
    let next = number(&bridge) + bridge.matches("#EXTINF").count() as u64;
    let reload = format!("{list}?_HLS_msn={}&_HLS_part=0", next - 1);
    let behind = ask(&reload).await.response().await.text();
    assert_eq!(number(&behind), next, "{behind}");
    let first = behind.lines().rfind(|line| line.ends_with(".ts")).unwrap();
    let first = viewer::get(server.http, &format!("/live/seam/{first}")).await;
    assert_eq!(first.status(), 200);
    ts_check::check(&[&first.bytes()], false);
    back.finish().await;
    server.assert_no_panics();
}

#[tokio::test(flavor = "multi_thread")]
async fn other_parameters_get_a_discontinuity() {
    let (server, publisher, path) = live("live/changed", WINDOW).await;
    let before = playlist::fetch(&server, &path).await;
    publisher.vanish();
    paused(&server).await;
    let clip = Clip {
        audio: Some(&["-c:a", "aac", "-ar", "32000"]),
        ..Clip::default()
    };
    let mut back = Publisher::start(&server, "live/changed", &clip).await;
    back.send_until(1200).await;
    let after = playlist::fetch(&server, &path).await;
    let (head, tail) = after
        .text
        .split_once("#EXT-X-DISCONTINUITY\n")
        .expect("a new stretch");
    let first = tail
        .lines()
        .find(|line| !line.starts_with('#'))
        .expect("its first entry");
    assert!(
        !before.text.contains(first),
        "nobody may have seen it without the tag: {}",
        after.text
    );
    assert!(
        head.contains("#EXT-X-GAP\n"),
        "what was announced is passed over: {}",
        after.text
    );
    let passed_over = viewer::get(
        server.http,
        &playlist::sibling(&path, &before.entries[3].uri),
    )
    .await;
    assert_eq!(
        (passed_over.status(), passed_over.bytes().len()),
        (200, 4 * 188)
    );
    back.finish().await;
    server.assert_no_panics();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_back() {
    let (server, publisher, path) = live("live/gone", &["--reconnect-window", "1s"]).await;
    let before = playlist::fetch(&server, &path).await;
    let mut viewer = Viewer::connect(server.http).await;
    viewer
        .ask(
            "GET",
            &playlist::sibling(&path, &before.entries[4].uri),
            &[],
        )
        .await;
    assert_eq!(viewer.head().await.status, 200);
    publisher.vanish();
    assert!(
        within("the end of what never came", viewer.next_chunk())
            .await
            .is_none()
    );
    assert!(playlist::fetch(&server, &path).await.ended);
    server.assert_no_panics();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_publisher_takes_over() {
    let (server, mut first, path) = live("live/takeover", WINDOW).await;
    let mut second = Publisher::start(&server, "live/takeover", &Clip::default()).await;
    second.send_until(2200).await;
    let list = playlist::fetch(&server, &path).await;
    assert!(
        !list.ended && !list.text.contains("#EXT-X-DISCONTINUITY\n"),
        "{}",
        list.text
    );
    assert_eq!(server.metrics.takeovers.get(), 1);
    // The first is told and sent away.
    within("the first to be closed", async {
        while first.try_send_next().await {}
    })
    .await;
    eventually("one publisher to be left", || {
        (server.metrics.publishers.get() == 1).then_some(())
    })
    .await;
    second.finish().await;
    server.assert_no_panics();
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_reconnects_in_a_row() {
    let (server, mut publisher, path) = live("live/twenty", WINDOW).await;
    let mut history = vec![playlist::fetch(&server, &path).await];
    for n in 0..20 {
        publisher.vanish();
        paused(&server).await;
        publisher = Publisher::start(&server, "live/twenty", &Clip::default()).await;
        publisher.send_until(900 + 110 * n).await;
        history.push(playlist::fetch(&server, &path).await);
    }
    playlist::check_history(&history);
    assert_eq!(server.metrics.reconnects.get(), 20);
    assert_eq!(server.registry.list().len(), 1);
    publisher.finish().await;
    server.assert_no_panics();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_playlist_is_waited_for_by_those_who_say_so() {
    let server = Arc::new(TestServer::start());
    let mut viewer = Viewer::connect(server.http).await;
    viewer
        .ask("GET", "/live/soon/playlist.m3u8?wait=25", &[])
        .await;
    let answer = tokio::spawn(async move { viewer.response().await });
    let mut publisher = Publisher::start(&server, "live/soon", &Clip::default()).await;
    publisher.send_until(1200).await;
    assert_eq!(within("the playlist", answer).await.unwrap().status(), 200);
    assert_eq!(
        viewer::get(server.http, "/live/never/playlist.m3u8")
            .await
            .status(),
        404
    );
    publisher.finish().await;
    server.assert_no_panics();
}

/// A publisher that has sent a little more than two groups of pictures of one second, to a server with these options.
async fn live(name: &str, options: &[&str]) -> (Arc<TestServer>, Publisher, String) {
    let server = Arc::new(TestServer::with(options));
    let mut publisher = Publisher::start(&server, name, &Clip::default()).await;
    publisher.send_until(2200).await;
    server.wait_for_playlist(name).await;
    let path = playlist::media_path(&server, name).await;
    (server, publisher, path)
}

/// The server knows that its publisher has gone.
async fn paused(server: &TestServer) {
    eventually("the publisher to be gone", || {
        (server.metrics.publishers.get() == 0).then_some(())
    })
    .await;
}
