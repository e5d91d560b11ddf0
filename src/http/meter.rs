//! The viewer's socket, measured: bytes written, and how long a piece took from the ring to here.
//!
//! The body says when the piece it hands to hyper was published; the next write that the socket accepts closes the measurement. A
//! viewer that takes nothing for too long, or too little for too long, is cut off here too, since hyper knows no write timeout.
//! What it is being sent stays in memory for it alone once the ring has dropped it, so this also bounds how long that can be.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::metrics::Metrics;
use crate::stream::connections::Place;
use crate::stream::{Stream, Viewer};

/// What a connection's bodies and its socket share.
#[derive(Debug)]
pub struct Meter {
    metrics: Arc<Metrics>,
    origin: std::time::Instant,
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
            origin: std::time::Instant::now(),
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

    /// The number of the connection, which grows from one to the next; 0 if it is not listed.
    pub(super) fn connection(&self) -> u64 {
        self.place
            .as_ref()
            .map_or(0, |place| place.connection().id())
    }

    /// A piece published at `published` is on its way to the socket.
    pub fn yielded(&self, published: std::time::Instant) {
        let since = published.saturating_duration_since(self.origin);
        self.waiting
            .store(since.as_nanos() as u64 + 1, Ordering::Relaxed);
    }

    /// A viewer was too slow for what it asked for.
    pub fn fell_behind(&self) {
        self.metrics.limit("viewer_behind");
    }

    /// A viewer has kept the server waiting for too long.
    pub(super) fn cut_off(&self, too_late: TooLate) {
        self.metrics.limit(match too_late {
            TooLate::Stalled => "viewer_stalled",
            TooLate::Slow => "viewer_slow",
        });
    }

    /// The socket has taken so many bytes.
    pub(super) fn sent(&self, bytes: usize) {
        self.metrics.http_bytes.inc_by(bytes as u64);
        if let Some(place) = &self.place {
            place.connection().count(bytes);
        }
    }

    /// A piece that the viewer had been waiting for is in the socket, so long after it was published.
    pub(super) fn delivered(&self, latency: Duration) {
        self.metrics.delivery_latency.observe(latency.as_secs_f64());
        if let Some(viewer) = &*self.viewer() {
            viewer.stream().delivered(latency);
        }
    }

    fn written(&self, bytes: usize) {
        self.sent(bytes);
        let waiting = self.waiting.swap(0, Ordering::Relaxed);
        if waiting > 0 {
            let since = self.origin.elapsed().as_nanos() as u64;
            self.delivered(Duration::from_nanos(since.saturating_sub(waiting - 1)));
        }
    }

    /// Whether an operator has closed the connection; if not, the task that asks is woken when one does.
    pub(super) fn is_kicked(&self, context: &Context<'_>) -> bool {
        self.place
            .as_ref()
            .is_some_and(|place| place.connection().is_kicked(context))
    }

    /// Resolves when an operator closes the connection.
    pub(super) async fn kicked(&self) {
        poll_fn(|context| match self.is_kicked(context) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }

    fn viewer(&self) -> MutexGuard<'_, Option<Viewer>> {
        self.viewer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How slowly a viewer may read.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// One that takes no byte for this long is gone.
    pub stalled: Duration,
    /// One that has not once caught up with what it asked for in this time never will.
    pub behind: Duration,
}

/// How long a viewer has been keeping the server waiting.
#[derive(Debug)]
pub struct Lateness {
    patience: Patience,
    /// Since when the socket has been full; it is not any more once everything has been written.
    full_since: Option<Instant>,
    /// Runs while the socket takes nothing.
    waits: Option<Pin<Box<Sleep>>>,
}

/// Why a viewer is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooLate {
    /// It takes nothing.
    #[error("the viewer has stopped reading")]
    Stalled,
    /// It takes too little.
    #[error("the viewer reads too slowly to keep up")]
    Slow,
}

impl Lateness {
    /// Not late.
    pub fn new(patience: Patience) -> Self {
        Self {
            patience,
            full_since: None,
            waits: None,
        }
    }

    /// The socket has taken something.
    ///
    /// # Errors
    /// If that was too little for too long.
    pub fn took(&mut self) -> Result<(), TooLate> {
        // A socket that is never full, which is the usual one, costs no look at the clock.
        if self.full_since.is_none() {
            return Ok(());
        }
        self.waits = None;
        if self.is_behind() {
            return Err(TooLate::Slow);
        }
        Ok(())
    }

    /// The socket is full: resolves when that has been so for too long.
    pub fn poll_full(&mut self, context: &mut Context<'_>) -> Poll<TooLate> {
        let now = Instant::now();
        let end = *self.full_since.get_or_insert(now) + self.patience.behind;
        let end = end.min(now + self.patience.stalled);
        let waits = self
            .waits
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        ready!(waits.as_mut().poll(context));
        Poll::Ready(if self.is_behind() {
            TooLate::Slow
        } else {
            TooLate::Stalled
        })
    }

    /// Everything has been written.
    pub fn caught_up(&mut self) {
        (self.full_since, self.waits) = (None, None);
    }

    fn is_behind(&self) -> bool {
        self.full_since
            .is_some_and(|since| since.elapsed() >= self.patience.behind)
    }
}

/// A socket whose writes are measured, and may neither stall for ever nor lag for ever.
#[derive(Debug)]
pub struct MeteredIo<T> {
    inner: T,
    meter: Arc<Meter>,
    lateness: Lateness,
}

impl<T> MeteredIo<T> {
    /// Wraps a socket.
    pub fn new(inner: T, meter: Arc<Meter>, patience: Patience) -> Self {
        Self {
            inner,
            meter,
            lateness: Lateness::new(patience),
        }
    }

    /// The socket alone.
    pub fn into_inner(self) -> T {
        self.inner
    }

    /// Closes the measurement of a write, or starts or checks the timer of one that waits.
    fn wrote(
        &mut self,
        result: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let too_late = match result {
            Poll::Ready(Ok(bytes)) => {
                self.meter.written(bytes);
                match self.lateness.took() {
                    Ok(()) => return result,
                    Err(too_late) => too_late,
                }
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => ready!(self.lateness.poll_full(context)),
        };
        self.meter.cut_off(too_late);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, too_late)))
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

    /// Called by hyper when all that it had has been written.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lateness.caught_up();
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    /// A viewer's end of a socket that holds 1 kB, and the error that the server's end of it gets.
    fn served() -> (
        DuplexStream,
        Arc<Metrics>,
        impl Future<Output = io::Result<()>>,
    ) {
        let (viewer, socket) = tokio::io::duplex(1024);
        let metrics = Arc::new(Metrics::new());
        let patience = Patience {
            stalled: Duration::from_secs(30),
            behind: Duration::from_secs(60),
        };
        let meter = Arc::new(Meter::new(Arc::clone(&metrics)));
        let mut io = MeteredIo::new(socket, meter, patience);
        let writing = async move {
            for _ in 0..10 {
                io.write_all(&[0; 20_000]).await?;
                io.flush().await?;
            }
            Ok(())
        };
        (viewer, metrics, writing)
    }

    fn limits(metrics: &Metrics) -> String {
        let text = metrics.encode(&[]);
        let lines = text
            .lines()
            .filter(|line| line.starts_with("lhls_limits_hit_total") && !line.ends_with(" 0"));
        lines.collect::<Vec<_>>().join(" ")
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_cut_off() {
        let (_viewer, metrics, writing) = served();
        let start = Instant::now();
        assert_eq!(writing.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), 30);
        assert_eq!(
            limits(&metrics),
            "lhls_limits_hit_total{reason=\"viewer_stalled\"} 1"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_a_little_now_and_then_is_cut_off_too() {
        let (mut viewer, metrics, writing) = served();
        let start = Instant::now();
        let reading = async {
            let mut taken = [0; 100];
            while viewer.read(&mut taken).await.is_ok_and(|count| count > 0) {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let (written, ()) = tokio::join!(writing, reading);
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!((60..80).contains(&start.elapsed().as_secs()));
        assert_eq!(
            limits(&metrics),
            "lhls_limits_hit_total{reason=\"viewer_slow\"} 1"
        );
    }

    /// Each answer takes it 20 s, so it is full most of the time; but it always catches up.
    #[tokio::test(start_paused = true)]
    async fn who_catches_up_now_and_then_stays() {
        let (mut viewer, metrics, writing) = served();
        let reading = async {
            let mut taken = [0; 1000];
            while viewer.read(&mut taken).await.is_ok_and(|count| count > 0) {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let (written, ()) = tokio::join!(writing, reading);
        written.unwrap();
        assert_eq!(limits(&metrics), "");
    }
}
