//! The soak: a server of its own, publishers that go and come back in every way, viewers that come and go, for half an hour or days.
//!
//! At the end it says whether anything grew, was missing, stood still or panicked; the exit code says the same. What has to be flat is
//! compared between the first and the last third of the time; and when everybody has left, the server must hold exactly as many
//! descriptors and tasks as before they came. The load is light, so that it says something about the server and not about the machine.

mod audience;
mod cast;
mod chance;
mod plot;
mod record;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::audience::{Programme, Seen, Verdicts};
use self::cast::{Kind, Stage};
use self::chance::Chance;
use self::record::{Recorder, Sample};
use crate::stats::Json;

/// What the soak is told.
#[derive(Debug, Args)]
pub struct Options {
    /// The server's binary.
    #[arg(long, default_value = "target/release/lhls")]
    server: PathBuf,
    /// How long.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=10_080))]
    minutes: u64,
    /// Two minutes, for a look.
    #[arg(long)]
    quick: bool,
    /// Viewers at the same time.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=1000))]
    viewers: u64,
    /// Streams: one of ffmpeg's, one of the test picture, the others synthetic.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100))]
    streams: u64,
    /// Another one plays the same piece with other timing.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the samples go.
    #[arg(long, default_value = "target/soak.json")]
    json: PathBuf,
    /// Where the server's log goes.
    #[arg(long, default_value = "target/soak.log")]
    log: PathBuf,
    /// Where the plot goes.
    #[arg(long)]
    plot: Option<PathBuf>,
}

/// The server under test; ended with its handle.
#[derive(Debug)]
struct Server {
    child: Child,
    /// Lines of its log that should not be there.
    complaints: Arc<Mutex<Vec<String>>>,
}

/// What came of it.
struct Outcome {
    before: Sample,
    samples: Vec<Sample>,
    after: Sample,
    verdicts: Verdicts,
    complaints: Vec<String>,
    troubles: Vec<String>,
    /// Too short for memory to be judged.
    short: bool,
}

/// One thing that has to hold, and whether it does.
struct Check {
    name: &'static str,
    text: String,
    holds: bool,
}

/// Runs it. False when something did not hold.
pub async fn run(options: &Options) -> anyhow::Result<bool> {
    // What viewers miss is said in their words, too.
    tracing_subscriber::fmt()
        .with_env_filter("lhls::viewer::segments=debug,lhls::viewer::parts=debug")
        .with_ansi(false)
        .init();
    let length = Duration::from_secs(if options.quick {
        120
    } else {
        60 * options.minutes
    });
    let (rtmp, http) = (free_port()?, free_port()?);
    let stage = Arc::new(Stage::new(rtmp, options.server.clone()));
    let server = Server::start(options, rtmp, http, Arc::clone(&stage))?;
    let mut recorder = Recorder::new(http, server.child.id()).await?;
    tokio::time::sleep(SETTLE).await;
    let before = recorder
        .sample(&Verdicts::default(), Duration::ZERO)
        .await?;

    let cancel = CancellationToken::new();
    let (cast, audience) = (TaskTracker::new(), TaskTracker::new());
    let programmes: Arc<[Programme]> = (0..options.streams).map(programme).collect();
    for (index, programme) in (0..).zip(programmes.iter()) {
        let chance = Chance::new(options.seed, index);
        let (name, kind) = (programme.name.clone(), programme.kind);
        let stage = Arc::clone(&stage);
        cast.spawn(cast::perform(stage, name, kind, chance, cancel.clone()));
    }
    let seen = Arc::new(Seen::default());
    for index in 0..options.viewers {
        let chance = Chance::new(options.seed, 1000 + index);
        let (stage, programmes) = (Arc::clone(&stage), Arc::clone(&programmes));
        let seen = Arc::clone(&seen);
        let cancel = cancel.clone();
        audience.spawn(audience::attend(
            stage, http, programmes, seen, chance, cancel,
        ));
    }
    println!(
        "{} streams, {} viewers, {} minutes; the server's log: {}",
        options.streams,
        options.viewers,
        length.as_secs() / 60,
        options.log.display()
    );
    let samples = observe(&mut recorder, &stage, &seen, length).await?;

    // Everybody leaves; what the server then still holds has leaked.
    cancel.cancel();
    for tasks in [&cast, &audience] {
        tasks.close();
        tasks.wait().await;
    }
    let since = Instant::now();
    let after = loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let sample = recorder.sample(&seen.so_far(), Duration::ZERO).await?;
        let empty = sample.streams == 0.0 && sample.http <= before.http && sample.rtmp == 0.0;
        if empty || since.elapsed() > TO_FORGET {
            // A moment for the last tasks to end.
            tokio::time::sleep(SETTLE).await;
            break recorder.sample(&seen.so_far(), Duration::ZERO).await?;
        }
    };
    let outcome = Outcome {
        before,
        samples,
        after,
        verdicts: seen.so_far(),
        complaints: server.complaints(),
        troubles: stage.troubles(),
        short: length < Duration::from_secs(600),
    };
    drop(server);
    outcome.conclude(options, &stage)
}

/// Takes a sample every few seconds until the time is over, or Ctrl-C.
async fn observe(
    recorder: &mut Recorder,
    stage: &Stage,
    seen: &Seen,
    length: Duration,
) -> anyhow::Result<Vec<Sample>> {
    let started = Instant::now();
    let every = (length / 400).clamp(Duration::from_secs(2), Duration::from_secs(60));
    let mut samples: Vec<Sample> = Vec::new();
    let mut late = Duration::ZERO;
    let mut sampled = Instant::now();
    let mut said = Instant::now();
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    while started.elapsed() < length {
        let asleep = Instant::now();
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            _ = &mut interrupted => {
                println!("interrupted");
                break;
            }
        }
        let over = asleep.elapsed().saturating_sub(TICK);
        late = late.max(over);
        if over > STANDSTILL {
            stage.stood_still(asleep + TICK);
        }
        if sampled.elapsed() < every {
            continue;
        }
        sampled = Instant::now();
        let sample = recorder
            .sample(&seen.so_far(), std::mem::take(&mut late))
            .await
            .context("the server does not answer; its log says why")?;
        if said.elapsed() > Duration::from_secs(30) {
            said = Instant::now();
            let counts = stage.counts();
            println!(
                "{:5.0} s  {:.1} MB, {} fds, {} tasks, {} viewers, {} publishers, ring {:.1} MB; {} outages, {} reconnects; {} gaps, {} stalls, {} panics",
                sample.at,
                sample.resident / 1e6,
                sample.descriptors,
                sample.tasks,
                sample.viewers,
                sample.publishers,
                sample.ring / 1e6,
                counts.killed + counts.half_open + counts.goodbyes,
                sample.reconnects,
                sample.gaps,
                sample.stalls,
                sample.panics,
            );
        }
        samples.push(sample);
    }
    Ok(samples)
}

impl Server {
    fn start(
        options: &Options,
        rtmp: SocketAddr,
        http: SocketAddr,
        stage: Arc<Stage>,
    ) -> anyhow::Result<Self> {
        let mut child = Command::new(&options.server)
            .args(["--log", "info", "serve"])
            .args(["--rtmp-listen", &rtmp.to_string()])
            .args(["--http-listen", &http.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}; is it built?", options.server.display()))?;
        let stderr = child.stderr.take().context("its log was piped")?;
        let complaints = Arc::new(Mutex::new(Vec::new()));
        if let Some(folder) = options.log.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut log = File::create(&options.log)
            .with_context(|| format!("cannot write {}", options.log.display()))?;
        let heard = Arc::clone(&complaints);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let Ok(line) = line else { return };
                let _ = writeln!(log, "{line}");
                let name = line
                    .split_once("stream=")
                    .and_then(|(_, rest)| rest.split_once('}'))
                    .map(|(name, _)| name);
                if let Some(name) = name.filter(|_| line.contains(": live at ")) {
                    stage.is_live(name);
                }
                if line.contains(" ERROR ") || line.contains("panicked") {
                    heard
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(line);
                }
            }
        });
        let server = Self { child, complaints };
        wait_for(http)?;
        Ok(server)
    }

    fn complaints(&self) -> Vec<String> {
        self.complaints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Outcome {
    fn checks(&self) -> Vec<Check> {
        // The first minute or tenth is for the rings and the allocator to fill.
        let skipped = (self.samples.len() / 10).max(5).min(self.samples.len());
        let settled = &self.samples[skipped..];
        let third = settled.len() / 3;
        let (first, last) = (&settled[..third], &settled[settled.len() - third..]);
        let median = |samples: &[Sample], of: fn(&Sample) -> f64| {
            let mut values: Vec<f64> = samples.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
        };
        let memory = |sample: &Sample| sample.resident;
        let (early, late) = (median(first, memory), median(last, memory));
        let mut checks = vec![Check {
            name: "memory",
            text: format!(
                "{:.1} MB in the first third, {:.1} MB in the last (medians; rings {:.1} and {:.1} MB); {:.1} MB when all have left",
                early / 1e6,
                late / 1e6,
                median(first, |sample| sample.ring) / 1e6,
                median(last, |sample| sample.ring) / 1e6,
                self.after.resident / 1e6
            ),
            // In two minutes nothing has settled.
            holds: self.short || late <= early * (1.0 + GROWTH) + GROWTH_BYTES,
        }];
        for (name, of) in [
            (
                "descriptors",
                (|sample| sample.descriptors) as fn(&Sample) -> f64,
            ),
            ("tasks", |sample| sample.tasks),
        ] {
            checks.push(Check {
                name,
                text: format!(
                    "{} in the first third, {} in the last (medians); {} before anybody came, {} when all have left",
                    median(first, of),
                    median(last, of),
                    of(&self.before),
                    of(&self.after)
                ),
                holds: of(&self.after) <= of(&self.before),
            });
        }
        checks.push(Check {
            name: "rings at the end",
            text: format!("{} bytes, {} streams", self.after.ring, self.after.streams),
            holds: self.after.ring == 0.0 && self.after.streams == 0.0,
        });
        let verdicts = &self.verdicts;
        for (name, count, text) in [
            (
                "sequence gaps",
                verdicts.gaps as f64,
                format!(
                    "in {} pictures of {} visits",
                    verdicts.pictures, verdicts.visits
                ),
            ),
            (
                "stalls beyond outages",
                verdicts.stalls as f64,
                format!(
                    "together {:.1} s (with those too short to notice), {:.1} s within outages",
                    verdicts.stalled.as_secs_f64(),
                    verdicts.outage_stalled.as_secs_f64()
                ),
            ),
            (
                "viewers thrown out",
                verdicts.thrown_out as f64,
                format!("of {} visits", verdicts.visits),
            ),
            ("panics", self.after.panics, String::new()),
            (
                "errors in the log",
                self.complaints.len() as f64,
                String::new(),
            ),
            (
                "publishers in trouble",
                self.troubles.len() as f64,
                String::new(),
            ),
        ] {
            let text = format!("{count} {text}");
            checks.push(Check {
                name,
                text,
                holds: count == 0.0,
            });
        }
        checks
    }

    fn conclude(self, options: &Options, stage: &Stage) -> anyhow::Result<bool> {
        let checks = self.checks();
        let counts = stage.counts();
        println!(
            "\noutages: {} killed ({} of them for longer than the window), {} left half-open, {} said goodbye; {} came back changed",
            counts.killed, counts.long, counts.half_open, counts.goodbyes, counts.changes
        );
        println!(
            "the server counted {} reconnects, {} of them takeovers; encoders left out {} pictures, being late themselves",
            self.after.reconnects, self.after.takeovers, self.verdicts.skipped
        );
        let seconds = self.samples.last().map_or(1.0, |sample| sample.at);
        let late = self.samples.iter().map(|sample| sample.late);
        println!(
            "the server used {:.1} % of a core; the generator stood still {} times for over {STANDSTILL:?}, for {:.0} ms at most\n",
            (self.after.cpu - self.before.cpu) / seconds * 100.0,
            stage.standstills().len(),
            late.fold(0.0, f64::max) * 1000.0
        );
        for check in &checks {
            let verdict = if check.holds { "ok  " } else { "FAIL" };
            println!("{verdict} {:<22} {}", check.name, check.text.trim_end());
        }
        for fault in self.troubles.iter().chain(&self.complaints).take(40) {
            println!("     {fault}");
        }
        let holds = checks.iter().all(|check| check.holds);
        let results = checks.iter().map(|check| {
            Json::Object(vec![
                ("check", check.name.to_owned().into()),
                ("result", check.text.trim_end().to_owned().into()),
                ("holds", f64::from(u8::from(check.holds)).into()),
            ])
        });
        let json = Json::Object(vec![
            ("minutes", (seconds / 60.0).into()),
            ("streams", (options.streams as f64).into()),
            ("viewers", (options.viewers as f64).into()),
            ("checks", Json::List(results.collect())),
            (
                "samples",
                Json::List(self.samples.iter().map(Sample::json).collect()),
            ),
        ]);
        write(&options.json, &format!("{json}\n"))?;
        if let Some(path) = &options.plot {
            let title = format!(
                "{:.0} minutes of publishers that drop, change and come back, and viewers that come and go",
                seconds / 60.0
            );
            let lines: Vec<String> = [
                "sequence gaps",
                "stalls beyond outages",
                "viewers thrown out",
                "panics",
            ]
            .into_iter()
            .filter_map(|name| checks.iter().find(|check| check.name == name))
            .map(|check| {
                let count = check.text.split(' ').next().unwrap_or_default();
                format!("{} {count}", check.name)
            })
            .collect();
            let outages = counts.killed + counts.half_open + counts.goodbyes;
            let note = format!("{outages} outages; {}", lines.join(", "));
            write(path, &plot::soak(&self.samples, &title, &note))?;
            println!("plot: {}", path.display());
        }
        println!("samples: {}", options.json.display());
        Ok(holds)
    }
}

fn programme(index: u64) -> Programme {
    let kind = match index {
        0 => Kind::Ffmpeg,
        1 => Kind::PublishTest,
        _ => Kind::Synthetic,
    };
    Programme {
        name: format!("soak/{index}"),
        kind,
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// A port that was free a moment ago.
pub fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Until something listens there.
pub fn wait_for(address: SocketAddr) -> anyhow::Result<()> {
    let since = Instant::now();
    while std::net::TcpStream::connect(address).is_err() {
        if since.elapsed() > Duration::from_secs(10) {
            bail!("nothing listens on {address} after 10 s");
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    Ok(())
}

const TICK: Duration = Duration::from_millis(100);
/// By this much a timer is late on a machine that is busy, and not overrun.
const STANDSTILL: Duration = Duration::from_millis(200);
/// For connections that have been closed to be gone.
const SETTLE: Duration = Duration::from_secs(3);
/// Longer than the server keeps anything: its reconnect window and its `--retain`, by default, and idle connections.
const TO_FORGET: Duration = Duration::from_secs(90);
/// What memory may differ by between the thirds: streams come and go, and the allocator keeps what it thinks it may need again.
const GROWTH: f64 = 0.1;
const GROWTH_BYTES: f64 = 2e6;
