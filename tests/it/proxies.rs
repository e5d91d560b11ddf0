//! Load balancers in front: their word about addresses is taken, and nobody else's.

use std::net::SocketAddr;

use lhls::metrics::Reason;

use crate::common::peer::Peer;
use crate::common::server::TestServer;
use crate::common::viewer::{Viewer, request};
use crate::common::{eventually, logs};

/// The header of version 2 for a connection from this address.
fn binary(source: &str) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    match source.parse().unwrap() {
        SocketAddr::V4(source) => {
            bytes.extend([0x11, 0, 12]);
            bytes.extend(source.ip().octets());
            bytes.extend([127, 0, 0, 1]);
            bytes.extend(source.port().to_be_bytes());
        }
        SocketAddr::V6(source) => {
            bytes.extend([0x21, 0, 36]);
            bytes.extend(source.ip().octets());
            bytes.extend([0; 16]);
            bytes.extend(source.port().to_be_bytes());
        }
    }
    bytes.extend([0, 80]);
    bytes
}

fn rejects(server: &TestServer) -> u64 {
    let reason = "proxy_header";
    server
        .metrics
        .preamble_rejects
        .get_or_create(&Reason { reason })
        .get()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_in_the_header_is_the_clients() {
    let server = TestServer::with(&[
        "--trusted-proxy",
        "127.0.0.1",
        "--proxy-protocol",
        "all",
        "--publish-open",
    ]);
    for (header, client) in [
        (
            b"PROXY TCP4 192.0.2.11 127.0.0.1 4711 80\r\n".to_vec(),
            "192.0.2.11",
        ),
        (
            b"PROXY TCP6 2001:db8::12 ::1 4711 80\r\n".to_vec(),
            "2001:db8::12",
        ),
        (binary("192.0.2.13:4711"), "192.0.2.13"),
        (binary("[2001:db8::14]:4711"), "2001:db8::14"),
    ] {
        // In one packet with the request, and in pieces.
        for size in [usize::MAX, 7] {
            let mut viewer = Viewer::connect(server.http).await;
            let request = b"GET /nobody/x.m3u8 HTTP/1.1\r\nHost: a\r\n\r\n";
            for part in [&header[..], request].concat().chunks(size) {
                viewer.send(part).await.unwrap();
                tokio::task::yield_now().await;
            }
            assert_eq!(viewer.head().await.status, 404);
            logs::wait_for(&["answered", &format!("client={client}")]).await;
        }
        let mut peer = Peer::tcp(server.rtmp).await;
        peer.send(&header).await.unwrap();
        let mut peer = peer.greeted().await.introduced("live").await;
        peer.publish(&format!("from-{}", client.replace(':', "-")))
            .await;
        logs::wait_for(&["publishing", "rtmp{peer=", client]).await;
    }
    assert_eq!(rejects(&server), 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxys_own_connection_keeps_its_address() {
    let server = TestServer::with(&["--trusted-proxy", "127.0.0.1", "--proxy-protocol", "http"]);
    for header in [
        &b"PROXY UNKNOWN\r\n"[..],
        b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00",
    ] {
        let mut viewer = Viewer::connect(server.http).await;
        viewer.send(header).await.unwrap();
        viewer.ask("GET", "/healthz", &[]).await;
        assert_eq!(viewer.response().await.status(), 200);
    }
    // Only that port was named.
    Peer::publishing(server.rtmp, "live/direct").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_that_does_not_keep_to_it() {
    let server = TestServer::with(&["--trusted-proxy", "127.0.0.1", "--proxy-protocol", "all"]);
    let wrong: [&[u8]; 8] = [
        b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PROXY TCP4 192.0.2.1 127.0.0.1 4711\r\nGET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 192.0.2.1 127.0.0.1 4711 99999\r\n",
        &[b"PROXY TCP4 ", &[b'1'; 200][..]].concat(),
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\x00\x0c000000000000",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x04\x7f\x00\x00\x01",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        b"PROXY",
    ];
    for (index, bytes) in wrong.into_iter().enumerate() {
        for port in [server.http, server.rtmp] {
            let mut viewer = Viewer::connect(port).await;
            viewer.send(bytes).await.unwrap();
            viewer.hang_up().await;
            viewer.expect_close().await;
        }
        eventually("both refused", || {
            (rejects(&server) == 2 * (index as u64 + 1)).then_some(())
        })
        .await;
    }
    logs::wait_for(&[
        "no proper PROXY header",
        "--proxy-protocol must not name this port",
    ])
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_from_anybody_else_is_refused() {
    let server = TestServer::with(&["--trusted-proxy", "10.0.0.0/8", "--proxy-protocol", "all"]);
    for header in [
        b"PROXY TCP4 192.0.2.66 127.0.0.1 4711 80\r\n".to_vec(),
        binary("192.0.2.66:4711"),
    ] {
        let mut viewer = Viewer::connect(server.http).await;
        viewer.send(&header).await.unwrap();
        viewer.ask("GET", "/healthz", &[]).await;
        let head = viewer.try_head().await;
        assert!(head.is_none_or(|head| head.status == 400), "it is no HTTP");
        let mut peer = Peer::tcp(server.rtmp).await;
        peer.send(&header).await.unwrap();
        peer.expect_close().await;
    }
    assert!(logs::lines(&["192.0.2.66"]).is_empty());
    // Without one they are served like anybody.
    assert_eq!(
        request(server.http, "GET", "/healthz", &[]).await.status(),
        200
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarded_addresses_are_believed_from_proxies_only() {
    let lie = "X-Forwarded-For: 192.0.2.77";
    let server = TestServer::with(&["--trusted-proxy", "10.0.0.0/8"]);
    request(server.http, "GET", "/untrusted/1.ts", &[lie]).await;
    request(
        server.http,
        "GET",
        "/untrusted/1.ts",
        &["Forwarded: for=192.0.2.77"],
    )
    .await;
    assert!(logs::lines(&["192.0.2.77"]).is_empty());
    server.stop().await;

    let server = TestServer::with(&["--trusted-proxy", "127.0.0.0/8,10.0.0.0/8"]);
    let chain = "X-Forwarded-For: 192.0.2.77, 192.0.2.78, 10.1.2.3";
    request(server.http, "GET", "/trusted/1.ts", &[chain]).await;
    logs::wait_for(&["answered", "client=192.0.2.78"]).await;
    request(
        server.http,
        "GET",
        "/trusted/1.ts",
        &["Forwarded: for=\"[2001:db8::79]:1\""],
    )
    .await;
    logs::wait_for(&["answered", "client=2001:db8::79"]).await;
    assert!(logs::lines(&["192.0.2.77"]).is_empty());
    server.stop().await;
}

#[cfg(feature = "tls")]
#[tokio::test(flavor = "multi_thread")]
async fn the_header_comes_before_tls() {
    use lhls::dial::Trust;
    use tokio::io::AsyncWriteExt;
    let pem = crate::common::tls::Pem::new("proxied");
    let server = pem.server(&["--trusted-proxy", "127.0.0.1", "--proxy-protocol", "https"]);
    let mut stream = tokio::net::TcpStream::connect(server.https.unwrap())
        .await
        .unwrap();
    stream.write_all(&binary("192.0.2.88:1")).await.unwrap();
    let connector = lhls::tls::connect::Connector::new(&Trust::Anybody, &[]).unwrap();
    let stream = connector.connect("localhost", stream).await.unwrap();
    let mut viewer = Viewer::over(stream);
    viewer.ask("GET", "/proxied/1.ts", &[]).await;
    assert_eq!(viewer.head().await.status, 404);
    logs::wait_for(&["answered", "client=192.0.2.88"]).await;
    server.stop().await;
}
