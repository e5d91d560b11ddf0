//! The viewer's socket, measured: bytes written, and how long a piece took from the ring to here.
//!
//! The body says when the piece it hands to hyper was published; the next write that the socket accepts closes the measurement. A
//! viewer that takes nothing for too long is cut off here too, since hyper knows no write timeout.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::metrics::Metrics;
use crate::stream::connections::Place;
use crate::stream::{Stream, Viewer};

/// What a connection's bodies and its socket share.
#[derive(Debug)]
pub struct Meter {
    metrics: Arc<Metrics>,
    origin: Instant,
    /// Nanoseconds from `origin` to the publication of the piece being written, plus one; 0 when there is none.
    waiting: AtomicU64,
    /// The connection's place in the list of connections, if it has one.
    place: Option<Place>,
    /// The stream this connection is playing.
    viewer: Mutex<Option<Viewer>>,
}

impl Meter {
    /// A meter of a connection that starts now.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            origin: Instant::now(),
            waiting: AtomicU64::new(0),
            place: None,
            viewer: Mutex::new(None),
        }
    }

    /// A meter of a connection that operators can see and send away.
    pub fn listed(metrics: Arc<Metrics>, place: Place) -> Self {
        Self {
            place: Some(place),
            ..Self::new(metrics)
        }
    }

    /// Counts the connection as a viewer of `stream`, and of no other. `agent` is what the player calls itself.
    pub fn plays(&self, stream: &Arc<Stream>, agent: Option<&str>) {
        let mut viewer = self.viewer();
        if viewer
            .as_ref()
            .is_some_and(|viewer| Arc::ptr_eq(viewer.stream(), stream))
        {
            return;
        }
        *viewer = Some(stream.join());
        if let Some(place) = &self.place {
            place.connection().does(stream.name(), agent);
        }
    }

    /// A piece published at `published` is on its way to the socket.
    pub fn yielded(&self, published: Instant) {
        let since = published.saturating_duration_since(self.origin);
        self.waiting
            .store(since.as_nanos() as u64 + 1, Ordering::Relaxed);
    }

    /// A viewer was too slow for what it asked for.
    pub fn fell_behind(&self) {
        self.metrics.limit("viewer_behind");
    }

    fn written(&self, bytes: usize) {
        self.metrics.http_bytes.inc_by(bytes as u64);
        if let Some(place) = &self.place {
            place.connection().count(bytes);
        }
        let waiting = self.waiting.swap(0, Ordering::Relaxed);
        if waiting > 0 {
            let since = self.origin.elapsed().as_nanos() as u64;
            let latency = Duration::from_nanos(since.saturating_sub(waiting - 1));
            self.metrics.delivery_latency.observe(latency.as_secs_f64());
            if let Some(viewer) = &*self.viewer() {
                viewer.stream().delivered(latency);
            }
        }
    }

    fn is_kicked(&self, context: &Context<'_>) -> bool {
        self.place
            .as_ref()
            .is_some_and(|place| place.connection().is_kicked(context))
    }

    fn viewer(&self) -> MutexGuard<'_, Option<Viewer>> {
        self.viewer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket whose writes are measured and may not stall for ever.
#[derive(Debug)]
pub struct MeteredIo<T> {
    inner: T,
    meter: Arc<Meter>,
    stall_timeout: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<T> MeteredIo<T> {
    /// Wraps a socket.
    pub fn new(inner: T, meter: Arc<Meter>, stall_timeout: Duration) -> Self {
        Self {
            inner,
            meter,
            stall_timeout,
            stalled: None,
        }
    }

    /// Closes the measurement of a write, or starts or checks the stall timer of one that waits.
    fn wrote(
        &mut self,
        result: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match result {
            Poll::Ready(Ok(bytes)) => {
                self.stalled = None;
                self.meter.written(bytes);
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let timeout = self.stall_timeout;
                let stalled = self
                    .stalled
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
                ready!(stalled.as_mut().poll(context));
                self.meter.metrics.limit("viewer_stalled");
                Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the viewer has stopped reading",
                )))
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for MeteredIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Whatever a connection is doing, it waits for the next request or the viewer's hanging up as well.
        if self.meter.is_kicked(context) {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "an operator has closed the connection",
            )));
        }
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for MeteredIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.wrote(result, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.wrote(result, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
