//! The viewers at the live edge of a segment, and the task that writes each new piece to all of them.
//!
//! One wake-up a piece, however many viewers there are; then a loop of one nonblocking write each. On several processors the viewers of a
//! segment are dealt out to as many such tasks. A round goes from the oldest connection to the newest: a crowd that arrives delays itself,
//! and not those who have been watching.
//!
//! The order that loses nobody: a viewer joins, writes what there is, and under its lock finds that there is nothing more; only then is it
//! attended to. A piece that is appended later starts a round that begins after the viewer has joined, and so comes by.

use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::ops::Bound;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;
use tokio::runtime::Handle;
use tokio::time::{Sleep, sleep_until};
use tracing::error;

use super::framing::Window;
use super::reader::Reader;
use crate::hls::segment::Segment;
use crate::metrics::Metrics;

/// The segments that are being watched as they grow.
#[derive(Debug, Default)]
pub(crate) struct Edges {
    /// By the segment's address, which nothing else has while its edge exists.
    table: Mutex<HashMap<usize, Weak<Edge>>>,
    /// Where writers run, if not where viewers' connections do.
    writers: Option<Handle>,
}

/// The live edge of one segment.
#[derive(Debug)]
pub(super) struct Edge {
    edges: Arc<Edges>,
    segment: Arc<Segment>,
    shards: Box<[Shard]>,
    /// Viewers that have joined so far.
    joined: AtomicUsize,
    metrics: Arc<Metrics>,
}

/// Those that one writer goes through.
#[derive(Debug, Default)]
struct Shard {
    present: Mutex<Present>,
    /// Wakes the writer when the last one has left, or the first one waits for its head.
    changed: AtomicWaker,
    /// The writer has panicked.
    broken: AtomicBool,
}

#[derive(Debug, Default)]
struct Present {
    readers: BTreeMap<Key, Arc<Reader>>,
    /// Whether there is a writer.
    written: bool,
    /// By when somebody is to have the head of its answer.
    heads_due: Option<Instant>,
}

/// A viewer's place at the edge, left when dropped.
#[derive(Debug)]
pub(super) struct Joined {
    edge: Arc<Edge>,
    shard: usize,
    key: Key,
}

/// Where in a round a viewer comes: the number of its connection, which grows from one to the next, and what tells apart those without.
type Key = (u64, usize);

impl Edges {
    /// None yet, with writers that run there.
    pub(crate) fn written_on(runtime: &Handle) -> Self {
        Self {
            writers: Some(runtime.clone()),
            ..Self::default()
        }
    }

    /// The edge of a segment.
    pub(super) fn of(
        self: &Arc<Self>,
        segment: &Arc<Segment>,
        metrics: &Arc<Metrics>,
    ) -> Arc<Edge> {
        let mut table = self.lock();
        let key = address(segment);
        if let Some(edge) = table.get(&key).and_then(Weak::upgrade) {
            return edge;
        }
        let workers = self.runtime().metrics().num_workers();
        let edge = Arc::new(Edge {
            edges: Arc::clone(self),
            segment: Arc::clone(segment),
            shards: (0..workers).map(|_| Shard::default()).collect(),
            joined: AtomicUsize::new(0),
            metrics: Arc::clone(metrics),
        });
        table.insert(key, Arc::downgrade(&edge));
        edge
    }

    fn runtime(&self) -> Handle {
        self.writers.clone().unwrap_or_else(Handle::current)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<usize, Weak<Edge>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Edge {
    /// The segment.
    pub(super) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Puts a viewer among those that a writer goes through.
    pub(super) fn join(self: &Arc<Self>, reader: &Arc<Reader>) -> Joined {
        let joined = self.joined.fetch_add(1, Ordering::Relaxed);
        let shard = joined / TOGETHER % self.shards.len().max(1);
        let key = (reader.connection, joined);
        let mut present = self.shards[shard].lock();
        present.readers.insert(key, Arc::clone(reader));
        if !std::mem::replace(&mut present.written, true) {
            self.edges.runtime().spawn(write(Writer {
                edge: Arc::clone(self),
                shard,
            }));
        }
        drop(present);
        Joined {
            edge: Arc::clone(self),
            shard,
            key,
        }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        let mut table = self.edges.lock();
        let key = address(&self.segment);
        // There may be a new one already.
        if table.get(&key).is_some_and(|edge| edge.strong_count() == 0) {
            table.remove(&key);
        }
    }
}

impl Shard {
    fn lock(&self) -> MutexGuard<'_, Present> {
        // Nothing in the critical sections can leave the table half changed.
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Joined {
    /// Leaves the head of the answer to the writer, if that is worth it: many who ask for the next segment at once are sent its first piece
    /// within a picture's time, and then the head can ride with it. It goes without when that takes too long.
    pub(super) fn leaves_head(&self) -> bool {
        let shard = &self.edge.shards[self.shard];
        let mut present = shard.lock();
        if present.readers.len() < MANY {
            return false;
        }
        if present.heads_due.is_none() {
            present.heads_due = Some(Instant::now() + HEAD_HELD);
            drop(present);
            shard.changed.wake();
        }
        true
    }

    /// Whether nobody is attended to here any more, because of a mistake of ours.
    pub(super) fn is_broken(&self) -> bool {
        self.edge.shards[self.shard].broken.load(Ordering::Acquire)
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        let shard = &self.edge.shards[self.shard];
        let mut present = shard.lock();
        present.readers.remove(&self.key);
        let deserted = present.readers.is_empty();
        drop(present);
        if deserted {
            shard.changed.wake();
        }
    }
}

/// What a writer holds on to.
#[derive(Debug)]
struct Writer {
    edge: Arc<Edge>,
    shard: usize,
}

/// Writes each new piece to everybody who is there, until the segment has ended or nobody is left.
async fn write(writer: Writer) {
    let (edge, shard) = (&writer.edge, writer.shard());
    let segment = &edge.segment;
    let growth = segment.growth().subscribe();
    let mut window = Window::default();
    // What there was when the last round began. What came during it has not come to everybody.
    let mut seen = None;
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    loop {
        let stays = poll_fn(|context| {
            // Register before looking, else what comes in between wakes nobody.
            growth.register(context);
            shard.changed.register(context.waker());
            let mut present = shard.lock();
            if present.readers.is_empty() {
                present.written = false;
                return Poll::Ready(false);
            }
            let due = present.heads_due;
            drop(present);
            if seen != Some(segment.progress()) {
                return Poll::Ready(true);
            }
            let Some(due) = due else { return Poll::Pending };
            timer
                .get_or_insert_with(|| Box::pin(sleep_until(due.into())))
                .as_mut()
                .poll(context)
                .map(|()| true)
        })
        .await;
        timer = None;
        if !stays {
            return;
        }
        let (pieces, ended) = segment.progress();
        seen = Some((pieces, ended));
        round(&writer, &mut window).await;
        // Whoever has not got the end now goes on by itself.
        if ended {
            return;
        }
    }
}

/// Goes once through everybody.
async fn round(writer: &Writer, window: &mut Window) {
    let (segment, shard) = (&writer.edge.segment, writer.shard());
    // Everybody who is there by now gets its head.
    shard.lock().heads_due = None;
    window.follow(segment);
    let mut batch = Vec::with_capacity(BATCH);
    let (mut last, mut since) = (None, Instant::now());
    loop {
        last = shard.fill(&mut batch, last);
        if batch.is_empty() {
            return;
        }
        for reader in batch.drain(..) {
            reader.attend(window);
        }
        if since.elapsed() >= TURN {
            tokio::task::yield_now().await;
            since = Instant::now();
        }
        if !window.is_current(segment) {
            window.follow(segment);
        }
    }
}

impl Shard {
    /// The next few, behind a place; returns the place of the last.
    fn fill(&self, batch: &mut Vec<Arc<Reader>>, behind: Option<Key>) -> Option<Key> {
        let present = self.lock();
        let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
        let next = present.readers.range((from, Bound::Unbounded)).take(BATCH);
        let mut last = behind;
        batch.extend(next.map(|(&key, reader)| {
            last = Some(key);
            Arc::clone(reader)
        }));
        last
    }
}

impl Writer {
    fn shard(&self) -> &Shard {
        &self.edge.shards[self.shard]
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        self.edge.metrics.panics.inc();
        error!("a task that wrote to viewers panicked; those of one segment are lost");
        self.shard().broken.store(true, Ordering::Release);
        for reader in self.shard().lock().readers.values() {
            reader.waker.wake();
        }
    }
}

fn address(segment: &Arc<Segment>) -> usize {
    Arc::as_ptr(segment) as usize
}

/// Viewers that are looked up at once. The lock is not held while they are written to.
const BATCH: usize = 32;
/// How long a writer keeps a thread. Others have their turn then: what they do takes about as long.
const TURN: Duration = Duration::from_millis(10);
/// Viewers of one writer from which on heads ride with first pieces. For fewer there is nothing to save.
const MANY: usize = 64;
/// How long a head may wait for the first piece to ride with: the time from one picture to the next, at 25 a second, and some. Players have
/// a segment to play meanwhile.
const HEAD_HELD: Duration = Duration::from_millis(60);
/// Viewers that a writer gets before the next one gets any: waking a second thread for a few costs more than it saves.
const TOGETHER: usize = 16;
