//! Where the playlists of scripts start anew: in front of the first segment behind an outage that players ran dry in. They are those of
//! [`Joining`](crate::hls::names::Listed::Joining) and of [`Whole`](crate::hls::names::Early::Whole).
//!
//! Chromium wants more sound in hand each time it has run dry, up to three seconds, and forgets that only at a seek. hls.js seeks when
//! nothing plays and the playhead lies outside the playlist. So behind an outage these playlists list nothing of what was before, and
//! hls.js has to find them further along than that ends: it goes by media sequence numbers, so one entry more is listed at the end of
//! what was before, to whom the outage's end is told first. That entry is the *bridge*; hls.js lets go of it when it seeks.
//!
//! hls.js takes no playlist without an entry in front of the growing segment, and none that does not begin before what it wants, as dates
//! have it. So a gap of no length comes first, dated back; and then the first part as an entry of its own, behind which hls.js goes on with
//! parts. Behind a gap alone it would wait for the whole segment.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::low_latency::Directive;
use super::{GAP_DURATION, Listing, Session, Settings, Window};
use crate::hls::names::{part_name, segment_name};
use crate::hls::parts::PartList;
use crate::hls::playlist::{LowLatency, Media, MediaPart, MediaSegment};

/// A playlist that starts anew at seams.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Restarting {
    /// The start of the playlist, never before the one of those that go on.
    pub(super) listed: Listing,
    /// Media sequence number, in the ring, of the segment behind the latest seam.
    pub(super) latest: Option<u64>,
    /// What the playlist's media sequence numbers are ahead of the ring's.
    ahead: u64,
}

/// What the playlists of `Listed::Joining` have beyond the ring.
#[derive(Debug, Default)]
pub(super) struct Seams {
    /// Numbered ahead by a bridge and the entries behind it for each seam.
    pub(super) playlist: Restarting,
    /// Whether the first part behind the latest is listed as an entry of its own.
    first_part_apart: bool,
    /// Since when nothing has come from the publisher, who has gone.
    away_since: Option<Instant>,
    /// Whether the next part has a seam in front of it.
    awaited: bool,
    /// What there was before the latest one, while the segment behind that is growing.
    before: Option<Box<Self>>,
}

impl Restarting {
    pub(super) fn new(listed: Listing) -> Self {
        Self {
            listed,
            ..Self::default()
        }
    }

    /// Whether the segment with this number in the ring comes behind the latest seam.
    fn is_in_front_of(&self, sequence: u64) -> bool {
        self.latest == Some(sequence)
    }

    /// Makes of the ring's playlist the early-announcing one of whole segments. That needs no bridge: what was announced before the outage
    /// lies between the playhead and what is numbered behind that.
    pub(super) fn complete(&self, media: &mut Media) {
        if self.is_in_front_of(media.media_sequence)
            && let Some(first) = media.segments.first_mut()
        {
            first.discontinuity = true;
        }
        media.media_sequence += self.ahead;
    }
}

impl Seams {
    pub(super) fn new(listed: Listing) -> Self {
        Self {
            playlist: Restarting::new(listed),
            ..Self::default()
        }
    }

    /// The place in the ring that a blocking reload of these playlists means.
    pub(super) fn place(&self, asked: Directive) -> Directive {
        let sequence = asked.sequence.saturating_sub(self.playlist.ahead);
        let mut part = asked.part;
        if self.first_part_apart && self.playlist.is_in_front_of(sequence) {
            part = match part {
                Some(part) => Some(part.saturating_add(1)),
                // hls.js asks for all of a segment of which it has seen no part, and had better not wait for that.
                None => self.before.is_some().then_some(1),
            };
        }
        Directive { sequence, part }
    }

    /// Puts in front of a playlist that starts behind a seam what comes first there, and returns the number of its first entry. `first` is
    /// the ring's number of what has been listed so far.
    pub(super) fn complete(
        &self,
        first: u64,
        list: &PartList,
        id: &str,
        segments: &mut Vec<(MediaSegment, Vec<MediaPart>)>,
    ) -> u64 {
        let number = first + self.playlist.ahead;
        if !self.playlist.is_in_front_of(first) {
            return number;
        }
        let Some((behind, parts)) = segments.first_mut() else {
            return number;
        };
        behind.discontinuity = false;
        let gap = MediaSegment {
            uri: behind.uri.clone(),
            duration: GAP_DURATION,
            date: behind.date.map(|date| date - DATED_BACK),
            discontinuity: true,
            gap: true,
        };
        let apart = list.of(first).next().filter(|_| self.first_part_apart);
        let apart = apart.map(|part| {
            let part = list.describe(part, id);
            let entry = MediaSegment {
                uri: part.uri.clone(),
                duration: part.duration,
                ..behind.clone()
            };
            behind.duration = behind.duration.saturating_sub(part.duration);
            behind.date = behind.date.map(|date| date + part.duration);
            if !parts.is_empty() {
                parts.remove(0);
            }
            (entry, vec![part])
        });
        let front = [Some((gap, Vec::new())), apart];
        segments.splice(..0, front.into_iter().flatten());
        number - 1 - u64::from(self.first_part_apart)
    }
}

impl Session {
    /// The publisher has gone; nothing has come since then, and the last segment may have been broken off.
    pub(in crate::hls) fn publisher_left(&self, since: Instant, now: Instant) {
        let mut window = self.write();
        window.seams.away_since = Some(since);
        let at = window.growing;
        let last = window.entries.range(at.saturating_sub(2)..at);
        let usual = last.map(|entry| entry.duration).max();
        let next = window.entries.get(at).map(|entry| entry.start);
        if let (Some(usual), Some(next)) = (usual, next) {
            // What has been broken off tells nothing of those that are announced.
            let over = window.begin(next, usual, &Bytes::new(), now);
            self.publish(window, over, now);
        }
    }

    /// What who asks for a playlist of `Listed::Joining` had better wait for, since the publisher has been away for so long that there
    /// will be a seam.
    pub fn awaits_seam(&self, length: usize, now: Instant) -> Option<Directive> {
        let window = self.read();
        let sequence = window.growing_sequence()?;
        let away = match window.seams.away_since {
            Some(since) => now.saturating_duration_since(since) >= SEAM_AFTER,
            // The first part of this length is still to come.
            None => {
                window.seams.before.is_some()
                    && window.parts.get(length)?.of(sequence).next().is_none()
            }
        };
        away.then_some(Directive {
            sequence,
            part: Some(0),
        })
    }

    /// Whether the first segment behind a seam is still growing.
    pub fn has_bridge(&self) -> bool {
        self.read().seams.before.is_some()
    }

    /// Whether players start anew with this segment where segments are fetched whole.
    pub fn starts_anew_at(&self, sequence: u64) -> bool {
        self.read().whole.is_in_front_of(sequence)
    }
}

impl Window {
    /// A new run starts, after nothing has come for as long as `outage`. If it `continues` the last one, the seam of parts is placed with
    /// its first part.
    pub(super) fn end_outage(&mut self, outage: Duration, continues: bool, settings: &Settings) {
        let target = Duration::from_secs(settings.target_duration.into());
        if continues && outage >= target * WHOLE_SEAM_AFTER {
            self.place_whole_seam(1 + settings.announce as u64);
        }
        let seam = outage >= SEAM_AFTER;
        if seam && continues {
            self.seams.awaited = true;
        } else {
            self.seams.away_since = None;
            if seam {
                self.place_seam(false);
            }
        }
    }

    /// Starts the playlist of whole segments anew with the growing segment, behind all that it has listed: so many from that one on.
    fn place_whole_seam(&mut self, count: u64) {
        let Some(sequence) = self.growing_sequence() else {
            return;
        };
        self.whole = self.restarted(self.whole, sequence, count);
    }

    /// A part has been added to the growing segment.
    pub(super) fn place_awaited_seam(&mut self) {
        if self.seams.awaited {
            self.place_seam(true);
        }
    }

    /// The growing segment has ended, or the stream has.
    pub(super) fn drop_bridge(&mut self) {
        self.seams.before = None;
    }

    /// Starts the playlists of `Listed::Joining` anew with the growing segment.
    pub(super) fn place_seam(&mut self, first_part_apart: bool) {
        let Some(sequence) = self.growing_sequence() else {
            return;
        };
        (self.seams.away_since, self.seams.awaited) = (None, false);
        if self.seams.playlist.is_in_front_of(sequence) {
            return;
        }
        let entries = 2 + u64::from(first_part_apart);
        let after = Seams {
            playlist: self.restarted(self.seams.playlist, sequence, entries),
            first_part_apart,
            ..Seams::default()
        };
        let before = std::mem::replace(&mut self.seams, after);
        self.seams.before = first_part_apart.then(|| Box::new(before));
    }

    /// A playlist that starts anew with the growing segment, which has that number, after so many more entries of its own.
    fn restarted(&self, playlist: Restarting, sequence: u64, entries: u64) -> Restarting {
        Restarting {
            listed: self.advanced(playlist.listed, self.growing, playlist.latest),
            latest: Some(sequence),
            ahead: playlist.ahead + entries,
        }
    }

    /// The playlist as it was before the latest seam, and the bridge: it names a part that is still to come, and so keeps who fetches it
    /// waiting until the next reload, which is answered at once, shows what there is instead.
    pub(super) fn bridge(
        &self,
        length: usize,
        id: &str,
        settings: &Settings,
    ) -> Option<LowLatency> {
        let seams = self.seams.before.as_deref()?;
        let list = self.parts.get(length)?;
        let growing = self.entries.get(self.growing)?;
        let first = seams.playlist.listed.first;
        let mut segments = self.describe(first..self.growing, list, id, settings);
        let media_sequence = seams.complete(self.sequence_at(first), list, id, &mut segments);
        let date = segments
            .last()
            .map_or(Some(growing.start.date), |(last, _)| {
                last.date.map(|date| date + last.duration)
            });
        let next = growing.describe(segment_name(id, growing.segment.sequence()));
        let bridge = MediaSegment {
            uri: part_name(id, list.factor(), list.next() + 1),
            duration: BRIDGE,
            date,
            discontinuity: false,
            gap: false,
        };
        segments.extend([(bridge, Vec::new()), (next, Vec::new())]);
        Some(LowLatency {
            target_duration: settings.target_duration,
            part_target: settings.length_of(list),
            discontinuity_sequence: seams.playlist.listed.discontinuities,
            media_sequence,
            segments,
            hint: Some(part_name(id, list.factor(), list.next())),
        })
    }
}

/// An outage this long has a seam behind it. Players with parts have run dry long before; but hls.js takes the bridge for what it is only
/// when it has given up its blocking reload, some 0.8 s after the last part, and asked anew in vain.
const SEAM_AFTER: Duration = Duration::from_millis(1500);
/// Where segments are fetched whole, players have up to two target durations in hand. So many have to be over.
const WHOLE_SEAM_AFTER: u32 = 2;
/// How long the bridge is said to be: so long that hls.js finds its playhead, which stands still up to 0.1 s before the end of what there
/// was, further in front of the seam than the 0.25 s by which it may lie outside a playlist.
const BRIDGE: Duration = Duration::from_millis(500);
/// How much earlier than the segment behind it a gap is dated. hls.js goes on with what is dated behind the last thing it had, if the
/// playlist's start is dated before that; else it finds nothing after a restart of the server, and waits for good.
const DATED_BACK: Duration = Duration::from_secs(60);
