//! The RTMP port: accepting connections within a limit and serving each in a task of its own.
//!
//! A task that panics is caught by its join handle, counted and logged, and touches nobody else.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, error, info_span, warn};

use super::ingest::Ingest;
use crate::auth::Access;
use crate::hooks::Hooks;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::net;
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
}

/// Accepts connections until `shutdown`; the connections themselves then end their runs too. The caller waits for `tasks`.
pub async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(shared.settings.get().max_connections));
    loop {
        let (stream, peer) = tokio::select! {
            accepted = net::accept(&listener, "RTMP") => accepted,
            () = shutdown.cancelled() => return,
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            shared.metrics.limit("rtmp_connections");
            warn!(%peer, "publisher turned away: --max-publishers is reached");
            continue;
        };
        if let Err(error) = net::tune(&stream) {
            debug!(%peer, %error, "connection was gone before it could be set up");
            continue;
        }
        let (shared, shutdown) = (Arc::clone(&shared), shutdown.clone());
        tasks.spawn(async move {
            shared.metrics.rtmp_connections.inc();
            let span = info_span!("rtmp", %peer, stream = tracing::field::Empty);
            let ingest = Ingest::new(stream, peer.ip(), Arc::clone(&shared));
            let result = tokio::spawn(ingest.run(shutdown).instrument(span)).await;
            if result.is_err_and(|error| error.is_panic()) {
                shared.metrics.panics.inc();
                error!(%peer, "a task that served a publisher panicked; only that connection is lost");
            }
            shared.metrics.rtmp_connections.dec();
            drop(place);
        });
    }
}
