//! HTTPS and RTMPS: what goes in with encryption comes out with it, in HTTP/2 and HTTP/1.1, as it does without; certificates are
//! exchanged while everybody goes on.

use std::sync::Arc;

use hyper::Version;
use lhls::dial::Trust;
use lhls::viewer::{self, Mode, Options};
use tokio_util::sync::CancellationToken;

use crate::common::media::Clip;
use crate::common::playlist;
use crate::common::publisher::Publisher;
use crate::common::server::TestServer;
use crate::common::tls::{self, Http2, Pem};
use crate::common::tools::Tool;
use crate::common::viewer::{self as http1, Viewer};
use crate::common::{eventually, logs, within};

const LHLS: &str = env!("CARGO_BIN_EXE_lhls");

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_publishes_with_rtmps_and_plays_with_https() {
    let pem = Pem::new("ffmpeg");
    let server = pem.server(&["--reconnect-window", "10s"]);
    let clip = Clip::default().file().await;
    let target = format!("rtmps://{}/live/secure", server.rtmps.unwrap());
    let clip = clip.to_str().unwrap();
    let publisher = Tool::ffmpeg(&["-re", "-i", clip, "-c", "copy", "-f", "flv", &target]);
    server.wait_for_playlist("live/secure").await;
    let url = format!(
        "https://{}/live/secure/playlist.m3u8",
        server.https.unwrap()
    );
    let frames = [
        "-tls_verify",
        "0",
        "-i",
        &url,
        "-t",
        "1",
        "-c",
        "copy",
        "-f",
        "null",
        "-",
    ];
    let player = Tool::ffmpeg(&frames).finish().await;
    assert_eq!(player.code, Some(0), "{}", player.stderr);
    drop(publisher);
    // It was killed: the connection closed without close_notify, which is an end like any other.
    eventually("the publisher's end", || {
        (server.metrics.publishers.get() == 0).then_some(())
    })
    .await;
    let broken = lhls::metrics::Reason { reason: "broken" };
    let rejects = &server.metrics.rtmp_rejects;
    assert_eq!(rejects.get_or_create(&broken).get(), 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_ways_lead_to_the_same_bytes() {
    let pem = Pem::new("same");
    let server = pem.server(&[]);
    let mut publisher = Publisher::start(&server, "live/same", &Clip::default()).await;
    publisher.send_until(3500).await;
    let path = playlist::media_path(&server, "live/same").await;
    let playlist = playlist::fetch(&server, &path).await;
    let segment = playlist::sibling(&path, &playlist.entries[0].uri);
    let plain = http1::get(server.http, &segment).await;
    assert_eq!(plain.status(), 200);

    let over = Http2::connect(server.https.unwrap()).await;
    let answer = over.ask(&segment, &[]).await.unwrap();
    assert_eq!(
        (answer.version(), answer.status().as_u16()),
        (Version::HTTP_2, 200)
    );
    for forbidden in ["connection", "transfer-encoding", "keep-alive", "upgrade"] {
        assert!(answer.headers().get(forbidden).is_none(), "{forbidden}");
    }
    assert_eq!(
        answer.headers()["content-length"],
        plain.header("content-length").unwrap()
    );
    assert!(over.get(&segment).await.1 == plain.bytes());

    for protocols in [&[b"http/1.1" as &[u8]][..], &[]] {
        let dialed = tls::connect(server.https.unwrap(), protocols)
            .await
            .unwrap();
        assert!(!dialed.http2);
        let mut viewer = Viewer::over(dialed.wire);
        viewer.ask("GET", &segment, &[]).await;
        assert!(viewer.response().await.bytes() == plain.bytes());
    }
    assert!(
        tls::connect(server.https.unwrap(), &[b"h3"]).await.is_err(),
        "nothing in common"
    );
    publisher.finish().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_piece_is_sent_at_once_in_http2_too() {
    let pem = Pem::new("pieces");
    let server = pem.server(&[]);
    let mut publisher = Publisher::start(&server, "live/pieces", &Clip::default()).await;
    publisher.send_until(2100).await;
    let path = playlist::media_path(&server, "live/pieces").await;
    let playlist = playlist::fetch(&server, &path).await;
    let growing = playlist::sibling(&path, &playlist.entries[2].uri);
    let announced = playlist::sibling(&path, &playlist.entries[3].uri);
    let client = Http2::connect(server.https.unwrap()).await;
    let waiting = client.ask(&announced, &[]).await.unwrap();
    assert_eq!(
        waiting.status(),
        200,
        "the head comes before there is a byte"
    );
    let mut body = client.ask(&growing, &[]).await.unwrap().into_body();
    let first = tls::next(&mut body).await.unwrap().unwrap();
    assert_eq!(first[0], 0x47);
    let mut grown = first.to_vec();
    let measured = server.metrics.http_bytes.get();
    for _ in 0..10 {
        let before = server.metrics.pieces.get();
        while server.metrics.pieces.get() == before {
            publisher.send_one().await;
        }
        // Here before the next one is even sent.
        let piece = tls::next(&mut body).await.unwrap().unwrap();
        grown.extend_from_slice(&piece);
    }
    assert!(server.metrics.http_bytes.get() > measured, "counted");
    let text = server.metrics.encode(&[]);
    let observed = text
        .lines()
        .find_map(|line| line.strip_prefix("lhls_delivery_latency_seconds_count "));
    // Not every one: a piece may come before HTTP/2 has asked for it, and is then not waited for.
    assert!(observed.unwrap().parse::<u64>().unwrap() > 0, "measured");
    let stream = server.registry.find("live/pieces").unwrap();
    assert_eq!(
        stream.viewers(),
        1,
        "one connection is one viewer, however much it asks for"
    );
    publisher.send_until(3500).await;
    while let Some(piece) = tls::next(&mut body).await {
        grown.extend_from_slice(&piece.unwrap());
    }
    assert!(http1::get(server.http, &growing).await.bytes() == grown);
    publisher.finish().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg(feature = "demo")]
async fn certificates_are_exchanged_during_play() {
    use lhls::demo::publisher::{self, PublishOptions};
    let pem = Pem::new("swaps");
    let server = pem.server(&[]);
    let stop = CancellationToken::new();
    let options = PublishOptions {
        size: (320, 180),
        trust: Trust::Anybody,
        ..PublishOptions::new(
            format!("rtmps://{}/live/swaps", server.rtmps.unwrap())
                .parse()
                .unwrap(),
        )
    };
    let publisher = tokio::spawn(publisher::publish(options, stop.clone()));
    server.wait_for_playlist("live/swaps").await;
    let enough = CancellationToken::new();
    let watch = |name: &str, mode| {
        let options = Options {
            url: format!("https://{}/live/swaps/{name}", server.https.unwrap())
                .parse()
                .unwrap(),
            trust: Trust::Anybody,
            mode: Some(mode),
            viewers: 5,
            duration: None,
            buffer: std::time::Duration::from_secs(1),
            decode: false,
        };
        tokio::spawn(viewer::watch(options, enough.clone(), |_, _| {}))
    };
    let watching = [
        watch("playlist.m3u8", Mode::Segments),
        watch("ll.m3u8", Mode::Parts),
    ];
    eventually("ten viewers", || {
        let stream = server.registry.find("live/swaps")?;
        (stream.viewers() == 10).then_some(())
    })
    .await;
    let connections = server.metrics.tls_handshakes.get();
    for swap in 0..100 {
        pem.renew();
        server.reload.reload_certificates();
        if swap % 10 == 9 {
            // Who comes now gets the new certificate.
            let dialer = pem.dialer(&[b"h2"]);
            let port = server.https.unwrap().port();
            let dialed = within("a handshake", dialer.dial("127.0.0.1", port, true)).await;
            assert!(dialed.unwrap().http2);
        }
        // The stream goes on meanwhile.
        let pieces = server.metrics.pieces.get();
        eventually("another picture", || {
            (server.metrics.pieces.get() > pieces + 1).then_some(())
        })
        .await;
    }
    assert_eq!(
        server.metrics.tls_handshakes.get(),
        connections + 10,
        "nobody had to connect again"
    );
    enough.cancel();
    for watching in watching {
        let report = within("a report", watching).await.unwrap().unwrap();
        assert!(report.errors.is_empty(), "{:?}", report.errors);
    }
    stop.cancel();
    within("the publisher", publisher).await.unwrap().unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_taken_without_being_told() {
    let pem = Pem::new("watch");
    let server = pem.server(&[]);
    let port = server.https.unwrap().port();
    pem.renew();
    let new = pem.dialer(&[]);
    within("the new certificate", async {
        while new.dial("127.0.0.1", port, true).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    })
    .await;
    assert!(server.metrics.tls_certificate_expiry.get() > 1_795_000_000);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_never_taken() {
    let pem = Pem::new("reload");
    let server = pem.server(&[]);
    let good = pem.dialer(&[]);
    let port = server.https.unwrap().port();
    // Reads the certificate while the file still holds it.
    good.dial("127.0.0.1", port, true).await.unwrap();
    let certificate = std::fs::read(pem.certificate()).unwrap();
    let key = std::fs::read(pem.key()).unwrap();
    let file = pem.certificate().display().to_string();
    let spoil: [(&dyn Fn(), &str); 6] = [
        (
            &|| std::fs::write(pem.certificate(), "hello").unwrap(),
            "holds no certificate",
        ),
        (
            &|| std::fs::write(pem.certificate(), &certificate[..100]).unwrap(),
            "is damaged",
        ),
        (
            &|| std::fs::write(pem.certificate(), &key).unwrap(),
            "a key but no certificate",
        ),
        (
            &|| std::fs::remove_file(pem.certificate()).unwrap(),
            "cannot read",
        ),
        (&|| pem.renew_expired(), "has expired on 2020-04-01"),
        (
            &|| {
                pem.renew();
                std::fs::write(pem.key(), &key).unwrap();
            },
            "is not the key of",
        ),
    ];
    for (spoil, word) in spoil {
        spoil();
        server.reload.reload_certificates();
        logs::wait_for(&[word, &file, "the old certificate stays in use"]).await;
        good.dial("127.0.0.1", port, true).await.unwrap();
    }
    std::fs::write(pem.certificate(), &certificate).unwrap();
    server.reload.reload_certificates();
    logs::wait_for(&["the TLS certificate is the same as before"]).await;
    server.stop().await;
}

#[tokio::test]
async fn wrong_files_are_named_at_the_start() {
    let pem = Pem::new("start");
    let (certificate, key) = (pem.certificate(), pem.key());
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let other = Pem::new("start-other");
    let other = other.key();
    let other = other.to_str().unwrap();
    let encrypted = format!("{key}.encrypted");
    let label = "ENCRYPTED PRIVATE KEY";
    std::fs::write(
        &encrypted,
        format!("-----BEGIN {label}-----\nMIIB\n-----END {label}-----\n"),
    )
    .unwrap();
    for (arguments, words) in [
        ([certificate, other], ["is not the key of", other]),
        (["/nowhere/a.pem", key], ["/nowhere/a.pem", "--tls-cert"]),
        (
            [certificate, "/nowhere/b.pem"],
            ["/nowhere/b.pem", "--tls-key"],
        ),
        ([key, certificate], ["holds a key but no certificate", key]),
        (
            [certificate, certificate],
            ["holds a certificate but no key", certificate],
        ),
        (
            [certificate, &encrypted],
            ["encrypted with a password", &encrypted],
        ),
    ] {
        let [certificate, key] = arguments;
        let all = [
            "serve",
            "--rtmp-listen",
            "127.0.0.1:0",
            "--http-listen",
            "127.0.0.1:0",
            "--https-listen",
            "127.0.0.1:0",
            "--tls-cert",
            certificate,
            "--tls-key",
            key,
        ];
        let finished = Tool::start(LHLS, &all).finish().await;
        assert_eq!(finished.code, Some(2), "{arguments:?}: {}", finished.stderr);
        assert_eq!(
            finished.stderr.trim_end().lines().count(),
            1,
            "{}",
            finished.stderr
        );
        for word in words {
            assert!(
                finished.stderr.contains(word),
                "{word}: {}",
                finished.stderr
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_said_loudly_and_served() {
    let pem = Pem::new("expired");
    pem.renew_expired();
    let server = pem.server(&[]);
    let file = pem.certificate().display().to_string();
    logs::wait_for(&["ERROR", "has expired on 2020-04-01", &file]).await;
    let port = server.https.unwrap().port();
    let refused = pem.dialer(&[]).dial("127.0.0.1", port, true).await;
    assert!(refused.is_err(), "clients are right to refuse it");
    assert_eq!(http1::get(server.http, "/healthz").await.status(), 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lhls_latency_says_why_it_does_not_believe() {
    let pem = Pem::new("believe");
    let server = pem.server(&[]);
    let url = format!("https://{}/live/a/playlist.m3u8", server.https.unwrap());
    let refused = Tool::start(LHLS, &["latency", &url]).finish().await;
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("--ca FILE, or any with --insecure"),
        "{}",
        refused.stderr
    );
    // Believed, and no such stream.
    let certificate = pem.certificate();
    for trust in [
        &["--insecure"][..],
        &["--ca", certificate.to_str().unwrap()],
    ] {
        let asked = [&["latency", &url], trust].concat();
        let asked = Tool::start(LHLS, &asked).finish().await;
        assert_eq!(asked.code, Some(1), "{}", asked.stderr);
        assert!(asked.stderr.contains("404"), "{}", asked.stderr);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_leads_to_https_on_request() {
    let server = TestServer::with(&["--https-redirect", "8443", "--trusted-proxy", "127.0.0.1"]);
    let answer = http1::get(server.http, "/live/a/playlist.m3u8?wait=3").await;
    assert_eq!(answer.status(), 301);
    assert_eq!(
        answer.header("location"),
        Some("https://test:8443/live/a/playlist.m3u8?wait=3")
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    for inside in ["/healthz", "/metrics"] {
        assert_eq!(
            http1::get(server.http, inside).await.status(),
            200,
            "{inside}"
        );
    }
    let said = ["X-Forwarded-Proto: https"];
    let behind = http1::request(server.http, "GET", "/live/a/playlist.m3u8", &said).await;
    assert_eq!(behind.status(), 404, "a proxy has taken the encryption off");
    server.stop().await;
    let server = Arc::new(TestServer::start());
    assert_eq!(
        http1::get(server.http, "/").await.status(),
        200,
        "not unless asked for"
    );
}
