//! A viewer's connection in HTTP/1.1 (RFC 9112): hyper parses and answers, and lends the socket to the fan-out for segments that grow.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::fanout::{Answer, Prefaced, Slot, follow};
use super::idle::Place;
use super::meter::{MeteredIo, Patience};
use super::{Connection, Service};

/// What a connection is served with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) service: &'a Service,
    pub(super) connection: &'a Connection,
    pub(super) place: &'a Arc<Place>,
    pub(super) shutdown: &'a CancellationToken,
    pub(super) patience: Patience,
}

/// Serves a connection without encryption to its end.
pub(super) async fn serve(mut stream: MeteredIo<TcpStream>, context: Context<'_>) {
    let mut ahead = Bytes::new();
    loop {
        // On the heap, so that there is no room for hyper's state while the fan-out has the socket.
        let answered = Box::pin(answer(stream, ahead, context, true)).await;
        let Some((socket, behind, answer)) = answered else {
            return;
        };
        let given = Box::pin(follow(
            socket.into_inner(),
            behind.into(),
            answer,
            (&context.service.edges, &context.service.metrics),
            (&context.connection.meter, context.patience),
        ));
        let mut given = match given.await {
            Ok(given) => given,
            Err(error) => {
                debug!(peer = %context.connection.peer, %error, "a viewer's connection ended");
                return;
            }
        };
        if given.closes || context.shutdown.is_cancelled() {
            let _ = given.socket.shutdown().await;
            return;
        }
        if given.ahead.is_empty() && !context.wait_for_request(&given.socket).await {
            return;
        }
        ahead = given.ahead.into();
        stream = MeteredIo::new(
            given.socket,
            Arc::clone(&context.connection.meter),
            context.patience,
        );
    }
}

/// Serves an encrypted connection to its end.
#[cfg(feature = "tls")]
pub(super) async fn serve_secure<T: AsyncRead + AsyncWrite + Unpin>(
    stream: T,
    context: Context<'_>,
) {
    answer(stream, Bytes::new(), context, false).await;
}

/// Answers requests until there is nothing more to answer, or an answer is for the fan-out: then returns the socket, what the viewer has
/// sent behind the request, and the answer.
async fn answer<T: AsyncRead + AsyncWrite + Unpin>(
    stream: T,
    ahead: Bytes,
    context: Context<'_>,
    hands_over: bool,
) -> Option<(T, Bytes, Answer)> {
    let Context {
        service,
        connection,
        place,
        shutdown,
        ..
    } = context;
    let slot = Slot::default();
    let slot = &slot;
    let respond = service_fn(|request| {
        let busy = place.answer();
        async move {
            // On the heap, since hyper keeps room for this from the connection's first moment to its last.
            let mut response = Box::pin(service.answer(connection, &request)).await;
            let busy = if hands_over {
                match Answer::take(&request, &response, busy) {
                    Ok(answer) => {
                        slot.put(answer);
                        return pending().await;
                    }
                    Err(busy) => busy,
                }
            } else {
                busy
            };
            response.body_mut().keep(busy);
            Ok::<_, Infallible>(response)
        }
    });
    let mut served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_BUFFER)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(Prefaced::new(ahead, stream, slot)), respond);
    let (mut leaving, mut given_up) = (pin!(shutdown.cancelled()), pin!(place.given_up()));
    let mut leaves = false;
    let end = poll_fn(|context| {
        if !leaves && leaving.as_mut().poll(context).is_ready() {
            leaves = true;
            Pin::new(&mut served).graceful_shutdown();
        }
        if let Poll::Ready(result) = Pin::new(&mut served).poll(context) {
            return Poll::Ready(End::Closed(result));
        }
        if let Some(answer) = slot.take() {
            return Poll::Ready(End::HandedOver(answer));
        }
        given_up.as_mut().poll(context).map(|()| End::GivenUp)
    });
    match end.await {
        End::HandedOver(answer) => {
            let parts = served.into_parts();
            let (front, stream) = parts.io.into_inner().into_parts();
            // What was read ahead of the request has been read by hyper, all of it or up to what it takes at once.
            let behind = if front.is_empty() {
                parts.read_buf
            } else {
                [&parts.read_buf[..], &front[..]].concat().into()
            };
            return Some((stream, behind, answer));
        }
        // Nothing is being answered, so nothing need be finished.
        End::GivenUp => service.metrics.limit("idle_connection"),
        End::Closed(Ok(())) => {}
        End::Closed(Err(error)) => {
            debug!(peer = %connection.peer, %error, "a viewer's connection ended");
            if error.is_timeout() {
                service.metrics.limit("header_time");
            } else if error.is_parse_too_large() {
                service.metrics.limit("header_size");
            }
        }
    }
    None
}

/// How hyper's part of a connection has ended.
enum End {
    Closed(hyper::Result<()>),
    HandedOver(Answer),
    GivenUp,
}

impl Context<'_> {
    /// Waits for the next request, or for what ends a connection on which there is none.
    async fn wait_for_request(&self, socket: &TcpStream) -> bool {
        let metrics = &self.service.metrics;
        tokio::select! {
            readable = socket.readable() => readable.is_ok(),
            () = self.shutdown.cancelled() => false,
            () = self.place.given_up() => {
                metrics.limit("idle_connection");
                false
            }
            () = self.connection.meter.kicked() => false,
            () = tokio::time::sleep(HEADER_TIMEOUT) => {
                metrics.limit("header_time");
                false
            }
        }
    }
}

/// For a request's head, and for the next request of a connection that is kept alive: longer than any player's polling interval.
const HEADER_TIMEOUT: Duration = Duration::from_secs(20);
/// Bounds a request's head, and how much hyper takes from a body before it writes.
const MAX_BUFFER: usize = 64 * 1024;
/// Browsers behind proxies send a few dozen.
const MAX_HEADERS: usize = 100;
