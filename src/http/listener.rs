//! The HTTP port: accepting connections within a limit, serving each in a task of its own, and ending them in time.
//!
//! What a peer can do here is bounded by the constants at the foot, and counted by name in `lhls_limits_hit_total`. Requests of a
//! connection are answered one after the other, so there is one in flight for each, however many are sent ahead.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, warn};

use super::idle::{Idle, Place};
use super::meter::{MeteredIo, Patience};
use super::{Connection, Service, h1};
use crate::metrics::Metrics;
use crate::net::{self, Preamble, PreambleError};
#[cfg(feature = "tls")]
use crate::tls::accept::{Accepted, Protocol};

/// Accepts connections until `shutdown`, then lets those that are being answered finish. The caller bounds how long it waits for
/// `tasks`.
pub async fn serve(
    listener: TcpListener,
    preamble: Preamble,
    service: Arc<Service>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
) {
    let turned_away = Arc::new(Semaphore::new(MAX_TURNED_AWAY));
    let mut warned: Option<Instant> = None;
    loop {
        let (stream, peer) = tokio::select! {
            accepted = net::accept(&listener, "HTTP") => accepted,
            () = shutdown.cancelled() => return,
        };
        let metrics = &service.metrics;
        let Some(place) = find_place(&service.places, &service.idle).await else {
            metrics.limit("http_connections");
            // Once in a while: whoever opens thousands of connections should not fill the log as well.
            if warned.is_none_or(|warned| warned.elapsed() >= WARN_EVERY) {
                warned = Some(Instant::now());
                warn!(%peer, "connections are turned away: --max-connections is reached, and none is idle");
            }
            // Beyond this many at once they are just closed, so that turning away costs little; and so are those who expect TLS.
            if preamble.is_plain()
                && let Ok(permit) = Arc::clone(&turned_away).try_acquire_owned()
            {
                tasks.spawn(async move {
                    let _ = tokio::time::timeout(TURN_AWAY_TIME, turn_away(stream)).await;
                    drop(permit);
                });
            }
            continue;
        };
        if let Err(error) = net::tune(&stream).and_then(|()| net::limit_unsent(&stream)) {
            debug!(%peer, %error, "connection was gone before it could be set up");
            continue;
        }
        let (service, preamble, shutdown) =
            (Arc::clone(&service), preamble.clone(), shutdown.clone());
        let idle = service.idle.enter();
        let open = Open::new(Arc::clone(metrics), peer, place);
        tasks.spawn(async move {
            admit(stream, peer, preamble, service, idle, shutdown).await;
            drop(open);
        });
    }
}

/// A place for a connection: a free one, or that of whoever has been idle for longest.
async fn find_place(places: &Arc<Semaphore>, idle: &Idle) -> Option<OwnedSemaphorePermit> {
    if let Ok(place) = Arc::clone(places).try_acquire_owned() {
        return Some(place);
    }
    if !idle.make_room(Instant::now()) {
        return None;
    }
    let place = Arc::clone(places).acquire_owned();
    tokio::time::timeout(MAKE_ROOM_TIME, place).await.ok()?.ok()
}

/// A connection whose preamble is over.
enum Begun {
    Plain(MeteredIo<TcpStream>),
    #[cfg(feature = "tls")]
    Secure(Box<Accepted<MeteredIo<TcpStream>>>, Protocol),
}

/// Takes what comes before HTTP off the connection, and serves it. What encryption needs is on the heap, so that a plain connection does not
/// hold the room for it.
async fn admit(
    stream: TcpStream,
    peer: SocketAddr,
    preamble: Preamble,
    service: Arc<Service>,
    place: Arc<Place>,
    shutdown: CancellationToken,
) {
    // On the heap as well: it is over soon, and larger than all that follows.
    let beginning = Box::pin(begin(stream, peer, preamble, &service));
    let begun = tokio::select! {
        begun = beginning => begun,
        () = shutdown.cancelled() => return,
        () = place.given_up() => {
            service.metrics.limit("idle_connection");
            return;
        }
    };
    let context = |connection| h1::Context {
        service: &service,
        connection,
        place: &place,
        shutdown: &shutdown,
        patience: PATIENCE,
    };
    match begun {
        Ok((Begun::Plain(stream), connection)) => {
            h1::serve(stream, context(&connection)).await;
        }
        #[cfg(feature = "tls")]
        Ok((Begun::Secure(stream, Protocol::Default), connection)) => {
            Box::pin(h1::serve_secure(stream, context(&connection))).await;
        }
        #[cfg(feature = "tls")]
        Ok((Begun::Secure(stream, Protocol::Http2), connection)) => {
            Box::pin(super::h2::serve(
                stream, service, connection, place, shutdown,
            ))
            .await;
        }
        Err(error) => error.note(peer, &service.metrics),
    }
}

async fn begin(
    mut stream: TcpStream,
    peer: SocketAddr,
    preamble: Preamble,
    service: &Service,
) -> Result<(Begun, Connection), PreambleError> {
    let peer = preamble.proxy.client(&mut stream, peer).await?;
    // The meter is below the encryption, where bytes are taken by the socket or not.
    let metered = |stream, connection: &Connection| {
        MeteredIo::new(stream, Arc::clone(&connection.meter), PATIENCE)
    };
    #[cfg(feature = "tls")]
    if let Some(acceptor) = preamble.tls {
        acceptor.expect_hello(&mut stream).await?;
        let connection = service.connect(peer, true);
        let handshake = acceptor.accept(metered(stream, &connection));
        let (stream, protocol) = Box::pin(handshake).await?;
        service.metrics.tls_handshakes.inc();
        return Ok((Begun::Secure(Box::new(stream), protocol), connection));
    }
    let connection = service.connect(peer, false);
    Ok((Begun::Plain(metered(stream, &connection)), connection))
}

/// Says 503 and waits for the client to have read it: closing with its request unread would take the answer back.
async fn turn_away(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(FULL).await?;
    stream.shutdown().await?;
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// An open connection's place, and its count, while it exists. It is also dropped when the connection's task panics, which nobody but that
/// connection feels; a second task to await the first would tell too, but costs memory for every viewer.
struct Open {
    metrics: Arc<Metrics>,
    peer: SocketAddr,
    _place: OwnedSemaphorePermit,
}

impl Open {
    fn new(metrics: Arc<Metrics>, peer: SocketAddr, place: OwnedSemaphorePermit) -> Self {
        metrics.http_connections.inc();
        Self {
            metrics,
            peer,
            _place: place,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.metrics.panics.inc();
            error!(peer = %self.peer, "a task that served a viewer panicked; only that connection is lost");
        }
        self.metrics.http_connections.dec();
    }
}

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 55\r\n\
Retry-After: 5\r\nCache-Control: no-store\r\nConnection: close\r\n\r\nthe server has as many connections as it may; try later";
/// As long as the network may leave bytes unacknowledged; and as long as a growing segment may lag. Whoever is a megabyte or a segment
/// behind for a whole minute cannot be watching anything live, and holds memory that nobody else needs any more.
const PATIENCE: Patience = Patience {
    stalled: Duration::from_secs(30),
    behind: Duration::from_secs(60),
};
/// For an idle connection to have gone: the time of a task's turn, and no reason to keep others waiting for longer.
const MAKE_ROOM_TIME: Duration = Duration::from_millis(200);
/// Between two lines in the log about the same trouble.
const WARN_EVERY: Duration = Duration::from_secs(10);
/// Connections beyond the limit that are told so at the same time.
const MAX_TURNED_AWAY: usize = 128;
const TURN_AWAY_TIME: Duration = Duration::from_secs(1);
