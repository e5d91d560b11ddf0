//! What the viewers of one stream can reach: its multivariant playlist and its sessions.
//!
//! Written by the packager, read by the HTTP side. Everything handed out is an `Arc`; no lock outlives a call.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::names::{Early, Listed};
use super::playlist::Rendered;
use super::session::Session;
use crate::stream::subscribers::Subscribers;

/// The reader's side of a stream.
#[derive(Debug, Default)]
pub struct Output {
    /// Newest last; the newest is the one the multivariant playlist leads to.
    sessions: RwLock<Vec<Arc<Session>>>,
    multivariant: RwLock<Option<Arc<MultivariantForms>>>,
    ended: AtomicBool,
    updates: Subscribers,
}

/// The multivariant playlists: one for each form of media playlist they lead to.
#[derive(Debug)]
pub struct MultivariantForms {
    /// To the early-announcing forms, by [`Early::index`].
    pub early: [Rendered; Early::ALL.len()],
    /// To the form with prefetch tags.
    pub prefetch: Rendered,
    /// To the low-latency forms, by length of their parts, shortest first, and by [`Listed::index`].
    pub low_latency: Vec<(Duration, [Rendered; Listed::ALL.len()])>,
}

impl MultivariantForms {
    /// The low-latency playlist whose parts come closest to `wanted`; the one with the shortest if nothing is wanted.
    pub fn low_latency(&self, wanted: Option<Duration>, listed: Listed) -> Option<&Rendered> {
        let closest = self
            .low_latency
            .iter()
            .min_by_key(|(part, _)| wanted.map_or(*part, |wanted| part.abs_diff(wanted)));
        closest.and_then(|(_, forms)| forms.get(listed.index()))
    }
}

impl Output {
    /// The multivariant playlists, once there is something to play.
    pub fn multivariant(&self) -> Option<Arc<MultivariantForms>> {
        self.multivariant
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The session with this identifier.
    pub fn session(&self, id: &str) -> Option<Arc<Session>> {
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        sessions.iter().find(|session| session.id() == id).cloned()
    }

    /// The session with this TARGETDURATION; if there is none (any more), the newest.
    ///
    /// A name that a player knows from before a restart leads to a session too, though perhaps to a wider one: better than nothing.
    pub fn session_of(&self, target_duration: u32) -> Option<Arc<Session>> {
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        let exact = sessions
            .iter()
            .rfind(|session| session.target_duration() == target_duration);
        exact.or_else(|| sessions.last()).cloned()
    }

    /// Where a player starts that gets short segments: TARGETDURATION and media sequence number. `None` if they are not for it;
    /// [`Session::short_entry`] says when.
    pub fn short_entry(&self, opening: Duration) -> Option<(u32, u64)> {
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.last()?;
        Some((session.target_duration(), session.short_entry(opening)?))
    }

    /// All sessions, newest last.
    pub fn sessions(&self) -> Vec<Arc<Session>> {
        self.sessions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether the stream is over. What has been made can still be read.
    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Those to wake when the first multivariant playlist appears or the stream ends.
    pub fn updates(&self) -> &Subscribers {
        &self.updates
    }

    /// Adds a session; the multivariant playlist set next is to lead to it.
    pub(super) fn add(&self, session: Arc<Session>) {
        self.sessions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(session);
    }

    /// Removes a session.
    pub(super) fn remove(&self, id: &str) {
        self.sessions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|session| session.id() != id);
    }

    /// Replaces the multivariant playlists.
    pub(super) fn set_multivariant(&self, forms: MultivariantForms) {
        *self
            .multivariant
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(forms));
        self.updates.wake_all();
    }

    /// Marks the end.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.updates.wake_all();
    }
}
