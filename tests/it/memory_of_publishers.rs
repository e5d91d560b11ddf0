//! What a peer on the RTMP port can make the server hold, whatever it sends: the bounds stated in `lhls::rtmp::limits`, on the whole
//! process, at its highest.

use tokio::task::JoinSet;

use lhls::rtmp::amf;
use lhls::rtmp::chunk::kind;

use crate::common::peer::{self, Peer};
use crate::common::program::Program;

#[tokio::test(flavor = "multi_thread")]
async fn messages_begun_and_never_finished_before_publishing() {
    within_bound(NOT_PUBLISHING, MANY, async |mut peer: Peer, _| {
        peer.set_chunk_size(CHUNK).await.unwrap();
        let mut held = 0;
        for chunk_stream in 3..10 {
            // As long as is allowed, but for the end.
            held += peer
                .unfinished_message(chunk_stream, kind::VIDEO, 64 << 10)
                .await;
        }
        // And a chunk beside them that does not come whole.
        peer.set_chunk_size(i32::MAX as u32).await.unwrap();
        held += peer.unfinished_message(10, kind::VIDEO, 64 << 10).await;
        (peer, held)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_chunk_that_never_ends_before_publishing() {
    within_bound(NOT_PUBLISHING, MANY, async |mut peer: Peer, _| {
        peer.set_chunk_size(i32::MAX as u32).await.unwrap();
        let held = peer.unfinished_message(3, kind::DATA_AMF0, 64 << 10).await;
        (peer, held)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn media_before_publishing_is_refused_at_its_header() {
    within_bound(NOT_PUBLISHING, MANY, async |mut peer: Peer, _| {
        peer.set_chunk_size(i32::MAX as u32).await.unwrap();
        let header = peer::header(6, kind::VIDEO, 1, 0, 4 << 20);
        peer.send(&header).await.unwrap();
        peer.expect_close().await;
        (peer, 0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_and_commands_before_publishing() {
    within_bound(NOT_PUBLISHING, MANY, async |mut peer: Peer, _| {
        metadata_and_commands(&mut peer).await;
        (peer, 0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_and_commands_while_publishing() {
    within_bound(PUBLISHING, FEW, async |mut peer: Peer, number| {
        publish(&mut peer, number).await;
        metadata_and_commands(&mut peer).await;
        (peer, 0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_that_are_never_read() {
    within_bound(NOT_PUBLISHING, MANY, async |mut peer: Peer, _| {
        let call = peer::command("createStream", 2.0);
        let mut message = peer::header(3, kind::COMMAND_AMF0, 0, 0, call.len());
        message.extend_from_slice(&call);
        let many = message.repeat(200);
        while peer.send(&many).await.is_ok() {}
        (peer, 0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_begun_and_never_finished_while_publishing() {
    within_bound(PUBLISHING, FEW, async |mut peer: Peer, number| {
        publish(&mut peer, number).await;
        peer.set_chunk_size(CHUNK).await.unwrap();
        let mut held = 0;
        for chunk_stream in 10..17 {
            // Just below the limit of all together.
            held += peer
                .unfinished_message(chunk_stream, kind::VIDEO, (16 << 20) / 7 - 200)
                .await;
        }
        peer.set_chunk_size(i32::MAX as u32).await.unwrap();
        // And a chunk beside them that does not come whole either.
        held += peer.unfinished_message(17, kind::VIDEO, 4 << 20).await;
        (peer, held)
    })
    .await;
}

/// As many messages as a few bytes can be: aggregates of empty tags, and tags of the shortest frames.
#[tokio::test(flavor = "multi_thread")]
async fn many_small_things_in_one_message() {
    within_bound(PUBLISHING, FEW, async |mut peer: Peer, number| {
        publish(&mut peer, number).await;
        peer.set_chunk_size(i32::MAX as u32).await.unwrap();
        peer.message(4, kind::AUDIO, 1, 0, &[0xaf, 0, 0x12, 0x10])
            .await
            .unwrap();
        let tag = b"\x08\0\0\x03\0\0\0\0\0\0\0\xaf\x01\x21\0\0\0\x0e";
        let aggregate = tag.repeat((4 << 20) / tag.len());
        // An ADTS frame of one byte.
        let frame = b"\xff\xf1\x50\x80\x01\x1f\xfc\x21";
        let frames = [&[0xaf, 1], &frame.repeat((4 << 20) / frame.len() - 1)[..]].concat();
        for time in 0..2 {
            peer.message(4, kind::AGGREGATE, 1, time * 1000, &aggregate)
                .await
                .unwrap();
            peer.message(4, kind::AUDIO, 1, time * 1000, &frames)
                .await
                .unwrap();
        }
        peer.settle().await;
        (peer, 0)
    })
    .await;
}

/// Has `count` peers do the same to a server of its own, all at once and all held open, and looks how much more it ever held for them.
/// A few others have done it before, and are held too, so that what the process takes once for itself (pools of its threads, reading the
/// AMF0 of one message on each of them) is no part of that. `attack` returns bytes that the server cannot help holding for the peer:
/// that they show says that the measurement is one.
async fn within_bound<F>(bound: usize, count: usize, attack: impl Fn(Peer, usize) -> F)
where
    F: Future<Output = (Peer, usize)> + Send + 'static,
{
    let mut program = Program::start(&["--retain-bytes", "4MiB", "--max-publishers", "500"]).await;
    let mut peers = Vec::new();
    let mut held = 0;
    let mut highest = Vec::new();
    for numbers in [0..count.div_ceil(4), count..2 * count] {
        let mut attacks = JoinSet::new();
        for number in numbers {
            let peer = Peer::new(program.rtmp).await;
            attacks.spawn(attack(peer, number));
        }
        let before = held;
        for (peer, bytes) in attacks.join_all().await {
            // Held open until all is measured.
            peers.push(peer);
            held += bytes;
        }
        program.wait_for_rtmp_bytes(held).await;
        highest.push((program.memory("VmHWM"), held - before));
    }
    let [(before, _), (after, held)] = highest[..] else {
        unreachable!("two rounds");
    };
    let grown = after - before;
    assert!(
        grown <= bound * count + SLACK,
        "{count} connections took {} KiB each",
        grown / count / 1024
    );
    assert!(
        grown + SLACK >= held,
        "{count} connections seem to take {} KiB each, and have sent {}",
        grown / count / 1024,
        held / count / 1024
    );
    assert!(program.child.try_wait().unwrap().is_none(), "it has ended");
}

/// Many small values: what is read of them takes the most memory for its length.
async fn metadata_and_commands(peer: &mut Peer) {
    peer.set_chunk_size(CHUNK).await.unwrap();
    let mut metadata = amf::encode(&[amf::string("onMetaData")]).unwrap().to_vec();
    metadata.extend(b"\x03\0\x01a\x05\0\0\x09".repeat(8000));
    let mut command = peer::command("x", 1.0).to_vec();
    command.extend(b"\x0a\0\0\0\x01\x03\0\0\x09".repeat(7000));
    for _ in 0..2 {
        peer.message(4, kind::DATA_AMF0, 1, 0, &metadata)
            .await
            .unwrap();
        peer.message(3, kind::COMMAND_AMF0, 0, 0, &command)
            .await
            .unwrap();
    }
    peer.settle().await;
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
/// Connections that are measured at once, so many that the slack is little for each.
const MANY: usize = 80;
const FEW: usize = 4;
/// What the process may take beside: pages that its allocator has not given back. A twentieth of a mebibyte for each of many.
const SLACK: usize = 4 << 20;
/// A chunk size with which a debug build gets through in seconds. What is held does not depend on it.
const CHUNK: u32 = 4096;
