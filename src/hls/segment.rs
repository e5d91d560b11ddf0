//! A segment: an append-only list of pieces with a published length and a state.
//!
//! One writer appends; any number of viewers read, each with a cursor of its own into the list. A reader costs the segment
//! nothing but a place among those to wake, so a slow one hurts nobody; the bytes live as long as anybody holds the segment, also
//! after the ring has dropped it. Which segments exist and what they are called is [`super::session`]'s business.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::Instant;

use bytes::Bytes;

use crate::stream::subscribers::Subscribers;

/// Where a segment is in its life. States follow in this order and are never left backwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Announced; no byte yet.
    Pending,
    /// Pieces are being appended.
    Growing,
    /// Complete.
    Finished,
    /// Announced, but it will never come. It has no bytes.
    Withdrawn,
}

/// The bytes appended to a segment at once, and when.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Whole transport stream packets.
    pub bytes: Bytes,
    /// When it was appended.
    pub published: Instant,
}

/// A segment of a session's ring.
#[derive(Debug)]
pub struct Segment {
    sequence: u64,
    /// `pieces << 2 | state`, stored after `pieces` has changed: what a woken reader looks at before it takes the lock.
    progress: AtomicU64,
    pieces: RwLock<Vec<Piece>>,
    size: AtomicU64,
    ended: OnceLock<Instant>,
    growth: Subscribers,
    completion: Subscribers,
}

/// What a read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// Pieces were handed out; there may be more.
    Pieces,
    /// Nothing new yet.
    Wait,
    /// Everything has been read and nothing more will come.
    End,
}

impl Segment {
    /// A pending segment with this media sequence number.
    pub fn pending(sequence: u64) -> Self {
        Self {
            sequence,
            progress: AtomicU64::new(0),
            pieces: RwLock::new(Vec::new()),
            size: AtomicU64::new(0),
            ended: OnceLock::new(),
            growth: Subscribers::default(),
            completion: Subscribers::default(),
        }
    }

    /// Media sequence number.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Its state now.
    pub fn state(&self) -> State {
        state_of(self.progress.load(Ordering::Acquire))
    }

    /// Bytes appended so far.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// When it was finished or withdrawn.
    pub fn ended(&self) -> Option<Instant> {
        self.ended.get().copied()
    }

    /// Those to wake when a piece is appended or the state changes.
    pub fn growth(&self) -> &Subscribers {
        &self.growth
    }

    /// Those to wake when the segment is finished or withdrawn.
    pub fn completion(&self) -> &Subscribers {
        &self.completion
    }

    /// How many pieces there are.
    pub fn piece_count(&self) -> usize {
        pieces_of(self.progress.load(Ordering::Acquire))
    }

    /// How many pieces there are, and whether no more will come, of one moment.
    pub fn progress(&self) -> (usize, bool) {
        let progress = self.progress.load(Ordering::Acquire);
        (pieces_of(progress), state_of(progress) > State::Growing)
    }

    /// Appends a piece and wakes the readers. A segment that has ended takes no more: the piece is dropped.
    pub fn append(&self, piece: Piece) {
        let mut pieces = self.pieces.write().unwrap_or_else(PoisonError::into_inner);
        if self.state() > State::Growing {
            debug_assert!(
                false,
                "a piece for segment {} that has ended",
                self.sequence
            );
            return;
        }
        self.size
            .fetch_add(piece.bytes.len() as u64, Ordering::Release);
        pieces.push(piece);
        self.progress
            .store(pack(pieces.len(), State::Growing), Ordering::Release);
        drop(pieces);
        self.growth.wake_all();
    }

    /// Ends the segment and wakes everybody: finished, or withdrawn when it never got a byte.
    pub fn end(&self, now: Instant) {
        let mut pieces = self.pieces.write().unwrap_or_else(PoisonError::into_inner);
        let state = match self.state() {
            State::Pending => State::Withdrawn,
            State::Growing => State::Finished,
            State::Finished | State::Withdrawn => return,
        };
        pieces.shrink_to_fit();
        let _ = self.ended.set(now);
        self.progress
            .store(pack(pieces.len(), state), Ordering::Release);
        drop(pieces);
        self.growth.wake_all();
        self.completion.wake_all();
    }

    /// Moves up to `limit` pieces from `cursor` on into `out`, and the cursor behind them.
    pub fn read(&self, cursor: &mut usize, limit: usize, out: &mut impl Extend<Piece>) -> Read {
        let progress = self.progress.load(Ordering::Acquire);
        if *cursor >= pieces_of(progress) {
            return if state_of(progress) > State::Growing {
                Read::End
            } else {
                Read::Wait
            };
        }
        let pieces = self.pieces.read().unwrap_or_else(PoisonError::into_inner);
        let end = pieces.len().min(cursor.saturating_add(limit));
        out.extend(pieces.get(*cursor..end).unwrap_or_default().iter().cloned());
        *cursor = end;
        Read::Pieces
    }

    /// The pieces of a range of indices, as far as they exist.
    pub fn pieces(&self, range: std::ops::Range<usize>) -> Vec<Piece> {
        let pieces = self.pieces.read().unwrap_or_else(PoisonError::into_inner);
        let end = range.end.min(pieces.len());
        pieces.get(range.start..end).unwrap_or_default().to_vec()
    }

    /// The bytes of all pieces.
    pub fn blocks(&self) -> Vec<Bytes> {
        let pieces = self.pieces.read().unwrap_or_else(PoisonError::into_inner);
        pieces.iter().map(|piece| piece.bytes.clone()).collect()
    }
}

fn pack(pieces: usize, state: State) -> u64 {
    (pieces as u64) << 2 | state as u64
}

fn pieces_of(progress: u64) -> usize {
    (progress >> 2) as usize
}

fn state_of(progress: u64) -> State {
    match progress & 3 {
        0 => State::Pending,
        1 => State::Growing,
        2 => State::Finished,
        _ => State::Withdrawn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(bytes: &'static [u8]) -> Piece {
        Piece {
            bytes: Bytes::from_static(bytes),
            published: Instant::now(),
        }
    }

    #[test]
    fn a_reader_sees_each_piece_once_and_then_the_end() {
        let segment = Segment::pending(7);
        let (mut cursor, mut seen) = (0, Vec::new());
        assert_eq!(segment.read(&mut cursor, 8, &mut seen), Read::Wait);
        segment.append(piece(b"one"));
        segment.append(piece(b"two"));
        assert_eq!(segment.read(&mut cursor, 1, &mut seen), Read::Pieces);
        assert_eq!(segment.read(&mut cursor, 8, &mut seen), Read::Pieces);
        assert_eq!(segment.read(&mut cursor, 8, &mut seen), Read::Wait);
        segment.end(Instant::now());
        assert_eq!(segment.read(&mut cursor, 8, &mut seen), Read::End);
        assert_eq!(
            seen.iter()
                .map(|piece| &piece.bytes[..])
                .collect::<Vec<_>>(),
            [b"one", b"two"]
        );
        assert_eq!((segment.state(), segment.size()), (State::Finished, 6));
    }

    #[test]
    fn a_segment_that_never_got_a_byte_is_withdrawn() {
        let segment = Segment::pending(7);
        segment.end(Instant::now());
        assert_eq!(segment.state(), State::Withdrawn);
        assert_eq!(segment.read(&mut 0, 8, &mut Vec::new()), Read::End);
    }
}
