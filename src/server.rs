//! Binds the ports, starts the services, and ends them in order.
//!
//! The order of the end: publishers first, so that every stream gets its last playlist and its viewers their last bytes; then the
//! viewers' connections, which finish what they are being sent; all within a bounded time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::auth::Access;
use crate::cli::ProxiedPort;
use crate::config::Config;
use crate::hls::Now;
use crate::hooks::{self, Hooks, Watch};
use crate::live::Live;
use crate::metrics::Metrics;
use crate::net::Preamble;
use crate::proxy::{Expectation, TrustedProxies};
use crate::stream::registry::Registry;
#[cfg(feature = "tls")]
use crate::tls;
use crate::{http, net, rtmp};

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(io::Error),
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
    proxied: Vec<ProxiedPort>,
    rtmp: TcpListener,
    http: TcpListener,
    admin: Option<TcpListener>,
    #[cfg(feature = "tls")]
    secure: Option<Secure>,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    access: Arc<Access>,
    notices: hooks::Worker,
    live: Reload,
    media: Option<Handle>,
}

/// What can be changed while the server runs.
#[derive(Debug, Clone)]
pub struct Reload {
    hooks: Arc<Hooks>,
    access: Arc<Access>,
    registry: Arc<Registry>,
    rtmp: Arc<Live<rtmp::listener::Settings>>,
    http: Arc<Live<http::Settings>>,
    shutdown_timeout: Arc<Live<Duration>>,
    #[cfg(feature = "tls")]
    certificates: Option<Arc<tls::Certificates>>,
}

impl Reload {
    /// Takes over what [`crate::config::RELOADABLE`] names; the rest waits for the next start.
    pub fn apply(&self, config: &Config) {
        self.access.set_rules(config.access.rules());
        self.hooks.set(config.hooks.clone());
        self.registry.set_policy(config.streams.clone());
        let http_port = self.rtmp.get().http_port;
        self.rtmp.set(rtmp::listener::Settings {
            http_port,
            ..config.rtmp.clone()
        });
        // Whom to believe about addresses is told to the ports as well, when they are opened; and which ports there are stays so.
        let current = self.http.get();
        let mut http = config.http.clone();
        http.trusted = current.trusted.clone();
        http.admin.elsewhere = current.admin.elsewhere;
        self.http.set(http);
        self.shutdown_timeout.set(config.shutdown_timeout);
    }

    /// Reads certificate and key anew. What is wrong is said in the log, and what was in use stays in use.
    pub fn reload_certificates(&self) {
        #[cfg(feature = "tls")]
        if let Some(certificates) = &self.certificates {
            certificates.reload_and_log();
        }
    }
}

/// The encrypted ports.
#[cfg(feature = "tls")]
#[derive(Debug)]
struct Secure {
    rtmps: Option<(TcpListener, tls::Acceptor)>,
    https: Option<(TcpListener, tls::Acceptor)>,
    certificates: Arc<tls::Certificates>,
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
        #[cfg(feature = "tls")]
        let secure = config.secure.as_ref().map(Secure::bind).transpose()?;
        let registry = Arc::new(Registry::new(config.streams.clone()));
        let http_port = http.local_addr().map_or(0, |address| address.port());
        let access = Access::new(config.access.rules()).map_err(Error::Random)?;
        let access = Arc::new(access);
        let metrics = Arc::new(Metrics::new());
        let (hooks, notices) = Hooks::new(config.hooks.clone(), Arc::clone(&metrics));
        let live = Reload {
            access: Arc::clone(&access),
            hooks: Arc::clone(&hooks),
            registry: Arc::clone(&registry),
            rtmp: Arc::new(Live::new(rtmp::listener::Settings {
                http_port,
                ..config.rtmp
            })),
            http: Arc::new(Live::new(config.http)),
            shutdown_timeout: Arc::new(Live::new(config.shutdown_timeout)),
            #[cfg(feature = "tls")]
            certificates: secure
                .as_ref()
                .map(|secure| Arc::clone(&secure.certificates)),
        };
        Ok(Self {
            live,
            proxied: config.proxied,
            access,
            rtmp,
            http,
            admin,
            #[cfg(feature = "tls")]
            secure,
            registry,
            metrics,
            notices,
            media: None,
        })
    }

    /// The same, with publishers, and the writing of pieces to those who watch, on another runtime than the one that it is run on: those
    /// who come and go by the thousand do not come before the next picture then.
    pub fn with_media_on(self, runtime: &Handle) -> Self {
        Self {
            media: Some(runtime.clone()),
            ..self
        }
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

    /// The streams.
    pub fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry)
    }

    /// What is counted.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// What can be changed while it runs.
    pub fn reload(&self) -> Reload {
        self.live.clone()
    }

    /// Serves until `shutdown`, then ends everything.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self {
            live,
            proxied,
            access,
            rtmp,
            http,
            admin,
            #[cfg(feature = "tls")]
            secure,
            registry,
            metrics,
            notices,
            media,
        } = self;
        let hooks = Arc::clone(&live.hooks);
        let notices_stop = CancellationToken::new();
        let mut notices = tokio::spawn(notices.run(notices_stop.clone()));
        #[cfg(feature = "jwt")]
        let key_fetcher = tokio::spawn(fetch_keys(Arc::clone(&access)));
        let shared = rtmp::listener::Shared {
            access: Arc::clone(&access),
            hooks: Arc::clone(&hooks),
            registry: Arc::clone(&registry),
            metrics: Arc::clone(&metrics),
            settings: Arc::clone(&live.rtmp),
            places: Arc::new(Semaphore::new(live.rtmp.get().max_connections)),
        };
        let about = http::admin::About {
            rtmp_port: rtmp.local_addr().map_or(0, |address| address.port()),
            http_port: live.rtmp.get().http_port,
            shutdown: shutdown.clone(),
            media: media.clone(),
        };
        let media = media.unwrap_or_else(Handle::current);
        let proxies = |port| Preamble {
            proxy: expectation(&proxied, &live.http.get().trusted, port),
            #[cfg(feature = "tls")]
            tls: None,
        };
        let service = || {
            http::Service::new(
                Arc::clone(&registry),
                Arc::clone(&access),
                Arc::clone(&hooks),
                Arc::clone(&metrics),
                Arc::clone(&live.http),
            )
            .with(about.clone())
            .with_media_on(&media)
        };
        let (publishers, viewers) = (TaskTracker::new(), TaskTracker::new());
        let viewers_shutdown = CancellationToken::new();
        if let Some(admin) = admin {
            tokio::spawn(http::listener::serve(
                admin,
                Preamble::default(),
                Arc::new(service().for_operators()),
                TaskTracker::new(),
                viewers_shutdown.clone(),
            ));
        }
        let (viewers_service, shared) = (Arc::new(service()), Arc::new(shared));
        tokio::spawn(http::listener::serve(
            http,
            proxies(ProxiedPort::Http),
            Arc::clone(&viewers_service),
            viewers.clone(),
            viewers_shutdown.clone(),
        ));
        media.spawn(rtmp::listener::serve(
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
                    listener,
                    preamble,
                    viewers_service,
                    tasks,
                    shutdown,
                ));
            }
            if let Some((listener, acceptor)) = secure.rtmps {
                let preamble = Preamble {
                    tls: Some(acceptor),
                    ..proxies(ProxiedPort::Rtmps)
                };
                let (tasks, shutdown) = (publishers.clone(), shutdown.clone());
                media.spawn(rtmp::listener::serve(
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
        let reaper_stop = CancellationToken::new();
        let reaper = {
            let (registry, stop) = (Arc::clone(&registry), reaper_stop.clone());
            tokio::spawn(async move {
                let mut watch = Watch::default();
                let mut ticks = tokio::time::interval(Duration::from_secs(1));
                while !stop.is_cancelled() {
                    tokio::select! {
                        _ = ticks.tick() => {}
                        // Once more: streams have ended meanwhile.
                        () = stop.cancelled() => {}
                    }
                    registry.age(registry.policy().packager.retain, Now::read());
                    watch.look(&registry, &hooks, Instant::now());
                }
            })
        };

        shutdown.cancelled().await;
        info!("shutting down");
        let deadline = tokio::time::Instant::now() + *live.shutdown_timeout.get();
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
        reaper_stop.cancel();
        let _ = reaper.await;
        #[cfg(feature = "jwt")]
        key_fetcher.abort();
        notices_stop.cancel();
        if tokio::time::timeout_at(deadline, &mut notices)
            .await
            .is_err()
        {
            notices.abort();
        }
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

/// Whether connections of a port begin with a PROXY header.
fn expectation(
    proxied: &[ProxiedPort],
    trusted: &TrustedProxies,
    port: ProxiedPort,
) -> Expectation {
    let expected = proxied.contains(&port) || proxied.contains(&ProxiedPort::All);
    Expectation {
        from: expected.then(|| trusted.clone()),
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

/// Fetches the keys of viewers' tokens, if they are to be fetched: soon after the start, and again and again.
#[cfg(feature = "jwt")]
async fn fetch_keys(access: Arc<Access>) {
    let mut at = None;
    loop {
        let mut pause = KEYS_RETRY;
        if let Some((url, keys)) = access.fetched_keys() {
            match fetch_key_set(&url).await {
                Ok(set) => {
                    keys.set(set);
                    pause = KEYS_REFRESH;
                }
                Err(reason) => warn!(
                    "the keys of viewers' tokens (--playback-jwks) stay as they are: {reason}"
                ),
            }
            at = Some(url);
        }
        // Another place after a reload is asked at once.
        let wait = async {
            while access.fetched_keys().map(|(url, _)| url) == at {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let _ = tokio::time::timeout(pause, wait).await;
    }
}

#[cfg(feature = "jwt")]
async fn fetch_key_set(url: &str) -> Result<crate::auth::jwt::KeySet, String> {
    let url = url
        .parse()
        .map_err(|error: crate::viewer::url::Error| error.to_string())?;
    let fetched = crate::outbound::fetch(
        hyper::Method::GET,
        &url,
        hyper::header::HeaderMap::new(),
        String::new(),
        Duration::from_secs(10),
        1 << 20,
    );
    let (status, body) = fetched.await.map_err(|error| error.to_string())?;
    if !status.is_success() {
        return Err(format!("{} answers with status {status}", url.authority()));
    }
    crate::auth::jwt::KeySet::parse(&body)
}

/// How often fetched keys are fetched anew; who changes keys publishes the new one that long before it is used.
#[cfg(feature = "jwt")]
const KEYS_REFRESH: Duration = Duration::from_secs(300);
#[cfg(feature = "jwt")]
const KEYS_RETRY: Duration = Duration::from_secs(5);

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
