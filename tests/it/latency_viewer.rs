//! `lhls latency`, run against a server in this process that gets the demo's picture: it counts everything, misses nothing, and ends
//! with the right exit code. How late anything was is not looked at: that depends on the machine.

use lhls::demo::publisher::{self, PublishOptions};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::common::server::TestServer;
use crate::common::tools::{Finished, Tool};
use crate::common::viewer;

const LHLS: &str = env!("CARGO_BIN_EXE_lhls");

/// A server with the demo's picture at live/demo.
struct Live {
    server: TestServer,
    stop: CancellationToken,
    publisher: JoinHandle<Result<publisher::Summary, publisher::Error>>,
}

impl Live {
    async fn start() -> Self {
        let server = TestServer::start();
        let url = server.rtmp_url("live/demo").parse().unwrap();
        let options = PublishOptions {
            size: (320, 180),
            ..PublishOptions::new(url)
        };
        let stop = CancellationToken::new();
        let publisher = tokio::spawn(publisher::publish(options, stop.clone()));
        server.wait_for_playlist("live/demo").await;
        Self {
            server,
            stop,
            publisher,
        }
    }

    fn url(&self, name: &str) -> String {
        format!("http://{}/live/demo/{name}", self.server.http)
    }

    async fn stop(self) {
        self.stop.cancel();
        self.publisher.await.unwrap().unwrap();
        self.server.stop().await;
    }
}

async fn latency(arguments: &[&str]) -> Finished {
    let all: Vec<_> = [&["latency"], arguments].concat();
    Tool::start(LHLS, &all).finish().await
}

/// The report of a run that ended well.
async fn measure(arguments: &[&str]) -> Value {
    let finished = latency(&[arguments, &["--json"]].concat()).await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert_eq!(finished.stdout.lines().count(), 1, "{}", finished.stdout);
    serde_json::from_str(&finished.stdout).unwrap()
}

/// Nothing missing, nothing twice. Pictures that the publisher left out, on a loaded machine, are not the viewer's business.
fn assert_complete(report: &Value) {
    for (kind, count) in report["gaps"].as_object().unwrap() {
        if kind != "pictures_missed" && kind != "total" {
            assert_eq!(count, 0, "{kind}: {report}");
        }
    }
    assert_eq!(report["wrong_hints"], 0, "{report}");
    assert_eq!(report["failures"], 0, "{report}");
    assert_eq!(report["errors"], serde_json::json!([]));
}

fn count(report: &Value, pointer: &str) -> u64 {
    let value = report.pointer(pointer).and_then(Value::as_u64);
    value.unwrap_or_else(|| panic!("{pointer} is no count: {report}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn as_an_lhls_player() {
    let live = Live::start().await;
    let report = measure(&[&live.url("playlist.m3u8"), "--duration", "3s"]).await;
    assert_complete(&report);
    assert_eq!(report["mode"], "lhls");
    assert_eq!(report["latency_by"], "picture");
    assert!(count(&report, "/pictures") > 0 && count(&report, "/key_pictures") > 0);
    assert!(count(&report, "/segments") > 0 && count(&report, "/other_units") > 0);
    assert_eq!(report["parts"], 0);
    let counted = count(&report, "/pictures") - count(&report, "/pictures_there_at_start");
    for clock in ["sent", "date"] {
        let pointer = format!("/latency_ms/{clock}/count");
        assert_eq!(count(&report, &pointer), counted, "{clock}: {report}");
    }
    let decoded = count(&report, "/latency_ms/picture/count");
    assert!(decoded > 0 && decoded <= counted, "{report}");
    assert!(
        report["waiting_ms"].is_null(),
        "every picture came by itself: {report}"
    );
    let statuses: Vec<_> = report["http"].as_object().unwrap().keys().collect();
    assert_eq!(statuses, ["200"]);
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_a_low_latency_player() {
    let live = Live::start().await;
    let report = measure(&[&live.url("ll.m3u8"), "--duration", "3s"]).await;
    assert_complete(&report);
    assert_eq!(report["mode"], "ll");
    assert_eq!(report["segments"], 0);
    assert!(count(&report, "/parts") > 3);
    assert!(count(&report, "/waiting_ms/count") > 0);
    assert!(count(&report, "/latency_ms/picture/count") > 0);
    // The same stream may be followed by its segments.
    let forced = measure(&[&live.url("ll.m3u8"), "--mode", "lhls", "--duration", "1s"]).await;
    assert_complete(&forced);
    assert!(count(&forced, "/pictures") > 0);
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_viewers() {
    let live = Live::start().await;
    for name in ["playlist.m3u8", "ll.m3u8"] {
        let options = ["--viewers", "20", "--duration", "2s", "--no-decode"];
        let report = measure(&[&[&live.url(name)[..]], &options[..]].concat()).await;
        assert_complete(&report);
        assert_eq!(report["playing"], 20);
        assert_eq!(report["latency_by"], "date");
        assert_eq!(count(&report, "/start_ms/first_picture/count"), 20);
    }
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn until_the_stream_ends() {
    for name in ["playlist.m3u8", "ll.m3u8"] {
        let live = Live::start().await;
        let url = live.url(name);
        let watching = tokio::spawn(async move { measure(&[&url, "--duration", "0s"]).await });
        // A viewer has come, and has read something.
        let bytes = &live.server.metrics.http_bytes;
        crate::common::eventually("a viewer", || (bytes.get() > 100_000).then_some(())).await;
        live.stop.cancel();
        let report = watching.await.unwrap();
        assert_complete(&report);
        assert_eq!(report["ended"], true, "{report}");
        live.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_for_people() {
    let live = Live::start().await;
    let finished = latency(&[&live.url("playlist.m3u8"), "--duration", "1s"]).await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    for word in [
        "first picture",
        "p95",
        "picture drawn",
        "stalls",
        "gaps",
        "200: ",
    ] {
        assert!(
            finished.stdout.contains(word),
            "{word}:\n{}",
            finished.stdout
        );
    }
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn later_than_allowed() {
    let live = Live::start().await;
    let url = live.url("playlist.m3u8");
    let run =
        async |limit| latency(&[&url, "--json", "--duration", "1s", "--max-p95", limit]).await;
    let finished = run("0s").await;
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("more than --max-p95 0s"),
        "{}",
        finished.stderr
    );
    serde_json::from_str::<Value>(&finished.stdout).unwrap();
    assert_eq!(run("1h").await.code, Some(0));
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_watched() {
    let live = Live::start().await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!(
        "http://{}/live/demo/playlist.m3u8",
        nobody.local_addr().unwrap()
    );
    drop(nobody);
    let absent = format!("http://{}/live/absent/playlist.m3u8", live.server.http);
    let page = format!("http://{}/healthz", live.server.http);
    let rtmp = format!("http://{}/live/demo/playlist.m3u8", live.server.rtmp);
    let early = live.url("playlist.m3u8");
    for (arguments, words) in [
        (
            &[&closed[..]][..],
            &["cannot connect", "is the server running"][..],
        ),
        (&[&absent], &["404", "is the stream live"]),
        (&[&page], &["not a playlist", "ok\\n"]),
        (&[&rtmp], &[&rtmp]),
        (&[&early, "--mode", "ll"], &["no parts", "ll.m3u8"]),
    ] {
        let finished = latency(arguments).await;
        let said = &finished.stderr;
        assert_eq!(finished.code, Some(1), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(finished.stdout.is_empty());
        for word in words {
            assert!(said.contains(word), "{word} is missing: {said}");
        }
    }
    live.stop().await;
}

#[tokio::test]
async fn what_is_not_understood() {
    let url = "http://127.0.0.1:9/live/a/playlist.m3u8";
    for (arguments, word) in [
        (&["live/a"][..], "http://HOST"),
        (&["ftp://a/b.m3u8"], "http://HOST"),
        (&[], "URL"),
        (&[url, "--viewers", "0"], "1 to 1000"),
        (&[url, "--duration", "10"], "a unit"),
        (&[url, "--mode", "dash"], "--mode"),
        (&[url, "--buffer", "2m"], "0s to 1m"),
    ] {
        let finished = latency(arguments).await;
        assert_eq!(finished.code, Some(2), "{arguments:?}: {}", finished.stderr);
        assert!(
            finished.stderr.contains(word),
            "{word}: {}",
            finished.stderr
        );
    }
}

/// A server that knows nothing of announced segments: a playlist without dates, absolute and relative addresses, one connection a request.
#[tokio::test(flavor = "multi_thread")]
async fn a_plain_playlist_of_another_server() {
    let live = Live::start().await;
    let master = viewer::get(live.server.http, "/live/demo/playlist.m3u8")
        .await
        .text();
    let media = master.lines().rfind(|line| !line.starts_with('#')).unwrap();
    let list = viewer::get(live.server.http, &format!("/live/demo/{media}"))
        .await
        .text();
    let finished = list.lines().find(|line| !line.starts_with('#')).unwrap();
    let segment = viewer::get(live.server.http, &format!("/live/demo/{finished}"))
        .await
        .bytes();
    live.stop().await;

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut asked = 0;
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let target = request.split(' ').nth(1).unwrap();
            let (status, body) = match target {
                "/list.m3u8?key=1" => {
                    asked += 1;
                    let mut text =
                        "#EXTM3U\r\n#EXT-X-TARGETDURATION:1\r\n#EXTINF:1,\r\nmedia/0.ts?x\r\n"
                            .to_owned();
                    if asked > 1 {
                        text += &format!(
                            "#EXTINF:1,\r\nhttp://{address}/media/1.ts\r\n#EXT-X-ENDLIST\r\n"
                        );
                    }
                    ("200 OK", text.into_bytes())
                }
                "/media/0.ts?x" | "/media/1.ts" => ("200 OK", segment.clone()),
                "/moved" => ("302 Found\r\nLocation: /list.m3u8?key=1", Vec::new()),
                _ => ("404 Not Found", Vec::new()),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&body).await.unwrap();
        }
    });
    let report = measure(&[&format!("http://{address}/moved")]).await;
    assert_eq!(report["mode"], "lhls");
    assert_eq!(report["segments"], 2, "{report}");
    assert_eq!(report["ended"], true);
    assert_eq!(count(&report, "/http/302"), 1);
    assert!(report["latency_ms"]["date"].is_null(), "no dates: {report}");
    // It is the same segment twice, and that is noticed.
    assert!(count(&report, "/gaps/times_back") > 0, "{report}");
}
