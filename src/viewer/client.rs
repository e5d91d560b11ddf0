//! HTTP for one viewer: connections that are kept and used again, bodies whose bytes are stamped as they come, redirects.
//!
//! HTTP/2 where the server agrees to it, which takes TLS; HTTP/1.1 elsewhere. Not here: proxies, cookies, compression.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1;
#[cfg(feature = "tls")]
use hyper::client::conn::http2;
use hyper::header::{HOST, LOCATION, RANGE, USER_AGENT};
use hyper::{Request, StatusCode};
#[cfg(feature = "tls")]
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tracing::debug;

use super::Error;
use super::demux::Arrival;
use super::playlist::ByteRange;
use super::stats::Totals;
use super::url::Url;
use crate::dial::{self, Dialer};

/// Fetches for one viewer. Clones share the connections.
#[derive(Debug, Clone)]
pub(super) struct Client {
    dialer: Dialer,
    idle: Arc<Mutex<Vec<Idle>>>,
    totals: Arc<Mutex<Totals>>,
}

/// A connection waiting to be used.
#[derive(Debug)]
struct Idle {
    origin: Origin,
    sender: Sender,
}

/// What a connection is good for: the same host and port, and TLS or not.
type Origin = (bool, String);

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<String>),
    /// For any number of requests at once; clones are the same connection.
    #[cfg(feature = "tls")]
    Http2(http2::SendRequest<String>),
}

/// An answer, its body still to come.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: StatusCode,
    /// Bytes of the body, if the server says.
    pub(super) length: Option<u64>,
    /// Where it came from in the end.
    pub(super) url: Url,
    body: Incoming,
    /// Given back when the body has been read.
    connection: Option<Idle>,
    client: Client,
}

impl Client {
    pub(super) fn new(dialer: Dialer, totals: Arc<Mutex<Totals>>) -> Self {
        Self {
            dialer,
            idle: Arc::default(),
            totals,
        }
    }

    /// Sends a GET and waits for the answer's head. Any status but a redirect is an answer.
    pub(super) async fn get(&self, url: &Url, range: Option<ByteRange>) -> Result<Response, Error> {
        let mut url = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.get_once(&url, range).await?;
            let (response, location) = response;
            match location {
                Some(location) if response.status.is_redirection() => url = url.join(&location)?,
                _ => return Ok(response),
            }
        }
        Err(Error::Redirects(url))
    }

    async fn get_once(
        &self,
        url: &Url,
        range: Option<ByteRange>,
    ) -> Result<(Response, Option<String>), Error> {
        let failed = |source| Error::Http {
            url: url.clone(),
            source,
        };
        // A kept connection may have been closed meanwhile; a new one has no such excuse.
        let (connection, answer) = loop {
            let kept = self.take(&origin(url));
            let fresh = kept.is_none();
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.connect(url).await?,
            };
            let sent = connection.sender.send(url, range)?;
            match timeout(HEAD_LIMIT, sent).await {
                Ok(Ok(answer)) => break (connection, answer),
                Ok(Err(error)) if fresh => return Err(failed(error)),
                Ok(Err(error)) => {
                    debug!(%error, %url, "a kept connection was of no use");
                    self.forget(&origin(url));
                }
                Err(_) => return Err(Error::Silent(url.clone(), HEAD_LIMIT)),
            }
        };
        let status = answer.status();
        self.totals().answered(status.as_u16());
        let location = answer.headers().get(LOCATION);
        let location = location.and_then(|value| Some(value.to_str().ok()?.to_owned()));
        let body = answer.into_body();
        let response = Response {
            status,
            length: body.size_hint().exact(),
            url: url.clone(),
            body,
            connection: Some(connection),
            client: self.clone(),
        };
        Ok((response, location))
    }

    fn take(&self, origin: &Origin) -> Option<Idle> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connection| !connection.sender.is_closed());
        let index = idle
            .iter()
            .rposition(|connection| connection.origin == *origin)?;
        Some(match idle[index].share() {
            Some(shared) => shared,
            None => idle.swap_remove(index),
        })
    }

    fn forget(&self, origin: &Origin) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connection| connection.origin != *origin);
    }

    async fn give_back(&self, mut connection: Idle) {
        if connection.sender.is_free_again().await {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push(connection);
        }
    }

    async fn connect(&self, url: &Url) -> Result<Idle, Error> {
        let refused = |source: dial::Error| Error::Connect {
            authority: url.authority(),
            source,
        };
        let failed = |source| Error::Http {
            url: url.clone(),
            source,
        };
        let (host, port) = url.address();
        let dialing = self.dialer.dial(host, port, url.is_secure());
        let dialed = timeout(CONNECT_LIMIT, dialing)
            .await
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
            .map_err(refused)?;
        let origin = origin(url);
        #[cfg(feature = "tls")]
        if dialed.http2 {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .handshake(TokioIo::new(dialed.wire))
                .await
                .map_err(failed)?;
            tokio::spawn(drive(connection));
            let connection = Idle {
                origin,
                sender: Sender::Http2(sender),
            };
            if let Some(shared) = connection.share() {
                let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                idle.push(shared);
            }
            return Ok(connection);
        }
        let (sender, connection) = http1::handshake(TokioIo::new(dialed.wire))
            .await
            .map_err(failed)?;
        tokio::spawn(drive(connection));
        Ok(Idle {
            origin,
            sender: Sender::Http1(sender),
        })
    }

    fn totals(&self) -> std::sync::MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idle {
    /// The same connection for another request at the same time, if it can do that.
    fn share(&self) -> Option<Self> {
        match &self.sender {
            Sender::Http1(_) => None,
            #[cfg(feature = "tls")]
            Sender::Http2(sender) => Some(Self {
                origin: self.origin.clone(),
                sender: Sender::Http2(sender.clone()),
            }),
        }
    }
}

impl Sender {
    fn send(
        &mut self,
        url: &Url,
        range: Option<ByteRange>,
    ) -> Result<impl Future<Output = hyper::Result<hyper::Response<Incoming>>> + use<>, Error> {
        let sent: Pin<Box<dyn Future<Output = _> + Send>> = match self {
            Self::Http1(sender) => {
                let request = request(url.target(), Some(url.authority()), range);
                Box::pin(sender.send_request(request.map_err(|()| bad(url))?))
            }
            #[cfg(feature = "tls")]
            Self::Http2(sender) => {
                let request = request(&url.to_string(), None, range);
                Box::pin(sender.send_request(request.map_err(|()| bad(url))?))
            }
        };
        Ok(sent)
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            #[cfg(feature = "tls")]
            Self::Http2(sender) => sender.is_closed(),
        }
    }

    /// Waits until the connection can be used again, unless it never was out of use.
    async fn is_free_again(&mut self) -> bool {
        match self {
            Self::Http1(sender) => sender.ready().await.is_ok(),
            #[cfg(feature = "tls")]
            Self::Http2(_) => false,
        }
    }
}

impl Response {
    /// The next bytes of the body, and when they came; `None` at its end.
    pub(super) async fn next(&mut self) -> Result<Option<(Bytes, Arrival)>, Error> {
        loop {
            let next = poll_fn(|context| Pin::new(&mut self.body).poll_frame(context));
            let frame = match timeout(BODY_LIMIT, next).await {
                Err(_) => return Err(Error::Silent(self.url.clone(), BODY_LIMIT)),
                Ok(None) => {
                    if let Some(connection) = self.connection.take() {
                        self.client.give_back(connection).await;
                    }
                    return Ok(None);
                }
                Ok(Some(Err(source))) => {
                    let url = self.url.clone();
                    return Err(Error::Http { url, source });
                }
                Ok(Some(Ok(frame))) => frame,
            };
            if let Ok(bytes) = frame.into_data()
                && !bytes.is_empty()
            {
                let arrival = now();
                self.client.totals().bytes += bytes.len() as u64;
                return Ok(Some((bytes, arrival)));
            }
        }
    }

    /// All of the body as text, up to `limit` bytes.
    pub(super) async fn text(&mut self, limit: usize) -> Result<String, Error> {
        let mut all = Vec::new();
        while let Some((bytes, _)) = self.next().await? {
            if all.len() + bytes.len() > limit {
                return Err(Error::TooLong(self.url.clone(), limit));
            }
            all.extend_from_slice(&bytes);
        }
        Ok(String::from_utf8_lossy(&all).into_owned())
    }
}

/// This moment on both clocks.
pub(super) fn now() -> Arrival {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Arrival {
        instant: Instant::now(),
        unix_micros: since.unwrap_or_default().as_micros() as i64,
    }
}

fn origin(url: &Url) -> Origin {
    (url.is_secure(), url.authority())
}

/// Serves a connection to its end.
async fn drive(connection: impl Future<Output = hyper::Result<()>>) {
    if let Err(error) = connection.await {
        debug!(%error, "a connection ended");
    }
}

fn bad(url: &Url) -> Error {
    Error::BadReference(url.to_string())
}

fn request(
    target: &str,
    host: Option<String>,
    range: Option<ByteRange>,
) -> Result<Request<String>, ()> {
    let mut request = Request::get(target).header(
        USER_AGENT,
        concat!("lhls-latency/", env!("CARGO_PKG_VERSION")),
    );
    if let Some(host) = host {
        request = request.header(HOST, host);
    }
    if let Some(ByteRange { start, length }) = range {
        let last = start.saturating_add(length) - 1;
        request = request.header(RANGE, format!("bytes={start}-{last}"));
    }
    request.body(String::new()).map_err(|_| ())
}

/// What is offered to a server with TLS.
pub(super) const PROTOCOLS: &[&[u8]] = &[
    #[cfg(feature = "tls")]
    b"h2",
    b"http/1.1",
];
/// Bytes that may be on their way at once: a segment of a high-definition stream, so that it comes as fast as it can, and some of them.
#[cfg(feature = "tls")]
const STREAM_WINDOW: u32 = 4 << 20;
#[cfg(feature = "tls")]
const CONNECTION_WINDOW: u32 = 16 << 20;
const MAX_REDIRECTS: usize = 5;
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Longer than a server may hold a blocking reload, or a playlist of a stream that is about to start.
const HEAD_LIMIT: Duration = Duration::from_secs(40);
/// Longer than anything live pauses without being over.
const BODY_LIMIT: Duration = Duration::from_secs(40);
