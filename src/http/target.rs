//! What the path of a request asks for. Nothing here answers.

use std::time::Duration;

use super::{admin, player};
use crate::hls::names::{self, File};
use crate::stream::name::StreamName;

/// What a path asks for.
#[derive(Debug)]
pub(super) enum Target<'a> {
    Index,
    Streams,
    Time,
    Health,
    Ready,
    /// What only operators may see.
    Admin(admin::Page<'a>),
    /// A file of the player page.
    Asset(&'a str),
    /// The player page of a stream, asked for with or without a slash at the end.
    Page(&'a str, bool),
    Multivariant(&'a str, Form),
    File(&'a str, File<'a>),
    Unknown,
}

/// Which media playlist a multivariant playlist leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Early,
    Prefetch,
    LowLatency(Option<Duration>),
}

impl<'a> Target<'a> {
    pub(super) fn parse(path: &'a str, query: &str) -> Self {
        let path = path.strip_prefix('/').unwrap_or(path);
        match path {
            "" => return Self::Index,
            "api/streams" => return Self::Streams,
            "api/time" => return Self::Time,
            "healthz" => return Self::Health,
            "readyz" => return Self::Ready,
            _ => {}
        }
        if let Some(page) = admin::Page::parse(path) {
            return Self::Admin(page);
        }
        if let Some(file) = path
            .strip_prefix("web/")
            .filter(|file| player::is_asset(file))
        {
            return Self::Asset(file);
        }
        let Some((name, file)) = path.rsplit_once('/') else {
            return Self::page(path);
        };
        match file {
            "playlist.m3u8" if parameter(query, "prefetch").is_some() => {
                Self::Multivariant(name, Form::Prefetch)
            }
            "playlist.m3u8" => Self::Multivariant(name, Form::Early),
            "ll.m3u8" => {
                let wanted = parameter(query, "pt")
                    .and_then(|millis| millis.parse().ok())
                    .map(Duration::from_millis);
                Self::Multivariant(name, Form::LowLatency(wanted))
            }
            _ => names::parse(file).map_or_else(|| Self::page(path), |file| Self::File(name, file)),
        }
    }

    /// The player page, if the path could be a stream's name.
    fn page(path: &'a str) -> Self {
        let (name, slash) = path
            .strip_suffix('/')
            .map_or((path, false), |name| (name, true));
        match StreamName::new(name, "") {
            Ok(valid) if valid.as_str() == name => Self::Page(name, slash),
            _ => Self::Unknown,
        }
    }

    /// The stream whose media is asked for.
    pub(super) fn stream(&self) -> Option<&'a str> {
        match *self {
            Self::Multivariant(name, _) | Self::File(name, _) => Some(name),
            _ => None,
        }
    }

    /// The token of `?token=`, where playing begins and none stands in the path.
    pub(super) fn entry_token(&self, in_path: Option<&str>, query: &'a str) -> Option<&'a str> {
        let plain = |token: &&str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~=".contains(&byte);
            !token.is_empty() && token.len() <= MAX_TOKEN && token.bytes().all(plain)
        };
        match (self, in_path) {
            (Self::Multivariant(..), None) => parameter(query, "token").filter(plain),
            _ => None,
        }
    }

    /// The name of the kind in the metrics.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Multivariant(..) => "multivariant",
            Self::File(_, File::Media(..) | File::Prefetch(_) | File::Short(_)) => "media",
            Self::File(_, File::LowLatency(..)) => "media_low_latency",
            Self::File(_, File::Segment(..) | File::WholeSegment(..)) => "segment",
            Self::File(_, File::Part(..) | File::ShortSegment(..)) => "part",
            Self::Page(..) | Self::Asset(_) => "page",
            Self::Admin(_) => "admin",
            Self::Index
            | Self::Streams
            | Self::Time
            | Self::Health
            | Self::Ready
            | Self::Unknown => "other",
        }
    }
}

/// The token of `/@TOKEN/REST`, and `/REST`. No stream's name begins with `@`.
pub(super) fn split_token(path: &str) -> (Option<&str>, &str) {
    let signed = path.strip_prefix("/@").and_then(|rest| {
        let slash = rest.find('/')?;
        Some(rest.split_at(slash))
    });
    match signed {
        Some((token, rest)) => (Some(token), rest),
        None => (None, path),
    }
}

/// The value of a query's parameter; empty when it has none.
pub(super) fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find_map(|(key, value)| (key == name).then_some(value))
}

/// A JSON Web Token with some claims and an RSA signature.
pub(super) const MAX_TOKEN: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hls::names::Early;

    #[test]
    fn paths() {
        let parse = |path| Target::parse(path, "pt=200&prefetch");
        assert!(matches!(
            parse("/live/a/playlist.m3u8"),
            Target::Multivariant("live/a", Form::Prefetch)
        ));
        assert!(matches!(
            Target::parse("/live/playlist.m3u8", ""),
            Target::Multivariant("live", Form::Early)
        ));
        let wanted = Some(Duration::from_millis(200));
        assert!(
            matches!(parse("/live/a/ll.m3u8"), Target::Multivariant("live/a", Form::LowLatency(w)) if w == wanted)
        );
        assert!(matches!(
            parse("/live/a/media-1.m3u8"),
            Target::File("live/a", File::Media(Early::Usual, 1))
        ));
        assert!(matches!(
            parse("/live/a/x1-7.ts"),
            Target::File("live/a", File::Segment("x1", 7))
        ));
        for (path, name, slash) in [
            ("/live/a/", "live/a", true),
            ("/live/a", "live/a", false),
            ("/live", "live", false),
            ("/web/none.js", "web/none.js", false),
        ] {
            assert!(
                matches!(parse(path), Target::Page(n, s) if n == name && s == slash),
                "{path}"
            );
        }
        assert!(matches!(
            parse("/web/player.js"),
            Target::Asset("player.js")
        ));
        for path in [
            "//",
            "/live//",
            "/live/%41/",
            "/../",
            "/.hidden",
            "/live/../x.ts",
        ] {
            assert!(matches!(parse(path), Target::Unknown), "{path}");
        }
    }

    #[test]
    fn tokens_in_front() {
        for (path, token, rest) in [
            ("/@1.x/live/a/ll.m3u8", Some("1.x"), "/live/a/ll.m3u8"),
            ("/@/live/a/", Some(""), "/live/a/"),
            ("/@1.x", None, "/@1.x"),
            ("/live/@1.x/a", None, "/live/@1.x/a"),
            ("/", None, "/"),
        ] {
            assert_eq!(split_token(path), (token, rest), "{path}");
        }
        assert!(matches!(Target::parse("/@1.x", ""), Target::Unknown));
    }

    #[test]
    fn parameters() {
        assert_eq!(parameter("a=1&b&c=", "a"), Some("1"));
        assert_eq!(parameter("a=1&b&c=", "b"), Some(""));
        assert_eq!(parameter("a=1&b&c=", "d"), None);
        assert_eq!(parameter("", "a"), None);
    }
}
