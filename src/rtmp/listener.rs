//! The RTMP port: accepting connections within a limit and serving each in a task of its own.
//!
//! A task that panics is caught by its join handle, counted and logged, and touches nobody else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, error, info_span, warn};

use super::dozing::{DozingStream, Source};
use super::ingest::Ingest;
use crate::auth::Access;
use crate::hooks::Hooks;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::net::{self, Preamble, PreambleError};
use crate::stream::connections::Role;
use crate::stream::registry::Registry;

/// What the RTMP side is told by the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Connections at the same time, publishing or not.
    pub max_connections: usize,
    /// A publisher that sends nothing for this long is disconnected.
    pub publish_timeout: Duration,
    /// Where the playlist can be had, for the log.
    pub http_port: u16,
}

/// What every connection shares.
#[derive(Debug)]
pub struct Shared {
    /// Who may publish.
    pub access: Arc<Access>,
    /// Whom to ask and to tell.
    pub hooks: Arc<Hooks>,
    /// The streams.
    pub registry: Arc<Registry>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The configuration.
    pub settings: Arc<Live<Settings>>,
    /// One for each connection that may be open, on all ports together.
    pub places: Arc<Semaphore>,
}

/// Accepts connections until `shutdown`; the connections themselves then end their runs too. The caller waits for `tasks`.
pub async fn serve(
    listener: TcpListener,
    preamble: Preamble,
    shared: Arc<Shared>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
) {
    loop {
        let (stream, peer) = tokio::select! {
            accepted = net::accept(&listener, "RTMP") => accepted,
            () = shutdown.cancelled() => return,
        };
        let Ok(place) = Arc::clone(&shared.places).try_acquire_owned() else {
            shared.metrics.limit("rtmp_connections");
            warn!(%peer, "publisher turned away: --max-publishers is reached");
            continue;
        };
        if let Err(error) = net::tune(&stream) {
            debug!(%peer, %error, "connection was gone before it could be set up");
            continue;
        }
        let (shared, preamble, shutdown) =
            (Arc::clone(&shared), preamble.clone(), shutdown.clone());
        tasks.spawn(async move {
            shared.metrics.rtmp_connections.inc();
            let served = serve_connection(stream, peer, preamble, Arc::clone(&shared), shutdown);
            let result = tokio::spawn(served).await;
            if result.is_err_and(|error| error.is_panic()) {
                shared.metrics.panics.inc();
                error!(%peer, "a task that served a publisher panicked; only that connection is lost");
            }
            shared.metrics.rtmp_connections.dec();
            drop(place);
        });
    }
}

/// Takes what comes before RTMP off the connection, and serves it.
async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    preamble: Preamble,
    shared: Arc<Shared>,
    shutdown: CancellationToken,
) {
    let begun = tokio::select! {
        begun = begin(stream, peer, preamble, &shared.metrics) => begun,
        () = shutdown.cancelled() => return,
    };
    match begun {
        Ok((stream, peer)) => {
            let connections = shared.registry.connections();
            let listed = connections.enter(Role::Publisher, peer, SystemTime::now());
            let span = info_span!("rtmp", %peer, stream = tracing::field::Empty);
            let ingest = Ingest::new(stream, Arc::clone(&shared), Arc::clone(listed.connection()));
            ingest.run(shutdown).instrument(span).await;
        }
        Err(error) => error.note(peer, &shared.metrics),
    }
}

async fn begin(
    mut stream: TcpStream,
    peer: SocketAddr,
    preamble: Preamble,
    #[cfg_attr(not(feature = "tls"), expect(unused))] metrics: &Metrics,
) -> Result<(Box<dyn Source>, SocketAddr), PreambleError> {
    let peer = preamble.proxy.client(&mut stream, peer).await?;
    #[cfg(feature = "tls")]
    if let Some(acceptor) = preamble.tls {
        acceptor.expect_hello(&mut stream).await?;
        let (stream, _) = Box::pin(acceptor.accept(stream)).await?;
        metrics.tls_handshakes.inc();
        return Ok((Box::new(stream), peer));
    }
    Ok((Box::new(DozingStream::new(stream)), peer))
}
