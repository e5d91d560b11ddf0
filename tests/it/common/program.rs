//! The program itself, serving in a process of its own.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncBufReadExt;
use tokio::process::{Child, Command};

use super::{viewer, within};

/// The program. Killed by its process id when dropped.
pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) rtmp: SocketAddr,
    pub(crate) http: SocketAddr,
}

impl Program {
    pub(crate) async fn start(options: &[&str]) -> Self {
        let mut child = Command::new(LHLS)
            .args(["serve", "--rtmp-listen", "127.0.0.1:0"])
            .args(["--http-listen", "127.0.0.1:0"])
            .args(options)
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = tokio::io::BufReader::new(child.stderr.take().unwrap()).lines();
        let first = within("the first line of the log", lines.next_line()).await;
        let first = first.unwrap().expect("a line");
        if options.contains(&"json") {
            assert!(first.starts_with('{') && first.ends_with('}'), "{first}");
        }
        let address = |after: &str| {
            let (_, rest) = first.split_once(after).unwrap();
            let end = rest.find('/').unwrap();
            rest[..end].parse().unwrap()
        };
        let (rtmp, http) = (address("rtmp://"), address("http://"));
        // Somebody has to read what else it says.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, rtmp, http }
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

pub(crate) const LHLS: &str = env!("CARGO_BIN_EXE_lhls");
