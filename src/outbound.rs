//! Single HTTP requests to the operator's own services: hooks, key sets.
//!
//! A connection each, an answer of bounded length, within a bounded time. Not here: retries, redirects, proxies.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::LazyLock;
use std::time::Duration;

use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderMap, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;

use crate::dial::{self, Dialer, Trust};
use crate::viewer::url::Url;

/// Why there is no answer. The texts leave out the path, which may hold a token.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error("cannot connect to {0}: {1}")]
    Connect(String, std::io::Error),
    /// The connection broke, or no HTTP is spoken on it.
    #[error("{0} does not answer as HTTP has it: {1}")]
    Http(String, hyper::Error),
    /// Not in time.
    #[error("{0} did not answer within {1:?}")]
    Late(String, Duration),
    /// More than is taken.
    #[error("{0} answers with more than {1} bytes")]
    Long(String, usize),
    /// Headers that cannot be sent.
    #[error("the request to {0} cannot be put in words")]
    Request(String),
}

/// Sends a request and takes the whole answer, of `limit` bytes at the most, within `patience`.
///
/// # Errors
/// Why there is none. Any status is an answer.
pub async fn fetch(
    method: Method,
    url: &Url,
    headers: HeaderMap,
    body: String,
    patience: Duration,
    limit: usize,
) -> Result<(StatusCode, Vec<u8>), Error> {
    let exchange = exchange(method, url, headers, body, limit);
    tokio::time::timeout(patience, exchange)
        .await
        .unwrap_or_else(|_| Err(Error::Late(url.authority(), patience)))
}

async fn exchange(
    method: Method,
    url: &Url,
    headers: HeaderMap,
    body: String,
    limit: usize,
) -> Result<(StatusCode, Vec<u8>), Error> {
    let failed = |error| Error::Http(url.authority(), error);
    let (host, port) = url.address();
    let dialed = DIALER.dial(host, port, url.is_secure()).await;
    let wire = dialed
        .map_err(|error| Error::Connect(url.authority(), cause(error)))?
        .wire;
    let (mut sender, connection) = http1::handshake(TokioIo::new(wire)).await.map_err(failed)?;
    let driver = tokio::spawn(connection);
    let mut request = Request::builder()
        .method(method)
        .uri(url.target())
        .header(HOST, url.authority())
        .header(CONNECTION, "close")
        .header(USER_AGENT, concat!("lhls/", env!("CARGO_PKG_VERSION")))
        .body(body)
        .map_err(|_| Error::Request(url.authority()))?;
    request.headers_mut().extend(headers);
    let answer = sender.send_request(request).await.map_err(failed);
    let result = match answer {
        Ok(answer) => {
            let status = answer.status();
            read(answer.into_body(), url, limit)
                .await
                .map(|body| (status, body))
        }
        Err(error) => Err(error),
    };
    driver.abort();
    result
}

/// What went wrong, without the dialer's hints, which are for command lines.
fn cause(error: dial::Error) -> std::io::Error {
    match error {
        dial::Error::Connect(error) => error,
        #[cfg(feature = "tls")]
        dial::Error::Handshake { source } => source,
        error => std::io::Error::other(error),
    }
}

async fn read(mut body: Incoming, url: &Url, limit: usize) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|error| Error::Http(url.authority(), error))?;
        if let Ok(bytes) = frame.into_data() {
            if all.len() + bytes.len() > limit {
                return Err(Error::Long(url.authority(), limit));
            }
            all.extend_from_slice(&bytes);
        }
    }
    Ok(all)
}

/// Reads the system's root certificates once.
static DIALER: LazyLock<Dialer> = LazyLock::new(|| Dialer::new(Trust::System, &[b"http/1.1"]));
