//! Who may see what, and who may change something.
//!
//! With a token, whoever shows it may do everything, and nobody else anything. Without one, everybody who reaches the page may read
//! what is not about persons; an operator, who also sees addresses and may send people away, is who comes from this machine to a
//! port that is only for operators.
//!
//! Coming from this machine to the viewers' port says nothing: with a reverse proxy on it, everybody does.

use std::net::IpAddr;

use hyper::header::{self, HeaderMap, HeaderName};

use super::Admin;
use crate::config::secret::Secret;

/// What a request may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing.
    None,
    /// Read, but not about persons.
    Read,
    /// Everything.
    Operate,
}

impl Admin<'_> {
    pub(super) fn access(&self, headers: &HeaderMap) -> Access {
        match &self.settings.token {
            Some(token) if shows(headers, token) => Access::Operate,
            Some(_) => Access::None,
            None if self.own_port
                && self.peer.ip().to_canonical().is_loopback()
                && is_direct(headers) =>
            {
                Access::Operate
            }
            None => Access::Read,
        }
    }
}

/// Whether a browser says that another site's page made it send this.
pub(super) fn is_from_another_site(headers: &HeaderMap) -> bool {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text(&SEC_FETCH_SITE) {
        return !matches!(site, "same-origin" | "none");
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return false;
    };
    let host = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"));
    !matches!((host, text(&header::HOST)), (Some((_, origin)), Some(host)) if origin.eq_ignore_ascii_case(host))
}

/// Whether the credentials are the token: `Bearer TOKEN`, or `Basic` with the token as password (RFC 6750, 2.1; RFC 7617).
fn shows(headers: &HeaderMap, token: &Secret) -> bool {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return false;
    };
    let Some((scheme, credentials)) = value.to_str().ok().and_then(|value| value.split_once(' '))
    else {
        return false;
    };
    let credentials = credentials.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return token.is(credentials.as_bytes());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return false;
    }
    let decoded = base64(credentials).unwrap_or_default();
    let mut parts = decoded.splitn(2, |&byte| byte == b':');
    let (_user, password) = (parts.next(), parts.next());
    password.is_some_and(|password| token.is(password))
}

/// Whether nothing says that somebody else stands between. The name in `Host` is looked at because a page from anywhere may have its own
/// name resolved to this machine.
fn is_direct(headers: &HeaderMap) -> bool {
    let forwarded = ["forwarded", "via", "x-forwarded-for", "x-real-ip"];
    if forwarded.iter().any(|name| headers.contains_key(*name)) {
        return false;
    }
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || address
            .parse()
            .is_ok_and(|address: IpAddr| address.to_canonical().is_loopback())
}

/// Decodes base 64 (RFC 4648, 4), with padding or without.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    Some(out)
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|&(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        HeaderMap::from_iter(pairs)
    }

    #[test]
    fn a_token_is_shown_in_two_ways() {
        let token = Secret::new("open sesame");
        for value in [
            "Bearer open sesame",
            "bearer  open sesame",
            "Basic eDpvcGVuIHNlc2FtZQ==",
            "Basic Om9wZW4gc2VzYW1l",
        ] {
            assert!(
                shows(&headers(&[("authorization", value)]), &token),
                "{value}"
            );
        }
        for value in [
            "",
            "Bearer",
            "Bearer open",
            "Bearer open sesame!",
            "Basic b3BlbiBzZXNhbWU=",
            "Basic !",
            "Digest open sesame",
        ] {
            assert!(
                !shows(&headers(&[("authorization", value)]), &token),
                "{value}"
            );
        }
        assert!(!shows(&HeaderMap::new(), &token));
    }

    #[test]
    fn who_comes_by_a_detour_is_not_here() {
        for host in [
            "localhost",
            "LOCALHOST:9095",
            "127.0.0.1:9095",
            "127.1.2.3",
            "[::1]:9095",
            "[::1]",
        ] {
            assert!(is_direct(&headers(&[("host", host)])), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9095",
            "localhost.evil.example",
            "10.0.0.1",
            "[2001:db8::1]:9095",
            "",
        ] {
            assert!(!is_direct(&headers(&[("host", host)])), "{host}");
        }
        assert!(!is_direct(&headers(&[
            ("host", "localhost"),
            ("x-forwarded-for", "1.2.3.4")
        ])));
    }

    #[test]
    fn other_sites_are_told_apart() {
        for (pairs, other) in [
            (&[("host", "a:1")][..], false),
            (&[("host", "a:1"), ("origin", "http://a:1")], false),
            (&[("host", "a:1"), ("origin", "http://b:1")], true),
            (&[("host", "a:1"), ("origin", "null")], true),
            (
                &[
                    ("sec-fetch-site", "same-origin"),
                    ("origin", "http://proxied"),
                ],
                false,
            ),
            (&[("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "cross-site")], true),
            (&[("sec-fetch-site", "same-site")], true),
        ] {
            assert_eq!(is_from_another_site(&headers(pairs)), other, "{pairs:?}");
        }
    }
}
