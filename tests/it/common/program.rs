//! The program itself, serving, with its log kept.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncBufReadExt;
use tokio::process::{Child, Command};

use super::tools::Tool;
use super::{eventually, viewer, within};

/// The program that is tested.
pub(crate) const LHLS: &str = env!("CARGO_BIN_EXE_lhls");

/// The program, serving. Killed by its process id when dropped.
pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) rtmp: SocketAddr,
    pub(crate) http: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

impl Program {
    pub(crate) async fn start(options: &[&str]) -> Self {
        Self::with_environment(options, &[]).await
    }

    pub(crate) async fn with_environment(options: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(LHLS)
            .args(["serve", "--rtmp-listen", "127.0.0.1:0"])
            .args(["--http-listen", "127.0.0.1:0"])
            .args(options)
            .envs(variables.iter().copied())
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = tokio::io::BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&log);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                kept.lock().unwrap().push(line);
            }
        });
        let first = {
            let log = Arc::clone(&log);
            eventually("the addresses in the log", || {
                let log = log.lock().unwrap();
                log.iter().find(|line| line.contains("rtmp://")).cloned()
            })
            .await
        };
        if options.contains(&"json") {
            assert!(first.starts_with('{') && first.ends_with('}'), "{first}");
        }
        let address = |after: &str| {
            let (_, rest) = first.split_once(after).unwrap();
            let end = rest.find('/').unwrap();
            rest[..end].parse().unwrap()
        };
        let (rtmp, http) = (address("rtmp://"), address("http://"));
        Self {
            child,
            rtmp,
            http,
            log,
        }
    }

    /// Everything it has said so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Waits until it has said this, and gives the line.
    pub(crate) async fn wait_for_log(&self, text: &str) -> String {
        eventually(&format!("{text:?} in the log"), || {
            let log = self.log.lock().unwrap();
            log.iter().find(|line| line.contains(text)).cloned()
        })
        .await
    }

    /// Sends it a signal, as in `HUP`.
    pub(crate) async fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        Tool::start("kill", &[format!("-{name}"), id])
            .succeed()
            .await;
    }

    pub(crate) async fn ended(&mut self) -> Option<i32> {
        within("the end of the program", self.child.wait())
            .await
            .unwrap()
            .code()
    }

    /// A line of `/proc/PID/status` that states a size, in bytes: `VmRSS`, what it holds now; `VmHWM`, the most it ever held.
    pub(crate) fn memory(&self, line: &str) -> usize {
        let id = self.child.id().expect("it runs");
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let value = status
            .lines()
            .find_map(|candidate| candidate.strip_prefix(line)?.strip_prefix(':'))
            .unwrap_or_else(|| panic!("no {line}:\n{status}"));
        let kibibytes = value.trim().strip_suffix(" kB").unwrap();
        kibibytes.parse::<usize>().unwrap() * 1024
    }

    /// Until it has read so many bytes of RTMP.
    pub(crate) async fn wait_for_rtmp_bytes(&self, bytes: usize) {
        let read = async {
            loop {
                let metrics = viewer::get(self.http, "/metrics").await.text();
                let line = metrics
                    .lines()
                    .find_map(|line| line.strip_prefix("lhls_rtmp_received_bytes_total "));
                let count: usize = line.expect("a counter").parse().unwrap();
                if count >= bytes {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        within("bytes to be read", read).await;
    }
}
