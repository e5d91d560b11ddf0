//! The push against servers that behave, and one that does not.

use super::*;
use crate::rtmp::amf::{self, Amf0Value, Command};
use crate::rtmp::chunk::{ChunkReader, Message, kind};
use crate::rtmp::test_util;
use tokio::net::{TcpListener, TcpStream};

/// A server: accepts one connection, judges its stream, and takes `count` messages of media, or what there is until the
/// client says goodbye.
pub(crate) async fn serve(listener: TcpListener, verdict: &str, count: usize) -> Vec<Message> {
    let mut server = Server::accept(&listener, verdict).await;
    let mut media = Vec::new();
    while media.len() < count {
        match server.next().await {
            Some(message) => media.push(message),
            None => break,
        }
    }
    media
}

struct Server<'a> {
    socket: TcpStream,
    reader: ChunkReader,
    input: BytesMut,
    verdict: &'a str,
}

impl<'a> Server<'a> {
    async fn accept(listener: &TcpListener, verdict: &'a str) -> Self {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut hello = vec![0; 1537];
        socket.read_exact(&mut hello).await.unwrap();
        let answer = [&[3][..], &[0; 1536], &hello[1..]].concat();
        socket.write_all(&answer).await.unwrap();
        socket.read_exact(&mut hello[..1536]).await.unwrap();
        Self {
            socket,
            reader: ChunkReader::new(),
            input: BytesMut::new(),
            verdict,
        }
    }

    /// The next message of media; commands before it are answered. `None` at the end.
    async fn next(&mut self) -> Option<Message> {
        loop {
            match self.reader.read(&mut self.input).unwrap() {
                None if self.socket.read_buf(&mut self.input).await.unwrap() == 0 => return None,
                None => {}
                Some(message) if message.kind != kind::COMMAND_AMF0 => return Some(message),
                Some(message) => {
                    let command = Command::decode(&message.payload).unwrap();
                    if command.name == "deleteStream" {
                        return None;
                    }
                    self.obey(command).await;
                }
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        let transaction = Amf0Value::Number(command.transaction);
        let values = match command.name.as_str() {
            "connect" | "createStream" => [
                amf::string("_result"),
                transaction,
                Amf0Value::Null,
                Amf0Value::Number(1.0),
            ],
            "publish" => {
                let level = amf::string(if self.verdict.ends_with("Start") {
                    "status"
                } else {
                    "error"
                });
                let status = amf::object([("level", level), ("code", amf::string(self.verdict))]);
                [
                    amf::string("onStatus"),
                    Amf0Value::Number(0.0),
                    Amf0Value::Null,
                    status,
                ]
            }
            _ => return,
        };
        let payload = amf::encode(&values).unwrap();
        let message = Message {
            kind: kind::COMMAND_AMF0,
            stream_id: 0,
            timestamp: 0,
            payload,
        };
        self.socket
            .write_all(&test_util::message(3, &message, 128))
            .await
            .unwrap();
    }
}

async fn listen() -> (TcpListener, Url) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("rtmp://{}/live/test", listener.local_addr().unwrap());
    (listener, url.parse().unwrap())
}

#[tokio::test]
async fn everything_sent_arrives_before_the_end() {
    let (listener, url) = listen().await;
    let server = tokio::spawn(serve(listener, "NetStream.Publish.Start", usize::MAX));
    let push = connect(&url, &Trust::default()).await.unwrap();
    let (sender, receiver) = mpsc::channel(8);
    let run = tokio::spawn(push.run(receiver, CancellationToken::new()));
    for i in 0..100 {
        let body = Bytes::from(vec![i as u8; 100_000]);
        sender.send(Media::Video(i, body)).await.unwrap();
    }
    drop(sender);
    assert!(run.await.unwrap().unwrap() > 10_000_000);
    let media = server.await.unwrap();
    assert!(media.iter().map(|message| message.timestamp).eq(0..100));
}

#[tokio::test]
async fn server_that_takes_nothing_is_given_up() {
    let (listener, url) = listen().await;
    let (finished, wait) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(async move {
        let mut server = Server::accept(&listener, "NetStream.Publish.Start").await;
        server.next().await.unwrap();
        let _ = wait.await;
    });
    let push = connect(&url, &Trust::default()).await.unwrap();
    let (sender, receiver) = mpsc::channel(1);
    let run = tokio::spawn(push.run(receiver, CancellationToken::new()));
    // More than the buffers on the way can hold; then nothing is left to happen but the time limit.
    let body = Bytes::from(vec![0; 1 << 20]);
    while timeout(
        Duration::from_secs(1),
        sender.send(Media::Video(0, body.clone())),
    )
    .await
    .is_ok_and(|sent| sent.is_ok())
    {}
    tokio::time::pause();
    assert!(matches!(run.await.unwrap(), Err(Error::Stalled)));
    finished.send(()).unwrap();
    server.await.unwrap();
}
