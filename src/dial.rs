//! Our own connections to other servers: TCP, and TLS on it where the address asks for that.

use std::io;
use std::path::PathBuf;
#[cfg(feature = "tls")]
use std::sync::{Arc, OnceLock};

use tokio::net::TcpStream;

use crate::net::{self, Wire};
#[cfg(feature = "tls")]
use crate::tls::connect::Connector;

/// Which servers are believed to be who they say, where TLS is spoken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Trust {
    /// Those that the system's root certificates vouch for.
    #[default]
    System,
    /// Those that the certificates in a PEM file vouch for.
    File(PathBuf),
    /// All.
    Anybody,
}

/// Makes connections. Clones share what they have read of root certificates.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "tls"), expect(dead_code))]
pub struct Dialer {
    trust: Trust,
    protocols: &'static [&'static [u8]],
    #[cfg(feature = "tls")]
    connector: Arc<OnceLock<Connector>>,
}

/// A connection, and what was agreed on by ALPN.
#[derive(Debug)]
pub struct Dialed {
    /// The connection.
    pub wire: Box<dyn Wire>,
    /// Whether it is for HTTP/2.
    pub http2: bool,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No TCP connection.
    #[error("{0}")]
    Connect(#[from] io::Error),
    /// The handshake failed.
    #[cfg(feature = "tls")]
    #[error("TLS: {source}{}", hint(.source))]
    Handshake {
        /// What was wrong.
        source: io::Error,
    },
    /// Nobody can be believed.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Trust(#[from] crate::tls::connect::Error),
    /// This program cannot.
    #[cfg(not(feature = "tls"))]
    #[error("this lhls was built without TLS")]
    WithoutTls,
}

impl Dialer {
    /// A dialer that offers to speak `protocols` (ALPN names, the preferred one first) where it speaks TLS.
    pub fn new(trust: Trust, protocols: &'static [&'static [u8]]) -> Self {
        Self {
            trust,
            protocols,
            #[cfg(feature = "tls")]
            connector: Arc::default(),
        }
    }

    /// Connects to `host`, a name or an address, with TLS if `secure`. Takes its time: the caller bounds it.
    ///
    /// # Errors
    /// As the system gives them, or the server.
    pub async fn dial(&self, host: &str, port: u16, secure: bool) -> Result<Dialed, Error> {
        #[cfg(not(feature = "tls"))]
        if secure {
            return Err(Error::WithoutTls);
        }
        let stream = TcpStream::connect((host, port)).await?;
        // Without it only small writes would be delayed.
        let _ = net::tune(&stream);
        #[cfg(feature = "tls")]
        if secure {
            let connected = self.connector()?.connect(host, stream).await;
            let stream = connected.map_err(|source| Error::Handshake { source })?;
            return Ok(Dialed {
                http2: stream.protocol() == Some(b"h2"),
                wire: Box::new(stream),
            });
        }
        Ok(Dialed {
            wire: Box::new(stream),
            http2: false,
        })
    }

    /// Made when it is first needed: it reads all of the system's root certificates.
    #[cfg(feature = "tls")]
    fn connector(&self) -> Result<Connector, Error> {
        if let Some(connector) = self.connector.get() {
            return Ok(connector.clone());
        }
        let connector = Connector::new(&self.trust, self.protocols)?;
        Ok(self.connector.get_or_init(|| connector).clone())
    }
}

#[cfg(feature = "tls")]
fn hint(error: &io::Error) -> &'static str {
    let inner = error.get_ref();
    match inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_)) => {
            " (believe a certificate of your own with --ca FILE, or any with --insecure)"
        }
        Some(rustls::Error::InvalidMessage(_)) => " (is this the TLS port?)",
        _ => "",
    }
}
