//! The whole way in: RTMP bytes to segments, parts and playlists. Whatever is sent, every segment passes the project's checker of
//! transport streams (decoding times that rise among other things), and playlists keep their rules from one state to the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lhls::hls::names::{Early, Listed};
use lhls::hls::segment::{Segment, State};
use lhls::hls::session::Session;
use lhls::stream::registry::Registry;

use super::publisher::{Connection, RETAIN_BYTES, moment, registry};
use super::script::Script;
use super::wire;
use crate::common::{media_playlist, ts_check};

/// The ring, and what the checkers copy of it.
pub fn memory_bound(_: usize) -> usize {
    96 << 20
}

/// The first byte says how the rest is to be read.
pub fn run(data: &[u8]) {
    let mut script = Script(data);
    match script.byte() {
        mode @ 0..0x40 => raw(script, mode, &[]),
        mode @ 0x40..0x80 => raw(script, mode - 0x40, &wire::until_publish("live", "stream")),
        0x80.. => Encoder::default().play(script),
    }
}

/// Bytes as they are, a few at a time.
fn raw(script: Script<'_>, mode: u8, before: &[u8]) {
    let registry = registry();
    let mut watch = Watch::default();
    let mut connection = Connection::new();
    connection.feed(&registry, before, moment(Duration::ZERO));
    let mut at = Duration::ZERO;
    for piece in script.0.chunks(16 + usize::from(mode).pow(2)) {
        at += Duration::from_millis(u64::from(mode & 7) * 10);
        connection.feed(&registry, piece, moment(at));
        watch.look(&registry);
    }
    connection.close(moment(at));
    watch.end(&registry, at);
}

/// Publishes regular media of some seconds under `live/NAME`.
pub fn publish_some_seconds(registry: &Registry, name: &str, end: bool) {
    let mut encoder = Encoder::default();
    let mut bytes = wire::until_publish("live", name);
    encoder.video_config(&mut bytes, 0);
    encoder.audio_config(&mut bytes, 0);
    let mut connection = Connection::new();
    connection.feed(registry, &bytes, moment(Duration::ZERO));
    for picture in 0..100 {
        let mut bytes = Vec::new();
        encoder.regular_picture(&mut bytes, picture % 15 == 0);
        connection.feed(registry, &bytes, moment(encoder.clock));
    }
    if end {
        connection.close(moment(encoder.clock));
        registry.age(
            Duration::ZERO,
            moment(encoder.clock + Duration::from_secs(60)),
        );
    } else {
        // Else the publication would be ended here.
        std::mem::forget(connection);
    }
}

/// An encoder that does what the script says: regular media in few bytes, and everything irregular that has been met, and worse.
struct Encoder {
    /// Since the start of all, not of the connection.
    clock: Duration,
    video_time: u32,
    audio_time: u32,
    interval: u32,
    audio_frame: f64,
    audio_due: f64,
    composition: i32,
    picture_size: usize,
    chunk_size: usize,
    /// Only well-formed H.264 has been sent, so a decoder could start at every key frame.
    decodable: bool,
    pictures: u32,
    /// Bytes of access units sent.
    media: usize,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            clock: Duration::ZERO,
            video_time: 0,
            audio_time: 0,
            interval: 33,
            audio_frame: 1024.0 / 44.1,
            audio_due: 0.0,
            composition: 0,
            picture_size: 40,
            chunk_size: 128,
            decodable: true,
            pictures: 0,
            media: 0,
        }
    }
}

impl Encoder {
    fn play(mut self, mut script: Script<'_>) {
        let registry = registry();
        let mut watch = Watch::default();
        let mut connection = Connection::new();
        let mut old = Vec::new();
        let mut bytes = wire::until_publish("live", "stream");
        self.video_config(&mut bytes, 0);
        self.audio_config(&mut bytes, 0);
        while !script.is_over() && self.pictures < MOST_PICTURES && self.media < MOST_MEDIA {
            let operation = script.byte();
            let low = u32::from(operation & 15);
            match operation >> 4 {
                0 => {
                    for _ in 0..=low {
                        self.regular_picture(&mut bytes, false);
                        connection.feed(&registry, &std::mem::take(&mut bytes), moment(self.clock));
                        if self.interval > SLOW {
                            watch.look(&registry);
                        }
                    }
                }
                1 => {
                    for picture in 0..=low {
                        self.regular_picture(&mut bytes, picture == 0);
                        if self.interval > SLOW {
                            let bytes = std::mem::take(&mut bytes);
                            connection.feed(&registry, &bytes, moment(self.clock));
                            watch.look(&registry);
                        }
                    }
                }
                2 => {
                    for _ in 0..=low {
                        self.audio(&mut bytes, 40);
                        self.audio_time = self.audio_time.wrapping_add(23);
                        self.clock += Duration::from_millis(23);
                    }
                }
                3 => {
                    let step = i32::from(script.u16().cast_signed());
                    self.composition = i32::from(script.byte().cast_signed()) * 8;
                    self.video_time = self.video_time.wrapping_add_signed(step);
                    self.picture(&mut bytes, low & 1 == 1, usize::from(script.byte()));
                }
                4 => {
                    let step = i32::from(script.u16().cast_signed());
                    self.audio_time = self.audio_time.wrapping_add_signed(step);
                    self.audio(&mut bytes, usize::from(script.byte()) << low);
                }
                5 => self.clock += Duration::from_millis(u64::from(script.u16()) << (low & 3)),
                6 => self.video_config(&mut bytes, low),
                7 => self.audio_config(&mut bytes, low),
                8 => {
                    self.decodable = false;
                    self.message(&mut bytes, 9, self.video_time, script.short());
                }
                9 => self.message(&mut bytes, 8, self.audio_time, script.short()),
                10 => {
                    let time = script.u32();
                    if low & 1 == 0 {
                        self.video_time = time;
                    }
                    if low & 2 == 0 {
                        self.audio_time = time;
                    }
                }
                11 => {
                    if low & 1 == 1 {
                        let goodbye = wire::command("closeStream", 0, &[]);
                        self.message(&mut bytes, 20, 0, &goodbye);
                    }
                    connection.feed(&registry, &std::mem::take(&mut bytes), moment(self.clock));
                    connection.close(moment(self.clock));
                    self.clock += Duration::from_secs(u64::from(low));
                    registry.age(Duration::from_secs(10), moment(self.clock));
                    connection = self.reconnect(&registry, low);
                }
                12 => {
                    let next = self.reconnect(&registry, low);
                    old.push(std::mem::replace(&mut connection, next));
                    if old.len() > 2 {
                        old.remove(0).close(moment(self.clock));
                    }
                }
                13 => {
                    registry.age(Duration::from_secs(10), moment(self.clock));
                    if let Some(before) = old.last_mut() {
                        // It does not know yet that it has been replaced.
                        before.feed(&registry, &std::mem::take(&mut bytes), moment(self.clock));
                    }
                }
                14 => {
                    self.interval = INTERVALS[low as usize];
                    self.picture_size = 40;
                    if low & 1 == 1 {
                        self.picture_size = usize::from(script.byte()).pow(2);
                    }
                }
                _ => {
                    self.decodable = false;
                    bytes.extend_from_slice(script.short());
                }
            }
            connection.feed(&registry, &std::mem::take(&mut bytes), moment(self.clock));
            watch.look(&registry);
        }
        watch.decodable = self.decodable;
        for before in &mut old {
            before.close(moment(self.clock));
        }
        connection.close(moment(self.clock));
        watch.end(&registry, self.clock);
    }

    /// A new connection that publishes the same stream; with a codec configuration for each bit that is not set.
    fn reconnect(&mut self, registry: &Registry, low: u32) -> Connection {
        self.chunk_size = 128;
        let mut bytes = wire::until_publish("live", "stream");
        if low & 2 == 0 {
            self.video_config(&mut bytes, low >> 3);
        }
        if low & 4 == 0 {
            self.audio_config(&mut bytes, low >> 3);
        }
        let mut connection = Connection::new();
        connection.feed(registry, &bytes, moment(self.clock));
        connection
    }

    /// A picture and the sound until the next, at the regular times.
    fn regular_picture(&mut self, bytes: &mut Vec<u8>, key: bool) {
        self.picture(bytes, key, self.picture_size);
        self.video_time = self.video_time.wrapping_add(self.interval);
        self.clock += Duration::from_millis(self.interval.into());
        self.audio_due += f64::from(self.interval.min(1000));
        while self.audio_due > 0.0 {
            self.audio(bytes, 40);
            let before = self.audio_due;
            self.audio_due -= self.audio_frame;
            let step = (before.ceil() - self.audio_due.ceil()) as u32;
            self.audio_time = self.audio_time.wrapping_add(step);
        }
    }

    fn picture(&mut self, bytes: &mut Vec<u8>, key: bool, size: usize) {
        self.pictures += 1;
        let [_, a, b, c] = self.composition.to_be_bytes();
        let mut body = vec![if key { 0x17 } else { 0x27 }, 1, a, b, c];
        let size = size.max(2);
        self.media += size;
        body.extend((size as u32).to_be_bytes());
        // No byte is zero, so nothing in it looks like a start code.
        body.push(if key { 0x65 } else { 0x41 });
        body.resize(body.len() + size - 1, 0x88);
        self.message(bytes, 9, self.video_time, &body);
    }

    fn audio(&mut self, bytes: &mut Vec<u8>, size: usize) {
        self.pictures += 1;
        self.media += size;
        let mut body = vec![0xaf, 1];
        body.resize(2 + size, 0x21);
        self.message(bytes, 8, self.audio_time, &body);
    }

    fn video_config(&mut self, bytes: &mut Vec<u8>, which: u32) {
        let record = RECORDS[which as usize % RECORDS.len()];
        let body = [&[0x17, 0, 0, 0, 0], record].concat();
        self.message(bytes, 9, self.video_time, &body);
    }

    fn audio_config(&mut self, bytes: &mut Vec<u8>, which: u32) {
        let config = AUDIO_CONFIGS[which as usize % AUDIO_CONFIGS.len()];
        let body = [&[0xaf, 0], config].concat();
        self.message(bytes, 8, self.audio_time, &body);
    }

    fn message(&self, bytes: &mut Vec<u8>, kind: u8, time: u32, payload: &[u8]) {
        wire::message(bytes, kind, (kind, 1, time), payload, self.chunk_size);
    }
}

/// What viewers could have seen.
#[derive(Default)]
struct Watch {
    sessions: BTreeMap<String, Seen>,
    decodable: bool,
}

struct Seen {
    session: Arc<Session>,
    segments: Vec<Arc<Segment>>,
    history: Vec<media_playlist::Playlist>,
}

impl Watch {
    fn look(&mut self, registry: &Registry) {
        for stream in registry.list() {
            assert!(
                stream.ring_bytes() <= 2 * RETAIN_BYTES,
                "{} bytes in the ring",
                stream.ring_bytes()
            );
            for session in stream.output().sessions() {
                self.look_at(&session);
            }
        }
    }

    fn look_at(&mut self, session: &Arc<Session>) {
        let playlist = session.media(Early::Usual);
        let seen = self
            .sessions
            .entry(session.id().to_owned())
            .or_insert_with(|| Seen {
                session: Arc::clone(session),
                segments: Vec::new(),
                history: Vec::new(),
            });
        let text = std::str::from_utf8(playlist.plain()).expect("text");
        if seen.history.last().is_some_and(|last| last.text == text) {
            return;
        }
        let playlist = media_playlist::Playlist::parse(text);
        let first = seen
            .segments
            .last()
            .map_or(playlist.media_sequence, |last| last.sequence() + 1);
        for sequence in first..=playlist.last_sequence().unwrap_or(0) {
            let segment = session.segment(sequence).expect("listed, so it is there");
            seen.segments.push(segment);
        }
        seen.history.push(playlist);
        if let [.., before, last] = &seen.history[..] {
            media_playlist::check_history(&[before.clone(), last.clone()]);
        }
        if seen.history.len() > 4 {
            seen.history.remove(0);
        }
        for length in 0..session.part_factors().len() {
            let low_latency = session
                .low_latency(length, Listed::Complete)
                .expect("it is on offer");
            check_parts(std::str::from_utf8(low_latency.plain()).expect("text"));
        }
    }

    fn end(mut self, registry: &Registry, at: Duration) {
        self.look(registry);
        registry.end_all(moment(at));
        self.look(registry);
        for seen in self.sessions.values() {
            assert!(seen.session.ended());
            // The last ones that were announced may have been withdrawn.
            let there = seen
                .segments
                .iter()
                .filter(|segment| segment.state() != State::Withdrawn);
            let blocks: Vec<Vec<u8>> = there
                .map(|segment| {
                    assert_eq!(segment.state(), State::Finished);
                    segment.blocks().concat()
                })
                .collect();
            // Announced entries that a discontinuity passes over hold tables and packets of nothing.
            let segments: Vec<&[u8]> = blocks
                .iter()
                .map(Vec::as_slice)
                .filter(|bytes| {
                    let is_null = |packet: &[u8]| packet[1] & 0x1f == 0x1f && packet[2] == 0xff;
                    !(bytes.len() == 4 * 188 && bytes.chunks(188).skip(2).all(is_null))
                })
                .collect();
            // Asked of the session and not of what was looked at last: one that was replaced may have ended since.
            let last = seen.session.media(Early::Usual);
            let last = std::str::from_utf8(last.plain()).expect("text");
            let independent = last.contains("#EXT-X-INDEPENDENT-SEGMENTS");
            ts_check::check_late(&segments, independent && self.decodable, LATE_MS);
        }
    }
}

/// What a low-latency playlist says of its parts: none longer than PART-TARGET, and all but the last of a segment nearly as long.
fn check_parts(text: &str) {
    let field = |line: &str, name: &str| -> Option<f64> {
        let at = line.find(name)? + name.len();
        let rest = &line[at..];
        let end = rest.find(',').unwrap_or(rest.len());
        rest[..end].parse().ok()
    };
    let target = text
        .lines()
        .find_map(|line| field(line, "PART-TARGET="))
        .expect("PART-TARGET");
    for line in text.lines().filter(|line| line.starts_with("#EXT-X-PART:")) {
        let duration = field(line, "DURATION=").expect("DURATION");
        assert!(
            duration <= target + 0.0005,
            "a part of {duration} s:\n{text}"
        );
    }
}

/// What x264 sends for 640x360 and for 1920x1080, and an `avcC` without parameter sets.
const RECORDS: [&[u8]; 3] = [
    b"\x01\x4d\x40\x1e\xff\xe1\x00\x17\x67\x4d\x40\x1e\xec\xa0\x50\x17\xfc\xb8\x08\x80\x00\x01\xf4\x80\x00\x75\x30\x07\x8b\x16\xcb\x01\
      \x00\x04\x68\xce\x0f\xc8",
    b"\x01\x64\x00\x28\xff\xe1\x00\x1b\x67\x64\x00\x28\xac\xd9\x40\x78\x02\x27\xe5\xc0\x44\x00\x00\x03\x00\x04\x00\x00\x03\x00\xc8\x3c\
      \x60\xc6\x58\x01\x00\x06\x68\xeb\xe3\xcb\x22\xc0\xfd\xf8\xf8\x00",
    b"\x01\x64\x00\x28\xff\xe0\x00",
];
/// AAC-LC at 44.1 and 48 kHz, HE-AAC, nothing.
const AUDIO_CONFIGS: [&[u8]; 4] = [b"\x12\x10", b"\x11\x90", b"\x2b\x92\x08\x00", b""];
/// Milliseconds between pictures.
const INTERVALS: [u32; 16] = [
    33, 33, 40, 40, 17, 16, 67, 100, 200, 500, 1000, 5000, 10_000, 1, 0, 0,
];
/// Milliseconds between pictures from which sixteen of them are more than the ring keeps, so that they have to be looked at one by one.
const SLOW: u32 = 400;
/// Pictures and audio frames of one input.
const MOST_PICTURES: u32 = 2000;
/// The checkers keep all media and copy them a few times, which the memory bound leaves room for.
const MOST_MEDIA: usize = 8 << 20;

/// Sound may come this much after the pictures of its time, or they after it: as much as the timeline lets the two drift apart.
const LATE_MS: i64 = 20_000;
