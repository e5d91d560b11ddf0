//! Short segments: parts, each listed as a segment of its own, for players built on ffmpeg that are near.
//!
//! Such players hand on what they read of a segment in lumps of 32 KiB, or at its end: with 1 Mb/s that is a picture a quarter of a second
//! late at worst, and as much sound in hand as it takes to bridge the next lump. Ended after every part, a segment is handed on at once.
//! The price is a request a part, and one after the other, so it is for lines whose round trip is well below a part.
//!
//! They start three entries from the end of the first playlist they see. Each player's playlist carries the number at which it is to start,
//! the next key frame's as far as that can be foretold, and lists that and two more until it is there.

use std::time::{Duration, SystemTime};

use super::{PartState, Session, Settings, Window, millis_since_epoch};
use crate::hls::names::short_segment_name;
use crate::hls::parts::PartList;
use crate::hls::playlist::{Media, MediaSegment};

impl Session {
    /// The media sequence number at which a player that joins now is to start. `None` if short segments are not for it. `opening` is how
    /// long it took to ask again: two round trips, or only one where a proxy had the connection already.
    pub fn short_entry(&self, opening: Duration) -> Option<u64> {
        let window = self.read();
        let list = window.short_list(&self.settings)?;
        let near = opening * 2 < self.settings.length_of(list);
        let worth_it = near && self.further_is_near() && !window.ended;
        worth_it.then(|| window.short_start + list.next() + window.parts_until_key_frame(list))
    }

    /// The media playlist for a player that starts at media sequence number `from`. `None` if there is none.
    pub fn short_media(&self, from: u64) -> Option<String> {
        let window = self.read();
        let list = window.short_list(&self.settings)?;
        let media = window.short(from, list, &self.settings, &self.id);
        drop(window);
        Some(media.render())
    }

    /// A part as a short segment: it may be asked for earlier than a part.
    pub fn short_segment(&self, length: usize, number: u64) -> PartState {
        match self.part(length, number) {
            PartState::ToCome if self.read().is_short_near(length, number, &self.settings) => {
                PartState::Announced
            }
            state => state,
        }
    }
}

impl Window {
    /// How many parts are still to come in the growing segment, if it is like the one before it.
    fn parts_until_key_frame(&self, list: &PartList) -> u64 {
        let count = |sequence| list.of(sequence).count() as u64;
        let pair = self.model_sequence().zip(self.growing_sequence());
        pair.map_or(0, |(last, growing)| {
            count(last).saturating_sub(count(growing))
        })
    }

    /// The parts that serve as short segments: the shortest that do not take more requests than they are worth.
    fn short_list(&self, settings: &Settings) -> Option<&PartList> {
        let mut lists = self.parts.iter();
        let list = lists.find(|list| settings.length_of(list) >= SHORTEST)?;
        (settings.length_of(list) <= LONGEST).then_some(list)
    }

    /// Whether a short segment that is still to come has been listed, or will be soon.
    fn is_short_near(&self, length: usize, number: u64, settings: &Settings) -> bool {
        self.parts.get(length).is_some_and(|list| {
            let ahead = AT_START + announced(settings.length_of(list));
            number <= list.next() + self.parts_until_key_frame(list) + ahead
        })
    }

    fn short(&self, from: u64, list: &PartList, settings: &Settings, id: &str) -> Media {
        let length = settings.length_of(list);
        let next = self.short_start + list.next();
        // What somebody made up leads to where one can start.
        let from = from.min(next + self.parts_until_key_frame(list));
        let mut segments = Vec::new();
        let mut first = next;
        for entry in self.entries.range(self.listed.first..) {
            let mut discontinuity = entry.start.discontinuity;
            let mut date = Some(entry.start.date);
            for part in list.of(entry.segment.sequence()) {
                let number = self.short_start + part.number;
                if number >= from {
                    first = first.min(number);
                    segments.push(MediaSegment {
                        uri: short_segment_name(id, list.factor(), part.number),
                        duration: part.duration,
                        date: date.take(),
                        discontinuity: std::mem::take(&mut discontinuity),
                        gap: false,
                    });
                }
            }
        }
        let finished = segments.len();
        if !self.ended {
            let (to_come, reload) = if next <= from {
                first = from;
                (from..from + AT_START, length)
            } else {
                (next..next + announced(length), RELOAD.max(length))
            };
            segments.extend(to_come.map(|number| MediaSegment {
                uri: short_segment_name(id, list.factor(), number - self.short_start),
                duration: length,
                date: None,
                discontinuity: false,
                gap: false,
            }));
            if let Some(last) = segments.last_mut() {
                last.duration = reload;
            }
        }
        Media {
            target_duration: settings.target_duration,
            discontinuity_sequence: self.listed.discontinuities,
            independent_segments: false,
            media_sequence: first,
            unfinished: segments.len() - finished,
            segments,
            ended: self.ended,
        }
    }
}

/// How many short segments of this length are listed ahead to a player that plays.
fn announced(length: Duration) -> u64 {
    ANNOUNCED.div_duration_f64(length).ceil() as u64
}

/// The media sequence number of the first short segment of a session opened now, so that numbers do not go back over a restart, as long as a
/// short segment lasts 16 ms on average.
pub(super) fn first_sequence(now: SystemTime) -> u64 {
    millis_since_epoch(now) / 16
}

/// Entries in the playlist of a player that starts: where it starts, and two more, since it starts three from the end.
const AT_START: u64 = 3;
/// How far ahead short segments are listed to a player that plays. It asks for one while it reads the one before, and waits a tenth of a
/// second and more when it finds none.
const ANNOUNCED: Duration = Duration::from_millis(750);
/// How often the playlist is reloaded: such players take the duration of its last entry for that.
const RELOAD: Duration = Duration::from_millis(500);
/// Parts this long are used at least. It has to be well above the round trip.
const SHORTEST: Duration = Duration::from_millis(50);
/// Parts this long are used at most: longer ones make lumps themselves.
const LONGEST: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;

    use super::*;
    use crate::hls::parts::BasePart;
    use crate::hls::session::Start;
    use crate::hls::session::tests::{SECOND, grow, open, settings, start};

    const PART: Duration = Duration::from_millis(250);

    /// A session in which a segment of four parts has ended and two of the next are there.
    fn session() -> Session {
        let (session, _) = open(Settings {
            part_target: PART,
            ..settings()
        });
        add(&session, 0..4);
        roll(&session, start(1));
        add(&session, 0..2);
        session
    }

    fn add(session: &Session, pieces: std::ops::Range<usize>) {
        for piece in pieces {
            session.add_part(&BasePart {
                pieces: piece..piece + 1,
                duration: PART,
                independent: piece == 0,
            });
        }
    }

    fn roll(session: &Session, next: Start) {
        let growing = session.roll(SECOND, next, &Bytes::new(), Instant::now());
        grow(&growing.unwrap(), 10);
    }

    /// The first number, what is listed, and the duration of the last entry.
    fn listed(session: &Session, from: u64) -> (u64, String, String) {
        let text = session.short_media(from).unwrap();
        let value = |tag| text.lines().rev().find_map(|line| line.strip_prefix(tag));
        let uris = text.lines().filter_map(|line| match line {
            "#EXT-X-DISCONTINUITY" => Some("|".to_owned()),
            "#EXT-X-ENDLIST" => Some("end".to_owned()),
            line => Some(line.strip_prefix("s-s1-")?.replace(".ts", "")),
        });
        (
            value("#EXT-X-MEDIA-SEQUENCE:").unwrap().parse().unwrap(),
            uris.collect::<Vec<_>>().join(" "),
            value("#EXTINF:").unwrap().to_owned(),
        )
    }

    #[test]
    fn who_joins_is_shown_three_from_the_next_key_frame_on_and_then_what_comes() {
        let session = session();
        let zero = session.read().short_start;
        let from = session.short_entry(Duration::from_millis(20)).unwrap();
        assert_eq!(from, zero + 8);
        let at_start = (from, "8 9 10".to_owned(), "0.25000,".to_owned());
        assert_eq!(listed(&session, from), at_start);
        add(&session, 2..4);
        roll(&session, start(2));
        assert_eq!(listed(&session, from), at_start);
        add(&session, 0..2);
        let later = (from, "8 9 10 11 12".to_owned(), "0.50000,".to_owned());
        assert_eq!(listed(&session, from), later);
        // Who comes without such a number gets all of the list's segments.
        let all = "0 1 2 3 4 5 6 7 8 9 10 11 12".to_owned();
        assert_eq!(listed(&session, 0), (zero, all, "0.50000,".to_owned()));
        for number in 8..14 {
            let state = session.short_segment(0, number);
            let complete = matches!(state, PartState::Complete(..));
            assert_eq!(complete, number < 10, "{number}");
            assert!(complete || matches!(state, PartState::Announced));
        }
        assert!(matches!(session.short_segment(0, 50), PartState::ToCome));
    }

    #[test]
    fn only_for_short_lines_and_suitable_parts() {
        assert!(session().short_entry(PART / 2).is_none());
        let part = |millis| Settings {
            part_target: Duration::from_millis(millis),
            ..settings()
        };
        let near = Duration::from_millis(1);
        assert!(open(part(500)).0.short_entry(near).is_none());
        assert!(open(part(100)).0.short_entry(near).is_some());
        // Of base parts of 20 ms, those of 200 are taken.
        let (session, _) = open(part(20));
        let text = session.short_media(0).unwrap();
        assert!(text.contains("s-s10-0.ts"), "{text}");
    }

    #[test]
    fn a_number_that_lies_too_far_ahead_leads_to_the_next_key_frame() {
        let session = session();
        let zero = session.read().short_start;
        assert_eq!(listed(&session, u64::MAX).0, zero + 8);
    }

    #[test]
    fn a_discontinuity_and_the_end_are_shown() {
        let session = session();
        let discontinuity = true;
        add(&session, 2..4);
        roll(
            &session,
            Start {
                discontinuity,
                ..start(2)
            },
        );
        add(&session, 0..1);
        let uris = |session| listed(session, 0).1;
        assert_eq!(uris(&session), "0 1 2 3 4 5 6 7 | 8 9 10 11");
        session.end(PART, Instant::now());
        assert_eq!(uris(&session), "0 1 2 3 4 5 6 7 | 8 end");
        assert!(session.short_entry(Duration::ZERO).is_none());
        assert!(matches!(session.short_segment(0, 9), PartState::Unknown));
    }
}
