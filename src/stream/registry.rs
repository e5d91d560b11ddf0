//! The table of streams.
//!
//! Rule: no guard of the map leaves this file, and nothing here waits. Callers get `Arc`s.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use super::connections::Connections;
use super::name::StreamName;
use super::subscribers::Subscribers;
use super::{Publication, Reconnect, Stream};
use crate::hls::Now;
use crate::hls::packager::Settings;
use crate::live::Live;

/// Why a publisher does not get a stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Somebody else publishes under this name.
    #[error("{0} is already being published")]
    Busy(StreamName),
    /// An operator has ended the stream and wants it to stay away.
    #[error("{0} was ended by an operator; it may be published again in {1} s")]
    Blocked(StreamName, u64),
    /// [`Registry::new`]'s limit.
    #[error("{0} streams are live already; no more are allowed")]
    TooManyStreams(usize),
}

/// What the streams are told by the configuration.
#[derive(Debug, Clone)]
pub struct Policy {
    /// How segments are made and kept.
    pub packager: Settings,
    /// Streams at the same time.
    pub max_streams: usize,
    /// Whether a second publisher replaces the first; else it is refused.
    pub take_over: bool,
    /// How long a publisher that has gone is waited for.
    pub reconnect: Reconnect,
}

/// All streams, by name.
#[derive(Debug)]
pub struct Registry {
    streams: DashMap<StreamName, Arc<Stream>>,
    arrivals: Subscribers,
    connections: Arc<Connections>,
    /// Names that may not be published until then.
    blocked: Mutex<HashMap<StreamName, Instant>>,
    policy: Live<Policy>,
}

impl Registry {
    /// An empty table.
    pub fn new(policy: Policy) -> Self {
        Self {
            streams: DashMap::new(),
            arrivals: Subscribers::default(),
            connections: Arc::default(),
            blocked: Mutex::default(),
            policy: Live::new(policy),
        }
    }

    /// What streams are told.
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.get()
    }

    /// Changes what streams are told that start from now on.
    pub fn set_policy(&self, policy: Policy) {
        self.policy.set(policy);
    }

    /// Starts a stream, continues one whose publisher has gone, or takes over.
    ///
    /// # Errors
    /// When the name is live and not to be taken over, or there are too many streams.
    pub fn publish(&self, name: StreamName, now: Now) -> Result<Publication, Error> {
        self.publish_with(name, &self.policy.get(), now)
    }

    /// The same, with a policy of its own, which counts as far as the stream does not live yet.
    ///
    /// # Errors
    /// As for [`Self::publish`].
    pub fn publish_with(
        &self,
        name: StreamName,
        policy: &Policy,
        now: Now,
    ) -> Result<Publication, Error> {
        if let Some(left) = self.blocked_for(&name, now.instant) {
            return Err(Error::Blocked(name, left.as_secs() + 1));
        }
        // Counted before the entry is taken: `len` would wait for the very shard that the entry holds.
        let full = self.streams.len() >= policy.max_streams;
        let Policy {
            take_over,
            reconnect,
            ..
        } = *policy;
        let fresh = |name| Arc::new(Stream::new(name, policy.packager.clone(), now));
        let publication = match self.streams.entry(name.clone()) {
            Entry::Occupied(mut entry) => match entry.get().enter(take_over, reconnect, now) {
                Some(publication) => Some(publication),
                None if entry.get().output().ended() => {
                    let stream = fresh(name.clone());
                    entry.insert(Arc::clone(&stream));
                    stream.enter(false, reconnect, now)
                }
                None => None,
            },
            Entry::Vacant(_) if full => return Err(Error::TooManyStreams(policy.max_streams)),
            Entry::Vacant(entry) => {
                let stream = fresh(name.clone());
                entry.insert(Arc::clone(&stream));
                stream.enter(false, reconnect, now)
            }
        };
        self.arrivals.wake_all();
        publication.ok_or(Error::Busy(name))
    }

    /// Keeps publishers away from a name for so long. False if too many names are kept free already.
    pub fn block(&self, name: &StreamName, time: Duration, now: Instant) -> bool {
        let mut blocked = self.blocked();
        blocked.retain(|_, until| *until > now);
        if blocked.len() >= MAX_BLOCKED && !blocked.contains_key(name) {
            return false;
        }
        blocked.insert(name.clone(), now + time);
        true
    }

    fn blocked_for(&self, name: &StreamName, now: Instant) -> Option<Duration> {
        let until = *self.blocked().get(name)?;
        until
            .checked_duration_since(now)
            .filter(|left| !left.is_zero())
    }

    fn blocked(&self) -> MutexGuard<'_, HashMap<StreamName, Instant>> {
        self.blocked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is connected.
    pub fn connections(&self) -> &Arc<Connections> {
        &self.connections
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

    /// Ends streams whose publisher has not come back in time, and forgets those that have been over for `linger`. Their memory goes as
    /// soon as the last viewer has read what it reads.
    pub fn age(&self, linger: Duration, now: Now) {
        // Ending a stream wakes its viewers, so it is not done with a guard of the map held.
        for stream in self.list() {
            if stream.age(linger, now) {
                self.streams
                    .remove_if(stream.name(), |_, current| Arc::ptr_eq(current, &stream));
            }
        }
    }

    /// Ends all streams.
    pub fn end_all(&self, now: Now) {
        for stream in self.list() {
            stream.end(now);
        }
    }
}

/// Names that are kept free at the same time; each is an operator's doing.
const MAX_BLOCKED: usize = 1000;
