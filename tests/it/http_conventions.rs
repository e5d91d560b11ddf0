//! What an HTTP client may expect of any server: methods, ranges, caching, compression, cross-origin use, errors, connections.

use std::io::Read;
use std::sync::Arc;

use crate::common::media::Clip;
use crate::common::playlist;
use crate::common::publisher::Publisher;
use crate::common::server::TestServer;
use crate::common::viewer::{Viewer, get, request};
use crate::common::{eventually, logs};

/// A stream at 2.6 s, with two segments finished, one growing and two announced.
struct Live {
    server: Arc<TestServer>,
    publisher: Publisher,
    media: String,
    finished: String,
    growing: String,
    announced: String,
}

impl Live {
    async fn start(options: &[&str]) -> Self {
        let server = Arc::new(TestServer::with(options));
        let mut publisher = Publisher::start(&server, "live/a", &Clip::default()).await;
        publisher.send_until(2600).await;
        let media = playlist::media_path(&server, "live/a").await;
        let entries = playlist::fetch(&server, &media).await.entries;
        let path = |index: usize| playlist::sibling(&media, &entries[index].uri);
        Self {
            finished: path(0),
            growing: path(2),
            announced: path(3),
            server,
            publisher,
            media,
        }
    }

    async fn finish(self) {
        self.publisher.finish().await;
        self.server.assert_no_panics();
    }
}

const MASTER: &str = "/live/a/playlist.m3u8";

#[tokio::test(flavor = "multi_thread")]
async fn head_is_get_without_the_body() {
    let live = Live::start(&[]).await;
    let http = live.server.http;
    for path in [MASTER, &live.media, &live.finished, "/healthz", "/nothing"] {
        let (with, without) = (
            get(http, path).await,
            request(http, "HEAD", path, &[]).await,
        );
        assert_eq!(with.status(), without.status(), "{path}");
        for name in ["content-type", "content-length", "cache-control"] {
            assert_eq!(with.header(name), without.header(name), "{path}: {name}");
        }
        assert!(without.bytes().is_empty());
    }
    for path in [&live.growing, &live.announced] {
        // On a connection that goes on, so a body would be mistaken for the next answer.
        let mut viewer = Viewer::connect(http).await;
        for _ in 0..2 {
            viewer.ask("HEAD", path, &[]).await;
            let head = viewer.head().await;
            assert_eq!(head.status, 200);
            assert_eq!(head.header("content-type"), Some("video/mp2t"));
        }
    }
    live.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_of_a_finished_segment() {
    let live = Live::start(&[]).await;
    let http = live.server.http;
    let whole = get(http, &live.finished).await;
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    let bytes = whole.bytes();
    let length = bytes.len();
    for (range, first, last) in [
        ("0-0", 0, 0),
        ("0-", 0, length - 1),
        ("188-375", 188, 375),
        ("-188", length - 188, length - 1),
        ("1000-99999999", 1000, length - 1),
    ] {
        let header = format!("Range: bytes={range}");
        let part = request(http, "GET", &live.finished, &[&header]).await;
        assert_eq!(part.status(), 206, "{range}");
        assert_eq!(
            part.header("content-range"),
            Some(format!("bytes {first}-{last}/{length}").as_str())
        );
        assert!(part.bytes() == bytes[first..=last], "{range}");
    }
    for range in [format!("{length}-"), "-0".to_owned()] {
        let header = format!("Range: bytes={range}");
        let part = request(http, "GET", &live.finished, &[&header]).await;
        assert_eq!(part.status(), 416, "{range}");
        assert_eq!(
            part.header("content-range"),
            Some(format!("bytes */{length}").as_str())
        );
    }
    for range in ["bytes=5-3", "bytes=0-1,5-6", "pages=1-2", "bytes=x"] {
        let header = format!("Range: {range}");
        let ignored = request(http, "GET", &live.finished, &[&header]).await;
        assert_eq!(ignored.status(), 200, "{range}");
        assert_eq!(ignored.bytes().len(), length);
    }
    live.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_a_growing_segment_is_ignored() {
    let live = Live::start(&[]).await;
    for path in [&live.growing, &live.announced] {
        let mut viewer = Viewer::connect(live.server.http).await;
        viewer.ask("GET", path, &["Range: bytes=0-"]).await;
        let head = viewer.head().await;
        assert_eq!(head.status, 200);
        assert_eq!(head.header("transfer-encoding"), Some("chunked"));
    }
    live.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_methods_are_told_which_ones_are_served() {
    let live = Live::start(&[]).await;
    for path in [MASTER, &live.finished, "/", "/nothing"] {
        for method in ["POST", "PUT", "DELETE", "PATCH", "BREW"] {
            let headers = ["Content-Length: 0"];
            let response = request(live.server.http, method, path, &headers).await;
            assert_eq!(response.status(), 405, "{method} {path}");
            assert_eq!(response.header("allow"), Some("GET, HEAD, OPTIONS"));
        }
    }
    live.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_any_origin_may_play() {
    let live = Live::start(&[]).await;
    let http = live.server.http;
    let headers = [
        "Origin: https://page.example",
        "Access-Control-Request-Method: GET",
        "Access-Control-Request-Headers: range",
    ];
    for path in [MASTER, &live.media, &live.finished, &live.announced] {
        let preflight = request(http, "OPTIONS", path, &headers).await;
        assert_eq!(preflight.status(), 204);
        assert_eq!(preflight.header("access-control-allow-origin"), Some("*"));
        let methods = preflight.header("access-control-allow-methods").unwrap();
        assert!(methods.contains("GET") && methods.contains("HEAD"));
        assert!(preflight.header("access-control-allow-headers").is_some());
    }
    for path in [MASTER, &live.media, &live.finished, "/nothing"] {
        let response = request(http, "GET", path, &headers[..1]).await;
        assert_eq!(
            response.header("access-control-allow-origin"),
            Some("*"),
            "{path}"
        );
    }
    live.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_one_origin_may_play() {
    let live = Live::start(&["--cors-origin", "https://page.example"]).await;
    for path in [MASTER, &live.media, &live.finished] {
        let response = get(live.server.http, path).await;
        assert_eq!(
            response.header("access-control-allow-origin"),
            Some("https://page.example")
        );
    }
    live.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_several_origins_may_play_and_caches_keep_them_apart() {
    let live = Live::start(&["--cors-origin", "https://a.example,https://b.example"]).await;
    for (path, differs_by) in [
        (
            MASTER,
            "Accept-Encoding, Origin, Sec-Fetch-Dest, User-Agent",
        ),
        (&live.media, "Accept-Encoding, Origin"),
        (&live.finished, "Origin"),
        ("/live/a/", "Origin, Accept-Encoding"),
        ("/nothing", "Origin"),
    ] {
        for (asking, allowed) in [
            ("https://b.example", Some("https://b.example")),
            ("https://c.example", None),
        ] {
            let origin = format!("Origin: {asking}");
            let response = request(live.server.http, "GET", path, &[&origin]).await;
            let said = response.header("access-control-allow-origin");
            assert_eq!(said, allowed, "{path}");
            assert_eq!(response.header("vary"), Some(differs_by), "{path}");
        }
    }
    live.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn playlists_are_packed_for_who_can_unpack_them() {
    let live = Live::start(&[]).await;
    let http = live.server.http;
    for path in [MASTER, &live.media] {
        let plain = get(http, path).await;
        assert_eq!(plain.header("content-encoding"), None);
        assert!(plain.header("vary").unwrap().contains("Accept-Encoding"));
        let packed = request(http, "GET", path, &["Accept-Encoding: gzip, br"]).await;
        assert_eq!(packed.header("content-encoding"), Some("gzip"));
        assert_eq!(packed.header("vary"), plain.header("vary"));
        let mut text = String::new();
        flate2::read::GzDecoder::new(&packed.bytes()[..])
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, plain.text());
        let refused = request(http, "GET", path, &["Accept-Encoding: gzip;q=0"]).await;
        assert_eq!(refused.header("content-encoding"), None);
    }
    let segment = request(http, "GET", &live.finished, &["Accept-Encoding: gzip"]).await;
    assert_eq!(
        segment.header("content-encoding"),
        None,
        "media does not pack"
    );
    live.finish().await;
}

/// A CDN in front may keep for good what never changes, and for moments what changes.
#[tokio::test(flavor = "multi_thread")]
async fn caches_are_told_what_to_keep() {
    let live = Live::start(&[]).await;
    let http = live.server.http;
    let shared = |seconds: u32| format!("max-age=0, s-maxage={seconds}, stale-while-revalidate=0");
    let (never, kept) = ("no-store", "public, max-age=600, immutable");
    let low_latency = playlist::media_path_of(&live.server, "live/a", "ll.m3u8").await;
    let part = get(http, &low_latency).await.text();
    let part = part.rsplit("URI=\"").nth(1).unwrap();
    let part = playlist::sibling(&low_latency, part.split('"').next().unwrap());
    let (before, number) = part.rsplit_once('-').unwrap();
    let number: u64 = number.strip_suffix(".ts").unwrap().parse().unwrap();
    let to_come = format!("{before}-{}.ts", number + 9);
    let (before, number) = live.announced.rsplit_once('-').unwrap();
    let number: u64 = number.strip_suffix(".ts").unwrap().parse().unwrap();
    let unannounced = format!("{before}-{}.ts", number + 9);
    let blocking = format!("{low_latency}?_HLS_msn=1");
    let too_far = format!("{low_latency}?_HLS_msn={}", number + 9);
    for (path, status, caching) in [
        (live.finished.as_str(), 200, kept),
        (&part, 200, kept),
        (MASTER, 200, &shared(1)),
        // Half a target duration, in whole seconds.
        (&live.media, 200, &shared(0)),
        (&low_latency, 200, &shared(0)),
        (
            &blocking,
            200,
            "public, max-age=6, stale-while-revalidate=0",
        ),
        // What is not there yet is not to be kept from those who come in time.
        (&to_come, 404, never),
        (&unannounced, 404, never),
        (&too_far, 400, never),
        ("/live/a/nothing-1.ts", 404, &shared(1)),
        ("/live/b/playlist.m3u8", 404, &shared(1)),
        ("/x", 404, never),
        ("/", 200, never),
        ("/metrics", 200, never),
        ("/api/streams", 200, never),
    ] {
        let response = get(http, path).await;
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.header("cache-control"), Some(caching), "{path}");
    }
    for path in [MASTER, &live.media, &live.finished, "/nothing"] {
        let response = get(http, path).await;
        assert_eq!(response.header("set-cookie"), None);
        assert_eq!(response.header("location"), None);
        assert!(response.header("date").is_some());
    }
    live.finish().await;
}

/// In HTTP/1.0 a body ends with its connection, so a cache that asks so could not tell a whole segment from a broken one.
#[tokio::test(flavor = "multi_thread")]
async fn what_grows_is_kept_by_those_only_who_see_its_end() {
    let live = Live::start(&[]).await;
    for (version, caching) in [
        ("1.0", "no-store"),
        ("1.1", "public, max-age=600, immutable"),
    ] {
        let mut viewer = Viewer::connect(live.server.http).await;
        let ask = format!("GET {} HTTP/{version}\r\nHost: a\r\n\r\n", live.growing);
        viewer.send(ask.as_bytes()).await.unwrap();
        let mut head = vec![0; 4096];
        let length = viewer.trickle(&mut head).await;
        let head = String::from_utf8_lossy(&head[..length]);
        assert!(head.contains(" 200 OK\r\n"), "{head}");
        assert!(head.contains(&format!("\r\ncache-control: {caching}\r\n")));
        assert!(head.contains("\r\nx-accel-buffering: no\r\n"));
    }
    live.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_serves_many_requests() {
    let live = Live::start(&[]).await;
    let mut viewer = Viewer::connect(live.server.http).await;
    for _ in 0..50 {
        for path in [MASTER, &live.media, &live.finished, "/nothing"] {
            viewer.ask("GET", path, &[]).await;
            viewer.response().await;
        }
    }
    // Requests sent ahead are answered in order.
    let two = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /nothing HTTP/1.1\r\nHost: a\r\n\r\n";
    viewer.ask("GET", "/healthz", &[]).await;
    viewer.send(two.as_bytes()).await.unwrap();
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(viewer.response().await.status());
        viewer.expect_body();
    }
    assert_eq!(statuses, [200, 200, 404]);
    assert_eq!(live.server.metrics.http_connections.get(), 1);
    live.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_connections_are_told_so() {
    let live = Live::start(&["--max-connections", "2"]).await;
    let server = &live.server;
    // Those that the playlists came over have been answered just now, so they would keep their places until they are seen to be closed.
    eventually("the end of the first connections", || {
        (server.metrics.http_connections.get() == 0).then_some(())
    })
    .await;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut viewer = Viewer::connect(server.http).await;
        viewer.ask("GET", &live.growing, &[]).await;
        assert_eq!(viewer.head().await.status, 200);
        waiting.push(viewer);
    }
    let mut third = Viewer::connect(server.http).await;
    third.ask("GET", "/healthz", &[]).await;
    let response = third.response().await;
    assert_eq!(response.status(), 503);
    assert!(response.header("retry-after").is_some());
    assert!(response.text().contains("as many connections as it may"));
    third.expect_close().await;
    logs::wait_for(&["--max-connections is reached"]).await;
    // A place that becomes free is given away again.
    drop(waiting);
    eventually("a free place", || {
        (server.metrics.http_connections.get() < 2).then_some(())
    })
    .await;
    assert_eq!(get(server.http, "/healthz").await.status(), 200);
    live.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_streams_is_for_people_and_for_programmes() {
    let live = Live::start(&[]).await;
    let http = live.server.http;
    let page = request(http, "GET", "/", &["Accept: text/html,*/*"]).await;
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    // Relative, for servers that stand behind a proxy under a prefix.
    assert!(page.text().contains("href=\"live/a/\""));
    assert!(page.text().contains("href=\"live/a/playlist.m3u8\""));
    let by_accept = request(http, "GET", "/", &["Accept: application/json"]).await;
    let by_path = get(http, "/api/streams").await;
    for list in [by_accept, by_path] {
        assert_eq!(list.header("content-type"), Some("application/json"));
        let text = list.text();
        assert!(text.contains("\"name\":\"live/a\""), "{text}");
        assert!(
            text.contains("\"playlist\":\"/live/a/playlist.m3u8\""),
            "{text}"
        );
        assert!(text.contains("\"resolution\":\"320x180\""), "{text}");
    }
    live.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_player_page_brings_all_it_needs() {
    let live = Live::start(&[]).await;
    let http = live.server.http;
    // With the slash also before the stream is live, since the page waits; without it only for a stream that is there.
    for (path, root) in [
        ("/live/a/", "../../"),
        ("/live/a", "../"),
        ("/live/later/", "../../"),
    ] {
        let page = get(http, path).await;
        assert_eq!(page.status(), 200, "{path}");
        assert_eq!(
            page.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        let text = page.text();
        let files: Vec<&str> = text
            .split('"')
            .filter_map(|value| value.strip_prefix(&format!("{root}web/")))
            .collect();
        assert!(files.len() > 5, "{text}");
        for file in files {
            let response = get(http, &format!("/web/{file}")).await;
            assert_eq!(response.status(), 200, "{file}");
            let kept = response.header("cache-control").unwrap();
            assert!(kept.contains("immutable"), "{file}: {kept}");
        }
    }
    let clock = get(http, "/api/time").await;
    assert_eq!(clock.header("cache-control"), Some("no-store"));
    assert!(clock.text().starts_with("{\"unix_ms\":1"));
    live.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_happens() {
    let live = Live::start(&[]).await;
    let http = live.server.http;
    get(http, &live.finished).await;
    let response = get(http, "/metrics").await;
    let text = response.text();
    for line in [
        "lhls_publishers 1",
        "lhls_publishes_total 1",
        "lhls_streams 1",
        "lhls_panics_total 0",
        "lhls_stream_publishing{stream=\"live/a\"} 1",
        "lhls_limits_hit_total{reason=\"http_connections\"} 0",
        "lhls_http_request_duration_seconds_count{kind=\"segment\",status=\"200\"} 1",
        "lhls_http_requests_total{kind=\"segment\",status=\"200\"} 1",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    }
    let value = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(value("lhls_pieces_total ") >= 78.0, "{text}");
    assert!(value("lhls_parts_total ") >= 30.0, "{text}");
    assert!(value("lhls_ring_bytes ") > 1000.0);
    assert!(value("lhls_http_sent_bytes_total ") > 1000.0);
    assert!(value("lhls_rtmp_received_bytes_total ") > 1000.0);
    live.finish().await;
}
