//! The measurements, each against a server that is already there.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::{Instant, sleep};

use crate::publish::{Publisher, Sent};
use crate::signal::{self, Signal};
use crate::stats::{Histogram, Json, Machine, Usage};
use crate::view::{Listed, Seen, Viewer, Way};
use crate::wire::Connection;

/// The server under load.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where to publish; `None` when the server makes its own stream.
    pub rtmp: Option<SocketAddr>,
    /// Where to watch.
    pub http: SocketAddr,
    /// Its process, for CPU and memory.
    pub pid: Option<u32>,
}

/// What came of viewers following live streams.
#[derive(Debug, Clone)]
pub struct Following {
    pub publishers: usize,
    pub viewers: usize,
    /// Viewers that were reading pictures at the end.
    pub playing: usize,
    pub latency: Histogram,
    /// Of key pictures alone.
    pub key_latency: Histogram,
    /// How late the generator itself was with its pictures.
    pub lateness: Histogram,
    pub stalls: u64,
    pub misplaced: u64,
    pub errors: u64,
    /// Bytes a second to all viewers.
    pub out_rate: f64,
    /// Bytes a second from all publishers.
    pub in_rate: f64,
    /// Requests a second, where viewers count them.
    pub request_rate: f64,
    /// Cores used by the server and by the generator.
    pub server_cores: f64,
    pub own_cores: f64,
    /// Cores that something else had meanwhile: what to distrust a result for.
    pub foreign_cores: f64,
    pub resident: u64,
}

/// Keeps the generator's core from going to sleep between two deliveries. A server that writes to a sleeping reader has to wake the
/// reader's core, at several microseconds a time in a virtual machine; with viewers elsewhere it would not. Ends when dropped.
pub(crate) struct StayAwake(tokio::task::JoinHandle<()>);

impl StayAwake {
    pub(crate) fn start() -> Self {
        Self(tokio::spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        }))
    }
}

impl Drop for StayAwake {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How `following` is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub publishers: usize,
    /// Viewers, spread evenly over the streams.
    pub viewers: usize,
    /// How viewers follow.
    pub way: Way,
    /// Before anything is counted.
    pub warm_up: Duration,
    pub duration: Duration,
}

/// Publishers and viewers at the same time; latency, rates, CPU.
pub async fn following(
    target: &Target,
    signal: &Arc<Signal>,
    plan: Plan,
) -> anyhow::Result<Following> {
    let (sent, seen) = (Arc::new(Sent::default()), Arc::new(Seen::default()));
    seen.from.store(u64::MAX, Ordering::Relaxed);
    seen.until.store(u64::MAX, Ordering::Relaxed);
    seen.gop.store(signal.options().gop, Ordering::Relaxed);
    let _awake = (plan.viewers > 0).then(StayAwake::start);
    let mut publishers = Vec::new();
    if let Some(rtmp) = target.rtmp {
        for index in 0..plan.publishers {
            let phase = Duration::from_secs(1) * index as u32 / plan.publishers as u32;
            publishers.push(
                Publisher::start(
                    rtmp,
                    &stream_name(index),
                    Arc::clone(signal),
                    phase,
                    Arc::clone(&sent),
                )
                .await
                .with_context(|| format!("publisher {index}"))?,
            );
        }
        // A stream can be played once its first group of pictures is complete.
        sleep(Duration::from_millis(2500)).await;
    }
    let mut viewers = Vec::new();
    for index in 0..plan.viewers {
        let name = stream_name(index % plan.publishers.max(1));
        viewers.push(Viewer::start(
            target.http,
            &name,
            plan.way,
            index,
            Arc::clone(&seen),
        ));
        if index % 20 == 19 {
            sleep(Duration::from_millis(5)).await;
        }
    }
    sleep(plan.warm_up).await;
    let (sent_before, seen_before, requests_before) = (
        sent.bytes.load(Ordering::Relaxed),
        seen.bytes.load(Ordering::Relaxed),
        seen.requests.load(Ordering::Relaxed),
    );
    *sent.lateness.lock().unwrap_or_else(PoisonError::into_inner) = Histogram::default();
    let errors_before = seen.errors.load(Ordering::Relaxed);
    let (server_before, own_before, begun) = (target.usage(), Usage::own(), Instant::now());
    let machine_before = Machine::read();
    seen.from.store(signal::now(), Ordering::Relaxed);
    sleep(plan.duration).await;
    seen.until.store(signal::now(), Ordering::Relaxed);
    let elapsed = begun.elapsed().as_secs_f64();
    let (server_after, own_after) = (target.usage(), Usage::own());
    let known = server_after.cpu.saturating_sub(server_before.cpu) + own_after.cpu - own_before.cpu;
    let foreign = Machine::read().disturbance(machine_before, known);
    let rate = |after: u64, before: u64| (after - before) as f64 / elapsed;
    let in_rate = rate(sent.bytes.load(Ordering::Relaxed), sent_before);
    let request_rate = rate(seen.requests.load(Ordering::Relaxed), requests_before);
    let out_rate = rate(seen.bytes.load(Ordering::Relaxed), seen_before);
    // What is still on its way counts too, however late.
    sleep(Duration::from_millis(1000)).await;
    let result = Following {
        publishers: plan.publishers,
        viewers: plan.viewers,
        playing: seen.playing.load(Ordering::Relaxed),
        latency: seen
            .latency
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone(),
        key_latency: seen
            .key_latency
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone(),
        lateness: sent
            .lateness
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone(),
        stalls: seen.stalls.load(Ordering::Relaxed),
        misplaced: seen.misplaced.load(Ordering::Relaxed),
        errors: seen.errors.load(Ordering::Relaxed) - errors_before
            + sent.broken.load(Ordering::Relaxed),
        out_rate,
        in_rate,
        request_rate,
        server_cores: (server_after.cpu.saturating_sub(server_before.cpu)).as_secs_f64() / elapsed,
        own_cores: (own_after.cpu - own_before.cpu).as_secs_f64() / elapsed,
        foreign_cores: foreign.as_secs_f64() / elapsed,
        resident: server_after.resident,
    };
    drop((viewers, publishers));
    // The next run finds the server at rest.
    sleep(Duration::from_millis(500)).await;
    Ok(result)
}

impl Following {
    /// For the table.
    pub fn line(&self) -> String {
        format!(
            "{:>5} viewers of {:>3} streams: p50 {:>7.2} ms, p99 {:>7.2}, p99.9 {:>7.2}, max {:>7.2} (key pictures p50 {:.2}, p99 {:.2}); \
             stalls {}, lost {}, errors {}; {:.0} requests/s; \
             in {:>6.1} Mb/s, out {:>7.1} Mb/s; server {:>5.1} %, generator {:>5.1} % (late p99 {:.2} ms), others {:.0} %",
            self.playing,
            self.publishers,
            self.latency.percentile(0.5),
            self.latency.percentile(0.99),
            self.latency.percentile(0.999),
            self.latency.max(),
            self.key_latency.percentile(0.5),
            self.key_latency.percentile(0.99),
            self.stalls,
            self.misplaced,
            self.errors,
            self.request_rate,
            self.in_rate * 8e-6,
            self.out_rate * 8e-6,
            self.server_cores * 100.0,
            self.own_cores * 100.0,
            self.lateness.percentile(0.99),
            self.foreign_cores * 100.0,
        )
    }

    /// For the file.
    pub fn json(&self) -> Json {
        Json::Object(vec![
            ("publishers", self.publishers.into()),
            ("viewers", self.viewers.into()),
            ("playing", self.playing.into()),
            ("pictures", self.latency.len().into()),
            ("latency_p50_ms", self.latency.percentile(0.5).into()),
            ("latency_p99_ms", self.latency.percentile(0.99).into()),
            ("latency_p999_ms", self.latency.percentile(0.999).into()),
            ("latency_max_ms", self.latency.max().into()),
            (
                "key_latency_p50_ms",
                self.key_latency.percentile(0.5).into(),
            ),
            (
                "key_latency_p99_ms",
                self.key_latency.percentile(0.99).into(),
            ),
            (
                "generator_late_p99_ms",
                self.lateness.percentile(0.99).into(),
            ),
            ("stalls", self.stalls.into()),
            ("misplaced", self.misplaced.into()),
            ("errors", self.errors.into()),
            ("in_bytes_per_second", self.in_rate.into()),
            ("out_bytes_per_second", self.out_rate.into()),
            ("requests_per_second", self.request_rate.into()),
            ("server_cores", self.server_cores.into()),
            ("generator_cores", self.own_cores.into()),
            ("foreign_cores", self.foreign_cores.into()),
            ("server_resident_bytes", self.resident.into()),
        ])
    }
}

/// What came of fetching one resource over and over.
#[derive(Debug, Clone, Copy)]
pub struct Fetching {
    pub connections: usize,
    pub requests_per_second: f64,
    pub bytes_per_second: f64,
    pub server_cores: f64,
    pub own_cores: f64,
    /// Cores that something else had meanwhile.
    pub foreign_cores: f64,
}

/// Fetches `path` on so many keep-alive connections as fast as the server answers.
pub async fn fetching(
    http: SocketAddr,
    path: &str,
    connections: usize,
    duration: Duration,
    pid: Option<u32>,
) -> anyhow::Result<Fetching> {
    let usage = || pid.map(Usage::of);
    let mut open = Vec::new();
    for _ in 0..connections {
        let mut connection = Connection::open(http).await?;
        let answer = connection.get_discarding(path).await?;
        if answer.status != 200 {
            bail!("{path} was answered with status {}", answer.status);
        }
        open.push(connection);
    }
    let (server_before, own_before, begun) = (usage(), Usage::own(), Instant::now());
    let machine_before = Machine::read();
    let until = begun + duration;
    let tasks: Vec<_> = open
        .into_iter()
        .map(|mut connection| {
            let path = path.to_owned();
            tokio::spawn(async move {
                let (mut requests, mut bytes) = (0_u64, 0);
                while Instant::now() < until {
                    let answer = connection.get_discarding(&path).await?;
                    if answer.status != 200 {
                        bail!("{path} was answered with status {}", answer.status);
                    }
                    requests += 1;
                    bytes += answer.body;
                }
                Ok((requests, bytes))
            })
        })
        .collect();
    let (mut requests, mut bytes) = (0, 0);
    for task in tasks {
        let (more_requests, more_bytes) = task.await??;
        requests += more_requests;
        bytes += more_bytes;
    }
    let elapsed = begun.elapsed().as_secs_f64();
    let own = Usage::own().cpu - own_before.cpu;
    let server = usage()
        .zip(server_before)
        .map_or(Duration::ZERO, |(after, before)| {
            after.cpu.saturating_sub(before.cpu)
        });
    let foreign = Machine::read().disturbance(machine_before, own + server);
    Ok(Fetching {
        connections,
        requests_per_second: requests as f64 / elapsed,
        bytes_per_second: bytes as f64 / elapsed,
        server_cores: server.as_secs_f64() / elapsed,
        own_cores: own.as_secs_f64() / elapsed,
        foreign_cores: foreign.as_secs_f64() / elapsed,
    })
}

impl Fetching {
    /// For the table.
    pub fn line(&self) -> String {
        format!(
            "{:>4} connections: {:>7.0} requests/s, {:>5.2} GB/s; server {:>5.1} % ({:.2} GB/s per core), generator {:>5.1} %, others {:.0} %",
            self.connections,
            self.requests_per_second,
            self.bytes_per_second / 1e9,
            self.server_cores * 100.0,
            self.bytes_per_second / 1e9 / self.server_cores,
            self.own_cores * 100.0,
            self.foreign_cores * 100.0,
        )
    }

    /// For the file.
    pub fn json(&self) -> Json {
        Json::Object(vec![
            ("connections", self.connections.into()),
            ("requests_per_second", self.requests_per_second.into()),
            ("bytes_per_second", self.bytes_per_second.into()),
            ("server_cores", self.server_cores.into()),
            ("generator_cores", self.own_cores.into()),
            ("foreign_cores", self.foreign_cores.into()),
        ])
    }
}

/// What waiting viewers cost.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    pub viewers: usize,
    pub bytes_per_viewer: f64,
    pub server_cores: f64,
    pub resident_before: u64,
    pub resident: u64,
}

/// Viewers that wait on an announced segment while the publisher holds still.
pub async fn waiting(
    target: &Target,
    signal: &Arc<Signal>,
    viewers: usize,
    duration: Duration,
) -> anyhow::Result<Waiting> {
    let sent = Arc::new(Sent::default());
    let (name, path, publisher) = paused_stream(target, signal, &sent, 3).await?;
    let last = path.last().cloned().context("nothing is announced")?;
    let resident_before = target.usage().resident;
    let mut tasks = Vec::new();
    let mut tasks_done = 0;
    for index in 0..viewers {
        let (http, path) = (target.http, last.clone());
        tasks.push(tokio::spawn(async move {
            let mut connection = Connection::open(http).await?;
            connection.get(&path, |_| ()).await
        }));
        if index % 20 == 19 {
            sleep(Duration::from_millis(5)).await;
        }
    }
    sleep(Duration::from_secs(2)).await;
    let (before, begun) = (target.usage(), Instant::now());
    sleep(duration).await;
    let (after, elapsed) = (target.usage(), begun.elapsed().as_secs_f64());
    for task in &tasks {
        tasks_done += usize::from(task.is_finished());
        task.abort();
    }
    drop(publisher);
    if tasks_done > 0 {
        bail!("{tasks_done} of {viewers} viewers of {name} did not wait");
    }
    Ok(Waiting {
        viewers,
        bytes_per_viewer: after.resident.saturating_sub(resident_before) as f64 / viewers as f64,
        server_cores: after.cpu.saturating_sub(before.cpu).as_secs_f64() / elapsed,
        resident_before,
        resident: after.resident,
    })
}

impl Waiting {
    /// For the table.
    pub fn line(&self) -> String {
        format!(
            "{:>5} waiting: {:.1} kB resident each ({:.1} MB before, {:.1} MB with them), server {:.2} %",
            self.viewers,
            self.bytes_per_viewer / 1e3,
            self.resident_before as f64 / 1e6,
            self.resident as f64 / 1e6,
            self.server_cores * 100.0
        )
    }

    /// For the file.
    pub fn json(&self) -> Json {
        Json::Object(vec![
            ("viewers", self.viewers.into()),
            ("bytes_per_viewer", self.bytes_per_viewer.into()),
            ("server_cores", self.server_cores.into()),
            ("resident_before", self.resident_before.into()),
            ("resident", self.resident.into()),
        ])
    }
}

/// A stream that has been sent for a while and then holds still, and the paths in its playlist. It ends when the publisher is dropped.
pub async fn paused_stream(
    target: &Target,
    signal: &Arc<Signal>,
    sent: &Arc<Sent>,
    seconds: u64,
) -> anyhow::Result<(String, Vec<String>, Publisher)> {
    let rtmp = target.rtmp.context("this needs a server to publish to")?;
    let name = format!("bench/paused-{}", signal::now() % 1_000_000_000);
    let publisher = Publisher::start(
        rtmp,
        &name,
        Arc::clone(signal),
        Duration::ZERO,
        Arc::clone(sent),
    )
    .await?;
    sleep(Duration::from_secs(seconds)).await;
    sent.paused.store(true, Ordering::Relaxed);
    sleep(Duration::from_millis(300)).await;
    let mut connection = Connection::open(target.http).await?;
    let listed = Listed::fetch(&mut connection, &name).await?;
    Ok((name, listed.segments, publisher))
}

/// Times from the start of a publish to the first byte that can be played, in milliseconds.
#[derive(Debug, Clone, Default)]
pub struct FirstByte {
    /// From the publisher's connecting.
    pub from_connect: Vec<f64>,
    /// From its first picture.
    pub from_picture: Vec<f64>,
}

/// Publishes `rounds` times and asks for the stream from the first moment on.
pub async fn first_byte(
    target: &Target,
    signal: &Arc<Signal>,
    rounds: usize,
) -> anyhow::Result<FirstByte> {
    let rtmp = target.rtmp.context("this needs a server to publish to")?;
    let mut result = FirstByte::default();
    for round in 0..rounds {
        let name = format!("bench/first-{round}-{}", signal::now() % 1_000_000_000);
        let viewer = tokio::spawn({
            let (http, name) = (target.http, name.clone());
            async move {
                let mut connection = Connection::open(http).await?;
                let listed = loop {
                    // Unknown until the publisher is accepted.
                    match Listed::fetch(&mut connection, &name).await {
                        Ok(listed) => break listed,
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                            sleep(Duration::from_millis(2)).await;
                        }
                        Err(error) => return Err(error),
                    }
                };
                let mut first = None;
                let path = &listed.segments[0];
                let get = connection.get(path, |_| {
                    first.get_or_insert_with(signal::now);
                });
                tokio::time::timeout(Duration::from_secs(10), get).await??;
                first.ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
            }
        });
        let publisher = Publisher::start(
            rtmp,
            &name,
            Arc::clone(signal),
            Duration::ZERO,
            Arc::new(Sent::default()),
        )
        .await?;
        let first = viewer.await??;
        let (connected, picture) = publisher.began;
        result.from_connect.push((first - connected) as f64 / 1e6);
        result
            .from_picture
            .push(first.saturating_sub(picture) as f64 / 1e6);
        drop(publisher);
        sleep(Duration::from_millis(100)).await;
    }
    result.from_connect.sort_by(f64::total_cmp);
    result.from_picture.sort_by(f64::total_cmp);
    Ok(result)
}

impl FirstByte {
    /// For the table.
    pub fn line(&self) -> String {
        format!(
            "median {:.0} ms from connecting, {:.0} ms from the first picture (longest {:.0} ms, {} rounds)",
            median(&self.from_connect),
            median(&self.from_picture),
            self.from_connect.last().copied().unwrap_or(f64::NAN),
            self.from_connect.len()
        )
    }

    /// For the file.
    pub fn json(&self) -> Json {
        let list = |values: &[f64]| Json::List(values.iter().map(|&value| value.into()).collect());
        Json::Object(vec![
            ("from_connect_ms", list(&self.from_connect)),
            ("from_picture_ms", list(&self.from_picture)),
        ])
    }
}

impl Target {
    pub fn usage(&self) -> Usage {
        Usage::of(self.pid.unwrap_or(0))
    }
}

/// The middle one of values in order.
pub fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

pub fn stream_name(index: usize) -> String {
    format!("bench/s{index}")
}
