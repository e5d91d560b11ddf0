//! The client's side of HTTP/1.1, as little of it as loading a server needs.
//!
//! One request at a time on a connection that is kept alive. Bodies are looked at in place, in one read buffer that all connections
//! of the thread share: a waiting viewer costs the generator a socket and a few hundred bytes. Loopback addresses only.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::ready;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::TcpStream;

/// Something of a response's body.
#[derive(Debug)]
pub enum Body<'a> {
    /// Bytes of it.
    Bytes(&'a [u8]),
    /// The end of an HTTP chunk.
    ChunkEnd,
}

/// A connection that is kept alive.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    host: SocketAddr,
}

/// What came back.
#[derive(Debug, Clone, Copy, Default)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Bytes of the body.
    pub body: u64,
}

impl Connection {
    /// Connects; to this machine only.
    pub async fn open(host: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(loopback(host)?).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, host })
    }

    /// Asks for `path` and hands the body of a 200 to `on` as it comes.
    pub async fn get(&mut self, path: &str, mut on: impl FnMut(Body<'_>)) -> io::Result<Answer> {
        self.send(path).await?;
        let mut response = Response::default();
        let socket = &mut self.socket;
        poll_fn(|context| {
            loop {
                let done = SHARED.with_borrow_mut(|shared| {
                    let mut buffer = ReadBuf::new(shared);
                    ready!(Pin::new(&mut *socket).poll_read(context, &mut buffer))?;
                    let bytes = buffer.filled();
                    std::task::Poll::Ready(if bytes.is_empty() {
                        Err(io::ErrorKind::UnexpectedEof.into())
                    } else {
                        response.take(bytes, &mut on)
                    })
                });
                if ready!(done)? {
                    return std::task::Poll::Ready(Ok::<_, io::Error>(()));
                }
            }
        })
        .await?;
        Ok(response.answer)
    }

    /// Asks for `path` and returns the whole body.
    pub async fn get_bytes(&mut self, path: &str) -> io::Result<(u16, Vec<u8>)> {
        let mut bytes = Vec::new();
        let answer = self
            .get(path, |body| {
                if let Body::Bytes(more) = body {
                    bytes.extend_from_slice(more);
                }
            })
            .await?;
        Ok((answer.status, bytes))
    }

    /// Asks for `path` and has the kernel throw the body away, so that the generator is not the one who is measured. Only for
    /// responses with a Content-Length.
    pub async fn get_discarding(&mut self, path: &str) -> io::Result<Answer> {
        self.send(path).await?;
        let mut response = Response::default();
        let mut buffer = [0; 2048];
        while !matches!(response.state, State::Length(_) | State::Done) {
            self.socket.readable().await?;
            match self.socket.try_read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    response.take(&buffer[..count], &mut |_| ())?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        while let State::Length(rest) = response.state {
            if rest == 0 {
                break;
            }
            let socket = &self.socket;
            let count = socket
                .async_io(Interest::READABLE, || {
                    SCRATCH.with_borrow_mut(|scratch| {
                        let most = scratch.len().min(rest as usize);
                        SockRef::from(socket).recv_with_flags(&mut scratch[..most], MSG_TRUNC)
                    })
                })
                .await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            response.answer.body += count as u64;
            response.state = State::Length(rest - count as u64);
        }
        Ok(response.answer)
    }

    async fn send(&mut self, path: &str) -> io::Result<()> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
        self.socket.write_all(request.as_bytes()).await
    }
}

/// A response being read.
#[derive(Debug, Default)]
struct Response {
    answer: Answer,
    state: State,
    /// The head, or the line of a chunk's size, as far as it has come.
    text: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    /// Bytes of the body still to come.
    Length(u64),
    ChunkSize,
    Chunk(u64),
    /// The line end behind a chunk, or an empty trailer behind the last.
    ChunkTail {
        last: bool,
    },
    Done,
}

impl Response {
    /// Takes bytes from the socket; true at the end of the response.
    fn take(&mut self, mut bytes: &[u8], on: &mut impl FnMut(Body<'_>)) -> io::Result<bool> {
        while !bytes.is_empty() {
            match self.state {
                State::Head => {
                    // Heads are short; byte by byte is good enough and finds the end wherever the reads were split.
                    let Some((&first, rest)) = bytes.split_first() else {
                        break;
                    };
                    self.text.push(first);
                    bytes = rest;
                    if self.text.ends_with(b"\r\n\r\n") {
                        self.parse_head()?;
                    } else if self.text.len() > MAX_HEAD {
                        return Err(malformed("the response's head does not end"));
                    }
                }
                State::Length(rest) => {
                    let (now, later) = split(bytes, rest);
                    self.body(now, on);
                    bytes = later;
                    self.state = State::Length(rest - now.len() as u64);
                }
                State::ChunkSize => {
                    let Some((&first, rest)) = bytes.split_first() else {
                        break;
                    };
                    bytes = rest;
                    match first {
                        b'\n' => {
                            let size = std::str::from_utf8(&self.text)
                                .ok()
                                .and_then(|text| u64::from_str_radix(text.trim_end(), 16).ok())
                                .ok_or_else(|| malformed("the size of a chunk is no number"))?;
                            self.text.clear();
                            self.state = match size {
                                0 => State::ChunkTail { last: true },
                                size => State::Chunk(size),
                            };
                        }
                        other if self.text.len() < 20 => self.text.push(other),
                        _ => return Err(malformed("the size of a chunk does not end")),
                    }
                }
                State::Chunk(rest) => {
                    let (now, later) = split(bytes, rest);
                    self.body(now, on);
                    bytes = later;
                    self.state = State::Chunk(rest - now.len() as u64);
                    if rest == now.len() as u64 {
                        self.state = State::ChunkTail { last: false };
                    }
                }
                State::ChunkTail { last } => {
                    let Some((&first, rest)) = bytes.split_first() else {
                        break;
                    };
                    bytes = rest;
                    if first == b'\n' {
                        on(Body::ChunkEnd);
                        self.state = if last { State::Done } else { State::ChunkSize };
                    }
                }
                State::Done => return Err(malformed("bytes behind the response's end")),
            }
        }
        Ok(matches!(self.state, State::Done | State::Length(0)))
    }

    fn body(&mut self, bytes: &[u8], on: &mut impl FnMut(Body<'_>)) {
        self.answer.body += bytes.len() as u64;
        on(Body::Bytes(bytes));
    }

    fn parse_head(&mut self) -> io::Result<()> {
        let head = String::from_utf8_lossy(&self.text).to_ascii_lowercase();
        let status = head
            .strip_prefix("http/1.1 ")
            .and_then(|rest| rest.get(..3))
            .and_then(|code| code.parse().ok());
        self.answer.status = status.ok_or_else(|| malformed("no HTTP/1.1 status line"))?;
        let value = |name: &str| {
            head.lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        self.state = if value("transfer-encoding:") == Some("chunked") {
            State::ChunkSize
        } else {
            let length = value("content-length:").and_then(|value| value.parse().ok());
            State::Length(
                length.ok_or_else(|| malformed("neither chunked nor with a Content-Length"))?,
            )
        };
        self.text.clear();
        Ok(())
    }
}

/// The address, if it is this machine's own: a load generator must not be pointed at others.
pub fn loopback(address: SocketAddr) -> io::Result<SocketAddr> {
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "{address} is not a loopback address; load is generated against 127.0.0.1 only"
            ),
        ))
    }
}

fn split(bytes: &[u8], most: u64) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.len().min(usize::try_from(most).unwrap_or(usize::MAX)))
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

thread_local! {
    static SHARED: RefCell<Vec<u8>> = RefCell::new(vec![0; 256 * 1024]);
    /// Never filled: the kernel only looks at how long it is.
    static SCRATCH: RefCell<Vec<MaybeUninit<u8>>> = RefCell::new(vec![MaybeUninit::uninit(); 1 << 20]);
}

/// Linux: with TCP, bytes are taken off the queue and not copied (tcp(7)).
const MSG_TRUNC: i32 = 0x20;
const MAX_HEAD: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(response: &[u8], step: usize) -> (Answer, Vec<u8>, usize) {
        let (mut reader, mut body, mut chunks) = (Response::default(), Vec::new(), 0);
        for bytes in response.chunks(step) {
            let _ = reader.take(bytes, &mut |part| match part {
                Body::Bytes(bytes) => body.extend_from_slice(bytes),
                Body::ChunkEnd => chunks += 1,
            });
        }
        assert!(matches!(reader.state, State::Done | State::Length(0)));
        (reader.answer, body, chunks)
    }

    #[test]
    fn responses_read_the_same_however_they_are_cut() {
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
        let sized = b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno\n";
        for step in [1, 2, 3, 7, 1000] {
            let (answer, body, chunks) = read(chunked, step);
            assert_eq!(
                (answer.status, &body[..], chunks),
                (200, &b"hello world"[..], 3)
            );
            let (answer, body, _) = read(sized, step);
            assert_eq!(
                (answer.status, answer.body, &body[..]),
                (404, 3, &b"no\n"[..])
            );
        }
    }
}
