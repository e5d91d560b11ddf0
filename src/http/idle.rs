//! Connections between two requests, in the order in which they may be done without.
//!
//! When every place is taken, the one that has waited longest for its next request, or its first, gives it up to the newcomer. So
//! thousands of connections that ask for nothing keep nobody out, and cost nobody who watches anything: those are never idle for
//! longer than a segment. Connections that are being answered are not touched.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

type Waiting = BTreeMap<u64, CancellationToken>;

/// The idle connections of all ports. Touched once or twice a request, never while media flows.
#[derive(Debug, Default)]
pub struct Idle {
    /// By the order of becoming idle. Invariant: a place is here at most once, and only while nothing of it is being answered.
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
        place.wait(&mut self.lock());
        place
    }

    /// Has the connection that has waited longest give up its place. False if none waits.
    pub fn make_room(&self) -> bool {
        let longest = self.lock().pop_first();
        longest.is_some_and(|(_, place)| {
            place.cancel();
            true
        })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn wait(&self, waiting: &mut Waiting) {
        let turn = self.idle.turns.fetch_add(1, Ordering::Relaxed) + 1;
        self.turn.store(turn, Ordering::Relaxed);
        waiting.insert(turn, self.given_up.clone());
    }

    fn leave(&self, waiting: &mut Waiting) {
        let turn = self.turn.swap(0, Ordering::Relaxed);
        waiting.remove(&turn);
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
            self.0.wait(&mut waiting);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_waited_longest_goes_first_and_who_is_answered_stays() {
        let idle = Arc::new(Idle::default());
        let places: Vec<_> = (0..4).map(|_| idle.enter()).collect();
        let gone = |index: usize| places[index].given_up.is_cancelled();
        // The first asks for something and gets it: now it has waited for the shortest time. The second is still being answered.
        drop(places[0].answer());
        let busy = places[1].answer();
        assert!(idle.make_room());
        assert!(gone(2) && !gone(3));
        assert!(idle.make_room() && gone(3));
        assert!(idle.make_room() && gone(0));
        assert!(!idle.make_room() && !gone(1));
        drop(busy);
        assert!(idle.make_room() && gone(1));
    }

    #[test]
    fn a_connection_is_idle_when_the_last_of_its_requests_is_answered() {
        let idle = Arc::new(Idle::default());
        let place = idle.enter();
        let requests = [place.answer(), place.answer()];
        let [first, second] = requests;
        drop(first);
        assert!(!idle.make_room());
        drop(second);
        assert!(idle.make_room() && place.given_up.is_cancelled());
    }

    #[test]
    fn connections_that_have_ended_are_forgotten() {
        let idle = Arc::new(Idle::default());
        let place = idle.enter();
        let busy = place.answer();
        drop(place);
        drop(busy);
        drop(idle.enter());
        assert!(idle.lock().is_empty());
        assert!(!idle.make_room());
    }
}
