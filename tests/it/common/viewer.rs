//! An HTTP/1.1 client on a bare socket, because libraries hide what matters here: when the head came, and where each HTTP chunk
//! begins, ends, and came.

use std::net::SocketAddr;
use std::time::Instant;

use lhls::net::Wire;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::within;

/// One connection.
pub(crate) struct Viewer {
    stream: BufReader<Box<dyn Wire>>,
    body: Body,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Body {
    Empty,
    Chunked,
    Length(usize),
}

/// Status and headers.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
}

/// One HTTP chunk, or all of a body that is not chunked.
#[derive(Debug, Clone)]
pub(crate) struct HttpChunk {
    pub(crate) bytes: Vec<u8>,
    pub(crate) arrived: Instant,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) head: Head,
    pub(crate) chunks: Vec<HttpChunk>,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

impl Response {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.chunks
            .iter()
            .flat_map(|chunk| chunk.bytes.iter().copied())
            .collect()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.bytes()).unwrap()
    }

    pub(crate) fn status(&self) -> u16 {
        self.head.status
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }
}

impl Viewer {
    pub(crate) async fn connect(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).await.unwrap();
        Self::over(stream)
    }

    pub(crate) fn over(stream: impl Wire + 'static) -> Self {
        let stream: Box<dyn Wire> = Box::new(stream);
        Self {
            stream: BufReader::new(stream),
            body: Body::Empty,
        }
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes).await
    }

    /// Sends a request; headers as in `"Range: bytes=0-"`.
    pub(crate) async fn ask(&mut self, method: &str, path: &str, headers: &[&str]) {
        self.ask_as("Host: test", method, path, headers).await;
    }

    /// Sends a request with this Host header.
    pub(crate) async fn ask_as(&mut self, host: &str, method: &str, path: &str, headers: &[&str]) {
        let mut text = format!("{method} {path} HTTP/1.1\r\n{host}\r\n");
        for header in headers {
            text.push_str(header);
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        self.body = if method == "HEAD" {
            Body::Empty
        } else {
            Body::Chunked
        };
        self.send(text.as_bytes()).await.unwrap();
    }

    /// Another answer is on its way: to a request that was sent ahead.
    pub(crate) fn expect_body(&mut self) {
        self.body = Body::Chunked;
    }

    /// Sends no more, and still listens.
    pub(crate) async fn hang_up(&mut self) {
        let _ = self.stream.get_mut().shutdown().await;
    }

    /// Status and headers, or `None` if the server hung up first.
    pub(crate) async fn try_head(&mut self) -> Option<Head> {
        let status_line = self.line().await?;
        let status = status_line.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ")?;
            headers.push((name.to_owned(), value.to_owned()));
        }
        let head = Head { status, headers };
        if self.body != Body::Empty {
            self.body = match head.header("content-length") {
                _ if status == 204 || status == 304 => Body::Empty,
                Some(length) => Body::Length(length.parse().ok()?),
                None => {
                    assert_eq!(
                        head.header("transfer-encoding"),
                        Some("chunked"),
                        "{head:?}"
                    );
                    Body::Chunked
                }
            };
        }
        Some(head)
    }

    pub(crate) async fn head(&mut self) -> Head {
        self.try_head()
            .await
            .expect("an answer, but was hung up on")
    }

    /// The next part of the body; `None` at its proper end. Panics if the body breaks off.
    pub(crate) async fn next_chunk(&mut self) -> Option<HttpChunk> {
        let length = match self.body {
            Body::Empty => return None,
            Body::Length(length) => {
                self.body = Body::Empty;
                length
            }
            Body::Chunked => {
                let line = self.line().await.expect("the body breaks off");
                usize::from_str_radix(&line, 16).unwrap()
            }
        };
        let mut bytes = vec![0; length];
        within("the rest of a chunk", self.stream.read_exact(&mut bytes))
            .await
            .expect("the body breaks off");
        if self.body == Body::Chunked {
            assert_eq!(self.line().await.as_deref(), Some(""));
            if length == 0 {
                self.body = Body::Empty;
                return None;
            }
        }
        let arrived = Instant::now();
        Some(HttpChunk { bytes, arrived })
    }

    /// Some bytes of what the server sends, unread by anything here; 0 at its end.
    pub(crate) async fn trickle(&mut self, buffer: &mut [u8]) -> usize {
        within("bytes", self.stream.read(buffer)).await.unwrap_or(0)
    }

    /// Whether the server has hung up, or does so.
    pub(crate) async fn expect_close(&mut self) {
        let mut buffer = [0; 1024];
        while self.trickle(&mut buffer).await > 0 {}
    }

    pub(crate) async fn response(&mut self) -> Response {
        let head = self.head().await;
        let mut chunks = Vec::new();
        while let Some(chunk) = self.next_chunk().await {
            chunks.push(chunk);
        }
        Response { head, chunks }
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line);
        within("a line of the answer", read).await.ok()?;
        line.strip_suffix("\r\n").map(str::to_owned)
    }
}

/// A request on a connection of its own.
pub(crate) async fn request(
    server: SocketAddr,
    method: &str,
    path: &str,
    headers: &[&str],
) -> Response {
    let mut viewer = Viewer::connect(server).await;
    viewer.ask(method, path, headers).await;
    viewer.response().await
}

pub(crate) async fn get(server: SocketAddr, path: &str) -> Response {
    request(server, "GET", path, &[]).await
}
