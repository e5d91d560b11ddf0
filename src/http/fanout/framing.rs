//! The body of a growing segment on the wire: each piece is an HTTP chunk of its own (RFC 9112, 7.1), and the last chunk ends it.
//!
//! How a piece is framed follows from its length alone, so where a viewer is can be said in two numbers, and all viewers share what is
//! rendered. Nothing here knows of sockets.

use std::collections::VecDeque;
use std::io::{IoSlice, Write};
use std::time::Instant;

use bytes::{Buf, Bytes};

use crate::hls::segment::{Piece, Segment};

/// What a viewer has still to be sent: the rest of the response's head, and the segment from a place on.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    head: Bytes,
    /// The piece that comes next.
    piece: usize,
    /// Bytes of it, as it is framed, that have been sent.
    offset: usize,
    /// Whether the last chunk has been sent too.
    over: bool,
}

/// Some pieces of a segment that follow each other, framed.
#[derive(Debug, Default)]
pub(super) struct Window {
    first: usize,
    chunks: VecDeque<Chunk>,
    /// Whether there was nothing behind these.
    at_edge: bool,
    /// Whether the segment ends with these.
    ends: bool,
}

#[derive(Debug)]
struct Chunk {
    size: SizeLine,
    bytes: Bytes,
    published: Instant,
}

/// The length of a chunk in hexadecimal, and CRLF.
#[derive(Debug, Clone, Copy)]
struct SizeLine {
    text: [u8; 18],
    length: u8,
}

impl Cursor {
    /// Before the first byte of the head.
    pub(super) fn new(head: Bytes) -> Self {
        Self {
            head,
            ..Self::default()
        }
    }

    /// The piece that comes next.
    pub(super) fn piece(&self) -> usize {
        self.piece
    }

    /// Whether nothing has been sent.
    pub(super) fn is_new(&self) -> bool {
        self.piece == 0 && self.offset == 0 && !self.head.is_empty()
    }

    /// Whether everything has been sent.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Goes on by as many bytes as have been sent of what `window` put together.
    pub(super) fn advance(&mut self, window: &Window, mut sent: usize) {
        let of_head = sent.min(self.head.len());
        self.head.advance(of_head);
        if self.head.is_empty() {
            // It would keep the whole head in memory.
            self.head = Bytes::new();
        }
        sent -= of_head;
        self.offset += sent;
        while let Some(chunk) = window.chunk(self.piece) {
            let length = chunk.framed_length();
            if self.offset < length {
                return;
            }
            self.offset -= length;
            self.piece += 1;
        }
        self.over = window.ends && self.piece == window.end() && self.offset >= LAST_CHUNK.len();
    }
}

impl Window {
    /// What there is from a piece on, up to about so many bytes, but one piece in any case.
    pub(super) fn read(segment: &Segment, from: usize, budget: usize) -> Self {
        let (count, ended) = segment.progress();
        let mut window = Self {
            first: from,
            ..Self::default()
        };
        let mut bytes = 0;
        while window.end() < count && bytes < budget {
            let end = count.min(window.end() + READ_AT_ONCE);
            for piece in segment.pieces(window.end()..end) {
                if bytes >= budget {
                    break;
                }
                bytes += piece.bytes.len();
                window.chunks.push_back(Chunk::new(piece));
            }
        }
        window.at_edge = window.end() == count;
        window.ends = ended && window.at_edge;
        window
    }

    /// Takes in what has come, and lets go of all but the newest few pieces.
    pub(super) fn follow(&mut self, segment: &Segment) {
        let (count, ended) = segment.progress();
        let oldest = count.saturating_sub(KEPT);
        if self.end() < oldest {
            self.chunks.clear();
            self.first = oldest;
        }
        if self.end() < count {
            let new = segment.pieces(self.end()..count);
            self.chunks.extend(new.into_iter().map(Chunk::new));
        }
        while self.first < oldest && self.chunks.pop_front().is_some() {
            self.first += 1;
        }
        (self.at_edge, self.ends) = (true, ended);
    }

    /// Whether there is still nothing more.
    pub(super) fn is_current(&self, segment: &Segment) -> bool {
        (self.end(), self.ends) == segment.progress()
    }

    /// Whether there is nothing in it, and its end is not known.
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty() && !self.ends
    }

    /// Whether there was nothing more when this was put together.
    pub(super) fn is_at_edge(&self) -> bool {
        self.at_edge
    }

    /// Whether this has what comes next for a viewer.
    pub(super) fn reaches(&self, cursor: &Cursor) -> bool {
        cursor.piece >= self.first
    }

    /// When the newest piece was published.
    pub(super) fn published(&self) -> Option<Instant> {
        self.chunks.back().map(|chunk| chunk.published)
    }

    /// Puts together what comes next for a viewer: fills `slices` and returns how many of them, and of how many bytes.
    pub(super) fn slices<'a>(
        &'a self,
        cursor: &'a Cursor,
        slices: &mut [IoSlice<'a>],
    ) -> (usize, usize) {
        let chunks = self
            .chunks
            .iter()
            .skip(cursor.piece.saturating_sub(self.first))
            .flat_map(Chunk::parts);
        let last = if self.ends { LAST_CHUNK } else { b"" };
        let mut skipped = cursor.offset;
        let body = chunks
            .chain(std::iter::once(last))
            .map(move |part| {
                let now = skipped.min(part.len());
                skipped -= now;
                &part[now..]
            })
            .filter(|part| !part.is_empty());
        let head = Some(&cursor.head[..]).filter(|head| !head.is_empty());
        let mut length = 0;
        let count = slices
            .iter_mut()
            .zip(head.into_iter().chain(body))
            .map(|(slice, part)| {
                length += part.len();
                *slice = IoSlice::new(part);
            })
            .count();
        (count, length)
    }

    fn end(&self) -> usize {
        self.first + self.chunks.len()
    }

    fn chunk(&self, piece: usize) -> Option<&Chunk> {
        self.chunks.get(piece.checked_sub(self.first)?)
    }
}

impl Chunk {
    fn new(piece: Piece) -> Self {
        Self {
            size: SizeLine::new(piece.bytes.len()),
            bytes: piece.bytes,
            published: piece.published,
        }
    }

    /// Nothing at all for a piece of no bytes: a chunk without any would be the last.
    fn parts(&self) -> [&[u8]; 3] {
        if self.bytes.is_empty() {
            return [b"", b"", b""];
        }
        [self.size.as_slice(), &self.bytes, b"\r\n"]
    }

    fn framed_length(&self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }
}

impl SizeLine {
    fn new(size: usize) -> Self {
        let mut text = [0; 18];
        let mut rest = &mut text[..];
        // 16 digits are enough for any length, and CRLF fits behind them.
        let _ = write!(rest, "{size:X}\r\n");
        let length = 18 - rest.len() as u8;
        Self { text, length }
    }

    fn as_slice(&self) -> &[u8] {
        &self.text[..usize::from(self.length)]
    }
}

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// Pieces that the writer keeps framed. On a saturated core viewers are a few pieces behind; who is further behind catches up by itself.
const KEPT: usize = 8;
/// Pieces that are looked up at once by who catches up: a second at most pictures' rates fits into what it may send at once.
const READ_AT_ONCE: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(pieces: &[&'static [u8]]) -> Segment {
        let segment = Segment::pending(7);
        for &bytes in pieces {
            append(&segment, bytes);
        }
        segment
    }

    fn append(segment: &Segment, bytes: &'static [u8]) {
        segment.append(Piece {
            bytes: Bytes::from_static(bytes),
            published: Instant::now(),
        });
    }

    /// All that a window has for a cursor, taken in steps of so many bytes.
    fn take(window: &Window, cursor: &mut Cursor, step: usize, text: &mut Vec<u8>) {
        loop {
            let mut slices = [IoSlice::new(&[]); 4];
            let (count, length) = window.slices(cursor, &mut slices);
            if count == 0 {
                return;
            }
            let parts = slices[..count].iter();
            let mut bytes: Vec<u8> = parts.flat_map(|slice| slice.to_vec()).collect();
            assert_eq!(bytes.len(), length);
            bytes.truncate(step);
            text.extend_from_slice(&bytes);
            cursor.advance(window, bytes.len());
        }
    }

    #[test]
    fn each_piece_is_a_chunk_wherever_a_write_ends() {
        let pieces: [&[u8]; 5] = [b"abc", b"", b"0123456789abcdefg", b"x", b""];
        let segment = segment(&pieces);
        segment.end(Instant::now());
        let expected = b"HEAD\r\n\r\n3\r\nabc\r\n11\r\n0123456789abcdefg\r\n1\r\nx\r\n0\r\n\r\n";
        for step in 1..=expected.len() {
            let mut cursor = Cursor::new(Bytes::from_static(b"HEAD\r\n\r\n"));
            let mut text = Vec::new();
            while !cursor.is_over() {
                let window = Window::read(&segment, cursor.piece(), 5);
                take(&window, &mut cursor, step, &mut text);
            }
            assert_eq!(text, expected, "{step}");
        }
    }

    #[test]
    fn a_withdrawn_segment_is_an_empty_body() {
        let segment = segment(&[]);
        let mut cursor = Cursor::new(Bytes::from_static(b"HEAD"));
        let mut text = Vec::new();
        take(&Window::read(&segment, 0, 99), &mut cursor, 99, &mut text);
        assert!(!cursor.is_over());
        segment.end(Instant::now());
        take(&Window::read(&segment, 0, 99), &mut cursor, 3, &mut text);
        assert!(cursor.is_over());
        assert_eq!(text, b"HEAD0\r\n\r\n");
    }

    #[test]
    fn a_window_follows_the_newest_pieces() {
        let segment = segment(&[&b"a"[..]; 3]);
        let mut window = Window::default();
        let (mut cursor, mut text) = (Cursor::default(), Vec::new());
        assert!(!window.is_current(&segment));
        window.follow(&segment);
        assert!(window.is_current(&segment) && window.reaches(&cursor));
        take(&window, &mut cursor, 2, &mut text);
        for _ in 0..KEPT {
            append(&segment, b"b");
        }
        window.follow(&segment);
        assert_eq!(window.first, 3);
        assert!(window.reaches(&cursor) && !window.reaches(&Cursor::default()));
        take(&window, &mut cursor, 99, &mut text);
        for _ in 0..=KEPT {
            append(&segment, b"c");
        }
        segment.end(Instant::now());
        window.follow(&segment);
        assert_eq!((window.chunks.len(), window.first), (KEPT, 12));
        assert!(!window.reaches(&cursor));
        assert_eq!(
            text,
            ["1\r\na\r\n".repeat(3), "1\r\nb\r\n".repeat(KEPT)]
                .concat()
                .as_bytes()
        );
    }
}
