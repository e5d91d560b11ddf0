//! The viewers' side: playlists as text, and one piece's way to all who wait for it (without sockets).

#![allow(
    clippy::unwrap_used,
    reason = "a benchmark that cannot run should stop"
)]

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use http_body::Body;
use lhls::hls::playlist::{
    LowLatency, Media, MediaPart, MediaSegment, Multivariant, Rendered, Variant,
};
use lhls::hls::segment::{Piece, Segment};
use lhls::http::body::ResponseBody;
use lhls::http::meter::Meter;
use lhls::metrics::Metrics;
use lhls::stream::subscribers::Subscribers;
use tokio::runtime::Runtime;

fn main() {
    divan::main();
}

/// Two finished entries, the growing one and three announced ones.
#[divan::bench]
fn playlist_early() -> String {
    early().render()
}

#[divan::bench]
fn playlist_prefetch() -> String {
    early().render_prefetch()
}

/// Six segments with fifteen parts each: what is rendered for every part.
#[divan::bench]
fn playlist_low_latency(bencher: Bencher<'_, '_>) {
    let parts = (0..15).map(|n| MediaPart {
        uri: format!("lq3k2v0x-p1-{}.ts", 1_500_000_000 + n),
        duration: Duration::from_nanos(66_666_667),
        independent: n == 0,
    });
    let playlist = LowLatency {
        target_duration: 1,
        part_target: Duration::from_millis(67),
        discontinuity_sequence: 0,
        media_sequence: 100_000_000,
        segments: (0..6)
            .map(|n| (entry(n), parts.clone().collect()))
            .collect(),
        hint: Some("lq3k2v0x-p1-1500000015.ts".to_owned()),
    };
    bencher.bench(|| playlist.render());
}

#[divan::bench]
fn playlist_gzip(bencher: Bencher<'_, '_>) {
    bencher
        .with_inputs(|| Rendered::new(early().render()))
        .bench_refs(|rendered| rendered.gzip().len());
}

#[divan::bench]
fn playlist_multivariant() -> String {
    let variant = Variant {
        uri: "lq3k2v0x.m3u8".to_owned(),
        bandwidth: 2_700_000,
        average_bandwidth: 2_500_000,
        codecs: vec!["avc1.64001f".to_owned(), "mp4a.40.2".to_owned()],
        resolution: Some((1280, 720)),
        frame_rate: Some(30.0),
    };
    Multivariant {
        variants: vec![variant],
    }
    .render(true)
}

/// Tasks that wait for an event; measured is the publish call alone: how long the publisher is held up.
#[divan::bench(args = [1, 100, 1000, 10_000], sample_count = 20, sample_size = 1)]
fn wake_all(bencher: Bencher<'_, '_>, viewers: usize) {
    let runtime = runtime();
    let subscribers = Subscribers::default();
    let (round, woken) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for _ in 0..viewers {
        let (subscribers, round, woken) =
            (subscribers.clone(), Arc::clone(&round), Arc::clone(&woken));
        runtime.spawn(async move {
            let subscription = subscribers.subscribe();
            let mut seen = 0;
            poll_fn::<(), _>(|context| {
                subscription.register(context);
                let now = round.load(Ordering::Acquire);
                if now > seen {
                    seen = now;
                    woken.fetch_add(1, Ordering::Release);
                }
                std::task::Poll::Pending
            })
            .await;
        });
    }
    settle(&runtime);
    bencher
        .counter(ItemsCount::new(viewers))
        .with_inputs(|| {
            settle(&runtime);
            round.fetch_add(1, Ordering::Release);
        })
        .bench_local_values(|()| subscribers.wake_all());
    settle(&runtime);
    assert!(woken.load(Ordering::Acquire) >= viewers);
}

/// From the append to the moment when every viewer's body has yielded the piece; one thread does both.
#[divan::bench(args = [1, 100, 1000, 10_000], sample_count = 20, sample_size = 1)]
fn piece_to_bodies(bencher: Bencher<'_, '_>, viewers: usize) {
    let runtime = runtime();
    let segment = Arc::new(Segment::pending(1));
    let meter = Arc::new(Meter::new(Arc::new(Metrics::new())));
    let yielded = Arc::new(AtomicUsize::new(0));
    for _ in 0..viewers {
        let mut body = ResponseBody::growing(Arc::clone(&segment), Arc::clone(&meter));
        let yielded = Arc::clone(&yielded);
        runtime.spawn(async move {
            loop {
                let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
                if black_box(frame).is_none() {
                    return;
                }
                yielded.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    settle(&runtime);
    let bytes = Bytes::from(vec![0x47; 6204]);
    let mut target = 0;
    bencher.counter(ItemsCount::new(viewers)).bench_local(|| {
        segment.append(Piece {
            bytes: bytes.clone(),
            published: Instant::now(),
        });
        target += viewers;
        runtime.block_on(async {
            while yielded.load(Ordering::Relaxed) < target {
                tokio::task::yield_now().await;
            }
        });
    });
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
}

/// Lets every task run until it waits.
fn settle(runtime: &Runtime) {
    runtime.block_on(async {
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
    });
}

fn early() -> Media {
    Media {
        target_duration: 1,
        discontinuity_sequence: 0,
        independent_segments: true,
        media_sequence: 100_000_000,
        segments: (0..6).map(entry).collect(),
        unfinished: 4,
        ended: false,
    }
}

fn entry(n: u64) -> MediaSegment {
    MediaSegment {
        uri: format!("lq3k2v0x-{}.ts", 100_000_000 + n),
        duration: Duration::from_secs(1),
        date: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600 + n)),
        discontinuity: false,
        gap: false,
    }
}
