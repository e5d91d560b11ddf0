//! HTTP/2 as nobody should speak it, written frame by frame (RFC 9113), while somebody else's stream goes on undisturbed.

use std::io;

use lhls::metrics::Reason;
use lhls::net::Wire;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use crate::common::bystander::Bystander;
use crate::common::server::TestServer;
use crate::common::tls::{self, Http2, Pem};
use crate::common::{eventually, within};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `GET / HTTP/2` for `https://a`, in HPACK: static entries and one literal.
const REQUEST: &[u8] = b"\x82\x84\x87\x01\x01a";

struct Attacker {
    writer: WriteHalf<Box<dyn Wire>>,
    reader: ReadHalf<Box<dyn Wire>>,
}

impl Attacker {
    /// After the preface and both sides' settings.
    async fn connect(server: &TestServer) -> Self {
        let dialed = tls::connect(server.https.unwrap(), &[b"h2"]).await.unwrap();
        let (reader, writer) = tokio::io::split(dialed.wire);
        let mut attacker = Self { writer, reader };
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        attacker.writer.write_all(preface).await.unwrap();
        attacker.send(SETTINGS, 0, 0, b"").await.unwrap();
        attacker
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        self.writer
            .write_all(&frame(kind, flags, stream, payload))
            .await?;
        self.writer.flush().await
    }

    /// Sends the same again and again until the server has had enough; frames sent.
    async fn flood(&mut self, most: u32, mut frames: impl FnMut(u32) -> Vec<u8>) -> u32 {
        let mut buffer = [0; 4096];
        for index in 0..most {
            let bytes = frames(index);
            let sent = async {
                self.writer.write_all(&bytes).await?;
                self.writer.flush().await
            };
            tokio::select! {
                sent = sent => if sent.is_err() { return index },
                // What it answers is read, so that it is not our own silence that stops it.
                read = drain(&mut self.reader, &mut buffer) => {
                    let _ = read;
                    return index;
                }
            }
        }
        most
    }

    async fn expect_close(mut self) -> Vec<u8> {
        let mut said = Vec::new();
        let _ = within("the server to hang up", self.reader.read_to_end(&mut said)).await;
        said
    }
}

/// Reads until there is an end.
async fn drain(reader: &mut ReadHalf<Box<dyn Wire>>, buffer: &mut [u8]) -> io::Result<()> {
    while reader.read(buffer).await? > 0 {}
    Ok(())
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

async fn bystander(pem: &Pem) -> Bystander {
    let options = pem.options();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    Bystander::with(&options).await
}

async fn still_served(server: &TestServer) {
    let client = Http2::connect(server.https.unwrap()).await;
    assert_eq!(client.get("/healthz").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_taken_back_at_once() {
    let pem = Pem::new("rapid-reset");
    let bystander = bystander(&pem).await;
    let server = &bystander.server;
    let mut attacker = Attacker::connect(server).await;
    let flood = attacker.flood(100_000, |index| {
        let stream = index * 2 + 1;
        let mut bytes = frame(HEADERS, END_STREAM | END_HEADERS, stream, REQUEST);
        bytes.extend(frame(RESET, 0, stream, &8_u32.to_be_bytes()));
        bytes
    });
    let sent = within("the end of the flood", flood).await;
    assert!(sent < 20_000, "{sent} requests were taken back");
    still_served(server).await;
    bystander.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_begun_and_taken_back() {
    let pem = Pem::new("slow-reset");
    let bystander = bystander(&pem).await;
    let server = &bystander.server;
    // Each asks for something that is waited for, and is taken back when the server has begun with it.
    let client = Http2::connect(server.https.unwrap()).await;
    let mut asked = 0;
    while asked < 2000 && !client.ended.is_finished() {
        let wait = "/live/nobody/playlist.m3u8?wait=20";
        let mut answers = Vec::new();
        for _ in 0..50 {
            answers.push(Box::pin(client.ask(wait, &[])));
        }
        for answer in &mut answers {
            let _ = tokio::time::timeout(std::time::Duration::ZERO, answer).await;
            asked += 1;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(asked < 2000, "all were taken");
    let reason = "h2_resets";
    eventually("the limit that was hit", || {
        let limits = &server.metrics.limits;
        (limits.get_or_create(&Reason { reason }).get() == 1).then_some(())
    })
    .await;
    still_served(server).await;
    bystander.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn header_fields_that_never_end() {
    let pem = Pem::new("continuation");
    let bystander = bystander(&pem).await;
    let server = &bystander.server;
    // A literal field of a kilobyte again and again, empty fragments, and one field that goes on.
    let mut field = b"\x00\x01x\x7f\x81\x07".to_vec();
    field.resize(field.len() + 1024, b'y');
    for fragment in [&field[..], b"", &[b'z'; 16_000]] {
        let mut attacker = Attacker::connect(server).await;
        attacker
            .send(HEADERS, END_STREAM, 1, REQUEST)
            .await
            .unwrap();
        let flood = attacker.flood(20_000, |_| frame(CONTINUATION, 0, 1, fragment));
        let sent = within("the end of the flood", flood).await;
        assert!(sent < 10_000, "{sent} frames of {} bytes", fragment.len());
    }
    still_served(server).await;
    bystander.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn header_fields_beyond_the_limit() {
    let pem = Pem::new("header-list");
    let bystander = bystander(&pem).await;
    let server = &bystander.server;
    let client = Http2::connect(server.https.unwrap()).await;
    let long = "y".repeat(20_000);
    let refused = client.ask("/healthz", &[("x-long", &long)]).await;
    assert!(refused.is_err() || refused.unwrap().status() == 431);
    still_served(server).await;
    bystander.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_than_may_be_under_way() {
    let pem = Pem::new("streams");
    let bystander = bystander(&pem).await;
    let server = &bystander.server;
    let mut attacker = Attacker::connect(server).await;
    // To a path that is waited for: /live/n/playlist.m3u8?wait=25, as a literal.
    let mut request = b"\x82\x87\x01\x01a\x04\x1f".to_vec();
    request.extend(b"/live/nn/playlist.m3u8?wait=025");
    for index in 0..300 {
        let sent = attacker.send(HEADERS, END_STREAM | END_HEADERS, index * 2 + 1, &request);
        if sent.await.is_err() {
            break;
        }
    }
    still_served(server).await;
    drop(attacker);
    bystander.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_whose_answers_nobody_reads() {
    let pem = Pem::new("pings");
    let bystander = bystander(&pem).await;
    let server = &bystander.server;
    for (kind, payload) in [
        (PING, &[7; 8][..]),
        (SETTINGS, b"\0\x04\0\0\xff\xff"),
        (WINDOW_UPDATE, b"\0\0\0\x01"),
        (DATA, b""),
    ] {
        let mut attacker = Attacker::connect(server).await;
        let bytes = frame(kind, 0, 0, payload).repeat(1000);
        let flood = async {
            for _ in 0..2000 {
                let sent = attacker.writer.write_all(&bytes).await;
                if sent.is_err() || attacker.writer.flush().await.is_err() {
                    break;
                }
            }
        };
        // Either the server hangs up, or it reads no more until its answers are taken; both will do.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(3), flood).await;
        still_served(server).await;
    }
    bystander.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_http2() {
    let pem = Pem::new("not-h2");
    let bystander = bystander(&pem).await;
    let server = &bystander.server;
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        &frame(HEADERS, END_HEADERS, 0, REQUEST),
        &frame(HEADERS, END_HEADERS, 2, REQUEST),
        &frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            1,
            b"\xff\xff\xff\xff\xff\xff\xff",
        ),
        &frame(SETTINGS, 0, 0, b"\0\x05\0\0\0\x01"),
        &frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
        &frame(WINDOW_UPDATE, 0, 0, &[0; 4]),
        &frame(DATA, 0, 5, b"nothing was asked"),
        &frame(PING, 0, 0, b"short"),
        &[0xff; 1000],
    ] {
        let mut attacker = Attacker::connect(server).await;
        attacker.writer.write_all(bytes).await.unwrap();
        attacker.writer.flush().await.unwrap();
        attacker.writer.shutdown().await.unwrap();
        attacker.expect_close().await;
    }
    still_served(server).await;
    bystander.finish().await;
}
