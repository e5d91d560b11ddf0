//! The table of streams.
//!
//! Rule: no guard of the map leaves this file, and nothing here waits. Callers get `Arc`s.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use super::name::StreamName;
use super::subscribers::Subscribers;
use super::{Publication, Stream};
use crate::hls::Now;
use crate::hls::packager::Settings;

/// Why a publisher does not get a stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Somebody else publishes under this name.
    #[error("{0} is already being published")]
    Busy(StreamName),
    /// [`Registry::new`]'s limit.
    #[error("{0} streams are live already; no more are allowed")]
    TooManyStreams(usize),
}

/// All streams, by name.
#[derive(Debug)]
pub struct Registry {
    streams: DashMap<StreamName, Arc<Stream>>,
    arrivals: Subscribers,
    settings: Settings,
    max_streams: usize,
}

impl Registry {
    /// An empty table whose streams will be made with `settings`.
    pub fn new(settings: Settings, max_streams: usize) -> Self {
        Self {
            streams: DashMap::new(),
            arrivals: Subscribers::default(),
            settings,
            max_streams,
        }
    }

    /// Starts a stream, or takes the place of one that has ended.
    ///
    /// # Errors
    /// When the name is live, or there are too many streams.
    pub fn publish(&self, name: StreamName, now: Now) -> Result<Publication, Error> {
        // Counted before the entry is taken: `len` would wait for the very shard that the entry holds.
        let full = self.streams.len() >= self.max_streams;
        let stream = match self.streams.entry(name.clone()) {
            Entry::Occupied(entry) if !entry.get().output().ended() => {
                return Err(Error::Busy(name));
            }
            Entry::Occupied(mut entry) => {
                let stream = Arc::new(Stream::new(name, self.settings.clone(), now));
                entry.insert(Arc::clone(&stream));
                stream
            }
            Entry::Vacant(_) if full => return Err(Error::TooManyStreams(self.max_streams)),
            Entry::Vacant(entry) => {
                let stream = Arc::new(Stream::new(name, self.settings.clone(), now));
                entry.insert(Arc::clone(&stream));
                stream
            }
        };
        self.arrivals.wake_all();
        Ok(Publication::new(stream, now))
    }

    /// The stream of this name, live or lately ended.
    pub fn find(&self, name: &str) -> Option<Arc<Stream>> {
        self.streams.get(name).map(|stream| Arc::clone(&stream))
    }

    /// Waits until a stream of this name is live. Bound it with a timeout.
    pub async fn wait_for(&self, name: &str) -> Arc<Stream> {
        self.arrivals
            .wait_for(|| self.find(name).filter(|stream| !stream.output().ended()))
            .await
    }

    /// All streams, by name.
    pub fn list(&self) -> Vec<Arc<Stream>> {
        let mut streams: Vec<_> = self
            .streams
            .iter()
            .map(|stream| Arc::clone(&stream))
            .collect();
        streams.sort_by(|a, b| a.name().cmp(b.name()));
        streams
    }

    /// Forgets streams that ended longer than `linger` ago. Their memory goes as soon as the last viewer has read what it reads.
    pub fn reap(&self, linger: Duration, now: Instant) {
        self.streams
            .retain(|_, stream| stream.ended_for(now).is_none_or(|ended| ended < linger));
    }
}
