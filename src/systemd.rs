//! Tells systemd how the server does: ready, reloading, stopping, and still alive (sd_notify(3), sd_watchdog_enabled(3)).
//!
//! A unit with `Type=notify` counts as started when the ports are open, not when the process exists, and one with `WatchdogSec` is
//! started anew when the server hangs. The protocol is a line of text to a datagram socket whose path is in `NOTIFY_SOCKET`. Without
//! that variable nothing happens.
//!
//! Not here: sockets passed in by systemd, `MONOTONIC_USEC` of `Type=notify-reload`, and notifications over vsock.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Why systemd cannot be told anything.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `NOTIFY_SOCKET` names nothing that can be written to.
    #[error(
        "NOTIFY_SOCKET is {path:?}, which cannot be written to ({error}): it is set by systemd, not by hand"
    )]
    Socket {
        /// The variable's value.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// `WATCHDOG_USEC` is no number.
    #[error("WATCHDOG_USEC is {0:?}: expected microseconds, as systemd sets them")]
    Watchdog(String),
}

/// The way to systemd, if it started this process. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Notifier {
    socket: Option<Arc<UnixDatagram>>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// By the environment that systemd sets.
    ///
    /// # Errors
    /// When the environment is not as systemd would set it.
    pub fn from_environment() -> Result<Self, Error> {
        let watchdog = std::env::var("WATCHDOG_USEC").ok();
        // The variables are inherited; those of a parent are not for this process.
        let own =
            std::env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
        Self::new(
            std::env::var_os("NOTIFY_SOCKET").as_deref(),
            watchdog.as_deref().filter(|_| own),
        )
    }

    /// By the values of `NOTIFY_SOCKET` and `WATCHDOG_USEC`.
    ///
    /// # Errors
    /// When the socket cannot be reached, or the watchdog's time is not a number.
    pub fn new(socket: Option<&OsStr>, watchdog: Option<&str>) -> Result<Self, Error> {
        let Some(path) = socket.filter(|path| !path.is_empty()) else {
            return Ok(Self::default());
        };
        let connected = connect(path).map_err(|error| Error::Socket {
            path: path.into(),
            error,
        })?;
        let watchdog = match watchdog {
            None => None,
            Some(text) => {
                let micros: u64 = text.parse().map_err(|_| Error::Watchdog(text.to_owned()))?;
                (micros > 0).then(|| Duration::from_micros(micros))
            }
        };
        Ok(Self {
            socket: Some(Arc::new(connected)),
            watchdog,
        })
    }

    /// The server answers; `status` is what `systemctl status` shows.
    pub fn ready(&self, status: &str) {
        // A line ends the value, so there must be none in it.
        self.tell(&format!("READY=1\nSTATUS={}\n", status.replace('\n', " ")));
    }

    /// The configuration is being read anew; [`Self::ready`] ends it.
    pub fn reloading(&self) {
        self.tell("RELOADING=1\n");
    }

    /// The server is about to end, and says so to its viewers.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=ending streams\n");
    }

    /// Says that the server is alive, twice in the time that the watchdog allows, until `shutdown`; then that it is stopping. As a task
    /// of the runtime that serves viewers it stops with it, which is what the watchdog is to see.
    pub async fn keep_alive(self, shutdown: CancellationToken) {
        if let Some(allowed) = self.watchdog {
            let mut ticks = tokio::time::interval(allowed / 2);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let alive = async {
                loop {
                    ticks.tick().await;
                    self.tell("WATCHDOG=1\n");
                }
            };
            let _: Option<()> = shutdown.run_until_cancelled(alive).await;
        } else {
            shutdown.cancelled().await;
        }
        self.stopping();
    }

    fn tell(&self, text: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(text.as_bytes()) {
            debug!(%error, "systemd could not be told");
        }
    }
}

/// An `@` in front stands for the zero byte of an abstract name.
fn connect(path: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    // Whoever does not read must not hold the server up.
    socket.set_nonblocking(true)?;
    match path.as_bytes().strip_prefix(b"@") {
        #[cfg(target_os = "linux")]
        Some(name) => {
            use std::os::linux::net::SocketAddrExt;
            socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?;
        }
        _ => socket.connect_addr(&SocketAddr::from_pathname(path)?)?,
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_told_arrives_at_an_abstract_name() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("lhls-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let systemd = UnixDatagram::bind_addr(&address).unwrap();
        let path = format!("@{name}");
        let notifier = Notifier::new(Some(OsStr::new(&path)), None).unwrap();
        notifier.ready("open\nports");
        assert_eq!(heard(&systemd), "READY=1\nSTATUS=open ports\n");
        notifier.reloading();
        assert_eq!(heard(&systemd), "RELOADING=1\n");
        notifier.stopping();
        assert!(heard(&systemd).starts_with("STOPPING=1\n"));
    }

    #[test]
    fn without_systemd_nothing_is_told() {
        for socket in [None, Some(OsStr::new(""))] {
            Notifier::new(socket, Some("x")).unwrap().ready("");
        }
    }

    #[test]
    fn an_environment_that_systemd_did_not_set() {
        let nowhere = OsStr::new("/nonexistent/notify");
        let error = Notifier::new(Some(nowhere), None).unwrap_err().to_string();
        assert!(
            error.contains("NOTIFY_SOCKET is \"/nonexistent/notify\""),
            "{error}"
        );
    }
}
