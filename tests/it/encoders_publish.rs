//! The encoders there are: each publishes for some seconds with its own words, and what comes out is whole.

use std::sync::Arc;

use crate::common::eventually;
use crate::common::media::Clip;
use crate::common::peer::Peer;
use crate::common::recording;
use crate::common::server::TestServer;
use crate::common::tools::Tool;

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg() {
    let clip = Clip {
        seconds: 4,
        ..Clip::default()
    };
    publishes("live/ffmpeg", 110, |url| {
        let mut arguments = clip.encoder_arguments(true);
        arguments.push(url.to_owned());
        Tool::ffmpeg(&arguments)
    })
    .await;
}

/// Its application and name split elsewhere, as its options allow.
#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_with_an_application_of_two_parts() {
    let clip = Clip {
        seconds: 3,
        audio: None,
        ..Clip::default()
    };
    publishes("live/studio/one", 80, |url| {
        let mut arguments = clip.encoder_arguments(true);
        arguments.extend(["-rtmp_app", "live/studio", "-rtmp_playpath", "one"].map(str::to_owned));
        arguments.push(url.to_owned());
        Tool::ffmpeg(&arguments)
    })
    .await;
}

/// GStreamer's older element, which is librtmp.
#[tokio::test(flavor = "multi_thread")]
async fn gstreamer_rtmpsink_and_so_librtmp() {
    publishes("live/rtmpsink", 80, |url| {
        gstreamer(&format!("rtmpsink location={url}"))
    })
    .await;
}

/// GStreamer's newer element, with an RTMP of its own.
#[tokio::test(flavor = "multi_thread")]
async fn gstreamer_rtmp2sink() {
    publishes("live/rtmp2sink", 80, |url| {
        gstreamer(&format!("rtmp2sink location={url}"))
    })
    .await;
}

/// OBS 29.0.2, as it was captured (`scripts/obs --capture`): from its handshake to its goodbye, however the bytes are cut up on the way.
#[tokio::test(flavor = "multi_thread")]
async fn obs_from_a_capture() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/obs_29_session.bin");
    let bytes = std::fs::read(file).unwrap();
    let goodbye = bytes
        .windows(11)
        .rposition(|bytes| bytes == b"FCUnpublish")
        .unwrap();
    for step in [bytes.len(), 1460, 7] {
        let server = Arc::new(TestServer::start());
        let mut peer = Peer::tcp(server.rtmp).await;
        // The chunk of the goodbye begins some bytes before its name.
        for part in bytes[..goodbye - 100].chunks(step) {
            peer.send(part).await.unwrap();
        }
        server.wait_for_playlist("live/obs").await;
        let recording = recording::start(&server, "live/obs");
        let tracks = server.registry.find("live/obs").unwrap().tracks();
        assert_eq!(tracks.video.unwrap().resolution(), (640, 360));
        assert!(tracks.audio.is_some());
        peer.send(&bytes[goodbye - 100..]).await.unwrap();
        eventually("the goodbye", || {
            (server.metrics.publishers.get() == 0).then_some(())
        })
        .await;
        peer.hang_up().await;
        peer.expect_close().await;
        let programme = recording.await.unwrap().check();
        assert!(programme.video.len() > 30, "{}", programme.video.len());
        assert!(programme.audio.len() > 45, "{}", programme.audio.len());
        assert_eq!(server.metrics.tags_dropped.get(), 0);
        server.assert_no_panics();
    }
}

/// librtmp as a player is told that there is nothing to play here.
#[tokio::test(flavor = "multi_thread")]
async fn rtmpdump_is_refused_in_words() {
    let server = TestServer::start();
    let url = server.rtmp_url("live/stream");
    let finished = Tool::start("rtmpdump", &["-r", &url, "-o", "/dev/null"])
        .finish()
        .await;
    assert_ne!(finished.code, Some(0));
    assert!(
        finished.stderr.contains("NetStream.Play.Failed"),
        "{}",
        finished.stderr
    );
    server.stop().await;
}

/// The test signal of our own, over a real port.
#[cfg(feature = "demo")]
#[tokio::test(flavor = "multi_thread")]
async fn lhls_itself() {
    publishes("live/lhls", 80, |url| {
        Tool::start(
            env!("CARGO_BIN_EXE_lhls"),
            &["publish-test", url, "--duration", "4s", "--size", "320x180"],
        )
    })
    .await;
}

/// Runs an encoder and checks what comes out: at least so many pictures, and sound if there is any.
async fn publishes(name: &str, pictures: usize, encoder: impl FnOnce(&str) -> Tool) {
    let server = Arc::new(TestServer::start());
    let encoder = encoder(&server.rtmp_url(name));
    let recording = recording::start(&server, name);
    let finished = encoder.finish().await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let programme = recording.await.unwrap().check();
    assert!(
        programme.video.len() >= pictures,
        "{} pictures",
        programme.video.len()
    );
    if programme.stream_types.len() > 1 {
        assert!(
            programme.audio.len() > pictures,
            "{}",
            programme.audio.len()
        );
    }
    assert_eq!(server.metrics.tags_dropped.get(), 0);
    server.assert_no_panics();
}

/// A pipeline that ends in this sink: three seconds of picture and sound.
fn gstreamer(sink: &str) -> Tool {
    let pipeline = format!(
        "-q flvmux name=mux streamable=true ! {sink} \
         videotestsrc is-live=true num-buffers=90 ! video/x-raw,width=320,height=180,framerate=30/1 \
         ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 ! h264parse ! queue ! mux. \
         audiotestsrc is-live=true num-buffers=131 samplesperbuffer=1024 ! audio/x-raw,rate=44100 \
         ! voaacenc ! aacparse ! queue ! mux."
    );
    let arguments: Vec<&str> = pipeline.split_whitespace().collect();
    Tool::start("gst-launch-1.0", &arguments)
}
