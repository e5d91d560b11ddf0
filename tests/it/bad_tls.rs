//! Bad input on the encrypted ports, while somebody else's stream goes on undisturbed.

use std::process::Stdio;

use lhls::metrics::Reason;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::common::bystander::Bystander;
use crate::common::peer::Peer;
use crate::common::server::TestServer;
use crate::common::tls::{self, Pem};
use crate::common::viewer::{Viewer, get};
use crate::common::{eventually, logs, within};

async fn bystander(pem: &Pem) -> Bystander {
    let options = pem.options();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    Bystander::with(&options).await
}

fn rejects(server: &TestServer, reason: &'static str) -> u64 {
    let rejects = &server.metrics.preamble_rejects;
    rejects.get_or_create(&Reason { reason }).get()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_speak_tls_is_told() {
    let pem = Pem::new("not-tls");
    let bystander = bystander(&pem).await;
    let server = &bystander.server;
    let ports = [server.https.unwrap(), server.rtmps.unwrap()];
    for port in ports {
        let answer = get(port, "/live/bystander/playlist.m3u8").await;
        assert_eq!(answer.status(), 400);
        assert!(answer.text().contains("https://"), "{}", answer.text());
        let mut peer = Peer::tcp(port).await;
        let address = peer.address();
        peer.send(&[3; 1537]).await.unwrap();
        assert!(peer.expect_close().await.is_empty());
        logs::wait_for(&[&address, "RTMP: its address begins with rtmps://"]).await;
        for bytes in [&b"\x80\x2e\x01\x00\x02"[..], b"\0", b"hello"] {
            let mut viewer = Viewer::connect(port).await;
            viewer.send(bytes).await.unwrap();
            viewer.expect_close().await;
        }
    }
    assert_eq!(rejects(server, "not_tls"), 10);
    bystander.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_on_a_plain_port() {
    let pem = Pem::new("plain");
    let bystander = bystander(&pem).await;
    let server = &bystander.server;
    for port in [server.http, server.rtmp] {
        let error = tls::connect(port, &[]).await.unwrap_err().to_string();
        assert!(error.starts_with("TLS: "), "{error}");
    }
    logs::wait_for(&["TLS, as for rtmps://; this port takes plain rtmp://"]).await;
    bystander.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_handshakes() {
    let pem = Pem::new("broken");
    let bystander = bystander(&pem).await;
    let server = &bystander.server;
    let mut long = b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03".to_vec();
    long.resize(20_000, 0xff);
    let broken: [&[u8]; 5] = [
        b"\x16",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x05\x01\xff\xff\xff\xff",
        b"\x16\x03\x01\x00\x02\x02\x28",
        &long,
    ];
    for bytes in broken {
        for port in [server.https.unwrap(), server.rtmps.unwrap()] {
            let mut viewer = Viewer::connect(port).await;
            // It may have been enough before the end.
            let _ = viewer.send(bytes).await;
            viewer.hang_up().await;
            viewer.expect_close().await;
        }
    }
    eventually("ten refused", || {
        (rejects(server, "tls_handshake") == 10).then_some(())
    })
    .await;
    bystander.finish().await;
}

/// The clock of this test runs ahead whenever everybody waits.
#[tokio::test(start_paused = true)]
async fn a_handshake_that_never_ends() {
    let pem = Pem::new("slow");
    let server = pem.server(&[]);
    for port in [server.https.unwrap(), server.rtmps.unwrap()] {
        for bytes in [
            &b""[..],
            b"\x16",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        ] {
            let mut viewer = Viewer::connect(port).await;
            viewer.send(bytes).await.unwrap();
            viewer.expect_close().await;
        }
    }
    assert_eq!(rejects(&server, "tls_handshake_time"), 6);
    assert_eq!(server.metrics.http_connections.get(), 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_hold_places_keep_nobody_out() {
    let pem = Pem::new("crowd");
    let bystander = bystander(&pem).await;
    let server = &bystander.server;
    let mut crowd = Vec::new();
    for _ in 0..1100 {
        let mut viewer = Viewer::connect(server.https.unwrap()).await;
        viewer.send(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
        crowd.push(viewer);
    }
    for _ in 0..5 {
        tls::connect(server.https.unwrap(), &[b"h2"]).await.unwrap();
    }
    drop(crowd);
    bystander.finish().await;
}

/// What `openssl s_client` says when this is typed.
async fn s_client(port: u16, options: &[&str], typed: &str) -> String {
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{port}")])
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(typed.as_bytes()).await.unwrap();
    let output = within("openssl", child.wait_with_output()).await.unwrap();
    drop(stdin);
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn old_versions_and_renegotiation_are_refused() {
    let pem = Pem::new("openssl");
    let bystander = bystander(&pem).await;
    let port = bystander.server.https.unwrap().port();
    for version in ["-tls1_2", "-tls1_3"] {
        let said = s_client(port, &[version], "Q\n").await;
        assert!(said.contains("Verification error: self-signed"), "{said}");
        assert!(
            said.contains("Cipher is TLS_") || said.contains("Cipher is ECDHE"),
            "{said}"
        );
    }
    for version in ["-tls1", "-tls1_1"] {
        let weak = ["-cipher", "DEFAULT@SECLEVEL=0", version];
        let said = s_client(port, &weak, "Q\n").await;
        assert!(said.contains("Cipher is (NONE)"), "{said}");
    }
    let said = s_client(port, &["-tls1_2"], "R\n").await;
    assert!(said.contains("RENEGOTIATING"), "{said}");
    assert!(said.contains("no renegotiation"), "{said}");
    bystander.finish().await;
}
