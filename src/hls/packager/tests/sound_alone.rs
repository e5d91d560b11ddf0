//! Sound that goes on while pictures stay away.

use super::*;

impl Feed {
    /// Sound and no pictures.
    fn sound_for(&mut self, seconds: u64) {
        let until = self.time + seconds * 1_000_000;
        while self.time < until {
            self.time += 21_333;
            while self.audio_sent * 21_333 < self.time {
                self.sound();
            }
        }
    }
}

/// A stream of four seconds, its last group cut short, and sound alone for a minute.
fn without_pictures() -> Feed {
    let mut feed = Feed::new(|_| ());
    feed.pictures(90 + 15, 30);
    feed.sound_for(60);
    feed
}

#[test]
fn sound_without_pictures_makes_segments_and_parts() {
    let mut feed = without_pictures();
    let playlist = feed.early();
    let durations = extinf(&playlist);
    assert!(
        durations.iter().all(|seconds| (0.9..1.5).contains(seconds)),
        "{playlist}"
    );
    let session = feed.sessions().remove(0);
    let sequences: Vec<u64> = values(&playlist, "#EXT-X-MEDIA-SEQUENCE:")
        .iter()
        .map(|number| number.parse().unwrap())
        .collect();
    let first = first_sequence(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    assert!(
        (first + 40..first + 60).contains(&sequences[0]),
        "{playlist}"
    );
    assert!(session.bytes() < 64 << 20);
    let low_latency = feed.low_latency();
    let parts = values(&low_latency, "#EXT-X-PART:");
    assert!(parts.len() > 20, "{low_latency}");

    // The pictures come back, with a key frame.
    feed.pictures(90, 30);
    assert_eq!(feed.sessions().len(), 1);
    let playlist = feed.early();
    assert!(playlist.contains("#EXT-X-INDEPENDENT-SEGMENTS"));
    assert!(!playlist.contains("#EXT-X-DISCONTINUITY\n"));
    assert!(
        extinf(&playlist).iter().all(|&seconds| seconds < 1.5),
        "{playlist}"
    );
}

#[test]
fn pictures_that_come_back_inside_a_group_take_the_promise_back() {
    let mut feed = without_pictures();
    assert!(feed.early().contains("#EXT-X-INDEPENDENT-SEGMENTS"));
    feed.pictures_from(15, 60, 1000);
    assert!(!feed.early().contains("#EXT-X-INDEPENDENT-SEGMENTS"));
    assert_eq!(feed.sessions().len(), 1);
}

/// The next run began where the last one's pictures had ended, a minute in the past.
#[test]
fn a_run_after_sound_alone_starts_behind_the_sound() {
    let feed = without_pictures();
    let heard = feed.packager.last_audio.unwrap();
    let start = feed.packager.resume_at().unwrap();
    assert!(
        (start - heard).get().abs() < 90 * 200,
        "{start:?}, heard until {heard:?}"
    );
    // Usually it is right behind the last picture.
    let mut feed = Feed::new(|_| ());
    feed.pictures(105, 30);
    let last = feed.packager.pictures.last_dts.unwrap();
    let start = feed.packager.resume_at().unwrap();
    assert!(start - last < Ticks::from_millis(35), "{start:?}");
}

/// A stream that has not seen its second key frame, and so has no playlist yet.
#[test]
fn sound_alone_before_the_second_key_frame_opens_the_playlist_in_time() {
    let mut feed = Feed::new(|_| ());
    feed.pictures(15, 30);
    feed.sound_for(11);
    assert!(feed.sessions().is_empty());
    feed.sound_for(2);
    assert_eq!(values(&feed.early(), "#EXT-X-TARGETDURATION:"), ["12"]);
}

/// Another codec configuration behind it: what has been heard stays, and a new stretch begins.
#[test]
fn a_change_behind_sound_alone_cuts_behind_it() {
    let mut feed = without_pictures();
    let session = feed.sessions().remove(0);
    let growing = feed.packager.cutters[0].segment().sequence();
    let mono = aac::Config::parse(&[0x11, 0x88]).unwrap();
    feed.packager.configure_audio(AudioConfig::Aac(mono));
    feed.pictures(90, 30);
    let playlist = text(&session.low_latency(0, Listed::Complete).unwrap());
    assert!(playlist.contains("#EXT-X-DISCONTINUITY\n"), "{playlist}");
    let segment = session.segment(growing).expect("a segment");
    assert!(segment.size() > 10_000, "{} bytes", segment.size());
}

/// Found by fuzzing: a segment of sound alone was ended, and the sound that still waited made another one.
#[test]
fn all_sound_that_is_left_over_at_the_end_is_in_one_segment() {
    let mut feed = Feed::new(|_| ());
    for _ in 0..8 {
        feed.pictures(30, 30);
    }
    for _ in 0..7 {
        feed.sound();
    }
    let growing = feed.packager.cutters[0].segment().sequence();
    let session = feed.sessions().remove(0);
    assert!(!feed.packager.audio.is_empty());
    let now = feed.now();
    feed.packager.pause(now);
    feed.packager.end(now);
    assert!(session.segment(growing).is_some());
    assert!(session.segment(growing + 1).is_none());
}

/// Found by fuzzing: the sound between two pictures that are seconds apart is not alone, and ends no segment.
#[test]
fn sound_between_pictures_that_are_far_apart_ends_no_segment() {
    let mut feed = Feed::new(|_| ());
    for _ in 0..6 {
        feed.pictures(1, 1);
        feed.sound_for(4);
    }
    let playlist = feed.early();
    assert!(
        extinf(&playlist)
            .iter()
            .all(|seconds| (3.9..4.2).contains(seconds)),
        "{playlist}"
    );
}
