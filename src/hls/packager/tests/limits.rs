//! What a publisher cannot make a stream hold, in whatever time it sends it.

use super::*;

#[test]
fn a_flood_before_going_live_is_not_held_back() {
    let mut feed = Feed::new(|settings| settings.retain_bytes = 4 << 20);
    for n in 0..200 {
        assert_eq!(feed.packager.is_live(), n > 10, "picture {n}");
        let dts = Ticks::from_millis(1000 + n * 33);
        let payload = [&[0, 0, 1, 0x65][..], &[1; 100_000]].concat();
        // All in the same moment, so no time is waited.
        feed.push(AccessUnit {
            track: Track::Video,
            dts,
            pts: dts,
            key: n == 0,
            payload: Payload::H264(h264::NalUnits::annex_b(payload.into())),
        });
    }
}

/// Every change of the sound closes what is announced as gaps of no length, which no bound in seconds counts.
#[test]
fn changes_without_end_leave_playlist_and_ring_of_bounded_length() {
    let mut feed = Feed::new(|_| ());
    feed.pictures(60, 30);
    for n in 0..2000_u32 {
        let rate = if n % 2 == 0 { 0x11 } else { 0x12 };
        let config = aac::Config::parse(&[rate, 0x90]).unwrap();
        feed.packager.configure_audio(AudioConfig::Aac(config));
        feed.sound();
        feed.pictures(2, 2);
        assert!(feed.low_latency().matches("#EXTINF").count() <= 220);
    }
    let session = feed.sessions().remove(0);
    let first = first_sequence(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    let ring = (first..first + 50_000)
        .filter(|&sequence| session.segment(sequence).is_some())
        .count();
    assert!((100..=2600).contains(&ring), "{ring} segments");
}

/// Found by fuzzing: a second without pictures, towards the end of a segment.
#[test]
fn pictures_that_stay_away_for_a_second_do_not_stretch_a_segment() {
    let mut feed = Feed::new(|_| ());
    feed.pictures(60 + 29, 30);
    for _ in 0..45 {
        feed.time += 21_333;
        feed.sound();
    }
    feed.pictures(60, 1000);
    let playlist = feed.early();
    assert!(
        extinf(&playlist).iter().all(|&seconds| seconds < 1.5),
        "{playlist}"
    );
}

/// Found by fuzzing: so much in one moment that a second session begins in it.
#[test]
fn sessions_that_open_in_the_same_moment_have_names_of_their_own() {
    let mut feed = Feed::new(|_| ());
    feed.at_once = true;
    feed.pictures(91, 30);
    feed.pictures(29, 120);
    for _ in 0..4 {
        feed.pictures(90, 90);
    }
    let sessions = feed.sessions();
    assert_eq!(sessions.len(), 2);
    assert_ne!(sessions[0].id(), sessions[1].id());
}
