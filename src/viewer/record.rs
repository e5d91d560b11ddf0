//! One viewer's eyes: takes the bytes as they come, and says what a player would have noticed.
//!
//! Latency is measured from the first access unit that had to be waited for: those before it were there when the viewer came.
//!
//! A stall is what a player with a small buffer sees. Its clock starts with that same access unit, and it shows each one as much later
//! as the decoding times say, plus its buffer. One that comes later than that is a stall of the difference, and the player is that
//! much later from then on, since players do not catch up by themselves.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::decode::Decoding;
use super::demux::{Arrival, Demuxer, Faults, Unit};
use super::playlist::Media;
use super::stats::{Clock, Totals};
use crate::media::Track;
use crate::time::Ticks;

/// Measures for one viewer.
#[derive(Debug)]
pub(super) struct Record {
    totals: Arc<Mutex<Totals>>,
    started: Instant,
    /// What a player keeps before it.
    buffer: Duration,
    demuxer: Demuxer,
    faults: Faults,
    units: Vec<Unit>,
    decoding: Option<Decoding>,
    got_playlist: bool,
    got_byte: bool,
    got_picture: bool,
    /// Whether the viewer has caught up with the stream.
    live: bool,
    last: Option<Last>,
    /// The distance of two access units, seen twice in a row, and the distance last seen.
    interval: Option<Ticks>,
    last_step: Ticks,
    /// When a player shows the access unit with decoding time 0.
    schedule: Option<(Instant, Ticks)>,
    /// Decoding and presentation time of the access unit before, as they came.
    last_times: Option<(Ticks, Ticks)>,
    /// Whether pictures come in another order than they are shown.
    reorders: bool,
    resource: Resource,
    /// Where media time 0 lies on the server's wall clock, in microseconds since 1970; and by which segment.
    date_origin: Option<(u64, i64)>,
    /// First presentation time of the latest segments, and when it came.
    first_times: VecDeque<FirstTime>,
}

/// The access unit before.
#[derive(Debug, Clone, Copy)]
struct Last {
    dts: Ticks,
    arrival: Instant,
    /// Arrival less media time and waiting, in microseconds: how long its way was, but for a constant.
    transit: i64,
}

/// The segment or part being received.
#[derive(Debug, Default)]
struct Resource {
    /// Of which segment, if it is the beginning of it.
    begins: Option<u64>,
    /// Whether the server sends it only when it is whole.
    whole: bool,
    /// Whether there has been any media in it.
    has_media: bool,
}

#[derive(Debug, Clone, Copy)]
struct FirstTime {
    sequence: u64,
    pts: Ticks,
    arrival: Instant,
}

impl Record {
    pub(super) fn new(
        totals: Arc<Mutex<Totals>>,
        started: Instant,
        buffer: Duration,
        decoding: Option<Decoding>,
    ) -> Self {
        Self {
            totals,
            started,
            buffer,
            demuxer: Demuxer::new(decoding.is_some()),
            faults: Faults::default(),
            units: Vec::new(),
            decoding,
            got_playlist: false,
            got_byte: false,
            got_picture: false,
            live: false,
            last: None,
            interval: None,
            last_step: Ticks::ZERO,
            schedule: None,
            last_times: None,
            reorders: false,
            resource: Resource::default(),
            date_origin: None,
            first_times: VecDeque::new(),
        }
    }

    /// Whether a picture has been seen.
    pub(super) fn is_playing(&self) -> bool {
        self.got_picture
    }

    /// A media playlist, asked for at `asked`.
    pub(super) fn playlist(&mut self, list: &Media, asked: Instant) {
        let mut totals = lock(&self.totals);
        totals.playlists += 1;
        if !std::mem::replace(&mut self.got_playlist, true) {
            totals.playlist_at.add(micros(self.started.elapsed()));
        }
        drop(totals);
        // The date of a segment that had not begun when the playlist was written is a guess, so it counts only for want of another.
        for segment in &list.segments {
            let first = self
                .first_times
                .iter()
                .find(|first| first.sequence == segment.sequence);
            if let (Some(first), Some(date)) = (first, segment.date)
                && first.arrival < asked
            {
                self.date_origin = Some((segment.sequence, date - in_micros(first.pts)));
            }
        }
    }

    /// What comes next is a resource: the beginning of segment `begins`, or something else; sent only when it is `whole`, or as it grows.
    pub(super) fn begin(&mut self, begins: Option<u64>, whole: bool) {
        self.resource = Resource {
            begins,
            whole,
            has_media: false,
        };
    }

    /// Bytes of the resource. `list` is the playlist that led to it.
    pub(super) fn bytes(&mut self, bytes: &[u8], arrival: Arrival, list: &Media) {
        let mut totals = lock(&self.totals);
        totals.media_bytes += bytes.len() as u64;
        if !std::mem::replace(&mut self.got_byte, true) {
            totals.byte_at.add(micros(arrival.instant - self.started));
        }
        drop(totals);
        self.demuxer.push(bytes, arrival, &mut self.units);
        if !self.resource.whole {
            self.take_units(list);
        }
    }

    /// The resource has ended.
    pub(super) fn end(&mut self, list: &Media) {
        self.demuxer.end_resource(&mut self.units);
        self.take_units(list);
        let faults = self.demuxer.faults();
        let mut totals = lock(&self.totals);
        totals.faults.continuity_gaps += faults.continuity_gaps - self.faults.continuity_gaps;
        // A segment that became a gap while it was waited for has nothing but tables, the same in each.
        if self.resource.has_media {
            totals.faults.repeats += faults.repeats - self.faults.repeats;
        }
        totals.faults.sync_losses += faults.sync_losses - self.faults.sync_losses;
        drop(totals);
        self.faults = faults;
    }

    /// What comes next does not follow on what came last, and that is known.
    pub(super) fn discontinuity(&mut self) {
        self.demuxer.discontinuity();
        self.first_times.clear();
        (self.date_origin, self.last, self.schedule) = (None, None, None);
        self.last_times = None;
    }

    /// The viewer's sums.
    pub(super) fn totals(&self) -> MutexGuard<'_, Totals> {
        lock(&self.totals)
    }

    fn take_units(&mut self, list: &Media) {
        let track = if self.demuxer.has_video() {
            Track::Video
        } else {
            Track::Audio
        };
        let mut units = std::mem::take(&mut self.units);
        let all = units.len() as u64;
        self.resource.has_media |= all > 0;
        units.retain(|unit| unit.track == track);
        lock(&self.totals).other_units += all - units.len() as u64;
        units
            .iter_mut()
            .for_each(|unit| self.order_by_presentation(unit));
        let last = units.last().map(|unit| unit.dts);
        for unit in units.drain(..) {
            let waiting = match last {
                Some(last) if self.resource.whole => in_micros(last - unit.dts).max(0),
                _ => 0,
            };
            self.take(unit, waiting, list);
        }
        self.units = units;
    }

    /// Decoding times may be bent, for players' sake, where pictures are missing: without pictures out of order, presentation times say what
    /// happened.
    fn order_by_presentation(&mut self, unit: &mut Unit) {
        let last = self.last_times.replace((unit.dts, unit.pts));
        let reordered = last.is_some_and(|(dts, pts)| unit.dts > dts && unit.pts < pts);
        if reordered && !self.reorders {
            self.reorders = true;
            (self.last, self.schedule) = (None, None);
        }
        if !self.reorders {
            unit.dts = unit.pts;
        }
    }

    fn take(&mut self, unit: Unit, waiting: i64, list: &Media) {
        if let Some(sequence) = self.resource.begins.take() {
            self.note_first(sequence, &unit, list);
        }
        if !self.got_picture {
            if !unit.key {
                return;
            }
            self.got_picture = true;
            let at = micros(unit.arrival.instant - self.started);
            let mut totals = lock(&self.totals);
            totals.picture_at.add(at);
            totals.playing += 1;
        }
        let transit = micros(unit.arrival.instant - self.started) - in_micros(unit.dts) - waiting;
        if let Some(last) = self.last {
            self.compare(&unit, last, transit);
        }
        let dts_is_new = self.last.is_none_or(|last| unit.dts > last.dts);
        self.last = Some(Last {
            dts: unit.dts,
            arrival: unit.arrival.instant,
            transit,
        });
        let mut totals = lock(&self.totals);
        totals.units += 1;
        totals.keys += u64::from(unit.key);
        if self.live {
            if let Some((_, origin)) = self.date_origin {
                let latency = unit.arrival.unix_micros - origin - in_micros(unit.pts);
                totals.latency(Clock::Date, latency, waiting);
            }
            if let Some(sent) = super::decode::sent_at(&unit.data) {
                totals.latency(Clock::Sent, unit.arrival.unix_micros - sent, waiting);
            }
            if self.resource.whole {
                totals.waiting.add(waiting);
            }
        } else {
            totals.caught_up += 1;
        }
        drop(totals);
        if self.live && dts_is_new {
            self.play(&unit);
        }
        if let Some(decoding) = &mut self.decoding {
            decoding.take(unit, waiting, self.live);
            if decoding.is_over() {
                self.decoding = None;
                self.demuxer.set_whole(false);
            }
        }
    }

    /// Compares an access unit with the one before it.
    fn compare(&mut self, unit: &Unit, last: Last, transit: i64) {
        let step = unit.dts - last.dts;
        let waited = unit.arrival.instant.saturating_duration_since(last.arrival);
        let was_live = self.live;
        self.live |= waited >= step.as_duration() / 2 && step > Ticks::ZERO;
        let mut totals = lock(&self.totals);
        if was_live {
            totals.jitter.add((transit - last.transit).abs());
        }
        if step <= Ticks::ZERO {
            totals.times_back += 1;
            return;
        }
        if step < MOST_STEP {
            totals.media_time += step.as_duration();
        }
        if let Some(interval) = self.interval
            && step.get() > interval.get() * 9 / 5
            && interval > Ticks::ZERO
        {
            totals.pictures_missed +=
                ((step.get() + interval.get() / 2) / interval.get() - 1) as u64;
        }
        // RTMP's milliseconds make the steps uneven by one.
        if (step.get() - self.last_step.get()).abs() <= 180 {
            self.interval = Some(step);
        }
        self.last_step = step;
    }

    /// Plays the access unit when a player with the buffer would.
    fn play(&mut self, unit: &Unit) {
        let arrival = unit.arrival.instant;
        let Some((shown, dts)) = self.schedule else {
            self.schedule = Some((arrival + self.buffer, unit.dts));
            return;
        };
        let due = shown + (unit.dts - dts).as_duration();
        let late = arrival.saturating_duration_since(due);
        if late > STALL {
            lock(&self.totals).stalls.add(micros(late));
        }
        self.schedule = Some((due.max(arrival), unit.dts));
    }

    fn note_first(&mut self, sequence: u64, unit: &Unit, list: &Media) {
        if self.first_times.len() >= FIRST_TIMES {
            self.first_times.pop_front();
        }
        self.first_times.push_back(FirstTime {
            sequence,
            pts: unit.pts,
            arrival: unit.arrival.instant,
        });
        if self.date_origin.is_none()
            && let Some(date) = list.find(sequence).and_then(|segment| segment.date)
        {
            self.date_origin = Some((sequence, date - in_micros(unit.pts)));
        }
    }
}

fn lock(totals: &Mutex<Totals>) -> MutexGuard<'_, Totals> {
    totals.lock().unwrap_or_else(PoisonError::into_inner)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn in_micros(ticks: Ticks) -> i64 {
    ticks.get().saturating_mul(100) / 9
}

/// Lateness that no player shows: less than half a frame of 120 a second.
const STALL: Duration = Duration::from_millis(4);
/// A larger step of decoding times is not media that was sent.
const MOST_STEP: Ticks = Ticks::from_millis(10_000);
/// Segments whose first times are kept: more than any playlist lists behind the one being read.
const FIRST_TIMES: usize = 16;

#[cfg(test)]
mod tests;
