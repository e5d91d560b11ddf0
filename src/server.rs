//! Binds the ports, starts the services, and ends them in order.
//!
//! The order of the end: publishers first, so that every stream gets its last playlist and its viewers their last bytes; then the
//! viewers' connections, which finish what they are being sent; all within a bounded time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::config::Config;
use crate::hls::Now;
use crate::metrics::Metrics;
use crate::stream::registry::Registry;
use crate::{http, net, rtmp};

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port cannot be had.
    #[error("cannot listen on {address} (--{option}): {error}{}", hint(.error))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The option that sets it.
        option: &'static str,
        /// What the system says.
        error: io::Error,
    },
}

/// A server whose ports are open.
#[derive(Debug)]
pub struct Server {
    config: Config,
    rtmp: TcpListener,
    http: TcpListener,
    admin: Option<TcpListener>,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
}

impl Server {
    /// Opens the ports.
    ///
    /// # Errors
    /// When one cannot be had.
    pub fn bind(mut config: Config) -> Result<Self, Error> {
        fit_connections(&mut config, net::raise_file_limit());
        let rtmp = listen(config.rtmp_listen, "rtmp-listen")?;
        let http = listen(config.http_listen, "http-listen")?;
        let admin = config
            .admin_listen
            .map(|address| listen(address, "admin-listen"))
            .transpose()?;
        let registry = Arc::new(Registry::new(config.streams.clone()));
        Ok(Self {
            config,
            rtmp,
            http,
            admin,
            registry,
            metrics: Arc::new(Metrics::new()),
        })
    }

    /// Where publishers connect: the port is known also when any was asked for.
    pub fn rtmp_address(&self) -> io::Result<SocketAddr> {
        self.rtmp.local_addr()
    }

    /// Where viewers connect.
    pub fn http_address(&self) -> io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// Where operators connect, if not where viewers do.
    pub fn admin_address(&self) -> Option<io::Result<SocketAddr>> {
        self.admin.as_ref().map(TcpListener::local_addr)
    }

    /// The streams.
    pub fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry)
    }

    /// What is counted.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Serves until `shutdown`, then ends everything.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self {
            config,
            rtmp,
            http,
            admin,
            registry,
            metrics,
        } = self;
        let http_port = http.local_addr().unwrap_or(config.http_listen).port();
        let settings = rtmp::listener::Settings {
            http_port,
            ..config.rtmp
        };
        let shared = rtmp::listener::Shared {
            registry: Arc::clone(&registry),
            metrics: Arc::clone(&metrics),
            settings,
        };
        let about = http::admin::About {
            rtmp_port: rtmp.local_addr().unwrap_or(config.rtmp_listen).port(),
            http_port,
            shutdown: shutdown.clone(),
        };
        let service = |settings| {
            http::Service::new(Arc::clone(&registry), Arc::clone(&metrics), settings)
                .with(about.clone())
        };
        let (publishers, viewers) = (TaskTracker::new(), TaskTracker::new());
        let viewers_shutdown = CancellationToken::new();
        if let Some(admin) = admin {
            // Places of their own: operators get in when viewers have taken all of theirs.
            let settings = http::Settings {
                max_connections: MAX_OPERATORS,
                ..config.http.clone()
            };
            tokio::spawn(http::listener::serve(
                admin,
                Arc::new(service(settings).for_operators()),
                TaskTracker::new(),
                viewers_shutdown.clone(),
            ));
        }
        tokio::spawn(http::listener::serve(
            http,
            Arc::new(service(config.http.clone())),
            viewers.clone(),
            viewers_shutdown.clone(),
        ));
        tokio::spawn(rtmp::listener::serve(
            rtmp,
            Arc::new(shared),
            publishers.clone(),
            shutdown.clone(),
        ));
        let linger = config.streams.packager.retain;
        let reaper = {
            let registry = Arc::clone(&registry);
            tokio::spawn(async move {
                let mut ticks = tokio::time::interval(Duration::from_secs(1));
                loop {
                    ticks.tick().await;
                    registry.age(linger, Now::read());
                }
            })
        };

        shutdown.cancelled().await;
        info!("shutting down");
        let deadline = tokio::time::Instant::now() + config.shutdown_timeout;
        publishers.close();
        let publishers_done = tokio::time::timeout_at(deadline, publishers.wait())
            .await
            .is_ok();
        registry.end_all(Now::read());
        // Who is playing asks for the playlist once more and learns that this was the end. Nobody there, nothing to wait for.
        viewers.close();
        let last_playlists = deadline.min(tokio::time::Instant::now() + LAST_PLAYLISTS);
        let _ = tokio::time::timeout_at(last_playlists, viewers.wait()).await;
        // Whoever is still reading gets the rest and is not kept alive.
        viewers_shutdown.cancel();
        let viewers_done = tokio::time::timeout_at(deadline, viewers.wait())
            .await
            .is_ok();
        reaper.abort();
        if !(publishers_done && viewers_done) {
            warn!("connections were cut off: --shutdown-timeout has passed");
        }
    }
}

/// Lowers the number of viewers' connections to what the limit of open files leaves: turned away politely is better than not accepted.
fn fit_connections(config: &mut Config, files: Option<u64>) {
    let Some(files) = files.and_then(|files| usize::try_from(files).ok()) else {
        return;
    };
    let others = config.rtmp.max_connections + OTHER_FILES;
    let wanted = config.http.max_connections;
    // However low it is, most of it is for viewers.
    let most = files.saturating_sub(others).max(files / 2);
    if wanted > most {
        config.http.max_connections = most;
        warn!(
            "the limit of open files is {files} (ulimit -Hn), so there can be {most} HTTP connections, not {wanted} (--max-connections); \
             {} would be enough",
            wanted + others
        );
    }
}

fn listen(address: SocketAddr, option: &'static str) -> Result<TcpListener, Error> {
    net::listen(address).map_err(|error| Error::Listen {
        address,
        option,
        error,
    })
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program has this port, perhaps another lhls: stop it or choose another port"
        }
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need privileges: choose another port"
        }
        io::ErrorKind::AddrNotAvailable => "; this address is not one of this machine's",
        _ => "",
    }
}

/// Files that are no connection: the listening sockets, standard streams, what the runtime needs, and connections that are being turned away.
const OTHER_FILES: usize = 256;
/// Connections to the operators' own port: browsers make six, and scrapers one each.
const MAX_OPERATORS: usize = 100;
/// How long playlists are served after the end of all streams: players ask about once a second.
const LAST_PLAYLISTS: Duration = Duration::from_secs(2);
