//! Playlists of our own server and of others.

use super::*;
use crate::hls::playlist::iso8601;
use std::time::UNIX_EPOCH;

fn media(text: &str) -> Media {
    match Playlist::parse(text) {
        Some(Playlist::Media(media)) => media,
        other => panic!("not a media playlist: {other:?}"),
    }
}

#[test]
fn our_early_announcing_playlist() {
    let list = media(include_str!("../../hls/testdata/early.m3u8"));
    assert_eq!(list.target_duration, Duration::from_secs(1));
    assert_eq!(list.segments.len(), 5);
    assert_eq!(list.segments[0].sequence, 41);
    assert_eq!(list.segments[0].uri.as_deref(), Some("s-41.ts"));
    assert_eq!(list.segments[0].duration, Duration::from_micros(1_001_000));
    assert_eq!(list.segments[0].date, Some(1_767_225_641_000_000));
    assert!(list.segments[1].discontinuity && !list.segments[2].discontinuity);
    assert_eq!(list.next_sequence(), 46);
    assert_eq!(list.find(45).unwrap().uri.as_deref(), Some("s-45.ts"));
    assert!(list.find(40).is_none() && list.find(46).is_none());
    assert!(!list.ended && !list.has_parts());
    assert!(media(include_str!("../../hls/testdata/ended.m3u8")).ended);
}

#[test]
fn our_prefetch_playlist() {
    let list = media(include_str!("../../hls/testdata/prefetch.m3u8"));
    let prefetch: Vec<_> = list
        .segments
        .iter()
        .filter(|segment| segment.prefetch)
        .map(|segment| (segment.sequence, segment.uri.as_deref().unwrap()))
        .collect();
    assert_eq!(prefetch, [(43, "s-43.ts"), (44, "s-44.ts")]);
}

#[test]
fn our_low_latency_playlist() {
    let list = media(include_str!("../../hls/testdata/low_latency.m3u8"));
    assert_eq!(list.part_target, Some(Duration::from_millis(67)));
    assert!(list.can_block_reload);
    let shape: Vec<_> = list
        .segments
        .iter()
        .map(|segment| (segment.sequence, segment.uri.is_some(), segment.parts.len()))
        .collect();
    assert_eq!(shape, [(1, true, 0), (2, true, 3), (3, false, 2)]);
    assert_eq!(list.segments[1].parts[0].uri, "s-p1-6.ts");
    assert!(list.segments[1].parts[0].independent && !list.segments[1].parts[1].independent);
    assert_eq!(list.hint.as_deref(), Some("s-p1-11.ts"));
    assert_eq!(list.next_sequence(), 4);
}

#[test]
fn multivariant() {
    let ours = Playlist::parse(include_str!("../../hls/testdata/multivariant.m3u8"));
    assert_eq!(
        ours,
        Some(Playlist::Multivariant(vec!["s.m3u8".to_owned(); 2]))
    );
    let foreign = "#EXTM3U\r\n#EXT-X-MEDIA:TYPE=AUDIO,URI=\"a.m3u8\"\r\n#EXT-X-STREAM-INF:BANDWIDTH=1\r\n\r\n# comment\r\nhttp://h/v.m3u8?x\r\n";
    assert_eq!(
        Playlist::parse(foreign),
        Some(Playlist::Multivariant(vec!["http://h/v.m3u8?x".to_owned()]))
    );
}

#[test]
fn foreign_media_playlist() {
    let text = "\u{feff}#EXTM3U\r\n#EXT-X-TARGETDURATION:6\r\n#EXT-X-MEDIA-SEQUENCE:7\r\n#EXT-X-UNHEARD-OF:1\r\n\
        #EXT-X-KEY:METHOD=NONE\r\n#EXT-X-PROGRAM-DATE-TIME:2026-01-01T02:00:00.5+01:00\r\n#EXTINF:5.5,a title, with comma\r\n\
        #EXT-X-BYTERANGE:100@20\r\n/abs/1.ts?k=v\r\n#EXTINF:6\r\n#EXT-X-BYTERANGE:50\r\n2.ts\r\nstray.ts\r\n";
    let list = media(text);
    assert_eq!(list.segments.len(), 2);
    let [first, second] = &list.segments[..] else {
        panic!()
    };
    assert_eq!(first.uri.as_deref(), Some("/abs/1.ts?k=v"));
    assert_eq!(first.date, Some(1_767_229_200_500_000));
    assert_eq!(second.date, Some(1_767_229_206_000_000), "counted on");
    assert_eq!(
        first.range,
        Some(ByteRange {
            start: 20,
            length: 100
        })
    );
    assert_eq!(
        second.range,
        Some(ByteRange {
            start: 120,
            length: 50
        })
    );
    assert_eq!(second.sequence, 8);
    assert!(!list.encrypted && !list.fragmented);
}

#[test]
fn what_cannot_be_played_is_noted() {
    assert!(media("#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n").encrypted);
    assert!(media("#EXTM3U\n#EXT-X-MAP:URI=\"init.mp4\"\n").fragmented);
    for text in ["", "\n", "<html>", "EXTM3U", "{\"a\":1}"] {
        assert_eq!(Playlist::parse(text), None, "{text:?}");
    }
}

#[test]
fn nonsense_is_survived() {
    let text = "#EXTM3U\n#EXT-X-TARGETDURATION:-5\n#EXT-X-MEDIA-SEQUENCE:18446744073709551615\n#EXTINF:nan,\na.ts\n#EXTINF:1e300,\nb.ts\n\
        #EXT-X-PART:DURATION=\"x,URI=\n#EXT-X-PROGRAM-DATE-TIME:9999-99-99T99\n#EXT-X-BYTERANGE:x@y\n#EXTINF\nc.ts\n";
    let list = media(text);
    assert_eq!(list.segments.len(), 3);
    assert_eq!(list.target_duration, Duration::ZERO);
    assert_eq!(list.find(3), None);
}

#[test]
fn dates() {
    for seconds in [0u64, 951_782_399, 951_782_400, 1_795_219_200, 4_107_542_400] {
        let time = UNIX_EPOCH + Duration::new(seconds, 125_000_000);
        assert_eq!(
            unix_micros(&iso8601(time)),
            Some(seconds as i64 * 1_000_000 + 125_000)
        );
    }
    assert_eq!(unix_micros("1970-01-01T00:00:00-0130"), Some(5_400_000_000));
    for text in [
        "",
        "2026-01-01",
        "2026-13-01T00:00:00Z",
        "T",
        "a-b-cTd:e:f",
        "2026-01-01T00:00:00+é",
    ] {
        assert_eq!(unix_micros(text), None, "{text}");
    }
}
