use bytes::Bytes;

use super::*;
use crate::hls::segment::{Piece, State};

const SECOND: Duration = Duration::from_secs(1);

fn settings() -> Settings {
    Settings { target_duration: 1, announce: 2, retain: Duration::from_secs(3), retain_bytes: 1000 }
}

fn start(seconds: u64) -> Start {
    Start { date: UNIX_EPOCH + Duration::from_secs(seconds), independent: true, discontinuity: false }
}

fn grow(segment: &Segment, size: usize) {
    segment.append(Piece { bytes: Bytes::from(vec![0; size]), published: Instant::now() });
}

fn open(settings: Settings) -> (Session, Arc<Segment>) {
    let growing = Arc::new(Segment::pending(100));
    grow(&growing, 10);
    (Session::open("s".into(), settings, Arc::clone(&growing), start(0), SECOND, Instant::now()), growing)
}

fn uris(session: &Session) -> Vec<String> {
    let text = String::from_utf8(session.media().plain().to_vec()).unwrap();
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

fn tags(session: &Session, tag: &str) -> Vec<String> {
    let text = String::from_utf8(session.media().plain().to_vec()).unwrap();
    text.lines().filter_map(|line| line.strip_prefix(tag)).map(str::to_owned).collect()
}

#[test]
fn lists_two_finished_the_growing_and_the_announced() {
    let (session, _) = open(settings());
    assert_eq!(uris(&session), ["s-100.ts", "s-101.ts", "s-102.ts"]);
    for n in 1..5 {
        grow(&session.roll(SECOND, start(n)).unwrap(), 10);
    }
    assert_eq!(uris(&session), ["s-102.ts", "s-103.ts", "s-104.ts", "s-105.ts", "s-106.ts"]);
    assert_eq!(session.segment(103).unwrap().state(), State::Finished);
    assert_eq!(session.segment(104).unwrap().state(), State::Growing);
    assert_eq!(session.segment(106).unwrap().state(), State::Pending);
    assert!(session.segment(107).is_none());
}

#[test]
fn announced_duration_is_the_predecessors_and_true_once_finished() {
    let (session, _) = open(settings());
    grow(&session.roll(Duration::from_millis(900), start(1)).unwrap(), 10);
    assert_eq!(tags(&session, "#EXTINF:"), ["0.90000,"; 4]);
    grow(&session.roll(Duration::from_millis(1100), start(2)).unwrap(), 10);
    assert_eq!(tags(&session, "#EXTINF:"), ["0.90000,", "1.10000,", "1.10000,", "1.10000,", "1.10000,"]);
    let dates = tags(&session, "#EXT-X-PROGRAM-DATE-TIME:");
    assert_eq!(dates[2..], ["1970-01-01T00:00:02.000Z", "1970-01-01T00:00:03.100Z", "1970-01-01T00:00:04.200Z"]);
}

#[test]
fn keeps_forgotten_segments_for_a_time() {
    let (session, _) = open(settings());
    for n in 1..=10 {
        grow(&session.roll(SECOND, start(n)).unwrap(), 10);
    }
    // 110 grows, 108 and 109 are listed, 105 to 107 are kept for their three seconds.
    assert!(session.segment(104).is_none());
    assert!(session.segment(105).is_some());
    assert_eq!(session.bytes(), 50);
}

#[test]
fn bytes_bound_what_is_kept_but_never_a_listed_segment() {
    let (session, _) = open(Settings { retain_bytes: 900, ..settings() });
    for n in 1..=10 {
        grow(&session.roll(SECOND, start(n)).unwrap(), 400);
    }
    assert!(session.segment(107).is_none());
    assert!(session.segment(108).is_some());
    assert_eq!(uris(&session).len(), 5);
}

#[test]
fn discontinuity_sequence_counts_those_that_left() {
    let (session, _) = open(settings());
    for n in 1..=6 {
        let next = Start { discontinuity: n == 2, ..start(n) };
        grow(&session.roll(SECOND, next).unwrap(), 10);
        let expected = if n >= 5 { "1" } else { "0" };
        assert_eq!(tags(&session, "#EXT-X-DISCONTINUITY-SEQUENCE:"), [expected], "after {n}");
        assert_eq!(tags(&session, "#EXT-X-DISCONTINUITY").iter().any(String::is_empty), (2..5).contains(&n));
    }
}

#[test]
fn a_segment_without_key_frame_takes_the_promise_back() {
    let (session, _) = open(settings());
    assert_eq!(tags(&session, "#EXT-X-INDEPENDENT-SEGMENTS").len(), 1);
    session.roll(SECOND, Start { independent: false, ..start(1) });
    assert_eq!(tags(&session, "#EXT-X-INDEPENDENT-SEGMENTS").len(), 0);
}

#[test]
fn the_end_withdraws_what_was_announced() {
    let (session, _) = open(settings());
    grow(&session.roll(SECOND, start(1)).unwrap(), 10);
    let announced = session.segment(102).unwrap();
    session.end(Duration::from_millis(500));
    assert_eq!(uris(&session), ["s-100.ts", "s-101.ts"]);
    assert_eq!(tags(&session, "#EXT-X-ENDLIST").len(), 1);
    assert_eq!(tags(&session, "#EXTINF:"), ["1.00000,", "0.50000,"]);
    assert_eq!(announced.state(), State::Withdrawn);
    assert!(session.segment(102).is_none());
    assert!(session.roll(SECOND, start(2)).is_none());
}

#[test]
fn names() {
    assert_eq!(parse_segment_name(&segment_name("abc", 7)), Some(("abc", 7)));
    for bad in ["abc-+7.ts", "abc-07.ts", "abc-7.mp4", "abc.ts", "abc-.ts", "abc-99999999999999999999.ts"] {
        assert_eq!(parse_segment_name(bad), None, "{bad}");
    }
    assert_eq!(session_id(UNIX_EPOCH + Duration::from_millis(36 * 36 + 35)), "10z");
    let restarted = UNIX_EPOCH + Duration::from_secs(SEQUENCE_EPOCH + 100);
    assert_eq!(first_sequence(restarted), 400);
    assert_eq!(first_sequence(UNIX_EPOCH), 0);
}
