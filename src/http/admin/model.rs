//! What the API says of the server, its streams and its connections. The fields are explained in `openapi.json`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Admin;
use crate::hls::playlist::iso8601;
use crate::media::{AudioConfig, VideoConfig};
use crate::metrics::process;
use crate::stream::Stream;
use crate::stream::connections::Connection;
use crate::stream::health::{Second, Snapshot};
use crate::stream::history::Run;
use crate::stream::report::Report;
use crate::time::{Repairs, Ticks};

pub(super) fn server(admin: &Admin<'_>, operator: bool) -> Value {
    let Admin {
        registry,
        metrics,
        about,
        ..
    } = admin;
    let streams = registry.list();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started": iso8601(process::started()),
        "uptime_seconds": process::started().elapsed().unwrap_or_default().as_secs(),
        "draining": about.shutdown.is_cancelled(),
        "rtmp_port": about.rtmp_port,
        "http_port": about.http_port,
        "streams": streams.len(),
        "publishers": metrics.publishers.get(),
        "viewers": streams.iter().map(|stream| stream.viewers()).sum::<usize>(),
        "http_connections": metrics.http_connections.get(),
        "sent_bytes": metrics.http_bytes.get(),
        "received_bytes": metrics.rtmp_bytes.get(),
        "ring_bytes": streams.iter().map(|stream| stream.ring_bytes()).sum::<u64>(),
        "resident_bytes": process::resident_bytes(),
        "cpu_seconds": process::cpu_seconds(),
        "panics": metrics.panics.get(),
        "operator": operator,
        "own_port": admin.own_port,
    })
}

pub(super) fn stream(stream: &Stream, now: Instant) -> Value {
    let report = stream.report(now);
    let snapshot = &report.snapshot;
    let name = stream.name().as_str();
    let (video, audio) = snapshot.bit_rates;
    json!({
        "name": name,
        "state": report.state.as_str(),
        "started": iso8601(stream.started()),
        "player": format!("/{name}/"),
        "playlist": format!("/{name}/playlist.m3u8"),
        "viewers": stream.viewers(),
        "bits_per_second": (video + audio).round() as u64,
        "video": report.tracks.video.as_ref().map(|config| self::video(config, snapshot)),
        "audio": report.tracks.audio.as_ref().map(|config| self::audio(config, snapshot)),
        "gop": gop(&report),
        "delivery_ms": snapshot.delivery.map(millis),
        "upload_delay_ms": millis(snapshot.late),
        "ring": ring(stream),
        "publisher": publisher(&report),
        "runs": report.runs.iter().rev().map(run).collect::<Vec<_>>(),
        "warnings": report.warnings().iter().map(|warning| json!({
            "code": warning.code,
            "severity": warning.severity.as_str(),
            "text": warning.text,
            "obs": warning.obs,
        })).collect::<Vec<_>>(),
        "history": history(&snapshot.history),
    })
}

pub(super) fn connection(connection: &Connection) -> Value {
    let doing = connection.doing();
    json!({
        "id": connection.id(),
        "role": connection.role().as_str(),
        "stream": doing.stream.as_ref().map(|name| name.as_str()),
        "address": connection.peer().to_string(),
        "agent": doing.agent,
        "since": iso8601(connection.since()),
        "bytes": connection.bytes(),
    })
}

fn video(config: &VideoConfig, snapshot: &Snapshot) -> Value {
    let (width, height) = config.resolution();
    let VideoConfig::H264(h264) = config;
    json!({
        "codec": config.codec_string(),
        "width": width,
        "height": height,
        "sampling": h264.sampling().map(|sampling| sampling.to_string()),
        "bits_per_second": snapshot.bit_rates.0.round() as u64,
        "frames_per_second": round(snapshot.frame_rate),
        "b_frames": snapshot.reordered,
    })
}

fn audio(config: &AudioConfig, snapshot: &Snapshot) -> Value {
    let channels = match config {
        AudioConfig::Aac(aac) => aac.channels,
        AudioConfig::Mp3(mp3) => mp3.channels,
    };
    json!({
        "codec": config.codec_string(),
        "sample_rate": config.frame().1,
        "channels": channels,
        "bits_per_second": snapshot.bit_rates.1.round() as u64,
    })
}

fn gop(report: &Report) -> Value {
    let snapshot = &report.snapshot;
    json!({
        "seconds": snapshot.gop.map(|gop| round(gop.as_secs_f64())),
        "pictures": snapshot.gop.map(|_| snapshot.gop_pictures),
        "longest_seconds": snapshot.longest_gop.map(|gop| round(gop.as_secs_f64())),
        "wanted_seconds": report.segment_duration.as_secs_f64(),
    })
}

fn ring(stream: &Stream) -> Value {
    let sessions = stream.output().sessions();
    let window = |session: &crate::hls::session::Session| {
        let kept = session.kept();
        json!({
            "target_duration": session.target_duration(),
            "first_sequence": kept.first,
            "segments": kept.segments,
            "seconds": round(kept.duration.as_secs_f64()),
            "bytes": session.bytes(),
        })
    };
    json!({
        "bytes": stream.ring_bytes(),
        "sessions": sessions.iter().map(|session| window(session)).collect::<Vec<_>>(),
    })
}

fn publisher(report: &Report) -> Option<Value> {
    let run = report
        .runs
        .last()
        .filter(|_| report.state.is_publishing())?;
    Some(json!({
        "connection": run.connection,
        "encoder": run.encoder,
        "since": iso8601(run.started),
    }))
}

fn run(run: &Run) -> Value {
    json!({
        "number": run.number,
        "entrance": run.entrance.as_str(),
        "started": iso8601(run.started),
        "ended": run.ended.map(|(at, _)| iso8601(at)),
        "reason": run.ended.map(|(_, reason)| reason.as_str()),
        "encoder": run.encoder,
        "repairs": repairs(&run.repairs),
    })
}

fn repairs(repairs: &Repairs) -> Value {
    json!({
        "audio_gap": repairs.audio_gaps,
        "jump_ahead": repairs.jumps_ahead,
        "jump_back": repairs.jumps_back,
        "negative_composition": repairs.negative_composition,
        "not_rising": repairs.not_rising,
        "skew": repairs.skew,
        "stalled": repairs.stalled,
    })
}

/// One number a second, oldest first; null where there was nothing to measure.
fn history(seconds: &[Second]) -> Value {
    let series = |read: &dyn Fn(&Second) -> Value| seconds.iter().map(read).collect::<Vec<Value>>();
    json!({
        "bits_per_second": series(&|second| {
            (8 * (u64::from(second.video_bytes) + u64::from(second.audio_bytes))).into()
        }),
        "frames_per_second": series(&|second| second.pictures.into()),
        "gop_seconds": series(&|second| {
            (second.gop > Ticks::ZERO).then(|| round(second.gop.as_seconds_f64())).into()
        }),
        "upload_delay_ms": series(&|second| millis(second.late.as_duration()).into()),
        "delivery_ms": series(&|second| {
            let (pieces, micros) = second.delivered;
            (pieces > 0).then(|| round(micros as f64 / pieces as f64 / 1000.0)).into()
        }),
    })
}

fn millis(duration: Duration) -> f64 {
    round(duration.as_secs_f64() * 1000.0)
}

/// To a thousandth: what is behind that is noise.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
