//! Growing segments over plain HTTP/1.1: one writer for all who watch the same, instead of a wake-up and a state machine for each.
//!
//! ```text
//!  hyper ── parses a request; the answer is a segment that grows ──► Slot ──► connection's task (h1.rs)
//!                                                                                │ takes the socket back
//!  segment ── new piece ──► writer (edge.rs) ── one write each ──► Reader ◄── follow: catches up, hang-ups, limits
//!                                                                                │ the end
//!  hyper ◄── the socket, and what the viewer has sent ahead ─────────────────────┘
//! ```
//!
//! A connection's task wakes up for the first bytes of a segment, for a full socket, and for the end; at the live edge it sleeps while
//! the writer writes. hyper's state and its buffers do not exist meanwhile. What is said on the wire is what hyper says.
//!
//! Not here: TLS and HTTP/2, where a write is more than a system call, and HTTP/1.0, which has no chunks.

mod edge;
mod follow;
mod framing;
mod handover;
mod reader;

pub(super) use edge::Edges;
pub(super) use follow::follow;
pub(super) use handover::{Answer, Prefaced, Slot};
