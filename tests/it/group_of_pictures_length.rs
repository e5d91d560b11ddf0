//! Key frames decide about segments: rare ones make everything later and are warned of once; ones that become rarer may not break
//! the promise that a playlist has made.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::common::flv;
use crate::common::logs;
use crate::common::media::Clip;
use crate::common::playlist::{self, Playlist};
use crate::common::publisher::Publisher;
use crate::common::recording::Recording;
use crate::common::server::TestServer;
use crate::common::{compare, ts_check};

/// What OBS sends when it is left on its automatic key frame interval.
#[tokio::test(flavor = "multi_thread")]
async fn eight_seconds_play_later_with_one_warning() {
    let clip = Clip {
        seconds: 26,
        rate: "10",
        gop: 80,
        ..Clip::default()
    };
    let server = Arc::new(TestServer::start());
    let mut publisher = Publisher::start(&server, "live/rare", &clip).await;
    publisher.send_until(7900).await;
    let stream = server.registry.find("live/rare").unwrap();
    assert!(
        stream.output().multivariant().is_none(),
        "it is not known yet"
    );
    publisher.send_until(8500).await;
    let path = playlist::media_path(&server, "live/rare").await;
    let mut history = vec![playlist::fetch(&server, &path).await];
    for millis in [17_000, 25_000, u32::MAX] {
        publisher.send_until(millis).await;
        history.push(playlist::fetch(&server, &path).await);
    }
    publisher.finish().await;
    playlist::check_history(&history);
    assert_eq!(history[0].target_duration, 8);
    let recording = Recording::follow(&server, "live/rare").await;
    let programme = recording.check();
    compare::assert_same(&flv::read(&clip.file().await), &programme);
    assert_eq!(recording.segments.len(), 4);
    let warnings = logs::lines(&["stream=live/rare", "WARN"]);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("key frame interval"), "{warnings:?}");
    server.assert_no_panics();
}

/// An encoder that goes from a key frame a second to one every four.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_grows_gets_a_new_playlist() {
    let clip = Clip {
        seconds: 20,
        rate: "15",
        gop: 1000,
        video: Some(&[
            "-tune zerolatency -force_key_frames expr:if(lt(t,4),gte(t,n_forced),gte(t,4+4*(n_forced-4)))",
        ]),
        ..Clip::default()
    };
    let server = Arc::new(TestServer::start());
    let mut publisher = Publisher::start(&server, "live/grows", &clip).await;
    let mut old: Vec<Playlist> = Vec::new();
    publisher.send_until(2500).await;
    let old_path = playlist::media_path(&server, "live/grows").await;
    for millis in (3000..20_000).step_by(500) {
        old.push(playlist::fetch(&server, &old_path).await);
        publisher.send_until(millis).await;
    }
    let new_path = playlist::media_path(&server, "live/grows").await;
    assert_ne!(new_path, old_path, "new viewers are led elsewhere");
    let new = playlist::fetch(&server, &new_path).await;
    assert_eq!(new.target_duration, 4);
    assert!(new.independent);
    publisher.send_until(u32::MAX).await;
    publisher.finish().await;
    old.push(playlist::fetch(&server, &old_path).await);

    playlist::check_history(&old);
    assert_eq!(old[0].target_duration, 1);
    let last = old.last().unwrap();
    assert!(last.ended, "{}", last.text);
    assert!(!last.independent, "no longer true, so no longer said");

    // Both hold the same pictures, cut differently.
    let name = "live/grows";
    let tags = flv::read(&clip.file().await);
    let old = Recording::follow_playlist(&server, old_path).await;
    let programme = ts_check::check(&old.bodies(), false);
    compare::assert_same(&tags, &programme);
    let new = Recording::follow(&server, name).await;
    assert_eq!(new.path, new_path);
    let programme = new.check();
    assert!(
        programme.video.len() >= 15 * 12,
        "{}",
        programme.video.len()
    );
    let warnings = logs::lines(&["stream=live/grows", "WARN"]);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    server.assert_no_panics();
}

/// Shorter groups than a segment are gathered into whole segments.
#[tokio::test(flavor = "multi_thread")]
async fn short_ones_share_a_segment() {
    let clip = Clip {
        gop: 10,
        ..Clip::default()
    };
    let server = Arc::new(TestServer::start());
    let mut publisher = Publisher::start(&server, "live/short", &clip).await;
    publisher.send_until(u32::MAX).await;
    publisher.finish().await;
    let recording = Recording::follow(&server, "live/short").await;
    let programme = recording.check();
    compare::assert_same(&flv::read(&clip.file().await), &programme);
    let with_pictures: BTreeSet<_> = programme.video.iter().map(|unit| unit.segment).collect();
    assert_eq!(with_pictures.len(), 5);
    assert!(
        recording.segments.len() <= 6,
        "one more, of the sound behind the last picture"
    );
    server.assert_no_panics();
}

/// No second key frame ever: segments are cut all the same, so memory and waiting stay bounded.
#[tokio::test(flavor = "multi_thread")]
async fn one_without_end_is_cut_all_the_same() {
    let clip = Clip {
        seconds: 30,
        rate: "10",
        gop: 1000,
        ..Clip::default()
    };
    let server = Arc::new(TestServer::start());
    let mut publisher = Publisher::start(&server, "live/endless", &clip).await;
    publisher.send_until(13_000).await;
    let path = playlist::media_path(&server, "live/endless").await;
    assert_eq!(playlist::fetch(&server, &path).await.target_duration, 12);
    publisher.send_until(u32::MAX).await;
    publisher.finish().await;
    let recording = Recording::follow_playlist(&server, path).await;
    let programme = recording.check();
    compare::assert_same(&flv::read(&clip.file().await), &programme);
    assert!(recording.segments.len() >= 3);
    server.assert_no_panics();
}
