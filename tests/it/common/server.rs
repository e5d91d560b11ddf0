//! A server in this process, on ports the system chooses.

use std::net::SocketAddr;
use std::sync::Arc;

use clap::Parser;
use lhls::cli::ServeArgs;
use lhls::config::Config;
use lhls::metrics::Metrics;
use lhls::server::{Reload, Server};
use lhls::stream::registry::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{eventually, logs, within};

/// A running server; ends when dropped.
pub(crate) struct TestServer {
    pub(crate) rtmp: SocketAddr,
    pub(crate) http: SocketAddr,
    /// With `--admin-listen`.
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) registry: Arc<Registry>,
    #[cfg_attr(not(feature = "tls"), expect(dead_code))]
    pub(crate) reload: Reload,
    #[cfg(feature = "tls")]
    pub(crate) rtmps: Option<SocketAddr>,
    #[cfg(feature = "tls")]
    pub(crate) https: Option<SocketAddr>,
    shutdown: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl TestServer {
    /// With the defaults.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// With options of `lhls serve`.
    pub(crate) fn with(options: &[&str]) -> Self {
        logs::capture();
        let server = Server::bind(config(options)).unwrap();
        let shutdown = CancellationToken::new();
        Self {
            rtmp: server.rtmp_address().unwrap(),
            http: server.http_address().unwrap(),
            admin: server.admin_address().map(Result::unwrap),
            metrics: server.metrics(),
            registry: server.registry(),
            reload: server.reload(),
            #[cfg(feature = "tls")]
            rtmps: server.rtmps_address(),
            #[cfg(feature = "tls")]
            https: server.https_address(),
            task: Some(tokio::spawn(server.run(shutdown.clone()))),
            shutdown,
        }
    }

    pub(crate) fn rtmp_url(&self, name: &str) -> String {
        format!("rtmp://{}/{name}", self.rtmp)
    }

    pub(crate) fn playlist_url(&self, name: &str) -> String {
        format!("http://{}/{name}/playlist.m3u8", self.http)
    }

    /// Until a publisher has this name.
    pub(crate) async fn wait_for_publisher(&self, name: &str) {
        eventually("a publisher", || self.registry.find(name)).await;
    }

    /// Until the stream can be played.
    pub(crate) async fn wait_for_playlist(&self, name: &str) {
        eventually("a playlist", || {
            self.registry
                .find(name)
                .and_then(|stream| stream.output().multivariant())
        })
        .await;
    }

    pub(crate) async fn wait_for_end(&self, name: &str) {
        eventually("the stream's end", || {
            self.registry
                .find(name)
                .is_none_or(|stream| stream.output().ended())
                .then_some(())
        })
        .await;
    }

    /// No task may have panicked, whatever was done to the server.
    pub(crate) fn assert_no_panics(&self) {
        assert_eq!(
            self.metrics.panics.get(),
            0,
            "a task of the server panicked"
        );
    }

    /// Ends the server in good order, and with it the test.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        if let Some(task) = self.task.take() {
            within("the server's end", task).await.unwrap();
        }
        self.assert_no_panics();
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// The configuration that these options of `lhls serve` make, on free ports of this machine.
pub(crate) fn config(options: &[&str]) -> Config {
    let fixed = [
        "lhls",
        "--rtmp-listen",
        "127.0.0.1:0",
        "--http-listen",
        "127.0.0.1:0",
    ];
    // Most tests are about one publish, and should not have to wait for its publisher to come back.
    let ends_at_once: &[&str] = match options.contains(&"--reconnect-window") {
        true => &[],
        false => &["--reconnect-window", "0s"],
    };
    let line = Line::try_parse_from(fixed.iter().chain(ends_at_once).chain(options)).unwrap();
    Config::new(&line.serve).unwrap()
}

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    serve: ServeArgs,
}
