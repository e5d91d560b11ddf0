//! The list of live streams: a page for people, JSON for programmes.

use std::time::{SystemTime, UNIX_EPOCH};

use hyper::Response;
use hyper::header::{self, HeaderMap};

use super::body::ResponseBody;
use super::player;
use super::response::{Cache, Responder};
use crate::hls::playlist::iso8601;
use crate::media::{AudioConfig, VideoConfig};
use crate::stream::Stream;
use crate::stream::registry::Registry;

/// Whether the client would rather have JSON than a page.
pub(super) fn wants_json(headers: &HeaderMap) -> bool {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    match (accept.find("application/json"), accept.find("text/html")) {
        (Some(json), Some(html)) => json < html,
        (json, _) => json.is_some(),
    }
}

/// The page.
pub(super) fn index(
    registry: &Registry,
    operators: bool,
    headers: &HeaderMap,
    respond: &Responder<'_>,
) -> Response<ResponseBody> {
    let mut rows = String::new();
    for stream in live(registry) {
        let name = stream.name();
        let (codecs, resolution) = described(&stream);
        rows.push_str(&format!(
            "<tr><td><a href=\"{name}/\">{name}</a></td><td>{resolution}</td><td>{codecs}</td><td>{}</td><td><time>{}</time></td>\
             <td><a href=\"{name}/playlist.m3u8\">playlist.m3u8</a></td></tr>\n",
            stream.viewers(),
            iso8601(stream.started()),
        ));
    }
    player::index(&rows, operators, headers, respond)
}

/// The server's clock in milliseconds since 1970, as precise as a page needs to correct its own.
pub(super) fn time(now: SystemTime, respond: &Responder<'_>) -> Response<ResponseBody> {
    let unix = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    respond.full(
        "application/json",
        Cache::Never,
        format!("{{\"unix_ms\":{:.3}}}\n", unix.as_secs_f64() * 1000.0),
    )
}

/// The JSON.
pub(super) fn streams(registry: &Registry, respond: &Responder<'_>) -> Response<ResponseBody> {
    // Names are plain characters and everything else is ours, so nothing needs escaping.
    let entries: Vec<String> = live(registry)
        .map(|stream| {
            let name = stream.name();
            let (codecs, resolution) = described(&stream);
            format!(
                "{{\"name\":\"{name}\",\"player\":\"/{name}/\",\"playlist\":\"/{name}/playlist.m3u8\",\"codecs\":\"{codecs}\",\"resolution\":\"{resolution}\",\
                 \"viewers\":{},\"ring_bytes\":{},\"started\":\"{}\"}}",
                stream.viewers(),
                stream.ring_bytes(),
                iso8601(stream.started()),
            )
        })
        .collect();
    respond.full(
        "application/json",
        Cache::Never,
        format!("{{\"streams\":[{}]}}\n", entries.join(",")),
    )
}

fn live(registry: &Registry) -> impl Iterator<Item = std::sync::Arc<Stream>> {
    registry
        .list()
        .into_iter()
        .filter(|stream| !stream.output().ended() && stream.output().multivariant().is_some())
}

fn described(stream: &Stream) -> (String, String) {
    let tracks = stream.tracks();
    let codecs = tracks
        .video
        .iter()
        .map(VideoConfig::codec_string)
        .chain(tracks.audio.iter().map(AudioConfig::codec_string));
    let resolution = tracks.video.as_ref().map(VideoConfig::resolution);
    (
        codecs.collect::<Vec<_>>().join(","),
        resolution
            .map(|(width, height)| format!("{width}x{height}"))
            .unwrap_or_default(),
    )
}
