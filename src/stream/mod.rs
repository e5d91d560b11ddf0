//! The hub: the streams there are, and the only state that publishers and viewers share.
//!
//! A publisher gets a [`Publication`] and feeds it; viewers find the stream by name and read its [`Output`]. No map guard and no lock
//! leaves this module. No sockets and no runtime here either.

mod audience;
pub mod connections;
pub mod health;
pub mod history;
pub mod name;
pub mod registry;
pub mod report;
pub mod subscribers;
pub mod warnings;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::flv;
use crate::hls::Now;
use crate::hls::output::Output;
use crate::hls::packager::{Packager, Settings, Stats};
use crate::media::{AccessUnit, Track, Tracks};
use crate::time::{Repairs, Ticks, Timeline};
use audience::Audience;
use health::Health;
use history::{History, RunEnd};
use name::StreamName;
use report::Report;
use subscribers::Subscribers;

/// One named live programme.
#[derive(Debug)]
pub struct Stream {
    name: StreamName,
    started: SystemTime,
    output: Arc<Output>,
    feed: Mutex<Feed>,
    /// Those publishers to wake that may have been replaced.
    takeovers: Subscribers,
    audience: Audience,
    delivery: Delivery,
}

/// Pieces whose way to a waiting viewer was measured, and their times in microseconds, added up.
#[derive(Debug, Default)]
struct Delivery {
    pieces: AtomicU64,
    micros: AtomicU64,
}

impl Delivery {
    fn totals(&self) -> (u64, u64) {
        let [pieces, micros] = [&self.pieces, &self.micros].map(|sum| sum.load(Ordering::Relaxed));
        (pieces, micros)
    }
}

/// The publisher's side of a stream.
#[derive(Debug)]
struct Feed {
    packager: Packager,
    /// Number of the newest run; an older one feeds nothing any more.
    run: u64,
    state: FeedState,
    health: Health,
    history: History,
    /// When a time of this run was last repaired.
    last_repair: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FeedState {
    /// The newest run goes on.
    Publishing,
    /// It has ended; another may continue it until then.
    Waiting { until: Instant },
    /// The stream is over since then.
    Ended { since: Instant },
}

/// What a publish means to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entrance {
    /// It starts the stream.
    Start,
    /// It continues the stream after an outage.
    Reconnect,
    /// It replaces another publisher.
    Takeover,
}

impl Entrance {
    /// The word for it in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Reconnect => "reconnect",
            Self::Takeover => "takeover",
        }
    }
}

impl Stream {
    fn new(name: StreamName, settings: Settings, now: Now) -> Self {
        let output = Arc::new(Output::default());
        let packager = Packager::new(settings, Arc::clone(&output));
        Self {
            name,
            started: now.wall,
            output,
            feed: Mutex::new(Feed {
                packager,
                run: 0,
                state: FeedState::Waiting { until: now.instant },
                health: Health::new(now.instant),
                history: History::default(),
                last_repair: None,
            }),
            takeovers: Subscribers::default(),
            audience: Audience::new(now.instant),
            delivery: Delivery::default(),
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
        self.audience.viewers()
    }

    /// Whether somebody plays it, or did a moment ago. If not, nobody notices what is a little late.
    pub fn is_watched(&self, now: Instant) -> bool {
        self.audience.is_present(now)
    }

    /// Resolves when somebody plays it.
    pub async fn watched(&self) {
        self.audience.arrives().await
    }

    /// Notes how long a piece took from the ring to a waiting viewer's socket.
    pub fn delivered(&self, after: Duration) {
        self.delivery.pieces.fetch_add(1, Ordering::Relaxed);
        self.delivery
            .micros
            .fetch_add(after.as_micros() as u64, Ordering::Relaxed);
    }

    /// How it is doing.
    pub fn report(&self, now: Instant) -> Report {
        let feed = self.lock();
        Report {
            state: match feed.state {
                FeedState::Ended { .. } => report::State::Ended,
                FeedState::Waiting { .. } => report::State::Waiting,
                FeedState::Publishing if self.output.multivariant().is_some() => {
                    report::State::Live
                }
                FeedState::Publishing => report::State::Starting,
            },
            tracks: feed.packager.tracks().clone(),
            snapshot: feed.health.snapshot(now, self.delivery.totals()),
            runs: feed.history.to_vec(),
            segment_duration: feed.packager.segment_duration(),
            last_repair: feed
                .last_repair
                .map(|last| now.saturating_duration_since(last)),
        }
    }

    /// Counts a viewer until the guard is dropped.
    pub fn join(self: &Arc<Self>) -> Viewer {
        self.audience.join();
        Viewer(Arc::clone(self))
    }

    /// The tracks that are listed; none before it is live.
    pub fn tracks(&self) -> Tracks {
        self.lock().packager.tracks().clone()
    }

    /// Bytes held in its ring by finished segments. What two sessions share counts once.
    pub fn ring_bytes(&self) -> u64 {
        match &self.output.sessions()[..] {
            [] => 0,
            [session] => session.bytes(),
            sessions => {
                let blocks = sessions
                    .iter()
                    .flat_map(|session| session.finished_blocks());
                let mut counted = HashSet::new();
                blocks
                    .filter(|block| counted.insert(block.as_ptr()))
                    .map(|block| block.len() as u64)
                    .sum()
            }
        }
    }

    /// Starts a run, as `entrance` of this stream's life. `None` if the stream is over, or busy and not to be taken over.
    fn enter(
        self: &Arc<Self>,
        take_over: bool,
        reconnect: Reconnect,
        now: Now,
    ) -> Option<Publication> {
        let mut feed = self.lock();
        let entrance = match feed.state {
            FeedState::Ended { .. } => return None,
            FeedState::Publishing if !take_over => return None,
            FeedState::Publishing => {
                feed.packager.pause(now);
                feed.history.end(RunEnd::Replaced, now.wall);
                Entrance::Takeover
            }
            FeedState::Waiting { .. } if feed.run == 0 => Entrance::Start,
            FeedState::Waiting { .. } => Entrance::Reconnect,
        };
        feed.run += 1;
        feed.state = FeedState::Publishing;
        feed.health.begin_run(now.instant);
        feed.last_repair = None;
        let number = feed.run;
        feed.history.begin(number, entrance, now.wall);
        let start = feed.packager.resume_at().unwrap_or(TIMELINE_START);
        let run = feed.run;
        drop(feed);
        self.takeovers.wake_all();
        let stream = Arc::clone(self);
        let (timeline, origin) = (Timeline::new(start), now.instant);
        Some(Publication {
            stream,
            run,
            entrance,
            reconnect,
            goodbye: false,
            end: RunEnd::Lost,
            timeline,
            origin,
        })
    }

    /// Ends the stream if nobody has come back in time. True if it has been over for `linger`.
    fn age(&self, linger: Duration, now: Now) -> bool {
        let mut feed = self.lock();
        match feed.state {
            FeedState::Publishing => false,
            FeedState::Waiting { until } => {
                if now.instant >= until {
                    feed.end(now, RunEnd::Lost);
                }
                false
            }
            FeedState::Ended { since } => now.instant.saturating_duration_since(since) >= linger,
        }
    }

    /// Ends the stream now, whoever publishes. False if it is over already.
    pub fn end(&self, now: Now) -> bool {
        let ended = self.lock().end(now, RunEnd::Ended);
        self.takeovers.wake_all();
        ended
    }

    fn lock(&self) -> MutexGuard<'_, Feed> {
        // A panic while packaging ends that publisher's run; what is already in the ring is whole.
        self.feed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feed {
    /// Ends the stream, and the run that goes on, if one does, for this reason. False if it is over already.
    fn end(&mut self, now: Now, reason: RunEnd) -> bool {
        if matches!(self.state, FeedState::Ended { .. }) {
            return false;
        }
        self.packager.end(now);
        self.history.end(reason, now.wall);
        self.state = FeedState::Ended { since: now.instant };
        self.run += 1;
        true
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
        self.0.audience.leave(Instant::now());
    }
}

/// How long a stream waits for a publisher that has gone.
#[derive(Debug, Clone, Copy)]
pub struct Reconnect {
    /// When it vanished: the connection broke, or was closed without a word.
    pub after_loss: Duration,
    /// When it said goodbye. It may be a person who restarts an encoder to change its settings.
    pub after_goodbye: Duration,
}

/// One uninterrupted publish: the right to feed a stream, until it is dropped or somebody else takes over.
#[derive(Debug)]
pub struct Publication {
    stream: Arc<Stream>,
    run: u64,
    entrance: Entrance,
    reconnect: Reconnect,
    goodbye: bool,
    end: RunEnd,
    timeline: Timeline,
    origin: Instant,
}

impl Publication {
    /// The stream that is fed.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// What this publish means to the stream.
    pub fn entrance(&self) -> Entrance {
        self.entrance
    }

    /// Resolves when this run may feed the stream no longer: another publisher has taken over, or the stream was ended.
    pub async fn replaced(&self) {
        self.stream
            .takeovers
            .wait_for(|| (self.stream.lock().run != self.run).then_some(()))
            .await
    }

    /// The publisher has said goodbye, so it need not be waited for as long.
    pub fn say_goodbye(&mut self) {
        self.goodbye = true;
        self.end = RunEnd::Goodbye;
    }

    /// Why the run ends, if it was not a goodbye. Without a word it counts as lost.
    pub fn ends_for(&mut self, reason: RunEnd) {
        self.end = reason;
    }

    /// What the encoder calls itself, and the identifier of its connection.
    pub fn introduce(&self, encoder: Option<&str>, connection: u64) {
        let mut feed = self.stream.lock();
        if feed.run == self.run
            && let Some(run) = feed.history.last_mut()
        {
            run.encoder = encoder.map(history::printable);
            run.connection = Some(connection);
        }
    }

    /// Takes what the demuxer found. Returns what has gone out in total, and whether the stream can be watched.
    pub fn push(
        &mut self,
        events: impl IntoIterator<Item = flv::Event>,
        now: Now,
    ) -> (Stats, bool) {
        let arrival = now.instant.saturating_duration_since(self.origin);
        let mut feed = self.stream.lock();
        let feed = &mut *feed;
        let packager = &mut feed.packager;
        if feed.run == self.run {
            feed.health
                .tick(now.instant, || self.stream.delivery.totals());
        }
        let since_start = Ticks::from_duration(arrival);
        for event in events {
            if feed.run != self.run {
                // Replaced; the connection will learn of it in a moment.
                break;
            }
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
                    feed.health.note(&unit, since_start);
                    packager.push(unit, now);
                }
            }
        }
        if feed.run == self.run {
            let repairs: &Repairs = self.timeline.repairs();
            if let Some(run) = feed
                .history
                .last_mut()
                .filter(|run| run.repairs != *repairs)
            {
                run.repairs = *repairs;
                feed.last_repair = Some(now.instant);
            }
        }
        (
            packager.stats(),
            self.stream.output.multivariant().is_some(),
        )
    }

    /// What the stream has sent so far, in earlier runs too.
    pub fn stats(&self) -> Stats {
        self.stream.lock().packager.stats()
    }

    /// Ends the run at `now`, as dropping it does at the present moment.
    pub fn end(mut self, now: Now) {
        self.leave(now);
    }

    fn leave(&mut self, now: Now) {
        let mut feed = self.stream.lock();
        if feed.run != self.run || feed.state != FeedState::Publishing {
            return;
        }
        let wait = if self.goodbye {
            self.reconnect.after_goodbye
        } else {
            self.reconnect.after_loss
        };
        if wait.is_zero() {
            feed.end(now, self.end);
        } else {
            feed.packager.pause(now);
            feed.history.end(self.end, now.wall);
            feed.state = FeedState::Waiting {
                until: now.instant + wait,
            };
        }
    }

    /// The repairs made to the publisher's times so far.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        self.leave(Now::read());
    }
}

/// Where a stream's timeline begins: far enough from zero for the PCR to run ahead of the first picture and for pictures to be
/// decoded before they are shown.
const TIMELINE_START: Ticks = Ticks::from_millis(1000);
