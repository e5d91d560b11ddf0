//! What a peer on the RTMP port can make the server hold, whatever it sends: the bounds stated in `lhls::rtmp::limits`, on the whole
//! process, at its highest.

use lhls::rtmp::amf;
use lhls::rtmp::chunk::kind;

use crate::common::peer::{self, Peer};
use crate::common::program::Program;

#[tokio::test(flavor = "multi_thread")]
async fn messages_begun_and_never_finished_before_publishing() {
    within_bound(NOT_PUBLISHING, 40, async |peer, _| {
        let mut sent = 0;
        for chunk_stream in 3..10 {
            // As long as is allowed, but for the end.
            sent += peer
                .unfinished_message(chunk_stream, kind::VIDEO, 64 << 10)
                .await;
        }
        sent
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_chunk_that_never_ends_before_publishing() {
    within_bound(NOT_PUBLISHING, 40, async |peer, _| {
        peer.set_chunk_size(i32::MAX as u32).await.unwrap();
        16 + peer.unfinished_message(3, kind::DATA_AMF0, 64 << 10).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn media_before_publishing_is_refused_at_its_header() {
    within_bound(NOT_PUBLISHING, 40, async |peer, _| {
        peer.set_chunk_size(i32::MAX as u32).await.unwrap();
        let header = peer::header(6, kind::VIDEO, 1, 0, 4 << 20);
        peer.send(&header).await.unwrap();
        peer.expect_close().await;
        0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_and_commands_without_end() {
    within_bound(NOT_PUBLISHING, 20, async |peer, _| {
        // Many small values: what is read of them takes the most memory for its length.
        let mut metadata = amf::encode(&[amf::string("onMetaData")]).unwrap().to_vec();
        metadata.extend(b"\x03\0\x01a\x05\0\0\x09".repeat(8000));
        let mut command = peer::command("x", 1.0).to_vec();
        command.extend(b"\x0a\0\0\0\x01\x03\0\0\x09".repeat(7000));
        for _ in 0..2000 {
            let first = peer.message(4, kind::DATA_AMF0, 1, 0, &metadata).await;
            let second = peer.message(3, kind::COMMAND_AMF0, 0, 0, &command).await;
            if first.is_err() || second.is_err() {
                break;
            }
        }
        peer.expect_close().await;
        0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_that_are_never_read() {
    within_bound(NOT_PUBLISHING, 20, async |peer, _| {
        let call = peer::command("createStream", 2.0);
        let mut message = peer::header(3, kind::COMMAND_AMF0, 0, 0, call.len());
        message.extend_from_slice(&call);
        let many = message.repeat(200);
        while peer.send(&many).await.is_ok() {}
        0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_begun_and_never_finished_while_publishing() {
    within_bound(PUBLISHING, 4, async |peer, number| {
        publish(peer, number).await;
        let mut sent = 0;
        for chunk_stream in 10..17 {
            // Just below the limit of all together.
            sent += peer
                .unfinished_message(chunk_stream, kind::VIDEO, (16 << 20) / 7 - 200)
                .await;
        }
        peer.set_chunk_size(i32::MAX as u32).await.unwrap();
        // And a chunk beside them that does not come whole either.
        sent + 16 + peer.unfinished_message(17, kind::VIDEO, 4 << 20).await
    })
    .await;
}

/// As many messages as a few bytes can be: aggregates of empty tags, and tags of the shortest frames.
#[tokio::test(flavor = "multi_thread")]
async fn many_small_things_in_one_message() {
    within_bound(PUBLISHING, 2, async |peer, number| {
        publish(peer, number).await;
        peer.set_chunk_size(i32::MAX as u32).await.unwrap();
        peer.message(4, kind::AUDIO, 1, 0, &[0xaf, 0, 0x12, 0x10])
            .await
            .unwrap();
        let tag = b"\x08\0\0\x03\0\0\0\0\0\0\0\xaf\x01\x21\0\0\0\x0e";
        let aggregate = tag.repeat((4 << 20) / tag.len());
        // An ADTS frame of one byte.
        let frame = b"\xff\xf1\x50\x80\x01\x1f\xfc\x21";
        let frames = [&[0xaf, 1], &frame.repeat((4 << 20) / frame.len() - 1)[..]].concat();
        let mut sent = 0;
        for time in 0..2 {
            peer.message(4, kind::AGGREGATE, 1, time * 1000, &aggregate)
                .await
                .unwrap();
            peer.message(4, kind::AUDIO, 1, time * 1000, &frames)
                .await
                .unwrap();
            sent += aggregate.len() + frames.len();
        }
        sent
    })
    .await;
}

/// Has `count` peers do the same to a server of its own, all at once, and looks how much it ever held. What `attack` returns are bytes that
/// must have been read before that counts.
async fn within_bound(bound: usize, count: usize, attack: impl AsyncFn(&mut Peer, usize) -> usize) {
    let mut program = Program::start(&["--retain-bytes", "4MiB"]).await;
    let before = program.memory("VmRSS");
    let mut peers = Vec::new();
    let mut sent = 0;
    for number in 0..count {
        let mut peer = Peer::new(program.rtmp).await;
        sent += attack(&mut peer, number).await;
        // Held open until all is measured.
        peers.push(peer);
    }
    program.wait_for_rtmp_bytes(sent).await;
    let grown = program.memory("VmHWM") - before;
    assert!(
        grown <= bound * count + SLACK,
        "{count} connections took {} KiB each",
        grown / count / 1024
    );
    assert!(program.child.try_wait().unwrap().is_none(), "it has ended");
}

async fn publish(peer: &mut Peer, number: usize) {
    let object = amf::object([("app", amf::string("live"))]);
    peer.command(0, "connect", object, &[]).await.unwrap();
    peer.expect_command().await;
    let (code, text) = peer.publish(&format!("memory-{number}")).await;
    assert_eq!(code, "NetStream.Publish.Start", "{text}");
}

/// The bounds of `lhls::rtmp::limits`.
const NOT_PUBLISHING: usize = 3 << 19;
const PUBLISHING: usize = 48 << 20;
/// What the process takes for itself, reading the AMF0 of one message on each of its threads included.
const SLACK: usize = 40 << 20;
