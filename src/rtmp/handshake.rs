//! The handshakes, as server and as client.
//!
//! RTMP specification 1.0, section 5.2, and the digest handshake that Adobe's own software speaks (not in the
//! specification; described by many, verified against real encoders):
//!
//! ```text
//!  peer ─ C0 (1 byte: 3)  C1 (1536 bytes) ─►
//!       ◄─ S0 (1 byte: 3)  S1 (1536)  S2 (1536: answer to C1) ─
//!       ─ C2 (1536: answer to S1) ─►
//! ```
//!
//! A C1 with a digest in either of its two places gets a digest answer; any other C1 is echoed exactly, its time field
//! included, which Streamlabs checks. Digests are `rml_rtmp`'s work; this module gives it whole packets only, since it would
//! store whatever it is fed.
//!
//! Deliberately not here: checking C2 (real Flash players fail it), and RTMPE.

use bytes::{Buf, Bytes, BytesMut};
use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use std::fmt;

/// Why a handshake failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The peer speaks another protocol.
    #[error("not RTMP: the first byte is {first:#04x} instead of 3; it looks like {looks_like}")]
    NotRtmp {
        /// The first byte.
        first: u8,
        /// What the bytes look like, in words for an operator.
        looks_like: &'static str,
    },
    /// The peer asks for Adobe's encryption.
    #[error(
        "the peer asks for RTMPE (version {0}), which is not supported; use rtmp:// or rtmps://"
    )]
    Encrypted(u8),
    /// The handshake's state machine refuses; not known to happen.
    #[error("handshake: {0}")]
    Failed(String),
}

/// What [`ServerHandshake::feed`] and [`ClientHandshake::feed`] came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed.
    Waiting,
    /// Send this, then feed again: the input may hold more.
    Reply(Bytes),
    /// Over; what is left in the input are chunks.
    Done,
}

/// The handshake with a peer that connected to us.
#[derive(Debug, Default)]
pub struct ServerHandshake {
    replied: bool,
}

impl ServerHandshake {
    /// Nothing is sent before the peer has sent C0 and C1.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes whole packets off the front of `input`, which never needs to hold more than 1537 bytes.
    pub fn feed(&mut self, input: &mut BytesMut) -> Result<Progress, Error> {
        if self.replied {
            return Ok(match take(input, PACKET) {
                Some(_) => Progress::Done,
                None => Progress::Waiting,
            });
        }
        check_version(input)?;
        let Some(hello) = take(input, 1 + PACKET) else {
            return Ok(Progress::Waiting);
        };
        self.replied = true;
        let mut reply = step(&mut Handshake::new(PeerType::Server), &hello)?;
        // An echo means that the peer's packet has no digest. It gets none from us then: the four bytes after the time,
        // which say "digest" to some clients, are zero in the specification.
        let echoed = reply.get(1 + PACKET..) == hello.get(1..);
        if let (true, Some(version)) = (echoed, reply.get_mut(5..9)) {
            version.fill(0);
        }
        Ok(Progress::Reply(reply.into()))
    }
}

/// The handshake with a server that we connected to.
pub struct ClientHandshake {
    inner: Handshake,
    replied: bool,
}

impl ClientHandshake {
    /// The handshake, and the bytes to send first (C0 and C1).
    pub fn start() -> Result<(Self, Bytes), Error> {
        let mut inner = Handshake::new(PeerType::Client);
        let hello = inner.generate_outbound_p0_and_p1();
        let hello = hello.map_err(|e| Error::Failed(e.to_string()))?;
        let this = Self {
            inner,
            replied: false,
        };
        Ok((this, hello.into()))
    }

    /// Takes whole packets off the front of `input`, which never needs to hold more than 1537 bytes.
    pub fn feed(&mut self, input: &mut BytesMut) -> Result<Progress, Error> {
        if self.replied {
            return Ok(match take(input, PACKET) {
                Some(_) => Progress::Done,
                None => Progress::Waiting,
            });
        }
        check_version(input)?;
        let Some(hello) = take(input, 1 + PACKET) else {
            return Ok(Progress::Waiting);
        };
        self.replied = true;
        let reply = step(&mut self.inner, &hello)?;
        Ok(Progress::Reply(reply.into()))
    }
}

impl fmt::Debug for ClientHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientHandshake")
            .field("replied", &self.replied)
            .finish_non_exhaustive()
    }
}

/// `length` bytes off the front, once they are there.
fn take(input: &mut BytesMut, length: usize) -> Option<BytesMut> {
    (input.remaining() >= length).then(|| input.split_to(length))
}

fn step(handshake: &mut Handshake, packets: &[u8]) -> Result<Vec<u8>, Error> {
    match handshake.process_bytes(packets) {
        Ok(
            HandshakeProcessResult::InProgress { response_bytes }
            | HandshakeProcessResult::Completed { response_bytes, .. },
        ) => Ok(response_bytes),
        Err(error) => Err(Error::Failed(error.to_string())),
    }
}

fn check_version(input: &[u8]) -> Result<(), Error> {
    match input.first() {
        None | Some(3) => Ok(()),
        Some(&version @ (6 | 8 | 9)) => Err(Error::Encrypted(version)),
        Some(&first) => Err(Error::NotRtmp {
            first,
            looks_like: guess_protocol(input),
        }),
    }
}

/// What the first bytes of a connection look like. They may be few: the guess is for a log line only.
fn guess_protocol(input: &[u8]) -> &'static str {
    let begins = |prefix: &&[u8]| {
        let shared = prefix.len().min(input.len());
        prefix.get(..shared) == input.get(..shared)
    };
    let guess = KNOWN_PREFIXES
        .iter()
        .find(|(prefixes, _)| prefixes.iter().any(begins));
    guess.map_or("no protocol we know", |(_, name)| name)
}

/// Bytes of C1, C2, S1 and S2.
const PACKET: usize = 1536;

/// How connections meant for another port begin.
const KNOWN_PREFIXES: [(&[&[u8]], &str); 6] = [
    (
        &[
            b"GET ",
            b"POST ",
            b"HEAD ",
            b"PUT ",
            b"OPTIONS ",
            b"CONNECT ",
            b"DELETE ",
            b"PRI * HTTP/2",
        ],
        "an HTTP request; HTTP has a port of its own",
    ),
    (
        &[b"\x16\x03"],
        "TLS, as for rtmps://; this port takes plain rtmp://",
    ),
    (
        &[b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"],
        "a load balancer's PROXY protocol header; switch that off",
    ),
    (&[b"\x47"], "an MPEG-TS stream without RTMP around it"),
    (&[b"FLV\x01"], "an FLV file without RTMP around it"),
    (&[b"SSH-"], "SSH"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// C1 with a digest in one of its two places. The digests were computed apart from this code.
    fn digest_c1(offset: usize, digest: &str) -> Vec<u8> {
        let mut c1: Vec<u8> = (0..PACKET).map(|i| (i * 31 + 7) as u8).collect();
        c1[4..8].copy_from_slice(&[128, 0, 7, 2]);
        for i in 0..32 {
            c1[offset + i] = u8::from_str_radix(&digest[2 * i..2 * i + 2], 16).unwrap();
        }
        c1
    }

    fn schema_0() -> Vec<u8> {
        digest_c1(OFFSET0, DIGEST0)
    }

    fn schema_1() -> Vec<u8> {
        digest_c1(OFFSET1, DIGEST1)
    }

    /// S1 and S2 in answer to `c1`, sent in pieces of `piece` bytes.
    fn answer(c1: &[u8], piece: usize) -> (Vec<u8>, Vec<u8>) {
        let mut handshake = ServerHandshake::new();
        let mut input = BytesMut::new();
        let mut reply = None;
        for part in [&[3][..], c1].concat().chunks(piece) {
            assert_eq!(reply, None);
            input.extend_from_slice(part);
            match handshake.feed(&mut input).unwrap() {
                Progress::Waiting => {}
                Progress::Reply(bytes) => reply = Some(bytes),
                Progress::Done => panic!("C2 is missing"),
            }
        }
        let reply = reply.unwrap();
        assert_eq!((reply[0], reply.len()), (3, 1 + 2 * PACKET));
        let c2_and_chunk = [&reply[1..1 + PACKET], b"chunk"].concat();
        input.extend_from_slice(&c2_and_chunk[..100]);
        assert_eq!(handshake.feed(&mut input), Ok(Progress::Waiting));
        input.extend_from_slice(&c2_and_chunk[100..]);
        assert_eq!(handshake.feed(&mut input), Ok(Progress::Done));
        assert_eq!(input, &b"chunk"[..]);
        (reply[1..1 + PACKET].to_vec(), reply[1 + PACKET..].to_vec())
    }

    #[test]
    fn plain_echoes_c1_exactly_with_its_time_streamlabs() {
        let mut c1: Vec<u8> = (0..PACKET).map(|i| (i * 13 % 256) as u8).collect();
        c1[..8].copy_from_slice(&[1, 2, 3, 4, 0, 0, 0, 0]);
        for piece in [1, 1000, 5000] {
            let (s1, s2) = answer(&c1, piece);
            assert_eq!(s2, c1);
            assert_eq!(s1[4..8], [0; 4]);
        }
    }

    #[test]
    fn plain_with_a_version_in_it_is_still_plain() {
        let mut c1 = schema_0();
        c1[OFFSET0] ^= 1;
        assert_eq!(answer(&c1, 5000).1, c1);
    }

    #[test]
    fn digest_in_the_first_place_gets_a_digest() {
        let (s1, s2) = answer(&schema_0(), 700);
        assert_ne!(s2, schema_0());
        assert_ne!(s1[4..8], [0; 4]);
    }

    #[test]
    fn digest_in_the_second_place_gets_a_digest() {
        let (s1, s2) = answer(&schema_1(), 700);
        assert_ne!(s2, schema_1());
        assert_ne!(s1[4..8], [0; 4]);
    }

    #[test]
    fn client_and_server_agree() {
        let (mut client, hello) = ClientHandshake::start().unwrap();
        let mut server = ServerHandshake::new();
        let mut to_server = BytesMut::from(&hello[..]);
        let Ok(Progress::Reply(reply)) = server.feed(&mut to_server) else {
            panic!("no reply");
        };
        let mut to_client = BytesMut::from(&reply[..]);
        to_client.extend_from_slice(b"chunk");
        let Ok(Progress::Reply(reply)) = client.feed(&mut to_client) else {
            panic!("no reply");
        };
        to_server.extend_from_slice(&reply);
        assert_eq!(client.feed(&mut to_client), Ok(Progress::Done));
        assert_eq!(server.feed(&mut to_server), Ok(Progress::Done));
        assert_eq!((&to_client[..], &to_server[..]), (&b"chunk"[..], &b""[..]));
    }

    #[test]
    fn other_protocols_are_named_at_the_first_bytes() {
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], "HTTP"),
            (b"G", "HTTP"),
            (b"\x16\x03\x01\x02\x00", "TLS"),
            (b"PROXY TCP4", "PROXY"),
            (b"\x47\x40\x11\x10", "MPEG-TS"),
            (b"SSH-2.0", "SSH"),
            (b"\x50", "HTTP"),
            (b"\xff\xff", "no protocol we know"),
        ] {
            let mut input = BytesMut::from(bytes);
            match ServerHandshake::new().feed(&mut input) {
                Err(Error::NotRtmp { first, looks_like }) => {
                    assert_eq!(first, bytes[0]);
                    assert!(looks_like.contains(expected), "{looks_like}");
                }
                other => panic!("{other:?}"),
            }
        }
        let mut rtmpe = BytesMut::from(&[6][..]);
        let refusal = ServerHandshake::new().feed(&mut rtmpe);
        assert_eq!(refusal, Err(Error::Encrypted(6)));
    }

    const OFFSET0: usize = 450;
    const DIGEST0: &str = "954779e88c53160a13eb1b7c7f419c1afd6046fb7dda5da851c279a4a20ad295";
    const OFFSET1: usize = 1486;
    const DIGEST1: &str = "b1e4b314add12717d9cf85f6d4e64642b54d9562991894d08e3b3e4084065bc5";
}
