//! Bad input on the HTTP port, while somebody else's stream goes on undisturbed.

use crate::common::bystander::Bystander;
use crate::common::server::TestServer;
use crate::common::viewer::{Viewer, get, request};

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_lead_nowhere() {
    let bystander = Bystander::start().await;
    let http = bystander.server.http;
    let long = format!("/{}", "a/".repeat(500));
    for path in [
        "/../../etc/passwd",
        "/live/../live/bystander/playlist.m3u8",
        "/live/bystander/../../../etc/passwd",
        "/live/%2e%2e/bystander/playlist.m3u8",
        "/live/bystander/playlist.m3u8%00",
        "/live/bystander%00/playlist.m3u8",
        "/live/bystander/-1.ts",
        "/live/bystander/x-99999999999999999999999999.ts",
        "/live/bystander/x-+1.ts",
        "/live/bystander/x-01.ts",
        "/live//bystander//playlist.m3u8",
        "/LIVE/BYSTANDER/playlist.m3u8",
        "//",
        "/%",
        "/live/bystander/",
        &long,
    ] {
        let response = get(http, path).await;
        assert_eq!(response.status(), 404, "{path}");
        let text = response.text();
        assert!(text.lines().count() == 1 && text.len() < 200, "{text}");
    }
    bystander.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_of_ten_kilobytes() {
    let bystander = Bystander::start().await;
    for path in [format!("/{}", "x".repeat(10_000)), "/%00".repeat(2500)] {
        let response = get(bystander.server.http, &path).await;
        assert_eq!(response.status(), 414);
        assert!(!response.text().contains("xxx"), "it is not sent back");
    }
    bystander.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_line_that_never_ends() {
    let bystander = Bystander::start().await;
    flood(&bystander, b"GET /", &[b'a'; 10_000]).await;
    bystander.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_never_end() {
    let bystander = Bystander::start().await;
    flood(&bystander, b"GET / HTTP/1.1\r\n", b"X-More: and more\r\n").await;
    flood(&bystander, b"GET / HTTP/1.1\r\nX-Long: ", &[b'a'; 10_000]).await;
    bystander.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_http() {
    let bystander = Bystander::start().await;
    for bytes in [
        &b"\x03\x00\x00\x00\x00\x00\x00\x00\x00"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \x00\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let mut viewer = Viewer::connect(bystander.server.http).await;
        viewer.send(bytes).await.unwrap();
        viewer.hang_up().await;
        viewer.expect_close().await;
    }
    bystander.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_nobody_asked_for() {
    let bystander = Bystander::start().await;
    let http = bystander.server.http;
    let mut viewer = Viewer::connect(http).await;
    viewer
        .ask("POST", "/", &["Content-Length: 1000000000000"])
        .await;
    assert_eq!(viewer.head().await.status, 405);
    drop(viewer);
    let response = request(http, "GET", "/healthz", &["Content-Length: 0"]).await;
    assert_eq!(response.status(), 200);
    bystander.finish().await;
}

/// The clock of this test runs ahead whenever everybody waits.
#[tokio::test(start_paused = true)]
async fn a_head_that_never_comes() {
    let server = TestServer::start();
    for bytes in [&b""[..], b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n"] {
        let mut viewer = Viewer::connect(server.http).await;
        viewer.send(bytes).await.unwrap();
        viewer.expect_close().await;
    }
    // A connection that is kept alive and never used again is the same.
    let mut viewer = Viewer::connect(server.http).await;
    viewer.ask("GET", "/healthz", &[]).await;
    assert_eq!(viewer.response().await.status(), 200);
    viewer.expect_close().await;
    assert_eq!(server.metrics.http_connections.get(), 0);
    server.assert_no_panics();
}

/// Sends a beginning and then more and more of the same, until the server has had enough.
async fn flood(bystander: &Bystander, beginning: &[u8], more: &[u8]) {
    let mut viewer = Viewer::connect(bystander.server.http).await;
    viewer.send(beginning).await.unwrap();
    let mut sent = 0;
    while sent < 20 << 20 && viewer.send(more).await.is_ok() {
        sent += more.len();
    }
    assert!(sent < 20 << 20, "the server takes a head of any length");
    viewer.expect_close().await;
}
