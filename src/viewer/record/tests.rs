//! What a viewer notices of pictures that come at known times.

use super::*;
use crate::ts::Muxer;
use crate::viewer::demux::tests::{at, muxer, picture};
use crate::viewer::playlist::Playlist;
use crate::viewer::stats::Distribution;

/// A record, what it counts, and a muxer that feeds it.
struct Rig {
    record: Record,
    muxer: Muxer,
    list: Media,
}

impl Rig {
    fn new() -> Self {
        let buffer = Duration::from_millis(100);
        Self {
            record: Record::new(Arc::default(), at(0).instant, buffer, None),
            muxer: muxer(),
            list: list(0),
        }
    }

    /// Segment `sequence` begins: each of `pictures` has a media time and an arrival, both in ms.
    fn resource(&mut self, sequence: u64, whole: bool, pictures: &[(i64, u64)]) {
        self.record.begin(Some(sequence), whole);
        for (index, &(dts, arrival)) in pictures.iter().enumerate() {
            let mut bytes = Vec::new();
            if index == 0 {
                self.muxer.write_tables(&mut bytes);
            }
            let unit = picture(dts * 90, index == 0, 500);
            self.muxer.write(&unit, index == 0, &mut bytes).unwrap();
            self.record.bytes(&bytes, at(arrival), &self.list);
        }
        self.record.end(&self.list);
    }

    fn totals(&self) -> MutexGuard<'_, Totals> {
        self.record.totals()
    }
}

/// Segments 1 to 3 of a second each, the first beginning `ms` after 1970.
fn list(ms: u64) -> Media {
    let date = crate::hls::playlist::iso8601(std::time::UNIX_EPOCH + Duration::from_millis(ms));
    let text = format!(
        "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:1\n#EXT-X-PROGRAM-DATE-TIME:{date}\n#EXTINF:1,\n1.ts\n#EXTINF:1,\n2.ts\n#EXTINF:1,\n3.ts\n"
    );
    match Playlist::parse(&text) {
        Some(Playlist::Media(media)) => media,
        _ => panic!(),
    }
}

fn millis(distribution: Option<&Distribution>) -> Vec<f64> {
    let distribution = distribution.unwrap();
    [distribution.min(), distribution.max()]
        .map(|micros| micros.unwrap() as f64 / 1e3)
        .to_vec()
}

#[test]
fn what_was_there_before_does_not_count() {
    let mut rig = Rig::new();
    rig.resource(
        1,
        false,
        &[(0, 500), (40, 500), (80, 501), (120, 525), (160, 560)],
    );
    let totals = rig.totals();
    assert_eq!((totals.units, totals.keys, totals.caught_up), (5, 1, 3));
    assert_eq!(millis(Some(&totals.picture_at)), [500.0, 500.0]);
    assert_eq!(totals.jitter.count(), 1);
    assert_eq!((totals.gaps(), totals.stalls.count()), (0, 0));
}

#[test]
fn latency_by_date() {
    // Media time 0 is 10 ms after 1970, and pictures are shown 33.3 ms (3000 ticks) after their decoding time.
    let mut rig = Rig::new();
    rig.list = list(10);
    rig.resource(1, false, &[(0, 30), (40, 70), (80, 115)]);
    let totals = rig.totals();
    assert_eq!(millis(totals.latency.get(&Clock::Date)), [20.0, 25.0]);
    assert_eq!(totals.waiting.count(), 0);
}

#[test]
fn the_date_of_a_segment_to_come_is_corrected() {
    let mut rig = Rig::new();
    rig.list = list(10);
    rig.resource(1, false, &[(0, 30), (40, 70)]);
    let stale = list(500);
    rig.record.playlist(&stale, at(20).instant);
    rig.resource(2, false, &[(1000, 1030)]);
    assert_eq!(
        millis(rig.totals().latency.get(&Clock::Date)),
        [20.0, 20.0],
        "asked for before"
    );
    let newer = list(20);
    rig.record.playlist(&newer, at(1100).instant);
    rig.resource(3, false, &[(2000, 2030)]);
    assert_eq!(millis(rig.totals().latency.get(&Clock::Date)), [10.0, 20.0]);
}

#[test]
fn waiting_for_a_part_is_told_apart() {
    let mut rig = Rig::new();
    rig.list = list(0);
    rig.resource(1, true, &[(0, 100), (40, 100), (80, 100)]);
    rig.resource(2, true, &[(120, 220), (160, 220), (200, 220)]);
    let totals = rig.totals();
    assert_eq!(totals.caught_up, 3);
    assert_eq!(millis(Some(&totals.waiting)), [0.0, 80.0]);
    assert_eq!(millis(totals.latency.get(&Clock::Date)), [20.0, 100.0]);
    assert_eq!(millis(totals.delivery.get(&Clock::Date)), [20.0, 20.0]);
    assert_eq!(totals.stalls.count(), 0);
}

#[test]
fn stalls_are_what_the_buffer_does_not_cover() {
    let mut rig = Rig::new();
    let regular = (0..10).map(|n| (n * 40, n as u64 * 40 + 10));
    rig.resource(1, false, &regular.collect::<Vec<_>>());
    // 90 ms late, then 250 ms late: 150 ms more than the buffer. From then on the player is that much later.
    rig.resource(2, false, &[(400, 500), (440, 700), (480, 720), (520, 780)]);
    let totals = rig.totals();
    assert_eq!(totals.stalls.count(), 1);
    assert_eq!(millis(Some(&totals.stalls)), [150.0, 150.0]);
}

#[test]
fn holes_and_repeats_in_time() {
    let mut rig = Rig::new();
    let times = [0, 33, 67, 100, 133, 233, 267, 300, 300];
    let pictures: Vec<_> = times.iter().map(|&time| (time, time as u64)).collect();
    rig.resource(1, false, &pictures);
    let totals = rig.totals();
    assert_eq!((totals.pictures_missed, totals.times_back), (2, 1));
    assert_eq!(totals.media_time, Duration::from_millis(300));
}

#[test]
fn pictures_before_the_first_key_are_not_seen() {
    let mut rig = Rig::new();
    rig.record.begin(None, true);
    let mut bytes = Vec::new();
    rig.muxer.write_tables(&mut bytes);
    rig.muxer
        .write(&picture(0, false, 100), true, &mut bytes)
        .unwrap();
    rig.record.bytes(&bytes, at(5), &rig.list);
    rig.record.end(&rig.list);
    assert!(!rig.record.is_playing());
    assert_eq!(rig.totals().units, 0);
    rig.resource(2, true, &[(40, 45)]);
    assert!(rig.record.is_playing());
}
