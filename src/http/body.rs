//! Response bodies: playlists and errors as one block, finished segments from their pieces, growing segments as they grow.
//!
//! A growing body holds a segment and a cursor, nothing else: no queue, no copy. It yields everything new as one frame, which
//! hyper sends as one HTTP chunk with one vectored write. While the viewer's socket is full hyper does not ask, so a slow viewer
//! costs its cursor only, and it finds all that has come meanwhile in one read.

use std::fmt;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

use super::idle::Busy;
use super::meter::Meter;
use crate::hls::segment::{Piece, Read, Segment};
use crate::stream::subscribers::Subscription;

/// The body of any response.
#[derive(Debug)]
pub struct ResponseBody {
    kind: Kind,
    /// Dropped with the body, that is, when all of it has been handed over.
    busy: Option<Busy>,
}

/// The viewer reads so slowly that the ring has moved on without it. The response is broken off, not ended, so that no cache takes
/// it for whole; the viewer can start again at the live edge.
#[derive(Debug, thiserror::Error)]
#[error("the viewer has fallen too far behind")]
pub struct FellBehind;

#[derive(Debug)]
enum Kind {
    Whole(Option<Pieces>),
    /// `waited`: the viewer had everything there was, so the next piece's way to it can be measured.
    Growing {
        segment: Arc<Segment>,
        cursor: usize,
        /// From the first look on: a body that is handed over to the fan-out is never looked at.
        subscription: Option<Subscription>,
        meter: Arc<Meter>,
        waited: bool,
    },
    /// What is sent in one go when it is there.
    Awaited(Awaited),
}

/// Blocks of bytes that are still to come; `None` if they never will.
struct Awaited(Pin<Box<dyn Future<Output = Option<Vec<Bytes>>> + Send>>);

impl fmt::Debug for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Awaited")
    }
}

impl ResponseBody {
    /// No bytes.
    pub fn empty() -> Self {
        Self::of(Kind::Whole(None))
    }

    /// One block.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::pieces(vec![bytes.into()])
    }

    /// Several blocks of known length together.
    pub fn pieces(pieces: Vec<Bytes>) -> Self {
        let pieces = Pieces::new(pieces);
        Self::of(Kind::Whole(pieces.has_remaining().then_some(pieces)))
    }

    /// A segment from its first byte, followed until it ends. `meter` learns when each piece came.
    pub fn growing(segment: Arc<Segment>, meter: Arc<Meter>) -> Self {
        Self::of(Kind::Growing {
            segment,
            cursor: 0,
            subscription: None,
            meter,
            waited: false,
        })
    }

    /// Blocks that are still to come, behind status and headers that are sent at once.
    pub fn awaited(blocks: impl Future<Output = Option<Vec<Bytes>>> + Send + 'static) -> Self {
        Self::of(Kind::Awaited(Awaited(Box::pin(blocks))))
    }

    /// The segment that this is the body of, if it is one that grows and nothing has been read from it.
    pub(super) fn unread_segment(&self) -> Option<&Arc<Segment>> {
        match &self.kind {
            Kind::Growing {
                segment, cursor: 0, ..
            } => Some(segment),
            _ => None,
        }
    }

    /// Keeps the connection from counting as idle while this body exists.
    pub fn keep(&mut self, busy: Busy) {
        self.busy = Some(busy);
    }

    fn of(kind: Kind) -> Self {
        Self { kind, busy: None }
    }
}

impl Body for ResponseBody {
    type Data = Pieces;
    type Error = FellBehind;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Pieces>, FellBehind>>> {
        let kind = &mut self.get_mut().kind;
        match kind {
            Kind::Awaited(blocks) => {
                let blocks = std::task::ready!(blocks.0.as_mut().poll(context));
                *kind = Kind::Whole(None);
                Poll::Ready(blocks.map(|blocks| Ok(Frame::data(Pieces::new(blocks)))))
            }
            Kind::Whole(pieces) => Poll::Ready(pieces.take().map(|pieces| Ok(Frame::data(pieces)))),
            Kind::Growing {
                segment,
                cursor,
                subscription,
                meter,
                waited,
            } => {
                if is_too_old(segment) {
                    meter.fell_behind();
                    return Poll::Ready(Some(Err(FellBehind)));
                }
                // Register before looking, else a piece that comes in between wakes nobody.
                subscription
                    .get_or_insert_with(|| segment.growth().subscribe())
                    .register(context);
                let mut batch = Batch::default();
                match segment.read(cursor, MAX_PIECES, &mut batch) {
                    Read::Wait => {
                        *waited = true;
                        Poll::Pending
                    }
                    Read::End => Poll::Ready(None),
                    Read::Pieces => {
                        if let Some(published) = batch.published.filter(|_| std::mem::take(waited))
                        {
                            meter.yielded(published);
                        }
                        Poll::Ready(Some(Ok(Frame::data(batch.pieces))))
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.kind, Kind::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(pieces) => SizeHint::with_exact(
                pieces
                    .as_ref()
                    .map_or(0, |pieces| pieces.remaining() as u64),
            ),
            Kind::Growing { .. } | Kind::Awaited(_) => SizeHint::default(),
        }
    }
}

/// Several blocks of bytes, read as one. The first is held apart, since one is what there mostly is.
#[derive(Debug, Default)]
pub struct Pieces {
    first: Bytes,
    /// In reverse, so that the next one is taken off the end.
    rest: Vec<Bytes>,
    remaining: usize,
}

impl Pieces {
    fn new(mut pieces: Vec<Bytes>) -> Self {
        let remaining = pieces.iter().map(Bytes::len).sum();
        pieces.reverse();
        let mut pieces = Self {
            first: Bytes::new(),
            rest: pieces,
            remaining,
        };
        pieces.refill();
        pieces
    }

    /// Takes up to `limit` bytes off the front.
    #[cfg(feature = "tls")]
    pub(super) fn split_front(&mut self, limit: usize) -> Self {
        if self.remaining <= limit {
            return std::mem::take(self);
        }
        let mut front = Vec::new();
        let mut wanted = limit;
        while wanted > 0 {
            let block = self.first.split_to(wanted.min(self.first.len()));
            wanted -= block.len();
            self.remaining -= block.len();
            front.push(block);
            self.refill();
        }
        Self::new(front)
    }

    fn refill(&mut self) {
        while self.first.is_empty() {
            let Some(next) = self.rest.pop() else { return };
            self.first = next;
        }
    }
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        &self.first
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.remaining, "advanced past the end");
        self.remaining -= count;
        while count > 0 {
            let now = count.min(self.first.len());
            self.first.advance(now);
            count -= now;
            self.refill();
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let blocks = std::iter::once(&self.first)
            .chain(self.rest.iter().rev())
            .filter(|block| !block.is_empty());
        slices
            .iter_mut()
            .zip(blocks)
            .map(|(slice, block)| *slice = IoSlice::new(block))
            .count()
    }
}

/// Gathers what a read of a segment hands out.
#[derive(Debug, Default)]
struct Batch {
    pieces: Pieces,
    published: Option<std::time::Instant>,
}

impl Extend<Piece> for Batch {
    fn extend<I: IntoIterator<Item = Piece>>(&mut self, pieces: I) {
        let mut pieces = pieces.into_iter();
        let Some(first) = pieces.next() else { return };
        let mut remaining = first.bytes.len();
        // The newest one counts: that older ones were not read is the viewer's doing, or it has just come.
        let mut published = first.published;
        let mut rest: Vec<Bytes> = pieces
            .map(|piece| {
                remaining += piece.bytes.len();
                published = piece.published;
                piece.bytes
            })
            .collect();
        rest.reverse();
        self.pieces = Pieces {
            first: first.bytes,
            rest,
            remaining,
        };
        self.published = Some(published);
    }
}

/// Whether a segment ended so long ago that who still reads it as it grew has fallen behind.
pub(super) fn is_too_old(segment: &Segment) -> bool {
    segment
        .ended()
        .is_some_and(|ended| ended.elapsed() > LONGEST_LAG)
}

/// How long after a segment's end it may still be read from while it was growing. It bounds the memory that slow readers hold.
const LONGEST_LAG: Duration = Duration::from_secs(60);
/// Pieces in one frame: as many slices as one `writev` of hyper's takes, less those of the chunk's own framing.
const MAX_PIECES: usize = 60;

#[cfg(test)]
mod tests {
    use std::task::Waker;
    use std::time::Instant;

    use super::*;
    use crate::metrics::Metrics;

    fn pieces() -> Pieces {
        Pieces::new(
            ["", "ab", "", "cde", "f"]
                .map(|text| Bytes::from_static(text.as_bytes()))
                .into(),
        )
    }

    #[test]
    fn who_falls_behind_is_broken_off_and_counted() {
        let metrics = Arc::new(Metrics::new());
        let segment = Arc::new(Segment::pending(7));
        segment.append(Piece {
            bytes: Bytes::from_static(b"abc"),
            published: Instant::now(),
        });
        let meter = Arc::new(Meter::new(Arc::clone(&metrics)));
        let mut body = ResponseBody::growing(Arc::clone(&segment), meter);
        let mut poll = || Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(poll(), Poll::Ready(Some(Ok(_)))));
        assert!(poll().is_pending());
        let long_ago = Instant::now().checked_sub(LONGEST_LAG + Duration::from_secs(1));
        segment.end(long_ago.unwrap());
        assert!(matches!(poll(), Poll::Ready(Some(Err(FellBehind)))));
        let limits = metrics.encode(&[]);
        assert!(limits.contains("lhls_limits_hit_total{reason=\"viewer_behind\"} 1\n"));
    }

    #[test]
    fn several_blocks_read_as_one() {
        let mut all = Vec::new();
        let mut rest = pieces();
        assert_eq!(rest.remaining(), 6);
        while rest.has_remaining() {
            all.extend_from_slice(&rest.chunk()[..1]);
            rest.advance(1);
        }
        assert_eq!(all, b"abcdef");
    }

    #[cfg(feature = "tls")]
    #[test]
    fn the_front_can_be_taken_off_anywhere() {
        for limit in 0..=7 {
            let mut rest = pieces();
            let mut front = rest.split_front(limit);
            assert_eq!(front.remaining(), limit.min(6));
            assert_eq!(rest.remaining(), 6 - limit.min(6));
            let mut all = front.copy_to_bytes(front.remaining()).to_vec();
            all.extend(rest.copy_to_bytes(rest.remaining()));
            assert_eq!(all, b"abcdef");
        }
    }

    #[test]
    fn vectored_reads_see_every_block_once_from_any_position() {
        for start in 0..=6 {
            let mut rest = pieces();
            rest.advance(start);
            let mut slices = [IoSlice::new(&[]); 8];
            let count = rest.chunks_vectored(&mut slices);
            let seen: Vec<u8> = slices[..count]
                .iter()
                .flat_map(|slice| slice.to_vec())
                .collect();
            assert_eq!(seen, b"abcdef"[start..]);
            assert!(slices[..count].iter().all(|slice| !slice.is_empty()));
        }
    }
}
