//! HTTP out: routes, and what is answered on each.
//!
//! | path | what |
//! |---|---|
//! | `/NAME/playlist.m3u8` | multivariant playlist for any player; waits for a stream that is about to go live |
//! | `...?stream`, `...?hold` | by a script that reads along; by a client that wants segments whole and is not marked as a script |
//! | `...?segments` | by a player built on ffmpeg that wants no short segments |
//! | `...?asked=MS` | by a player built on ffmpeg that has been asked to ask again: `near` |
//! | `...?wait=SECONDS` | waits as long for a stream that is not there yet |
//! | `/NAME/playlist.m3u8?prefetch` | the same, to media playlists with `EXT-X-PREFETCH` |
//! | `/NAME/ll.m3u8`, `/NAME/ll.m3u8?pt=MS` | the same for LL-HLS players, with parts of about MS milliseconds |
//! | `/NAME/media-2.m3u8` and the like | media playlists, segments and parts: [`crate::hls::names`], answered in `media` |
//! | `/NAME/` | the page that plays it; `/web/…` are its files |
//! | `/`, `/api/streams` | live streams, for people and for programmes |
//! | `/api/time` | the server's clock, for pages that measure latency |
//! | `/healthz`, `/readyz` | whether the server is alive, and whether it wants new viewers |
//! | `/metrics`, `/status`, `/api/v1/…` | for operators: `admin` |
//! | `/@TOKEN/…` | any of these, with what a viewer must show ([`crate::auth::token`]); `playlist.m3u8?token=TOKEN` leads there |
//!
//! GET, HEAD and OPTIONS only, but for operators. No cookies, and no redirects but to HTTPS, on request, and to see how near players built on
//! ffmpeg are: everything can stand behind any CDN.

pub mod admin;
pub mod body;
pub mod cors;
mod fanout;
mod h1;
#[cfg(feature = "tls")]
mod h2;
pub mod idle;
pub mod listener;
mod media;
pub mod meter;
mod multivariant;
mod near;
mod player;
mod response;
mod status;
mod target;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use hyper::header::{self, HeaderMap};
use hyper::{Method, Request, Response, StatusCode, Version};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tracing::debug;

use self::admin::{About, Admin};
use self::body::ResponseBody;
use self::cors::Cors;
use self::fanout::Edges;
use self::idle::Idle;
use self::meter::Meter;
use self::response::{Cache, Refusal, Responder};
use self::target::{Form, MAX_TOKEN, Target, parameter, split_token};
use crate::auth::Access;
use crate::auth::token::{Denied, Seen, Shown};
use crate::hls::names::{Early, File, Listed};
use crate::hls::playlist::{self, Rendered};
use crate::hooks::{self, Hooks, Verdict};
use crate::live::Live;
use crate::metrics::{self, Metrics};
use crate::proxy::{TrustedProxies, forwarded};
use crate::stream::Stream;
use crate::stream::connections::Role;
use crate::stream::registry::Registry;

/// What the HTTP side is told by the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which pages may read what is served.
    pub cors: Cors,
    /// Connections at the same time; more get a 503.
    pub max_connections: usize,
    /// For operators.
    pub admin: admin::Settings,
    /// Proxies whose word about a client's address is believed.
    pub trusted: TrustedProxies,
    /// Where those who come without encryption are sent: the port of HTTPS.
    pub https_redirect: Option<u16>,
}

/// Answers requests; shared by all connections.
#[derive(Debug)]
pub struct Service {
    access: Arc<Access>,
    hooks: Arc<Hooks>,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    settings: Arc<Live<Settings>>,
    about: About,
    /// Whether this is the operators' own port.
    for_operators: bool,
    started: Instant,
    /// One for each connection that may be open, on all ports together.
    places: Arc<Semaphore>,
    /// Those of them that may be done without.
    idle: Arc<Idle>,
    /// Segments that are watched as they grow.
    edges: Arc<Edges>,
}

/// One viewer's connection, for as long as it lasts.
#[derive(Debug)]
pub struct Connection {
    /// Who is at the other end; behind a proxy that says so in each request, it is that proxy.
    peer: SocketAddr,
    /// Whether it is encrypted.
    secure: bool,
    meter: Arc<Meter>,
    /// Whether a segment has been held back until it was whole.
    held: AtomicBool,
    /// Whether the last playlist asked for was a multivariant one that leads to parts.
    entered: AtomicBool,
}

/// What else a request says.
#[derive(Debug, Clone, Copy)]
struct Asked<'a> {
    query: &'a str,
    headers: &'a HeaderMap,
    version: Version,
    /// The token of `playlist.m3u8?token=…`, which goes on in the path.
    entry_token: Option<&'a str>,
}

impl Service {
    /// A service of these streams.
    pub fn new(
        registry: Arc<Registry>,
        access: Arc<Access>,
        hooks: Arc<Hooks>,
        metrics: Arc<Metrics>,
        settings: Arc<Live<Settings>>,
    ) -> Self {
        Self {
            access,
            hooks,
            registry,
            metrics,
            places: Arc::new(Semaphore::new(settings.get().max_connections)),
            idle: Arc::default(),
            edges: Arc::default(),
            settings,
            about: About::default(),
            for_operators: false,
            started: Instant::now(),
        }
    }

    /// The same, with what it can tell operators of the server.
    pub fn with(self, about: About) -> Self {
        Self { about, ..self }
    }

    /// The same, with pieces written to those who watch on that runtime, which publishers are on as well.
    pub fn with_media_on(self, runtime: &Handle) -> Self {
        Self {
            edges: Arc::new(Edges::written_on(runtime)),
            ..self
        }
    }

    /// The same, for the operators' own port, which has places of its own: they get in when viewers have taken all of theirs.
    pub fn for_operators(self) -> Self {
        Self {
            for_operators: true,
            places: Arc::new(Semaphore::new(MAX_OPERATORS)),
            ..self
        }
    }

    /// State for a new connection from `peer`, encrypted or not.
    pub fn connect(&self, peer: SocketAddr, secure: bool) -> Connection {
        let connections = self.registry.connections();
        let place = connections.enter(Role::Viewer, peer, SystemTime::now());
        Connection {
            peer,
            secure,
            meter: Arc::new(Meter::listed(Arc::clone(&self.metrics), place)),
            held: AtomicBool::new(false),
            entered: AtomicBool::new(false),
        }
    }

    /// Answers a request.
    pub async fn answer<B>(
        &self,
        connection: &Connection,
        request: &Request<B>,
    ) -> Response<ResponseBody> {
        let asked_at = Instant::now();
        let settings = self.settings.get();
        let mut respond = Responder::new(
            settings.cors.answer(request.headers()),
            request.method() == Method::HEAD,
        );
        let client = forwarded::client(&settings.trusted, connection.peer.ip(), request.headers());
        let (token, path) = split_token(request.uri().path());
        let query = request.uri().query().unwrap_or_default();
        let target = self.target(path, query, &settings);
        let kind = target.kind();
        let asked = Asked {
            query,
            headers: request.headers(),
            version: request.version(),
            entry_token: target.entry_token(token, query),
        };
        let response =
            if path.len() > MAX_PATH || token.is_some_and(|token| token.len() > MAX_TOKEN) {
                respond.error(
                    StatusCode::URI_TOO_LONG,
                    "the path is longer than any that this server gives out",
                )
            } else if self.redirects(&settings, connection, &target, request) {
                respond.to_https(request, settings.https_redirect)
            } else if let Target::Admin(page) = target {
                self.admin(&settings, connection)
                    .answer(page, request, &respond)
            } else if let Some(again) = near::ask_again(&target, asked, self.started) {
                respond.again(&again)
            } else {
                match *request.method() {
                    Method::GET | Method::HEAD => {
                        match self.permit(&target, token, asked, client).await {
                            Ok(seen) => {
                                respond.set_private(seen == Seen::ByOther);
                                let operators = !settings.admin.elsewhere;
                                self.get(connection, asked, target, operators, &respond)
                                    .await
                            }
                            Err(denied) => respond.denied(&denied),
                        }
                    }
                    Method::OPTIONS => respond.options(),
                    _ => respond.not_allowed(),
                }
            };
        let status = response.status().as_u16();
        let labels = metrics::Request { kind, status };
        self.metrics.http_requests.get_or_create(&labels).inc();
        self.metrics
            .http_durations
            .get_or_create(&labels)
            .observe(asked_at.elapsed().as_secs_f64());
        debug!(%client, kind, status, "answered");
        response
    }

    /// What a path asks for on this port.
    fn target<'a>(&self, path: &'a str, query: &str, settings: &Settings) -> Target<'a> {
        let target = Target::parse(path, query);
        match target {
            Target::Index if self.for_operators => Target::Admin(admin::Page::Status),
            Target::Admin(_) if settings.admin.elsewhere && !self.for_operators => Target::Unknown,
            Target::Health | Target::Ready | Target::Asset(_) | Target::Admin(_) => target,
            _ if self.for_operators => Target::Unknown,
            _ => target,
        }
    }

    /// Whether this should have been asked for with encryption. What machines ask on the inside is answered as it is.
    fn redirects<B>(
        &self,
        settings: &Settings,
        connection: &Connection,
        target: &Target<'_>,
        request: &Request<B>,
    ) -> bool {
        let on_the_inside = matches!(
            target,
            Target::Admin(admin::Page::Metrics) | Target::Health | Target::Ready
        );
        let (trusted, peer) = (&settings.trusted, connection.peer.ip());
        settings.https_redirect.is_some()
            && !connection.secure
            && !self.for_operators
            && !on_the_inside
            && matches!(*request.method(), Method::GET | Method::HEAD)
            && forwarded::is_secure(trusted, peer, request.headers()) != Some(true)
    }

    fn admin<'a>(&'a self, settings: &'a Settings, connection: &Connection) -> Admin<'a> {
        Admin {
            registry: &self.registry,
            metrics: &self.metrics,
            settings: &settings.admin,
            about: &self.about,
            own_port: self.for_operators,
            peer: connection.peer,
        }
    }

    /// Whether the stream that is asked for, if one is, may be had.
    async fn permit(
        &self,
        target: &Target<'_>,
        in_path: Option<&str>,
        asked: Asked<'_>,
        client: IpAddr,
    ) -> Result<Seen, Denied> {
        let Some(name) = target.stream() else {
            return Ok(Seen::ByAddress);
        };
        let shown = Shown {
            in_path: in_path.or(asked.entry_token),
            in_header: asked.bearer(),
        };
        let seen = self.access.viewer(name, shown)?;
        if !self.hooks.has(hooks::Event::Play) {
            return Ok(seen);
        }
        let player = hooks::Player {
            address: client,
            stream: name,
            token: shown.in_path.or(shown.in_header),
            agent: asked.header(header::USER_AGENT.as_str()),
        };
        // On the heap: it is large, and most servers ask nobody.
        match Box::pin(self.hooks.play(player)).await {
            Verdict::Allow { .. } if shown.in_path.is_some() => Ok(seen),
            Verdict::Allow { .. } => Ok(Seen::ByOther),
            Verdict::Deny(_) => Err(Denied::Hook),
            Verdict::Down(_) if self.hooks.allows_when_down() => Ok(seen),
            Verdict::Down(_) => Err(Denied::HookDown),
        }
    }

    async fn get(
        &self,
        connection: &Connection,
        asked: Asked<'_>,
        target: Target<'_>,
        operators: bool,
        respond: &Responder<'_>,
    ) -> Response<ResponseBody> {
        match target {
            Target::Index if status::wants_json(asked.headers) => {
                status::streams(&self.registry, respond)
            }
            Target::Index => status::index(&self.registry, operators, asked.headers, respond),
            Target::Streams => status::streams(&self.registry, respond),
            Target::Time => status::time(SystemTime::now(), respond),
            Target::Asset(file) => player::asset(file, asked.query, asked.headers, respond),
            // Without the slash only if there is such a stream: else every mistyped path would be a page that waits for ever.
            Target::Page(name, slash) if slash || self.registry.find(name).is_some() => {
                player::page(name, slash, asked.headers, respond)
            }
            Target::Health => respond.full("text/plain; charset=utf-8", Cache::Never, "ok\n"),
            Target::Ready if self.about.shutdown.is_cancelled() => {
                respond.retry_later("the server is shutting down")
            }
            Target::Ready => respond.full("text/plain; charset=utf-8", Cache::Never, "ready\n"),
            Target::Multivariant(name, form) => match self.find_or_wait(name, asked.query).await {
                Some(stream) => {
                    let parts = matches!(form, Form::LowLatency(_));
                    connection.entered.store(parts, Ordering::Relaxed);
                    let opening = near::opening(form, asked, self.started);
                    multivariant::answer(&stream, form, opening, asked, respond).await
                }
                None => unknown_stream(respond),
            },
            Target::File(name, file) => match self.find_or_await_return(name, file).await {
                Some(stream) => {
                    connection.plays(&stream, asked.headers);
                    media::answer(stream.output(), file, connection, asked, respond).await
                }
                None if self.just_started() && file.is_playlist() => {
                    respond.retry_later("the server has just started and waits for the publisher")
                }
                None => unknown_stream(respond),
            },
            Target::Page(..) | Target::Admin(_) | Target::Unknown => respond.error(
                StatusCode::NOT_FOUND,
                "nothing is here; a stream is at /APP/NAME/playlist.m3u8, its player page at /APP/NAME/",
            ),
        }
    }

    /// The stream, waited for if `?wait=SECONDS` asks for that.
    async fn find_or_wait(&self, name: &str, query: &str) -> Option<Arc<Stream>> {
        let seconds: u64 = parameter(query, "wait")
            .and_then(|seconds| seconds.parse().ok())
            .unwrap_or(0);
        if seconds == 0 {
            return self.registry.find(name);
        }
        let wait = Duration::from_secs(seconds).min(LONGEST_WAIT);
        tokio::time::timeout(wait, self.registry.wait_for(name))
            .await
            .ok()
    }

    /// The stream, waited for if the server has just started and this is a media playlist: whoever has its name was watching before the
    /// restart, and players give up at a 404.
    async fn find_or_await_return(&self, name: &str, file: File<'_>) -> Option<Arc<Stream>> {
        let stream = self.registry.find(name);
        if stream.is_some() || !file.is_playlist() || !self.just_started() {
            return stream;
        }
        let playable = async {
            let stream = self.registry.wait_for(name).await;
            let output = stream.output();
            let ready = || (output.multivariant().is_some() || output.ended()).then_some(());
            output.updates().wait_for(ready).await;
            Arc::clone(&stream)
        };
        tokio::time::timeout(RETURN_WAIT, playable).await.ok()
    }

    fn just_started(&self) -> bool {
        self.started.elapsed() < RESTART_GRACE
    }
}

impl Connection {
    /// True the first time.
    fn is_first_held(&self) -> bool {
        !self.held.swap(true, Ordering::Relaxed)
    }

    /// Whether a low-latency playlist that is asked for is the first its player sees, as far as can be told.
    fn has_just_entered(&self) -> bool {
        self.entered.swap(false, Ordering::Relaxed)
    }

    /// Counts this connection as a viewer of `stream`, and of no other.
    fn plays(&self, stream: &Arc<Stream>, headers: &HeaderMap) {
        let agent = headers.get(header::USER_AGENT);
        self.meter
            .plays(stream, agent.and_then(|agent| agent.to_str().ok()));
    }
}

impl Asked<'_> {
    /// Which early-announcing playlist suits the client, by what it says it is; it is led there by name.
    ///
    /// A script's XMLHttpRequest makes nothing of a segment before its last byte. Fed at the speed of the media it would take the bit rate
    /// for the bandwidth and fall to the lowest rendition, so it is led to whole segments. `?stream` tells a script that does read along,
    /// `?hold` a client that does not and is not taken for a script.
    fn early(&self) -> Early {
        let streams = parameter(self.query, "stream").is_some();
        if parameter(self.query, "hold").is_some() || self.by_script() && !streams {
            return Early::Whole;
        }
        let agent = self.header(header::USER_AGENT.as_str()).unwrap_or_default();
        let built_on_ffmpeg = ["Lavf/", "mpv ", "libmpv"]
            .iter()
            .any(|name| agent.starts_with(name));
        if built_on_ffmpeg {
            Early::Further
        } else {
            Early::Usual
        }
    }

    /// Which low-latency playlist suits the client.
    fn listed(&self) -> Listed {
        if self.by_script() {
            Listed::Joining
        } else {
            Listed::Complete
        }
    }

    /// Whether a script in a browser asks, and not the browser's own player.
    ///
    /// Browsers say so (Fetch Metadata), but only where the page's connection is trustworthy: not over plain HTTP from another host. There
    /// it shows in what a media element always sends and a script mostly does not: a range, and no wish for compressed bytes.
    fn by_script(&self) -> bool {
        match self.header("sec-fetch-dest") {
            Some(destination) => destination == "empty",
            None => {
                let starts = |agent: &str| agent.starts_with("Mozilla/");
                let packed = |accepted: &str| accepted.contains("gzip");
                self.header(header::USER_AGENT.as_str()).is_some_and(starts)
                    && self
                        .header(header::ACCEPT_ENCODING.as_str())
                        .is_some_and(packed)
                    && !self.headers.contains_key(header::RANGE)
            }
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The token in `Authorization: Bearer`.
    fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self
            .header(header::AUTHORIZATION.as_str())?
            .split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then_some(token.trim())
    }
}

fn playlist_response(
    rendered: &Rendered,
    cache: Cache,
    headers: &HeaderMap,
    respond: &Responder<'_>,
) -> Response<ResponseBody> {
    if response::accepts_gzip(headers) {
        respond.gzip(playlist::CONTENT_TYPE, cache, rendered.gzip().clone())
    } else {
        respond.full(playlist::CONTENT_TYPE, cache, rendered.plain().clone())
    }
}

fn unknown_stream(respond: &Responder<'_>) -> Response<ResponseBody> {
    respond.refusal(Refusal::brief(
        StatusCode::NOT_FOUND,
        "no such stream is live; the list is at /",
    ))
}

/// How long after its start the server waits for publishers to come back, rather than to say that there is no such stream.
const RESTART_GRACE: Duration = Duration::from_secs(60);
/// Players wait ten seconds for the first byte of a media playlist.
const RETURN_WAIT: Duration = Duration::from_secs(8);
/// Proxies cut off requests that are not answered within a minute, or half of one.
const LONGEST_WAIT: Duration = Duration::from_secs(25);
/// A stream name, a slash and a file name, with room.
const MAX_PATH: usize = 1024;
/// Connections to the operators' own port: browsers make six, and scrapers one each.
const MAX_OPERATORS: usize = 100;
