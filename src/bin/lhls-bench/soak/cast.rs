//! The publishers of a soak: each plays for a while, goes in one way or another, and comes back, often with something changed.
//!
//! Three kinds, because they fail in different ways: ffmpeg and `lhls publish-test` as processes, and the synthetic stream in this one.
//! When each of them was away is written down, so that viewers' stalls can be told from outages.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;

use super::chance::Chance;
use crate::publish::{Publisher, Sent};
use crate::signal::{Options, Signal};

/// Where the streams are published, and what is known of their absences.
#[derive(Debug)]
pub struct Stage {
    /// The server's port for publishers.
    pub rtmp: SocketAddr,
    /// The program whose `publish-test` is one of the publishers.
    pub lhls: PathBuf,
    absences: Mutex<HashMap<String, Vec<Absence>>>,
    /// Times in which this program itself did not get the processor, nor then, it may be, the publishers.
    standstills: Mutex<Vec<Absence>>,
    troubles: Mutex<Vec<String>>,
    counts: Mutex<Counts>,
}

/// A time without a publisher.
#[derive(Debug, Clone, Copy)]
pub struct Absence {
    /// When it went.
    pub gone: Instant,
    /// When the stream was live again; `None` while it is not.
    pub back: Option<Instant>,
    /// Whether it was to be so long that the stream ends.
    pub ends_stream: bool,
}

/// How publishers went.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    /// Killed: the connection closes and nothing is said.
    pub killed: u64,
    /// Stopped, with the connection open: a half-open one, which the next publisher has to take over from.
    pub half_open: u64,
    /// Ended in good order.
    pub goodbyes: u64,
    /// Of all these, followed by so long a time that the stream ended.
    pub long: u64,
    /// Came back with something changed.
    pub changes: u64,
}

/// What kind of publisher a stream has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The generator's own, in this process.
    Synthetic,
    /// `lhls publish-test`.
    PublishTest,
    /// ffmpeg, with its test picture.
    Ffmpeg,
}

/// What is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    size: (u32, u32),
    /// Pictures from one key picture to the next.
    gop: u32,
    audio: bool,
}

/// A publisher at work, or one that hangs.
#[derive(Debug)]
enum Actor {
    Inside(Publisher, Arc<Sent>),
    Process(Running),
}

/// A process that is ended with its handle.
#[derive(Debug)]
struct Running(Child);

impl Stage {
    /// An empty one.
    pub fn new(rtmp: SocketAddr, lhls: PathBuf) -> Self {
        Self {
            rtmp,
            lhls,
            absences: Mutex::default(),
            standstills: Mutex::default(),
            troubles: Mutex::default(),
            counts: Mutex::default(),
        }
    }

    /// The server says that this stream is live.
    pub fn is_live(&self, name: &str) {
        if let Some(absence) = lock(&self.absences)
            .get_mut(name)
            .and_then(|list| list.last_mut())
        {
            absence.back.get_or_insert_with(Instant::now);
        }
    }

    /// When the stream was away.
    pub fn absences(&self, name: &str) -> Vec<Absence> {
        lock(&self.absences).get(name).cloned().unwrap_or_default()
    }

    /// This program stood still since then, and has just gone on.
    pub fn stood_still(&self, since: Instant) {
        lock(&self.standstills).push(Absence {
            gone: since,
            back: Some(Instant::now()),
            ends_stream: false,
        });
    }

    /// When this program stood still.
    pub fn standstills(&self) -> Vec<Absence> {
        lock(&self.standstills).clone()
    }

    /// How many publishers went, and how.
    pub fn counts(&self) -> Counts {
        *lock(&self.counts)
    }

    /// Publishers that failed without having been made to.
    pub fn troubles(&self) -> Vec<String> {
        lock(&self.troubles).clone()
    }

    fn is_gone(&self, name: &str, ends_stream: bool) {
        lock(&self.absences)
            .entry(name.to_owned())
            .or_default()
            .push(Absence {
                gone: Instant::now(),
                back: None,
                ends_stream,
            });
    }

    fn is_away(&self, name: &str) -> bool {
        lock(&self.absences)
            .get(name)
            .and_then(|list| list.last())
            .is_some_and(|absence| absence.back.is_none())
    }

    fn trouble(&self, text: String) {
        lock(&self.troubles).push(text);
    }
}

/// Publishes under `name`, again and again, until cancelled.
pub async fn perform(
    stage: Arc<Stage>,
    name: String,
    kind: Kind,
    mut chance: Chance,
    cancel: CancellationToken,
) {
    let acts = async {
        stage.is_gone(&name, true);
        let mut before: Option<Shape> = None;
        // What hangs with an open connection, until another one has taken over.
        let mut hanging = None;
        loop {
            let shape = Shape::any(kind, before, &mut chance);
            if before.is_some_and(|before| before != shape) {
                lock(&stage.counts).changes += 1;
            }
            before = Some(shape);
            let started = Actor::start(&stage, &name, kind, shape).await;
            let mut actor = match started {
                Ok(actor) => actor,
                Err(error) => {
                    stage.trouble(format!("{name}, {kind:?}: {error:#}"));
                    tokio::time::sleep(Duration::from_secs(2)).await;
                    continue;
                }
            };
            let since = Instant::now();
            while stage.is_away(&name) && since.elapsed() < TO_GO_LIVE {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if stage.is_away(&name) {
                stage.trouble(format!("{name}, {kind:?}: not live after {TO_GO_LIVE:?}"));
                continue;
            }
            drop(hanging.take());
            let plays = chance.between(PLAYS.0, PLAYS.1);
            if let Err(error) = actor.play(plays).await {
                stage.trouble(format!("{name}, {kind:?}: {error:#}"));
                stage.is_gone(&name, false);
                continue;
            }
            let ends_stream = chance.one_in(LONG_ONE_IN);
            stage.is_gone(&name, ends_stream);
            hanging = actor.leave(&stage, ends_stream, &mut chance).await;
            let away = if ends_stream {
                LONG
            } else {
                chance.between(SHORT.0, SHORT.1)
            };
            tokio::time::sleep(away).await;
        }
    };
    tokio::select! {
        () = acts => {}
        () = cancel.cancelled() => {}
    }
}

impl Shape {
    /// Any shape; often the same as before.
    fn any(kind: Kind, before: Option<Self>, chance: &mut Chance) -> Self {
        let mut shape = before.unwrap_or(Self {
            size: SIZES[0],
            gop: FPS,
            audio: true,
        });
        match chance.below(6) {
            0 if kind != Kind::Synthetic => {
                shape.size = SIZES[chance.below(SIZES.len() as u64) as usize];
            }
            1 => shape.audio = !shape.audio,
            2 => shape.gop = [FPS / 2, FPS, 2 * FPS][chance.below(3) as usize],
            _ => {}
        }
        shape
    }
}

impl Actor {
    async fn start(stage: &Stage, name: &str, kind: Kind, shape: Shape) -> anyhow::Result<Self> {
        let url = format!("rtmp://{}/{name}", stage.rtmp);
        let (width, height) = shape.size;
        let mut command = match kind {
            Kind::Synthetic => {
                let signal = Arc::new(Signal::new(Options {
                    bit_rate: 300_000,
                    fps: FPS,
                    gop: shape.gop,
                    audio: shape.audio,
                }));
                let sent = Arc::new(Sent::default());
                let publisher =
                    Publisher::start(stage.rtmp, name, signal, Duration::ZERO, Arc::clone(&sent))
                        .await?;
                return Ok(Self::Inside(publisher, sent));
            }
            Kind::PublishTest => {
                let mut command = Command::new(&stage.lhls);
                command
                    .args(["--log", "error", "publish-test", &url])
                    .args(["--size", &format!("{width}x{height}")])
                    .args(["--fps", &FPS.to_string(), "--bitrate", "300"])
                    .args(["--gop", &format!("{}ms", shape.gop * 1000 / FPS)]);
                if !shape.audio {
                    command.arg("--no-audio");
                }
                command
            }
            Kind::Ffmpeg => {
                let mut command = Command::new("ffmpeg");
                command
                    .args(["-hide_banner", "-v", "fatal", "-nostdin", "-re"])
                    .args(["-f", "lavfi", "-i"])
                    .arg(format!("testsrc2=s={width}x{height}:r={FPS}"));
                if shape.audio {
                    command.args(["-re", "-f", "lavfi", "-i", "sine=f=440:r=48000"]);
                }
                command
                    .args(["-c:v", "libx264", "-preset", "ultrafast", "-threads", "1"])
                    .args([
                        "-tune",
                        "zerolatency",
                        "-pix_fmt",
                        "yuv420p",
                        "-b:v",
                        "300k",
                    ])
                    .args([
                        "-g",
                        &shape.gop.to_string(),
                        "-c:a",
                        "aac",
                        "-f",
                        "flv",
                        &url,
                    ]);
                command
            }
        };
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.get_program()))?;
        Ok(Self::Process(Running(child)))
    }

    /// Lets it publish for so long.
    async fn play(&mut self, plays: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + plays;
        while Instant::now() < until {
            match self {
                Self::Inside(_, sent) if sent.broken.load(Ordering::Relaxed) > 0 => {
                    bail!("the server closed its connection")
                }
                Self::Process(Running(child)) => {
                    if let Some(status) = child.try_wait()? {
                        bail!("ended by itself: {status}");
                    }
                }
                Self::Inside(..) => {}
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// Goes, in some way. What it returns still holds its connection open.
    async fn leave(self, stage: &Stage, ends_stream: bool, chance: &mut Chance) -> Option<Self> {
        let mut way = chance.below(3);
        if ends_stream {
            lock(&stage.counts).long += 1;
            way = 0;
        }
        match (way, self) {
            (1, Self::Inside(publisher, sent)) => {
                sent.paused.store(true, Ordering::Relaxed);
                lock(&stage.counts).half_open += 1;
                Some(Self::Inside(publisher, sent))
            }
            (1, Self::Process(process)) => {
                process.signal("STOP");
                lock(&stage.counts).half_open += 1;
                Some(Self::Process(process))
            }
            (2, Self::Process(mut process)) => {
                process.signal("INT");
                lock(&stage.counts).goodbyes += 1;
                let since = Instant::now();
                while matches!(process.0.try_wait(), Ok(None)) && since.elapsed() < TO_SAY_GOODBYE {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                None
            }
            _ => {
                lock(&stage.counts).killed += 1;
                None
            }
        }
    }
}

impl Running {
    fn signal(&self, name: &str) {
        let _ = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.0.id().to_string())
            .status();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same for all, always: a viewer takes another rate for missing pictures.
const FPS: u32 = 15;
const SIZES: [(u32, u32); 3] = [(320, 180), (426, 240), (256, 144)];
/// Between these, a publisher stays.
const PLAYS: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(45));
/// Between these, it is away: well within the server's reconnect window, also within the third of it after a goodbye.
const SHORT: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(6));
/// Longer than the server's reconnect window.
const LONG: Duration = Duration::from_secs(40);
const LONG_ONE_IN: u64 = 8;
/// From a publisher's start to the stream's being live, on a machine that is busy.
const TO_GO_LIVE: Duration = Duration::from_secs(30);
const TO_SAY_GOODBYE: Duration = Duration::from_secs(5);
