use bytes::Bytes;

use super::low_latency::Directive;
use super::*;
use crate::hls::names::{Early, Listed};
use crate::hls::segment::{Piece, State};

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn settings() -> Settings {
    Settings {
        target_duration: 1,
        part_target: Duration::from_millis(500),
        announce: 2,
        retain: Duration::from_secs(3),
        retain_bytes: 1000,
    }
}

pub(super) fn start(seconds: u64) -> Start {
    Start {
        date: UNIX_EPOCH + Duration::from_secs(seconds),
        independent: true,
        discontinuity: false,
    }
}

pub(super) fn grow(segment: &Segment, size: usize) {
    segment.append(Piece {
        bytes: Bytes::from(vec![0; size]),
        published: Instant::now(),
    });
}

pub(super) fn open(settings: Settings) -> (Session, Arc<Segment>) {
    let growing = Arc::new(Segment::pending(100));
    grow(&growing, 10);
    let first = Growing {
        segment: Arc::clone(&growing),
        start: start(0),
        parts: Vec::new(),
    };
    (
        Session::open("s".into(), settings, first, SECOND, Instant::now()),
        growing,
    )
}

fn uris(session: &Session) -> Vec<String> {
    let text = String::from_utf8(session.media(Early::Usual).plain().to_vec()).unwrap();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

fn tags(session: &Session, tag: &str) -> Vec<String> {
    let text = String::from_utf8(session.media(Early::Usual).plain().to_vec()).unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix(tag))
        .map(str::to_owned)
        .collect()
}

#[test]
fn lists_two_finished_the_growing_and_the_announced() {
    let (session, _) = open(settings());
    assert_eq!(uris(&session), ["s-100.ts", "s-101.ts", "s-102.ts"]);
    for n in 1..5 {
        grow(
            &session
                .roll(SECOND, start(n), &Bytes::new(), Instant::now())
                .unwrap(),
            10,
        );
    }
    assert_eq!(
        uris(&session),
        ["s-102.ts", "s-103.ts", "s-104.ts", "s-105.ts", "s-106.ts"]
    );
    assert_eq!(session.segment(103).unwrap().state(), State::Finished);
    assert_eq!(session.segment(104).unwrap().state(), State::Growing);
    assert_eq!(session.segment(106).unwrap().state(), State::Pending);
    // One more is announced to players built on ffmpeg, and a cache in front may ask for it in anybody's name.
    assert_eq!(session.segment(107).unwrap().state(), State::Pending);
    assert!(session.segment(108).is_none() && session.is_to_come(108));
    assert!(!session.is_to_come(107) && !session.is_to_come(99));
}

#[test]
fn announced_duration_is_the_predecessors_and_true_once_finished() {
    let (session, _) = open(settings());
    grow(
        &session
            .roll(
                Duration::from_millis(900),
                start(1),
                &Bytes::new(),
                Instant::now(),
            )
            .unwrap(),
        10,
    );
    assert_eq!(tags(&session, "#EXTINF:"), ["0.90000,"; 4]);
    grow(
        &session
            .roll(
                Duration::from_millis(1100),
                start(2),
                &Bytes::new(),
                Instant::now(),
            )
            .unwrap(),
        10,
    );
    assert_eq!(
        tags(&session, "#EXTINF:"),
        ["0.90000,", "1.10000,", "1.10000,", "1.10000,", "1.10000,"]
    );
    let dates = tags(&session, "#EXT-X-PROGRAM-DATE-TIME:");
    assert_eq!(
        dates[2..],
        [
            "1970-01-01T00:00:02.000Z",
            "1970-01-01T00:00:03.100Z",
            "1970-01-01T00:00:04.200Z"
        ]
    );
}

#[test]
fn keeps_forgotten_segments_for_a_time() {
    let (session, _) = open(settings());
    for n in 1..=10 {
        grow(
            &session
                .roll(SECOND, start(n), &Bytes::new(), Instant::now())
                .unwrap(),
            10,
        );
    }
    // 110 grows, 106 to 109 are in the low-latency playlist, 103 to 105 are kept for their three seconds.
    assert!(session.segment(102).is_none());
    assert!(session.segment(103).is_some());
    assert_eq!(session.bytes(), 70);
}

#[test]
fn bytes_bound_what_is_kept_but_never_a_listed_segment() {
    let (session, _) = open(Settings {
        retain_bytes: 900,
        ..settings()
    });
    for n in 1..=10 {
        grow(
            &session
                .roll(SECOND, start(n), &Bytes::new(), Instant::now())
                .unwrap(),
            400,
        );
    }
    assert!(session.segment(107).is_none());
    assert!(session.segment(108).is_some());
    assert_eq!(uris(&session).len(), 5);
}

#[test]
fn discontinuity_sequence_counts_those_that_left() {
    let (session, _) = open(settings());
    for n in 1..=6 {
        let next = Start {
            discontinuity: n == 2,
            ..start(n)
        };
        grow(
            &session
                .roll(SECOND, next, &Bytes::new(), Instant::now())
                .unwrap(),
            10,
        );
        let expected = if n >= 5 { "1" } else { "0" };
        assert_eq!(
            tags(&session, "#EXT-X-DISCONTINUITY-SEQUENCE:"),
            [expected],
            "after {n}"
        );
        assert_eq!(
            tags(&session, "#EXT-X-DISCONTINUITY")
                .iter()
                .any(String::is_empty),
            (2..5).contains(&n)
        );
    }
}

#[test]
fn a_segment_without_key_frame_takes_the_promise_back() {
    let (session, _) = open(settings());
    assert_eq!(tags(&session, "#EXT-X-INDEPENDENT-SEGMENTS").len(), 1);
    session.roll(
        SECOND,
        Start {
            independent: false,
            ..start(1)
        },
        &Bytes::new(),
        Instant::now(),
    );
    assert_eq!(tags(&session, "#EXT-X-INDEPENDENT-SEGMENTS").len(), 0);
}

#[test]
fn the_end_withdraws_what_was_announced() {
    let (session, _) = open(settings());
    grow(
        &session
            .roll(SECOND, start(1), &Bytes::new(), Instant::now())
            .unwrap(),
        10,
    );
    let announced = session.segment(102).unwrap();
    session.end(Duration::from_millis(500), Instant::now());
    assert_eq!(uris(&session), ["s-100.ts", "s-101.ts"]);
    assert_eq!(tags(&session, "#EXT-X-ENDLIST").len(), 1);
    assert_eq!(tags(&session, "#EXTINF:"), ["1.00000,", "0.50000,"]);
    assert_eq!(announced.state(), State::Withdrawn);
    assert!(session.segment(102).is_none());
    assert!(
        session
            .roll(SECOND, start(2), &Bytes::new(), Instant::now())
            .is_none()
    );
}

#[test]
fn identifiers_come_from_the_clock() {
    assert_eq!(
        session_id(UNIX_EPOCH + Duration::from_millis(36 * 36 + 35)),
        "10z"
    );
    let restarted = UNIX_EPOCH + Duration::from_secs(SEQUENCE_EPOCH + 100);
    assert_eq!(first_sequence(restarted), 400);
    assert_eq!(first_sequence(UNIX_EPOCH), 0);
}

fn add_part(session: &Session, segment: &Segment, independent: bool) {
    let pieces = segment.piece_count() - 1..segment.piece_count();
    session.add_part(&BasePart {
        pieces,
        duration: Duration::from_millis(500),
        independent,
    });
}

fn low_latency(session: &Session) -> String {
    String::from_utf8(
        session
            .low_latency(0, Listed::Complete)
            .unwrap()
            .plain()
            .to_vec(),
    )
    .unwrap()
}

#[test]
fn the_hint_is_always_the_part_that_comes() {
    let (session, mut growing) = open(settings());
    let mut expected = 0;
    for n in 1..=12 {
        for half in 0..2 {
            let text = low_latency(&session);
            let hint = format!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"s-ll1-{expected}.ts\"\n");
            assert!(text.ends_with(&hint), "{text}");
            assert!(matches!(session.part(0, expected), PartState::Announced));
            grow(&growing, 10);
            add_part(&session, &growing, half == 0);
            assert!(matches!(session.part(0, expected), PartState::Complete(..)));
            assert!(matches!(session.part(0, expected + 3), PartState::ToCome));
            expected += 1;
        }
        growing = session
            .roll(SECOND, start(n), &Bytes::new(), Instant::now())
            .unwrap();
    }
    assert!(
        matches!(session.part(0, 0), PartState::Unknown),
        "long dropped"
    );
    session.end(Duration::ZERO, Instant::now());
    assert!(
        matches!(session.part(0, expected), PartState::Unknown),
        "withdrawn"
    );
    assert!(low_latency(&session).ends_with("#EXT-X-ENDLIST\n"));
}

#[test]
fn who_joins_is_told_of_the_next_parts() {
    let with_parts_of = |millis| Settings {
        part_target: Duration::from_millis(millis),
        ..settings()
    };
    let (session, mut growing) = open(with_parts_of(200));
    let joining = || {
        let rendered = session.low_latency(0, Listed::Joining).unwrap();
        String::from_utf8(rendered.plain().to_vec()).unwrap()
    };
    let joined = || {
        let rendered = session.low_latency_reload(0, Listed::Joining).unwrap();
        String::from_utf8(rendered.plain().to_vec()).unwrap()
    };
    assert_eq!(joining(), joined(), "nothing to go by yet");
    for n in 1..=2 {
        for part in 0..3 {
            grow(&growing, 10);
            add_part(&session, &growing, part == 0);
        }
        growing = session
            .roll(SECOND, start(n), &Bytes::new(), Instant::now())
            .unwrap();
    }
    for (done, announced) in [
        (0, &["6.ts\",INDEPENDENT=YES\n", "7.ts\"\n"][..]),
        (1, &["7.ts\"\n", "8.ts\"\n"]),
        (2, &["8.ts\"\n", "9.ts\",INDEPENDENT=YES\n"]),
    ] {
        if done == 0 {
            grow(&growing, 5);
        }
        let text = joining();
        assert_eq!(text.matches("#EXT-X-PART:").count(), 6 + done + 2, "{text}");
        for part in announced {
            assert!(text.contains(&format!("s-ll1-{part}")), "{part}: {text}");
        }
        let behind = 6 + done + 2;
        assert!(
            text.ends_with(&format!("HINT:TYPE=PART,URI=\"s-ll1-{behind}.ts\"\n")),
            "{text}"
        );
        for number in 6 + done..=behind {
            assert!(matches!(
                session.part(0, number as u64),
                PartState::Announced
            ));
        }
        assert_eq!(
            text.matches("#EXTINF").count(),
            // With the entry that these playlists start with.
            if done == 2 { 4 } else { 3 },
            "{text}"
        );
        grow(&growing, 10);
        add_part(&session, &growing, done == 0);
    }
    assert!(joining().matches("#EXT-X-PART:").count() == 9 + 2);
    grow(&growing, 10);
    add_part(&session, &growing, false);
    assert_eq!(
        joining(),
        joined(),
        "the segment is longer than the last: nobody knows"
    );
    session.roll(SECOND, start(3), &Bytes::new(), Instant::now());
    assert_eq!(joining(), joined(), "the publisher may be away");
    growing = session
        .restart(start(4), Duration::ZERO, &Bytes::new(), Instant::now())
        .unwrap();
    grow(&growing, 10);
    add_part(&session, &growing, true);
    assert_eq!(joining(), joined(), "the segment before is another run's");
}

#[test]
fn behind_an_outage_who_has_joined_starts_anew() {
    let (session, growing) = open(settings());
    let text = |rendered: Option<Arc<Rendered>>| {
        String::from_utf8(rendered.unwrap().plain().to_vec()).unwrap()
    };
    let joined = || text(session.low_latency_reload(0, Listed::Joining));
    let number = |text: &str, tag: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(tag));
        line.unwrap().parse().unwrap()
    };
    let directive = |sequence| Directive {
        sequence,
        part: Some(0),
    };
    let mut growing = growing;
    let (mut sequence, mut stretch) = (102, number(&joined(), "#EXT-X-DISCONTINUITY-SEQUENCE:"));
    for outage in 1..=2 {
        grow(&growing, 10);
        add_part(&session, &growing, true);
        session.roll(SECOND, start(outage * 10), &Bytes::new(), Instant::now());
        let left = Instant::now();
        session.publisher_left(left, left);
        assert_eq!(session.awaits_seam(0, left), None);
        let waits_for = session.place(Listed::Joining, directive(sequence + 1));
        assert_eq!(session.awaits_seam(0, left + 2 * SECOND), Some(waits_for));
        assert!(!session.reached(0, waits_for));
        let before = joined();
        growing = session
            .restart(
                start(outage * 10 + 5),
                2 * SECOND,
                &Bytes::new(),
                Instant::now(),
            )
            .unwrap();
        assert!(!session.reached(0, waits_for), "no part has come yet");
        assert_eq!(joined(), before);
        grow(&growing, 10);
        add_part(&session, &growing, true);
        assert!(session.reached(0, waits_for));
        assert_eq!(session.awaits_seam(0, left + 2 * SECOND), None);
        let list = joined();
        sequence += 4;
        stretch += 1;
        assert_eq!(number(&list, "#EXT-X-MEDIA-SEQUENCE:"), sequence - 2);
        assert_eq!(number(&list, "#EXT-X-DISCONTINUITY-SEQUENCE:"), stretch);
        assert_eq!(list.matches("#EXT-X-DISCONTINUITY\n").count(), 1, "{list}");
        assert_eq!(list.matches("#EXT-X-GAP").count(), 1, "{list}");
        // The first part, which is an entry of its own.
        assert_eq!(list.matches("#EXT-X-PART:").count(), 1, "{list}");
        assert_eq!(list.matches("#EXTINF").count(), 2, "{list}");
        // Whoever knows what was before is told of one entry more, in front of these.
        let bridge = text(session.low_latency_bridge(0));
        let (known, _) = before.split_once("#EXT-X-PRELOAD-HINT").unwrap();
        assert!(bridge.starts_with(known), "{bridge}");
        let entries = bridge.matches("#EXTINF").count() as u64;
        assert_eq!(
            number(&bridge, "#EXT-X-MEDIA-SEQUENCE:") + entries,
            sequence - 2
        );
        let here = session.place(Listed::Joining, directive(sequence));
        assert_eq!(here.sequence, growing.sequence());
        let whole = Directive {
            sequence,
            part: None,
        };
        assert_eq!(session.place(Listed::Joining, whole), here);
        assert!(!session.reached(0, here));
        grow(&growing, 10);
        add_part(&session, &growing, false);
        assert!(session.reached(0, here));
        assert_eq!(joined().matches("#EXT-X-PART:").count(), 2);
    }
    let others = low_latency(&session);
    assert_eq!(number(&others, "#EXT-X-MEDIA-SEQUENCE:"), 100);
    assert!(others.matches("#EXT-X-PART:").count() > 4, "{others}");
    assert!(!others.contains("#EXT-X-GAP"), "{others}");
    for n in 1..=10 {
        growing = session
            .roll(SECOND, start(30 + n), &Bytes::new(), Instant::now())
            .unwrap();
        grow(&growing, 10);
        add_part(&session, &growing, true);
        sequence += 1;
    }
    let list = joined();
    assert!(!list.contains("#EXT-X-GAP"), "{list}");
    assert_eq!(number(&list, "#EXT-X-DISCONTINUITY-SEQUENCE:"), stretch + 1);
    let finished = list.matches("#EXTINF").count() as u64;
    assert_eq!(number(&list, "#EXT-X-MEDIA-SEQUENCE:"), sequence - finished);
}

#[test]
fn behind_an_outage_whole_segments_are_numbered_behind_what_was_announced() {
    let (session, growing) = open(settings());
    let media = |early| String::from_utf8(session.media(early).plain().to_vec()).unwrap();
    let first = |text: &str| -> u64 {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:"));
        line.unwrap().parse().unwrap()
    };
    grow(&growing, 10);
    session.roll(SECOND / 10, start(1), &Bytes::new(), Instant::now());
    let now = Instant::now();
    session.publisher_left(now, now);
    let before = media(Early::Whole);
    let end = first(&before) + before.matches("#EXTINF").count() as u64;
    session.restart(start(9), 5 * SECOND, &Bytes::new(), now);
    let whole = media(Early::Whole);
    assert_eq!(first(&whole), end, "{before}{whole}");
    assert_eq!(
        whole.matches("#EXT-X-DISCONTINUITY\n").count(),
        1,
        "{whole}"
    );
    assert!(!whole.contains("-w100."), "{whole}");
    assert!(whole.contains("-w101."), "{whole}");
    assert!(session.starts_anew_at(101));
    // Nobody else is told of it.
    let usual = media(Early::Usual);
    assert_eq!(first(&usual), 100);
    assert!(!usual.contains("#EXT-X-DISCONTINUITY\n"), "{usual}");
    assert!(usual.contains("#EXTINF:0.1"), "{usual}");
}

#[test]
fn what_is_announced_in_an_outage_is_of_usual_length() {
    let (session, growing) = open(settings());
    grow(&growing, 10);
    let growing = session.roll(SECOND, start(1), &Bytes::new(), Instant::now());
    grow(&growing.unwrap(), 10);
    session.roll(SECOND / 10, start(2), &Bytes::new(), Instant::now());
    let now = Instant::now();
    session.publisher_left(now, now);
    let text = String::from_utf8(session.media(Early::Usual).plain().to_vec()).unwrap();
    let lengths: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("#EXTINF:"))
        .collect();
    assert_eq!(lengths[1], "0.10000,", "{text}");
    assert!(
        lengths[2..].iter().all(|&length| length == "1.00000,"),
        "{text}"
    );
}

#[test]
fn low_latency_playlist_spans_four_target_durations_and_has_parts_for_three() {
    let (session, mut growing) = open(settings());
    for n in 1..=12 {
        grow(&growing, 10);
        add_part(&session, &growing, true);
        growing = session
            .roll(SECOND, start(n), &Bytes::new(), Instant::now())
            .unwrap();
    }
    let text = low_latency(&session);
    assert_eq!(text.matches("#EXTINF").count(), 4, "{text}");
    assert_eq!(text.matches("#EXT-X-PART:").count(), 4, "{text}");
    assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:108\n"), "{text}");
    grow(&growing, 10);
    add_part(&session, &growing, true);
    assert_eq!(
        low_latency(&session).matches("#EXT-X-PART:").count(),
        4,
        "those older than three seconds lose theirs"
    );
}

#[test]
fn blocking_reloads_wait_for_what_they_name() {
    let (session, growing) = open(settings());
    let reached = |sequence, part| session.reached(0, Directive { sequence, part });
    assert!(!reached(100, Some(0)));
    grow(&growing, 10);
    add_part(&session, &growing, true);
    assert!(reached(100, Some(0)));
    assert!(!reached(100, Some(1)));
    assert!(!reached(100, None));
    let growing = session
        .roll(SECOND, start(1), &Bytes::new(), Instant::now())
        .unwrap();
    assert!(reached(100, None));
    assert!(
        !reached(100, Some(1)),
        "a part behind the last of its segment is the first of the next"
    );
    grow(&growing, 10);
    add_part(&session, &growing, true);
    assert!(reached(100, Some(1)));
    assert!(reached(99, Some(7)), "long past");
    session.end(SECOND, Instant::now());
    assert!(
        reached(200, None),
        "an ended playlist has all there will be"
    );
}

#[test]
fn reloads_that_have_lost_their_way_are_told() {
    let (session, _) = open(settings());
    let too_far = |sequence, part| session.too_far(0, Directive { sequence, part });
    assert!(!too_far(100, Some(6)) && too_far(100, Some(7)));
    assert!(!too_far(102, None) && too_far(103, None));
    assert!(too_far(u64::MAX, Some(u64::MAX)));
    assert!(!too_far(0, Some(0)));
}

#[test]
fn players_that_start_three_segments_back_are_told_of_one_more() {
    let (session, _) = open(settings());
    session.roll(SECOND, start(1), &Bytes::new(), Instant::now());
    let text = String::from_utf8(session.media(Early::Further).plain().to_vec()).unwrap();
    assert!(text.contains("s-104.ts") && !uris(&session).contains(&"s-104.ts".to_owned()));
    assert_eq!(session.segment(104).unwrap().state(), State::Pending);
    assert!(session.segment(105).is_none());
}

#[test]
fn players_that_want_segments_whole_are_told_other_names() {
    let (session, _) = open(settings());
    let text = |early| String::from_utf8(session.media(early).plain().to_vec()).unwrap();
    assert_eq!(
        text(Early::Whole).replace("s-w1", "s-1"),
        text(Early::Usual)
    );
    assert!(text(Early::Whole).contains("s-w102.ts"));
}
