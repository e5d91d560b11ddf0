//! The PROXY header that load balancers put in front of a connection's own bytes.
//!
//! HAProxy's "The PROXY protocol", versions 1 (a line of text) and 2 (binary). Only the source address is taken. Not here: the TLVs of
//! version 2 and its checksum (a header that a trusted proxy sends over TCP is not damaged on its way), and Unix sockets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// What is wrong with a header.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Other bytes.
    #[error("the connection begins with {0:?}")]
    NotProxy(String),
    /// Version 1, but not as it should be.
    #[error("the line {0:?} is not as in PROXY TCP4 192.0.2.1 192.0.2.2 56324 443")]
    Line(String),
    /// Version 2, but not as it should be.
    #[error("the binary header {0}")]
    Binary(&'static str),
    /// The connection ended or broke first.
    #[error("the connection ended: {0}")]
    Io(#[from] io::Error),
}

/// Takes the header off the connection, not a byte more. `None` if it names no client: a health check of the proxy itself, say.
pub(super) async fn read(stream: &mut TcpStream) -> Result<Option<SocketAddr>, Error> {
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE {
        let mut head = [0; 4];
        stream.read_exact(&mut head).await?;
        let [version_command, family, high, low] = head;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > MAX_BODY {
            return Err(Error::Binary("is longer than any"));
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        return parse_binary(version_command, family, &body);
    }
    if !start.starts_with(b"PROXY ") {
        return Err(Error::NotProxy(printable(&start)));
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\n") {
        // Looked at first: what comes behind the line is the client's.
        let mut ahead = [0; MAX_LINE];
        let seen = stream.peek(&mut ahead[..MAX_LINE - line.len()]).await?;
        if seen == 0 {
            return Err(Error::Line(printable(&line)));
        }
        let ours = ahead[..seen]
            .iter()
            .position(|&byte| byte == b'\n')
            .map_or(seen, |end| end + 1);
        stream.read_exact(&mut ahead[..ours]).await?;
        line.extend_from_slice(&ahead[..ours]);
    }
    parse_line(&line)
}

/// Version 1 (section 2.1), its line end included.
fn parse_line(line: &[u8]) -> Result<Option<SocketAddr>, Error> {
    let parse = || {
        let line = std::str::from_utf8(line).ok()?.strip_suffix("\r\n")?;
        let mut words = line.strip_prefix("PROXY ")?.split(' ');
        let family = words.next()?;
        if family == "UNKNOWN" {
            return Some(None);
        }
        let mut address = || -> Option<IpAddr> {
            let address: IpAddr = words.next()?.parse().ok()?;
            let fits = match family {
                "TCP4" => address.is_ipv4(),
                "TCP6" => address.is_ipv6(),
                _ => false,
            };
            fits.then_some(address)
        };
        let (source, _destination) = (address()?, address()?);
        let mut port = || -> Option<u16> {
            let digits = words.next()?;
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| digits.parse().ok())?
        };
        let (source_port, _destination_port) = (port()?, port()?);
        words
            .next()
            .is_none()
            .then_some(Some(SocketAddr::new(source, source_port)))
    };
    parse().ok_or_else(|| Error::Line(printable(line)))
}

/// Version 2 (section 2.2), what comes behind its signature.
fn parse_binary(version_command: u8, family: u8, body: &[u8]) -> Result<Option<SocketAddr>, Error> {
    match version_command {
        // LOCAL: the proxy's own connection.
        0x20 => return Ok(None),
        0x21 => {}
        _ if version_command >> 4 != 2 => return Err(Error::Binary("has a version other than 2")),
        _ => return Err(Error::Binary("has an unknown command")),
    }
    let short = || Error::Binary("is shorter than its addresses");
    let port = |at: usize| Some(u16::from_be_bytes(*body.get(at..)?.first_chunk()?));
    match family {
        // TCP over IPv4: source, destination, source port, destination port.
        0x11 => {
            let source = *body.first_chunk::<4>().ok_or_else(short)?;
            let port = port(8).filter(|_| body.len() >= 12).ok_or_else(short)?;
            Ok(Some((Ipv4Addr::from(source), port).into()))
        }
        // The same over IPv6.
        0x21 => {
            let source = *body.first_chunk::<16>().ok_or_else(short)?;
            let port = port(32).filter(|_| body.len() >= 36).ok_or_else(short)?;
            Ok(Some((Ipv6Addr::from(source), port).into()))
        }
        0x00 => Ok(None),
        _ => Err(Error::Binary("is about something else than TCP")),
    }
}

/// Bytes as they may stand in a log.
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Section 2.1: the longest line, its end included.
const MAX_LINE: usize = 107;
/// Addresses are 36 bytes; with the TLVs of cloud load balancers it is some hundred.
const MAX_BODY: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let parse = |line: &str| parse_line(line.as_bytes());
        let expect = |line: &str, address: &str| {
            assert_eq!(
                parse(line).unwrap(),
                Some(address.parse().unwrap()),
                "{line}"
            );
        };
        expect(
            "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n",
            "192.0.2.1:56324",
        );
        expect(
            "PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n",
            "[2001:db8::1]:1",
        );
        assert_eq!(parse("PROXY UNKNOWN\r\n").unwrap(), None);
        assert_eq!(parse("PROXY UNKNOWN ff::1 ff::2 1 2\r\n").unwrap(), None);
        for line in [
            "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 56324\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443 1\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 65536 443\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +1 443\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY \r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443 \r\n",
        ] {
            assert!(matches!(parse(line), Err(Error::Line(_))), "{line}");
        }
        assert!(parse_line(b"PROXY TCP4 \xff\r\n").is_err());
    }

    #[test]
    fn binary_headers() {
        let v4 = [192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 4, 1, 187];
        let expected: SocketAddr = "192.0.2.1:56324".parse().unwrap();
        assert_eq!(parse_binary(0x21, 0x11, &v4).unwrap(), Some(expected));
        // TLVs behind the addresses are of no interest.
        let with_tlv = [&v4[..], &[3, 0, 4, 1, 2, 3, 4]].concat();
        assert_eq!(parse_binary(0x21, 0x11, &with_tlv).unwrap(), Some(expected));
        let mut v6 = [0; 36];
        v6[15] = 1;
        v6[33] = 7;
        let expected: SocketAddr = "[::1]:7".parse().unwrap();
        assert_eq!(parse_binary(0x21, 0x21, &v6).unwrap(), Some(expected));
        assert_eq!(parse_binary(0x20, 0, &[]).unwrap(), None);
        assert_eq!(parse_binary(0x20, 0x11, &v4).unwrap(), None);
        assert_eq!(parse_binary(0x21, 0, &[]).unwrap(), None);
        for length in 0..12 {
            assert!(parse_binary(0x21, 0x11, &v4[..length]).is_err());
        }
        assert!(parse_binary(0x21, 0x21, &v6[..35]).is_err());
        assert!(parse_binary(0x11, 0x11, &v4).is_err(), "version 1");
        assert!(parse_binary(0x22, 0x11, &v4).is_err(), "no such command");
        assert!(parse_binary(0x21, 0x12, &v4).is_err(), "UDP");
        assert!(parse_binary(0x21, 0x31, &[0; 216]).is_err(), "Unix");
    }
}
