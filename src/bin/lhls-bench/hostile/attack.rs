//! Viewers that mean no good, or cannot do better: what `slowhttptest` does not do.
//!
//! They run in a process of their own, so that their work is not taken for the good viewers' latency, and come from another loopback
//! address. Whoever is thrown out comes again after a moment. They stop by themselves.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep;

use crate::view::{Listed, next_segment};
use crate::wire::{Connection, loopback};

/// What an attacker is told.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// What it does.
    #[arg(value_enum)]
    pub kind: Kind,
    /// The server's port for viewers.
    #[arg(long)]
    pub http: SocketAddr,
    /// A stream that is live there.
    #[arg(long, default_value = "live/good")]
    pub stream: String,
    /// At the same time.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=12_000))]
    pub connections: u64,
    /// For how long.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
}

/// Ways to be a nuisance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Connects and says nothing.
    Idle,
    /// Asks for something small once, and then keeps the connection.
    Kept,
    /// Reads a kilobyte a second of a stream that has 200 times as much.
    Trickle,
    /// Asks for segments, reads nothing, and does not close.
    Deaf,
    /// Sends 500 requests ahead, every other second.
    Pipeline,
    /// Asks for the segment that comes next, on all connections at once, and then for the one after it.
    Burst,
    /// Asks for a waiting answer, hangs up, and does so again at once.
    Flighty,
}

/// Attacks until the time is over.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let lost = Arc::new(AtomicU64::new(0));
    let mut connection = Connection::open(options.http).await?;
    let newest = Listed::fetch(&mut connection, &options.stream)
        .await?
        .segments
        .pop()
        .unwrap_or_default();
    drop(connection);
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..options.connections {
        let (options, lost, newest) = (options.clone(), Arc::clone(&lost), newest.clone());
        tasks.spawn(async move {
            while Instant::now() < end {
                let _ = one(&options, &newest, end).await;
                lost.fetch_add(1, Ordering::Relaxed);
                sleep(COME_BACK).await;
            }
        });
        // Not all in one moment, or the kernel's queue of new connections would be what is tested.
        if index % 100 == 99 {
            sleep(Duration::from_millis(20)).await;
        }
    }
    let _ = tokio::time::timeout_at(end.into(), async {
        while tasks.join_next().await.is_some() {}
    })
    .await;
    println!(
        "connections that were closed: {}",
        lost.load(Ordering::Relaxed)
    );
    Ok(())
}

/// One connection, until it is closed or the time is over.
async fn one(options: &Options, newest: &str, end: Instant) -> io::Result<()> {
    let mut socket = open(options.http, options.kind).await?;
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    match options.kind {
        Kind::Idle => wait_for_close(&mut socket).await,
        Kind::Kept => {
            socket.write_all(request("/healthz").as_bytes()).await?;
            wait_for_close(&mut socket).await
        }
        Kind::Trickle => {
            let mut path = newest.to_owned();
            let mut requests = String::new();
            for _ in 0..4 {
                requests.push_str(&request(&path));
                path = next_segment(&path).unwrap_or_default();
            }
            socket.write_all(requests.as_bytes()).await?;
            let mut some = [0; 1000];
            while Instant::now() < end && socket.read(&mut some).await? > 0 {
                sleep(Duration::from_secs(1)).await;
            }
            Ok(())
        }
        Kind::Deaf => {
            let mut path = newest.to_owned();
            for _ in 0..8 {
                socket.write_all(request(&path).as_bytes()).await?;
                path = next_segment(&path).unwrap_or_default();
            }
            // Only an error tells that the server has gone: its bytes are never read.
            loop {
                sleep(Duration::from_secs(1)).await;
                socket.write_all(b"G").await?;
            }
        }
        Kind::Pipeline => {
            let playlist = format!("/{}/playlist.m3u8", options.stream);
            let ahead = request(&playlist).repeat(500);
            let (mut read, mut write) = socket.split();
            let writing = async {
                loop {
                    write.write_all(ahead.as_bytes()).await?;
                    sleep(Duration::from_secs(2)).await;
                }
            };
            let reading = async {
                let mut some = vec![0; 16 * 1024];
                while read.read(&mut some).await? > 0 {}
                Ok(())
            };
            tokio::select! {
                result = writing => result,
                result = reading => result,
            }
        }
        Kind::Burst => {
            drop(socket);
            let mut connection = Connection::open(options.http).await?;
            let listed = Listed::fetch(&mut connection, &options.stream).await?;
            let mut path = listed.segments.last().cloned().unwrap_or_default();
            while Instant::now() < end {
                if connection.get(&path, |_| ()).await?.status != 200 {
                    return Err(io::ErrorKind::NotFound.into());
                }
                path = next_segment(&path).unwrap_or_default();
            }
            Ok(())
        }
        Kind::Flighty => {
            while Instant::now() < end {
                let mut socket = open(options.http, options.kind).await?;
                socket.write_all(request(newest).as_bytes()).await?;
                let mut some = [0; 100];
                let _ = socket.read(&mut some).await?;
            }
            Ok(())
        }
    }
}

async fn open(http: SocketAddr, kind: Kind) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if matches!(kind, Kind::Trickle | Kind::Deaf) {
        // A window that the server fills at once.
        socket.set_recv_buffer_size(4096)?;
    }
    socket.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into())?;
    socket.connect(loopback(http)?).await
}

async fn wait_for_close(socket: &mut TcpStream) -> io::Result<()> {
    let mut some = [0; 512];
    while socket.read(&mut some).await? > 0 {}
    Ok(())
}

/// Who is thrown out tries again after this.
const COME_BACK: Duration = Duration::from_millis(500);
