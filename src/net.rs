//! Listening sockets and what every accepted connection gets, for RTMP and HTTP alike.

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
#[cfg(feature = "tls")]
use tracing::debug;
use tracing::{error, info, warn};

use crate::metrics::{Metrics, Reason};
use crate::proxy;
#[cfg(feature = "tls")]
use crate::tls;

/// What a port's connections begin with, before the protocol that the port is for.
#[derive(Debug, Clone, Default)]
pub struct Preamble {
    /// A PROXY header.
    pub proxy: proxy::Expectation,
    /// TLS.
    #[cfg(feature = "tls")]
    pub tls: Option<tls::Acceptor>,
}

/// Why a connection did not get as far as its protocol.
#[derive(Debug, thiserror::Error)]
pub enum PreambleError {
    /// About the PROXY header.
    #[error(transparent)]
    Proxy(#[from] proxy::Error),
    /// About TLS.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(#[from] tls::accept::Error),
}

/// A connection, encrypted or not.
pub trait Wire: AsyncRead + AsyncWrite + Send + Sync + Unpin + Debug {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin + Debug> Wire for T {}

impl Preamble {
    /// Whether the port's protocol begins at once.
    pub fn is_plain(&self) -> bool {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return false;
        }
        self.proxy.from.is_none()
    }
}

impl PreambleError {
    /// Counts it, and says it in the log: a proxy that is trusted and not understood is for the operator to mend, a stranger's TLS is
    /// not.
    pub fn note(&self, peer: SocketAddr, metrics: &Metrics) {
        let reason = match self {
            Self::Proxy(_) => {
                warn!(%peer, "connection closed: {self}");
                "proxy_header"
            }
            #[cfg(feature = "tls")]
            Self::Tls(error) => {
                debug!(%peer, "connection closed: {error}");
                error.reason()
            }
        };
        let rejects = &metrics.preamble_rejects;
        rejects.get_or_create(&Reason { reason }).inc();
    }
}

/// Opens a listening socket.
///
/// # Errors
/// As the system gives them: the address is in use, not ours, or a privileged port.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restarted server must get its port back although old connections are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Sets what a live connection needs: no delay for small writes, and an end to peers that have silently gone.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE / 3),
    )?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    Ok(())
}

/// Keeps video that the network cannot take yet out of the kernel's buffer, where it would go stale.
pub fn limit_unsent(stream: &TcpStream) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    SockRef::from(stream).set_tcp_notsent_lowat(UNSENT)?;
    #[cfg(not(target_os = "linux"))]
    let _ = stream;
    Ok(())
}

/// The next connection of a listener, however often accepting fails meanwhile. `what` names the port in the log.
pub async fn accept(listener: &TcpListener, what: &str) -> (TcpStream, SocketAddr) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // About that one connection, which vanished.
            Err(error)
                if matches!(
                    error.kind(),
                    ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
                ) => {}
            Err(error) => {
                error!(%error, "cannot accept {what} connections; is the limit of open files (ulimit -n) too low?");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Raises the number of files that this process may have open, connections included, as far as the system lets it. Returns that number;
/// `None` is no limit.
pub fn raise_file_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => {
            let words =
                |limit: Option<u64>| limit.map_or_else(|| "none".to_owned(), |n| n.to_string());
            info!(
                from = words(limit.current),
                to = words(limit.maximum),
                "raised the limit of open files"
            );
            limit.maximum
        }
        Err(_) => limit.current,
    }
}

/// How long to wait after an `accept` error of ours: without a pause, a process out of descriptors spins.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A thousand viewers may come at the same moment when a stream starts.
const BACKLOG: i32 = 4096;
/// Silence after which the peer is probed.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// How long sent bytes may stay unacknowledged before the connection is given up.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);
/// Bytes not yet sent above which a socket is not writable.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 * 1024;
