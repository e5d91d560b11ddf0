//! A scripted RTMP peer. It writes its chunks by hand, so that it can write wrong ones.

use std::io;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use lhls::net::Wire;
use lhls::rtmp::amf::{self, Amf0Value, Command};
use lhls::rtmp::chunk::{ChunkReader, Message, kind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::within;

/// One connection to the RTMP port.
pub(crate) struct Peer {
    stream: Box<dyn Wire>,
    address: String,
    reader: ChunkReader,
    input: BytesMut,
    chunk_size: usize,
    transaction: f64,
    pings: u32,
}

impl Peer {
    /// Connected, and nothing said yet.
    pub(crate) async fn tcp(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let address = stream.local_addr().unwrap().to_string();
        Self::over(stream, address)
    }

    /// The same on a connection that somebody else has made. `address` is what the server's log calls `peer`.
    pub(crate) fn over(stream: impl Wire + 'static, address: String) -> Self {
        Self {
            stream: Box::new(stream),
            address,
            reader: ChunkReader::new(),
            input: BytesMut::new(),
            chunk_size: 128,
            transaction: 0.0,
            pings: 0,
        }
    }

    /// After the handshake.
    pub(crate) async fn new(address: SocketAddr) -> Self {
        Self::tcp(address).await.greeted().await
    }

    /// Makes the handshake.
    pub(crate) async fn greeted(self) -> Self {
        let mut peer = self;
        let mut hello = vec![3];
        // Time, four zeros, and bytes that are random enough to be recognised.
        hello.extend((0..1536_u32).map(|i| if i < 8 { 0 } else { (i * 7 + 3) as u8 }));
        peer.send(&hello).await.unwrap();
        let mut reply = vec![0; 1 + 2 * 1536];
        within("the handshake", peer.stream.read_exact(&mut reply))
            .await
            .unwrap();
        assert_eq!(reply[0], 3, "S0 states another version");
        assert_eq!(reply[1537..], hello[1..], "S2 does not echo C1");
        let echo = reply[1..1537].to_vec();
        peer.send(&echo).await.unwrap();
        peer
    }

    /// After the handshake and `connect`.
    pub(crate) async fn connected(address: SocketAddr, app: &str) -> Self {
        Self::new(address).await.introduced(app).await
    }

    /// Sends `connect`.
    pub(crate) async fn introduced(self, app: &str) -> Self {
        let mut peer = self;
        let address = &peer.address;
        let object = amf::object([
            ("app", amf::string(app)),
            ("flashVer", amf::string("FMLE/3.0 (a test)")),
            ("tcUrl", amf::string(format!("rtmp://{address}/{app}"))),
        ]);
        peer.command(0, "connect", object, &[]).await.unwrap();
        let reply = peer.expect_command().await;
        assert_eq!(reply.name, "_result");
        peer
    }

    /// After `publish`; panics with the server's words when it is refused.
    pub(crate) async fn publishing(address: SocketAddr, name: &str) -> Self {
        let (app, name) = name.rsplit_once('/').unwrap();
        let mut peer = Self::connected(address, app).await;
        let (code, text) = peer.publish(name).await;
        assert_eq!(code, "NetStream.Publish.Start", "{text}");
        peer
    }

    /// Asks to publish. Code and description of the answer.
    pub(crate) async fn publish(&mut self, name: &str) -> (String, String) {
        self.command(0, "createStream", Amf0Value::Null, &[])
            .await
            .unwrap();
        assert_eq!(self.expect_command().await.name, "_result");
        let arguments = [amf::string(name), amf::string("live")];
        self.command(1, "publish", Amf0Value::Null, &arguments)
            .await
            .unwrap();
        self.expect_status().await
    }

    /// This side's address: what the server's log calls `peer`.
    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Sends no more, and still listens.
    pub(crate) async fn hang_up(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// A chunk size for what follows, announced.
    pub(crate) async fn set_chunk_size(&mut self, size: u32) -> io::Result<()> {
        let size_field = size.to_be_bytes();
        self.message(2, kind::SET_CHUNK_SIZE, 0, 0, &size_field)
            .await?;
        self.chunk_size = size as usize;
        Ok(())
    }

    /// A whole message.
    pub(crate) async fn message(
        &mut self,
        chunk_stream: u8,
        kind: u8,
        stream_id: u32,
        timestamp: u32,
        payload: &[u8],
    ) -> io::Result<()> {
        let mut bytes = header(chunk_stream, kind, stream_id, timestamp, payload.len());
        for (index, part) in payload.chunks(self.chunk_size).enumerate() {
            if index > 0 {
                bytes.push(0xc0 | chunk_stream);
                if timestamp >= 0x00ff_ffff {
                    bytes.extend(timestamp.to_be_bytes());
                }
            }
            bytes.extend_from_slice(part);
        }
        self.send(&bytes).await
    }

    /// A message of zeros without its last chunk; if it is all one chunk, without its last byte, and then nothing can follow it. How many
    /// bytes were sent of its payload.
    pub(crate) async fn unfinished_message(
        &mut self,
        chunk_stream: u8,
        kind: u8,
        length: usize,
    ) -> usize {
        let sent = match (length - 1) / self.chunk_size {
            0 => length - 1,
            whole => whole * self.chunk_size,
        };
        let mut bytes = header(chunk_stream, kind, 1, 0, length);
        for (index, part) in vec![0; sent].chunks(self.chunk_size).enumerate() {
            if index > 0 {
                bytes.push(0xc0 | chunk_stream);
            }
            bytes.extend_from_slice(part);
        }
        self.send(&bytes).await.unwrap();
        sent
    }

    pub(crate) async fn command(
        &mut self,
        stream_id: u32,
        name: &str,
        object: Amf0Value,
        arguments: &[Amf0Value],
    ) -> io::Result<()> {
        self.transaction += 1.0;
        let mut values = vec![
            amf::string(name),
            Amf0Value::Number(self.transaction),
            object,
        ];
        values.extend_from_slice(arguments);
        let payload = amf::encode(&values).unwrap();
        self.message(3, kind::COMMAND_AMF0, stream_id, 0, &payload)
            .await
    }

    /// The next message, or `None` when the server has hung up.
    pub(crate) async fn receive(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.reader.read(&mut self.input).unwrap() {
                return Some(message);
            }
            let read = self.stream.read_buf(&mut self.input);
            if within("a message of the server", read).await.ok()? == 0 {
                return None;
            }
        }
    }

    /// Waits until the server has dealt with everything sent so far: it answers a ping in its turn.
    pub(crate) async fn settle(&mut self) {
        self.pings += 1;
        let [a, b, c, d] = self.pings.to_be_bytes();
        self.message(2, kind::USER_CONTROL, 0, 0, &[0, 6, a, b, c, d])
            .await
            .unwrap();
        loop {
            let message = self.receive().await.expect("a pong, but was hung up on");
            if message.kind == kind::USER_CONTROL && message.payload[..] == [0, 7, a, b, c, d] {
                return;
            }
        }
    }

    pub(crate) async fn expect_command(&mut self) -> Command {
        loop {
            let message = self.receive().await.expect("a command, but was hung up on");
            if message.kind == kind::COMMAND_AMF0 {
                return Command::decode(&message.payload).unwrap();
            }
        }
    }

    /// Code and description of the next `onStatus`.
    pub(crate) async fn expect_status(&mut self) -> (String, String) {
        loop {
            let command = self.expect_command().await;
            if command.name == "onStatus" {
                let info = command.arguments.first().expect("an information object");
                let text = |name| {
                    amf::property(info, name)
                        .and_then(amf::as_str)
                        .unwrap_or("")
                };
                return (text("code").to_owned(), text("description").to_owned());
            }
        }
    }

    /// Waits until the server hangs up; what it said until then.
    pub(crate) async fn expect_close(&mut self) -> Vec<u8> {
        let mut said = self.input.split().to_vec();
        let mut buffer = [0; 4096];
        loop {
            let read = self.stream.read(&mut buffer);
            match within("the server to hang up", read).await {
                // A reset is a hang-up too: it comes when what we sent last was not even read.
                Ok(0) | Err(_) => return said,
                Ok(count) => said.extend_from_slice(&buffer[..count]),
            }
        }
    }
}

/// A type-0 chunk header.
pub(crate) fn header(
    chunk_stream: u8,
    kind: u8,
    stream_id: u32,
    timestamp: u32,
    length: usize,
) -> Vec<u8> {
    let mut bytes = vec![chunk_stream];
    bytes.extend_from_slice(&timestamp.min(0x00ff_ffff).to_be_bytes()[1..]);
    bytes.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
    bytes.push(kind);
    bytes.extend(stream_id.to_le_bytes());
    if timestamp >= 0x00ff_ffff {
        bytes.extend(timestamp.to_be_bytes());
    }
    bytes
}

/// The payload of a command.
pub(crate) fn command(name: &str, transaction: f64) -> Bytes {
    amf::encode(&[
        amf::string(name),
        Amf0Value::Number(transaction),
        Amf0Value::Null,
    ])
    .unwrap()
}
