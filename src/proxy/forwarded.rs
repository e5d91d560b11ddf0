//! What reverse proxies say in a request about the client: `X-Forwarded-For`, `X-Forwarded-Proto`, and `Forwarded` (RFC 7239).
//!
//! Each proxy adds the address it was asked from at the end of the list, and what stands before that is what it was told. So the list is
//! read from its end, past all trusted proxies: the first other address is the client. `X-Forwarded-For` is what proxies write by default,
//! so `Forwarded` is looked at only if there is none: a proxy that adds to one passes the other on as the client wrote it.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{FORWARDED, HeaderMap};

use super::TrustedProxies;

/// The address of who made the request: `peer`, unless that is a trusted proxy which names another.
pub fn client(trusted: &TrustedProxies, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    if trusted.is_empty() || !trusted.contains(peer) {
        return peer.to_canonical();
    }
    let mut client = peer;
    let mut believe = |named: Option<IpAddr>| {
        // What cannot be read ends the chain: who stands before it cannot be known.
        let Some(named) = named else { return false };
        client = named;
        trusted.contains(named)
    };
    if headers.contains_key(X_FORWARDED_FOR) {
        let mut entries = values(headers, X_FORWARDED_FOR).rev();
        while entries.next().is_some_and(|entry| believe(address(entry))) {}
    } else {
        let mut elements = values(headers, FORWARDED.as_str()).rev();
        while elements
            .next()
            .is_some_and(|element| believe(parameter(element, "for").and_then(address)))
        {}
    }
    client.to_canonical()
}

/// Whether a trusted proxy says that the client's connection to it is encrypted; `None` if it says nothing, or is not to be believed.
pub fn is_secure(trusted: &TrustedProxies, peer: IpAddr, headers: &HeaderMap) -> Option<bool> {
    if trusted.is_empty() || !trusted.contains(peer) {
        return None;
    }
    let last = |name| values(headers, name).next_back();
    let scheme = last(X_FORWARDED_PROTO)
        .or_else(|| last(FORWARDED.as_str()).and_then(|element| parameter(element, "proto")))?;
    Some(scheme.trim_matches('"').eq_ignore_ascii_case("https"))
}

/// The comma-separated values of all fields of a name, in their order.
fn values<'a>(
    headers: &'a HeaderMap,
    name: &'a str,
) -> impl DoubleEndedIterator<Item = &'a str> + 'a {
    headers
        .get_all(name)
        .iter()
        // A field that is no text is an entry that cannot be read.
        .flat_map(|value| value.to_str().unwrap_or("?").split(','))
        .map(str::trim)
}

/// A parameter's value in an element of `Forwarded`, as it is written.
fn parameter<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    element
        .split(';')
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(key, value)| {
            key.trim()
                .eq_ignore_ascii_case(name)
                .then_some(value.trim())
        })
}

/// An address with or without port, brackets and quotes.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches('"');
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

const X_FORWARDED_FOR: &str = "x-forwarded-for";
const X_FORWARDED_PROTO: &str = "x-forwarded-proto";

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|&(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    fn trusted() -> TrustedProxies {
        TrustedProxies::new(&["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()])
    }

    fn asked(peer: &str, fields: &[(&'static str, &'static str)]) -> String {
        client(&trusted(), peer.parse().unwrap(), &headers(fields)).to_string()
    }

    #[test]
    fn who_is_not_trusted_is_not_believed() {
        for field in ["x-forwarded-for", "forwarded"] {
            let lie = [(field, "for=192.0.2.1, 192.0.2.1")];
            assert_eq!(asked("203.0.113.1", &lie), "203.0.113.1");
        }
        assert_eq!(asked("::ffff:203.0.113.1", &[]), "203.0.113.1");
        let nobody = TrustedProxies::default();
        let fields = headers(&[
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-proto", "https"),
        ]);
        let peer = "10.0.0.1".parse().unwrap();
        assert_eq!(client(&nobody, peer, &fields), peer);
        assert_eq!(is_secure(&nobody, peer, &fields), None);
    }

    #[test]
    fn the_last_address_that_is_not_a_proxys_is_the_client() {
        for (fields, expected) in [
            (&[][..], "10.0.0.1"),
            (&[("x-forwarded-for", "192.0.2.1")], "192.0.2.1"),
            // The first one is what the client itself has written.
            (
                &[("x-forwarded-for", "198.51.100.7, 192.0.2.1")],
                "192.0.2.1",
            ),
            (
                &[("x-forwarded-for", "192.0.2.1, 10.0.0.2, 10.0.0.3")],
                "192.0.2.1",
            ),
            (
                &[
                    ("x-forwarded-for", "198.51.100.7"),
                    ("x-forwarded-for", "192.0.2.1"),
                ],
                "192.0.2.1",
            ),
            (&[("x-forwarded-for", "192.0.2.1:4711")], "192.0.2.1"),
            (&[("x-forwarded-for", "2001:db8::1")], "2001:db8::1"),
            (&[("x-forwarded-for", "[2001:db8::1]:4711")], "2001:db8::1"),
            // All are proxies: the first of them is as near as it gets.
            (&[("x-forwarded-for", "10.0.0.3, 10.0.0.2")], "10.0.0.3"),
            // What cannot be read ends the chain.
            (
                &[("x-forwarded-for", "192.0.2.1, unknown, 10.0.0.2")],
                "10.0.0.2",
            ),
            (&[("x-forwarded-for", "")], "10.0.0.1"),
            (&[("forwarded", "for=192.0.2.1;proto=https")], "192.0.2.1"),
            (
                &[(
                    "forwarded",
                    "for=198.51.100.7, For=\"[2001:db8::1]:47\";by=10.0.0.1",
                )],
                "2001:db8::1",
            ),
            (&[("forwarded", "for=_hidden, for=10.0.0.9")], "10.0.0.9"),
            (&[("forwarded", "proto=https")], "10.0.0.1"),
            // Only one of the two is the proxy's.
            (
                &[
                    ("x-forwarded-for", "192.0.2.1"),
                    ("forwarded", "for=198.51.100.7"),
                ],
                "192.0.2.1",
            ),
        ] {
            assert_eq!(asked("10.0.0.1", fields), expected, "{fields:?}");
        }
        assert_eq!(
            asked("::1", &[("x-forwarded-for", "192.0.2.1")]),
            "192.0.2.1"
        );
    }

    #[test]
    fn schemes() {
        let secure =
            |fields: &[_]| is_secure(&trusted(), "10.0.0.1".parse().unwrap(), &headers(fields));
        assert_eq!(secure(&[]), None);
        assert_eq!(secure(&[("x-forwarded-proto", "HTTPS")]), Some(true));
        assert_eq!(secure(&[("x-forwarded-proto", "https, http")]), Some(false));
        assert_eq!(
            secure(&[("forwarded", "for=192.0.2.1;proto=https")]),
            Some(true)
        );
        assert_eq!(
            secure(&[("forwarded", "for=192.0.2.1;proto=\"http\"")]),
            Some(false)
        );
    }
}
