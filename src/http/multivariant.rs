//! Multivariant playlists: waited for until a stream can be played, and led to what suits the player.

use std::time::Duration;

use hyper::{Response, StatusCode};

use super::body::ResponseBody;
use super::response::{self, Cache, Responder};
use super::target::Form;
use super::{Asked, playlist_response};
use crate::hls::names::short_name;
use crate::hls::playlist;
use crate::stream::Stream;

/// The multivariant playlist, waited for while a stream that has begun is not yet playable.
pub(super) async fn answer(
    stream: &Stream,
    form: Form,
    opening: Option<Duration>,
    asked: Asked<'_>,
    respond: &Responder<'_>,
) -> Response<ResponseBody> {
    let output = stream.output();
    let ready = output.updates().wait_for(|| {
        let forms = output.multivariant();
        (forms.is_some() || output.ended()).then_some(forms)
    });
    let forms = match tokio::time::timeout(START_WAIT, ready).await {
        Ok(Some(forms)) => forms,
        Ok(None) => {
            return respond.error(
                StatusCode::NOT_FOUND,
                "the stream ended before it could be played",
            );
        }
        Err(_) => {
            return respond.retry_later(
                "the publisher is connected but has sent nothing that can be played yet",
            );
        }
    };
    let rendered = match form {
        Form::Early => forms.early.get(asked.early().index()),
        Form::Prefetch => Some(&forms.prefetch),
        Form::LowLatency(wanted) => forms.low_latency(wanted, asked.listed()),
    };
    let Some(rendered) = rendered else {
        return respond.error(StatusCode::NOT_FOUND, "this stream has no parts");
    };
    let up = asked
        .entry_token
        .map(|token| up_to(stream.name().as_str(), token))
        .unwrap_or_default();
    if let Some((target_duration, from)) = opening.and_then(|opening| output.short_entry(opening)) {
        let uri = format!("{up}{}?from={from}\n", short_name(target_duration));
        let text = with_uris(rendered.plain(), |_| uri.clone());
        return respond.full(playlist::CONTENT_TYPE, Cache::Never, text);
    }
    if !up.is_empty() {
        let text = with_uris(rendered.plain(), |uri| format!("{up}{uri}"));
        return respond.full(playlist::CONTENT_TYPE, Cache::Never, text);
    }
    let mut response = playlist_response(rendered, MULTIVARIANT, asked.headers, respond);
    if form != Form::Prefetch {
        response::vary(&mut response, "Sec-Fetch-Dest, User-Agent");
    }
    response
}

/// From a stream's entrance to what carries the token in its path, as all below that then does.
fn up_to(name: &str, token: &str) -> String {
    let up = "../".repeat(name.matches('/').count() + 1);
    format!("{up}@{token}/{name}/")
}

/// A multivariant playlist with other URIs. They are given with the end of their line.
fn with_uris(playlist: &[u8], uri: impl Fn(&str) -> String) -> String {
    let text = String::from_utf8_lossy(playlist);
    let lines = text.split_inclusive('\n').map(|line| {
        if line.starts_with('#') || line.trim_ascii().is_empty() {
            line.to_owned()
        } else {
            uri(line)
        }
    });
    lines.collect()
}

/// It changes when the stream begins, and when its encoder changes what it sends.
const MULTIVARIANT: Cache = Cache::Shared(1);
/// Longer than the longest learning of a key frame interval, shorter than players' patience with a multivariant playlist (hls.js 20 s).
const START_WAIT: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_on_in_the_path() {
        let playlist = b"#EXTM3U\n#EXT-X-STREAM-INF:X=1\nmedia-1.m3u8\n";
        let up = up_to("live/a", "t.1");
        assert_eq!(
            with_uris(playlist, |uri| format!("{up}{uri}")),
            "#EXTM3U\n#EXT-X-STREAM-INF:X=1\n../../@t.1/live/a/media-1.m3u8\n"
        );
    }
}
