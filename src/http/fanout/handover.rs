//! From hyper to here and back: an answer that hyper is not to give, and a socket with bytes that have already been read from it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::{Buf, Bytes};
use http_body::Body;
use hyper::header::{self, HeaderMap};
use hyper::{Method, Request, Response, Version};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::hls::segment::Segment;
use crate::http::body::ResponseBody;
use crate::http::idle::Busy;

/// An answer that is to be given without hyper.
#[derive(Debug)]
pub(crate) struct Answer {
    /// As it goes over the wire.
    pub(super) head: Bytes,
    pub(super) segment: Arc<Segment>,
    /// Whether the connection ends with it.
    pub(super) closes: bool,
    pub(super) busy: Busy,
}

/// Where a connection's service leaves an [`Answer`].
#[derive(Debug, Default)]
pub(crate) struct Slot {
    answer: Mutex<Option<Answer>>,
    /// hyper has nothing more to write. Only then may its state go.
    flushed: AtomicBool,
}

impl Answer {
    /// Makes one of a response whose body is a growing segment, if hyper can do without: of HTTP/1.1, and of a request that is over with
    /// its head.
    pub(crate) fn take<B: Body>(
        request: &Request<B>,
        response: &Response<ResponseBody>,
        busy: Busy,
    ) -> Result<Self, Busy> {
        let whole = request.version() == Version::HTTP_11
            && request.method() == Method::GET
            && request.body().is_end_stream();
        let segment = response.body().unread_segment().filter(|_| whole);
        let Some(segment) = segment.map(Arc::clone) else {
            return Err(busy);
        };
        let closes = wants_close(request.headers());
        Ok(Self {
            head: head(response, closes),
            segment,
            closes,
            busy,
        })
    }
}

impl Slot {
    /// Leaves an answer. It can be taken when hyper has flushed what it had before.
    pub(crate) fn put(&self, answer: Answer) {
        self.flushed.store(false, Ordering::Release);
        *self.lock() = Some(answer);
    }

    /// The answer, if there is one and nothing in front of it.
    pub(crate) fn take(&self) -> Option<Answer> {
        // hyper polls the service and flushes afterwards, so what was flushed since is all that there was.
        let flushed = self.flushed.load(Ordering::Acquire);
        self.lock().take_if(|_| flushed)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Answer>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Status line and fields as hyper writes them: these, the transfer coding, and the date.
fn head(response: &Response<ResponseBody>, closes: bool) -> Bytes {
    let mut text = Vec::with_capacity(USUAL_HEAD);
    text.extend_from_slice(b"HTTP/1.1 ");
    text.extend_from_slice(response.status().as_str().as_bytes());
    text.extend_from_slice(b" ");
    let reason = response.status().canonical_reason().unwrap_or_default();
    text.extend_from_slice(reason.as_bytes());
    text.extend_from_slice(b"\r\n");
    let mut field = |name: &str, value: &[u8]| {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            text.extend_from_slice(part);
        }
    };
    for (name, value) in response.headers() {
        field(name.as_str(), value.as_bytes());
    }
    if closes {
        field("connection", b"close");
    }
    field("transfer-encoding", b"chunked");
    let date = httpdate::HttpDate::from(SystemTime::now()).to_string();
    field("date", date.as_bytes());
    text.extend_from_slice(b"\r\n");
    text.into()
}

fn wants_close(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CONNECTION).iter();
    let mut options = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    options.any(|option| option.trim().eq_ignore_ascii_case("close"))
}

/// A socket in front of which there are bytes that have already been read from it, and which tells a [`Slot`] of flushes.
#[derive(Debug)]
pub(crate) struct Prefaced<'a, T> {
    front: Bytes,
    inner: T,
    slot: &'a Slot,
}

impl<'a, T> Prefaced<'a, T> {
    pub(crate) fn new(front: Bytes, inner: T, slot: &'a Slot) -> Self {
        Self { front, inner, slot }
    }

    /// What has not been read again, and the socket.
    pub(crate) fn into_parts(self) -> (Bytes, T) {
        (self.front, self.inner)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Prefaced<'_, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.front.is_empty() {
            return Pin::new(&mut self.inner).poll_read(context, buffer);
        }
        let count = self.front.len().min(buffer.remaining());
        buffer.put_slice(&self.front[..count]);
        self.front.advance(count);
        if self.front.is_empty() {
            self.front = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Prefaced<'_, T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    /// Called by hyper when all that it had has been written.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(context);
        if flushed.is_ready() {
            self.slot.flushed.store(true, Ordering::Release);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// Of a head, in bytes.
const USUAL_HEAD: usize = 512;
