//! Publishes a stream to an RTMP server over TCP, or TLS: the socket, the clock and the time limits around [`Client`].
//!
//! Media comes in through a channel, so that who makes it never waits for the network: a full channel tells it to drop, and
//! what to drop (whole GOPs, say) is its own decision. One attempt only; whoever wants another calls [`connect`] again.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::client::{self, Client, Event};
use super::url::Url;
use crate::dial::{self, Dialer, Trust};
use crate::net::Wire;

/// One message of media on its way to the server. Bodies are those of FLV tags ([`crate::flv::write`]).
#[derive(Debug, Clone)]
pub enum Media {
    /// Audio tag body and its time in milliseconds.
    Audio(u32, Bytes),
    /// Video tag body and its decoding time in milliseconds.
    Video(u32, Bytes),
    /// Script tag body (`onMetaData`) and its time in milliseconds.
    Metadata(u32, Bytes),
}

/// A connection on which the server has accepted the stream.
#[derive(Debug)]
pub struct Push {
    socket: Box<dyn Wire>,
    client: Client,
    input: BytesMut,
    output: BytesMut,
    sent: u64,
}

/// Why a push did not start or did not last.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Host and port.
        address: String,
        /// The reason.
        source: dial::Error,
    },
    /// The connection took too long.
    #[error("{0} did not answer within {CONNECT_TIMEOUT:?}")]
    ConnectTimeout(String),
    /// The server did not get as far as accepting the stream.
    #[error("the server did not answer {waiting_for} within {ACCEPT_TIMEOUT:?}")]
    AcceptTimeout {
        /// The step of the protocol.
        waiting_for: &'static str,
    },
    /// The server hung up before it accepted the stream, as some do to refuse it.
    #[error("the server hung up instead of answering {waiting_for}")]
    HungUp {
        /// The step of the protocol.
        waiting_for: &'static str,
    },
    /// The server said no.
    #[error("the server refused the stream: {code} {description}")]
    Refused {
        /// Such as `NetStream.Publish.BadName`.
        code: String,
        /// The server's words.
        description: String,
    },
    /// The server ended the stream.
    #[error("the server ended the stream: {code} {description}")]
    Closed {
        /// Such as `NetStream.Unpublish.Success`.
        code: String,
        /// The server's words.
        description: String,
    },
    /// The server hung up without a word.
    #[error("the server closed the connection")]
    Eof,
    /// The server has taken nothing for a long time.
    #[error("the server has taken no data for {STALL_TIMEOUT:?}")]
    Stalled,
    /// The connection broke.
    #[error("connection to the server: {0}")]
    Io(#[from] std::io::Error),
    /// The server does not speak RTMP as it should.
    #[error(transparent)]
    Protocol(#[from] client::Error),
}

/// Connects to the server, which must be one that `trust` believes if the address asks for TLS, and publishes the stream; returns once the
/// server has accepted it.
///
/// Takes at most [`CONNECT_TIMEOUT`] and [`ACCEPT_TIMEOUT`].
pub async fn connect(url: &Url, trust: &Trust) -> Result<Push, Error> {
    let dialer = Dialer::new(trust.clone(), &[]);
    let connecting = dialer.dial(url.host(), url.port(), url.is_secure());
    let socket = match timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(dialed)) => dialed.wire,
        Ok(Err(source)) => {
            return Err(Error::Connect {
                address: url.to_string(),
                source,
            });
        }
        Err(_) => return Err(Error::ConnectTimeout(url.to_string())),
    };
    let mut push = Push {
        socket,
        client: Client::new(url)?,
        input: BytesMut::new(),
        output: BytesMut::new(),
        sent: 0,
    };
    match timeout(ACCEPT_TIMEOUT, push.wait_for_acceptance()).await {
        Ok(Ok(())) => Ok(push),
        // A server that closes with something of ours unread resets the connection: the same thing, said less politely.
        Ok(Err(Error::Io(error))) if HANGING_UP.contains(&error.kind()) => Err(Error::HungUp {
            waiting_for: push.client.waiting_for(),
        }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Error::AcceptTimeout {
            waiting_for: push.client.waiting_for(),
        }),
    }
}

impl Push {
    /// Sends what comes out of `media` until it is closed, `cancel` fires, or the connection fails; then ends the stream in
    /// good order. Returns the number of bytes sent, those of RTMP itself included.
    pub async fn run(
        self,
        mut media: mpsc::Receiver<Media>,
        cancel: CancellationToken,
    ) -> Result<u64, Error> {
        let Self {
            socket,
            mut client,
            mut input,
            mut output,
            mut sent,
        } = self;
        let (mut reader, mut writer) = tokio::io::split(socket);
        let mut deadline = Instant::now() + STALL_TIMEOUT;
        let mut unflushed = false;
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                // Not while much is unsent: a server could have us answer pings without end and take no answer.
                read = reader.read_buf(&mut input), if output.len() < HIGH_WATER => {
                    if read? == 0 {
                        return Err(Error::Eof);
                    }
                    let outcome = client.handle_input(&mut input);
                    drain_events(&mut client)?;
                    outcome?;
                }
                written = send(&mut writer, &mut output, &mut unflushed), if unflushed || !output.is_empty() => {
                    sent += written? as u64;
                    deadline = Instant::now() + STALL_TIMEOUT;
                }
                message = media.recv(), if output.len() < HIGH_WATER => match message {
                    Some(Media::Audio(time, body)) => client.audio(time, body)?,
                    Some(Media::Video(time, body)) => client.video(time, body)?,
                    Some(Media::Metadata(time, body)) => client.metadata(time, &body)?,
                    None => break,
                },
                () = sleep_until(deadline), if unflushed || !output.is_empty() => return Err(Error::Stalled),
            }
            let fresh = client.take_output();
            if !unflushed && output.is_empty() && !fresh.is_empty() {
                deadline = Instant::now() + STALL_TIMEOUT;
            }
            output.extend_from_slice(&fresh);
        }
        client.close()?;
        output.extend_from_slice(&client.take_output());
        let farewell = async {
            while unflushed || !output.is_empty() {
                sent += send(&mut writer, &mut output, &mut unflushed).await? as u64;
            }
            writer.shutdown().await?;
            // Closed with something unread, the socket would be reset, and the server could lose our last words.
            while reader.read_buf(&mut input).await? > 0 {
                input.clear();
            }
            Ok::<_, std::io::Error>(())
        };
        // The stream is over whether or not the server still listens.
        let _ = timeout(CLOSE_TIMEOUT, farewell).await;
        Ok(sent)
    }

    async fn wait_for_acceptance(&mut self) -> Result<(), Error> {
        loop {
            self.output.extend_from_slice(&self.client.take_output());
            self.sent += self.output.len() as u64;
            self.socket.write_all_buf(&mut self.output).await?;
            self.socket.flush().await?;
            if self.socket.read_buf(&mut self.input).await? == 0 {
                return Err(Error::HungUp {
                    waiting_for: self.client.waiting_for(),
                });
            }
            let outcome = self.client.handle_input(&mut self.input);
            // A refusal tells more than what may be wrong behind it.
            let ready = drain_events(&mut self.client)?;
            outcome?;
            if ready {
                return Ok(());
            }
        }
    }
}

/// Writes some of `output`, or sees to it that what was written is sent: an encrypted connection may have taken more than it has sent.
/// Nothing is lost when it is cancelled.
async fn send<W: AsyncWrite + Unpin>(
    writer: &mut W,
    output: &mut BytesMut,
    unflushed: &mut bool,
) -> std::io::Result<usize> {
    if output.is_empty() {
        writer.flush().await?;
        *unflushed = false;
        return Ok(0);
    }
    let written = writer.write_buf(output).await?;
    *unflushed = true;
    Ok(written)
}

/// Whether the server has just accepted the stream; an error if it has refused or ended it.
fn drain_events(client: &mut Client) -> Result<bool, Error> {
    let mut ready = false;
    while let Some(event) = client.poll_event() {
        match event {
            Event::Ready => ready = true,
            Event::Refused { code, description } => {
                return Err(Error::Refused { code, description });
            }
            Event::Closed { code, description } => return Err(Error::Closed { code, description }),
        }
    }
    Ok(ready)
}

const HANGING_UP: [ErrorKind; 3] = [
    ErrorKind::ConnectionReset,
    ErrorKind::ConnectionAborted,
    ErrorKind::BrokenPipe,
];
/// From handshake to the server's acceptance. Servers that ask a hook before they accept take a second or two.
pub const ACCEPT_TIMEOUT: Duration = Duration::from_secs(10);
/// Name look-up, TCP connection, all addresses together, and TLS.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A server that takes nothing for so long is gone, or of no use to a live stream.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(10);
/// For the last bytes and the farewell.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes waiting for the socket from which no more media is taken; about a second of a high-definition stream.
const HIGH_WATER: usize = 1 << 20;

#[cfg(test)]
pub(crate) mod tests;
