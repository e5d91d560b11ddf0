//! Addresses of playlists and media: absolute `http://` and `https://` URLs, and references in playlists resolved against them (RFC 3986,
//! 5.2).
//!
//! Not here: user names and passwords, internationalised host names.

use std::fmt;
use std::str::FromStr;

/// An `http://` or `https://` address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    secure: bool,
    /// Host name or address; IPv6 without its brackets.
    host: String,
    port: u16,
    /// Path and query, starting with a slash.
    target: String,
}

/// Why something is not an address that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another scheme, or none.
    #[error("{0:?} is not a playlist's address, as in http://HOST:PORT/APP/NAME/playlist.m3u8")]
    Scheme(String),
    /// No host, or one that cannot be.
    #[error("{0:?} has no usable host: expected http://HOST[:PORT]/PATH")]
    Host(String),
    /// A port that is no number from 1 to 65535.
    #[error("{0:?} has no usable port: expected a number from 1 to 65535")]
    Port(String),
}

impl Url {
    /// Host and port, to connect to.
    pub fn address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// Whether it asks for TLS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Value of the `Host` header.
    pub fn authority(&self) -> String {
        let bracketed = self.host.contains(':');
        let (open, close) = if bracketed { ("[", "]") } else { ("", "") };
        match self.port {
            port if port == default_port(self.secure) => format!("{open}{}{close}", self.host),
            port => format!("{open}{}{close}:{port}", self.host),
        }
    }

    /// Path and query.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// What a reference found in the playlist at this address means.
    ///
    /// # Errors
    /// When it leads to something other than HTTP.
    pub fn join(&self, reference: &str) -> Result<Self, Error> {
        let reference = reference.split('#').next().unwrap_or_default();
        if has_scheme(reference) {
            return reference.parse();
        }
        if reference.starts_with("//") {
            return format!("{}:{reference}", self.scheme()).parse();
        }
        let (path, _) = split_query(&self.target);
        let target = if reference.is_empty() {
            self.target.clone()
        } else if reference.starts_with('?') {
            format!("{path}{reference}")
        } else if reference.starts_with('/') {
            normalise(reference)
        } else {
            let folder = path.rfind('/').map_or("/", |end| &path[..=end]);
            normalise(&format!("{folder}{reference}"))
        };
        Ok(Self {
            target,
            ..self.clone()
        })
    }

    fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// The same with `parameters`, written `a=1&b=2`, after what the query has already.
    pub fn with_query(&self, parameters: &str) -> Self {
        let separator = if self.target.contains('?') { '&' } else { '?' };
        Self {
            target: format!("{}{separator}{parameters}", self.target),
            ..self.clone()
        }
    }
}

impl FromStr for Url {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let scheme = |name: &str| {
            let head = text.get(..name.len())?;
            head.eq_ignore_ascii_case(name).then(|| &text[name.len()..])
        };
        let plain = scheme("http://").map(|rest| (false, rest));
        let encrypted = || scheme("https://").map(|rest| (true, rest));
        let (secure, rest) = plain
            .or_else(encrypted)
            .ok_or_else(|| Error::Scheme(text.to_owned()))?;
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let bad_host = || Error::Host(text.to_owned());
        let (host, port) = match authority.strip_prefix('[') {
            Some(authority) => {
                let (host, port) = authority.split_once(']').ok_or_else(bad_host)?;
                (host, port.strip_prefix(':').unwrap_or(port))
            }
            None => authority.split_once(':').unwrap_or((authority, "")),
        };
        let sane = |byte: u8| byte.is_ascii_graphic() && !b"@\\<>\"{}|^`".contains(&byte);
        if host.is_empty() || !host.bytes().all(sane) {
            return Err(bad_host());
        }
        let port = match port {
            "" => default_port(secure),
            digits => digits
                .parse()
                .ok()
                .filter(|&port| port > 0)
                .ok_or_else(|| Error::Port(text.to_owned()))?,
        };
        let target = if target.starts_with('/') {
            normalise(target)
        } else {
            format!("/{target}")
        };
        Ok(Self {
            secure,
            host: host.to_owned(),
            port,
            target,
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme();
        write!(formatter, "{scheme}://{}{}", self.authority(), self.target)
    }
}

fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

fn has_scheme(reference: &str) -> bool {
    let Some((scheme, _)) = reference.split_once("://") else {
        return false;
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    !scheme.is_empty() && scheme.bytes().all(plain)
}

fn split_query(target: &str) -> (&str, &str) {
    target.split_at(target.find('?').unwrap_or(target.len()))
}

/// Takes `.` and `..` out of the path, and leaves the query alone.
fn normalise(target: &str) -> String {
    let (path, query) = split_query(target);
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}{query}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn addresses() {
        let parsed = url("HTTP://example.org:8080/live/a/playlist.m3u8?x=1#top");
        assert_eq!(parsed.address(), ("example.org", 8080));
        assert_eq!(parsed.target(), "/live/a/playlist.m3u8?x=1");
        assert_eq!(parsed.authority(), "example.org:8080");
        assert_eq!(url("http://example.org").to_string(), "http://example.org/");
        let encrypted = url("HTTPS://example.org/a?b=1");
        assert!(encrypted.is_secure());
        assert_eq!(encrypted.address(), ("example.org", 443));
        assert_eq!(encrypted.to_string(), "https://example.org/a?b=1");
        assert_eq!(
            encrypted.join("//o:444/s.ts").unwrap().to_string(),
            "https://o:444/s.ts"
        );
        assert_eq!(url("http://a?b").target(), "/?b");
        assert_eq!(url("http://[::1]:9/x").address(), ("::1", 9));
        assert_eq!(url("http://[::1]:9/x").authority(), "[::1]:9");
    }

    #[test]
    fn what_is_no_address() {
        let error = |text: &str| text.parse::<Url>().unwrap_err();
        assert!(matches!(error("rtmp://a/b"), Error::Scheme(_)));
        assert!(matches!(error("a/b.m3u8"), Error::Scheme(_)));
        assert!(matches!(error("http:///b"), Error::Host(_)));
        assert!(matches!(error("http://user@a/b"), Error::Host(_)));
        assert!(matches!(error("http://a b/"), Error::Host(_)));
        assert!(matches!(error("http://a:0/b"), Error::Port(_)));
        assert!(matches!(error("http://a:66000/b"), Error::Port(_)));
        assert!(matches!(error("häää"), Error::Scheme(_)));
    }

    #[test]
    fn references() {
        let base = url("http://h:1/live/a/list.m3u8?token=x/y");
        for (reference, target) in [
            ("s-1.ts", "/live/a/s-1.ts"),
            ("./s.ts?q=../1", "/live/a/s.ts?q=../1"),
            ("../b/s.ts", "/live/b/s.ts"),
            ("../../../s.ts", "/s.ts"),
            ("/x/./s.ts", "/x/s.ts"),
            ("?other", "/live/a/list.m3u8?other"),
            ("", "/live/a/list.m3u8?token=x/y"),
            ("..", "/live/"),
            ("s.ts#t=1", "/live/a/s.ts"),
        ] {
            let joined = base.join(reference).unwrap();
            assert_eq!(joined.target(), target, "{reference}");
            assert_eq!(joined.address(), ("h", 1));
        }
        assert_eq!(base.join("http://o/s.ts").unwrap(), url("http://o/s.ts"));
        assert_eq!(base.join("//o:2/s.ts").unwrap(), url("http://o:2/s.ts"));
        assert_eq!(
            base.join("https://o/s.ts").unwrap().to_string(),
            "https://o/s.ts"
        );
    }

    #[test]
    fn parameters_are_added() {
        assert_eq!(url("http://h/a").with_query("b=1").target(), "/a?b=1");
        assert_eq!(url("http://h/a?c").with_query("b=1").target(), "/a?c&b=1");
    }
}
