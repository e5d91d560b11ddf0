//! The server's side of the handshake, within limits.
//!
//! A handshake is the dearest thing a stranger can ask for: about a millisecond of a core, and some ten kilobytes while it lasts. So its
//! time is bounded, and so is how many are under way: when there are too many, the oldest is given up, not the newest refused. A
//! handshake in earnest takes two round trips and is done before its turn comes; those that were begun to hold places go.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::certificate::Certificates;
use super::{Stream, provider};

/// Makes encrypted connections of accepted ones. Clones share the limits.
#[derive(Clone)]
pub struct Acceptor {
    tls: TlsAcceptor,
    handshakes: Arc<Handshakes>,
}

/// An encrypted connection of somebody who connected to us.
pub type Accepted<T> = Stream<tokio_rustls::server::TlsStream<T>>;

/// What the peer wants to speak, as agreed on by ALPN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2.
    Http2,
    /// HTTP/1.1, RTMP, or whatever the port is for.
    Default,
}

/// Why there is no encrypted connection. All of it is the peer's doing or the network's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The peer speaks something else.
    #[error("this port speaks TLS, and the peer has sent {0}")]
    NotTls(&'static str),
    /// The handshake failed: no common version, a certificate that the peer refuses, nonsense.
    #[error("the TLS handshake failed: {0}")]
    Failed(io::Error),
    /// The peer takes its time.
    #[error("the TLS handshake was not done within {HANDSHAKE_TIMEOUT:?}")]
    TooSlow,
    /// Too many others came after it.
    #[error("the TLS handshake was given up: {MAX_HANDSHAKES} newer ones are under way")]
    Crowded,
}

/// The handshakes under way, oldest first.
#[derive(Debug, Default)]
struct Handshakes(Mutex<(u64, VecDeque<(u64, CancellationToken)>)>);

/// A handshake's place in the queue, for as long as it lasts.
struct Place<'a> {
    handshakes: &'a Handshakes,
    number: u64,
    given_up: CancellationToken,
}

impl Acceptor {
    /// For HTTPS: HTTP/2 for those who can, else HTTP/1.1.
    ///
    /// # Errors
    /// Only if the cryptography has no randomness.
    pub fn https(certificates: Arc<Certificates>) -> Result<Self, rustls::Error> {
        Self::new(certificates, &[b"h2", b"http/1.1"])
    }

    /// For RTMPS, whose clients know nothing of ALPN.
    ///
    /// # Errors
    /// As [`Self::https`].
    pub fn rtmps(certificates: Arc<Certificates>) -> Result<Self, rustls::Error> {
        Self::new(certificates, &[])
    }

    fn new(certificates: Arc<Certificates>, protocols: &[&[u8]]) -> Result<Self, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(certificates);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        // Tickets keep a returning viewer's session at the viewer; a table here would hold a few hundred of them and be full.
        config.ticketer = tickets()?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self {
            tls: TlsAcceptor::from(Arc::new(config)),
            handshakes: Arc::default(),
        })
    }

    /// Waits for the peer's first byte and looks whether TLS can come of it. Who speaks HTTP is told so in HTTP.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn expect_hello(&self, stream: &mut TcpStream) -> Result<(), Error> {
        let mut first = [0; 4];
        let peeked = tokio::time::timeout(HANDSHAKE_TIMEOUT, stream.peek(&mut first)).await;
        let count = peeked.map_err(|_| Error::TooSlow)?.map_err(Error::Failed)?;
        match &first[..count] {
            // A handshake record (RFC 8446, 5.1).
            [0x16, ..] => Ok(()),
            [] => Err(Error::Failed(io::ErrorKind::UnexpectedEof.into())),
            [3, ..] => Err(Error::NotTls("RTMP: its address begins with rtmps:// here")),
            [byte, ..] if byte.is_ascii_uppercase() => {
                let _ = tokio::time::timeout(FAREWELL, say_https(stream)).await;
                Err(Error::NotTls("HTTP: its address begins with https:// here"))
            }
            _ => Err(Error::NotTls("neither TLS nor HTTP nor RTMP")),
        }
    }

    /// Makes the handshake.
    ///
    /// # Errors
    /// When it fails, or takes too long.
    pub async fn accept<T: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: T,
    ) -> Result<(Accepted<T>, Protocol), Error> {
        let place = self.handshakes.begin();
        let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.tls.accept(stream));
        let stream = tokio::select! {
            done = handshake => done.map_err(|_| Error::TooSlow)?.map_err(Error::Failed)?,
            () = place.given_up.cancelled() => return Err(Error::Crowded),
        };
        let protocol = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            _ => Protocol::Default,
        };
        Ok((Stream(stream), protocol))
    }
}

impl Error {
    /// Its name in the metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotTls(_) => "not_tls",
            Self::Failed(_) => "tls_handshake",
            Self::TooSlow => "tls_handshake_time",
            Self::Crowded => "tls_handshakes",
        }
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

impl Handshakes {
    fn begin(&self) -> Place<'_> {
        let given_up = CancellationToken::new();
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, waiting) = &mut *queue;
        let number = *next;
        *next += 1;
        waiting.push_back((number, given_up.clone()));
        if waiting.len() > MAX_HANDSHAKES
            && let Some((_, oldest)) = waiting.pop_front()
        {
            oldest.cancel();
        }
        Place {
            handshakes: self,
            number,
            given_up,
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let queue = &self.handshakes.0;
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(index) = queue
            .1
            .binary_search_by_key(&self.number, |(number, _)| *number)
        {
            queue.1.remove(index);
        }
    }
}

fn tickets() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    rustls::crypto::aws_lc_rs::Ticketer::new()
}

/// Answers an HTTP request for what it is, and waits for the client to have read it.
async fn say_https(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(NOT_TLS).await?;
    stream.shutdown().await?;
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 55\r\n\
Cache-Control: no-store\r\nConnection: close\r\n\r\nthis port speaks TLS: its addresses begin with https://";
/// Two round trips and a millisecond of computing; ten times what the worst mobile network needs.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes under way. Some ten kilobytes each; a thousand viewers may come in the same second when a stream starts.
const MAX_HANDSHAKES: usize = 1024;
const FAREWELL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_handshake_makes_room() {
        let handshakes = Handshakes::default();
        let first = handshakes.begin();
        let second = handshakes.begin();
        let done = handshakes.begin();
        drop(done);
        let others: Vec<_> = (2..MAX_HANDSHAKES).map(|_| handshakes.begin()).collect();
        assert!(!first.given_up.is_cancelled());
        let newest = handshakes.begin();
        assert!(first.given_up.is_cancelled());
        assert!(!second.given_up.is_cancelled() && !newest.given_up.is_cancelled());
        drop(first);
        assert!(others.iter().all(|place| !place.given_up.is_cancelled()));
        drop((second, newest, others));
        assert!(handshakes.0.lock().unwrap().1.is_empty());
    }

    #[test]
    fn the_answer_to_plain_http_is_as_long_as_it_says() {
        let text = std::str::from_utf8(NOT_TLS).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
    }
}
