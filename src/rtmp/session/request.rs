//! What a publisher asks for, read out of the many places encoders put it, and how it is refused.
//!
//! The application, the stream's name and a query may come in `app`, in `tcUrl` and in the argument of `publish`, with
//! slashes and question marks in any of them (OBS with an empty key, keys that begin with `?`, `app/instance/key`).
//!
//! Deliberately not here: which characters a name may hold, whether it may be empty, and what a query must say. The hub
//! decides that; here only lengths are bounded.

use crate::rtmp::amf::{self, Amf0Value};
use crate::rtmp::limits::{MAX_NAME, MAX_QUERY};
use std::fmt;

/// A request to publish, waiting for a verdict.
///
/// `Debug` leaves out what may hold a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct PublishRequest {
    /// The application, without slashes at its ends; it may hold some inside (`live/studio`), and may be empty.
    pub app: String,
    /// The stream's name, without slashes and query; empty if the encoder gave none.
    pub name: String,
    /// What followed a `?`, wherever it stood, joined with `&`.
    pub query: Option<String>,
    /// The URL the encoder says it connected to, its query included.
    pub tc_url: Option<String>,
    /// The encoder's name for itself, as in `FMLE/3.0 (compatible; Lavf60)`.
    pub flash_ver: Option<String>,
}

impl fmt::Debug for PublishRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The name may be the key, and so may a part of the application.
        f.debug_struct("PublishRequest")
            .field("flash_ver", &self.flash_ver)
            .finish_non_exhaustive()
    }
}

/// A request to connect, waiting for a verdict.
///
/// `Debug` leaves out what may hold a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectRequest {
    /// The application, without slashes at its ends.
    pub app: String,
    /// What followed a `?` in it.
    pub query: Option<String>,
}

impl fmt::Debug for ConnectRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectRequest").finish_non_exhaustive()
    }
}

/// Why a publisher is turned away, in words its user reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// A code of `onStatus`, such as [`Refusal::BAD_NAME`].
    pub code: &'static str,
    /// One sentence: what is wrong and what would be right.
    pub description: String,
}

impl Refusal {
    /// The name is not allowed, or taken.
    pub const BAD_NAME: &'static str = "NetStream.Publish.BadName";
    /// The publisher may not publish this.
    pub const UNAUTHORIZED: &'static str = "NetStream.Publish.Unauthorized";
    /// The server will not take it now.
    pub const DENIED: &'static str = "NetStream.Publish.Denied";

    /// A refusal with [`Self::UNAUTHORIZED`].
    pub fn unauthorized(description: impl Into<String>) -> Self {
        Self {
            code: Self::UNAUTHORIZED,
            description: description.into(),
        }
    }

    /// A refusal with [`Self::BAD_NAME`].
    pub fn bad_name(description: impl Into<String>) -> Self {
        Self {
            code: Self::BAD_NAME,
            description: description.into(),
        }
    }
}

/// What `connect` told about the publisher.
#[derive(Default)]
pub(super) struct Connect {
    app: String,
    tc_url: Option<String>,
    flash_ver: Option<String>,
}

impl Connect {
    /// Reads the object of a `connect` command; anything may be missing from it.
    pub(super) fn from_object(object: &Amf0Value) -> Self {
        Self {
            app: text(object, "app").unwrap_or_default(),
            tc_url: text(object, "tcUrl"),
            flash_ver: text(object, "flashVer").map(|v| shorten(&v, MAX_FLASH_VER).to_owned()),
        }
    }

    /// The request that it is itself. What is longer than it may be is cut off: it then names nothing.
    pub(super) fn request(&self) -> ConnectRequest {
        let (app, query) = split_query(&self.app);
        ConnectRequest {
            app: shorten(&normalize(app), MAX_NAME).to_owned(),
            query: query.map(|query| shorten(query, MAX_QUERY).to_owned()),
        }
    }

    /// The request that `publish` with this name makes; refused if it is longer than anyone's should be.
    pub(super) fn publish(&self, stream_name: &str) -> Result<PublishRequest, Refusal> {
        let url = self.tc_url.as_deref().unwrap_or_default();
        let (url_path, url_query) = split_query(path_of_url(url));
        let (app, app_query) = split_query(&self.app);
        let (stream_name, name_query) = split_query(stream_name);

        let mut app = normalize(app);
        if app.is_empty() {
            app = normalize(url_path);
        }
        // The name's last element names the stream; all before belongs to the application. An encoder without a field for
        // the key puts all in the URL.
        let path = [app, normalize(stream_name)].join("/");
        let path = path.trim_matches('/');
        let (app, name) = path.rsplit_once('/').unwrap_or((path, ""));

        let mut queries = Vec::new();
        for query in [name_query, app_query, url_query].into_iter().flatten() {
            if !query.is_empty() && !queries.contains(&query) {
                queries.push(query);
            }
        }
        let query = queries.join("&");

        for (what, text, limit) in [
            ("application name", app, MAX_NAME),
            ("stream name", name, MAX_NAME),
            ("query after the stream name", &query, MAX_QUERY),
        ] {
            if text.len() > limit {
                let length = text.len();
                return Err(Refusal::bad_name(format!(
                    "The {what} is {length} bytes long; at most {limit} are allowed."
                )));
            }
        }
        Ok(PublishRequest {
            app: app.to_owned(),
            name: name.to_owned(),
            query: (!query.is_empty()).then_some(query),
            tc_url: self.tc_url.clone(),
            flash_ver: self.flash_ver.clone(),
        })
    }
}

/// A string property, whatever the case of its name, without the quotes that some encoders put around it.
fn text(object: &Amf0Value, name: &str) -> Option<String> {
    let Amf0Value::Object(properties) = object else {
        return None;
    };
    let value = properties.get(name).or_else(|| {
        let found = properties
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    });
    let text = value.and_then(amf::as_str)?;
    let text = text.trim_matches(|c: char| c == '"' || c == '\'' || c.is_whitespace());
    (!text.is_empty()).then(|| text.to_owned())
}

/// What follows the host: `live/key` of `rtmp://host:1935/live/key`.
fn path_of_url(url: &str) -> &str {
    let after_scheme = url.split_once("://").map_or("", |(_, rest)| rest);
    match after_scheme.find(['/', '?']) {
        Some(at) => after_scheme.get(at..).unwrap_or_default(),
        None => "",
    }
}

fn split_query(text: &str) -> (&str, Option<&str>) {
    match text.split_once('?') {
        Some((before, query)) => (before, Some(query.trim_end_matches('/'))),
        None => (text, None),
    }
}

/// Without empty elements: `/live//studio/` becomes `live/studio`.
fn normalize(path: &str) -> String {
    let elements: Vec<&str> = path
        .split('/')
        .map(str::trim)
        .filter(|e| !e.is_empty())
        .collect();
    elements.join("/")
}

/// At most `limit` bytes from the front of `text`, cut between characters.
pub(super) fn shorten(text: &str, limit: usize) -> &str {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Bytes of `flashVer` that are kept; it goes into logs.
const MAX_FLASH_VER: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn request(app: &str, url: &str, name: &str) -> (String, String, Option<String>) {
        let object = amf::object([("app", amf::string(app)), ("tcUrl", amf::string(url))]);
        let request = Connect::from_object(&object).publish(name).unwrap();
        (request.app, request.name, request.query)
    }

    fn expect(app: &str, name: &str, query: Option<&str>) -> (String, String, Option<String>) {
        (app.into(), name.into(), query.map(Into::into))
    }

    #[test]
    fn key_forms() {
        let url = "rtmp://host:1935/live";
        for (app, url, name, expected) in [
            ("live", url, "key", expect("live", "key", None)),
            ("/live/", url, "/key/", expect("live", "key", None)),
            ("live", url, "key?t=1", expect("live", "key", Some("t=1"))),
            // An encoder with the key in the URL and an empty key field (OBS).
            ("live/key", url, "", expect("live", "key", None)),
            ("live/key", url, "?t=1", expect("live", "key", Some("t=1"))),
            ("live/key?t=1", url, "", expect("live", "key", Some("t=1"))),
            // No key at all, and none in the URL.
            ("live", url, "", expect("live", "", None)),
            ("", "", "", expect("", "", None)),
            ("live/inst", url, "key", expect("live/inst", "key", None)),
            ("live", url, "inst/key", expect("live/inst", "key", None)),
            (
                "live//inst/",
                url,
                "//key",
                expect("live/inst", "key", None),
            ),
            ("live?t=1", url, "key", expect("live", "key", Some("t=1"))),
            ("live?t=1/", url, "key", expect("live", "key", Some("t=1"))),
            (
                "live?user=a&pass=b",
                "rtmp://host/live?user=a&pass=b",
                "key",
                expect("live", "key", Some("user=a&pass=b")),
            ),
            (
                "live",
                "rtmp://host/live?t=1",
                "key?x=2",
                expect("live", "key", Some("x=2&t=1")),
            ),
            // No app: the URL has it.
            ("", "rtmp://host/live", "key", expect("live", "key", None)),
            ("", "rtmp://host/live/key", "", expect("live", "key", None)),
            ("", "\"rtmp://host/live\"", "k", expect("live", "k", None)),
            ("", "rtmp://host", "key", expect("key", "", None)),
        ] {
            assert_eq!(request(app, url, name), expected, "{app} {url} {name}");
        }
    }

    #[test]
    fn tcurl_in_lower_case_and_in_quotes_neko() {
        let object = amf::object([
            ("tcurl", amf::string("\"rtmp://host/live\"")),
            ("app", Amf0Value::Null),
        ]);
        let request = Connect::from_object(&object).publish("key").unwrap();
        assert_eq!(request.tc_url.as_deref(), Some("rtmp://host/live"));
        assert_eq!((&request.app[..], &request.name[..]), ("live", "key"));
    }

    #[test]
    fn nothing_at_all_in_connect() {
        let request = Connect::from_object(&Amf0Value::Null).publish("key");
        let request = request.unwrap();
        assert_eq!(request.tc_url, None);
        assert_eq!(request.flash_ver, None);
    }

    #[test]
    fn lengths_are_bounded() {
        let connect = Connect {
            app: "live".into(),
            ..Connect::default()
        };
        assert!(connect.publish(&"n".repeat(MAX_NAME)).is_ok());
        let refusal = connect.publish(&"n".repeat(MAX_NAME + 1)).unwrap_err();
        assert_eq!(refusal.code, Refusal::BAD_NAME);
        assert!(refusal.description.contains("stream name is 256 bytes"));
        let long_query = format!("n?{}", "q".repeat(MAX_QUERY + 1));
        assert!(connect.publish(&long_query).is_err());
    }

    #[test]
    fn debug_shows_no_secret() {
        let object = amf::object([
            ("app", amf::string("live?pass=secret")),
            ("tcUrl", amf::string("rtmp://h/live?pass=secret")),
        ]);
        let request = Connect::from_object(&object).publish("key?pass=secret");
        assert!(!format!("{request:?}").contains("secret"));
    }

    #[test]
    fn shorten_cuts_between_characters() {
        assert_eq!(shorten("aéb", 2), "a");
        assert_eq!(shorten("aéb", 3), "aé");
        assert_eq!(shorten("aéb", 9), "aéb");
    }
}
