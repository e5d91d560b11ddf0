//! Connections between two requests, in the order in which they may be done without.
//!
//! When every place is taken, the one that has waited longest for its next request, or its first, gives it up to the newcomer. So
//! thousands of connections that ask for nothing keep nobody out, and cost nobody who watches anything: those ask for the next segment
//! as soon as one has ended, and get a moment for that. Connections that are being answered are not touched.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// Who waits, by the order of becoming idle.
#[derive(Debug, Default)]
struct Waiting {
    /// Those that have asked for nothing yet.
    silent: BTreeMap<u64, CancellationToken>,
    /// Those that have had an answer, and since when.
    answered: BTreeMap<u64, (CancellationToken, Instant)>,
}

/// The idle connections of all ports. Touched once or twice a request, never while media flows.
#[derive(Debug, Default)]
pub struct Idle {
    /// Invariant: a place is here at most once, and only while nothing of it is being answered.
    waiting: Mutex<Waiting>,
    turns: AtomicU64,
}

/// One connection's place, for as long as the connection lasts.
#[derive(Debug)]
pub struct Place {
    idle: Arc<Idle>,
    /// Where it is among those that wait; 0 while something of it is being answered. This and the next change only while `waiting` is
    /// locked.
    turn: AtomicU64,
    /// Requests that are being answered. HTTP/2 has several at once.
    answers: AtomicUsize,
    given_up: CancellationToken,
}

/// A request is being answered while this exists.
#[derive(Debug)]
pub struct Busy(Arc<Place>);

impl Idle {
    /// A place for a connection that has asked for nothing yet.
    pub fn enter(self: &Arc<Self>) -> Arc<Place> {
        let place = Arc::new(Place {
            idle: Arc::clone(self),
            turn: AtomicU64::new(0),
            answers: AtomicUsize::new(0),
            given_up: CancellationToken::new(),
        });
        let turn = place.next_turn();
        self.lock().silent.insert(turn, place.given_up.clone());
        place
    }

    /// Has the connection that has waited longest give up its place. False if none waits, or none for long enough.
    pub fn make_room(&self, now: Instant) -> bool {
        let mut waiting = self.lock();
        let silent = waiting.silent.first_key_value().map(|(&turn, _)| turn);
        let answered = waiting.answered.first_key_value();
        let answered = answered
            .filter(|(_, (_, since))| now.saturating_duration_since(*since) >= BETWEEN_REQUESTS)
            .map(|(&turn, _)| turn);
        let Some(longest) = silent.into_iter().chain(answered).min() else {
            return false;
        };
        let given_up = waiting.remove(longest);
        drop(waiting);
        given_up.is_some_and(|given_up| {
            given_up.cancel();
            true
        })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn remove(&mut self, turn: u64) -> Option<CancellationToken> {
        let answered = || self.answered.remove(&turn).map(|(given_up, _)| given_up);
        self.silent.remove(&turn).or_else(answered)
    }
}

impl Place {
    /// A request has come. It is answered while the result exists.
    pub fn answer(self: &Arc<Self>) -> Busy {
        let mut waiting = self.idle.lock();
        if self.answers.fetch_add(1, Ordering::Relaxed) == 0 {
            self.leave(&mut waiting);
        }
        Busy(Arc::clone(self))
    }

    /// Until this connection has to go.
    pub async fn given_up(&self) {
        self.given_up.cancelled().await;
    }

    fn next_turn(&self) -> u64 {
        let turn = self.idle.turns.fetch_add(1, Ordering::Relaxed) + 1;
        self.turn.store(turn, Ordering::Relaxed);
        turn
    }

    fn leave(&self, waiting: &mut Waiting) {
        let turn = self.turn.swap(0, Ordering::Relaxed);
        waiting.remove(turn);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave(&mut self.idle.lock());
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut waiting = self.0.idle.lock();
        if self.0.answers.fetch_sub(1, Ordering::Relaxed) == 1 {
            let (turn, given_up) = (self.0.next_turn(), self.0.given_up.clone());
            waiting.answered.insert(turn, (given_up, Instant::now()));
        }
    }
}

/// How long a connection that has been answered keeps its place in any case: viewers ask for the next segment within a round trip, or, where
/// the last one ended early, within the time of a picture.
const BETWEEN_REQUESTS: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;

    /// When everybody has waited for long enough.
    fn later() -> Instant {
        Instant::now() + BETWEEN_REQUESTS
    }

    #[test]
    fn who_has_just_been_answered_keeps_its_place() {
        let idle = Arc::new(Idle::default());
        let place = idle.enter();
        drop(place.answer());
        let silent = idle.enter();
        assert!(
            idle.make_room(Instant::now()),
            "it came later, but has asked for nothing"
        );
        assert!(silent.given_up.is_cancelled() && !place.given_up.is_cancelled());
        assert!(!idle.make_room(Instant::now()));
        assert!(idle.make_room(later()));
    }

    #[test]
    fn who_has_waited_longest_goes_first_and_who_is_answered_stays() {
        let idle = Arc::new(Idle::default());
        let places: Vec<_> = (0..4).map(|_| idle.enter()).collect();
        let gone = |index: usize| places[index].given_up.is_cancelled();
        // The first asks for something and gets it: now it has waited for the shortest time. The second is still being answered.
        drop(places[0].answer());
        let busy = places[1].answer();
        assert!(idle.make_room(later()));
        assert!(gone(2) && !gone(3));
        assert!(idle.make_room(later()) && gone(3));
        assert!(idle.make_room(later()) && gone(0));
        assert!(!idle.make_room(later()) && !gone(1));
        drop(busy);
        assert!(idle.make_room(later()) && gone(1));
    }

    #[test]
    fn a_connection_is_idle_when_the_last_of_its_requests_is_answered() {
        let idle = Arc::new(Idle::default());
        let place = idle.enter();
        let requests = [place.answer(), place.answer()];
        let [first, second] = requests;
        drop(first);
        assert!(!idle.make_room(later()));
        drop(second);
        assert!(idle.make_room(later()) && place.given_up.is_cancelled());
    }

    #[test]
    fn connections_that_have_ended_are_forgotten() {
        let idle = Arc::new(Idle::default());
        let place = idle.enter();
        let busy = place.answer();
        drop(place);
        drop(busy);
        drop(idle.enter());
        let waiting = idle.lock();
        assert!(waiting.silent.is_empty() && waiting.answered.is_empty());
        drop(waiting);
        assert!(!idle.make_room(later()));
    }
}
