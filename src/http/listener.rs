//! The HTTP port: accepting connections within a limit, serving each in a task of its own, and ending them in time.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, warn};

use super::meter::MeteredIo;
use super::{Connection, Service};
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
    loop {
        let (stream, peer) = tokio::select! {
            accepted = net::accept(&listener, "HTTP") => accepted,
            () = shutdown.cancelled() => return,
        };
        let metrics = &service.metrics;
        let Ok(place) = Arc::clone(&service.places).try_acquire_owned() else {
            metrics.limit("http_connections");
            warn!(%peer, "connection turned away: --max-connections is reached");
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
        let counted = Counted::new(Arc::clone(metrics));
        tasks.spawn(async move {
            let admitted = admit(stream, peer, preamble, service, shutdown);
            let result = tokio::spawn(admitted).await;
            if result.is_err_and(|error| error.is_panic()) {
                counted.0.panics.inc();
                error!(%peer, "a task that served a viewer panicked; only that connection is lost");
            }
            drop((place, counted));
        });
    }
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
    shutdown: CancellationToken,
) {
    let begun = tokio::select! {
        begun = begin(stream, peer, preamble, &service) => begun,
        () = shutdown.cancelled() => return,
    };
    match begun {
        Ok((Begun::Plain(stream), connection)) => {
            serve_connection(stream, &service, &connection, shutdown).await;
        }
        #[cfg(feature = "tls")]
        Ok((Begun::Secure(stream, Protocol::Default), connection)) => {
            Box::pin(serve_connection(stream, &service, &connection, shutdown)).await;
        }
        #[cfg(feature = "tls")]
        Ok((Begun::Secure(stream, Protocol::Http2), connection)) => {
            Box::pin(super::h2::serve(stream, service, connection, shutdown)).await;
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
        MeteredIo::new(stream, Arc::clone(&connection.meter), STALL_TIMEOUT)
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

async fn serve_connection<T: AsyncRead + AsyncWrite + Unpin>(
    stream: T,
    service: &Service,
    connection: &Connection,
    shutdown: CancellationToken,
) {
    let io = TokioIo::new(stream);
    let answer = service_fn(|request| async move {
        Ok::<_, Infallible>(service.answer(connection, &request).await)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_BUFFER)
        .max_headers(MAX_HEADERS)
        .serve_connection(io, answer);
    let mut served = std::pin::pin!(served);
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        debug!(peer = %connection.peer, %error, "a viewer's connection ended");
        if error.is_parse_too_large() || error.is_timeout() {
            service.metrics.limit(if error.is_timeout() {
                "header_time"
            } else {
                "header_size"
            });
        }
    }
}

/// Says 503 and waits for the client to have read it: closing with its request unread would take the answer back.
async fn turn_away(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(FULL).await?;
    stream.shutdown().await?;
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// Counts an open connection while it exists.
struct Counted(Arc<Metrics>);

impl Counted {
    fn new(metrics: Arc<Metrics>) -> Self {
        metrics.http_connections.inc();
        Self(metrics)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.http_connections.dec();
    }
}

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 55\r\n\
Retry-After: 5\r\nCache-Control: no-store\r\nConnection: close\r\n\r\nthe server has as many connections as it may; try later";
/// For a request's head, and for the next request of a connection that is kept alive: longer than any player's polling interval.
const HEADER_TIMEOUT: Duration = Duration::from_secs(20);
/// A viewer that takes no byte for this long is gone.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Bounds a request's head, and how much hyper takes from a body before it writes.
const MAX_BUFFER: usize = 64 * 1024;
/// Browsers behind proxies send a few dozen.
const MAX_HEADERS: usize = 100;
/// Connections beyond the limit that are told so at the same time.
const MAX_TURNED_AWAY: usize = 128;
const TURN_AWAY_TIME: Duration = Duration::from_secs(1);
