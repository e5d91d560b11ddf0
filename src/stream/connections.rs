//! Who is connected: publishers and viewers, to be listed and to be sent away.
//!
//! A connection registers when it is accepted and is forgotten when its [`Place`] is dropped. Nothing on the way of the media takes
//! the table's lock; what a connection is doing is its own affair and is looked at when somebody asks.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::SystemTime;

use atomic_waker::AtomicWaker;

use super::history::printable;
use super::name::StreamName;

/// The table.
#[derive(Debug, Default)]
pub struct Connections {
    last: AtomicU64,
    table: Mutex<BTreeMap<u64, Arc<Connection>>>,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It came to the RTMP port.
    Publisher,
    /// It came to the HTTP port.
    Viewer,
}

impl Role {
    /// The word for it in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Viewer => "viewer",
        }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    id: u64,
    role: Role,
    peer: SocketAddr,
    since: SystemTime,
    bytes: AtomicU64,
    doing: Mutex<Doing>,
    kicked: AtomicBool,
    waker: AtomicWaker,
}

/// What a connection is doing.
#[derive(Debug, Clone, Default)]
pub struct Doing {
    /// The stream that is published or played.
    pub stream: Option<StreamName>,
    /// What the encoder or player calls itself.
    pub agent: Option<String>,
}

impl Connections {
    /// Registers a connection.
    pub fn enter(self: &Arc<Self>, role: Role, peer: SocketAddr, now: SystemTime) -> Place {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let connection = Arc::new(Connection {
            id,
            role,
            peer,
            since: now,
            bytes: AtomicU64::new(0),
            doing: Mutex::default(),
            kicked: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        self.lock().insert(id, Arc::clone(&connection));
        Place {
            table: Arc::clone(self),
            connection,
        }
    }

    /// The connection with this identifier.
    pub fn find(&self, id: u64) -> Option<Arc<Connection>> {
        self.lock().get(&id).cloned()
    }

    /// Those behind the identifier `after` that `wanted` is true of, oldest first, at most so many.
    pub fn list(
        &self,
        after: u64,
        limit: usize,
        wanted: impl Fn(&Connection) -> bool,
    ) -> Vec<Arc<Connection>> {
        let table = self.lock();
        let behind = table
            .range(after.saturating_add(1)..)
            .map(|(_, connection)| connection);
        behind
            .filter(|connection| wanted(connection))
            .take(limit)
            .cloned()
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Connection>>> {
        // Nothing in the critical sections can leave the map half changed.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Identifier, never given twice while the server runs.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What it is for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The other end.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// When it was accepted.
    pub fn since(&self) -> SystemTime {
        self.since
    }

    /// Bytes received from a publisher, or sent to a viewer.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Counts bytes.
    pub fn count(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// What it is doing.
    pub fn doing(&self) -> Doing {
        self.lock().clone()
    }

    /// Whether it publishes or plays; one that only asks for a page, or has not said what it wants, does not.
    pub fn is_doing(&self, stream: Option<&str>) -> bool {
        let doing = self.lock();
        match (&doing.stream, stream) {
            (Some(name), Some(wanted)) => name.as_str() == wanted,
            (name, None) => name.is_some(),
            (None, _) => false,
        }
    }

    /// It publishes or plays this now.
    pub fn does(&self, stream: &StreamName, agent: Option<&str>) {
        *self.lock() = Doing {
            stream: Some(stream.clone()),
            agent: agent.map(printable),
        };
    }

    /// It publishes nothing any more.
    pub fn rests(&self) {
        self.lock().stream = None;
    }

    /// Ends it. Its task sees to that as soon as it is woken, which happens here.
    pub fn kick(&self) {
        self.kicked.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether it was kicked; if not, the task that asks will be woken when it is. Only one task may ask.
    pub fn is_kicked(&self, context: &Context<'_>) -> bool {
        self.waker.register(context.waker());
        self.kicked.load(Ordering::Acquire)
    }

    /// Resolves when it is kicked.
    pub async fn kicked(&self) {
        poll_fn(|context| match self.is_kicked(context) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, Doing> {
        self.doing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place in the table, left when dropped.
#[derive(Debug)]
pub struct Place {
    table: Arc<Connections>,
    connection: Arc<Connection>,
}

impl Place {
    /// The connection.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.table.lock().remove(&self.connection.id);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn enter(table: &Arc<Connections>, role: Role) -> Place {
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        table.enter(role, peer, SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn pages_go_on_where_the_last_one_ended() {
        let table = Arc::new(Connections::default());
        let places: Vec<Place> = (0..10).map(|_| enter(&table, Role::Viewer)).collect();
        let name = StreamName::new("live", "a").unwrap();
        for place in places.iter().step_by(2) {
            place.connection().does(&name, Some("player\n1"));
        }
        let page = |after| {
            let found = table.list(after, 3, |connection| connection.is_doing(Some("live/a")));
            found
                .iter()
                .map(|connection| connection.id())
                .collect::<Vec<_>>()
        };
        assert_eq!(page(0), [1, 3, 5]);
        assert_eq!(page(5), [7, 9]);
        assert!(page(u64::MAX).is_empty());
        assert_eq!(
            table.find(1).unwrap().doing().agent.as_deref(),
            Some("player1")
        );
        drop(places);
        assert_eq!(table.list(0, 100, |_| true).len(), 0);
    }

    #[tokio::test]
    async fn a_kick_reaches_the_connection() {
        let table = Arc::new(Connections::default());
        let place = enter(&table, Role::Publisher);
        let connection = Arc::clone(place.connection());
        let waiting = tokio::spawn(async move { connection.kicked().await });
        tokio::task::yield_now().await;
        table.find(1).unwrap().kick();
        waiting.await.unwrap();
    }
}
