//! How near a player built on ffmpeg is, which decides whether short segments suit it ([`crate::hls::session`]).
//!
//! Such a player is asked to ask again. How long that takes is a new connection, a request and its answer, so two round trips, and what
//! the player does in between. It is measured from end to end, whatever stands there; what the operating system knows of a connection ends
//! at the next proxy. Nobody else is redirected.

use std::time::{Duration, Instant};

use super::Asked;
use super::target::{Form, Target, parameter};
use crate::hls::names::Early;

/// Where to ask again, relative to what has been asked for; `None` for those who need not.
pub(super) fn ask_again(target: &Target<'_>, asked: Asked<'_>, started: Instant) -> Option<String> {
    let Target::Multivariant(_, form) = *target else {
        return None;
    };
    if !matters(form, asked) || parameter(asked.query, STAMP).is_some() {
        return None;
    }
    let and = if asked.query.is_empty() { "" } else { "&" };
    let (query, now) = (asked.query, started.elapsed().as_millis());
    Some(format!("playlist.m3u8?{query}{and}{STAMP}={now}"))
}

/// How long it took a player to ask again; `None` if it was not asked to, or not by this server.
pub(super) fn opening(form: Form, asked: Asked<'_>, started: Instant) -> Option<Duration> {
    if !matters(form, asked) {
        return None;
    }
    let stamp: u64 = parameter(asked.query, STAMP)?.parse().ok()?;
    started.elapsed().checked_sub(Duration::from_millis(stamp))
}

/// Whether short segments come into question: not for those who want none (`?segments`).
fn matters(form: Form, asked: Asked<'_>) -> bool {
    form == Form::Early
        && asked.early() == Early::Further
        && parameter(asked.query, WHOLE).is_none()
}

/// The server's time, ms since its start, at which it asked.
const STAMP: &str = "asked";
/// Says that short segments are not wanted.
const WHOLE: &str = "segments";
