//! The address a stream is published to: `rtmp://HOST[:PORT]/APP[/INSTANCE]/NAME[?QUERY]`, or `rtmps://`.
//!
//! The last path segment, with its query, is the stream's name (to many services: its key); all before it is the application.
//! Nothing is percent-decoded, since RTMP sends both as they are written. The name is a secret as often as not, so neither
//! `Display` nor `Debug` shows it.
//!
//! Not here: user names, which are refused by name.

use std::fmt;
use std::str::FromStr;

/// A parsed `rtmp://` or `rtmps://` address.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Url {
    secure: bool,
    host: String,
    port: u16,
    app: String,
    name: String,
}

/// What is wrong with an address. The texts do not repeat the address, which may hold a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Another scheme, or none.
    #[error("an RTMP URL begins with rtmp:// or rtmps://, this one {0}")]
    Scheme(String),
    /// `user:password@`.
    #[error(
        "user and password before the host are not supported; put credentials into the query, as the server asks"
    )]
    UserInfo,
    /// Nothing, or nonsense, where the host should be.
    #[error(
        "the host in the URL is {0}; expected a name, an IPv4 address, or an IPv6 address in brackets"
    )]
    Host(&'static str),
    /// Not a port number.
    #[error("the port in the URL is not a number from 1 to 65535")]
    Port,
    /// Application or name missing.
    #[error("the URL lacks {0}; expected rtmp://HOST[:PORT]/APP/NAME")]
    Path(&'static str),
    /// Blanks or control characters.
    #[error("the URL holds a blank or control character at position {0}")]
    Character(usize),
    /// Longer than any signed URL.
    #[error("the URL is longer than {MAX_URL} characters")]
    TooLong,
}

impl Url {
    /// Whether it asks for TLS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Name or address of the host, IPv6 without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port; unless given, 1935, or 443 with TLS.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The application, for example `live` or `live/instance`.
    pub fn app(&self) -> &str {
        &self.app
    }

    /// The stream's name with its query. A secret.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The `tcUrl` of `connect`: the address without the name.
    pub fn tc_url(&self) -> String {
        let scheme = if self.secure { "rtmps" } else { "rtmp" };
        format!("{scheme}://{}/{}", self.authority(), self.app)
    }

    fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == default_port(self.secure) {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        if text.len() > MAX_URL {
            return Err(UrlError::TooLong);
        }
        if let Some(position) = text
            .chars()
            .position(|c| c.is_whitespace() || c.is_control())
        {
            return Err(UrlError::Character(position));
        }
        let (secure, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("rtmp") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("rtmps") => (true, rest),
            Some((scheme, _)) => {
                return Err(UrlError::Scheme(format!(
                    "with {}://",
                    scheme.escape_debug()
                )));
            }
            None => return Err(UrlError::Scheme("has no scheme".to_owned())),
        };
        let (authority, path) = rest
            .split_once('/')
            .ok_or(UrlError::Path("the application and the stream's name"))?;
        let (host, port) = split_authority(authority)?;
        let port = port.unwrap_or_else(|| default_port(secure));
        // The query may hold slashes; it belongs to the name.
        let (path, query) = path.find('?').map_or((path, ""), |at| path.split_at(at));
        let (app, name) = path
            .trim_start_matches('/')
            .rsplit_once('/')
            .ok_or(UrlError::Path("the stream's name"))?;
        if app.is_empty() {
            return Err(UrlError::Path("the application"));
        }
        if name.is_empty() {
            return Err(UrlError::Path("the stream's name"));
        }
        Ok(Self {
            secure,
            host: host.to_owned(),
            port,
            app: app.to_owned(),
            name: format!("{name}{query}"),
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/…", self.tc_url())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 1935 }
}

fn split_authority(authority: &str) -> Result<(&str, Option<u16>), UrlError> {
    if authority.contains('@') {
        return Err(UrlError::UserInfo);
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or(UrlError::Host(
                "an IPv6 address without its closing bracket",
            ))?;
            // A zone (%eth0) is the resolver's business.
            let address = host.split_once('%').map_or(host, |(address, _)| address);
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(UrlError::Host("not an IPv6 address though in brackets"));
            }
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err(UrlError::Host("followed by more than a port")),
            }
        }
        None => match authority.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err(UrlError::Host("an IPv6 address without brackets"));
            }
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() {
        return Err(UrlError::Host("empty"));
    }
    let number = |port: &str| {
        let plain = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|&port| plain && port > 0);
        port.ok_or(UrlError::Port)
    };
    Ok((host, port.map(number).transpose()?))
}

/// Bytes. Signed URLs run to two kilobytes; application and name must each fit an AMF0 string.
const MAX_URL: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (String, u16, String, String) {
        let url: Url = text.parse().unwrap();
        (url.host, url.port, url.app, url.name)
    }

    #[test]
    fn good_addresses() {
        let expect =
            |host: &str, port, app: &str, name: &str| (host.into(), port, app.into(), name.into());
        assert_eq!(
            parts("rtmp://example.com/live/stream"),
            expect("example.com", 1935, "live", "stream")
        );
        assert_eq!(
            parts("RTMP://127.0.0.1:19350/a/b/c"),
            expect("127.0.0.1", 19350, "a/b", "c")
        );
        assert_eq!(
            parts("rtmp://h/live/key?token=a/b&x=1"),
            expect("h", 1935, "live", "key?token=a/b&x=1")
        );
        assert_eq!(
            parts("rtmp://[::1]:1936/live/s"),
            expect("::1", 1936, "live", "s")
        );
        assert_eq!(
            parts("rtmp://[fe80::1%eth0]/live/s"),
            expect("fe80::1%eth0", 1935, "live", "s")
        );
        assert_eq!(parts("rtmp://h//live/s"), expect("h", 1935, "live", "s"));
        assert_eq!(parts("rtmps://h/live/s"), expect("h", 443, "live", "s"));
        let url: Url = "RTMPS://h:1935/live/s".parse().unwrap();
        assert!(url.is_secure());
        assert_eq!(url.tc_url(), "rtmps://h:1935/live");
    }

    #[test]
    fn bad_addresses_say_what_is_wrong() {
        for (text, part) in [
            ("", "no scheme"),
            ("example.com/live/s", "no scheme"),
            ("http://h/live/s", "http://"),
            ("rtmp://h", "application"),
            ("rtmp://h/", "name"),
            ("rtmp://h/live", "name"),
            ("rtmp://h/live/", "name"),
            ("rtmp://h/live/?k=1", "name"),
            ("rtmp:///live/s", "host in the URL is empty"),
            ("rtmp://:1935/live/s", "empty"),
            ("rtmp://h:0/live/s", "port"),
            ("rtmp://h:/live/s", "port"),
            ("rtmp://h:65536/live/s", "port"),
            ("rtmp://h:+80/live/s", "port"),
            ("rtmp://::1/live/s", "without brackets"),
            ("rtmp://[::1/live/s", "closing bracket"),
            ("rtmp://[nonsense]/live/s", "not an IPv6"),
            ("rtmp://[::1]x/live/s", "more than a port"),
            ("rtmp://u:p@h/live/s", "user and password"),
            ("rtmp://h/live/a b", "position 15"),
        ] {
            let error = text.parse::<Url>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert_eq!(
            format!("rtmp://h/a/{}", "x".repeat(MAX_URL)).parse::<Url>(),
            Err(UrlError::TooLong)
        );
    }

    #[test]
    fn name_is_not_shown() {
        let url: Url = "rtmp://[::1]:1936/live/secret?token=secret"
            .parse()
            .unwrap();
        assert_eq!(url.to_string(), "rtmp://[::1]:1936/live/…");
        assert!(!format!("{url:?}").contains("secret"));
        assert_eq!(url.tc_url(), "rtmp://[::1]:1936/live");
    }
}
