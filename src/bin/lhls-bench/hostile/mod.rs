//! Good viewers beside bad ones: every attack in turn against a server of its own, and what the good viewers noticed of it.
//!
//! For each attack the delivery latency of viewers who follow the stream is measured before and during it, the server's memory before,
//! during and after it, and who was dropped, by the name of the limit. The attackers are processes of their own and may not take the
//! processor from those who measure.

pub mod attack;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use tokio::time::sleep;

use self::attack::Kind;
use crate::publish::{Publisher, Sent};
use crate::signal::{self, Options as SignalOptions, Signal};
use crate::soak::{free_port, wait_for};
use crate::stats::{Histogram, Json, Usage};
use crate::view::{Listed, Seen, Viewer, Way};
use crate::wire::Connection;

/// What it is told.
#[derive(Debug, Args)]
pub struct Options {
    /// The server's binary.
    #[arg(long, default_value = "target/release/lhls")]
    server: PathBuf,
    /// Good viewers.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=2000))]
    viewers: u64,
    /// How long each attack lasts; if not given, as long as it takes to reach the limits: half a minute, or a little over a whole one.
    #[arg(long, value_parser = clap::value_parser!(u64).range(5..=600))]
    seconds: Option<u64>,
    /// How long the good viewers are watched before each.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(3..=600))]
    before: u64,
    /// Only these attacks.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Attack another server on the machine, not the one of the good viewers: what they notice then is the machine.
    #[arg(long)]
    beside: bool,
    /// Where the results go.
    #[arg(long, default_value = "target/hostile.json")]
    json: PathBuf,
}

/// An attack: its name, what it is, and who does it.
struct Attack {
    name: &'static str,
    what: &'static str,
    seconds: u64,
    by: By,
}

enum By {
    /// `slowhttptest` with these arguments; `SEGMENT` among them becomes the address of one.
    SlowHttpTest(&'static [&'static str]),
    /// This program, with so many connections.
    Us(Kind, u64),
}

/// What good viewers saw in some time.
struct Watched {
    latency: Histogram,
    /// Pictures late by a second or more, missing, or twice; answers that were none.
    faults: u64,
}

/// One line of the table.
struct Line {
    name: &'static str,
    what: &'static str,
    before: Watched,
    during: Watched,
    resident: [u64; 3],
    /// The most HTTP connections there were, the good ones included.
    connections: f64,
    cores: f64,
    limits: Vec<(String, f64)>,
    panics: f64,
}

/// A server with one stream, ended with its handle.
struct Live {
    server: Process,
    http: SocketAddr,
    _publisher: Publisher,
}

/// A process that is ended with its handle.
struct Process(Child);

/// Runs it all. False when something did not hold.
pub async fn run(options: &Options) -> anyhow::Result<bool> {
    let mut lines = Vec::new();
    println!("{} good viewers of 1.5 Mb/s\n\n{HEAD}", options.viewers);
    for attack in ATTACKS {
        if options.only.is_empty() || options.only.iter().any(|only| only == attack.name) {
            let line = Line::measure(options, attack)
                .await
                .with_context(|| format!("the attack {}", attack.name))?;
            println!("{}", line.text());
            lines.push(line);
        }
    }
    let json = Json::List(lines.iter().map(Line::json).collect());
    if let Some(folder) = options.json.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&options.json, format!("{json}\n"))?;
    println!("\nresults: {}", options.json.display());
    let failed: Vec<String> = lines.iter().flat_map(Line::objections).collect();
    for objection in &failed {
        println!("FAIL {objection}");
    }
    if lines.is_empty() {
        bail!("there is no such attack");
    }
    Ok(failed.is_empty())
}

impl Line {
    async fn measure(options: &Options, attack: &Attack) -> anyhow::Result<Self> {
        let live = Live::start(options).await?;
        let http = live.http;
        let seen = Arc::new(Seen::default());
        seen.until.store(u64::MAX, Ordering::Relaxed);
        let viewers: Vec<Viewer> = (0..options.viewers)
            .map(|index| {
                Viewer::start(
                    http,
                    STREAM,
                    Way::Reloading,
                    index as usize,
                    Arc::clone(&seen),
                )
            })
            .collect();
        let since = Instant::now();
        while seen.playing.load(Ordering::Relaxed) < viewers.len() {
            if since.elapsed() > Duration::from_secs(20) {
                bail!("the good viewers do not get to play");
            }
            sleep(Duration::from_millis(100)).await;
        }
        sleep(Duration::from_secs(2)).await;

        watch(&seen);
        sleep(Duration::from_secs(options.before)).await;
        let before = watch(&seen);
        let other = match options.beside {
            true => Some(Live::start(options).await?),
            false => None,
        };
        // Memory, processor time and limits are those of the one that has to bear it.
        let bearer = other.as_ref().unwrap_or(&live);
        let (attacked, pid) = (bearer.http, bearer.server.0.id());
        let usage = Usage::of(pid);
        let mut page = Connection::open(attacked).await?;
        let segment = Listed::fetch(&mut page, STREAM).await?.segments;
        drop(page);
        let seconds = options.seconds.unwrap_or(attack.seconds);
        let segment = format!(
            "http://{attacked}{}",
            segment.first().cloned().unwrap_or_default()
        );
        let attacker = attack.start(attacked, &segment, seconds)?;
        let begun = Instant::now();
        watch(&seen);
        let (mut connections, mut most) = (0.0_f64, usage.resident);
        while begun.elapsed() < Duration::from_secs(seconds) {
            sleep(Duration::from_secs(1)).await;
            let metrics = metrics(attacked).await?;
            connections = connections.max(value(&metrics, "lhls_http_connections"));
            most = most.max(Usage::of(pid).resident);
        }
        let during = watch(&seen);
        let cores = (Usage::of(pid).cpu - usage.cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
        drop(attacker);
        sleep(Duration::from_secs(5)).await;
        let metrics = metrics(attacked).await?;
        let refused = metrics
            .lines()
            .filter(|line| line.starts_with("lhls_http_requests_total{"))
            .filter_map(|line| line.split_once("status=\"405\"} ")?.1.parse::<f64>().ok())
            .sum::<f64>();
        let refused = (refused > 0.0).then(|| ("status 405".to_owned(), refused));
        let limits = metrics.lines().filter_map(|line| {
            let rest = line.strip_prefix("lhls_limits_hit_total{reason=\"")?;
            let (name, count) = rest.split_once("\"} ")?;
            Some((name.to_owned(), count.parse().ok()?)).filter(|&(_, count)| count > 0.0)
        });
        Ok(Self {
            name: attack.name,
            what: attack.what,
            before,
            during,
            resident: [usage.resident, most, Usage::of(pid).resident],
            connections,
            cores,
            limits: limits.chain(refused).collect(),
            panics: value(&metrics, "lhls_panics_total"),
        })
    }

    fn ratio(&self) -> f64 {
        self.during.latency.percentile(0.99) / self.before.latency.percentile(0.99)
    }

    fn text(&self) -> String {
        let limits: Vec<String> = self
            .limits
            .iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        let [before, during, after] = self.resident.map(|bytes| bytes as f64 / 1e6);
        format!(
            "{:<14} {:>6} {:>7.2} {:>7.2} {:>8.2} {:>7.2} {:>6.2} {:>6} {:>7.1} {:>7.1} {:>7.1} {:>5.0}%  {}",
            self.name,
            self.connections,
            self.before.latency.percentile(0.5),
            self.before.latency.percentile(0.99),
            self.during.latency.percentile(0.5),
            self.during.latency.percentile(0.99),
            self.ratio(),
            self.before.faults + self.during.faults,
            before,
            during,
            after,
            self.cores * 100.0,
            if limits.is_empty() {
                "-".to_owned()
            } else {
                limits.join(", ")
            },
        )
    }

    /// What did not hold.
    fn objections(&self) -> Vec<String> {
        let mut objections = Vec::new();
        let late = self.during.latency.percentile(0.99);
        if self.ratio() > 2.0 && late > NOT_WORTH_A_WORD {
            objections.push(format!(
                "{}: good viewers' p99 went from {:.2} to {late:.2} ms",
                self.name,
                self.before.latency.percentile(0.99)
            ));
        }
        if self.before.faults + self.during.faults > 0 {
            objections.push(format!("{}: good viewers had faults", self.name));
        }
        let grown = self.resident[1].saturating_sub(self.resident[0]) as f64;
        if grown > self.connections * BYTES_A_CONNECTION + BYTES_BESIDES {
            objections.push(format!(
                "{}: {:.1} MB more, for {} connections",
                self.name,
                grown / 1e6,
                self.connections
            ));
        }
        if self.panics > 0.0 {
            objections.push(format!("{}: {} panics", self.name, self.panics));
        }
        objections
    }

    fn json(&self) -> Json {
        let limits = self.limits.iter().map(|(name, count)| {
            Json::Object(vec![
                ("limit", name.clone().into()),
                ("count", (*count).into()),
            ])
        });
        Json::Object(vec![
            ("attack", self.name.to_owned().into()),
            ("what", self.what.to_owned().into()),
            ("connections", self.connections.into()),
            ("p50_before_ms", self.before.latency.percentile(0.5).into()),
            ("p99_before_ms", self.before.latency.percentile(0.99).into()),
            ("p50_during_ms", self.during.latency.percentile(0.5).into()),
            ("p99_during_ms", self.during.latency.percentile(0.99).into()),
            (
                "good_viewers_faults",
                (self.before.faults + self.during.faults).into(),
            ),
            ("resident_before", self.resident[0].into()),
            ("resident_during", self.resident[1].into()),
            ("resident_after", self.resident[2].into()),
            ("server_cores", self.cores.into()),
            ("dropped", Json::List(limits.collect())),
        ])
    }
}

impl Live {
    async fn start(options: &Options) -> anyhow::Result<Self> {
        let (rtmp, http) = (free_port()?, free_port()?);
        let server = Command::new(&options.server)
            .args(["--log", "error", "serve", "--retain", "1m"])
            .args(["--rtmp-listen", &rtmp.to_string()])
            .args(["--http-listen", &http.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}; is it built?", options.server.display()))?;
        let server = Process(server);
        wait_for(http)?;
        let signal = Arc::new(Signal::new(SignalOptions {
            bit_rate: 1_500_000,
            fps: 30,
            gop: 30,
            audio: true,
        }));
        let sent = Arc::new(Sent::default());
        let publisher = Publisher::start(rtmp, STREAM, signal, Duration::ZERO, sent).await?;
        sleep(Duration::from_millis(2500)).await;
        Ok(Self {
            server,
            http,
            _publisher: publisher,
        })
    }
}

impl Attack {
    fn start(&self, http: SocketAddr, segment: &str, seconds: u64) -> anyhow::Result<Process> {
        let seconds = seconds.to_string();
        // Whoever measures comes first.
        let mut command = Command::new("nice");
        command.args(["-n", "5"]);
        match &self.by {
            By::SlowHttpTest(arguments) => {
                let page = format!("http://{http}/{STREAM}/playlist.m3u8");
                command.args(["slowhttptest", "-l", &seconds, "-p", "3", "-v", "0"]);
                for argument in *arguments {
                    command.arg(match *argument {
                        "PAGE" => &page,
                        "SEGMENT" => segment,
                        other => other,
                    });
                }
            }
            By::Us(kind, connections) => {
                let kind = clap::ValueEnum::to_possible_value(kind).context("no name")?;
                command
                    .arg(std::env::current_exe()?)
                    .args(["attack", kind.get_name(), "--http", &http.to_string()])
                    .args(["--connections", &connections.to_string()])
                    .args(["--stream", STREAM, "--seconds", &seconds]);
            }
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot run {command:?}"))?;
        Ok(Process(child))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What was seen since this was asked for last.
fn watch(seen: &Seen) -> Watched {
    let mut latency = seen.latency.lock().unwrap_or_else(PoisonError::into_inner);
    let watched = Watched {
        latency: std::mem::take(&mut *latency),
        faults: seen.stalls.swap(0, Ordering::Relaxed)
            + seen.misplaced.swap(0, Ordering::Relaxed)
            + seen.errors.swap(0, Ordering::Relaxed),
    };
    seen.from.store(signal::now(), Ordering::Relaxed);
    watched
}

/// Over a new connection each time, so as not to be among the idle ones.
async fn metrics(http: SocketAddr) -> anyhow::Result<String> {
    let (_, text) = Connection::open(http).await?.get_bytes("/metrics").await?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn value(metrics: &str, name: &str) -> f64 {
    metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .and_then(|value| value.parse().ok())
        .unwrap_or(f64::NAN)
}

const STREAM: &str = "live/good";
const HEAD: &str = "                        before, ms       during, ms               memory, MB\n\
attack          conns     p50     p99      p50     p99  ratio faults  before  during   after   CPU  dropped by limit";
/// A p99 below this is good whatever it was before: a thirtieth of the time between two pictures.
const NOT_WORTH_A_WORD: f64 = 1.0;
/// What a connection may cost, in what state ever: its task, its buffers, a request's head being read.
const BYTES_A_CONNECTION: f64 = 24e3;
/// What may come on top: a ring that was still filling, and segments that slow viewers hold.
const BYTES_BESIDES: f64 = 24e6;

/// Longer than a head or the next request may take.
const HALF_A_MINUTE: u64 = 30;
/// Longer than a viewer may lag, and longer than it takes the kernel's buffers to be full before that.
const BEYOND_A_MINUTE: u64 = 75;

const ATTACKS: &[Attack] = &[
    Attack {
        name: "slow-header",
        what: "slowhttptest -H: heads that come a line at a time",
        seconds: HALF_A_MINUTE,
        by: By::SlowHttpTest(&[
            "-H", "-c", "4000", "-r", "1000", "-i", "5", "-x", "24", "-u", "PAGE",
        ]),
    },
    Attack {
        name: "slow-body",
        what: "slowhttptest -B: bodies that come a line at a time",
        seconds: HALF_A_MINUTE,
        by: By::SlowHttpTest(&[
            "-B", "-c", "4000", "-r", "1000", "-i", "5", "-s", "8192", "-u", "PAGE",
        ]),
    },
    Attack {
        name: "slow-read",
        what: "slowhttptest -X: 32 bytes of a segment every 5 s",
        seconds: BEYOND_A_MINUTE,
        by: By::SlowHttpTest(&[
            "-X", "-c", "1000", "-r", "500", "-w", "512", "-y", "1024", "-n", "5", "-z", "32",
            "-k", "3", "-u", "SEGMENT",
        ]),
    },
    Attack {
        name: "ranges",
        what: "slowhttptest -R: hundreds of overlapping ranges",
        seconds: HALF_A_MINUTE,
        by: By::SlowHttpTest(&[
            "-R", "-c", "500", "-r", "200", "-a", "1", "-b", "3000", "-u", "SEGMENT",
        ]),
    },
    Attack {
        name: "idle",
        what: "10 000 connections that say nothing",
        seconds: HALF_A_MINUTE,
        by: By::Us(Kind::Idle, 10_000),
    },
    Attack {
        name: "kept",
        what: "10 000 connections that are kept after one request",
        seconds: HALF_A_MINUTE,
        by: By::Us(Kind::Kept, 10_000),
    },
    Attack {
        name: "trickle",
        what: "500 viewers that read 1 kB/s",
        seconds: BEYOND_A_MINUTE,
        by: By::Us(Kind::Trickle, 500),
    },
    Attack {
        name: "deaf",
        what: "500 viewers that read nothing and never close",
        seconds: BEYOND_A_MINUTE,
        by: By::Us(Kind::Deaf, 500),
    },
    Attack {
        name: "pipeline",
        what: "one viewer that sends 500 requests ahead",
        seconds: HALF_A_MINUTE,
        by: By::Us(Kind::Pipeline, 1),
    },
    Attack {
        name: "burst",
        what: "one that asks 500 times at once, for what comes next",
        seconds: HALF_A_MINUTE,
        by: By::Us(Kind::Burst, 500),
    },
    Attack {
        name: "flighty",
        what: "50 viewers that ask, hang up and come again, at once",
        seconds: HALF_A_MINUTE,
        by: By::Us(Kind::Flighty, 50),
    },
];
