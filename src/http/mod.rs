//! HTTP out: routes, and what is answered on each.
//!
//! | path | what |
//! |---|---|
//! | `/NAME/playlist.m3u8` | multivariant playlist; waits for a stream that is about to go live |
//! | `/NAME/SESSION.m3u8` | media playlist of a session |
//! | `/NAME/SESSION-SEQUENCE.ts` | a segment: finished, growing, or announced |
//! | `/NAME/` | the page that plays it; `/web/…` are its files |
//! | `/`, `/api/streams` | live streams, for people and for programmes |
//! | `/api/time` | the server's clock, for pages that measure latency |
//! | `/metrics`, `/healthz` | for operators |
//!
//! GET, HEAD and OPTIONS only. No redirects, no cookies: everything can stand behind any CDN.

pub mod body;
pub mod listener;
pub mod meter;
mod player;
mod response;
mod status;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};

use self::body::ResponseBody;
use self::meter::Meter;
use self::response::{Cache, Responder};
use crate::hls::playlist::{self, Rendered};
use crate::hls::segment::{Segment, State};
use crate::hls::session::parse_segment_name;
use crate::metrics::{self, Metrics};
use crate::stream::name::StreamName;
use crate::stream::registry::Registry;
use crate::stream::{Stream, Viewer};

/// What the HTTP side is told by the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Value of `Access-Control-Allow-Origin`.
    pub cors_origin: HeaderValue,
    /// Connections at the same time; more get a 503.
    pub max_connections: usize,
}

/// Answers requests; shared by all connections.
#[derive(Debug)]
pub struct Service {
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    settings: Settings,
}

/// One viewer's connection, for as long as it lasts.
#[derive(Debug)]
pub struct Connection {
    meter: Arc<Meter>,
    /// The stream this connection is playing.
    viewer: Mutex<Option<Viewer>>,
}

/// What a path asks for.
#[derive(Debug)]
enum Target<'a> {
    Index,
    Streams,
    Time,
    Metrics,
    Health,
    /// A file of the player page.
    Asset(&'a str),
    /// The player page of a stream, asked for with a slash at the end.
    Player(&'a str),
    /// The same without the slash.
    Name(&'a str),
    Multivariant(&'a str),
    Media(&'a str, &'a str),
    Segment(&'a str, &'a str, u64),
    Unknown,
}

impl Service {
    /// A service of these streams.
    pub fn new(registry: Arc<Registry>, metrics: Arc<Metrics>, settings: Settings) -> Self {
        Self {
            registry,
            metrics,
            settings,
        }
    }

    /// State for a new connection.
    pub fn connect(&self) -> Connection {
        Connection {
            meter: Arc::new(Meter::new(Arc::clone(&self.metrics))),
            viewer: Mutex::new(None),
        }
    }

    /// Answers a request.
    pub async fn answer<B>(
        &self,
        connection: &Connection,
        request: &Request<B>,
    ) -> Response<ResponseBody> {
        let respond = Responder::new(&self.settings.cors_origin, request.method() == Method::HEAD);
        let target = Target::parse(request.uri().path());
        let kind = target.kind();
        let response = match *request.method() {
            _ if request.uri().path().len() > MAX_PATH => respond.error(
                StatusCode::URI_TOO_LONG,
                "the path is longer than any that this server gives out",
            ),
            Method::GET | Method::HEAD => {
                self.get(
                    connection,
                    request.uri(),
                    request.headers(),
                    target,
                    &respond,
                )
                .await
            }
            Method::OPTIONS => respond.options(),
            _ => respond.not_allowed(),
        };
        let status = response.status().as_u16();
        self.metrics
            .http_requests
            .get_or_create(&metrics::Request { kind, status })
            .inc();
        response
    }

    async fn get(
        &self,
        connection: &Connection,
        uri: &Uri,
        headers: &HeaderMap,
        target: Target<'_>,
        respond: &Responder<'_>,
    ) -> Response<ResponseBody> {
        match target {
            Target::Index if status::wants_json(headers) => {
                status::streams(&self.registry, respond)
            }
            Target::Index => status::index(&self.registry, headers, respond),
            Target::Streams => status::streams(&self.registry, respond),
            Target::Time => status::time(SystemTime::now(), respond),
            Target::Asset(file) => player::asset(file, uri.query(), headers, respond),
            Target::Player(name) => player::page(name, uri.path(), headers, respond),
            // Only if there is such a stream: otherwise every mistyped path would be a page that waits for ever.
            Target::Name(name) if self.registry.find(name).is_some() => {
                player::page(name, uri.path(), headers, respond)
            }
            Target::Metrics => {
                self.gather();
                respond.full(metrics::CONTENT_TYPE, Cache::Never, self.metrics.encode())
            }
            Target::Health => respond.full("text/plain; charset=utf-8", Cache::Never, "ok\n"),
            Target::Multivariant(name) => match self.registry.find(name) {
                Some(stream) => multivariant(&stream, headers, respond).await,
                None => unknown_stream(respond),
            },
            Target::Media(name, id) => match self.registry.find(name) {
                Some(stream) => {
                    connection.plays(&stream);
                    media(&stream, id, headers, respond)
                }
                None => unknown_stream(respond),
            },
            Target::Segment(name, id, sequence) => match self.registry.find(name) {
                Some(stream) => {
                    connection.plays(&stream);
                    let segment = stream
                        .output()
                        .session(id)
                        .and_then(|session| session.segment(sequence));
                    match segment {
                        Some(segment) => serve_segment(segment, connection, headers, respond),
                        None => respond.error(
                            StatusCode::NOT_FOUND,
                            "no such segment: it has not been announced yet, or has been dropped from the ring",
                        ),
                    }
                }
                None => unknown_stream(respond),
            },
            Target::Name(_) | Target::Unknown => respond.error(
                StatusCode::NOT_FOUND,
                "nothing is here; a stream is at /APP/NAME/playlist.m3u8, its player page at /APP/NAME/",
            ),
        }
    }

    /// Brings the gauges that are counted only when asked for up to date.
    fn gather(&self) {
        let streams = self.registry.list();
        self.metrics.streams.set(streams.len() as i64);
        self.metrics
            .viewers
            .set(streams.iter().map(|stream| stream.viewers() as i64).sum());
        self.metrics.ring_bytes.set(
            streams
                .iter()
                .map(|stream| stream.ring_bytes() as i64)
                .sum(),
        );
    }
}

impl Connection {
    /// Counts this connection as a viewer of `stream`, and of no other.
    fn plays(&self, stream: &Arc<Stream>) {
        let mut viewer = self.viewer.lock().unwrap_or_else(PoisonError::into_inner);
        if !viewer
            .as_ref()
            .is_some_and(|viewer| Arc::ptr_eq(viewer.stream(), stream))
        {
            *viewer = Some(stream.join());
        }
    }
}

impl<'a> Target<'a> {
    fn parse(path: &'a str) -> Self {
        let path = path.strip_prefix('/').unwrap_or(path);
        match path {
            "" => return Self::Index,
            "api/streams" => return Self::Streams,
            "api/time" => return Self::Time,
            "metrics" => return Self::Metrics,
            "healthz" => return Self::Health,
            _ => {}
        }
        if let Some(file) = path
            .strip_prefix("web/")
            .filter(|file| player::is_asset(file))
        {
            return Self::Asset(file);
        }
        let Some((name, file)) = path.rsplit_once('/') else {
            return match StreamName::new(path, "") {
                Ok(name) if name.as_str() == path => Self::Name(path),
                _ => Self::Unknown,
            };
        };
        if file.is_empty() {
            return match StreamName::new(name, "") {
                Ok(valid) if valid.as_str() == name => Self::Player(name),
                _ => Self::Unknown,
            };
        }
        if file == "playlist.m3u8" {
            Self::Multivariant(name)
        } else if let Some(id) = file.strip_suffix(".m3u8") {
            Self::Media(name, id)
        } else if let Some((id, sequence)) = parse_segment_name(file) {
            Self::Segment(name, id, sequence)
        } else if StreamName::new(path, "").is_ok_and(|name| name.as_str() == path) {
            Self::Name(path)
        } else {
            Self::Unknown
        }
    }

    /// The name of the kind in the metrics.
    fn kind(&self) -> &'static str {
        match self {
            Self::Multivariant(_) => "multivariant",
            Self::Media(..) => "media",
            Self::Segment(..) => "segment",
            Self::Player(_) | Self::Name(_) | Self::Asset(_) => "page",
            Self::Index
            | Self::Streams
            | Self::Time
            | Self::Metrics
            | Self::Health
            | Self::Unknown => "other",
        }
    }
}

/// The multivariant playlist, waited for while a stream that has begun is not yet playable.
async fn multivariant(
    stream: &Stream,
    headers: &HeaderMap,
    respond: &Responder<'_>,
) -> Response<ResponseBody> {
    let output = stream.output();
    let ready = output.updates().wait_for(|| {
        let playlist = output.multivariant();
        (playlist.is_some() || output.ended()).then_some(playlist)
    });
    match tokio::time::timeout(START_WAIT, ready).await {
        Ok(Some(rendered)) => playlist_response(&rendered, headers, respond),
        Ok(None) => respond.error(
            StatusCode::NOT_FOUND,
            "the stream ended before it could be played",
        ),
        Err(_) => respond
            .retry_later("the publisher is connected but has sent nothing that can be played yet"),
    }
}

fn media(
    stream: &Stream,
    id: &str,
    headers: &HeaderMap,
    respond: &Responder<'_>,
) -> Response<ResponseBody> {
    match stream.output().session(id) {
        Some(session) => {
            session.touch(Instant::now());
            playlist_response(&session.media(), headers, respond)
        }
        None => respond.error(
            StatusCode::NOT_FOUND,
            "no such media playlist; start from playlist.m3u8",
        ),
    }
}

fn playlist_response(
    rendered: &Rendered,
    headers: &HeaderMap,
    respond: &Responder<'_>,
) -> Response<ResponseBody> {
    if response::accepts_gzip(headers) {
        respond.gzip(
            playlist::CONTENT_TYPE,
            Cache::Never,
            rendered.gzip().clone(),
        )
    } else {
        respond.full(
            playlist::CONTENT_TYPE,
            Cache::Never,
            rendered.plain().clone(),
        )
    }
}

fn serve_segment(
    segment: Arc<Segment>,
    connection: &Connection,
    headers: &HeaderMap,
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
            segment.pieces(0..usize::MAX),
            headers,
        ),
        State::Withdrawn => respond.error(
            StatusCode::NOT_FOUND,
            "the stream ended before this segment",
        ),
    }
}

fn unknown_stream(respond: &Responder<'_>) -> Response<ResponseBody> {
    respond.error(
        StatusCode::NOT_FOUND,
        "no such stream is live; the list is at /",
    )
}

const SEGMENT_TYPE: &str = "video/mp2t";
/// Longer than the longest learning of a key frame interval, shorter than players' patience with a multivariant playlist (hls.js 20 s).
const START_WAIT: Duration = Duration::from_secs(15);
/// A stream name, a slash and a file name, with room.
const MAX_PATH: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert!(matches!(
            Target::parse("/live/a/playlist.m3u8"),
            Target::Multivariant("live/a")
        ));
        assert!(matches!(
            Target::parse("/live/playlist.m3u8"),
            Target::Multivariant("live")
        ));
        assert!(matches!(
            Target::parse("/live/a/x1.m3u8"),
            Target::Media("live/a", "x1")
        ));
        assert!(matches!(
            Target::parse("/live/a/x1-7.ts"),
            Target::Segment("live/a", "x1", 7)
        ));
        assert!(matches!(
            Target::parse("/live/a/"),
            Target::Player("live/a")
        ));
        assert!(matches!(Target::parse("/live/a"), Target::Name("live/a")));
        assert!(matches!(Target::parse("/live"), Target::Name("live")));
        assert!(matches!(
            Target::parse("/web/player.js"),
            Target::Asset("player.js")
        ));
        for path in [
            "//",
            "/live//",
            "/live/%41/",
            "/../",
            "/.hidden",
            "/live/../x.ts",
        ] {
            assert!(matches!(Target::parse(path), Target::Unknown), "{path}");
        }
    }
}
