//! Short segments: parts as segments of their own, for players built on ffmpeg that are near.

use std::sync::Arc;

use crate::common::media::Clip;
use crate::common::media_playlist::Playlist;
use crate::common::playlist;
use crate::common::publisher::Publisher;
use crate::common::server::TestServer;
use crate::common::ts_check;
use crate::common::viewer::{self, Viewer};
use crate::common::within;

const FFMPEG: &[&str] = &["User-Agent: Lavf/60.16.100"];

#[tokio::test(flavor = "multi_thread")]
async fn who_is_near_starts_with_the_next_key_frame_and_misses_nothing() {
    let (server, mut publisher) = live("live/near").await;
    // On a busy machine it may look far.
    let near = async {
        loop {
            let entry = entry(&server, "live/near", "").await;
            let (_, playlist) = get(&server, &entry).await;
            let uri = uris(&playlist)[0];
            if uri.starts_with("short-1.m3u8?from=") {
                return playlist::sibling(&entry, uri);
            }
        }
    };
    let path = within("a moment in which this looks near", near).await;
    let (_, text) = get(&server, &path).await;
    assert_eq!(
        uris(&text).len(),
        3,
        "such players start three from the end: {text}"
    );

    let mut segments = Vec::new();
    let start = sequence(&text);
    for next in start..start + 40 {
        let (_, text) = get(&server, &path).await;
        let uri = uris(&text)[(next - sequence(&text)) as usize].to_owned();
        let mut viewer = Viewer::connect(server.http).await;
        viewer
            .ask("GET", &playlist::sibling(&path, &uri), FFMPEG)
            .await;
        // The head is there before there is anything: nothing is published here.
        let head = viewer.head().await;
        assert_eq!(head.status, 200, "{uri}");
        let bytes = tokio::spawn(async move {
            let mut bytes = Vec::new();
            while let Some(chunk) = viewer.next_chunk().await {
                bytes.extend(chunk.bytes);
            }
            bytes
        });
        while !bytes.is_finished() {
            publisher.send_one().await;
        }
        segments.push(bytes.await.unwrap());
    }
    let segments: Vec<&[u8]> = segments.iter().map(Vec::as_slice).collect();
    let programme = ts_check::check(&segments, false);
    let key = |unit: &ts_check::Unit| unit.nal_units().iter().any(|nal| nal[0] & 0x1f == 5);
    assert!(key(&programme.video[0]), "it starts with a key frame");
    publisher.finish().await;
    server.assert_no_panics();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_far_or_asks_without_being_asked_gets_segments() {
    let (server, publisher) = live("live/far").await;
    for (query, header, led_to) in [
        ("?asked=99999999999", "User-Agent: Lavf/60", "further-"),
        ("?asked=", "User-Agent: Lavf/60", "further-"),
        ("?segments", "User-Agent: Lavf/60", "further-"),
        ("", "User-Agent: VLC/3.0", "media-"),
        ("?stream", "Sec-Fetch-Dest: empty", "media-"),
    ] {
        let (status, text) = ask(&server, &format!("/live/far/playlist.m3u8{query}"), header).await;
        assert_eq!(status, 200, "{query}");
        assert!(uris(&text)[0].starts_with(led_to), "{query}: {text}");
    }
    let long_ago = async {
        let path = "/live/far/playlist.m3u8?asked=0";
        while !uris(&get(&server, path).await.1)[0].starts_with("further-") {}
    };
    within("the server's start to be long ago", long_ago).await;
    publisher.finish().await;
    server.assert_no_panics();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_query_survives_being_asked_again() {
    let (server, publisher) = live("live/query").await;
    let entry = entry(&server, "live/query", "?wait=1&x=%41").await;
    assert!(entry.contains("?wait=1&x=%41&asked="), "{entry}");
    publisher.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_announced_is_refused() {
    let (server, publisher) = live("live/refused").await;
    let (_, text) = get(&server, "/live/refused/short-1.m3u8").await;
    let last = *uris(&text).last().unwrap();
    let (stem, number) = last.trim_end_matches(".ts").rsplit_once('-').unwrap();
    let number: u64 = number.parse().unwrap();
    for (uri, status) in [
        (format!("{stem}-{}.ts", number + 200), 404),
        (format!("{stem}-18446744073709551615.ts"), 404),
        (format!("{}7-0.ts", stem.trim_end_matches('1')), 404),
        (format!("{stem}-0.ts"), 200),
    ] {
        let answer = viewer::get(server.http, &format!("/live/refused/{uri}")).await;
        assert_eq!(answer.status(), status, "{uri}");
    }
    // Where somebody wants to start who made the number up, or knows it from another server.
    for from in ["18446744073709551615", "0", "x", ""] {
        let (status, text) = get(&server, &format!("/live/refused/short-1.m3u8?from={from}")).await;
        assert_eq!(status, 200, "{from}");
        let first = uris(&text)[0].trim_end_matches(".ts").rsplit_once('-');
        let first: u64 = first.unwrap().1.parse().unwrap();
        assert!(first <= number + 60, "{from}: {text}");
    }
    publisher.finish().await;
    server.assert_no_panics();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_when_the_stream_ends_is_let_go() {
    let (server, publisher) = live("live/end").await;
    let (_, text) = get(&server, "/live/end/short-1.m3u8").await;
    let last = format!("/live/end/{}", uris(&text).last().unwrap());
    let mut viewer = Viewer::connect(server.http).await;
    viewer.ask("GET", &last, FFMPEG).await;
    assert_eq!(viewer.head().await.status, 200);
    publisher.finish().await;
    assert!(viewer.next_chunk().await.is_none());
    server.assert_no_panics();
}

async fn live(name: &str) -> (Arc<TestServer>, Publisher) {
    let server = Arc::new(TestServer::start());
    let clip = Clip {
        seconds: 12,
        ..Clip::default()
    };
    let mut publisher = Publisher::start(&server, name, &clip).await;
    publisher.send_until(3200).await;
    server.wait_for_playlist(name).await;
    (server, publisher)
}

/// The multivariant playlist that a player built on ffmpeg is sent to.
async fn entry(server: &TestServer, name: &str, query: &str) -> String {
    let asked = format!("/{name}/playlist.m3u8{query}");
    let mut viewer = Viewer::connect(server.http).await;
    viewer.ask("GET", &asked, FFMPEG).await;
    let head = viewer.head().await;
    assert_eq!(head.status, 307);
    assert_eq!(head.header("cache-control"), Some("no-store"));
    playlist::sibling(&asked, head.header("location").unwrap())
}

async fn get(server: &TestServer, path: &str) -> (u16, String) {
    ask(server, path, FFMPEG[0]).await
}

async fn ask(server: &TestServer, path: &str, header: &str) -> (u16, String) {
    let mut viewer = Viewer::connect(server.http).await;
    viewer.ask("GET", path, &[header]).await;
    let answer = viewer.response().await;
    (answer.status(), answer.text())
}

fn uris(playlist: &str) -> Vec<&str> {
    let lines = playlist.lines();
    lines.filter(|line| !line.starts_with('#')).collect()
}

fn sequence(playlist: &str) -> u64 {
    Playlist::parse(playlist).media_sequence
}
