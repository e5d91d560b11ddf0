//! A playlist session: the ring of segments behind one media playlist, whose TARGETDURATION never changes.
//!
//! The ring holds, oldest first, finished segments (listed ones and some that the playlist has forgotten), the growing one, and the
//! announced ones, which exist as pending segments so that viewers can wait on them. One writer, the packager, rolls it forward;
//! viewers look segments up and read the rendered playlist. A stream has one session as long as its encoder keeps its key frame
//! interval; an encoder that breaks it gets another session beside this one ([`super::packager`]).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use self::low_latency::LowLatencyForm;
use self::seams::{Restarting, Seams};
use super::names::{Early, segment_name, whole_segment_name};
use super::parts::{BasePart, PartList, factors};
use super::playlist::{Media, MediaSegment, Rendered};
use super::segment::{Piece, Segment};

mod low_latency;
mod seams;
mod short;

pub use low_latency::{Directive, PartState};

/// What is fixed for a session's life.
#[derive(Debug, Clone)]
pub struct Settings {
    /// TARGETDURATION, whole seconds.
    pub target_duration: u32,
    /// PART-TARGET: no base part is longer.
    pub part_target: Duration,
    /// How many segments are announced after the growing one.
    pub announce: usize,
    /// How long a finished segment stays after the playlist has forgotten it.
    pub retain: Duration,
    /// Bytes of finished segments above which the oldest unlisted one goes, whatever its age.
    pub retain_bytes: u64,
}

/// A segment that grows already when its session opens.
#[derive(Debug)]
pub(super) struct Growing {
    pub(super) segment: Arc<Segment>,
    pub(super) start: Start,
    pub(super) parts: Vec<BasePart>,
}

/// What is known of a segment when it starts.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// PROGRAM-DATE-TIME.
    pub date: SystemTime,
    /// Whether it starts with a key frame.
    pub independent: bool,
    /// Whether it does not continue the one before it.
    pub discontinuity: bool,
}

/// The ring of one media playlist.
#[derive(Debug)]
pub struct Session {
    id: String,
    settings: Settings,
    window: RwLock<Window>,
    /// The early-announcing playlists, rendered.
    media: RwLock<EarlyForms>,
    /// The low-latency playlists, one for each length of parts, by the number of changes they were rendered after.
    low_latency: Vec<LowLatencyForm>,
    opened: Instant,
    /// Milliseconds after `opened` of the last request for the playlist.
    last_request: AtomicU64,
}

/// The early-announcing playlist, rendered.
#[derive(Debug, Clone)]
struct EarlyForms {
    /// By [`Early::index`].
    forms: [Arc<Rendered>; Early::ALL.len()],
    /// The form with `EXT-X-PREFETCH`, once somebody has asked for it.
    prefetch: Arc<OnceLock<Arc<Rendered>>>,
}

/// The finished segments of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Media sequence number of the first.
    pub first: Option<u64>,
    /// How many.
    pub segments: usize,
    /// How long they are together.
    pub duration: Duration,
}

#[derive(Debug)]
struct Window {
    entries: VecDeque<Entry>,
    /// Where the early-announcing playlist starts.
    listed: Listing,
    /// Where the low-latency playlist starts, never behind `listed`. The one that scripts join with starts later, see [`Seams`].
    listed_low_latency: Listing,
    seams: Seams,
    /// The early-announcing playlist of whole segments.
    whole: Restarting,
    /// Media sequence number of the segment that the latest run started with.
    run_start: u64,
    /// Media sequence number of the first of the short segments.
    short_start: u64,
    parts: Vec<PartList>,
    /// Counts changes that show in low-latency playlists.
    version: u64,
    /// Index of the growing entry; behind the last one when the session has ended.
    growing: usize,
    /// Whether all listed segments so far started with a key frame. Once untrue it stays so: the tag is about the whole playlist.
    independent: bool,
    /// Bytes of finished segments.
    bytes: u64,
    ended: bool,
}

/// The start of a playlist.
#[derive(Debug, Clone, Copy, Default)]
struct Listing {
    /// Index of the first entry in it.
    first: usize,
    /// Discontinuities in front of that, for DISCONTINUITY-SEQUENCE.
    discontinuities: u64,
}

#[derive(Debug)]
struct Entry {
    segment: Arc<Segment>,
    start: Start,
    duration: Duration,
    /// Announced, and then passed over: there is nothing in it.
    gap: bool,
}

impl Session {
    /// Opens a session on a segment that is growing already and has these base parts. `expected` is the duration to announce.
    pub(super) fn open(
        id: String,
        settings: Settings,
        growing: Growing,
        expected: Duration,
        now: Instant,
    ) -> Self {
        let Growing {
            segment,
            start,
            parts,
        } = growing;
        let listed = Listing {
            first: 0,
            discontinuities: first_discontinuity(start.date),
        };
        let mut window = Window {
            entries: VecDeque::from([Entry {
                segment: Arc::clone(&segment),
                start,
                duration: expected,
                gap: false,
            }]),
            listed,
            listed_low_latency: listed,
            seams: Seams::new(listed),
            whole: Restarting::new(listed),
            run_start: segment.sequence(),
            short_start: short::first_sequence(start.date),
            parts: factors(settings.part_target)
                .into_iter()
                .map(PartList::new)
                .collect(),
            version: 0,
            growing: 0,
            independent: start.independent,
            bytes: 0,
            ended: false,
        };
        window.announce(settings.announce + 1);
        // For those who know the stream from before a restart of the server.
        window.place_seam(false);
        for part in parts {
            window.add_part(&part);
        }
        let media = RwLock::new(window.early_forms(&id, &settings));
        let low_latency = window
            .parts
            .iter()
            .map(|_| LowLatencyForm::default())
            .collect();
        let (window, last_request) = (RwLock::new(window), AtomicU64::new(0));
        Self {
            id,
            settings,
            window,
            media,
            low_latency,
            opened: now,
            last_request,
        }
    }

    /// What its playlist's and segments' names begin with: unique over streams, sessions and restarts of the server.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// TARGETDURATION, whole seconds.
    pub fn target_duration(&self) -> u32 {
        self.settings.target_duration
    }

    /// An early-announcing media playlist as it is now.
    pub fn media(&self, early: Early) -> Arc<Rendered> {
        let forms = self.media.read().unwrap_or_else(PoisonError::into_inner);
        let form = match early {
            Early::Further if !self.further_is_near() => Early::Usual,
            early => early,
        };
        Arc::clone(&forms.forms[form.index()])
    }

    /// The media playlist with `EXT-X-PREFETCH`. Its players count finished segments only, so it lists as many as the low-latency one.
    /// It is rendered when first asked for after a change, and shared.
    pub fn prefetch(&self) -> Arc<Rendered> {
        let forms = self.media.read().unwrap_or_else(PoisonError::into_inner);
        let shared = Arc::clone(&forms.prefetch);
        drop(forms);
        let render = || {
            let window = self.read();
            let media = window.media(
                window.listed_low_latency,
                Early::Usual,
                &self.id,
                &self.settings,
            );
            Arc::new(Rendered::new(media.render_prefetch()))
        };
        Arc::clone(shared.get_or_init(render))
    }

    /// Whether the session is over.
    pub fn ended(&self) -> bool {
        self.read().ended
    }

    /// Whether this media sequence number lies behind all that is announced.
    pub fn is_to_come(&self, sequence: u64) -> bool {
        let window = self.read();
        let last = window.entries.back().map(|entry| entry.segment.sequence());
        !window.ended && last.is_none_or(|last| sequence > last)
    }

    /// The segment with this media sequence number, if it is announced in any form, or still kept.
    pub fn segment(&self, sequence: u64) -> Option<Arc<Segment>> {
        let window = self.read();
        window
            .entry(sequence)
            .map(|entry| Arc::clone(&entry.segment))
    }

    /// The duration of a segment that is kept: what its playlist entry says.
    pub fn duration(&self, sequence: u64) -> Option<Duration> {
        self.read().entry(sequence).map(|entry| entry.duration)
    }

    /// Waiting for the next segment to start is a good bargain only where it comes soon.
    fn further_is_near(&self) -> bool {
        self.settings.target_duration <= FURTHER_UP_TO
    }

    /// Notes that the playlist has been asked for.
    pub fn touch(&self, now: Instant) {
        let since = now.saturating_duration_since(self.opened).as_millis() as u64;
        self.last_request.fetch_max(since, Ordering::Relaxed);
    }

    /// How long ago the playlist was last asked for; since the opening if never.
    pub fn idle(&self, now: Instant) -> Duration {
        let last = self.opened + Duration::from_millis(self.last_request.load(Ordering::Relaxed));
        now.saturating_duration_since(last)
    }

    /// What of the past can be fetched.
    pub fn kept(&self) -> Kept {
        let window = self.read();
        let finished = window.entries.iter().take(window.growing);
        Kept {
            first: window.entries.front().map(|entry| entry.segment.sequence()),
            segments: window.growing,
            duration: finished.map(|entry| entry.duration).sum(),
        }
    }

    /// Bytes held by finished segments.
    pub fn bytes(&self) -> u64 {
        self.window
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .bytes
    }

    /// The blocks of all finished segments; another session of the stream may have some of them too.
    pub fn finished_blocks(&self) -> Vec<Bytes> {
        let window = self.read();
        let finished = window
            .entries
            .range(..window.growing.min(window.entries.len()));
        finished.flat_map(|entry| entry.segment.blocks()).collect()
    }

    /// Finishes the growing segment, whose duration is now known, and starts the next one, which is returned. `None` once ended. `filler` is
    /// what announced segments consist of that have to be passed over.
    pub fn roll(
        &self,
        duration: Duration,
        next: Start,
        filler: &Bytes,
        now: Instant,
    ) -> Option<Arc<Segment>> {
        let mut window = self.write();
        if window.ended {
            return None;
        }
        let mut over: Vec<_> = window.finish_growing(duration).into_iter().collect();
        over.extend(window.begin(next, duration, filler, now));
        window.announce(self.settings.announce + 1);
        window.list(&self.settings);
        window.evict(&self.settings);
        let segment = window
            .entries
            .get(window.growing)
            .map(|entry| Arc::clone(&entry.segment));
        self.publish(window, over, now);
        segment
    }

    /// Corrects what was assumed of the segment that comes next: a new run starts it, after nothing has come for as
    /// long as `outage`. Returns that segment, which is another one if the run does not continue the last.
    pub(super) fn restart(
        &self,
        start: Start,
        outage: Duration,
        filler: &Bytes,
        now: Instant,
    ) -> Option<Arc<Segment>> {
        self.correct_with(start, filler, now, |window| {
            window.end_outage(outage, !start.discontinuity, &self.settings);
            window.run_start = window.growing_sequence().unwrap_or(window.run_start);
        })
    }

    /// Corrects what was assumed of the segment that comes next, in the same run. Returns that segment, as [`Self::restart`] does.
    pub(super) fn correct(
        &self,
        start: Start,
        filler: &Bytes,
        now: Instant,
    ) -> Option<Arc<Segment>> {
        self.correct_with(start, filler, now, |_| {})
    }

    fn correct_with(
        &self,
        start: Start,
        filler: &Bytes,
        now: Instant,
        then: impl FnOnce(&mut Window),
    ) -> Option<Arc<Segment>> {
        let mut window = self.write();
        let expected = window.entries.get(window.growing)?.duration;
        let over = window.begin(start, expected, filler, now);
        then(&mut window);
        window.announce(self.settings.announce + 1);
        window.list(&self.settings);
        let segment = window
            .entries
            .get(window.growing)
            .map(|entry| Arc::clone(&entry.segment));
        self.publish(window, over, now);
        segment
    }

    /// Adds a complete base part of the growing segment, whose pieces have been appended.
    pub(super) fn add_part(&self, part: &BasePart) {
        let mut window = self.write();
        if window.ended {
            return;
        }
        let changed = window.add_part(part);
        drop(window);
        for (form, changed) in self.low_latency.iter().zip(changed) {
            if changed {
                form.updates.wake_all();
            }
        }
    }

    /// Ends the session: the growing segment, if it got a byte, is the last one; announced ones are withdrawn.
    pub fn end(&self, duration: Duration, now: Instant) {
        let mut window = self.write();
        if window.ended {
            return;
        }
        let grew = window
            .entries
            .get(window.growing)
            .is_some_and(|entry| entry.segment.size() > 0);
        let mut over = Vec::new();
        if grew {
            over.extend(window.finish_growing(duration));
        }
        window.drop_bridge();
        let first_withdrawn = window.growing;
        over.extend(
            window
                .entries
                .drain(first_withdrawn..)
                .map(|entry| entry.segment),
        );
        window.ended = true;
        self.publish(window, over, now);
    }

    /// Renders the changed window, then tells those who wait: the ended segments' readers and the playlists'.
    fn publish(
        &self,
        mut window: RwLockWriteGuard<'_, Window>,
        ended: impl IntoIterator<Item = Arc<Segment>>,
        now: Instant,
    ) {
        window.version += 1;
        let rendered = window.early_forms(&self.id, &self.settings);
        drop(window);
        *self.media.write().unwrap_or_else(PoisonError::into_inner) = rendered;
        for segment in ended {
            segment.end(now);
        }
        for form in &self.low_latency {
            form.updates.wake_all();
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Window> {
        self.window.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Window> {
        self.window.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    /// Makes sure that `count` pending segments follow the growing one.
    fn announce(&mut self, count: usize) {
        while self.entries.len() < self.growing + 1 + count {
            let Some(last) = self.entries.back() else {
                return;
            };
            let start = Start {
                date: last.start.date + last.duration,
                independent: true,
                discontinuity: false,
            };
            let segment = Arc::new(Segment::pending(last.segment.sequence() + 1));
            let duration = last.duration;
            self.entries.push_back(Entry {
                segment,
                start,
                duration,
                gap: false,
            });
        }
    }

    /// Gives the growing entry its true duration and moves on to the next; the segment itself is ended by the caller, after the
    /// playlist has been rendered.
    fn finish_growing(&mut self, duration: Duration) -> Option<Arc<Segment>> {
        self.drop_bridge();
        let entry = self.entries.get_mut(self.growing)?;
        entry.duration = duration;
        let segment = Arc::clone(&entry.segment);
        self.bytes += segment.size();
        self.growing += 1;
        for list in &mut self.parts {
            list.close(&segment);
        }
        Some(segment)
    }

    /// The pending entry at `growing` starts now, as `start` says; those behind it are expected to follow. Returns segments that are passed
    /// over.
    ///
    /// A discontinuity cannot be put in front of an entry that has been listed without one: players number the continuous stretches, and
    /// hls.js gives up when an entry's number changes. So the announced entries are closed as gaps of no length to speak of, and the
    /// first one that nobody has seen starts the new stretch.
    fn begin(
        &mut self,
        start: Start,
        expected: Duration,
        filler: &Bytes,
        now: Instant,
    ) -> Vec<Arc<Segment>> {
        let mut passed_over = Vec::new();
        if start.discontinuity {
            for entry in self.entries.range_mut(self.growing..) {
                entry.gap = true;
                entry.duration = GAP_DURATION;
                entry.start.date = start.date;
                self.bytes += filler.len() as u64;
                // A player may be waiting for it, and takes an empty answer for a broken one.
                entry.segment.append(Piece {
                    bytes: filler.clone(),
                    published: now,
                });
                passed_over.push(Arc::clone(&entry.segment));
            }
            self.growing = self.entries.len();
            // The next one, which `announce` makes of the last.
            self.announce(0);
        }
        self.independent &= start.independent;
        let growing = self.growing;
        for (ahead, entry) in self.entries.range_mut(growing..).enumerate() {
            entry.duration = expected;
            entry.start.date = start.date + expected * ahead as u32;
            if ahead == 0 {
                entry.start = start;
            }
        }
        passed_over
    }

    /// Which lengths of parts that completed one of.
    fn add_part(&mut self, part: &BasePart) -> Vec<bool> {
        let Some(entry) = self.entries.get(self.growing) else {
            return Vec::new();
        };
        self.version += 1;
        let changed = self
            .parts
            .iter_mut()
            .map(|list| list.push(part.clone(), &entry.segment))
            .collect();
        self.place_awaited_seam();
        changed
    }

    fn entry(&self, sequence: u64) -> Option<&Entry> {
        let first = self.entries.front()?.segment.sequence();
        self.entries
            .get(usize::try_from(sequence.checked_sub(first)?).ok()?)
    }

    fn growing_sequence(&self) -> Option<u64> {
        self.entries
            .get(self.growing)
            .map(|entry| entry.segment.sequence())
    }

    /// Moves the starts of the playlists up, never back.
    fn list(&mut self, settings: &Settings) {
        let target = Duration::from_secs(settings.target_duration.into());
        let mut first = self.listed_low_latency.first;
        let mut span: Duration = self
            .entries
            .range(first..self.growing)
            .map(|entry| entry.duration)
            .sum();
        let listed = self.entries.range(first..self.growing);
        let mut bytes: u64 = listed.map(|entry| entry.segment.size()).sum();
        // A window of four target durations, or less where that would be more than a stream may hold.
        while let Some(entry) = self.entries.get(first)
            && first + LISTED_FINISHED < self.growing
            && (span - entry.duration >= target * LOW_LATENCY_WINDOW
                || bytes > settings.retain_bytes
                || self.growing - first > MOST_LISTED)
        {
            span -= entry.duration;
            bytes = bytes.saturating_sub(entry.segment.size());
            first += 1;
        }
        let mut joining = self.growing;
        let mut span = Duration::ZERO;
        while joining > first
            && (joining + LISTED_FINISHED > self.growing || span < target * JOINING_WINDOW)
        {
            joining -= 1;
            span += self
                .entries
                .get(joining)
                .map_or(Duration::ZERO, |entry| entry.duration);
        }
        // Entries with nothing in them push nobody out who has not been fetched yet.
        let (mut usual, mut finished) = (self.growing, 0);
        while usual > first && finished < LISTED_FINISHED && self.growing - usual < MOST_LISTED {
            usual -= 1;
            let gap = self.entries.get(usual).is_some_and(|entry| entry.gap);
            finished += usize::from(!gap);
        }
        self.listed = self.advanced(self.listed, usual, None);
        self.whole.listed = self.advanced(self.whole.listed, usual, self.whole.latest);
        self.listed_low_latency = self.advanced(self.listed_low_latency, first, None);
        let joined = self.seams.playlist;
        self.seams.playlist.listed = self.advanced(joined.listed, joining, joined.latest);
    }

    /// The start of a playlist moved up to an entry, never back. `seam`: the segment that it shows one in front of.
    fn advanced(&self, mut listing: Listing, index: usize, seam: Option<u64>) -> Listing {
        while listing.first < index {
            let gone = self.entries.get(listing.first).is_some_and(|entry| {
                entry.start.discontinuity || seam == Some(entry.segment.sequence())
            });
            listing.discontinuities += u64::from(gone);
            listing.first += 1;
        }
        listing
    }

    /// Drops entries that no playlist lists and that are older or more than is to be kept.
    fn evict(&mut self, settings: &Settings) {
        let unlisted = self.entries.range(..self.listed_low_latency.first);
        let mut unlisted: Duration = unlisted.map(|entry| entry.duration).sum();
        while self.listed_low_latency.first > 0 {
            // An entry goes when what is left without it still spans the time to keep, or the bytes are too many.
            let Some(oldest) = self.entries.front() else {
                return;
            };
            if self.bytes <= settings.retain_bytes
                && self.entries.len() <= MOST_KEPT
                && unlisted - oldest.duration < settings.retain
            {
                return;
            }
            unlisted -= oldest.duration;
            self.bytes = self.bytes.saturating_sub(oldest.segment.size());
            self.entries.pop_front();
            self.listed_low_latency.first -= 1;
            self.seams.playlist.listed.first -= 1;
            self.listed.first -= 1;
            self.whole.listed.first -= 1;
            self.growing -= 1;
            let first = self
                .entries
                .front()
                .map_or(0, |entry| entry.segment.sequence());
            for list in &mut self.parts {
                list.evict_before(first);
            }
        }
    }

    fn early_forms(&self, id: &str, settings: &Settings) -> EarlyForms {
        let forms = Early::ALL.map(|early| {
            let whole = early == Early::Whole;
            let listing = if whole {
                self.whole.listed
            } else {
                self.listed
            };
            let mut media = self.media(listing, early, id, settings);
            if whole {
                self.whole.complete(&mut media);
            }
            Arc::new(Rendered::new(media.render()))
        });
        EarlyForms {
            forms,
            prefetch: Arc::default(),
        }
    }

    fn media(&self, listing: Listing, early: Early, id: &str, settings: &Settings) -> Media {
        let end = match early {
            Early::Further => self.entries.len(),
            _ => self.entries.len().min(self.growing + 1 + settings.announce),
        };
        let uri = match early {
            Early::Whole => whole_segment_name,
            _ => segment_name,
        };
        Media {
            target_duration: settings.target_duration,
            discontinuity_sequence: listing.discontinuities,
            independent_segments: self.independent,
            media_sequence: self.sequence_at(listing.first),
            segments: self
                .entries
                .range(listing.first..end)
                .map(|entry| entry.describe(uri(id, entry.segment.sequence())))
                .collect(),
            unfinished: end - self.growing,
            ended: self.ended,
        }
    }

    fn sequence_at(&self, index: usize) -> u64 {
        self.entries
            .get(index)
            .map_or(0, |entry| entry.segment.sequence())
    }
}

impl Entry {
    fn describe(&self, uri: String) -> MediaSegment {
        MediaSegment {
            uri,
            duration: self.duration,
            date: Some(self.start.date),
            discontinuity: self.start.discontinuity,
            gap: self.gap,
        }
    }
}

/// An identifier for a session opened now: the time in base 36, so unique over restarts of the server too.
pub fn session_id(opened: SystemTime) -> String {
    let mut rest = opened
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis() as u64;
    let mut digits = Vec::new();
    while rest > 0 || digits.is_empty() {
        digits.push(char::from_digit((rest % 36) as u32, 36).unwrap_or('0'));
        rest /= 36;
    }
    digits.iter().rev().collect()
}

/// The discontinuity sequence number a session starts with. It comes from the clock too, so that a player who knows the stream from before a
/// restart sees that its times have nothing to do with the old ones. It is kept small: hls.js spends time in proportion to it (seen
/// with millions, where its reloads timed out), so it starts over every few hours.
fn first_discontinuity(now: SystemTime) -> u64 {
    millis_since_epoch(now) / 4000 % 4096
}

/// The media sequence number a session starts with. It comes from the clock, four to a second, so that numbers never go back over a
/// restart as long as segments last a quarter of a second on average (the least `--segment-duration`).
pub fn first_sequence(now: SystemTime) -> u64 {
    millis_since_epoch(now) / 250
}

fn millis_since_epoch(now: SystemTime) -> u64 {
    let epoch = UNIX_EPOCH + Duration::from_secs(SEQUENCE_EPOCH);
    now.duration_since(epoch).unwrap_or_default().as_millis() as u64
}

/// EXTINF of an announced entry that was passed over: as good as nothing, and still a duration.
const GAP_DURATION: Duration = Duration::from_millis(1);
/// TARGETDURATION up to which [`Early::Further`] is worth the wait for the first picture.
const FURTHER_UP_TO: u32 = 2;
/// Target durations that the finished segments of a low-latency playlist span at least: a client may start three from the end.
const LOW_LATENCY_WINDOW: u32 = 4;
/// The same for the playlists that scripts join with. It is how far in front of the playhead hls.js places what comes behind an outage; when it
/// does not seek there, it waits until that has reached the playhead, four seconds with a window as long as the other one.
const JOINING_WINDOW: u32 = 2;
/// Finished segments in the early-announcing playlist. Two are enough for every player, and VLC's latency is the length of the list.
const LISTED_FINISHED: usize = 2;
/// Finished segments in a low-latency playlist at the most: what the window holds of the shortest segments under the longest
/// TARGETDURATION. Only a publisher that makes changes all the time, each closing what is announced, comes near it.
const MOST_LISTED: usize = 200;
/// Segments in the ring at the most: ten minutes of the shortest.
const MOST_KEPT: usize = 2500;
/// 2026-01-01: keeps sequence numbers below 2^31 until 2043, for players that hold them in 32 bits.
const SEQUENCE_EPOCH: u64 = 1_767_225_600;

#[cfg(test)]
mod tests;
