//! What low-latency viewers see of a ring: parts, blocking reloads, and the playlists that list parts.
//!
//! The ring itself, and when it rolls forward, is the parent's. Here nothing changes but what has been rendered.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Session, Settings, Window};
use crate::hls::names::{Listed, part_name, segment_name};
use crate::hls::parts::PartList;
use crate::hls::playlist::{LowLatency, MediaPart, MediaSegment, Rendered};
use crate::hls::segment::Segment;
use crate::stream::subscribers::Subscribers;

/// One length of parts, as its viewers see it.
#[derive(Debug, Default)]
pub(super) struct LowLatencyForm {
    complete: Mutex<Versioned>,
    joining: Mutex<Versioned>,
    /// What a player that has joined sees from then on.
    joined: Mutex<Versioned>,
    /// What it sees first behind an outage.
    bridge: Mutex<Versioned>,
    pub(super) updates: Subscribers,
}

/// A playlist, and the number of changes it was rendered after.
type Versioned = Option<(u64, Arc<Rendered>)>;

/// A place in a low-latency playlist: `_HLS_msn` and `_HLS_part`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Directive {
    /// Media sequence number.
    pub sequence: u64,
    /// Index of a part in that segment; without one the whole segment is meant.
    pub part: Option<u64>,
}

/// Where a part is.
#[derive(Debug, Clone)]
pub enum PartState {
    /// Complete: these pieces of this segment.
    Complete(Arc<Segment>, Range<usize>),
    /// One of the next to come.
    Announced,
    /// Not announced yet.
    ToCome,
    /// Not kept any more, or never to come.
    Unknown,
}

impl Session {
    /// The lengths of parts on offer, as multiples of the base part.
    pub fn part_factors(&self) -> Vec<usize> {
        self.read().parts.iter().map(PartList::factor).collect()
    }

    /// The index of the parts of this many base parts, which the low-latency methods take.
    pub fn part_length(&self, factor: usize) -> Option<usize> {
        self.read()
            .parts
            .iter()
            .position(|list| list.factor() == factor)
    }

    /// The low-latency media playlist with parts of one length, for a player that joins. It is rendered when first asked for after a
    /// change, and shared.
    pub fn low_latency(&self, length: usize, listed: Listed) -> Option<Arc<Rendered>> {
        self.render(length, listed, listed == Listed::Joining)
    }

    /// The one for players that know what was before an outage, while the first segment behind it is growing.
    pub fn low_latency_bridge(&self, length: usize) -> Option<Arc<Rendered>> {
        let form = self.low_latency.get(length)?;
        self.cached(&form.bridge, |window| {
            window.bridge(length, &self.id, &self.settings)
        })
    }

    /// The same for a player that has joined and says what it waits for: it is not told of parts that are to come.
    pub fn low_latency_reload(&self, length: usize, listed: Listed) -> Option<Arc<Rendered>> {
        self.render(length, listed, false)
    }

    fn render(&self, length: usize, listed: Listed, announce: bool) -> Option<Arc<Rendered>> {
        let form = self.low_latency.get(length)?;
        let cache = match (listed, announce) {
            (Listed::Complete, _) => &form.complete,
            (Listed::Joining, true) => &form.joining,
            (Listed::Joining, false) => &form.joined,
        };
        self.cached(cache, |window| {
            window.low_latency(length, listed, announce, &self.id, &self.settings)
        })
    }

    /// What has been rendered since the last change, or is now.
    fn cached(
        &self,
        cache: &Mutex<Versioned>,
        render: impl FnOnce(&Window) -> Option<LowLatency>,
    ) -> Option<Arc<Rendered>> {
        let mut cached = cache.lock().unwrap_or_else(PoisonError::into_inner);
        let window = self.read();
        if let Some((version, rendered)) = &*cached
            && *version == window.version
        {
            return Some(Arc::clone(rendered));
        }
        let playlist = render(&window)?;
        let version = window.version;
        drop(window);
        let rendered = Arc::new(Rendered::new(playlist.render()));
        *cached = Some((version, Arc::clone(&rendered)));
        Some(rendered)
    }

    /// Those to wake when the low-latency playlist with parts of this length changes.
    pub fn low_latency_updates(&self, length: usize) -> Option<&Subscribers> {
        self.low_latency.get(length).map(|form| &form.updates)
    }

    /// The place in the ring that a blocking reload of such a playlist means.
    pub fn place(&self, listed: Listed, asked: Directive) -> Directive {
        match listed {
            Listed::Complete => asked,
            Listed::Joining => self.read().seams.place(asked),
        }
    }

    /// Whether the low-latency playlist has what a blocking reload asks for. A part behind the last of its segment means the first of
    /// the next (6.2.5.2). Everything is there once the session has ended.
    pub fn reached(&self, length: usize, directive: Directive) -> bool {
        self.read().reached(length, directive)
    }

    /// Whether a blocking reload asks for more than will come soon (6.2.5.2): such a client has lost its way.
    pub fn too_far(&self, length: usize, directive: Directive) -> bool {
        let window = self.read();
        let Some(list) = window.parts.get(length) else {
            return true;
        };
        let Some(growing) = window.growing_sequence() else {
            return false;
        };
        let parts_ahead = (3.0 / (self.settings.part_target.as_secs_f64() * list.factor() as f64))
            .ceil()
            .max(3.0) as u64;
        let done = list.of(growing).count() as u64;
        directive.sequence > growing + 2
            || directive.sequence == growing
                && directive.part.is_some_and(|part| part > done + parts_ahead)
            || directive.sequence > growing && directive.part.is_some_and(|part| part > parts_ahead)
    }

    /// The part with this number, of one length.
    pub fn part(&self, length: usize, number: u64) -> PartState {
        let window = self.read();
        let Some(list) = window.parts.get(length) else {
            return PartState::Unknown;
        };
        match list.get(number) {
            Some(part) => PartState::Complete(Arc::clone(&part.segment), part.pieces.clone()),
            None if window.ended || number < list.next() => PartState::Unknown,
            // With the hint, which names the one behind those that are listed for a player that joins.
            None if number <= list.next() + self.settings.ahead(list) as u64 => {
                PartState::Announced
            }
            None => PartState::ToCome,
        }
    }
}

impl Settings {
    /// The length of a full part.
    pub(super) fn length_of(&self, list: &PartList) -> Duration {
        self.part_target * list.factor() as u32
    }

    /// How many parts of a list are announced to a player that joins.
    fn ahead(&self, list: &PartList) -> usize {
        JOIN_AHEAD
            .div_duration_f64(self.length_of(list))
            .round()
            .max(1.0) as usize
    }
}

impl Window {
    fn reached(&self, length: usize, directive: Directive) -> bool {
        let (Some(list), Some(growing)) = (self.parts.get(length), self.growing_sequence()) else {
            return true;
        };
        let count = |sequence| list.of(sequence).count() as u64;
        match directive.part {
            None => directive.sequence < growing,
            Some(part) if directive.sequence == growing => part < count(growing),
            Some(part)
                if directive.sequence + 1 == growing && part >= count(directive.sequence) =>
            {
                count(growing) > 0
            }
            Some(_) => directive.sequence < growing,
        }
    }

    fn low_latency(
        &self,
        length: usize,
        listed: Listed,
        announce: bool,
        id: &str,
        settings: &Settings,
    ) -> Option<LowLatency> {
        let list = self.parts.get(length)?;
        let listing = match listed {
            Listed::Complete => self.listed_low_latency,
            Listed::Joining => self.seams.playlist.listed,
        };
        let first = listing.first;
        let end = self.entries.len().min(self.growing + 1);
        let mut segments = self.describe(first..end, list, id, settings);
        let announced = if announce {
            self.announce_parts(list, settings.ahead(list), id, &mut segments)
        } else {
            0
        };
        let sequence = self.sequence_at(first);
        let media_sequence = match listed {
            Listed::Complete => sequence,
            Listed::Joining => self.seams.complete(sequence, list, id, &mut segments),
        };
        Some(LowLatency {
            target_duration: settings.target_duration,
            part_target: settings.length_of(list),
            discontinuity_sequence: listing.discontinuities,
            media_sequence,
            segments,
            hint: (!self.ended).then(|| part_name(id, list.factor(), list.next() + announced)),
        })
    }

    /// Entries of a playlist, with their parts where they are near enough to its end.
    pub(super) fn describe(
        &self,
        range: Range<usize>,
        list: &PartList,
        id: &str,
        settings: &Settings,
    ) -> Vec<(MediaSegment, Vec<MediaPart>)> {
        let mut segments = Vec::with_capacity(range.len() + 1);
        let mut from_end = Duration::ZERO;
        for entry in self.entries.range(range).rev() {
            let sequence = entry.segment.sequence();
            let mut parts = Vec::new();
            if from_end <= Duration::from_secs(settings.target_duration.into()) * 3 {
                parts.extend(list.of(sequence).map(|part| list.describe(part, id)));
            }
            from_end += if Some(sequence) == self.growing_sequence() {
                parts.iter().map(|part| part.duration).sum()
            } else {
                entry.duration
            };
            segments.push((entry.describe(segment_name(id, sequence)), parts));
        }
        segments.reverse();
        segments
    }

    /// The segment whose parts tell how those of the growing one will be. One of an earlier run tells nothing: it may have been broken off, and
    /// so name the wrong part for the next key frame.
    pub(super) fn model_sequence(&self) -> Option<u64> {
        let last = self.growing_sequence()?.checked_sub(1)?;
        (last >= self.run_start).then_some(last)
    }

    /// Lists `ahead` parts that are still to come, as if the growing segment and the one behind it had parts like the last one. Returns
    /// how many it listed. Should the parts come otherwise, their names stay right, as they are numbered through; a reload corrects the
    /// rest.
    fn announce_parts(
        &self,
        list: &PartList,
        ahead: usize,
        id: &str,
        segments: &mut Vec<(MediaSegment, Vec<MediaPart>)>,
    ) -> u64 {
        let growing = self.entries.get(self.growing);
        if growing.is_none_or(|entry| entry.segment.size() == 0) {
            // The publisher is away, and nobody knows what comes next and when.
            return 0;
        }
        let model = self.model_sequence().into_iter();
        let model: Vec<_> = model.flat_map(|at| list.of(at)).collect();
        if model.is_empty() {
            return 0;
        }
        let (mut next, end) = (list.next(), list.next() + ahead as u64);
        for (index, entry) in self.entries.range(self.growing..).take(2).enumerate() {
            if index > 0 {
                let uri = segment_name(id, entry.segment.sequence());
                segments.push((entry.describe(uri), Vec::new()));
            }
            let Some((_, parts)) = segments.last_mut() else {
                break;
            };
            for like in model.iter().skip(parts.len()).take((end - next) as usize) {
                parts.push(MediaPart {
                    uri: part_name(id, list.factor(), next),
                    duration: like.duration,
                    independent: like.independent,
                });
                next += 1;
            }
            if next == end || parts.len() != model.len() {
                break;
            }
        }
        next - list.next()
    }
}

/// How far ahead parts are listed for a player that joins: about the time a browser takes from the playlist to the first picture. More gains
/// nothing, as the player then waits for the media.
const JOIN_AHEAD: Duration = Duration::from_millis(400);
