//! Media playlists, read by code that knows nothing of the server's, and the rules that hold from one to the next. No server is needed
//! for it.

use std::collections::BTreeMap;

/// A media playlist.
#[derive(Debug, Clone, Default)]
pub(crate) struct Playlist {
    pub(crate) target_duration: u64,
    pub(crate) media_sequence: u64,
    pub(crate) independent: bool,
    pub(crate) ended: bool,
    pub(crate) entries: Vec<Entry>,
    pub(crate) text: String,
}

/// An entry of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Entry {
    pub(crate) sequence: u64,
    pub(crate) uri: String,
    pub(crate) seconds: f64,
    /// PROGRAM-DATE-TIME, milliseconds since midnight.
    pub(crate) date: i64,
    pub(crate) discontinuity: bool,
}

impl Playlist {
    pub(crate) fn parse(text: &str) -> Self {
        let (rest, _) = m3u8_rs::parse_media_playlist(text.as_bytes())
            .unwrap_or_else(|error| panic!("not a media playlist ({error}):\n{text}"));
        assert!(rest.is_empty(), "left over: {rest:?}");
        assert!(text.starts_with("#EXTM3U\n"), "{text}");
        let mut playlist = Self {
            text: text.to_owned(),
            ..Self::default()
        };
        let mut entry = Entry::default();
        for line in text.lines() {
            let value = line.split_once(':').map_or("", |(_, value)| value);
            if line.starts_with("#EXT-X-TARGETDURATION:") {
                playlist.target_duration = value.parse().unwrap();
            } else if line.starts_with("#EXT-X-MEDIA-SEQUENCE:") {
                playlist.media_sequence = value.parse().unwrap();
            } else if line == "#EXT-X-INDEPENDENT-SEGMENTS" {
                playlist.independent = true;
            } else if line == "#EXT-X-ENDLIST" {
                playlist.ended = true;
            } else if line == "#EXT-X-DISCONTINUITY" {
                entry.discontinuity = true;
            } else if line.starts_with("#EXT-X-PROGRAM-DATE-TIME:") {
                entry.date = millis_of_day(value);
            } else if line.starts_with("#EXTINF:") {
                entry.seconds = value.strip_suffix(',').unwrap().parse().unwrap();
            } else if !line.starts_with('#') {
                entry.uri = line.to_owned();
                entry.sequence = playlist.media_sequence + playlist.entries.len() as u64;
                playlist.entries.push(std::mem::take(&mut entry));
            }
        }
        playlist
    }

    pub(crate) fn last_sequence(&self) -> Option<u64> {
        self.entries.last().map(|entry| entry.sequence)
    }
}

/// Checks what RFC 8216 (6.2.1 and 4.3) demands of the successive states of one playlist.
pub(crate) fn check_history(history: &[Playlist]) {
    let first = history.first().expect("at least one state");
    let mut known: BTreeMap<u64, Entry> = BTreeMap::new();
    for (index, playlist) in history.iter().enumerate() {
        let text = &playlist.text;
        assert_eq!(
            playlist.target_duration, first.target_duration,
            "TARGETDURATION changed:\n{text}"
        );
        for entry in &playlist.entries {
            assert!(
                entry.seconds.round() as u64 <= playlist.target_duration,
                "EXTINF {} rounds to more than TARGETDURATION:\n{text}",
                entry.seconds
            );
            if let Some(before) = known.get(&entry.sequence) {
                assert_eq!(
                    before.uri, entry.uri,
                    "the URI of a sequence number changed:\n{text}"
                );
            }
            known.insert(entry.sequence, entry.clone());
        }
        if let Some(before) = index.checked_sub(1).and_then(|before| history.get(before)) {
            assert!(
                before.media_sequence <= playlist.media_sequence,
                "MEDIA-SEQUENCE went back:\n{text}"
            );
            assert!(!before.ended || playlist.ended, "ENDLIST was taken back");
            assert!(
                playlist.ended || before.last_sequence() <= playlist.last_sequence(),
                "an announced segment was taken back:\n{text}"
            );
        }
    }
}

/// Checks that PROGRAM-DATE-TIME runs on with the media, in a stream that was published in real time.
pub(crate) fn check_dates(history: &[Playlist]) {
    for playlist in history {
        for pair in playlist.entries.windows(2) {
            let expected = pair[0].date + (pair[0].seconds * 1000.0).round() as i64;
            // Times of day, so modulo midnight; the wall clock may be followed by some milliseconds a segment.
            let off = (pair[1].date - expected).rem_euclid(86_400_000);
            let off = off.min(86_400_000 - off);
            assert!(
                pair[1].discontinuity || off <= 60,
                "PROGRAM-DATE-TIME is off by {off} ms:\n{}",
                playlist.text
            );
        }
    }
}

fn millis_of_day(date: &str) -> i64 {
    let time = date.split_once('T').unwrap().1.strip_suffix('Z').unwrap();
    let mut fields = time.split([':', '.']).map(|n| n.parse::<i64>().unwrap());
    let mut next = || fields.next().unwrap();
    ((next() * 60 + next()) * 60 + next()) * 1000 + next()
}
