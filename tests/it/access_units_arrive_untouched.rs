//! What a publisher sends comes out of the segments byte for byte, complete, in order, with exact times, for every kind of stream.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::common::flv::{self, Tag};
use crate::common::media::{AAC, Clip};
use crate::common::publisher::Publisher;
use crate::common::recording::{self, Recording};
use crate::common::server::TestServer;
use crate::common::tools::Tool;
use crate::common::ts_check::Programme;
use crate::common::{compare, viewer};

#[tokio::test(flavor = "multi_thread")]
async fn picture_and_sound() {
    let (programme, recording) = through(&Clip::default(), "live/both").await;
    assert_eq!(programme.video.len(), 150);
    compare::assert_gapless(&programme.audio, 1024, 44_100);
    decodes_without_a_warning(&recording, "both").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn picture_only() {
    let clip = Clip {
        audio: None,
        seconds: 4,
        ..Clip::default()
    };
    let (programme, recording) = through(&clip, "live/picture").await;
    assert_eq!((programme.video.len(), programme.audio.len()), (120, 0));
    assert_eq!(
        programme.stream_types.len(),
        1,
        "only what exists is listed"
    );
    decodes_without_a_warning(&recording, "picture").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_only() {
    let clip = Clip {
        video: None,
        ..Clip::default()
    };
    let (programme, recording) = through(&clip, "live/sound").await;
    assert!(programme.video.is_empty());
    assert!(recording.segments.len() >= 4, "cut by time");
    compare::assert_gapless(&programme.audio, 1024, 44_100);
    decodes_without_a_warning(&recording, "sound").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_out_of_order() {
    let clip = Clip {
        video: Some(&["-bf 3 -b_strategy 0 -tune animation"]),
        seconds: 4,
        ..Clip::default()
    };
    let (programme, recording) = through(&clip, "live/b-frames").await;
    assert!(
        programme
            .video
            .windows(2)
            .any(|pair| pair[1].pts < pair[0].pts),
        "the clip was meant to have B-frames"
    );
    decodes_without_a_warning(&recording, "b-frames").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_pictures_a_second() {
    let clip = Clip {
        rate: "60",
        gop: 60,
        seconds: 4,
        ..Clip::default()
    };
    let (_, recording) = through(&clip, "live/sixty").await;
    decodes_without_a_warning(&recording, "sixty").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broadcast_rate() {
    let clip = Clip {
        rate: "30000/1001",
        ..Clip::default()
    };
    let (_, recording) = through(&clip, "live/29-97").await;
    decodes_without_a_warning(&recording, "29-97").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_playlist_is_true_to_the_stream() {
    let server = Arc::new(TestServer::start());
    let clip = Clip {
        rate: "30000/1001",
        ..Clip::default()
    };
    let mut publisher = Publisher::start(&server, "live/a", &clip).await;
    publisher.send_until(3500).await;
    server.wait_for_playlist("live/a").await;
    let text = viewer::get(server.http, "/live/a/playlist.m3u8")
        .await
        .text();
    let line = text
        .lines()
        .find(|line| line.starts_with("#EXT-X-STREAM-INF:"));
    let line = line.unwrap();
    for attribute in [
        "RESOLUTION=320x180",
        "FRAME-RATE=29.970",
        "CODECS=\"avc1.42c0",
        ",mp4a.40.2\"",
    ] {
        assert!(line.contains(attribute), "{attribute} is missing: {line}");
    }
    publisher.finish().await;
    let recording = Recording::follow(&server, "live/a").await;
    let bandwidth = line.split("BANDWIDTH=").nth(1).unwrap();
    let bandwidth: f64 = bandwidth.split(',').next().unwrap().parse().unwrap();
    let heaviest = recording.segments.iter().map(|segment| segment.bytes.len());
    let heaviest = heaviest.max().unwrap() as f64 * 8.0;
    assert!(
        (0.5..2.0).contains(&(bandwidth / heaviest)),
        "BANDWIDTH={bandwidth}, but segments weigh up to {heaviest} bits a second"
    );
    server.assert_no_panics();
}

#[tokio::test(flavor = "multi_thread")]
async fn mp3() {
    let clip = Clip {
        audio: Some(&["-c:a libmp3lame -b:a 96k"]),
        seconds: 4,
        ..Clip::default()
    };
    let (programme, recording) = through(&clip, "live/mp3").await;
    compare::assert_gapless(&programme.audio, 1152, 44_100);
    decodes_without_a_warning(&recording, "mp3").await;
}

/// No free encoder makes HE-AAC here, so an ordinary stream is declared to be the core of one, as its configuration would be.
#[tokio::test(flavor = "multi_thread")]
async fn he_aac() {
    let clip = Clip {
        audio: Some(&["-c:a aac -ar 24000 -b:a 48k"]),
        seconds: 4,
        ..Clip::default()
    };
    let mut tags = flv::read(&clip.file().await);
    let header = tags.iter_mut().find(|tag| tag.kind == 8 && tag.is_header());
    // SBR (5) over a core of 24 kHz (6), mono, to 48 kHz (3); the core is LC (2).
    header.unwrap().body = Bytes::from_static(&[0xaf, 0, 0x2b, 0x09, 0x88, 0x00]);
    let server = Arc::new(TestServer::start());
    let publisher = Publisher::of_tags(&server, "live/he", tags.clone()).await;
    let recording = recording::start(&server, "live/he");
    publisher.play(SPEED).await;
    let recording = recording.await.unwrap();
    let programme = recording.check();
    compare::assert_same(&tags, &programme);
    compare::assert_gapless(&programme.audio, 1024, 24_000);
    let master = viewer::get(server.http, "/live/he/playlist.m3u8").await;
    let master = master.text();
    assert!(master.contains("mp4a.40.5"), "{master}");
    server.assert_no_panics();
}

/// A publisher whose sound comes seconds after its picture: the stream does not wait for it, and carries it from the next key frame on.
#[tokio::test(flavor = "multi_thread")]
async fn late_sound_joins_at_a_key_frame() {
    let tags = flv::read(&Clip::default().file().await);
    let late: Vec<Tag> = tags
        .iter()
        .filter(|tag| tag.kind != 8 || tag.timestamp >= 2200)
        .cloned()
        .collect();
    let header = tags.iter().find(|tag| tag.kind == 8 && tag.is_header());
    let mut header = header.unwrap().clone();
    header.timestamp = 2200;
    let at = late.iter().position(|tag| tag.timestamp >= 2200).unwrap();
    let mut sent = late.clone();
    sent.insert(at, header);

    let server = Arc::new(TestServer::start());
    let publisher = Publisher::of_tags(&server, "live/late", sent).await;
    let recording = recording::start(&server, "live/late");
    publisher.play(1.0).await;
    let recording = recording.await.unwrap();
    let programme = recording.check();
    assert_eq!(programme.video.len(), 150, "no picture is lost");
    let joined = programme.audio.first().expect("the sound joins").segment;
    let first_sound = recording.segments[joined].sequence;
    let states = recording.history.iter();
    let entry = states
        .flat_map(|playlist| &playlist.entries)
        .rfind(|entry| entry.sequence == first_sound);
    assert!(
        entry.is_some_and(|entry| entry.discontinuity),
        "the change of tracks is announced"
    );
    assert!(programme.audio.len() > 60, "{}", programme.audio.len());
    server.assert_no_panics();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_streams_at_once_do_not_mix() {
    let server = Arc::new(TestServer::start());
    let clips = [
        Clip::default(),
        Clip {
            rate: "25",
            gop: 25,
            audio: Some(AAC),
            ..Clip::default()
        },
    ];
    let names = ["live/one", "other/app/two"];
    let mut runs = Vec::new();
    for (clip, name) in clips.iter().zip(names) {
        let publisher = Publisher::start(&server, name, clip).await;
        let recording = recording::start(&server, name);
        runs.push((clip, recording, tokio::spawn(publisher.play(SPEED))));
    }
    for (clip, recording, publisher) in runs {
        let programme = recording.await.unwrap().check();
        compare::assert_same(&flv::read(&clip.file().await), &programme);
        publisher.await.unwrap();
    }
    server.assert_no_panics();
}

/// Publishes a clip, takes it down, checks and compares.
async fn through(clip: &Clip, name: &str) -> (Programme, Recording) {
    let server = Arc::new(TestServer::start());
    let publisher = Publisher::start(&server, name, clip).await;
    let recording = recording::start(&server, name);
    publisher.play(SPEED).await;
    let recording = recording.await.unwrap();
    let programme = recording.check();
    compare::assert_same(&flv::read(&clip.file().await), &programme);
    server.assert_no_panics();
    (programme, recording)
}

async fn decodes_without_a_warning(recording: &Recording, name: &str) {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let file = file.join(format!("{name}-{}.ts", std::process::id()));
    std::fs::write(&file, recording.bytes()).unwrap();
    let path = file.display().to_string();
    Tool::ffmpeg(&["-i", &path, "-map", "0", "-f", "null", "-"])
        .succeed_silently()
        .await;
    std::fs::remove_file(&file).unwrap();
}

/// Faster than life, to save time; the times in the stream are what counts.
const SPEED: f64 = 2.0;
