//! Media playlists, segments and parts of one session: what is there is sent, what is announced is waited for, the rest is 404.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::{Response, StatusCode, Version};

use super::body::ResponseBody;
use super::meter::Meter;
use super::response::{Cache, Refusal, Responder};
use super::{Asked, Connection, parameter, playlist_response};
use crate::hls::names::{File, Listed};
use crate::hls::output::Output;
use crate::hls::playlist::{CONTENT_TYPE, Rendered};
use crate::hls::segment::{Piece, Segment, State};
use crate::hls::session::{Directive, PartState, Session};
use crate::stream::subscribers::Subscribers;

/// Answers for a file of a stream.
pub(super) async fn answer(
    output: &Output,
    file: File<'_>,
    connection: &Connection,
    asked: Asked<'_>,
    respond: &Responder<'_>,
) -> Response<ResponseBody> {
    answer_or_refuse(output, file, connection, asked, respond)
        .await
        .unwrap_or_else(|refusal| respond.refusal(refusal))
}

async fn answer_or_refuse(
    output: &Output,
    file: File<'_>,
    connection: &Connection,
    asked: Asked<'_>,
    respond: &Responder<'_>,
) -> Result<Response<ResponseBody>, Refusal> {
    match file {
        File::Media(early, target_duration) => {
            let session = playlist_session(output, target_duration)?;
            let (playlist, cache) = (session.media(early), plain_reload(&session));
            Ok(playlist_response(&playlist, cache, asked.headers, respond))
        }
        File::Prefetch(target_duration) => {
            let session = playlist_session(output, target_duration)?;
            let (playlist, cache) = (session.prefetch(), plain_reload(&session));
            Ok(playlist_response(&playlist, cache, asked.headers, respond))
        }
        File::LowLatency(listed, factor, target_duration) => {
            let session = playlist_session(output, target_duration)?;
            let directive = parse_directive(asked.query)?;
            let place = (factor, listed);
            let playlist = low_latency(&session, place, directive, connection).await?;
            let cache = match directive {
                Some(_) => Cache::Kept(6 * session.target_duration()),
                None => plain_reload(&session),
            };
            Ok(playlist_response(&playlist, cache, asked.headers, respond))
        }
        File::Short(target_duration) => {
            let session = playlist_session(output, target_duration)?;
            let from = parameter(asked.query, "from").and_then(|from| from.parse().ok());
            let text = session.short_media(from.unwrap_or(0));
            let text = text.ok_or(Refusal::brief(
                StatusCode::NOT_FOUND,
                "this stream has no short segments; start from playlist.m3u8",
            ))?;
            Ok(respond.full(CONTENT_TYPE, Cache::Never, text))
        }
        File::Segment(id, sequence) => {
            let (session, segment) = find_segment(output, id, sequence)?;
            if parameter(asked.query, "hold").is_some() {
                hold(&session, &segment, connection).await;
            }
            Ok(serve_segment(segment, connection, asked, respond))
        }
        File::WholeSegment(id, sequence) => {
            let (session, segment) = find_segment(output, id, sequence)?;
            if parameter(asked.query, "stream").is_none() {
                hold(&session, &segment, connection).await;
            }
            Ok(serve_segment(segment, connection, asked, respond))
        }
        File::Part(id, factor, number) => {
            let session = output.session(id).ok_or(UNKNOWN_PART)?;
            let pieces = part(&session, factor, number, connection).await?;
            Ok(respond.ranged(SEGMENT_TYPE, Cache::Immutable, pieces, asked.headers))
        }
        File::ShortSegment(id, factor, number) => {
            let session = output.session(id).ok_or(UNKNOWN_SEGMENT)?;
            short_segment(session, factor, number, connection, asked, respond)
        }
    }
}

fn playlist_session(output: &Output, target_duration: u32) -> Result<Arc<Session>, Refusal> {
    let session = output.session_of(target_duration);
    let session = session.ok_or(Refusal::brief(
        StatusCode::NOT_FOUND,
        "no such playlist; start from playlist.m3u8",
    ))?;
    session.touch(Instant::now());
    Ok(session)
}

/// How long the answer to a reload that was not held may be kept: half a target duration, as Apple has it, in the whole seconds that
/// headers know. An older one would make a player start that much further behind.
fn plain_reload(session: &Session) -> Cache {
    Cache::Shared(session.target_duration() / 2)
}

fn find_segment(
    output: &Output,
    id: &str,
    sequence: u64,
) -> Result<(Arc<Session>, Arc<Segment>), Refusal> {
    let session = output.session(id).ok_or(UNKNOWN_SEGMENT)?;
    match session.segment(sequence) {
        Some(segment) => Ok((session, segment)),
        None if session.is_to_come(sequence) => Err(EARLY_SEGMENT),
        None => Err(UNKNOWN_SEGMENT),
    }
}

/// Waits until the segment is complete, or for as long as players have patience: then it is streamed like to anybody else.
async fn hold(session: &Session, segment: &Segment, connection: &Connection) {
    if segment.state() > State::Growing {
        return;
    }
    let asked = Instant::now();
    let ended = || (segment.state() > State::Growing).then_some(());
    let _ = tokio::time::timeout(HOLD_LIMIT, segment.completion().wait_for(ended)).await;
    let starts = connection.is_first_held() || session.starts_anew_at(segment.sequence());
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
        State::Pending | State::Growing => {
            respond.stream(SEGMENT_TYPE, growing_cache(asked), || {
                ResponseBody::growing(segment, Arc::clone(&connection.meter))
            })
        }
        State::Finished => respond.ranged(
            SEGMENT_TYPE,
            Cache::Immutable,
            segment.blocks(),
            asked.headers,
        ),
        State::Withdrawn => respond.refusal(Refusal::brief(
            StatusCode::NOT_FOUND,
            "the stream ended before this segment",
        )),
    }
}

/// The pieces of a part. The next one is waited for, until it is whole: no byte of a part may be sent before all of it can (6.2.6).
async fn part(
    session: &Session,
    factor: usize,
    number: u64,
    connection: &Connection,
) -> Result<Vec<Bytes>, Refusal> {
    let length = session.part_length(factor).ok_or(UNKNOWN_PART)?;
    let updates = session.low_latency_updates(length).ok_or(UNKNOWN_PART)?;
    let waits = match session.part(length, number) {
        PartState::ToCome => return Err(EARLY_PART),
        state => matches!(state, PartState::Announced),
    };
    let settled = settled(updates, || session.part(length, number));
    let settled = tokio::time::timeout(block_limit(session), settled).await;
    let pieces = settled.map_err(|_| STALLED)?.ok_or(UNKNOWN_PART)?;
    if waits {
        measure(&pieces, &connection.meter);
    }
    Ok(bytes_of(pieces))
}

/// The pieces of a part, once it is whole; `None` once it is clear that it never will be.
async fn settled(updates: &Subscribers, state: impl Fn() -> PartState) -> Option<Vec<Piece>> {
    let settled = updates.wait_for(|| match state() {
        PartState::Announced => None,
        PartState::Complete(segment, range) => Some(Some(segment.pieces(range))),
        PartState::ToCome | PartState::Unknown => Some(None),
    });
    settled.await
}

/// Notes that the viewer gets a part that it has waited for. That is complete with its last piece, so it is that one's way which is measured.
fn measure(pieces: &[Piece], meter: &Meter) {
    if let Some(last) = pieces.last() {
        meter.yielded(last.published);
    }
}

fn bytes_of(pieces: Vec<Piece>) -> Vec<Bytes> {
    pieces.into_iter().map(|piece| piece.bytes).collect()
}

/// A part as a segment of its own. One that is still to come is answered at once, as players built on ffmpeg want it, and sent when it is whole.
fn short_segment(
    session: Arc<Session>,
    factor: usize,
    number: u64,
    connection: &Connection,
    asked: Asked<'_>,
    respond: &Responder<'_>,
) -> Result<Response<ResponseBody>, Refusal> {
    let length = session.part_length(factor).ok_or(UNKNOWN_SEGMENT)?;
    let updates = session.low_latency_updates(length).ok_or(UNKNOWN_SEGMENT)?;
    match session.short_segment(length, number) {
        PartState::Complete(segment, range) => {
            let blocks = bytes_of(segment.pieces(range));
            Ok(respond.ranged(SEGMENT_TYPE, Cache::Immutable, blocks, asked.headers))
        }
        PartState::Announced => {
            let (updates, meter) = (updates.clone(), Arc::clone(&connection.meter));
            let awaited = async move {
                let pieces = settled(&updates, || session.short_segment(length, number)).await?;
                measure(&pieces, &meter);
                Some(bytes_of(pieces))
            };
            Ok(respond.stream(SEGMENT_TYPE, growing_cache(asked), || {
                ResponseBody::awaited(awaited)
            }))
        }
        PartState::ToCome => Err(EARLY_SEGMENT),
        PartState::Unknown => Err(UNKNOWN_SEGMENT),
    }
}

/// How long what is sent before all of it is there may be kept. In HTTP/1.0 the end of the connection is the end of the body, so a cache could
/// not tell a whole segment from a broken one.
fn growing_cache(asked: Asked<'_>) -> Cache {
    match asked.version {
        Version::HTTP_09 | Version::HTTP_10 => Cache::Never,
        _ => Cache::Immutable,
    }
}

/// The low-latency playlist, held back until it has what `_HLS_msn` and `_HLS_part` ask for (6.2.5.2).
async fn low_latency(
    session: &Session,
    (factor, listed): (usize, Listed),
    directive: Option<Directive>,
    connection: &Connection,
) -> Result<Arc<Rendered>, Refusal> {
    const UNKNOWN: Refusal = Refusal::brief(
        StatusCode::NOT_FOUND,
        "no parts of this length are on offer; start from ll.m3u8",
    );
    let length = session.part_length(factor).ok_or(UNKNOWN)?;
    let updates = session.low_latency_updates(length).ok_or(UNKNOWN)?;
    let Some(directive) = directive.map(|asked| session.place(listed, asked)) else {
        if listed == Listed::Joining && connection.has_just_entered() {
            // Who has just come knows nothing of what was before an outage, and is shown it. Right behind one there is too little to start on.
            let usual = updates.wait_for(|| (!session.has_bridge()).then_some(()));
            let _ = tokio::time::timeout(HOLD_LIMIT, usual).await;
        } else if listed == Listed::Joining {
            if let Some(seam) = session.awaits_seam(length, Instant::now()) {
                let back = updates.wait_for(|| session.reached(length, seam).then_some(()));
                let _ = tokio::time::timeout(HOLD_LIMIT, back).await;
            }
            if let Some(bridge) = session.low_latency_bridge(length) {
                return Ok(bridge);
            }
        }
        return session.low_latency(length, listed).ok_or(UNKNOWN);
    };
    if !session.ended() {
        if session.too_far(length, directive) {
            let text = "_HLS_msn or _HLS_part lies too far ahead of the playlist's end";
            return Err(Refusal::new(StatusCode::BAD_REQUEST, text));
        }
        let reached = updates.wait_for(|| session.reached(length, directive).then_some(()));
        tokio::time::timeout(block_limit(session), reached)
            .await
            .map_err(|_| STALLED)?;
    }
    session.low_latency_reload(length, listed).ok_or(UNKNOWN)
}

fn parse_directive(query: &str) -> Result<Option<Directive>, Refusal> {
    let number = |name| match parameter(query, name) {
        None => Ok(None),
        Some(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(Some(text.parse().unwrap_or(u64::MAX)))
        }
        Some(_) => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "_HLS_msn and _HLS_part are decimal numbers",
        )),
    };
    match (number("_HLS_msn")?, number("_HLS_part")?) {
        (Some(sequence), part) => Ok(Some(Directive { sequence, part })),
        (None, None) => Ok(None),
        (None, Some(_)) => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "_HLS_part needs _HLS_msn",
        )),
    }
}

/// How long a request may be held (6.2.5.2: a server should not block for more than three target durations).
fn block_limit(session: &Session) -> Duration {
    Duration::from_secs(session.target_duration().into()) * 3
}

const UNKNOWN_SEGMENT: Refusal = Refusal::brief(
    StatusCode::NOT_FOUND,
    "no such segment: it has been dropped from the ring, or was never there",
);
const EARLY_SEGMENT: Refusal = Refusal::new(
    StatusCode::NOT_FOUND,
    "no such segment: it has not been announced yet",
);
const UNKNOWN_PART: Refusal = Refusal::brief(
    StatusCode::NOT_FOUND,
    "no such part: it has been dropped from the ring, or was never there",
);
const EARLY_PART: Refusal = Refusal::new(
    StatusCode::NOT_FOUND,
    "no such part: it is not the next one",
);
const STALLED: Refusal = Refusal::brief(
    StatusCode::SERVICE_UNAVAILABLE,
    "the publisher has sent nothing for three target durations",
);
/// How much later than the others a script gets a segment with which it starts to play, the first it is held for and the first after an
/// outage. It is the time by which a later one may be late without a stall: at no slack at all, one late picture of an encoder costs
/// hls.js a second of latency for good.
const SLACK: Duration = Duration::from_millis(80);
/// Players wait about ten seconds for the first byte of a segment (hls.js: `maxTimeToFirstByteMs`).
const HOLD_LIMIT: Duration = Duration::from_secs(6);
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
