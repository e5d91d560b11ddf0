//! What a soak writes down about the server every few seconds: memory, descriptors, tasks, connections, and what its metrics say.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::audience::Verdicts;
use crate::stats::{Json, Usage};
use crate::wire::Connection;

/// The server at one moment.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// Seconds since the start.
    pub at: f64,
    /// Resident memory, bytes.
    pub resident: f64,
    /// Open file descriptors.
    pub descriptors: f64,
    /// Processor time so far, seconds.
    pub cpu: f64,
    /// Tasks of its runtime.
    pub tasks: f64,
    /// Open HTTP connections.
    pub http: f64,
    /// Open RTMP connections.
    pub rtmp: f64,
    /// Connections that are playing.
    pub viewers: f64,
    /// Connections that are publishing.
    pub publishers: f64,
    /// Streams in its table.
    pub streams: f64,
    /// Bytes in its rings.
    pub ring: f64,
    /// Publishes that continued a stream, so far.
    pub reconnects: f64,
    /// Publishes that replaced another publisher, so far.
    pub takeovers: f64,
    /// Tasks that panicked, so far.
    pub panics: f64,
    /// Gaps that viewers have seen so far.
    pub gaps: f64,
    /// Stalls beyond outages so far.
    pub stalls: f64,
    /// By how much the generator itself was late at most since the sample before, seconds.
    pub late: f64,
}

/// Takes samples of one server.
#[derive(Debug)]
pub struct Recorder {
    http: SocketAddr,
    pid: u32,
    connection: Connection,
    started: Instant,
}

impl Recorder {
    /// For the server with this process id.
    pub async fn new(http: SocketAddr, pid: u32) -> io::Result<Self> {
        Ok(Self {
            http,
            pid,
            connection: Connection::open(http).await?,
            started: Instant::now(),
        })
    }

    /// The server as it is now.
    pub async fn sample(&mut self, verdicts: &Verdicts, late: Duration) -> io::Result<Sample> {
        let text = match self.connection.get_bytes("/metrics").await {
            Ok((_, text)) => text,
            // Kept alive for a while only.
            Err(_) => {
                self.connection = Connection::open(self.http).await?;
                self.connection.get_bytes("/metrics").await?.1
            }
        };
        let text = String::from_utf8_lossy(&text).into_owned();
        let value = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
                .and_then(|value| value.parse().ok())
                .unwrap_or(f64::NAN)
        };
        let usage = Usage::of(self.pid);
        let descriptors = fs::read_dir(format!("/proc/{}/fd", self.pid))?.count();
        Ok(Sample {
            at: self.started.elapsed().as_secs_f64(),
            resident: usage.resident as f64,
            descriptors: descriptors as f64,
            cpu: usage.cpu.as_secs_f64(),
            tasks: value("lhls_tasks"),
            http: value("lhls_http_connections"),
            rtmp: value("lhls_rtmp_connections"),
            viewers: value("lhls_viewers"),
            publishers: value("lhls_publishers"),
            streams: value("lhls_streams"),
            ring: value("lhls_ring_bytes"),
            reconnects: value("lhls_reconnects_total"),
            takeovers: value("lhls_takeovers_total"),
            panics: value("lhls_panics_total"),
            gaps: verdicts.gaps as f64,
            stalls: verdicts.stalls as f64,
            late: late.as_secs_f64(),
        })
    }
}

impl Sample {
    /// Every value with its name.
    pub fn json(&self) -> Json {
        Json::Object(vec![
            ("at_s", self.at.into()),
            ("resident_bytes", self.resident.into()),
            ("descriptors", self.descriptors.into()),
            ("cpu_s", self.cpu.into()),
            ("tasks", self.tasks.into()),
            ("http_connections", self.http.into()),
            ("rtmp_connections", self.rtmp.into()),
            ("viewers", self.viewers.into()),
            ("publishers", self.publishers.into()),
            ("streams", self.streams.into()),
            ("ring_bytes", self.ring.into()),
            ("reconnects", self.reconnects.into()),
            ("takeovers", self.takeovers.into()),
            ("panics", self.panics.into()),
            ("gaps", self.gaps.into()),
            ("stalls_beyond_outages", self.stalls.into()),
            ("generator_late_s", self.late.into()),
        ])
    }
}
