//! The publisher's side, function by function: chunk reader, FLV demuxer, TS muxer, and the whole path from bytes to pieces in the
//! ring. Throughput is that of the bytes that go in.

#![allow(
    clippy::unwrap_used,
    reason = "a benchmark that cannot run should stop"
)]

#[path = "../src/bin/lhls-bench/signal.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "shared with the load generator, which uses all of it"
)]
mod signal;

use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use lhls::flv::{Demuxer, Event};
use lhls::hls::Now;
use lhls::hls::packager::Settings;
use lhls::media::{AccessUnit, Payload, Track, Tracks};
use lhls::rtmp::chunk::{ChunkReader, kind};
use lhls::stream::Reconnect;
use lhls::stream::name::StreamName;
use lhls::stream::registry::{Policy, Registry};
use lhls::time::Ticks;
use lhls::ts::Muxer;
use rml_rtmp::chunk_io::ChunkSerializer;
use rml_rtmp::messages::MessagePayload;
use rml_rtmp::time::RtmpTimestamp;
use signal::{Options, Signal};

fn main() {
    divan::main();
}

/// A second of 2.5 Mb/s and sound, as messages in the order in which a publisher sends them.
#[divan::bench(args = [128, 4096, 65536])]
fn chunk_reader(bencher: Bencher<'_, '_>, chunk_size: u32) {
    let bytes = serialized(&second(0), chunk_size);
    bencher
        .counter(BytesCount::new(bytes.len()))
        .with_inputs(|| BytesMut::from(&bytes[..]))
        .bench_values(|mut input| {
            let mut reader = ChunkReader::new();
            while let Some(message) = reader.read(&mut input).unwrap() {
                black_box(message);
            }
        });
}

#[divan::bench]
fn flv_demuxer(bencher: Bencher<'_, '_>) {
    let messages = second(0);
    let size: usize = messages.iter().map(|(_, _, payload)| payload.len()).sum();
    bencher.counter(BytesCount::new(size)).bench_local(|| {
        let (mut demuxer, mut events) = (Demuxer::new(), Vec::new());
        for (kind, timestamp, payload) in &messages {
            demux(
                &mut demuxer,
                *kind,
                *timestamp,
                payload.clone(),
                &mut events,
            );
            black_box(&events);
            events.clear();
        }
    });
}

/// Pictures of so many bytes.
#[divan::bench(args = [5_000, 50_000])]
fn muxer_video(bencher: Bencher<'_, '_>, size: u32) {
    mux(bencher, Track::Video, size);
}

#[divan::bench]
fn muxer_audio_345_bytes(bencher: Bencher<'_, '_>) {
    mux(bencher, Track::Audio, 0);
}

/// Everything between the socket and the ring: the input is read in blocks of 16 kB, as from a busy socket.
#[divan::bench(args = [128, 4096, 65536])]
fn bytes_to_pieces(bencher: Bencher<'_, '_>, chunk_size: u32) {
    // A whole number of groups of pictures, repeated with running time.
    let seconds: Vec<Bytes> = (0..60)
        .map(|n| serialized(&second(n), chunk_size))
        .collect();
    let policy = Policy {
        packager: Settings {
            segment_duration: Duration::from_secs(1),
            part_duration: Duration::from_millis(67),
            target_duration: None,
            announce: None,
            retain: Duration::from_secs(20),
            retain_bytes: 64 << 20,
        },
        max_streams: 1,
        take_over: false,
        reconnect: Reconnect {
            after_loss: Duration::ZERO,
            after_goodbye: Duration::ZERO,
        },
    };
    let (instant, wall) = (Instant::now(), SystemTime::now());
    bencher
        .counter(BytesCount::new(
            seconds.iter().map(Bytes::len).sum::<usize>(),
        ))
        .bench_local(|| {
            let registry = Registry::new(policy.clone());
            let name = StreamName::new("bench", "stream").unwrap();
            let after = |seconds: usize| Now {
                instant: instant + Duration::from_secs(seconds as u64),
                wall: wall + Duration::from_secs(seconds as u64),
            };
            let mut publication = registry.publish(name, after(0)).unwrap();
            let (mut demuxer, mut events) = (Demuxer::new(), Vec::new());
            let mut input = BytesMut::with_capacity(READ_BUFFER);
            for (elapsed, bytes) in seconds.iter().enumerate() {
                // Every second is written by a fresh serializer, and so read by a fresh reader.
                let mut reader = ChunkReader::new();
                for block in bytes.chunks(16 * 1024) {
                    input.reserve(READ_BUFFER / 2);
                    input.extend_from_slice(block);
                    while let Some(message) = reader.read(&mut input).unwrap() {
                        demux(
                            &mut demuxer,
                            message.kind,
                            message.timestamp,
                            message.payload,
                            &mut events,
                        );
                    }
                    publication.push(events.drain(..), after(elapsed));
                }
            }
            publication.push([], after(seconds.len())).0.pieces
        });
}

fn mux(bencher: Bencher<'_, '_>, track: Track, size: u32) {
    let signal = Signal::new(Options {
        bit_rate: size * 8 * 30,
        fps: 30,
        gop: 1,
        audio: true,
    });
    let (mut demuxer, mut events) = (Demuxer::new(), Vec::new());
    demux(
        &mut demuxer,
        kind::VIDEO,
        0,
        signal.video_header(),
        &mut events,
    );
    demux(
        &mut demuxer,
        kind::AUDIO,
        0,
        signal.audio_header(),
        &mut events,
    );
    match track {
        Track::Video => {
            // The size asked for is that of one picture, which here is that of a whole group.
            demux(
                &mut demuxer,
                kind::VIDEO,
                0,
                signal.picture(1, 0),
                &mut events,
            );
            demux(
                &mut demuxer,
                kind::VIDEO,
                0,
                signal.picture(0, 0),
                &mut events,
            );
        }
        Track::Audio => demux(
            &mut demuxer,
            kind::AUDIO,
            0,
            signal.audio_frame(),
            &mut events,
        ),
    }
    let mut tracks = Tracks::default();
    let mut unit = None;
    for event in events {
        match event {
            Event::Video(config) => tracks.video = Some(config),
            Event::Audio(config) => tracks.audio = Some(config),
            Event::Frame(frame) => {
                unit = Some(AccessUnit {
                    track: frame.track,
                    dts: Ticks::from_millis(1000),
                    pts: Ticks::from_millis(1000),
                    key: false,
                    payload: frame.payload,
                });
            }
        }
    }
    let unit = unit.unwrap();
    let length = match &unit.payload {
        Payload::H264(units) => units.iter().map(<[u8]>::len).sum(),
        Payload::Aac(frame) | Payload::Mp3(frame) => frame.len(),
    };
    let mut muxer = Muxer::new();
    muxer.set_tracks(tracks);
    let mut out = Vec::new();
    bencher.counter(BytesCount::new(length)).bench_local(|| {
        out.clear();
        muxer.write(&unit, false, &mut out).unwrap();
        black_box(&out);
    });
}

fn demux(demuxer: &mut Demuxer, kind: u8, timestamp: u32, payload: Bytes, out: &mut Vec<Event>) {
    match kind {
        kind::VIDEO => demuxer.video(timestamp, payload, out).unwrap(),
        _ => demuxer.audio(timestamp, payload, out).unwrap(),
    }
}

/// The messages of second `number` of a stream of 2.5 Mb/s: type, timestamp, payload.
fn second(number: u32) -> Vec<(u8, u32, Bytes)> {
    let signal = Signal::new(Options {
        bit_rate: 2_500_000,
        fps: 30,
        gop: 30,
        audio: true,
    });
    let mut messages = Vec::new();
    if number == 0 {
        messages.push((kind::VIDEO, 0, signal.video_header()));
        messages.push((kind::AUDIO, 0, signal.audio_header()));
    }
    let start = number * 1000;
    let pictures = (number * 30..(number + 1) * 30).map(|index| {
        let time = signal.picture_time(index).as_millis() as u32;
        (kind::VIDEO, time, signal.picture(index, 0))
    });
    let sounds = (0..)
        .map(|index| (signal.audio_time(index).as_millis() as u32, index))
        .skip_while(|&(time, _)| time < start)
        .take_while(|&(time, _)| time < start + 1000)
        .map(|(time, _)| (kind::AUDIO, time, signal.audio_frame()));
    messages.extend(pictures.chain(sounds));
    messages.sort_by_key(|&(_, time, _)| time);
    messages
}

fn serialized(messages: &[(u8, u32, Bytes)], chunk_size: u32) -> Bytes {
    let mut serializer = ChunkSerializer::new();
    let mut bytes = BytesMut::new();
    let announcement = serializer
        .set_max_chunk_size(chunk_size, RtmpTimestamp::new(0))
        .unwrap();
    bytes.extend_from_slice(&announcement.bytes);
    for (kind, timestamp, payload) in messages {
        let message = MessagePayload {
            timestamp: RtmpTimestamp::new(*timestamp),
            type_id: *kind,
            message_stream_id: 1,
            data: payload.clone(),
        };
        let packet = serializer.serialize(&message, false, false).unwrap();
        bytes.extend_from_slice(&packet.bytes);
    }
    bytes.freeze()
}

/// As in the server.
const READ_BUFFER: usize = 64 * 1024;
