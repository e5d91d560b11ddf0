//! A connection's task while its viewer is being sent a growing segment.
//!
//! It catches up where that is to be done, and sleeps while the writer has the viewer. Whatever happens, it notices that the viewer has
//! hung up, or that an operator closes the connection, and holds a viewer that takes too little to the limits of all connections.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::net::TcpStream;

use super::edge::{Edge, Edges, Joined};
use super::framing::{Cursor, Window};
use super::handover::Answer;
use super::reader::{Reader, Step, Turn};
use crate::http::body::{self, FellBehind};
use crate::http::meter::{Lateness, Meter, Patience, TooLate};
use crate::metrics::Metrics;

/// Why an answer was broken off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error(transparent)]
    Socket(#[from] io::Error),
    #[error("the viewer hung up before the end")]
    HungUp,
    #[error("an operator has closed the connection")]
    Kicked,
    #[error(transparent)]
    FellBehind(#[from] FellBehind),
    #[error(transparent)]
    TooLate(#[from] TooLate),
    #[error("its writer has panicked")]
    Writer,
}

/// What is left when an answer has been given.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) socket: TcpStream,
    /// What the viewer has sent ahead.
    pub(crate) ahead: Vec<u8>,
    /// Whether the connection is to end.
    pub(crate) closes: bool,
}

/// Gives an answer to its end. `ahead` is what the viewer has sent behind the request.
pub(crate) async fn follow(
    socket: TcpStream,
    ahead: Vec<u8>,
    answer: Answer,
    (edges, metrics): (&Arc<Edges>, &Arc<Metrics>),
    (meter, patience): (&Arc<Meter>, Patience),
) -> Result<Given, Broken> {
    let reader = Reader::new(socket, Cursor::new(answer.head), Arc::clone(meter));
    let mut following = Following {
        reader: Arc::new(reader),
        joined: None,
        edge: edges.of(&answer.segment, metrics),
        ahead,
        lateness: Lateness::new(patience),
        meter,
    };
    poll_fn(|context| following.poll(context)).await?;
    let socket = following.reader.turn().socket.take();
    drop(answer.busy);
    Ok(Given {
        socket: socket
            .ok_or(io::ErrorKind::NotConnected)
            .map_err(io::Error::from)?,
        ahead: std::mem::take(&mut following.ahead),
        closes: answer.closes,
    })
}

#[derive(Debug)]
struct Following<'a> {
    /// Dropped before `edge`, so that a writer finds nobody when all are gone.
    joined: Option<Joined>,
    reader: Arc<Reader>,
    edge: Arc<Edge>,
    ahead: Vec<u8>,
    lateness: Lateness,
    meter: &'a Meter,
}

impl Following<'_> {
    /// Ready when everything has been written.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        // Register before looking, else what comes in between wakes nobody.
        self.reader.waker.register(context.waker());
        if self.meter.is_kicked(context) {
            return Poll::Ready(Err(Broken::Kicked));
        }
        if self.joined.as_ref().is_some_and(Joined::is_broken) {
            return Poll::Ready(Err(Broken::Writer));
        }
        let reader = Arc::clone(&self.reader);
        let mut turn = reader.turn();
        if let Some(error) = turn.failed.take() {
            return Poll::Ready(Err(error.into()));
        }
        if turn.cursor.is_over() {
            return Poll::Ready(Ok(()));
        }
        self.listen(&turn, context)?;
        if turn.is_attended() {
            return Poll::Pending;
        }
        self.catch_up(&mut turn, context)
    }

    /// Takes what the viewer sends ahead, within bounds, and so notices that it hangs up.
    fn listen(&mut self, turn: &Turn, context: &mut Context<'_>) -> Result<(), Broken> {
        let socket = socket(turn)?;
        let mut bytes = [0; READ_AT_ONCE];
        while self.ahead.len() < MAX_AHEAD && socket.poll_read_ready(context)?.is_ready() {
            match socket.try_read(&mut bytes) {
                Ok(0) => return Err(Broken::HungUp),
                Ok(count) => self.ahead.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn catch_up(&mut self, turn: &mut Turn, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let edge = Arc::clone(&self.edge);
        let segment = edge.segment();
        let mut budget = BUDGET;
        loop {
            if body::is_too_old(segment) {
                self.meter.fell_behind();
                return Poll::Ready(Err(FellBehind.into()));
            }
            if budget == 0 {
                // Those at the edge, and others who catch up, have their turn as well.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let window = Window::read(segment, turn.cursor.piece(), budget);
            if turn.cursor.is_new() && window.is_empty() {
                let joined = self.joined.get_or_insert_with(|| edge.join(&self.reader));
                // It may have begun before the viewer joined.
                if window.is_current(segment) && joined.leaves_head() {
                    turn.rest();
                    return Poll::Pending;
                }
            }
            let (step, sent) = turn.write(&window)?;
            if sent > 0 {
                self.took()?;
                budget = budget.saturating_sub(sent);
            }
            match step {
                Step::Over => return Poll::Ready(Ok(())),
                Step::AtEdge if self.joined.is_none() => {
                    self.joined = Some(edge.join(&self.reader));
                }
                Step::AtEdge if window.is_current(segment) => {
                    self.lateness.caught_up();
                    turn.rest();
                    return Poll::Pending;
                }
                Step::AtEdge | Step::More => {}
                Step::Full => {
                    if socket(turn)?.poll_write_ready(context)?.is_pending() {
                        let too_late = ready!(self.lateness.poll_full(context));
                        self.meter.cut_off(too_late);
                        return Poll::Ready(Err(too_late.into()));
                    }
                }
            }
        }
    }

    fn took(&mut self) -> Result<(), TooLate> {
        let took = self.lateness.took();
        if let Err(too_late) = took {
            self.meter.cut_off(too_late);
        }
        took
    }
}

impl Drop for Following<'_> {
    fn drop(&mut self) {
        // A writer may hold the reader for a moment longer.
        self.joined = None;
        self.reader.turn().socket = None;
    }
}

fn socket(turn: &Turn) -> Result<&TcpStream, Broken> {
    let socket = turn.socket.as_ref();
    Ok(socket
        .ok_or(io::ErrorKind::NotConnected)
        .map_err(io::Error::from)?)
}

/// What a viewer that catches up is written at a time: a key picture of a usual stream and what follows it. Whoever is at the edge waits
/// for all who catch up at the same moment.
const BUDGET: usize = 64 * 1024;
/// What a viewer may send ahead while it is being answered: a few requests. More stays in the socket.
const MAX_AHEAD: usize = 8 * 1024;
/// Of that, at a time: usually nothing comes.
const READ_AT_ONCE: usize = 1024;
