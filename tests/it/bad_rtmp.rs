//! Bad input on the RTMP port. Each time the peer gets an answer or is hung up on, a line of the log says why, nothing panics, and
//! another publisher's stream goes through unharmed.

use std::time::Duration;

use lhls::rtmp::amf::{self, Amf0Value};
use lhls::rtmp::chunk::kind;

use crate::common::bystander::{self, Bystander};
use crate::common::flv;
use crate::common::media::Clip;
use crate::common::peer::{self, Peer};
use crate::common::publisher::Publisher;
use crate::common::recording::Recording;
use crate::common::server::TestServer;
use crate::common::{compare, logs};

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes() {
    let bystander = Bystander::start().await;
    for seed in 1..=20 {
        let mut noise = noise(seed, 20_000);
        let mut peer = Peer::tcp(bystander.server.rtmp).await;
        let mut expected = "not RTMP";
        if seed % 2 == 0 {
            // With the right version the handshake can only be believed; the noise is then in the chunks.
            noise[0] = 3;
            expected = "connection ended";
        }
        let _ = peer.send(&noise).await;
        peer.hang_up().await;
        peer.expect_close().await;
        if seed % 2 == 1 {
            logs::wait_for(&[&peer.address(), expected]).await;
        } else {
            // Noise may also be a beginning of something, and then it is just over.
            crate::common::eventually("a line about the noise", || {
                let address = peer.address();
                let ended = logs::lines(&[&address, expected]).pop();
                ended.or_else(|| logs::lines(&[&address, "closed without publishing"]).pop())
            })
            .await;
        }
    }
    bystander.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_handshake() {
    let bystander = Bystander::start().await;
    for length in [0, 1, 2, 700, 1536, 1537, 2000] {
        let mut peer = Peer::tcp(bystander.server.rtmp).await;
        let mut hello = vec![7; length];
        if let Some(version) = hello.first_mut() {
            *version = 3;
        }
        peer.send(&hello).await.unwrap();
        peer.hang_up().await;
        peer.expect_close().await;
        logs::wait_for(&[&peer.address(), "closed without publishing"]).await;
    }
    bystander.finish().await;
}

/// The clock of this test runs ahead whenever everybody waits.
#[tokio::test(start_paused = true)]
async fn half_a_handshake_and_silence() {
    let server = TestServer::start();
    let mut peer = Peer::tcp(server.rtmp).await;
    peer.send(&[3, 0, 0, 0, 0]).await.unwrap();
    peer.expect_close().await;
    logs::wait_for(&[&peer.address(), "nothing was published within 10s"]).await;
    server.assert_no_panics();
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_falls_silent() {
    let server = TestServer::with(&["--publish-timeout", "15s"]);
    let mut peer = Peer::publishing(server.rtmp, "live/silent").await;
    peer.expect_close().await;
    logs::wait_for(&[&peer.address(), "sent nothing for 15s"]).await;
    server.wait_for_end("live/silent").await;
    server.assert_no_panics();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_request() {
    let bystander = Bystander::start().await;
    let mut peer = Peer::tcp(bystander.server.rtmp).await;
    peer.send(b"GET /live/a/playlist.m3u8 HTTP/1.1\r\nHost: here\r\n\r\n")
        .await
        .unwrap();
    peer.expect_close().await;
    let line = logs::wait_for(&[&peer.address(), "not RTMP"]).await;
    assert!(line.contains("HTTP"), "{line}");
    bystander.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_line_that_never_ends() {
    let bystander = Bystander::start().await;
    let mut peer = Peer::tcp(bystander.server.rtmp).await;
    send_until_closed(&mut peer, &[b'A'; 10_000], 200).await;
    peer.expect_close().await;
    logs::wait_for(&[&peer.address(), "not RTMP"]).await;
    bystander.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_messages() {
    let bystander = Bystander::start().await;
    for announced in [100, 60_000] {
        let mut peer = Peer::new(bystander.server.rtmp).await;
        let mut bytes = peer::header(3, kind::COMMAND_AMF0, 0, 0, announced);
        bytes.extend([2, 0, 7]);
        peer.send(&bytes).await.unwrap();
        peer.hang_up().await;
        peer.expect_close().await;
        logs::wait_for(&[&peer.address(), "closed without publishing"]).await;
    }
    // Whole as messages, but what they say is cut short.
    for payload in [&[2, 0, 7, b'c'][..], &[0, 1, 2], &[3, 0, 3, b'a']] {
        let mut peer = Peer::new(bystander.server.rtmp).await;
        peer.message(3, kind::COMMAND_AMF0, 0, 0, payload)
            .await
            .unwrap();
        peer.expect_close().await;
        logs::wait_for(&[&peer.address(), "unreadable command"]).await;
    }
    for (kind, payload) in [(kind::SET_CHUNK_SIZE, &[0, 0][..]), (kind::ABORT, &[1])] {
        let mut peer = Peer::new(bystander.server.rtmp).await;
        peer.message(2, kind, 0, 0, payload).await.unwrap();
        peer.expect_close().await;
        logs::wait_for(&[&peer.address(), "expected 4"]).await;
    }
    bystander.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_messages() {
    let bystander = Bystander::start().await;
    for (kind, length) in [
        (kind::VIDEO, 0xff_ffff),
        (kind::AUDIO, 5 << 20),
        (kind::COMMAND_AMF0, 70_000),
        (kind::DATA_AMF0, 0xff_ffff),
        (99, 70_000),
    ] {
        let mut peer = Peer::new(bystander.server.rtmp).await;
        let header = peer::header(4, kind, 1, 0, length);
        peer.send(&header).await.unwrap();
        peer.expect_close().await;
        logs::wait_for(&[&peer.address(), "the limit is"]).await;
    }
    bystander.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_begun_messages_than_anybody_needs() {
    let bystander = Bystander::start().await;
    let mut peer = Peer::new(bystander.server.rtmp).await;
    for chunk_stream in 4..20 {
        let mut bytes = peer::header(chunk_stream, kind::VIDEO, 1, 0, 60_000);
        bytes.extend([0; 128]);
        let _ = peer.send(&bytes).await;
    }
    peer.expect_close().await;
    logs::wait_for(&[&peer.address(), "messages begun and not finished"]).await;

    let mut peer = Peer::new(bystander.server.rtmp).await;
    for chunk_stream in 0..100 {
        // Ids from 64 on take a second byte.
        let mut bytes = peer::header(0, kind::VIDEO, 1, 0, 1);
        bytes.splice(0..1, [0, chunk_stream]);
        bytes.push(0);
        let _ = peer.send(&bytes).await;
    }
    peer.expect_close().await;
    logs::wait_for(&[&peer.address(), "chunk streams on one connection"]).await;
    bystander.finish().await;
}

/// Not bad at all: chunks of sound between the chunks of a picture, which some readers cannot follow.
#[tokio::test(flavor = "multi_thread")]
async fn interleaved_chunks_are_understood() {
    let bystander = Bystander::start().await;
    let server = &bystander.server;
    let clip = Clip::default();
    let tags = flv::read(&clip.file().await);
    let mut peer = Peer::publishing(server.rtmp, "live/interleaved").await;
    let mut pairs = tags.iter().peekable();
    while let Some(first) = pairs.next() {
        let second = pairs.next_if(|second| second.kind != first.kind);
        let mut running = Vec::new();
        for tag in [Some(first), second].into_iter().flatten() {
            let chunk_stream = if tag.kind == 9 { 6 } else { 4 };
            let length = tag.body.len();
            let header = peer::header(chunk_stream, tag.kind, 1, tag.timestamp, length);
            let chunks: Vec<&[u8]> = tag.body.chunks(128).collect();
            running.push((chunk_stream, header, chunks));
        }
        let most = running.iter().map(|(.., chunks)| chunks.len()).max();
        let mut bytes = Vec::new();
        for index in 0..most.unwrap() {
            for (chunk_stream, header, chunks) in &running {
                let Some(chunk) = chunks.get(index) else {
                    continue;
                };
                match index {
                    0 => bytes.extend_from_slice(header),
                    _ => bytes.push(0xc0 | chunk_stream),
                }
                bytes.extend_from_slice(chunk);
            }
        }
        peer.send(&bytes).await.unwrap();
    }
    peer.settle().await;
    peer.hang_up().await;
    peer.expect_close().await;
    let programme = Recording::follow(server, "live/interleaved").await.check();
    assert_eq!(programme.video.len(), 150);
    // Where a message ends before its neighbour, it counts as earlier; only the sound at the very start may miss its picture.
    let late = tags.len() - programme.video.len() - programme.audio.len();
    assert!(late <= 6, "{late}");
    bystander.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_nested_thousands_deep() {
    let bystander = Bystander::start().await;
    for marker in [
        &[3, 0, 1, b'a'][..],
        &[10, 0, 0, 0, 1],
        &[8, 0, 0, 0, 1, 0, 1, b'a'],
    ] {
        let mut payload = peer::command("connect", 1.0).to_vec();
        payload.pop();
        payload.extend(marker.repeat(5000));
        let mut peer = Peer::new(bystander.server.rtmp).await;
        peer.message(3, kind::COMMAND_AMF0, 0, 0, &payload)
            .await
            .unwrap();
        peer.expect_close().await;
        logs::wait_for(&[&peer.address(), "nested deeper than 16"]).await;
    }
    // In metadata it is not worth a connection.
    let mut peer = Peer::publishing(bystander.server.rtmp, "live/nested").await;
    let mut payload = amf::encode(&[amf::string("onMetaData")]).unwrap().to_vec();
    payload.extend([3, 0, 1, b'a'].repeat(5000));
    peer.message(4, kind::DATA_AMF0, 1, 0, &payload)
        .await
        .unwrap();
    peer.settle().await;
    bystander.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunk_sizes_out_of_this_world() {
    let bystander = Bystander::start().await;
    for size in [0_u32, 0x8000_0000, u32::MAX] {
        let mut peer = Peer::new(bystander.server.rtmp).await;
        let bytes = size.to_be_bytes();
        peer.message(2, kind::SET_CHUNK_SIZE, 0, 0, &bytes)
            .await
            .unwrap();
        peer.expect_close().await;
        logs::wait_for(&[&peer.address(), "Set Chunk Size announces"]).await;
    }
    // The largest one is legal, reserves nothing, and works.
    let mut peer = Peer::connected(bystander.server.rtmp, "live").await;
    peer.set_chunk_size(0x7fff_ffff).await.unwrap();
    let (code, _) = peer.publish("large-chunks").await;
    assert_eq!(code, "NetStream.Publish.Start");
    for tag in flv::read(&Clip::default().file().await) {
        peer.message(4, tag.kind, 1, tag.timestamp, &tag.body)
            .await
            .unwrap();
    }
    peer.settle().await;
    peer.hang_up().await;
    let recording = Recording::follow(&bystander.server, "live/large-chunks").await;
    assert_eq!(recording.check().video.len(), 150);
    bystander.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_streams() {
    let bystander = Bystander::start().await;
    let mut peer = Peer::connected(bystander.server.rtmp, "live").await;
    let payload = peer::command("createStream", 2.0);
    let mut message = peer::header(3, kind::COMMAND_AMF0, 0, 0, payload.len());
    message.extend_from_slice(&payload);
    send_until_closed(&mut peer, &message.repeat(100), 1000).await;
    peer.expect_close().await;
    logs::wait_for(&[&peer.address(), "connection ended"]).await;
    bystander.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_live() {
    let bystander = Bystander::with(&["--on-busy", "refuse"]).await;
    let (app, name) = bystander::NAME.rsplit_once('/').unwrap();
    let mut peer = Peer::connected(bystander.server.rtmp, app).await;
    let (code, text) = peer.publish(name).await;
    assert_eq!(code, "NetStream.Publish.BadName");
    assert_eq!(text, "live/bystander is already being published.");
    peer.expect_close().await;
    logs::wait_for(&[&peer.address(), "already being published"]).await;
    bystander.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_no_paths() {
    let bystander = Bystander::start().await;
    let long = "x".repeat(10_000);
    for (app, name, words) in [
        ("live", "..", "begins with a dot"),
        ("..", "a", "begins with a dot"),
        ("live", "../../etc/passwd", "begins with a dot"),
        ("live", "a%00", "has the character '%'"),
        ("live", "a\0b", "has the character"),
        ("live", "a b", "has the character ' '"),
        ("live", "<script>", "has the character '<'"),
        ("live", "a\nlog line", "has the character"),
        ("live", "stra\u{df}e", "has the character"),
        ("live", &long, "bytes long"),
        ("a/b/c/d/e/f/g", "h", "too long"),
        ("", "", "has no name"),
    ] {
        let mut peer = Peer::connected(bystander.server.rtmp, app).await;
        let (code, text) = peer.publish(name).await;
        assert_eq!(code, "NetStream.Publish.BadName", "{app} {name}");
        assert!(text.contains(words), "{app} {name}: {text}");
    }
    bystander.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_out_of_place() {
    let bystander = Bystander::start().await;
    // Publishing before connecting.
    let mut peer = Peer::new(bystander.server.rtmp).await;
    let arguments = [amf::string("name"), amf::string("live")];
    peer.command(1, "publish", Amf0Value::Null, &arguments)
        .await
        .unwrap();
    let (code, text) = peer.expect_status().await;
    assert_eq!(code, "NetStream.Publish.BadName", "{text}");

    // Publishing twice.
    let mut peer = Peer::publishing(bystander.server.rtmp, "live/twice").await;
    peer.command(1, "publish", Amf0Value::Null, &arguments)
        .await
        .unwrap();
    let (_, text) = peer.expect_status().await;
    assert!(text.contains("publishing already"), "{text}");

    // Playing.
    let mut peer = Peer::connected(bystander.server.rtmp, "live").await;
    peer.command(1, "play", Amf0Value::Null, &arguments)
        .await
        .unwrap();
    let (code, text) = peer.expect_status().await;
    assert_eq!(code, "NetStream.Play.Failed");
    assert!(text.contains("HTTP"), "{text}");

    // What nobody ever heard of.
    peer.command(0, "makeCoffee", Amf0Value::Null, &[])
        .await
        .unwrap();
    assert_eq!(peer.expect_command().await.name, "_error");
    bystander.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_codec_that_is_not_carried() {
    let bystander = Bystander::start().await;
    for (name, kind, body, words) in [
        ("live/hevc", kind::VIDEO, &[0x1c, 0, 0, 0, 0, 1][..], "HEVC"),
        ("live/av1", kind::VIDEO, b"\x90av01\x81", "AV1"),
        ("live/opus", kind::AUDIO, b"\x90Opus", "Opus"),
        ("live/speex", kind::AUDIO, &[0xb2, 1, 2, 3], "Speex"),
    ] {
        let mut peer = Peer::publishing(bystander.server.rtmp, name).await;
        peer.message(6, kind, 1, 0, body).await.unwrap();
        let (_, text) = peer.expect_status().await;
        assert!(text.contains(words), "{name}: {text}");
        peer.expect_close().await;
        logs::wait_for(&[&peer.address(), "not supported"]).await;
    }
    bystander.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_tags_are_left_out() {
    let bystander = Bystander::start().await;
    let server = &bystander.server;
    let clip = Clip::default();
    let tags = flv::read(&clip.file().await);
    let mut mixed = Vec::new();
    for (index, tag) in tags.iter().enumerate() {
        mixed.push(tag.clone());
        if index % 10 == 5 {
            for (kind, body) in [
                (9, &[0x17][..]),
                (9, &[0x27, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]),
                (9, &[0x17, 0, 0, 0, 0, 9, 9]),
                (8, &[0xaf]),
                (8, &[0xaf, 0]),
                (9, &[0x57, 0]),
            ] {
                let mut bad = tag.clone();
                (bad.kind, bad.body) = (kind, body.into());
                mixed.push(bad);
            }
        }
    }
    let mut publisher = Publisher::of_tags(server, "live/malformed", mixed).await;
    publisher.send_until(u32::MAX).await;
    publisher.finish().await;
    let programme = Recording::follow(server, "live/malformed").await.check();
    compare::assert_same(&tags, &programme);
    assert_eq!(
        logs::lines(&["stream=live/malformed", "a malformed tag was left out"]).len(),
        1,
        "one line however many there are"
    );
    bystander.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_publishers_than_allowed() {
    let bystander = Bystander::with(&["--max-publishers", "2"]).await;
    let second = Peer::tcp(bystander.server.rtmp).await;
    // The server must have taken this one in before the next asks.
    crate::common::eventually("the second connection", || {
        (bystander.server.metrics.rtmp_connections.get() == 2).then_some(())
    })
    .await;
    let mut third = Peer::tcp(bystander.server.rtmp).await;
    third.expect_close().await;
    logs::wait_for(&[&third.address(), "--max-publishers"]).await;
    drop(second);
    bystander.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_streams_than_allowed() {
    let bystander = Bystander::with(&["--max-streams", "1"]).await;
    let mut peer = Peer::connected(bystander.server.rtmp, "live").await;
    let (code, text) = peer.publish("second").await;
    assert_eq!(code, "NetStream.Publish.BadName");
    assert!(text.contains("no more are allowed"), "{text}");
    bystander.finish().await;
}

/// Sends so often, or until the server has hung up.
async fn send_until_closed(peer: &mut Peer, bytes: &[u8], times: usize) {
    for _ in 0..times {
        // A server that neither reads nor hangs up would be a bug of its own.
        let sent = tokio::time::timeout(Duration::from_secs(60), peer.send(bytes));
        if sent.await.expect("the server reads or hangs up").is_err() {
            return;
        }
    }
}

/// Bytes without rhyme or reason, the same ones for the same seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    let mut bytes: Vec<u8> = (0..length).map(|_| next()).collect();
    if bytes[0] == 3 || bytes[0] == 6 {
        bytes[0] = 0xfe;
    }
    bytes
}
