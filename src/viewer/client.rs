//! HTTP/1.1 for one viewer: connections that are kept and used again, bodies whose bytes are stamped as they come, redirects.
//!
//! Not here: TLS, proxies, cookies, compression.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, LOCATION, RANGE, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::debug;

use super::Error;
use super::demux::Arrival;
use super::playlist::ByteRange;
use super::stats::Totals;
use super::url::Url;
use crate::net;

/// Fetches for one viewer. Clones share the connections.
#[derive(Debug, Clone)]
pub(super) struct Client {
    idle: Arc<Mutex<Vec<Idle>>>,
    totals: Arc<Mutex<Totals>>,
}

/// A connection waiting to be used.
#[derive(Debug)]
struct Idle {
    authority: String,
    sender: SendRequest<String>,
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
    pub(super) fn new(totals: Arc<Mutex<Totals>>) -> Self {
        Self {
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
            let kept = self.take(&url.authority());
            let fresh = kept.is_none();
            let mut connection = match kept {
                Some(connection) => connection,
                None => connect(url).await?,
            };
            let sent = connection.sender.send_request(request(url, range)?);
            match timeout(HEAD_LIMIT, sent).await {
                Ok(Ok(answer)) => break (connection, answer),
                Ok(Err(error)) if fresh => return Err(failed(error)),
                Ok(Err(error)) => debug!(%error, %url, "a kept connection was of no use"),
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

    fn take(&self, authority: &str) -> Option<Idle> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connection| !connection.sender.is_closed());
        let index = idle
            .iter()
            .rposition(|connection| connection.authority == authority)?;
        Some(idle.swap_remove(index))
    }

    async fn give_back(&self, mut connection: Idle) {
        if connection.sender.ready().await.is_ok() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push(connection);
        }
    }

    fn totals(&self) -> std::sync::MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
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

async fn connect(url: &Url) -> Result<Idle, Error> {
    let refused = |source: io::Error| Error::Connect {
        authority: url.authority(),
        source,
    };
    let stream = timeout(CONNECT_LIMIT, TcpStream::connect(url.address())).await;
    let stream = stream
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(refused)?;
    // Only requests would be delayed without it.
    let _ = net::tune(&stream);
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|source| Error::Http {
            url: url.clone(),
            source,
        })?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            debug!(%error, "a connection ended");
        }
    });
    Ok(Idle {
        authority: url.authority(),
        sender,
    })
}

fn request(url: &Url, range: Option<ByteRange>) -> Result<Request<String>, Error> {
    let mut request = Request::get(url.target())
        .header(HOST, url.authority())
        .header(
            USER_AGENT,
            concat!("lhls-latency/", env!("CARGO_PKG_VERSION")),
        );
    if let Some(ByteRange { start, length }) = range {
        let last = start.saturating_add(length) - 1;
        request = request.header(RANGE, format!("bytes={start}-{last}"));
    }
    request
        .body(String::new())
        .map_err(|_| Error::BadReference(url.to_string()))
}

const MAX_REDIRECTS: usize = 5;
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Longer than a server may hold a blocking reload, or a playlist of a stream that is about to start.
const HEAD_LIMIT: Duration = Duration::from_secs(40);
/// Longer than anything live pauses without being over.
const BODY_LIMIT: Duration = Duration::from_secs(40);
