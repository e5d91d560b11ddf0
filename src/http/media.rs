//! Media playlists, segments and parts of one session: what is there is sent, what is announced is waited for, the rest is 404.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::{Response, StatusCode, header};

use super::body::ResponseBody;
use super::response::{Cache, Responder};
use super::{Asked, Connection, parameter, playlist_response};
use crate::hls::names::File;
use crate::hls::output::Output;
use crate::hls::playlist::Rendered;
use crate::hls::segment::{Segment, State};
use crate::hls::session::{Directive, Listed, PartState, Reach, Session};

/// A refusal: status, and what was wrong.
type Refusal = (StatusCode, &'static str);

/// Answers for a file of a stream.
pub(super) async fn answer(
    output: &Output,
    file: File<'_>,
    connection: &Connection,
    asked: Asked<'_>,
    respond: &Responder<'_>,
) -> Response<ResponseBody> {
    match answer_or_refuse(output, file, connection, asked, respond).await {
        Ok(response) => response,
        Err((StatusCode::SERVICE_UNAVAILABLE, text)) => respond.retry_later(text),
        Err((status, text)) => respond.error(status, text),
    }
}

async fn answer_or_refuse(
    output: &Output,
    file: File<'_>,
    connection: &Connection,
    asked: Asked<'_>,
    respond: &Responder<'_>,
) -> Result<Response<ResponseBody>, Refusal> {
    match file {
        File::Media(target_duration) => {
            let playlist = playlist_session(output, target_duration)?.media(asked.reach());
            Ok(playlist_response(&playlist, asked.headers, respond))
        }
        File::Prefetch(target_duration) => {
            let playlist = playlist_session(output, target_duration)?.prefetch();
            Ok(playlist_response(&playlist, asked.headers, respond))
        }
        File::LowLatency(factor, target_duration) => {
            let session = playlist_session(output, target_duration)?;
            let playlist = low_latency(&session, factor, asked).await?;
            Ok(playlist_response(&playlist, asked.headers, respond))
        }
        File::Segment(id, sequence) => {
            let session = output.session(id).ok_or(UNKNOWN_SEGMENT)?;
            let segment = session.segment(sequence, asked.reach());
            let segment = segment.ok_or(UNKNOWN_SEGMENT)?;
            if asked.wants_it_whole() && segment.state() <= State::Growing {
                hold(&session, &segment, connection).await;
            }
            Ok(serve_segment(segment, connection, asked, respond))
        }
        File::Part(id, factor, number) => {
            let session = output.session(id).ok_or(UNKNOWN_PART)?;
            let pieces = part(&session, factor, number, connection).await?;
            Ok(respond.ranged(SEGMENT_TYPE, Cache::Immutable, pieces, asked.headers))
        }
    }
}

fn playlist_session(output: &Output, target_duration: u32) -> Result<Arc<Session>, Refusal> {
    let session = output.session_of(target_duration);
    let session = session.ok_or((
        StatusCode::NOT_FOUND,
        "no such playlist; start from playlist.m3u8",
    ))?;
    session.touch(Instant::now());
    Ok(session)
}

impl Asked<'_> {
    /// How far ahead the client is told of segments, by what it says it is.
    fn reach(&self) -> Reach {
        let agent = self
            .headers
            .get(header::USER_AGENT)
            .and_then(|agent| agent.to_str().ok())
            .unwrap_or_default();
        let built_on_ffmpeg = ["Lavf/", "mpv ", "libmpv"]
            .iter()
            .any(|name| agent.starts_with(name));
        if built_on_ffmpeg {
            Reach::Further
        } else {
            Reach::Usual
        }
    }

    /// Whether the client makes nothing of a segment before its last byte: then it gets it in one burst, once it is complete.
    ///
    /// That is a script's XMLHttpRequest. Fed at the speed of the media it
    /// would take the bit rate for the bandwidth and fall to the lowest rendition. `?stream` tells a script that does read along.
    fn wants_it_whole(&self) -> bool {
        (self.by_script() || parameter(self.query, "hold").is_some())
            && parameter(self.query, "stream").is_none()
    }

    /// Whether a script in a browser asks, and not the browser's own player.
    ///
    /// Browsers say so (Fetch Metadata), but only where the page's connection is trustworthy: not over plain HTTP from another host. There
    /// it shows in what a media element always sends and a script mostly does not: a range, and no wish for compressed bytes.
    fn by_script(&self) -> bool {
        let header = |name| self.headers.get(name).and_then(|value| value.to_str().ok());
        match header(SEC_FETCH_DEST) {
            Some(destination) => destination == "empty",
            None => {
                header(header::USER_AGENT.as_str())
                    .is_some_and(|agent| agent.starts_with("Mozilla/"))
                    && header(header::ACCEPT_ENCODING.as_str())
                        .is_some_and(|accepted| accepted.contains("gzip"))
                    && !self.headers.contains_key(header::RANGE)
            }
        }
    }
}

/// Waits until the segment is complete, or for as long as players have patience: then it is streamed like to anybody else.
async fn hold(session: &Session, segment: &Segment, connection: &Connection) {
    let asked = Instant::now();
    let ended = || (segment.state() > State::Growing).then_some(());
    let _ = tokio::time::timeout(HOLD_LIMIT, segment.completion().wait_for(ended)).await;
    let starts = connection.is_first_held();
    // Who asks for one segment after the other gets them at intervals of their duration, unless the publisher was away.
    let usual = session.duration(segment.sequence()).unwrap_or_default();
    if starts || asked.elapsed() > usual + SLACK {
        tokio::time::sleep(SLACK).await;
    }
}

fn serve_segment(
    segment: Arc<Segment>,
    connection: &Connection,
    asked: Asked<'_>,
    respond: &Responder<'_>,
) -> Response<ResponseBody> {
    match segment.state() {
        // Status and headers go at once also when there is no byte yet: players built on ffmpeg block on them.
        State::Pending | State::Growing => respond.stream(SEGMENT_TYPE, Cache::Immutable, || {
            ResponseBody::growing(segment, Arc::clone(&connection.meter))
        }),
        State::Finished => respond.ranged(
            SEGMENT_TYPE,
            Cache::Immutable,
            segment.blocks(),
            asked.headers,
        ),
        State::Withdrawn => respond.error(
            StatusCode::NOT_FOUND,
            "the stream ended before this segment",
        ),
    }
}

/// The pieces of a part. The next one is waited for, until it is whole: no byte of a part may be sent before all of it can (6.2.6).
async fn part(
    session: &Session,
    factor: usize,
    number: u64,
    connection: &Connection,
) -> Result<Vec<bytes::Bytes>, Refusal> {
    let length = session.part_length(factor).ok_or(UNKNOWN_PART)?;
    let updates = session.low_latency_updates(length).ok_or(UNKNOWN_PART)?;
    let waits = matches!(session.part(length, number), PartState::Announced);
    let settled = updates.wait_for(|| match session.part(length, number) {
        PartState::Announced => None,
        PartState::Complete(segment, pieces) => Some(Some((segment, pieces))),
        PartState::Unknown => Some(None),
    });
    let settled = tokio::time::timeout(block_limit(session), settled).await;
    let (segment, range) = settled.map_err(|_| STALLED)?.ok_or(UNKNOWN_PART)?;
    let pieces = segment.pieces(range);
    // Complete with its last piece, so that is the one whose way to the viewer is measured.
    if let Some(last) = pieces.last().filter(|_| waits) {
        connection.meter.yielded(last.published);
    }
    Ok(pieces.into_iter().map(|piece| piece.bytes).collect())
}

/// The low-latency playlist, held back until it has what `_HLS_msn` and `_HLS_part` ask for (6.2.5.2).
async fn low_latency(
    session: &Session,
    factor: usize,
    asked: Asked<'_>,
) -> Result<Arc<Rendered>, Refusal> {
    const UNKNOWN: Refusal = (
        StatusCode::NOT_FOUND,
        "no parts of this length are on offer; start from ll.m3u8",
    );
    let length = session.part_length(factor).ok_or(UNKNOWN)?;
    let updates = session.low_latency_updates(length).ok_or(UNKNOWN)?;
    let directive = parse_directive(asked.query)?;
    let listed = match directive {
        None if asked.by_script() => Listed::Joining,
        _ => Listed::Complete,
    };
    if let Some(directive) = directive
        && !session.ended()
    {
        if session.too_far(length, directive) {
            let text = "_HLS_msn or _HLS_part lies too far ahead of the playlist's end";
            return Err((StatusCode::BAD_REQUEST, text));
        }
        let reached = updates.wait_for(|| session.reached(length, directive).then_some(()));
        tokio::time::timeout(block_limit(session), reached)
            .await
            .map_err(|_| STALLED)?;
    }
    session.low_latency(length, listed).ok_or(UNKNOWN)
}

fn parse_directive(query: &str) -> Result<Option<Directive>, Refusal> {
    let number = |name| match parameter(query, name) {
        None => Ok(None),
        Some(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(Some(text.parse().unwrap_or(u64::MAX)))
        }
        Some(_) => Err((
            StatusCode::BAD_REQUEST,
            "_HLS_msn and _HLS_part are decimal numbers",
        )),
    };
    match (number("_HLS_msn")?, number("_HLS_part")?) {
        (Some(sequence), part) => Ok(Some(Directive { sequence, part })),
        (None, None) => Ok(None),
        (None, Some(_)) => Err((StatusCode::BAD_REQUEST, "_HLS_part needs _HLS_msn")),
    }
}

/// How long a request may be held (6.2.5.2: a server should not block for more than three target durations).
fn block_limit(session: &Session) -> Duration {
    Duration::from_secs(session.target_duration().into()) * 3
}

const UNKNOWN_SEGMENT: Refusal = (
    StatusCode::NOT_FOUND,
    "no such segment: it has not been announced yet, or has been dropped from the ring",
);
const UNKNOWN_PART: Refusal = (
    StatusCode::NOT_FOUND,
    "no such part: it is not the next one, or has been dropped from the ring",
);
const STALLED: Refusal = (
    StatusCode::SERVICE_UNAVAILABLE,
    "the publisher has sent nothing for three target durations",
);
/// How much later than the others a script gets a segment with which it starts to play, the first it is held for and the first after an
/// outage. It is the time by which a later one may be late without a stall: at no slack at all, one late picture of an encoder costs
/// hls.js a second of latency for good.
const SLACK: Duration = Duration::from_millis(80);
/// Players wait about ten seconds for the first byte of a segment (hls.js: `maxTimeToFirstByteMs`).
const HOLD_LIMIT: Duration = Duration::from_secs(6);
/// What a request is for (Fetch Metadata, 2.1).
const SEC_FETCH_DEST: &str = "sec-fetch-dest";
const SEGMENT_TYPE: &str = "video/mp2t";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives() {
        let directive = |sequence, part| Ok(Some(Directive { sequence, part }));
        assert_eq!(parse_directive(""), Ok(None));
        assert_eq!(parse_directive("_HLS_msn=7"), directive(7, None));
        assert_eq!(
            parse_directive("x=1&_HLS_part=2&_HLS_msn=7"),
            directive(7, Some(2))
        );
        assert_eq!(
            parse_directive("_HLS_msn=99999999999999999999999"),
            directive(u64::MAX, None)
        );
        for bad in [
            "_HLS_part=2",
            "_HLS_msn=",
            "_HLS_msn=-1",
            "_HLS_msn=1e3",
            "_HLS_msn=7&_HLS_part=x",
        ] {
            assert!(parse_directive(bad).is_err(), "{bad}");
        }
    }
}
