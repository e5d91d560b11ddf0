//! A playlist session: the ring of segments behind one media playlist, whose TARGETDURATION never changes.
//!
//! The ring holds, oldest first, finished segments (listed ones and some that the playlist has forgotten), the growing one, and the
//! announced ones, which exist as pending segments so that viewers can wait on them. One writer, the packager, rolls it forward;
//! viewers look segments up and read the rendered playlist. A stream has one session as long as its encoder keeps its key frame
//! interval; an encoder that breaks it gets another session beside this one ([`super::packager`]).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::playlist::{Media, MediaSegment, Rendered};
use super::segment::Segment;
use crate::stream::subscribers::Subscribers;

/// What is fixed for a session's life.
#[derive(Debug, Clone)]
pub struct Settings {
    /// TARGETDURATION, whole seconds.
    pub target_duration: u32,
    /// How many segments are announced after the growing one.
    pub announce: usize,
    /// How long a finished segment stays after the playlist has forgotten it.
    pub retain: Duration,
    /// Bytes of finished segments above which the oldest unlisted one goes, whatever its age.
    pub retain_bytes: u64,
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
    media: RwLock<Arc<Rendered>>,
    updates: Subscribers,
    opened: Instant,
    /// Milliseconds after `opened` of the last request for the playlist.
    last_request: AtomicU64,
}

#[derive(Debug)]
struct Window {
    entries: VecDeque<Entry>,
    /// Index of the first entry in the playlist.
    listed: usize,
    /// Index of the growing entry; behind the last one when the session has ended.
    growing: usize,
    /// Discontinuities in front of the first listed entry, for DISCONTINUITY-SEQUENCE.
    discontinuities: u64,
    /// Whether all listed segments so far started with a key frame. Once untrue it stays so: the tag is about the whole playlist.
    independent: bool,
    /// Bytes of finished segments.
    bytes: u64,
    ended: bool,
}

#[derive(Debug)]
struct Entry {
    segment: Arc<Segment>,
    start: Start,
    duration: Duration,
}

impl Session {
    /// Opens a session on a segment that is growing already. `expected` is the duration to announce.
    pub fn open(id: String, settings: Settings, growing: Arc<Segment>, start: Start, expected: Duration, now: Instant) -> Self {
        let mut window = Window {
            entries: VecDeque::from([Entry { segment: growing, start, duration: expected }]),
            listed: 0,
            growing: 0,
            discontinuities: 0,
            independent: start.independent,
            bytes: 0,
            ended: false,
        };
        window.announce(settings.announce);
        let media = RwLock::new(Arc::new(window.render(&id, &settings)));
        Self {
            id,
            settings,
            window: RwLock::new(window),
            media,
            updates: Subscribers::default(),
            opened: now,
            last_request: AtomicU64::new(0),
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

    /// The media playlist as it is now.
    pub fn media(&self) -> Arc<Rendered> {
        Arc::clone(&self.media.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Those to wake when the playlist changes.
    pub fn updates(&self) -> &Subscribers {
        &self.updates
    }

    /// The segment with this media sequence number, if it is announced or still kept.
    pub fn segment(&self, sequence: u64) -> Option<Arc<Segment>> {
        let window = self.window.read().unwrap_or_else(PoisonError::into_inner);
        let first = window.entries.front()?.segment.sequence();
        let index = usize::try_from(sequence.checked_sub(first)?).ok()?;
        window.entries.get(index).map(|entry| Arc::clone(&entry.segment))
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

    /// Bytes held by finished segments.
    pub fn bytes(&self) -> u64 {
        self.window.read().unwrap_or_else(PoisonError::into_inner).bytes
    }

    /// Finishes the growing segment, whose duration is now known, and starts the next one, which is returned. `None` once ended.
    pub fn roll(&self, duration: Duration, next: Start) -> Option<Arc<Segment>> {
        let mut window = self.window.write().unwrap_or_else(PoisonError::into_inner);
        if window.ended {
            return None;
        }
        let finished = window.finish_growing(duration);
        window.independent &= next.independent;
        let (growing, expected) = (window.growing, duration);
        let mut segment = None;
        for (ahead, entry) in window.entries.range_mut(growing..).enumerate() {
            entry.duration = expected;
            entry.start.date = next.date + expected * ahead as u32;
            if ahead == 0 {
                entry.start = next;
                segment = Some(Arc::clone(&entry.segment));
            }
        }
        window.announce(self.settings.announce);
        window.list_from(growing.saturating_sub(LISTED_FINISHED));
        window.evict(&self.settings);
        self.publish(window, finished);
        segment
    }

    /// Ends the session: the growing segment, if it got a byte, is the last one; announced ones are withdrawn.
    pub fn end(&self, duration: Duration) {
        let mut window = self.window.write().unwrap_or_else(PoisonError::into_inner);
        if window.ended {
            return;
        }
        let grew = window.entries.get(window.growing).is_some_and(|entry| entry.segment.size() > 0);
        let mut over = Vec::new();
        if grew {
            over.extend(window.finish_growing(duration));
        }
        let first_withdrawn = window.growing;
        over.extend(window.entries.drain(first_withdrawn..).map(|entry| entry.segment));
        window.ended = true;
        self.publish(window, over);
    }

    /// Renders the changed window, then tells those who wait: the ended segments' readers and the playlist's.
    fn publish(&self, window: std::sync::RwLockWriteGuard<'_, Window>, ended: impl IntoIterator<Item = Arc<Segment>>) {
        let rendered = Arc::new(window.render(&self.id, &self.settings));
        drop(window);
        *self.media.write().unwrap_or_else(PoisonError::into_inner) = rendered;
        for segment in ended {
            segment.end();
        }
        self.updates.wake_all();
    }
}

impl Window {
    /// Makes sure that `count` pending segments follow the growing one.
    fn announce(&mut self, count: usize) {
        while self.entries.len() < self.growing + 1 + count {
            let Some(last) = self.entries.back() else { return };
            let start = Start { date: last.start.date + last.duration, independent: true, discontinuity: false };
            let segment = Arc::new(Segment::pending(last.segment.sequence() + 1));
            let duration = last.duration;
            self.entries.push_back(Entry { segment, start, duration });
        }
    }

    /// Gives the growing entry its true duration and moves on to the next; the segment itself is ended by the caller, after the
    /// playlist has been rendered.
    fn finish_growing(&mut self, duration: Duration) -> Option<Arc<Segment>> {
        let entry = self.entries.get_mut(self.growing)?;
        entry.duration = duration;
        let segment = Arc::clone(&entry.segment);
        self.bytes += segment.size();
        self.growing += 1;
        Some(segment)
    }

    /// Moves the start of the playlist up to `index`, never back.
    fn list_from(&mut self, index: usize) {
        while self.listed < index {
            self.discontinuities += u64::from(self.entries.get(self.listed).is_some_and(|entry| entry.start.discontinuity));
            self.listed += 1;
        }
    }

    /// Drops unlisted entries that are older or more than is to be kept.
    fn evict(&mut self, settings: &Settings) {
        let mut unlisted: Duration = self.entries.range(..self.listed).map(|entry| entry.duration).sum();
        while self.listed > 0 && (unlisted > settings.retain || self.bytes > settings.retain_bytes) {
            // An entry goes when what is left without it still spans the time to keep, or the bytes are too many.
            let Some(oldest) = self.entries.front() else { return };
            if self.bytes <= settings.retain_bytes && unlisted - oldest.duration < settings.retain {
                return;
            }
            unlisted -= oldest.duration;
            self.bytes = self.bytes.saturating_sub(oldest.segment.size());
            self.entries.pop_front();
            self.listed -= 1;
            self.growing -= 1;
        }
    }

    fn render(&self, id: &str, settings: &Settings) -> Rendered {
        let segments = self
            .entries
            .range(self.listed..)
            .map(|entry| MediaSegment {
                uri: segment_name(id, entry.segment.sequence()),
                duration: entry.duration,
                date: entry.start.date,
                discontinuity: entry.start.discontinuity,
            })
            .collect();
        let media = Media {
            target_duration: settings.target_duration,
            discontinuity_sequence: self.discontinuities,
            independent_segments: self.independent,
            media_sequence: self.entries.get(self.listed).map_or(0, |entry| entry.segment.sequence()),
            segments,
            ended: self.ended,
        };
        Rendered::new(media.render())
    }
}

/// File name of a session's media playlist.
pub fn media_name(id: &str) -> String {
    format!("{id}.m3u8")
}

/// File name of a segment.
pub fn segment_name(id: &str, sequence: u64) -> String {
    format!("{id}-{sequence}.ts")
}

/// What a segment's file name says: session and media sequence number.
pub fn parse_segment_name(name: &str) -> Option<(&str, u64)> {
    let (id, sequence) = name.strip_suffix(".ts")?.rsplit_once('-')?;
    // One spelling a segment: `+7` and `07` are not names we gave.
    if sequence.len() > 1 && sequence.starts_with('0') || !sequence.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((id, sequence.parse().ok()?))
}

/// An identifier for a session opened now: the time in base 36, so unique over restarts of the server too.
pub fn session_id(opened: SystemTime) -> String {
    let mut rest = opened.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let mut digits = Vec::new();
    while rest > 0 || digits.is_empty() {
        digits.push(char::from_digit((rest % 36) as u32, 36).unwrap_or('0'));
        rest /= 36;
    }
    digits.iter().rev().collect()
}

/// The media sequence number a session starts with. It comes from the clock, four to a second, so that numbers never go back over a
/// restart as long as segments last a quarter of a second on average (the least `--segment-duration`).
pub fn first_sequence(now: SystemTime) -> u64 {
    let since = now.duration_since(UNIX_EPOCH + Duration::from_secs(SEQUENCE_EPOCH)).unwrap_or_default();
    since.as_millis() as u64 / 250
}

/// Finished segments in the playlist. Two are enough for every player, and VLC's latency is the length of the list.
const LISTED_FINISHED: usize = 2;
/// 2026-01-01: keeps sequence numbers below 2^31 until 2043, for players that hold them in 32 bits.
const SEQUENCE_EPOCH: u64 = 1_767_225_600;

#[cfg(test)]
mod tests;
