//! A viewer's connection in HTTP/2 (RFC 9113): one connection, many requests at once, and so more ways to do harm.
//!
//! Bodies go out as they do in HTTP/1.1: a growing segment's new pieces as one frame each time. What is added here is what hyper's
//! HTTP/2 does not know:
//!
//! - A response whose reader grants no window is not asked for more, so nothing in the body itself can notice. It is watched from
//!   outside and dropped when nothing has been taken for too long: it holds a segment.
//! - Requests that are taken back as fast as they are made ("rapid reset") cost the server work and the client nothing. hyper bounds
//!   those it has not looked at; those that were begun are counted here.
//! - A connection on which nothing is asked for is closed, as in HTTP/1.1.
//!
//! Not here: priorities (RFC 9218), which the h2 crate does not act on, and HTTP/2 without TLS.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use slab::Slab;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use super::body::{FellBehind, Pieces, ResponseBody};
use super::idle::Place;
use super::{Connection, Service};
use crate::metrics::Metrics;

/// Serves the connection to its end.
pub(super) async fn serve<T>(
    stream: T,
    service: Arc<Service>,
    connection: Connection,
    place: Arc<Place>,
    shutdown: CancellationToken,
) where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let peer = connection.peer;
    let connection = Arc::new(connection);
    let metrics = Arc::clone(&service.metrics);
    let streams = Streams::new(Arc::clone(&metrics));
    let asking = Arc::clone(&place);
    let answer = service_fn(move |request| {
        let (service, connection) = (Arc::clone(&service), Arc::clone(&connection));
        let busy = asking.answer();
        async move {
            // On the heap, since there is room for this in every stream to its last byte.
            let mut response = Box::pin(service.answer(&connection, &request)).await;
            response.body_mut().keep(busy);
            Ok::<_, Infallible>(response.map(Watched::new))
        }
    });
    let served = http2::Builder::new(streams.clone())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_send_buf_size(MAX_UNSENT)
        .initial_stream_window_size(RECEIVE_WINDOW)
        .initial_connection_window_size(RECEIVE_WINDOW)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(stream), answer);
    let mut served = std::pin::pin!(served);
    let mut care = Care::new();
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            result = served.as_mut() => {
                if let Err(error) = result {
                    debug!(%peer, %error, "a viewer's connection ended");
                }
                return;
            }
            () = shutdown.cancelled(), if care.leaving.is_none() => {
                care.leave();
                served.as_mut().graceful_shutdown();
            }
            // Nothing is being answered, so nothing need be finished.
            () = place.given_up() => {
                metrics.limit("idle_connection");
                return;
            }
            () = streams.0.too_many_resets.cancelled() => {
                metrics.limit("h2_resets");
                debug!(%peer, "connection closed: the viewer takes back its requests without end");
                return;
            }
            _ = ticks.tick() => match care.look(&streams) {
                Verdict::Well => {}
                Verdict::Leave => {
                    care.leave();
                    served.as_mut().graceful_shutdown();
                }
                Verdict::Drop => {
                    debug!(%peer, "connection closed: the viewer does not take the rest");
                    return;
                }
            },
        }
    }
}

/// What a connection's age and idleness call for.
#[derive(Debug)]
struct Care {
    begun: Instant,
    /// When there was last a request under way.
    busy: Option<Instant>,
    /// Since when no new requests are taken.
    leaving: Option<Instant>,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Well,
    /// Take no more requests, and finish those under way.
    Leave,
    /// That has been tried for long enough.
    Drop,
}

impl Care {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            busy: None,
            leaving: None,
        }
    }

    fn leave(&mut self) {
        self.leaving = Some(Instant::now());
    }

    fn look(&mut self, streams: &Streams) -> Verdict {
        streams.drop_stalled();
        if !streams.is_idle() {
            self.busy = Some(Instant::now());
        }
        let idle = match self.busy {
            Some(last) => last.elapsed() > IDLE_TIMEOUT,
            None => self.begun.elapsed() > FIRST_REQUEST_TIMEOUT,
        };
        match self.leaving {
            Some(since) if since.elapsed() > LEAVE_TIMEOUT => Verdict::Drop,
            Some(_) => Verdict::Well,
            None if idle || self.begun.elapsed() > LONGEST_CONNECTION => Verdict::Leave,
            None => Verdict::Well,
        }
    }
}

/// The requests under way on a connection, each in a task of its own.
#[derive(Debug, Clone)]
struct Streams(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    metrics: Arc<Metrics>,
    open: Mutex<Slab<Open>>,
    resets: Mutex<Resets>,
    too_many_resets: CancellationToken,
}

#[derive(Debug)]
struct Open {
    progress: Arc<Progress>,
    task: AbortHandle,
}

/// Leaves the table with its task, however that ends.
struct Guard {
    streams: Streams,
    key: usize,
    progress: Arc<Progress>,
}

/// How far a response is.
#[derive(Debug)]
struct Progress {
    begun: Instant,
    /// Milliseconds from `begun` to when the last bytes were handed out, plus one; 0 while it is we who have nothing to send.
    handed: AtomicU64,
    /// The same for the first bytes of a body that is all there; 0 for one that grows.
    whole: AtomicU64,
    /// Everything has been handed out.
    finished: AtomicBool,
}

/// Requests that were taken back, less those that time has forgiven.
#[derive(Debug)]
struct Resets {
    level: f64,
    seen: Instant,
}

tokio::task_local! {
    static PROGRESS: Arc<Progress>;
}

impl Streams {
    fn new(metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Shared {
            metrics,
            open: Mutex::default(),
            resets: Mutex::new(Resets {
                level: 0.0,
                seen: Instant::now(),
            }),
            too_many_resets: CancellationToken::new(),
        }))
    }

    fn is_idle(&self) -> bool {
        self.open().is_empty()
    }

    /// Ends responses that nobody takes.
    fn drop_stalled(&self) {
        for (_, open) in self.open().iter() {
            if open.progress.is_stalled() {
                self.0.metrics.limit("viewer_stalled");
                open.task.abort();
            }
        }
    }

    fn open(&self) -> MutexGuard<'_, Slab<Open>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_reset(&self) {
        let mut resets = self.0.resets.lock().unwrap_or_else(PoisonError::into_inner);
        let forgiven = resets.seen.elapsed().as_secs_f64() * RESETS_FORGIVEN;
        resets.level = (resets.level - forgiven).max(0.0) + 1.0;
        resets.seen = Instant::now();
        if resets.level > MAX_RESETS {
            self.0.too_many_resets.cancel();
        }
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let progress = Arc::new(Progress::new());
        // Held until the entry is complete: the task may be over before this function is.
        let mut open = self.open();
        let entry = open.vacant_entry();
        let guard = Guard {
            streams: self.clone(),
            key: entry.key(),
            progress: Arc::clone(&progress),
        };
        let task = tokio::spawn(PROGRESS.scope(Arc::clone(&progress), async move {
            let _guard = guard;
            stream.await;
        }));
        entry.insert(Open {
            progress,
            task: task.abort_handle(),
        });
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.streams.open().try_remove(self.key);
        if std::thread::panicking() {
            self.streams.0.metrics.panics.inc();
            error!("a task that answered a request panicked; only that request is lost");
        } else if !self.progress.finished.load(Ordering::Relaxed) {
            self.streams.note_reset();
        }
    }
}

impl Progress {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            handed: AtomicU64::new(0),
            whole: AtomicU64::new(0),
            finished: AtomicBool::new(false),
        }
    }

    fn hand_out(&self, is_whole: bool) {
        let now = self.begun.elapsed().as_millis() as u64 + 1;
        self.handed.store(now, Ordering::Relaxed);
        if is_whole {
            let _ = self
                .whole
                .compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    fn is_stalled(&self) -> bool {
        let since = |mark: &AtomicU64| match mark.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            mark => self
                .begun
                .elapsed()
                .saturating_sub(Duration::from_millis(mark)),
        };
        since(&self.handed) > STALL_TIMEOUT || since(&self.whole) > LONGEST_TRANSFER
    }
}

/// A body that notes how far it is, and hands out no more than [`MAX_FRAME`] bytes at once, so that being far says something.
#[derive(Debug)]
struct Watched {
    body: ResponseBody,
    /// What the body has given and is not handed out yet.
    rest: Pieces,
    is_whole: bool,
    progress: Option<Arc<Progress>>,
}

impl Watched {
    fn new(body: ResponseBody) -> Self {
        let progress = PROGRESS.try_with(Arc::clone).ok();
        if let Some(progress) = progress.as_ref().filter(|_| body.is_end_stream()) {
            progress.finished.store(true, Ordering::Relaxed);
        }
        Self {
            is_whole: body.size_hint().exact().is_some(),
            body,
            rest: Pieces::default(),
            progress,
        }
    }

    fn note(&self, note: impl FnOnce(&Progress)) {
        if let Some(progress) = &self.progress {
            note(progress);
        }
    }
}

impl Body for Watched {
    type Data = Pieces;
    type Error = FellBehind;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Pieces>, FellBehind>>> {
        if !self.rest.has_remaining() {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Pending => {
                    self.note(|progress| progress.handed.store(0, Ordering::Relaxed));
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(pieces) => self.rest = pieces,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                Poll::Ready(end) => {
                    self.note(|progress| progress.finished.store(true, Ordering::Relaxed));
                    return Poll::Ready(end);
                }
            }
        }
        let front = self.rest.split_front(MAX_FRAME);
        self.note(|progress| progress.hand_out(self.is_whole));
        if self.is_end_stream() {
            self.note(|progress| progress.finished.store(true, Ordering::Relaxed));
        }
        Poll::Ready(Some(Ok(Frame::data(front))))
    }

    fn is_end_stream(&self) -> bool {
        !self.rest.has_remaining() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.rest.remaining() {
            0 => self.body.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

/// Requests at once. Players have three or four under way; a proxy that carries many viewers on one connection waits beyond this.
const MAX_STREAMS: u32 = 100;
/// Requests taken back before hyper has looked at them.
const MAX_PENDING_RESETS: usize = 20;
/// Requests that were so wrong that only they were ended.
const MAX_ERROR_RESETS: usize = 100;
/// Requests taken back at once that are nothing unusual: all of those that may be under way, twice.
const MAX_RESETS: f64 = 200.0;
/// And how many a second for good: a proxy whose viewers leave does that.
const RESETS_FORGIVEN: f64 = 20.0;
/// Bytes of a request's header fields, with 32 for each field (RFC 9113, 6.5.2).
const MAX_HEADER_LIST: u32 = 16 * 1024;
/// Bytes of one response that wait for the connection, beyond which the body is not asked for more.
const MAX_UNSENT: usize = 64 * 1024;
/// What a body hands out at once. It is all that a response holds beyond the segment while its reader grants nothing.
const MAX_FRAME: usize = 64 * 1024;
/// For request bodies, of which none is expected: the least that the protocol starts with.
const RECEIVE_WINDOW: u32 = 65_535;
/// A peer that has silently gone is found out after the sum of these.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// From the handshake to the first request, as in HTTP/1.1.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// Without a request. Longer than the pauses of any player; browsers open a new connection when they need one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// A reader that takes none of 64 KiB in this time is gone.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// For a body that was all there when it was asked for. The largest segment in this time is 1 Mb/s, too slow to follow such a stream.
const LONGEST_TRANSFER: Duration = Duration::from_secs(120);
/// After this the client is asked to open a new connection, which it does without a pause. It bounds what a peer can gather that answers
/// every ping and takes not a byte.
const LONGEST_CONNECTION: Duration = Duration::from_secs(3600);
/// For requests that are under way then.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(180);

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::body::Incoming;
    use hyper::client::conn::http2 as client;
    use hyper::{Request, Response};
    use hyper_util::rt::TokioExecutor;

    use super::*;
    use crate::hls::segment::{Piece, Segment};
    use crate::http::meter::Meter;

    /// A connection whose client grants `window` bytes, and answers to whatever is asked with what `body` makes.
    async fn connected(
        window: u32,
        body: impl Fn() -> ResponseBody + Clone + Send + 'static,
    ) -> (client::SendRequest<String>, Streams, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::new());
        let streams = Streams::new(Arc::clone(&metrics));
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let answer = service_fn(move |_: Request<Incoming>| {
            let body = body.clone();
            async move { Ok::<_, Infallible>(Response::new(Watched::new(body()))) }
        });
        let served = http2::Builder::new(streams.clone())
            .timer(TokioTimer::new())
            .max_send_buf_size(MAX_UNSENT)
            .serve_connection(TokioIo::new(ours), answer);
        tokio::spawn(served);
        let (sender, connection) = client::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(window)
            .handshake(TokioIo::new(theirs))
            .await
            .unwrap();
        tokio::spawn(connection);
        (sender, streams, metrics)
    }

    async fn ask(sender: &mut client::SendRequest<String>) -> Incoming {
        let request = Request::get("https://a/").body(String::new()).unwrap();
        sender.send_request(request).await.unwrap().into_body()
    }

    async fn next(body: &mut Incoming) -> Option<hyper::Result<Bytes>> {
        let frame =
            std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await?;
        Some(frame.map(|frame| frame.into_data().unwrap()))
    }

    fn limits(metrics: &Metrics) -> u64 {
        let reason = "viewer_stalled";
        let limits = &metrics.limits;
        limits
            .get_or_create(&crate::metrics::Reason { reason })
            .get()
    }

    fn piece(length: usize) -> Piece {
        Piece {
            bytes: Bytes::from(vec![7; length]),
            published: std::time::Instant::now(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_grants_nothing_is_let_go() {
        let segment = Arc::new(Segment::pending(1));
        let growing = Arc::clone(&segment);
        let body = move || {
            let meter = Arc::new(Meter::new(Arc::new(Metrics::new())));
            ResponseBody::growing(Arc::clone(&growing), meter)
        };
        let (mut sender, streams, metrics) = connected(100, body).await;
        let mut answer = ask(&mut sender).await;
        let held = Arc::strong_count(&segment);
        // Nothing to send is nobody's fault, however long it takes.
        tokio::time::sleep(STALL_TIMEOUT * 3).await;
        streams.drop_stalled();
        assert_eq!((streams.open().len(), limits(&metrics)), (1, 0));

        segment.append(piece(50_000));
        segment.append(piece(50_000));
        tokio::time::sleep(STALL_TIMEOUT / 2).await;
        streams.drop_stalled();
        assert_eq!(streams.open().len(), 1, "there is time yet");
        tokio::time::sleep(STALL_TIMEOUT).await;
        streams.drop_stalled();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!((streams.open().len(), limits(&metrics)), (0, 1));
        assert!(
            Arc::strong_count(&segment) < held,
            "it is not held any more"
        );
        let mut taken = 0;
        let end = loop {
            match next(&mut answer).await {
                Some(Ok(bytes)) => taken += bytes.len(),
                end => break end,
            }
        };
        assert!(end.is_some_and(|end| end.is_err()), "broken off, not ended");
        assert!(taken < 100_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_keeps_reading_is_served_to_the_end() {
        let body = || ResponseBody::pieces(vec![Bytes::from(vec![7; 500_000]); 2]);
        let (mut sender, streams, metrics) = connected(20_000, body).await;
        let mut answer = ask(&mut sender).await;
        let mut taken = 0;
        while let Some(bytes) = next(&mut answer).await {
            taken += bytes.unwrap().len();
            tokio::time::sleep(Duration::from_millis(100)).await;
            streams.drop_stalled();
        }
        assert_eq!((taken, limits(&metrics)), (1_000_000, 0));
        assert!(streams.is_idle());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_all_there_may_not_be_held_for_ever() {
        let body = || ResponseBody::pieces(vec![Bytes::from(vec![7; 10_000_000])]);
        let (mut sender, streams, metrics) = connected(65_535, body).await;
        let mut answer = ask(&mut sender).await;
        let mut taken = 0;
        while let Some(Ok(bytes)) = next(&mut answer).await {
            taken += bytes.len();
            tokio::time::sleep(Duration::from_secs(3)).await;
            streams.drop_stalled();
        }
        assert!(taken < 10_000_000, "it would have taken half an hour");
        assert_eq!(limits(&metrics), 1);
    }

    #[tokio::test]
    async fn what_is_finished_is_not_counted_as_taken_back() {
        for body in [ResponseBody::empty, || ResponseBody::full("hello")] {
            let (mut sender, streams, _) = connected(1000, body).await;
            for _ in 0..3 {
                let mut answer = ask(&mut sender).await;
                while next(&mut answer).await.is_some() {}
            }
            assert!(streams.0.resets.lock().unwrap().level < 0.5);
        }
    }
}
