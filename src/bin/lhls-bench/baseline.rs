//! The least that serving a growing stream can cost: one thread, one epoll, one `writev` per viewer and piece.
//!
//! It stands where a server would stand, serves the synthetic stream as if it were cut into segments, and is followed by the same
//! viewers. It has no ring, no playlists worth the name, no limits and no protection against anything: what it leaves of a core is
//! what a server has for all of that.

use std::collections::HashMap;
use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::signal::{self, Signal};
use crate::wire::loopback;

/// One viewer.
struct Peer {
    socket: TcpStream,
    request: Vec<u8>,
    /// The segment that it reads.
    segment: Option<u64>,
    /// The piece of it that comes next, and how much of that has been sent, framing included.
    cursor: (usize, usize),
}

/// A piece with its framing as an HTTP chunk.
struct Piece {
    size: String,
    bytes: Vec<u8>,
}

/// The segment that grows.
struct Growing {
    number: u64,
    pieces: Vec<Piece>,
}

/// Serves until the process is ended.
pub fn serve(address: SocketAddr, signal: &Signal) -> anyhow::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(loopback(address)?)?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut peers: HashMap<Token, Peer> = HashMap::new();
    let mut next_token = 1;
    let start = Instant::now();
    let mut growing = Growing {
        number: 1000,
        pieces: Vec::new(),
    };
    let mut picture = 0;
    loop {
        let due = start + signal.picture_time(picture);
        let patience = due.saturating_duration_since(Instant::now());
        if patience.is_zero() {
            if picture > 0 && picture.is_multiple_of(signal.options().gop) {
                peers.retain(|_, peer| end_segment(peer, &growing).is_ok());
                growing.number += 1;
                growing.pieces.clear();
            }
            growing.pieces.push(piece(signal, picture));
            peers.retain(|_, peer| send(peer, &growing).is_ok());
            picture += 1;
            continue;
        }
        poll.poll(&mut events, Some(patience))?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut socket, _)) = listener.accept() {
                    let token = Token(next_token);
                    next_token += 1;
                    socket.set_nodelay(true)?;
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut socket, token, interest)?;
                    let peer = Peer {
                        socket,
                        request: Vec::new(),
                        segment: None,
                        cursor: (0, 0),
                    };
                    peers.insert(token, peer);
                }
            } else if let Some(peer) = peers.get_mut(&event.token())
                && (answer(peer, &growing).is_err() || send(peer, &growing).is_err())
            {
                peers.remove(&event.token());
            }
        }
    }
}

/// Reads requests and answers them: playlists that lead to the current segment, segments with their heads.
fn answer(peer: &mut Peer, growing: &Growing) -> io::Result<()> {
    let mut buffer = [0; 1024];
    loop {
        match peer.socket.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => peer.request.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    if !peer.request.ends_with(b"\r\n\r\n") {
        return Ok(());
    }
    let request = String::from_utf8_lossy(&std::mem::take(&mut peer.request)).into_owned();
    let path = request.split(' ').nth(1).unwrap_or_default();
    let number = path
        .strip_suffix(".ts")
        .and_then(|path| path.rsplit('-').next())
        .and_then(|number| number.parse().ok());
    if let Some(number) = number {
        peer.segment = Some(growing.number.max(number));
        peer.cursor = (0, 0);
        return all(&mut peer.socket, SEGMENT_HEAD.as_bytes());
    }
    let text = if path.ends_with("playlist.m3u8") {
        "#EXTM3U\nmedia.m3u8\n".to_owned()
    } else {
        format!("#EXTM3U\nbare-{}.ts\n", growing.number)
    };
    let response = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    );
    all(&mut peer.socket, response.as_bytes())
}

/// The end of a segment; whoever has not got it all by now is too slow for what this is for.
fn end_segment(peer: &mut Peer, growing: &Growing) -> io::Result<()> {
    if peer.segment != Some(growing.number) {
        return Ok(());
    }
    send(peer, growing)?;
    peer.segment = None;
    if peer.cursor.0 < growing.pieces.len() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    all(&mut peer.socket, b"0\r\n\r\n")
}

/// Sends what is there, as far as the socket takes it.
fn send(peer: &mut Peer, growing: &Growing) -> io::Result<()> {
    if peer.segment != Some(growing.number) {
        return Ok(());
    }
    while let Some(piece) = growing.pieces.get(peer.cursor.0) {
        let mut slices = piece.slices();
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, peer.cursor.1);
        match peer.socket.write_vectored(rest) {
            Ok(count) => peer.cursor.1 += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
        if peer.cursor.1 == piece.len() {
            peer.cursor = (peer.cursor.0 + 1, 0);
        }
    }
    Ok(())
}

/// A few hundred bytes, which a socket with nothing in it always takes.
fn all(socket: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    if socket.write(bytes)? == bytes.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::TimedOut.into())
    }
}

impl Piece {
    fn slices(&self) -> [IoSlice<'_>; 3] {
        [self.size.as_bytes(), &self.bytes, b"\r\n"].map(IoSlice::new)
    }

    fn len(&self) -> usize {
        self.size.len() + self.bytes.len() + 2
    }
}

/// As many bytes as the transport stream packets of this picture and its sound would be.
fn piece(signal: &Signal, picture: u32) -> Piece {
    let mut bytes = signal.picture(picture, signal::now()).to_vec();
    let sound = if signal.options().audio {
        signal.audio_frame().len() * 48_000 / 1024 / signal.options().fps as usize
    } else {
        0
    };
    bytes.resize((bytes.len() + sound).div_ceil(184) * 188, b'x');
    Piece {
        size: format!("{:x}\r\n", bytes.len()),
        bytes,
    }
}

const LISTENER: Token = Token(0);
const SEGMENT_HEAD: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\nTransfer-Encoding: chunked\r\n\r\n";
