//! A viewer without a browser: follows a stream over HTTP as a player would, and measures how late everything comes.
//!
//! ```text
//!  url, playlist ──► segments (LHLS: bytes as they grow)  ──► record ──► demux ──► access units with arrival times
//!       ▲            parts    (LL-HLS: blocking reloads)        │                        │
//!       └── client ──┘                                          ▼                        ▼
//!                                                      stats ◄── latency, stalls, gaps   decode (time strip, own thread)
//!                                                        └──► report (table, JSON)
//! ```
//!
//! Latency is measured by up to three clocks ([`stats::Clock`]); which, depends on what the stream carries. Nothing is rendered, and
//! nothing is buffered, so what a real player adds is not in it: see the README on how players differ.
//!
//! Not here: TLS, fragmented MP4, encryption, choice of renditions (the first listed is taken).

mod client;
mod decode;
pub mod demux;
mod parts;
pub mod playlist;
mod record;
pub mod report;
mod segments;
pub mod stats;
pub mod url;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::client::Client;
use self::decode::Decoding;
use self::playlist::{Media, Playlist};
use self::record::Record;
use self::report::Report;
use self::stats::Totals;
use self::url::Url;
use crate::dial::{self, Dialer, Trust};

/// How to watch.
#[derive(Debug, Clone)]
pub struct Options {
    /// The playlist.
    pub url: Url,
    /// Whom to believe to be that server, with `https://`.
    pub trust: Trust,
    /// As what kind of player; `None` for what the playlist is made for.
    pub mode: Option<Mode>,
    /// How many viewers, 1 to [`MAX_VIEWERS`].
    pub viewers: usize,
    /// How long from the first picture on; `None` for until told to stop.
    pub duration: Option<Duration>,
    /// Media that the player, whose stalls are counted, keeps before it.
    pub buffer: Duration,
    /// Whether to look for the time strip in the pictures. Only the first viewer does; it costs CPU in proportion to the picture.
    pub decode: bool,
}

/// A kind of player.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Reads segments as they grow, and the next announced one after that.
    Segments,
    /// Reads parts, with blocking reloads and preload hints.
    Parts,
}

/// Why a stream cannot be watched, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error("cannot connect to {authority}: {source}{}", hint(.source))]
    Connect {
        /// Host and port.
        authority: String,
        /// The reason.
        source: dial::Error,
    },
    /// The connection broke, or the peer does not speak HTTP.
    #[error("{url}: {source}{}", http_hint(.source))]
    Http {
        /// What was asked for.
        url: Url,
        /// What was wrong.
        source: hyper::Error,
    },
    /// An answer that is no success.
    #[error("{url}: the server says {status}{}{}", said(.text), status_hint(*.status))]
    Status {
        /// What was asked for.
        url: Url,
        /// The status.
        status: StatusCode,
        /// The first line of the answer.
        text: String,
    },
    /// Nothing came.
    #[error("{0}: nothing came for {1:?}; the publisher or the network has stopped")]
    Silent(Url, Duration),
    /// Redirects that do not end.
    #[error("{0}: redirected too often")]
    Redirects(Url),
    /// A playlist larger than any.
    #[error("{0}: more than {1} bytes, so it is no playlist of a live stream")]
    TooLong(Url, usize),
    /// Something else than a playlist.
    #[error("{url}: not a playlist: it begins with {begins:?} where #EXTM3U is expected")]
    NotAPlaylist {
        /// What was asked for.
        url: Url,
        /// How the answer begins.
        begins: String,
    },
    /// A playlist that leads nowhere.
    #[error("{0}: the playlist lists nothing to play")]
    Empty(Url),
    /// Something this viewer cannot play.
    #[error("{0}: {1}; only MPEG-TS without encryption can be measured")]
    Unsupported(Url, &'static str),
    /// `--mode ll` without parts.
    #[error(
        "{0}: the playlist has no parts (EXT-X-PART-INF), so it cannot be followed as LL-HLS; a stream of this server has them at ll.m3u8"
    )]
    NoParts(Url),
    /// An address in the playlist, or behind a redirect.
    #[error("an address that cannot be fetched: {0}")]
    Address(#[from] url::Error),
    /// The same, but it has a form no request can have.
    #[error("an address that cannot be fetched: {0:?}")]
    BadReference(String),
    /// The media is none.
    #[error("no picture came within {0:?}")]
    NoPicture(Duration),
    /// The stream had ended before the viewer came.
    #[error("{0}: the stream has ended")]
    Ended(Url),
    /// A task ended in a way it never should.
    #[error("a viewer stopped: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// One viewer.
#[derive(Debug)]
struct Viewer {
    client: Client,
    record: Record,
}

/// A media playlist, where it is, and when it was asked for.
#[derive(Debug, Clone)]
struct Listing {
    url: Url,
    media: Media,
    asked: Instant,
}

/// Watches until the time is over, the stream ends, or `cancel` fires. `progress` is told the sums so far about once a second.
///
/// # Errors
/// When no viewer gets to see a picture. Whatever happens after that is in the report.
pub async fn watch(
    options: Options,
    cancel: CancellationToken,
    mut progress: impl FnMut(Duration, &Totals),
) -> Result<Report, Error> {
    let started = Instant::now();
    let totals = Arc::new(Mutex::new(Totals::default()));
    let read = || {
        totals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    };
    let mode = Arc::new(Mutex::new(None));
    let mut viewers = JoinSet::new();
    let dialer = Dialer::new(options.trust, client::PROTOCOLS);
    let viewers_wanted = options.viewers.clamp(1, MAX_VIEWERS);
    for index in 0..viewers_wanted {
        let decoding = (options.decode && index == 0)
            .then(|| Decoding::start(&totals))
            .flatten();
        let viewer = Viewer {
            client: Client::new(dialer.clone(), Arc::clone(&totals)),
            record: Record::new(Arc::clone(&totals), started, options.buffer, decoding),
        };
        viewers.spawn(viewer.follow(options.url.clone(), options.mode, Arc::clone(&mode)));
    }

    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut failed = Vec::new();
    let mut first_picture = None;
    loop {
        let deadline = match (first_picture, options.duration) {
            (None, _) => started + PATIENCE,
            (Some(at), Some(duration)) => at + duration,
            (Some(_), None) => started + FOREVER,
        };
        tokio::select! {
            () = cancel.cancelled() => break,
            () = tokio::time::sleep_until(deadline.into()) => {
                if first_picture.is_none() && read().playing == 0 {
                    failed.push(Error::NoPicture(PATIENCE));
                }
                break;
            }
            done = viewers.join_next() => match done {
                // The stream has ended for this viewer.
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => failed.push(error),
                Some(Err(error)) => failed.push(error.into()),
                None => break,
            },
            _ = ticks.tick() => {
                // Looked at where they are: to copy them would hold the viewers up for longer.
                let now = totals.lock().unwrap_or_else(PoisonError::into_inner);
                if first_picture.is_none() {
                    first_picture = now.picture_at.min().map(|micros| {
                        started + Duration::from_micros(u64::try_from(micros).unwrap_or(0))
                    });
                }
                progress(started.elapsed(), &now);
            }
        }
    }
    let elapsed = started.elapsed();
    let ended = viewers.is_empty() && failed.is_empty();
    // The decoder, which is dropped with its viewer, finishes what it has.
    viewers.shutdown().await;
    let totals = read();
    if totals.playing == 0 {
        return match failed.into_iter().next() {
            Some(error) => Err(error),
            None if cancel.is_cancelled() => Err(Error::NoPicture(elapsed)),
            None => Err(Error::Ended(options.url)),
        };
    }
    let mode = mode.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Report {
        url: options.url,
        mode: mode.unwrap_or(Mode::Segments),
        viewers: viewers_wanted,
        elapsed,
        buffer: options.buffer,
        ended,
        errors: failed.iter().map(ToString::to_string).collect(),
        totals,
    })
}

impl Viewer {
    /// Watches until the stream ends.
    async fn follow(
        mut self,
        url: Url,
        mode: Option<Mode>,
        chosen: Arc<Mutex<Option<Mode>>>,
    ) -> Result<(), Error> {
        let listing = self.open(url).await?;
        let mode = match mode {
            Some(Mode::Parts) if !listing.media.has_parts() => {
                return Err(Error::NoParts(listing.url));
            }
            Some(mode) => mode,
            None if listing.media.has_parts() => Mode::Parts,
            None => Mode::Segments,
        };
        *chosen.lock().unwrap_or_else(PoisonError::into_inner) = Some(mode);
        let result = match mode {
            Mode::Segments => segments::follow(&mut self, listing).await,
            Mode::Parts => parts::follow(&mut self, listing).await,
        };
        if result.is_err() {
            self.record.totals().failures += 1;
        }
        result
    }

    /// The media playlist, through the multivariant one if there is one.
    async fn open(&mut self, mut url: Url) -> Result<Listing, Error> {
        for _ in 0..MAX_DEPTH {
            let asked = Instant::now();
            match fetch_playlist(&self.client, &url).await? {
                (base, Playlist::Multivariant(variants)) => {
                    let first = variants.first().ok_or(Error::Empty(base.clone()))?;
                    url = base.join(first)?;
                }
                (url, Playlist::Media(media)) => {
                    let unsupported = if media.encrypted {
                        Some("the segments are encrypted")
                    } else if media.fragmented {
                        Some("the segments are fragmented MP4 (EXT-X-MAP)")
                    } else {
                        None
                    };
                    if let Some(what) = unsupported {
                        return Err(Error::Unsupported(url, what));
                    }
                    self.record.playlist(&media, asked);
                    return Ok(Listing { url, media, asked });
                }
            }
        }
        Err(Error::Redirects(url))
    }
}

impl Listing {
    /// Fetches the media playlist again, with `parameters` in its query if there are any.
    async fn reload(self, client: Client, parameters: Option<String>) -> Result<Self, Error> {
        let url = match parameters {
            Some(parameters) => self.url.with_query(&parameters),
            None => self.url.clone(),
        };
        let asked = Instant::now();
        match fetch_playlist(&client, &url).await? {
            (_, Playlist::Media(media)) => Ok(Self {
                url: self.url,
                media,
                asked,
            }),
            (url, Playlist::Multivariant(_)) => Err(Error::Empty(url)),
        }
    }
}

async fn fetch_playlist(client: &Client, url: &Url) -> Result<(Url, Playlist), Error> {
    let mut response = client.get(url, None).await?;
    let text = response.text(MAX_PLAYLIST).await?;
    let url = response.url.clone();
    if !response.status.is_success() {
        return Err(status_error(url, response.status, &text));
    }
    match Playlist::parse(&text) {
        Some(playlist) => Ok((url, playlist)),
        None => Err(Error::NotAPlaylist {
            url,
            begins: text.chars().take(40).collect(),
        }),
    }
}

fn status_error(url: Url, status: StatusCode, text: &str) -> Error {
    let line = text.lines().next().unwrap_or_default();
    let readable = !line.starts_with(['<', '{']) && !line.contains(char::is_control);
    Error::Status {
        url,
        status,
        text: if readable {
            line.chars().take(200).collect()
        } else {
            String::new()
        },
    }
}

fn said(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!(": {text}")
    }
}

fn status_hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => " (is the stream live, and its name right?)",
        _ => "",
    }
}

fn hint(error: &dial::Error) -> &'static str {
    let dial::Error::Connect(error) = error else {
        return "";
    };
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => " (is the server running, and the port right?)",
        std::io::ErrorKind::TimedOut => " (is the host right, and does a firewall let it through?)",
        _ => "",
    }
}

fn http_hint(error: &hyper::Error) -> &'static str {
    if error.is_parse() {
        " (is this the HTTP port?)"
    } else if error.is_incomplete_message() {
        " (the server closed the connection)"
    } else {
        ""
    }
}

/// More need more sockets than most systems give a process.
pub const MAX_VIEWERS: usize = 1000;
/// How long the first picture may take: a server may hold a playlist back while a stream starts.
const PATIENCE: Duration = Duration::from_secs(30);
/// A year.
const FOREVER: Duration = Duration::from_secs(365 * 86_400);
/// A multivariant playlist, a media playlist, and one to spare.
const MAX_DEPTH: usize = 3;
/// Days of segments.
const MAX_PLAYLIST: usize = 8 << 20;
