//! Viewers that follow a live stream: the playlist once, then each growing segment to its end, and the next by its number.
//!
//! Or of its low-latency playlist: each part as soon as it is there, and a blocking reload at each part.
//!
//! The latency of a picture is the time from the publisher's writing it to its socket to the viewer's having read all of the HTTP
//! chunk it came in. Both ends are in this process and on one clock; the server's own clock plays no part.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use memchr::memmem::Finder;
use tokio::task::JoinHandle;

use crate::signal::{self, MARK, Mark};
use crate::stats::Histogram;
use crate::wire::{Body, Connection};

/// What all viewers together have seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Pictures sent before this moment are not counted (nanoseconds since 1970).
    pub from: AtomicU64,
    /// Pictures sent from this moment on are not counted.
    pub until: AtomicU64,
    /// Delivery latency of each picture at each viewer.
    pub latency: Mutex<Histogram>,
    /// The same of key pictures alone: the largest pieces, and the ones that come at the change of segments.
    pub key_latency: Mutex<Histogram>,
    /// Pictures from one key picture to the next; 0 when it is not known.
    pub gop: AtomicU32,
    /// Bytes of bodies.
    pub bytes: AtomicU64,
    /// Requests answered, where viewers count them.
    pub requests: AtomicU64,
    /// Pictures that each viewer has got of those that count; only where this has been made long enough.
    pub delivered: Vec<AtomicU32>,
    /// Delivery latency by time of arrival, in steps of [`STEP`] from `from` on; only where this has been made long enough.
    pub timeline: Vec<Mutex<Histogram>>,
    /// Pictures that came more than [`STALL`] after the one before.
    pub stalls: AtomicU64,
    /// Pictures that are missing or came twice.
    pub misplaced: AtomicU64,
    /// Viewers that are reading pictures.
    pub playing: AtomicUsize,
    /// Answers other than 200, and connections that broke.
    pub errors: AtomicU64,
}

/// A viewer at work; it leaves when dropped.
#[derive(Debug)]
pub struct Viewer(JoinHandle<()>);

/// How a viewer follows a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Segments as they grow.
    Growing,
    /// The same, and the media playlist again at each segment, as players do.
    Reloading,
    /// Parts and blocking reloads, of the multivariant playlist with this name (and query).
    LowLatency(&'static str),
}

impl Viewer {
    /// Starts following `/NAME/playlist.m3u8` or a low-latency playlist. `index` is the viewer's place in [`Seen::delivered`].
    pub fn start(http: SocketAddr, name: &str, way: Way, index: usize, seen: Arc<Seen>) -> Self {
        let name = name.to_owned();
        Self(tokio::spawn(async move {
            loop {
                let ended = match way {
                    Way::LowLatency(file) => follow_parts(http, &name, file, index, &seen).await,
                    _ => follow(http, &name, way, index, &seen).await,
                };
                if ended.is_ok() {
                    return;
                }
                seen.errors.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }))
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The addresses that a stream's playlists lead to.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Path of the media playlist.
    pub playlist: String,
    /// Paths of the segments, oldest first.
    pub segments: Vec<String>,
}

impl Listed {
    /// Reads both playlists.
    pub async fn fetch(connection: &mut Connection, name: &str) -> io::Result<Self> {
        Self::fetch_from(connection, name, "playlist.m3u8").await
    }

    async fn fetch_from(connection: &mut Connection, name: &str, file: &str) -> io::Result<Self> {
        let (status, text) = connection.get_bytes(&format!("/{name}/{file}")).await?;
        let uri = entries(&text).next().filter(|_| status == 200);
        let uri = uri.ok_or(io::ErrorKind::NotFound)?;
        let playlist = format!("/{name}/{uri}");
        let (status, text) = connection.get_bytes(&playlist).await?;
        let segments: Vec<String> = entries(&text).map(|uri| format!("/{name}/{uri}")).collect();
        if status != 200 || segments.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Self { playlist, segments })
    }
}

/// The path of the segment after this one: its number is the last thing in its name.
pub fn next_segment(path: &str) -> Option<String> {
    let (front, file_type) = path.rsplit_once('.')?;
    let digits = front.len() - front.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let (front, number) = front.split_at(front.len() - digits);
    Some(format!(
        "{front}{}.{file_type}",
        number.parse::<u64>().ok()? + 1
    ))
}

async fn follow(
    http: SocketAddr,
    name: &str,
    way: Way,
    index: usize,
    seen: &Seen,
) -> io::Result<()> {
    let mut connection = Connection::open(http).await?;
    let listed = Listed::fetch(&mut connection, name).await?;
    let mut path = listed.segments.first().cloned().unwrap_or_default();
    let finder = Finder::new(MARK);
    let mut watch = Watch::new(seen, index);
    loop {
        let answer = connection
            .get(&path, |body| watch.take(&body, &finder))
            .await?;
        if answer.status != 200 {
            return Err(io::ErrorKind::NotFound.into());
        }
        if way == Way::Reloading && connection.get_bytes(&listed.playlist).await?.0 != 200 {
            return Err(io::ErrorKind::NotFound.into());
        }
        path = next_segment(&path).ok_or(io::ErrorKind::InvalidData)?;
    }
}

/// Each part, and at the same time the playlist as it will be with that part, on a connection each.
async fn follow_parts(
    http: SocketAddr,
    name: &str,
    file: &str,
    index: usize,
    seen: &Seen,
) -> io::Result<()> {
    let mut media = Connection::open(http).await?;
    let mut playlists = Connection::open(http).await?;
    let listed = Listed::fetch_from(&mut playlists, name, file).await?;
    let mut place = Place::read(&playlists.get_bytes(&listed.playlist).await?.1)?;
    // Other servers have a query of their own.
    let joint = if listed.playlist.contains('?') {
        '&'
    } else {
        '?'
    };
    let finder = Finder::new(MARK);
    let mut watch = Watch::new(seen, index);
    watch.newest_only = true;
    loop {
        let part = format!("/{name}/{}", place.hint);
        let reload = format!(
            "{}{joint}_HLS_msn={}&_HLS_part={}",
            listed.playlist, place.sequence, place.part
        );
        let part = media.get(&part, |body| watch.take(&body, &finder));
        let (part, playlist) = tokio::try_join!(part, playlists.get_bytes(&reload))?;
        if part.status != 200 || playlist.0 != 200 {
            return Err(io::ErrorKind::NotFound.into());
        }
        watch.take(&Body::ChunkEnd, &finder);
        seen.requests.fetch_add(2, Ordering::Relaxed);
        let next = Place::read(&playlist.1)?;
        if next.hint == place.hint {
            return Err(malformed(
                "the reload did not have the part that it was for",
            ));
        }
        place = next;
    }
}

/// The end of a low-latency playlist.
#[derive(Debug)]
struct Place {
    /// Name of the part that comes next.
    hint: String,
    /// The segment that grows, and how many parts of it there are.
    sequence: u64,
    part: usize,
}

impl Place {
    fn read(playlist: &[u8]) -> io::Result<Self> {
        let text = std::str::from_utf8(playlist).unwrap_or_default();
        let (mut hint, mut sequence, mut part) = (None, None, 0);
        for line in text.lines() {
            if let Some(first) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
                sequence = first.parse::<u64>().ok();
            } else if line.starts_with("#EXTINF:") {
                (sequence, part) = (sequence.map(|number| number + 1), 0);
            } else if line.starts_with("#EXT-X-PART:") {
                part += 1;
            } else if line.starts_with("#EXT-X-PRELOAD-HINT:") {
                hint = line.split('"').nth(1).map(str::to_owned);
            }
        }
        let (Some(hint), Some(sequence)) = (hint, sequence) else {
            return Err(malformed("a low-latency playlist without its end"));
        };
        Ok(Self {
            hint,
            sequence,
            part,
        })
    }
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// One viewer's eyes.
struct Watch<'a> {
    seen: &'a Seen,
    index: usize,
    /// When it came, nanoseconds since 1970: what was sent before that was not delivered late.
    joined: u64,
    /// Of pictures that come together the newest is timed: the others had to wait for it.
    newest_only: bool,
    /// The end of the bytes before these, in which a mark may have begun.
    tail: Vec<u8>,
    /// Marks of the HTTP chunk being read.
    marks: Vec<Mark>,
    last: Option<(u32, u64)>,
}

impl<'a> Watch<'a> {
    fn new(seen: &'a Seen, index: usize) -> Self {
        Self {
            seen,
            index,
            joined: signal::now(),
            newest_only: false,
            tail: Vec::with_capacity(2 * MARK_SIZE),
            marks: Vec::new(),
            last: None,
        }
    }

    fn take(&mut self, body: &Body<'_>, finder: &Finder<'_>) {
        match body {
            Body::Bytes(bytes) => {
                self.seen
                    .bytes
                    .fetch_add(bytes.len() as u64, Ordering::Relaxed);
                self.find_marks(bytes, finder);
            }
            Body::ChunkEnd if self.marks.is_empty() => {}
            Body::ChunkEnd => self.count_marks(),
        }
    }

    fn find_marks(&mut self, bytes: &[u8], finder: &Finder<'_>) {
        let kept = self.tail.len();
        if kept > 0 {
            // A mark across the border; one that lies in `bytes` alone is not found here, for it would not begin in the tail.
            self.tail
                .extend_from_slice(&bytes[..bytes.len().min(MARK_SIZE - 1)]);
            let across = finder
                .find(&self.tail)
                .filter(|&at| at < kept)
                .and_then(|at| Mark::parse(&self.tail[at + MARK.len()..]));
            self.marks.extend(across);
        }
        let mut position = 0;
        while let Some(at) = finder.find(&bytes[position..]) {
            position += at + MARK.len();
            self.marks.extend(Mark::parse(&bytes[position..]));
        }
        if bytes.len() >= MARK_SIZE {
            self.tail.clear();
            self.tail
                .extend_from_slice(&bytes[bytes.len() - (MARK_SIZE - 1)..]);
        } else {
            let all = [&self.tail[..kept], bytes].concat();
            self.tail.clear();
            self.tail
                .extend_from_slice(&all[all.len().saturating_sub(MARK_SIZE - 1)..]);
        }
    }

    fn count_marks(&mut self) {
        let now = signal::now();
        let from = self.seen.from.load(Ordering::Relaxed);
        let until = self.seen.until.load(Ordering::Relaxed);
        let mut left = self.marks.len();
        for mark in self.marks.drain(..) {
            left -= 1;
            let counts = (from..until).contains(&mark.sent);
            match self.last {
                None => {
                    self.seen.playing.fetch_add(1, Ordering::Relaxed);
                }
                Some((number, at)) if counts => {
                    if mark.number != number + 1 {
                        self.seen.misplaced.fetch_add(1, Ordering::Relaxed);
                    }
                    if now.saturating_sub(at) > STALL.as_nanos() as u64 {
                        self.seen.stalls.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Some(_) => {}
            }
            self.last = Some((mark.number, now));
            if counts {
                let latency = now.saturating_sub(mark.sent);
                let record = |histogram: &Mutex<Histogram>| {
                    let mut histogram = histogram.lock().unwrap_or_else(PoisonError::into_inner);
                    histogram.record(latency);
                };
                if let Some(delivered) = self.seen.delivered.get(self.index) {
                    delivered.fetch_add(1, Ordering::Relaxed);
                }
                if self.newest_only && left > 0 {
                    continue;
                }
                record(&self.seen.latency);
                let step = now.saturating_sub(from) / STEP.as_nanos() as u64;
                if let Some(histogram) = self.seen.timeline.get(step as usize)
                    && mark.sent >= self.joined
                {
                    record(histogram);
                }
                let gop = self.seen.gop.load(Ordering::Relaxed);
                if gop > 0 && mark.number.is_multiple_of(gop) {
                    record(&self.seen.key_latency);
                }
            }
        }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if self.last.is_some() {
            self.seen.playing.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn entries(playlist: &[u8]) -> impl Iterator<Item = &str> {
    std::str::from_utf8(playlist)
        .unwrap_or_default()
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Width of the steps of [`Seen::timeline`].
pub const STEP: Duration = Duration::from_millis(250);
/// A mark and its digits.
const MARK_SIZE: usize = MARK.len() + 24;
/// With less than this in hand a player that is as close as it can be would show a standing picture.
const STALL: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_wherever_reads_are_cut() {
        let mut bytes = Vec::new();
        for number in 0..3 {
            bytes.extend_from_slice(b"some bytes in front of it, ");
            bytes.extend_from_slice(MARK);
            bytes.extend_from_slice(format!("{:016x}{number:08x}", 1000 + number).as_bytes());
            bytes.extend_from_slice(b", and some behind it");
        }
        for step in 1..bytes.len() {
            let seen = Seen::default();
            seen.until.store(u64::MAX, Ordering::Relaxed);
            let finder = Finder::new(MARK);
            let mut watch = Watch::new(&seen, 0);
            for part in bytes.chunks(step) {
                watch.find_marks(part, &finder);
            }
            let numbers: Vec<u32> = watch.marks.iter().map(|mark| mark.number).collect();
            assert_eq!(numbers, [0, 1, 2], "step {step}");
        }
    }

    #[test]
    fn the_place_in_a_low_latency_playlist() {
        let place = Place::read(
            b"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-PART:DURATION=0.1,URI=\"a1.ts\"\n#EXTINF:1,\nb-7.ts\n\
              #EXT-X-PART:DURATION=0.1,URI=\"a2.ts\"\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"a3.ts\"\n",
        )
        .unwrap();
        assert_eq!(
            (place.hint.as_str(), place.sequence, place.part),
            ("a3.ts", 8, 1)
        );
    }

    #[test]
    fn the_next_segment_has_the_next_number() {
        assert_eq!(next_segment("/a/x1-99.ts").as_deref(), Some("/a/x1-100.ts"));
        assert_eq!(next_segment("/a/x.ts"), None);
    }
}
