//! Binds the ports, starts the services, and ends them in order.
//!
//! The order of the end: publishers first, so that every stream gets its last playlist and its viewers their last bytes; then the
//! viewers' connections, which finish what they are being sent; all within a bounded time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::cli::ProxiedPort;
use crate::config::Config;
use crate::hls::Now;
use crate::metrics::Metrics;
use crate::net::Preamble;
use crate::proxy::Expectation;
use crate::stream::registry::Registry;
#[cfg(feature = "tls")]
use crate::tls;
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
    /// Certificate or key are of no use.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Certificate(#[from] tls::certificate::Error),
    /// The cryptography does not work on this machine.
    #[cfg(feature = "tls")]
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// A server whose ports are open.
#[derive(Debug)]
pub struct Server {
    config: Config,
    rtmp: TcpListener,
    http: TcpListener,
    #[cfg(feature = "tls")]
    secure: Option<Secure>,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
}

/// The encrypted ports.
#[cfg(feature = "tls")]
#[derive(Debug)]
struct Secure {
    rtmps: Option<(TcpListener, tls::Acceptor)>,
    https: Option<(TcpListener, tls::Acceptor)>,
    certificates: Arc<tls::Certificates>,
}

/// What can be changed while the server runs.
#[derive(Debug, Clone, Default)]
pub struct Reload {
    #[cfg(feature = "tls")]
    certificates: Option<Arc<tls::Certificates>>,
}

impl Reload {
    /// Reads certificate and key anew. What is wrong is said in the log, and what was in use stays in use.
    pub fn reload_certificates(&self) {
        #[cfg(feature = "tls")]
        if let Some(certificates) = &self.certificates {
            certificates.reload_and_log();
        }
    }
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
        #[cfg(feature = "tls")]
        let secure = config.secure.as_ref().map(Secure::bind).transpose()?;
        let registry = Arc::new(Registry::new(config.streams.clone()));
        Ok(Self {
            config,
            rtmp,
            http,
            #[cfg(feature = "tls")]
            secure,
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

    /// Where publishers connect with TLS, if they can.
    #[cfg(feature = "tls")]
    pub fn rtmps_address(&self) -> Option<SocketAddr> {
        let (listener, _) = self.secure.as_ref()?.rtmps.as_ref()?;
        listener.local_addr().ok()
    }

    /// Where viewers connect with TLS, if they can.
    #[cfg(feature = "tls")]
    pub fn https_address(&self) -> Option<SocketAddr> {
        let (listener, _) = self.secure.as_ref()?.https.as_ref()?;
        listener.local_addr().ok()
    }

    /// What can be changed while it runs.
    pub fn reload(&self) -> Reload {
        Reload {
            #[cfg(feature = "tls")]
            certificates: self
                .secure
                .as_ref()
                .map(|secure| Arc::clone(&secure.certificates)),
        }
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
            #[cfg(feature = "tls")]
            secure,
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
            places: Arc::new(Semaphore::new(settings.max_connections)),
            settings,
        };
        let proxies = |port| Preamble {
            proxy: config.expectation(port),
            #[cfg(feature = "tls")]
            tls: None,
        };
        let service = http::Service::new(
            Arc::clone(&registry),
            Arc::clone(&metrics),
            config.http.clone(),
        );
        let (service, shared) = (Arc::new(service), Arc::new(shared));
        let (publishers, viewers) = (TaskTracker::new(), TaskTracker::new());
        let viewers_shutdown = CancellationToken::new();
        tokio::spawn(http::listener::serve(
            http,
            proxies(ProxiedPort::Http),
            Arc::clone(&service),
            viewers.clone(),
            viewers_shutdown.clone(),
        ));
        tokio::spawn(rtmp::listener::serve(
            rtmp,
            proxies(ProxiedPort::Rtmp),
            Arc::clone(&shared),
            publishers.clone(),
            shutdown.clone(),
        ));
        #[cfg(feature = "tls")]
        if let Some(secure) = secure {
            if let Some((listener, acceptor)) = secure.https {
                let preamble = Preamble {
                    tls: Some(acceptor),
                    ..proxies(ProxiedPort::Https)
                };
                let (tasks, shutdown) = (viewers.clone(), viewers_shutdown.clone());
                tokio::spawn(http::listener::serve(
                    listener, preamble, service, tasks, shutdown,
                ));
            }
            if let Some((listener, acceptor)) = secure.rtmps {
                let preamble = Preamble {
                    tls: Some(acceptor),
                    ..proxies(ProxiedPort::Rtmps)
                };
                let (tasks, shutdown) = (publishers.clone(), shutdown.clone());
                tokio::spawn(rtmp::listener::serve(
                    listener, preamble, shared, tasks, shutdown,
                ));
            }
            let shutdown = shutdown.clone();
            tokio::spawn(async move {
                shutdown
                    .run_until_cancelled(secure.certificates.watch(&metrics))
                    .await
            });
        }
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

impl Config {
    /// Whether connections of a port begin with a PROXY header.
    fn expectation(&self, port: ProxiedPort) -> Expectation {
        let proxied = self.proxied.contains(&port) || self.proxied.contains(&ProxiedPort::All);
        Expectation {
            from: proxied.then(|| self.http.trusted.clone()),
        }
    }
}

#[cfg(feature = "tls")]
impl Secure {
    fn bind(config: &crate::config::Secure) -> Result<Self, Error> {
        let certificates = Arc::new(tls::Certificates::load(config.files.clone())?);
        let rtmps = config.rtmps_listen.map(|address| {
            let acceptor = tls::Acceptor::rtmps(Arc::clone(&certificates))?;
            Ok::<_, Error>((listen(address, "rtmps-listen")?, acceptor))
        });
        let https = config.https_listen.map(|address| {
            let acceptor = tls::Acceptor::https(Arc::clone(&certificates))?;
            Ok::<_, Error>((listen(address, "https-listen")?, acceptor))
        });
        Ok(Self {
            rtmps: rtmps.transpose()?,
            https: https.transpose()?,
            certificates,
        })
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
/// How long playlists are served after the end of all streams: players ask about once a second.
const LAST_PLAYLISTS: Duration = Duration::from_secs(2);
