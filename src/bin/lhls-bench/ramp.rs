//! Overload: viewers come until there are about twice as many as one core can serve, stay for a while, and go again.
//!
//! Shown are the delivery latency over time, whether the pictures are shared out evenly meanwhile, whether the publisher is held up, how
//! fast connections beyond the limit are turned away, and how long after the load has gone the latency is back.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};

use crate::publish::{Publisher, Sent};
use crate::runs::{StayAwake, Target, stream_name};
use crate::signal::{self, Signal};
use crate::stats::{Histogram, Json, Usage};
use crate::view::{STEP, Seen, Viewer, Way};
use crate::wire::loopback;

/// How many viewers.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Before and after.
    pub viewers: usize,
    /// At the height.
    pub most: usize,
    /// Connections beyond those.
    pub beyond: usize,
}

/// A moment of it.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Seconds after the beginning.
    pub at: f64,
    /// Milliseconds.
    pub p50: f64,
    /// Milliseconds.
    pub p99: f64,
    /// Viewers that were there.
    pub viewers: usize,
    /// Percent of the server's core.
    pub load: f64,
}

/// What came of it.
#[derive(Debug)]
pub struct Ramp {
    pub plan: Plan,
    pub moments: Vec<Moment>,
    /// Pictures that the viewers who were there all the time got at the height: the least, the middle, and the most.
    pub shares: [u32; 3],
    /// How long after its time the publisher's socket took each picture at the height, 99th percentile, milliseconds.
    pub publisher_late: f64,
    /// Milliseconds from connecting to having read the refusal, and how many were no refusals.
    pub refusals: Histogram,
    pub not_refused: usize,
    /// Seconds from the leaving of the load to the first step whose p99 is within twice that of the beginning.
    pub recovery: Option<f64>,
    pub stalls: u64,
    pub errors: u64,
}

/// Runs it against a server that has nothing else to do.
pub async fn run(target: &Target, signal: &Arc<Signal>, plan: Plan) -> anyhow::Result<Ramp> {
    let rtmp = target.rtmp.context("this needs a server to publish to")?;
    let slots = (TOTAL.as_nanos() / STEP.as_nanos()) as usize;
    let seen = Arc::new(Seen {
        delivered: (0..plan.most).map(|_| AtomicU32::new(0)).collect(),
        timeline: (0..slots).map(|_| Mutex::default()).collect(),
        ..Seen::default()
    });
    let sent = Arc::new(Sent::default());
    let _awake = StayAwake::start();
    let name = stream_name(0);
    let _publisher = Publisher::start(
        rtmp,
        &name,
        Arc::clone(signal),
        Duration::ZERO,
        Arc::clone(&sent),
    )
    .await?;
    sleep(Duration::from_millis(2500)).await;
    let mut viewers = Vec::new();
    let grow = async |viewers: &mut Vec<Viewer>, to: usize, over: Duration| {
        let (from, start) = (viewers.len(), Instant::now());
        for index in from..to {
            sleep_until(start + over * (index - from) as u32 / (to - from) as u32).await;
            let seen = Arc::clone(&seen);
            viewers.push(Viewer::start(target.http, &name, Way::Growing, index, seen));
        }
    };
    grow(&mut viewers, plan.viewers, Duration::from_secs(1)).await;
    sleep(Duration::from_secs(5)).await;

    let (begun, usage) = (Instant::now(), target.usage());
    seen.until.store(u64::MAX, Ordering::Relaxed);
    seen.from.store(signal::now(), Ordering::Relaxed);
    let count = Arc::new(Mutex::new(Vec::new()));
    let sampler = tokio::spawn(sample(target.clone(), usage, begun, Arc::clone(&count)));
    sleep_until(begun + BEFORE).await;
    grow(&mut viewers, plan.most, GROWING).await;
    // Settled; from here on it is counted who gets how much.
    sleep(Duration::from_secs(2)).await;
    let delivered = |at: usize| seen.delivered[at].load(Ordering::Relaxed);
    let before: Vec<u32> = (0..plan.most).map(delivered).collect();
    *sent.lateness.lock().unwrap_or_else(PoisonError::into_inner) = Histogram::default();
    let mut refusals = Histogram::default();
    let mut not_refused = 0;
    for _ in 0..plan.beyond {
        match refused(target.http).await {
            Ok(Some(nanoseconds)) => refusals.record(nanoseconds),
            _ => not_refused += 1,
        }
        if begun.elapsed() + STEP > LEAVE {
            break;
        }
    }
    sleep_until(begun + LEAVE).await;
    let mut shares: Vec<u32> = (0..plan.most)
        .map(|at| delivered(at) - before[at])
        .collect();
    shares.sort_unstable();
    let publisher_late = sent
        .lateness
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .percentile(0.99);
    viewers.truncate(plan.viewers);
    let left = begun.elapsed().as_secs_f64();
    sleep_until(begun + TOTAL).await;
    sampler.abort();
    let loads = count.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let moments: Vec<Moment> = seen
        .timeline
        .iter()
        .enumerate()
        .map(|(index, histogram)| {
            let histogram = histogram.lock().unwrap_or_else(PoisonError::into_inner);
            let at = (index + 1) as f64 * STEP.as_secs_f64();
            Moment {
                at,
                p50: histogram.percentile(0.5),
                p99: histogram.percentile(0.99),
                viewers: plan.at(at, left),
                load: loads.get(index).copied().unwrap_or(f64::NAN),
            }
        })
        .collect();
    let usual = moments
        .iter()
        .filter(|moment| moment.at <= BEFORE.as_secs_f64())
        .map(|moment| moment.p99)
        .fold(0.0, f64::max);
    let recovery = moments
        .iter()
        .find(|moment| moment.at > left && moment.p99 <= usual * 2.0)
        .map(|moment| moment.at - left);
    Ok(Ramp {
        plan,
        moments,
        shares: [
            shares.first().copied().unwrap_or(0),
            shares.get(shares.len() / 2).copied().unwrap_or(0),
            shares.last().copied().unwrap_or(0),
        ],
        publisher_late,
        refusals,
        not_refused,
        recovery,
        stalls: seen.stalls.load(Ordering::Relaxed),
        errors: seen.errors.load(Ordering::Relaxed),
    })
}

impl Plan {
    fn at(self, seconds: f64, left: f64) -> usize {
        let grown = (seconds - BEFORE.as_secs_f64()) / GROWING.as_secs_f64();
        if seconds > left {
            self.viewers
        } else {
            self.viewers + ((self.most - self.viewers) as f64 * grown.clamp(0.0, 1.0)) as usize
        }
    }
}

impl Ramp {
    /// For the table.
    pub fn lines(&self) -> String {
        let worst = |from: f64, to: f64| {
            let moments = self.moments.iter();
            let within = moments.filter(|moment| moment.at > from && moment.at <= to);
            within.map(|moment| moment.p99).fold(0.0, f64::max)
        };
        let (before, height, end) = (
            BEFORE.as_secs_f64(),
            (BEFORE + GROWING).as_secs_f64(),
            LEAVE.as_secs_f64(),
        );
        let load = self
            .moments
            .iter()
            .map(|moment| moment.load)
            .fold(0.0, f64::max);
        format!(
            "{} viewers, then {}, then {} again: worst p99 in a quarter of a second {:.1} ms, {:.1} ms, {:.1} ms; server's core up to {load:.0} %;\n\
             pictures a viewer at the height: least {}, middle {}, most {}; publisher late p99 {:.2} ms; stalls {}, errors {};\n\
             {} turned away in p50 {:.1} ms, p99 {:.1} ms, {} not; latency back {} after the load had gone",
            self.plan.viewers,
            self.plan.most,
            self.plan.viewers,
            worst(0.0, before),
            worst(height, end),
            worst(end + 1.0, f64::MAX),
            self.shares[0],
            self.shares[1],
            self.shares[2],
            self.publisher_late,
            self.stalls,
            self.errors,
            self.refusals.len(),
            self.refusals.percentile(0.5),
            self.refusals.percentile(0.99),
            self.not_refused,
            self.recovery
                .map_or_else(|| "not".to_owned(), |seconds| format!("{seconds:.2} s")),
        )
    }

    /// For the file.
    pub fn json(&self) -> Json {
        let moments = self.moments.iter().map(|moment| {
            Json::Object(vec![
                ("at", moment.at.into()),
                ("viewers", moment.viewers.into()),
                ("p50_ms", moment.p50.into()),
                ("p99_ms", moment.p99.into()),
                ("server_percent", moment.load.into()),
            ])
        });
        let shares = self.shares.iter().map(|&share| u64::from(share).into());
        Json::Object(vec![
            ("viewers", self.plan.viewers.into()),
            ("most", self.plan.most.into()),
            ("shares", Json::List(shares.collect())),
            ("publisher_late_p99_ms", self.publisher_late.into()),
            ("refused", self.refusals.len().into()),
            ("refused_p99_ms", self.refusals.percentile(0.99).into()),
            ("not_refused", self.not_refused.into()),
            ("recovery_seconds", self.recovery.unwrap_or(f64::NAN).into()),
            ("stalls", self.stalls.into()),
            ("errors", self.errors.into()),
            ("moments", Json::List(moments.collect())),
        ])
    }
}

/// Writes down the load of the server's core in each step.
async fn sample(target: Target, start: Usage, begun: Instant, loads: Arc<Mutex<Vec<f64>>>) {
    let mut before = start.cpu;
    for step in 1.. {
        sleep_until(begun + STEP * step).await;
        let now = target.usage().cpu;
        let load = now.saturating_sub(before).as_secs_f64() / STEP.as_secs_f64() * 100.0;
        loads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(load);
        before = now;
    }
}

/// One connection too many: nanoseconds until it has read that it is, or `None` if it was answered.
async fn refused(http: SocketAddr) -> anyhow::Result<Option<u64>> {
    let begun = Instant::now();
    let mut socket = TcpStream::connect(loopback(http)?).await?;
    socket
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await?;
    let mut answer = [0; 32];
    let count = tokio::time::timeout(Duration::from_secs(5), socket.read(&mut answer)).await??;
    let refused = answer[..count].starts_with(b"HTTP/1.1 503");
    Ok(refused.then(|| begun.elapsed().as_nanos() as u64))
}

/// With the viewers of the beginning.
const BEFORE: Duration = Duration::from_secs(4);
/// While more come.
const GROWING: Duration = Duration::from_secs(5);
/// When they go, after the beginning.
const LEAVE: Duration = Duration::from_secs(19);
/// In all, after the beginning.
const TOTAL: Duration = Duration::from_secs(26);
