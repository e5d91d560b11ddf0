//! The hub: the streams there are, and the only state that publishers and viewers share.
//!
//! A publisher gets a [`Publication`] and feeds it; viewers find the stream by name and read its [`Output`]. No map guard and no lock
//! leaves this module. No sockets and no runtime here either.

pub mod name;
pub mod registry;
pub mod subscribers;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::flv;
use crate::hls::Now;
use crate::hls::output::Output;
use crate::hls::packager::{Packager, Settings, Stats};
use crate::media::{AccessUnit, Track, Tracks};
use crate::time::{Ticks, Timeline};
use name::StreamName;

/// One named live programme.
#[derive(Debug)]
pub struct Stream {
    name: StreamName,
    started: SystemTime,
    output: Arc<Output>,
    packager: Mutex<Packager>,
    viewers: AtomicUsize,
    /// Milliseconds from `origin` to the end of the stream; [`u64::MAX`] while it lives.
    ended_at: AtomicU64,
    origin: Instant,
}

impl Stream {
    fn new(name: StreamName, settings: Settings, now: Now) -> Self {
        let output = Arc::new(Output::default());
        Self {
            name,
            started: now.wall,
            packager: Mutex::new(Packager::new(settings, Arc::clone(&output))),
            output,
            viewers: AtomicUsize::new(0),
            ended_at: AtomicU64::new(u64::MAX),
            origin: now.instant,
        }
    }

    /// Its name.
    pub fn name(&self) -> &StreamName {
        &self.name
    }

    /// When it started.
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// What its viewers can reach.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// Connections that are playing it.
    pub fn viewers(&self) -> usize {
        self.viewers.load(Ordering::Relaxed)
    }

    /// Counts a viewer until the guard is dropped.
    pub fn join(self: &Arc<Self>) -> Viewer {
        self.viewers.fetch_add(1, Ordering::Relaxed);
        Viewer(Arc::clone(self))
    }

    /// The tracks that are listed; none before it is live.
    pub fn tracks(&self) -> Tracks {
        self.lock().tracks().clone()
    }

    /// Bytes held in its ring by finished segments.
    pub fn ring_bytes(&self) -> u64 {
        self.output
            .sessions()
            .iter()
            .map(|session| session.bytes())
            .sum()
    }

    /// How long ago it ended; `None` while it lives.
    fn ended_for(&self, now: Instant) -> Option<Duration> {
        let ended_at = self.ended_at.load(Ordering::Acquire);
        (ended_at != u64::MAX)
            .then(|| now.saturating_duration_since(self.origin + Duration::from_millis(ended_at)))
    }

    fn end(&self, now: Now) {
        self.lock().end(now);
        let since = now
            .instant
            .saturating_duration_since(self.origin)
            .as_millis() as u64;
        self.ended_at.store(since, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Packager> {
        // A panic while packaging ends that publisher's run; what is already in the ring is whole.
        self.packager.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts as one viewer of a stream while it exists.
#[derive(Debug)]
pub struct Viewer(Arc<Stream>);

impl Viewer {
    /// The stream that is played.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.0
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.0.viewers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One uninterrupted publish: the right to feed a stream. Ends the stream when dropped.
#[derive(Debug)]
pub struct Publication {
    stream: Arc<Stream>,
    timeline: Timeline,
    origin: Instant,
}

impl Publication {
    fn new(stream: Arc<Stream>, now: Now) -> Self {
        Self {
            stream,
            timeline: Timeline::new(TIMELINE_START),
            origin: now.instant,
        }
    }

    /// The stream that is fed.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Takes what the demuxer found. Returns what has gone out in total, and whether the stream is live.
    pub fn push(
        &mut self,
        events: impl IntoIterator<Item = flv::Event>,
        now: Now,
    ) -> (Stats, bool) {
        let arrival = now.instant.saturating_duration_since(self.origin);
        let mut packager = self.stream.lock();
        for event in events {
            match event {
                flv::Event::Video(config) => packager.configure_video(config),
                flv::Event::Audio(config) => packager.configure_audio(config),
                flv::Event::Frame(frame) => {
                    let stamp = match frame.track {
                        Track::Video => {
                            self.timeline
                                .video(frame.timestamp, frame.composition, arrival)
                        }
                        Track::Audio => self.timeline.audio(
                            frame.timestamp,
                            frame.samples,
                            frame.sample_rate,
                            arrival,
                        ),
                    };
                    let unit = AccessUnit {
                        track: frame.track,
                        dts: stamp.dts,
                        pts: stamp.pts,
                        key: frame.key,
                        payload: frame.payload,
                    };
                    packager.push(unit, now);
                }
            }
        }
        (packager.stats(), packager.is_live())
    }

    /// The repairs made to the publisher's times so far.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        self.stream.end(Now::read());
    }
}

/// Where a stream's timeline begins: far enough from zero for the PCR to run ahead of the first picture and for pictures to be
/// decoded before they are shown.
const TIMELINE_START: Ticks = Ticks::from_millis(1000);
