//! Encoders as they really are: the very bytes that some have sent, and scripted ones that do what others were met doing. The table of
//! all cases is in `docs/encoders.md`.

use std::path::Path;

use bytes::Bytes;
use lhls::rtmp::amf::{self, Amf0Value};
use lhls::rtmp::chunk::kind;

use crate::common::compare;
use crate::common::flv::{self, Tag};
use crate::common::media::Clip;
use crate::common::peer::Peer;
use crate::common::publisher::Publisher;
use crate::common::recording::Recording;
use crate::common::server::TestServer;
use crate::common::ts_check::Programme;

#[tokio::test(flavor = "multi_thread")]
async fn captured_bytes_of_ffmpeg() {
    captured("ffmpeg", 8, 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn captured_bytes_of_ffmpeg_with_b_frames() {
    captured("ffmpeg-b-frames", 8, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn captured_bytes_of_ffmpeg_with_mp3() {
    captured("ffmpeg-mp3", 5, 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn captured_bytes_of_ffmpeg_with_sound_only() {
    captured("ffmpeg-audio", 0, 60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn captured_bytes_of_gstreamer_rtmpsink() {
    captured("rtmpsink", 4, 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn captured_bytes_of_gstreamer_rtmp2sink() {
    captured("rtmp2sink", 4, 8).await;
}

/// Metadata that is absent, empty, of no known form, or plainly wrong: sound that never comes (Streamlabs on iOS), codecs by their names
/// (XSplit), no codec at all (Dahua), another codec than is sent, no tracks (DJI FlightHub).
#[tokio::test(flavor = "multi_thread")]
async fn metadata_is_never_believed() {
    let number = Amf0Value::Number;
    let lies = [
        None,
        Some(Amf0Value::Null),
        Some(amf::object([])),
        Some(amf::string("width=640")),
        Some(amf::object([
            ("audiocodecid", number(10.0)),
            ("videocodecid", number(7.0)),
        ])),
        Some(amf::object([
            ("videocodecid", amf::string("avc1")),
            ("audiocodecid", amf::string("mp4a")),
        ])),
        Some(amf::object([
            ("width", number(1.0)),
            ("height", number(f64::NAN)),
            ("videocodecid", number(12.0)),
        ])),
        Some(amf::object([
            ("framerate", number(-1.0)),
            ("duration", number(f64::INFINITY)),
        ])),
    ];
    let server = TestServer::start();
    let clip = Clip {
        audio: None,
        ..Clip::default()
    };
    let tags = flv::read(&clip.file().await);
    for (index, lie) in lies.into_iter().enumerate() {
        let name = format!("live/metadata-{index}");
        let mut peer = Peer::publishing(server.rtmp, &name).await;
        if let Some(lie) = lie {
            let values = [amf::string("@setDataFrame"), amf::string("onMetaData"), lie];
            let payload = amf::encode(&values).unwrap();
            peer.message(4, kind::DATA_AMF0, 1, 0, &payload)
                .await
                .unwrap();
        }
        for tag in &tags {
            peer.message(4, tag.kind, 1, tag.timestamp, &tag.body)
                .await
                .unwrap();
        }
        peer.settle().await;
        peer.hang_up().await;
        let programme = Recording::follow(&server, &name).await.check();
        assert_eq!(programme.video.len(), 150, "metadata {index}");
        assert_eq!(programme.stream_types.len(), 1, "only what comes is listed");
    }
    server.stop().await;
}

/// Sound starts a second before the camera (xiu's issue 142).
#[tokio::test(flavor = "multi_thread")]
async fn sound_first() {
    let (tags, programme) = changed("live/sound-first", |tags| {
        tags.retain(|tag| tag.kind != 9 || tag.is_header() || tag.timestamp >= 1000);
    })
    .await;
    let pictures = tags
        .iter()
        .filter(|tag| tag.kind == 9 && !tag.is_header())
        .count();
    assert!(pictures > 100);
    assert_eq!(programme.video.len(), pictures);
}

/// The configuration comes again with every key frame (Osmo Action 4), and changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn configuration_repeated_with_every_key_frame() {
    let mut original = Vec::new();
    let (_, programme) = changed("live/repeats", |tags| {
        original = tags.clone();
        let headers: Vec<Tag> = tags
            .iter()
            .filter(|tag| tag.kind != 18 && tag.is_header())
            .cloned()
            .collect();
        *tags = tags
            .iter()
            .flat_map(|tag| {
                let key = tag.kind == 9 && tag.body[0] >> 4 == 1 && !tag.is_header();
                let again = headers
                    .iter()
                    .filter(move |_| key)
                    .cloned()
                    .map(|header| Tag {
                        timestamp: tag.timestamp,
                        ..header
                    });
                again.chain([tag.clone()]).collect::<Vec<_>>()
            })
            .collect();
    })
    .await;
    compare::assert_same(&original, &programme);
}

/// An empty configuration of the sound before the real one (MediaMTX's issue 3414), and an empty one after it.
#[tokio::test(flavor = "multi_thread")]
async fn empty_configuration_of_the_sound() {
    let mut original = Vec::new();
    let (_, programme) = changed("live/empty-config", |tags| {
        original = tags.clone();
        let empty = Tag {
            kind: 8,
            timestamp: 0,
            body: Bytes::from_static(&[0xaf, 0]),
        };
        tags.insert(0, empty.clone());
        tags.insert(tags.len() / 2, empty);
    })
    .await;
    compare::assert_same(&original, &programme);
}

/// All that cameras and phones send besides media: cue points, text, FFmpeg's time code, empty messages, acknowledgements.
#[tokio::test(flavor = "multi_thread")]
async fn noise_between_the_media() {
    let server = TestServer::start();
    let tags = flv::read(&Clip::default().file().await);
    let mut peer = Peer::publishing(server.rtmp, "live/noise").await;
    let data = |name| amf::encode(&[amf::string(name), Amf0Value::Null]).unwrap();
    let noise = [
        (kind::DATA_AMF0, data("onTextData")),
        (kind::DATA_AMF0, data("onCuePoint")),
        (kind::DATA_AMF0, data("onFI")),
        (kind::DATA_AMF0, Bytes::from_static(&[1, 2, 3, 4])),
        (kind::DATA_AMF3, Bytes::from_static(&[0x11])),
        (kind::USER_CONTROL, Bytes::from_static(&[0, 31, 0, 0, 0, 1])),
        (
            kind::USER_CONTROL,
            Bytes::from_static(&[0, 3, 0, 0, 0, 1, 0, 0, 3, 232]),
        ),
        (kind::ACKNOWLEDGEMENT, Bytes::from_static(&[0, 1, 2, 3])),
        (kind::WINDOW_ACK_SIZE, Bytes::from_static(&[0, 1, 2, 3])),
        (kind::VIDEO, Bytes::new()),
        (kind::AUDIO, Bytes::new()),
        (0x77, Bytes::from_static(b"of no known type")),
        (kind::VIDEO, Bytes::from_static(&[0x57, 0])),
    ];
    for (index, tag) in tags.iter().enumerate() {
        let (kind, payload) = &noise[index % noise.len()];
        peer.message(7, *kind, 1, tag.timestamp, payload)
            .await
            .unwrap();
        peer.message(4, tag.kind, 1, tag.timestamp, &tag.body)
            .await
            .unwrap();
    }
    peer.settle().await;
    peer.hang_up().await;
    let programme = Recording::follow(&server, "live/noise").await.check();
    compare::assert_same(&tags, &programme);
    server.stop().await;
}

/// One picture in four seconds, and nothing between them (a slow camera), is no reason to hang up, nor to stop the clock.
#[tokio::test(flavor = "multi_thread")]
async fn one_picture_in_four_seconds() {
    let (tags, programme) = changed("live/slow", |tags| {
        tags.retain(|tag| tag.kind == 9);
        tags.retain(|tag| tag.is_header() || tag.body[0] >> 4 == 1);
        let pictures = tags.iter_mut().filter(|tag| !tag.is_header());
        for (number, tag) in (0..).zip(pictures) {
            tag.timestamp = 4000 * number;
        }
    })
    .await;
    let pictures = tags.iter().filter(|tag| !tag.is_header()).count();
    assert_eq!(programme.video.len(), pictures);
}

/// A clip with a fault worked into it, through the server and the checkers. The faulty tags, and what came out.
async fn changed(name: &str, fault: impl FnOnce(&mut Vec<Tag>)) -> (Vec<Tag>, Programme) {
    let server = TestServer::start();
    let mut tags = flv::read(&Clip::default().file().await);
    fault(&mut tags);
    let mut publisher = Publisher::of_tags(&server, name, tags.clone()).await;
    publisher.send_until(u32::MAX).await;
    publisher.finish().await;
    let programme = Recording::follow(&server, name).await.check();
    server.stop().await;
    (tags, programme)
}

/// Sends what an encoder once sent, from `connect` on. So many pictures and audio frames at least must come out.
async fn captured(encoder: &str, pictures: usize, frames: usize) {
    let server = TestServer::start();
    let mut peer = Peer::new(server.rtmp).await;
    peer.send(&capture(encoder)).await.unwrap();
    // The capture ends in the middle of something.
    peer.hang_up().await;
    peer.expect_close().await;
    let programme = Recording::follow(&server, "live/stream").await.check();
    let (video, audio) = (programme.video.len(), programme.audio.len());
    assert!(
        video >= pictures && audio >= frames,
        "{video} pictures, {audio} frames"
    );
    assert_eq!(
        programme.stream_types.len(),
        usize::from(pictures > 0) + usize::from(frames > 0)
    );
    assert_eq!(server.metrics.tags_dropped.get(), 0);
    server.stop().await;
}

/// An input of the fuzz target `ingest`: a byte for the target, then what came behind the handshake.
fn capture(encoder: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/seeds/ingest")
        .join(encoder);
    std::fs::read(path).unwrap().split_off(1)
}
