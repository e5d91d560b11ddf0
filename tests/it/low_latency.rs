//! LL-HLS: parts of the very same segments, playlists and parts that are waited for, and directives that make no sense.

use std::sync::Arc;

use crate::common::media::Clip;
use crate::common::playlist;
use crate::common::publisher::Publisher;
use crate::common::server::TestServer;
use crate::common::ts_check;
use crate::common::viewer::{self, Viewer};
use crate::common::{eventually, within};

#[tokio::test(flavor = "multi_thread")]
async fn the_parts_of_a_segment_are_the_segment() {
    let (server, publisher, path) = live("live/parts", 3200, "ll.m3u8").await;
    let text = get(&server, &path).await;
    let lines: Vec<&str> = text.lines().collect();
    let segments: Vec<usize> = (0..lines.len())
        .filter(|&n| lines[n].ends_with(".ts"))
        .collect();
    let (from, to) = (segments[segments.len() - 2], segments[segments.len() - 1]);
    let mut joined = Vec::new();
    for line in &lines[from..to] {
        if line.starts_with("#EXT-X-PART:") {
            let part = viewer::get(server.http, &playlist::sibling(&path, uri_of(line))).await;
            assert_eq!(part.status(), 200);
            assert_eq!(
                part.header("content-length"),
                Some(part.bytes().len().to_string().as_str())
            );
            let tables: Vec<u16> = part
                .bytes()
                .chunks(188)
                .take(2)
                .map(|packet| u16::from_be_bytes([packet[1] & 0x1f, packet[2]]))
                .collect();
            assert_eq!(tables, [0, 0x1000], "every part starts with PAT and PMT");
            joined.extend(part.bytes());
        }
    }
    let whole = viewer::get(server.http, &playlist::sibling(&path, lines[to]))
        .await
        .bytes();
    assert!(
        joined == whole,
        "{} and {} bytes",
        joined.len(),
        whole.len()
    );
    ts_check::check(&[&whole], true);
    publisher.finish().await;
    server.assert_no_panics();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hinted_part_is_waited_for_and_comes_whole() {
    let (server, mut publisher, path) = live("live/hint", 2200, "ll.m3u8").await;
    for _ in 0..8 {
        let text = get(&server, &path).await;
        let hint = text.lines().last().unwrap();
        assert!(hint.starts_with("#EXT-X-PRELOAD-HINT:TYPE=PART,"), "{hint}");
        let mut viewer = Viewer::connect(server.http).await;
        viewer
            .ask("GET", &playlist::sibling(&path, uri_of(hint)), &[])
            .await;
        viewer.expect_body();
        let answer = tokio::spawn(async move { viewer.response().await });
        while !answer.is_finished() {
            publisher.send_one().await;
        }
        let part = answer.await.unwrap();
        assert_eq!(part.status(), 200);
        assert!(
            part.header("content-length").is_some(),
            "it is sent when it is whole"
        );
        assert_eq!(part.bytes().len() % 188, 0);
    }
    // Neither one that is not next, nor one that never was.
    for number in ["999999", "18446744073709551615"] {
        let text = get(&server, &path).await;
        let hint = playlist::sibling(&path, uri_of(text.lines().last().unwrap()));
        let (stem, _) = hint.rsplit_once('-').unwrap();
        assert_eq!(
            viewer::get(server.http, &format!("{stem}-{number}.ts"))
                .await
                .status(),
            404
        );
    }
    publisher.finish().await;
    server.assert_no_panics();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_is_held_until_it_has_what_it_names() {
    let (server, mut publisher, path) = live("live/reload", 2200, "ll.m3u8").await;
    for _ in 0..20 {
        let text = get(&server, &path).await;
        let (sequence, parts) = end_of(&text);
        let mut viewer = Viewer::connect(server.http).await;
        viewer
            .ask(
                "GET",
                &format!("{path}?_HLS_msn={sequence}&_HLS_part={parts}"),
                &[],
            )
            .await;
        let answer = tokio::spawn(async move { viewer.response().await.text() });
        while !answer.is_finished() {
            publisher.send_one().await;
        }
        let after = end_of(&answer.await.unwrap());
        // The next part, the first of the next segment, or one that has come by the time of the answer.
        assert!(
            after > (sequence, parts),
            "{after:?} after {:?}",
            (sequence, parts)
        );
    }
    publisher.finish().await;
    server.assert_no_panics();
}

#[tokio::test(flavor = "multi_thread")]
async fn directives_that_make_no_sense() {
    let (server, publisher, path) = live("live/nonsense", 2200, "ll.m3u8").await;
    let (sequence, _) = end_of(&get(&server, &path).await);
    for query in [
        "_HLS_part=0".to_owned(),
        "_HLS_msn=abc".to_owned(),
        "_HLS_msn=".to_owned(),
        "_HLS_msn=-1".to_owned(),
        format!("_HLS_msn={}", sequence + 3),
        format!("_HLS_msn={sequence}&_HLS_part=100"),
        format!("_HLS_msn={sequence}&_HLS_part=18446744073709551616"),
        "_HLS_msn=18446744073709551615&_HLS_part=18446744073709551615".to_owned(),
    ] {
        let response = viewer::get(server.http, &format!("{path}?{query}")).await;
        assert_eq!(response.status(), 400, "{query}: {}", response.text());
    }
    let long_past = viewer::get(server.http, &format!("{path}?_HLS_msn=1&_HLS_part=5")).await;
    assert_eq!(long_past.status(), 200);
    publisher.finish().await;
    server.assert_no_panics();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_waits_in_vain_is_told_so() {
    let (server, publisher, path) = live("live/silent", 2200, "ll.m3u8").await;
    let (sequence, parts) = end_of(&get(&server, &path).await);
    let response = viewer::get(
        server.http,
        &format!("{path}?_HLS_msn={sequence}&_HLS_part={parts}"),
    )
    .await;
    assert_eq!(response.status(), 503, "after three target durations");
    assert!(response.header("retry-after").is_some());
    publisher.finish().await;
    server.assert_no_panics();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_reloads_that_wait_are_answered_when_the_stream_ends() {
    let (server, publisher, path) = live("live/ends", 2200, "ll.m3u8").await;
    let (sequence, parts) = end_of(&get(&server, &path).await);
    let mut viewers = Vec::new();
    for _ in 0..100 {
        let mut viewer = Viewer::connect(server.http).await;
        viewer
            .ask(
                "GET",
                &format!("{path}?_HLS_msn={sequence}&_HLS_part={parts}"),
                &[],
            )
            .await;
        viewers.push(viewer);
    }
    publisher.vanish();
    for viewer in &mut viewers {
        let response = within("an answer", viewer.response()).await;
        assert_eq!(response.status(), 200);
        assert!(response.text().ends_with("#EXT-X-ENDLIST\n"));
    }
    drop(viewers);
    eventually("all connections to be gone", || {
        (server.metrics.http_connections.get() == 0).then_some(())
    })
    .await;
    server.assert_no_panics();
}

#[tokio::test(flavor = "multi_thread")]
async fn longer_parts_are_cut_from_the_same_segments() {
    let (server, publisher, short) = live("live/lengths", 4200, "ll.m3u8").await;
    let mut targets = Vec::new();
    for query in [
        "ll.m3u8",
        "ll.m3u8?pt=200",
        "ll.m3u8?pt=500",
        "ll.m3u8?pt=nonsense",
    ] {
        let path = media_path(&server, "live/lengths", query).await;
        let text = get(&server, &path).await;
        let target = text
            .lines()
            .find_map(|line| line.strip_prefix("#EXT-X-PART-INF:PART-TARGET="))
            .unwrap();
        let target: f64 = target.parse().unwrap();
        for line in text.lines().filter(|line| line.starts_with("#EXT-X-PART:")) {
            let (_, rest) = line.split_once("DURATION=").unwrap();
            let duration: f64 = rest.split(',').next().unwrap().parse().unwrap();
            assert!(duration <= target, "{line}");
        }
        targets.push((target * 1000.0).round() as u32);
    }
    assert_eq!(targets, [67, 201, 536, 67]);
    assert_ne!(
        short,
        media_path(&server, "live/lengths", "ll.m3u8?pt=200").await
    );
    publisher.finish().await;
    server.assert_no_panics();
}

#[tokio::test(flavor = "multi_thread")]
async fn prefetch_marks_what_is_not_finished() {
    let (server, publisher, path) = live("live/prefetch", 4200, "playlist.m3u8?prefetch").await;
    let text = get(&server, &path).await;
    let prefetch: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("#EXT-X-PREFETCH:"))
        .collect();
    assert_eq!(prefetch.len(), 2, "{text}");
    let mut viewer = Viewer::connect(server.http).await;
    viewer
        .ask("GET", &playlist::sibling(&path, prefetch[1]), &[])
        .await;
    assert_eq!(viewer.head().await.status, 200, "headers at once");
    publisher.finish().await;
    server.assert_no_panics();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_gets_a_segment_whole_and_others_get_it_as_it_grows() {
    let (server, mut publisher, path) = live("live/hold", 2200, "playlist.m3u8").await;
    let script = ["Sec-Fetch-Dest: empty"];
    let growing_of = async |query: &str, headers: &[&str]| {
        let master = format!("/live/hold/playlist.m3u8{query}");
        let master = viewer::request(server.http, "GET", &master, headers).await;
        let text = master.text();
        let media = text.lines().rfind(|line| !line.starts_with('#')).unwrap();
        let media = playlist::sibling(&path, media);
        let list = playlist::fetch(&server, &media).await;
        playlist::sibling(&path, &list.entries[2].uri)
    };
    let whole = growing_of("", &script).await;
    assert_eq!(whole, growing_of("?hold", &[]).await);
    let growing = growing_of("", &["Sec-Fetch-Dest: video"]).await;
    assert_eq!(growing, growing_of("?stream", &script).await);
    // The name decides, not the header: so caches cannot mix them.
    let mut waiting = Viewer::connect(server.http).await;
    waiting.ask("GET", &whole, &[]).await;
    let held = tokio::spawn(async move { waiting.response().await });
    for path in [growing.clone(), format!("{whole}?stream")] {
        let mut other = Viewer::connect(server.http).await;
        other.ask("GET", &path, &script).await;
        let head = other.head().await;
        assert_eq!(head.header("transfer-encoding"), Some("chunked"), "{path}");
    }
    assert!(!held.is_finished());
    publisher.send_until(3300).await;
    let held = within("the whole segment", held).await.unwrap();
    assert_eq!(
        held.header("content-length"),
        Some(held.bytes().len().to_string().as_str())
    );
    publisher.finish().await;
    server.assert_no_panics();
}

/// A publisher that has sent this much of a clip with key frames each second, and the media playlist that a master leads to.
async fn live(name: &str, millis: u32, master: &str) -> (Arc<TestServer>, Publisher, String) {
    let server = Arc::new(TestServer::start());
    let mut publisher = Publisher::start(
        &server,
        name,
        &Clip {
            seconds: 10,
            ..Clip::default()
        },
    )
    .await;
    publisher.send_until(millis).await;
    server.wait_for_playlist(name).await;
    let path = media_path(&server, name, master).await;
    (server, publisher, path)
}

async fn media_path(server: &TestServer, name: &str, master: &str) -> String {
    let text = get(server, &format!("/{name}/{master}")).await;
    format!(
        "/{name}/{}",
        text.lines().rfind(|line| !line.starts_with('#')).unwrap()
    )
}

async fn get(server: &TestServer, path: &str) -> String {
    let response = viewer::get(server.http, path).await;
    assert_eq!(response.status(), 200, "{}", response.text());
    response.text()
}

fn uri_of(tag: &str) -> &str {
    tag.split_once("URI=\"")
        .unwrap()
        .1
        .split('"')
        .next()
        .unwrap()
}

/// The growing segment's sequence number, and its parts so far.
fn end_of(playlist: &str) -> (u64, u64) {
    let first = playlist
        .lines()
        .find_map(|line| line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:"))
        .unwrap();
    let finished = playlist.matches("#EXTINF:").count() as u64;
    let (_, growing) = playlist.rsplit_once("#EXTINF:").unwrap();
    (
        first.parse::<u64>().unwrap() + finished,
        growing.matches("#EXT-X-PART:").count() as u64,
    )
}
