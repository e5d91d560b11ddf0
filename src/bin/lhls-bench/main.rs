//! `lhls-bench`: puts a server under load and says what came of it.
//!
//! Publishers, viewers and their clock are in one process on one thread, so that a picture's way from the publisher's socket to the
//! viewer's can be timed without trusting the server. `suite` starts the servers itself, pins them to a core of their own and writes
//! down everything; the other commands are for any server that is already running here. Nothing but loopback addresses is accepted.

#![allow(clippy::print_stdout, reason = "results are what it prints")]
#![allow(
    unreachable_pub,
    reason = "nothing is reachable in a binary; pub is for the other modules"
)]

mod baseline;
mod hostile;
mod plot;
mod publish;
mod ramp;
mod runs;
mod signal;
mod soak;
mod stats;
mod suite;
mod view;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use runs::{Plan, Target};
use signal::Signal;
use view::Way;

/// Load generator for lhls and its like, on this machine only.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Publishers and viewers of growing segments: delivery latency, rates, CPU.
    Follow {
        #[command(flatten)]
        server: ServerArgs,
        #[command(flatten)]
        signal: SignalArgs,
        /// Streams.
        #[arg(long, default_value_t = 1)]
        publishers: usize,
        /// Viewers, spread over the streams.
        #[arg(long, default_value_t = 100)]
        viewers: usize,
        /// Viewers reload the playlist at each segment.
        #[arg(long, conflicts_with = "low_latency")]
        reload: bool,
        /// Viewers fetch parts and reload the low-latency playlist at each.
        #[arg(long)]
        low_latency: bool,
        /// Seconds before anything is counted.
        #[arg(long, default_value_t = 3)]
        warm_up: u64,
        /// Seconds that are counted.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// One URL over and over on keep-alive connections: requests and bytes a second. The server may be any.
    Fetch {
        /// http://127.0.0.1:PORT/PATH; its answer must have a Content-Length.
        url: String,
        #[arg(long, default_value_t = 50)]
        connections: usize,
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// The server's process, for its CPU time.
        #[arg(long)]
        pid: Option<u32>,
    },
    /// Viewers that wait on an announced segment of a stream that holds still: memory and CPU.
    Wait {
        #[command(flatten)]
        server: ServerArgs,
        #[arg(long, default_value_t = 1000)]
        viewers: usize,
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
    /// Time from the start of a publish to the first byte that can be played.
    FirstByte {
        #[command(flatten)]
        server: ServerArgs,
        #[command(flatten)]
        signal: SignalArgs,
        #[arg(long, default_value_t = 10)]
        rounds: usize,
    },
    /// Viewers come until there are more than the server can serve, stay, and go: how it behaves meanwhile.
    Ramp {
        #[command(flatten)]
        server: ServerArgs,
        /// Viewers before and after.
        #[arg(long, default_value_t = 1000)]
        viewers: usize,
        /// Viewers at the height.
        #[arg(long, default_value_t = 5000)]
        most: usize,
        /// Connections that are opened beyond those at the height, to be turned away.
        #[arg(long, default_value_t = 0)]
        beyond: usize,
        /// Where the plot goes.
        #[arg(long)]
        plot: Option<std::path::PathBuf>,
    },
    /// Serves the synthetic stream from a bare epoll loop: the least that fan-out can cost.
    Baseline {
        #[arg(long)]
        listen: SocketAddr,
        #[command(flatten)]
        signal: SignalArgs,
    },
    /// Everything, against servers of its own: prints a table, writes JSON and a plot.
    Suite(suite::Options),
    /// Every kind of bad viewer in turn, beside good ones, against a server of its own.
    Hostile(hostile::Options),
    /// One kind of bad viewer, against a server that is already running here.
    Attack(hostile::attack::Options),
    /// Publishers that drop and come back and viewers that come and go, for a long time, against a server of its own.
    Soak(soak::Options),
}

#[derive(Debug, Args)]
struct ServerArgs {
    /// Where to publish.
    #[arg(long)]
    rtmp: Option<SocketAddr>,
    /// Where to watch.
    #[arg(long)]
    http: SocketAddr,
    /// The server's process, for its CPU time and memory.
    #[arg(long)]
    pid: Option<u32>,
}

#[derive(Debug, Clone, Args)]
struct SignalArgs {
    /// Bit rate of the video, kb/s.
    #[arg(long, default_value_t = 1500)]
    kbps: u32,
    /// Pictures a second.
    #[arg(long, default_value_t = 30)]
    fps: u32,
    /// Pictures from one key picture to the next.
    #[arg(long, default_value_t = 30)]
    gop: u32,
    /// Leave the sound out.
    #[arg(long)]
    no_audio: bool,
}

fn main() -> anyhow::Result<()> {
    let command = Cli::parse().command;
    if let Command::Baseline { listen, signal } = &command {
        return baseline::serve(*listen, &signal.signal());
    }
    // One thread: the other cores are the server's.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(command))
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Follow {
            server,
            signal,
            publishers,
            viewers,
            reload,
            low_latency,
            warm_up,
            seconds,
        } => {
            let plan = Plan {
                publishers: publishers.clamp(1, MAX_PUBLISHERS),
                viewers: viewers.min(MAX_VIEWERS),
                way: match (reload, low_latency) {
                    (_, true) => Way::LowLatency("ll.m3u8"),
                    (true, _) => Way::Reloading,
                    _ => Way::Growing,
                },
                warm_up: Duration::from_secs(warm_up),
                duration: Duration::from_secs(seconds.min(MAX_SECONDS)),
            };
            let result =
                runs::following(&server.target(), &Arc::new(signal.signal()), plan).await?;
            println!("{}\n{}", result.line(), result.json());
        }
        Command::Fetch {
            url,
            connections,
            seconds,
            pid,
        } => {
            let (host, path) = url
                .strip_prefix("http://")
                .and_then(|rest| rest.split_once('/'))
                .ok_or_else(|| anyhow::anyhow!("expected http://127.0.0.1:PORT/PATH"))?;
            let result = runs::fetching(
                host.parse()?,
                &format!("/{path}"),
                connections.clamp(1, MAX_VIEWERS),
                Duration::from_secs(seconds.min(MAX_SECONDS)),
                pid,
            )
            .await?;
            println!("{}\n{}", result.line(), result.json());
        }
        Command::Wait {
            server,
            viewers,
            seconds,
        } => {
            let signal = Arc::new(SignalArgs::DEFAULT.signal());
            let duration = Duration::from_secs(seconds.min(MAX_SECONDS));
            let viewers = viewers.clamp(1, MAX_VIEWERS);
            let result = runs::waiting(&server.target(), &signal, viewers, duration).await?;
            println!("{}\n{}", result.line(), result.json());
        }
        Command::FirstByte {
            server,
            signal,
            rounds,
        } => {
            let signal = Arc::new(signal.signal());
            let result = runs::first_byte(&server.target(), &signal, rounds.clamp(1, 1000)).await?;
            println!("{}\n{}", result.line(), result.json());
        }
        Command::Ramp {
            server,
            viewers,
            most,
            beyond,
            plot,
        } => {
            let plan = ramp::Plan {
                viewers: viewers.min(MAX_VIEWERS),
                most: most.min(MAX_VIEWERS),
                beyond: beyond.min(1000),
            };
            let signal = Arc::new(SignalArgs::DEFAULT.signal());
            let result = ramp::run(&server.target(), &signal, plan).await?;
            println!("{}\n{}", result.lines(), result.json());
            if let Some(path) = plot {
                std::fs::write(path, plot::ramp(&result, &suite::machine()))?;
            }
        }
        Command::Suite(options) => suite::run(&options).await?,
        Command::Soak(options) if soak::run(&options).await? => {}
        Command::Hostile(options) if hostile::run(&options).await? => {}
        Command::Hostile(_) => anyhow::bail!("good viewers have suffered"),
        Command::Attack(options) => hostile::attack::run(&options).await?,
        Command::Soak(_) => anyhow::bail!("the soak has failed"),
        Command::Baseline { .. } => {}
    }
    Ok(())
}

impl ServerArgs {
    fn target(&self) -> Target {
        Target {
            rtmp: self.rtmp,
            http: self.http,
            pid: self.pid,
        }
    }
}

impl SignalArgs {
    const DEFAULT: Self = Self {
        kbps: 1500,
        fps: 30,
        gop: 30,
        no_audio: false,
    };

    fn signal(&self) -> Signal {
        Signal::new(signal::Options {
            bit_rate: self.kbps.clamp(50, 100_000) * 1000,
            fps: self.fps.clamp(1, 240),
            gop: self.gop.clamp(1, 2400),
            audio: !self.no_audio,
        })
    }
}

// Bounds on a load that was typed with a zero too many.
const MAX_VIEWERS: usize = 10_000;
const MAX_PUBLISHERS: usize = 1000;
const MAX_SECONDS: u64 = 600;
