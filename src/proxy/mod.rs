//! Load balancers and reverse proxies in front of the server: whose word about the true address of a client is believed.
//!
//! Two ways in which they pass it on: a PROXY header at the start of a connection ([`header`]) and header fields of each request
//! ([`forwarded`]). Both are believed from the addresses of [`TrustedProxies`] only, since anybody can send them.

pub mod forwarded;
pub mod header;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

/// A range of addresses, written `10.0.0.0/8`, `fd00::/8`, or as a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

/// The proxies whose word is believed. Clones share the list.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Arc<[Cidr]>);

/// Whether the connections of a port begin with a PROXY header.
#[derive(Debug, Clone, Default)]
pub struct Expectation {
    /// The proxies that send one; from everybody else a connection is taken as it is. `None`: nobody sends one.
    pub from: Option<TrustedProxies>,
}

/// Why a proxy's connection is of no use. All of it is a matter of configuration, here or there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the proxy sent first is no PROXY header.
    #[error(
        "the trusted proxy sent no proper PROXY header: {0}; it must send one (send-proxy in HAProxy, proxy_protocol in nginx), or --proxy-protocol must not name this port"
    )]
    Header(#[from] header::Error),
    /// Nothing came.
    #[error("the trusted proxy sent no PROXY header within {HEADER_TIMEOUT:?}")]
    Late,
}

impl Cidr {
    /// Whether the address is in the range. An IPv4 address that comes written as an IPv6 one is that IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = mask(u32::MAX.into(), 32, self.prefix) as u32;
                network.to_bits() == address.to_bits() & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                network.to_bits() == address.to_bits() & mask(u128::MAX, 128, self.prefix)
            }
            _ => false,
        }
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, prefix) = text
            .split_once('/')
            .map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let wrong =
            || format!("{text:?} is no address or range, as in 10.0.0.1, 10.0.0.0/8 or fd00::/8");
        let network: IpAddr = address.trim().parse().map_err(|_| wrong())?;
        let bits = if network.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits
                .parse()
                .ok()
                .filter(|&prefix| prefix <= bits)
                .ok_or_else(|| format!("{text:?}: the prefix is from 0 to {bits}"))?,
            Some(_) => return Err(wrong()),
        };
        let range = Self { network, prefix };
        // Half of those who write 10.0.0.1/8 mean the one address, the other half all of them.
        if !range.contains(network) {
            return Err(format!(
                "{text:?} has bits set behind its prefix; write the first address of the range, or leave the prefix out"
            ));
        }
        Ok(range)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.network, self.prefix)
    }
}

impl TrustedProxies {
    /// Those of these ranges.
    pub fn new(ranges: &[Cidr]) -> Self {
        Self(ranges.into())
    }

    /// Whether nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the address is a trusted proxy's.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(address))
    }
}

impl Expectation {
    /// The client's address: what the PROXY header says, which is taken off the connection, if `peer` is one who sends it; else `peer`.
    ///
    /// # Errors
    /// When a trusted proxy sends no proper header. The connection is then of no use.
    pub async fn client(
        &self,
        stream: &mut TcpStream,
        peer: SocketAddr,
    ) -> Result<SocketAddr, Error> {
        match &self.from {
            Some(trusted) if trusted.contains(peer.ip()) => {
                let client = tokio::time::timeout(HEADER_TIMEOUT, header::read(stream)).await;
                Ok(client.map_err(|_| Error::Late)??.unwrap_or(peer))
            }
            _ => Ok(peer),
        }
    }
}

/// The upper `prefix` of `bits` bits.
fn mask(all: u128, bits: u8, prefix: u8) -> u128 {
    all.checked_shl(u32::from(bits - prefix)).unwrap_or(0) & all
}

/// A proxy sends its header with the first packet.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges() {
        for (range, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.0.2.128/25", "192.0.2.255", "192.0.2.127"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("127.0.0.1", "::ffff:127.0.0.1", "::1"),
            ("fd00::/8", "fdff::1", "fc00::1"),
            ("::1", "::1", "0.0.0.1"),
        ] {
            assert!(cidr(range).contains(inside.parse().unwrap()), "{range}");
            assert!(!cidr(range).contains(outside.parse().unwrap()), "{range}");
        }
        assert!(cidr("0.0.0.0/0").contains("203.0.113.9".parse().unwrap()));
        assert!(!cidr("0.0.0.0/0").contains("2001:db8::1".parse().unwrap()));
        assert!(cidr("::/0").contains("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn wrong_ranges_say_what_would_be_right() {
        for (text, part) in [
            ("", "as in 10.0.0.1"),
            ("example.org", "as in 10.0.0.1"),
            ("10.0.0.0/", "prefix is from 0 to 32"),
            ("10.0.0.0/33", "prefix is from 0 to 32"),
            ("fd00::/129", "prefix is from 0 to 128"),
            ("10.0.0.0/-1", "as in 10.0.0.1"),
            ("10.0.0.1/8", "bits set behind its prefix"),
        ] {
            let error = text.parse::<Cidr>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert_eq!(cidr("10.0.0.0/8").to_string(), "10.0.0.0/8");
    }
}
