//! One viewer of one growing segment: its socket, and how far it is.
//!
//! Two tasks write to it, never at once: the segment's writer while the viewer is at the live edge, and the connection's own task before
//! that, and whenever the socket is full. What they share is locked for one write at a time, and `attended` says whose turn it is.

use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use atomic_waker::AtomicWaker;
use tokio::net::TcpStream;

use super::framing::{Cursor, Window};
use crate::http::meter::Meter;

/// What the writer and the connection's task share.
#[derive(Debug)]
pub(super) struct Reader {
    /// The number of its connection.
    pub(super) connection: u64,
    /// Only the connection's task waits, for its turn among other things.
    pub(super) waker: AtomicWaker,
    turn: Mutex<Turn>,
}

/// The viewer's socket, and how far it is.
#[derive(Debug)]
pub(super) struct Turn {
    /// Taken away by the connection's task when it is done.
    pub(super) socket: Option<TcpStream>,
    pub(super) cursor: Cursor,
    /// Whether the writer writes. Else the connection's task does.
    ///
    /// Invariant: it becomes true only while the viewer is among those that the writer goes through, and has all that there is, except
    /// perhaps for the head.
    attended: bool,
    /// What went wrong while the writer wrote.
    pub(super) failed: Option<io::Error>,
    /// Whether the viewer had everything there was, so the next piece's way to it can be measured.
    waited: bool,
    meter: Arc<Meter>,
}

/// Where a write has led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The viewer has all that there is.
    AtEdge,
    /// The viewer has everything, the last chunk included.
    Over,
    /// There may be more to write, and room for it.
    More,
    /// There is more to write than the socket takes.
    Full,
}

impl Reader {
    pub(super) fn new(socket: TcpStream, cursor: Cursor, meter: Arc<Meter>) -> Self {
        Self {
            connection: meter.connection(),
            waker: AtomicWaker::new(),
            turn: Mutex::new(Turn {
                socket: Some(socket),
                cursor,
                attended: false,
                failed: None,
                waited: false,
                meter,
            }),
        }
    }

    pub(super) fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is new, if it is the writer's turn. Unless the viewer is at the edge after that, the connection's task goes on.
    pub(super) fn attend(&self, window: &Window) {
        let mut turn = self.turn();
        if !turn.attended {
            return;
        }
        let step = if window.reaches(&turn.cursor) {
            turn.write(window).map(|(step, _)| step)
        } else {
            Ok(Step::More)
        };
        match step {
            Ok(Step::AtEdge) => return,
            Ok(_) => {}
            Err(error) => turn.failed = Some(error),
        }
        turn.attended = false;
        drop(turn);
        self.waker.wake();
    }
}

impl Turn {
    /// Whether the writer writes.
    pub(super) fn is_attended(&self) -> bool {
        self.attended
    }

    /// Leaves the viewer, who has all that there is, to the writer.
    pub(super) fn rest(&mut self) {
        (self.attended, self.waited) = (true, true);
    }

    /// Writes as much of what `window` has as the socket takes at once, and says how many bytes that were.
    ///
    /// # Errors
    /// As the socket gives them.
    pub(super) fn write(&mut self, window: &Window) -> io::Result<(Step, usize)> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let (count, length) = window.slices(&self.cursor, &mut slices);
        if count == 0 {
            return Ok((self.at_end_of(window), 0));
        }
        let socket = self.socket.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let sent = match socket.try_write_vectored(&slices[..count]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok((Step::Full, 0)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok((Step::More, 0)),
            Err(error) => return Err(error),
        };
        self.cursor.advance(window, sent);
        self.meter.sent(sent);
        if std::mem::take(&mut self.waited)
            && let Some(published) = window.published()
        {
            self.meter.delivered(published.elapsed());
        }
        let step = if sent < length {
            Step::Full
        } else if count == MAX_SLICES {
            Step::More
        } else {
            self.at_end_of(window)
        };
        Ok((step, sent))
    }

    fn at_end_of(&mut self, window: &Window) -> Step {
        self.waited = window.is_at_edge();
        match self.waited {
            _ if self.cursor.is_over() => Step::Over,
            true => Step::AtEdge,
            false => Step::More,
        }
    }
}

/// Slices of one write: as many as are worth a system call, at three for each piece.
const MAX_SLICES: usize = 64;
