//! Segments that end with their last picture, and encoders that do not do what was foretold.

use super::*;

/// A stream of `groups` groups of 30 pictures and the first `more` pictures of the next.
fn after(groups: u32, more: u32) -> Feed {
    let mut feed = Feed::new(|_| ());
    for _ in 0..groups {
        feed.pictures(30, 30);
    }
    feed.pictures(more, 30);
    feed
}

/// The growing segment's number and how many pieces it has.
fn growing(feed: &Feed) -> (u64, usize) {
    let cutter = &feed.packager.cutters[0];
    (cutter.segment().sequence(), cutter.segment().piece_count())
}

fn is_finished(feed: &Feed, sequence: u64) -> bool {
    let session = feed.sessions().remove(0);
    let segment = session.segment(sequence).expect("a segment");
    segment.state() == State::Finished
}

#[test]
fn a_segment_ends_with_its_last_picture_once_groups_are_alike() {
    let feed = after(4, 30);
    let (sequence, pieces) = growing(&feed);
    assert_eq!(pieces, 30, "not yet: three groups were like the one before");
    assert!(!is_finished(&feed, sequence));

    let feed = after(5, 29);
    let (sequence, pieces) = growing(&feed);
    assert_eq!(pieces, 29);
    let feed = after(5, 30);
    assert_eq!(growing(&feed), (sequence + 1, 0));
    assert!(is_finished(&feed, sequence));
}

#[test]
fn playlists_are_as_they_would_have_been() {
    let feed = after(12, 10);
    let durations = extinf(&feed.early());
    assert!(
        durations
            .iter()
            .all(|seconds| (seconds - 1.0).abs() < 0.002),
        "{durations:?}"
    );
    let parts = values(&feed.low_latency(), "#EXT-X-PART:");
    let independent = parts.iter().filter(|part| part.contains("INDEPENDENT=YES"));
    assert!(independent.count() >= 3, "{parts:?}");
    assert!(feed.early().contains("#EXT-X-INDEPENDENT-SEGMENTS"));
    assert!(!feed.early().contains("#EXT-X-DISCONTINUITY\n"));
}

#[test]
fn an_encoder_that_goes_on_starts_a_segment_without_a_key_frame() {
    let mut feed = after(8, 30);
    let (sequence, _) = growing(&feed);
    // The group that was to end goes on for ten pictures.
    feed.pictures_from(30, 10, 1000);
    assert_eq!(growing(&feed), (sequence, 10), "nobody has to wait for it");
    assert!(!feed.early().contains("#EXT-X-INDEPENDENT-SEGMENTS"));
    feed.pictures(60, 30);
    let durations = extinf(&feed.early());
    assert!(
        durations.iter().all(|&seconds| seconds < 1.5),
        "{durations:?}"
    );
}

#[test]
fn another_sound_behind_a_foretold_end_starts_a_new_stretch() {
    let mut feed = after(8, 30);
    let (sequence, _) = growing(&feed);
    let mono = aac::Config::parse(&[0x11, 0x88]).unwrap();
    feed.packager.configure_audio(AudioConfig::Aac(mono));
    feed.pictures(40, 30);
    let playlist = feed.early();
    assert!(playlist.contains("#EXT-X-DISCONTINUITY\n"), "{playlist}");
    assert!(is_finished(&feed, sequence), "closed as a gap");
    assert!(growing(&feed).0 > sequence);
}

#[test]
fn sound_that_is_left_over_at_the_end_is_a_segment_of_its_own() {
    let mut feed = after(8, 30);
    feed.sound();
    let (sequence, pieces) = growing(&feed);
    assert_eq!(pieces, 0);
    let session = feed.sessions().remove(0);
    let now = feed.now();
    feed.packager.pause(now);
    assert_eq!(growing(&feed), (sequence, 0), "the next run could have it");
    feed.packager.end(now);
    let playlist = text(&session.media(Early::Usual));
    let last = *extinf(&playlist).last().expect("segments");
    assert!((0.02..0.05).contains(&last), "{playlist}");
    assert!(playlist.contains("#EXT-X-ENDLIST"));
}

#[test]
fn sound_that_is_left_over_by_one_run_rides_with_the_next() {
    let mut feed = after(8, 30);
    let waiting = feed.packager.audio.len();
    assert!(waiting > 0);
    let (sequence, _) = growing(&feed);
    let before = feed.packager.stats();
    let now = feed.now();
    feed.packager.pause(now);
    feed.packager.configure_video(video_config(640));
    feed.packager.configure_audio(audio_config());
    feed.pictures(31, 30);
    assert_eq!(growing(&feed), (sequence + 1, 1));
    assert_eq!(feed.packager.stats().dropped, before.dropped);
    assert_eq!(feed.packager.stats().pieces, before.pieces + 31);
}

/// Found by fuzzing: it had neither a clock nor a length.
#[test]
fn sound_that_goes_on_without_a_picture_has_a_clock_and_a_length() {
    let mut feed = after(8, 30);
    let (sequence, _) = growing(&feed);
    for _ in 0..10 {
        feed.sound();
    }
    assert!(
        growing(&feed).1 > 0,
        "it waits no longer than a tenth of a second"
    );
    let session = feed.sessions().remove(0);
    let now = feed.now();
    feed.packager.pause(now);
    let segment = session.segment(sequence).expect("a segment");
    let bytes = segment.blocks().concat();
    let has_clock = |packet: &[u8]| packet[3] & 0x20 != 0 && packet[4] > 0 && packet[5] & 0x10 != 0;
    assert!(bytes.chunks(188).any(has_clock));
    let durations = extinf(&feed.early());
    assert!(
        durations.iter().all(|&seconds| seconds > 0.02),
        "{durations:?}"
    );
}

/// Groups that become longer, behind an end that was foretold: the picture that the first longer group goes on with starts a segment, and must
/// not start a session.
#[test]
fn a_foretold_end_inside_a_group_that_grows_starts_no_session() {
    let mut feed = after(8, 30);
    feed.pictures_from(30, 90, 1000);
    assert_eq!(feed.sessions().len(), 1, "its key frame has gone");
    feed.pictures(240, 120);
    assert_eq!(feed.sessions().len(), 2, "the next group tells as well");
    let parts = values(&feed.low_latency(), "#EXT-X-PART:");
    assert!(parts[0].contains("INDEPENDENT=YES"), "{parts:?}");
    assert_eq!(
        values(&feed.early(), "#EXT-X-TARGETDURATION:"),
        ["4"],
        "{}",
        feed.early()
    );
}
