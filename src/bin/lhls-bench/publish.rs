//! Publishers: the synthetic stream in real time over RTMP, any number of them.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::BytesMut;
use lhls::rtmp::client::{Client, Event};
use lhls::rtmp::url::Url;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use crate::signal::{self, Signal};
use crate::stats::Histogram;
use crate::wire::loopback;

/// What all publishers together have done.
#[derive(Debug, Default)]
pub struct Sent {
    /// How long after its time each message was taken by the socket, nanoseconds: the generator's own lateness, and the server's if
    /// it does not read.
    pub lateness: Mutex<Histogram>,
    /// Bytes, RTMP's own included.
    pub bytes: AtomicU64,
    /// Connections that broke.
    pub broken: AtomicU64,
    /// Publishers hold still while this is set; their connections stay.
    pub paused: AtomicBool,
}

/// A publisher at work; it stops, in good order, when dropped.
#[derive(Debug)]
pub struct Publisher {
    task: JoinHandle<()>,
    /// Nanoseconds since 1970 at which it began to connect, and at which it sent its first picture.
    pub began: (u64, u64),
}

impl Publisher {
    /// Connects, is accepted, and sends in the background from then on. `phase` shifts its pictures against those of others.
    pub async fn start(
        rtmp: SocketAddr,
        name: &str,
        signal: Arc<Signal>,
        phase: Duration,
        sent: Arc<Sent>,
    ) -> anyhow::Result<Self> {
        let began = signal::now();
        let url: Url = format!("rtmp://{rtmp}/{name}").parse()?;
        let mut socket = TcpStream::connect(loopback(rtmp)?).await?;
        socket.set_nodelay(true)?;
        let mut client = Client::new(&url)?;
        let accepted = accept(&mut socket, &mut client);
        timeout(Duration::from_secs(20), accepted)
            .await
            .context("the server did not accept the stream")??;
        client.video(0, signal.video_header())?;
        if signal.options().audio {
            client.audio(0, signal.audio_header())?;
        }
        let start = Instant::now() + phase;
        let first = signal::now() + phase.as_nanos() as u64;
        let task = tokio::spawn(async move {
            if run(socket, client, &signal, start, &sent).await.is_err() {
                sent.broken.fetch_add(1, Ordering::Relaxed);
            }
        });
        Ok(Self {
            task,
            began: (began, first),
        })
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(socket: &mut TcpStream, client: &mut Client) -> anyhow::Result<()> {
    let mut input = BytesMut::new();
    loop {
        socket.write_all(&client.take_output()).await?;
        if socket.read_buf(&mut input).await? == 0 {
            bail!("the server closed the connection");
        }
        client.handle_input(&mut input)?;
        match client.poll_event() {
            Some(Event::Ready) => return Ok(()),
            Some(other) => bail!("{other:?}"),
            None => {}
        }
    }
}

async fn run(
    mut socket: TcpStream,
    mut client: Client,
    signal: &Signal,
    start: Instant,
    sent: &Sent,
) -> anyhow::Result<()> {
    let (mut picture, mut sound) = (0, 0);
    let mut input = BytesMut::new();
    // What was not sent during a pause is never sent: the clock of the stream stands still with it.
    let mut start = start;
    loop {
        let (at_picture, at_sound) = (signal.picture_time(picture), signal.audio_time(sound));
        let is_sound = signal.options().audio && at_sound <= at_picture;
        let at = if is_sound { at_sound } else { at_picture };
        sleep_until(start + at).await;
        while sent.paused.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            start = Instant::now() - at;
        }
        let timestamp = at.as_millis() as u32;
        if is_sound {
            client.audio(timestamp, signal.audio_frame())?;
            sound += 1;
        } else {
            client.video(timestamp, signal.picture(picture, signal::now()))?;
            picture += 1;
        }
        let output = client.take_output();
        socket.write_all(&output).await?;
        sent.bytes.fetch_add(output.len() as u64, Ordering::Relaxed);
        let late = (start + at).elapsed().as_nanos() as u64;
        sent.lateness
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .record(late);
        // Acknowledgements and pings; nobody waits for them.
        match socket.try_read_buf(&mut input) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(_) => client.handle_input(&mut input)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}
