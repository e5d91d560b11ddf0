//! A socket that need not be told of every message: what a publisher sends while nobody watches is fetched now and then.
//!
//! Not reading is not enough. The runtime learns of everything that arrives on a registered socket, and each time the processor wakes for
//! it; at rest that is most of what a stream costs. So a dozing socket is not registered. How long it dozes is its reader's decision.

use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::net::Wire;

/// Where a publisher's bytes come from.
pub(super) trait Source: Wire {
    /// Nothing will be asked for in the next moments. Reading afterwards finds what has come meanwhile.
    fn doze(&mut self);
}

/// A connection without encryption.
#[derive(Debug)]
pub(super) struct DozingStream(State);

#[derive(Debug)]
enum State {
    Awake(TcpStream),
    Dozing(std::net::TcpStream),
    /// It could not be registered or unregistered.
    Broken,
}

impl DozingStream {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self(State::Awake(stream))
    }

    /// The registered socket.
    fn awake(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        if matches!(self.0, State::Dozing(_))
            && let State::Dozing(stream) = std::mem::replace(&mut self.0, State::Broken)
        {
            self.0 = State::Awake(TcpStream::from_std(stream)?);
        }
        match &mut self.0 {
            State::Awake(stream) => Ok(Pin::new(stream)),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl Source for DozingStream {
    fn doze(&mut self) {
        if matches!(self.0, State::Awake(_))
            && let State::Awake(stream) = std::mem::replace(&mut self.0, State::Broken)
            && let Ok(stream) = stream.into_std()
        {
            self.0 = State::Dozing(stream);
        }
    }
}

impl AsyncRead for DozingStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let State::Dozing(stream) = &mut self.0 {
            match stream.read(buffer.initialize_unfilled()) {
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.awake()?.poll_read(context, buffer)
    }
}

impl AsyncWrite for DozingStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.awake()?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            State::Awake(stream) => Pin::new(stream).poll_flush(context),
            // What was written went to the system at once.
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.awake()?.poll_shutdown(context)
    }
}

/// TLS has a state of its own around the socket, which stays registered.
#[cfg(feature = "tls")]
impl Source for crate::tls::stream::Stream<tokio_rustls::server::TlsStream<TcpStream>> {
    fn doze(&mut self) {}
}

/// How fast a publisher sends, and so how long a pause its socket can take.
#[derive(Debug)]
pub(super) struct Pace {
    since: Instant,
    bytes: usize,
    /// Bytes a second, over the last whole second.
    rate: Option<usize>,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            bytes: 0,
            rate: None,
        }
    }

    /// Notes what has been read.
    pub(super) fn note(&mut self, bytes: usize, now: Instant) {
        self.bytes += bytes;
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed >= MEASURED_OVER {
            self.rate = Some((self.bytes as f64 / elapsed.as_secs_f64()) as usize);
            (self.since, self.bytes) = (now, 0);
        }
    }

    /// How long the input may lie unread; `None` if that is not worth it. Up to a third less by chance: streams that once had to wait for each
    /// other would otherwise come in one heap ever after, which those who are watched would feel.
    pub(super) fn pause(&self, chance: u32) -> Option<Duration> {
        let seconds = UNREAD as f64 / self.rate?.max(1) as f64;
        let pause = LONGEST_PAUSE.min(Duration::from_secs_f64(seconds.min(1.0)));
        let less = pause / 3 * (chance % 256) / 256;
        (pause >= SHORTEST_PAUSE).then(|| pause - less)
    }
}

/// What may lie in the socket: less than the receive window that Linux offers at first, so that no encoder thinks the network congested.
const UNREAD: usize = 48 * 1024;
/// By so much a stream that nobody watches may lie back: it is made up for in the moment when somebody comes.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// Two pictures: below that, pauses save nothing.
const SHORTEST_PAUSE: Duration = Duration::from_millis(30);
const MEASURED_OVER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    async fn pair() -> (TcpStream, DozingStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap());
        let (peer, accepted) = tokio::join!(peer, listener.accept());
        (peer.unwrap(), DozingStream::new(accepted.unwrap().0))
    }

    #[tokio::test]
    async fn what_comes_meanwhile_is_read_afterwards() {
        let (mut peer, mut stream) = pair().await;
        let mut buffer = [0; 16];
        for round in 0..3 {
            stream.doze();
            stream.doze();
            peer.write_all(&[round; 7]).await.unwrap();
            stream.read_exact(&mut buffer[..7]).await.unwrap();
            assert_eq!(buffer[..7], [round; 7]);
        }
    }

    #[tokio::test]
    async fn a_reader_that_finds_nothing_is_woken() {
        let (mut peer, mut stream) = pair().await;
        stream.doze();
        let mut buffer = [0; 16];
        let nothing = timeout(Duration::from_millis(10), stream.read(&mut buffer)).await;
        assert!(nothing.is_err());
        let (read, written) = tokio::join!(stream.read(&mut buffer), peer.write_all(b"late"));
        written.unwrap();
        assert_eq!(&buffer[..read.unwrap()], b"late");
    }

    #[tokio::test]
    async fn it_can_be_written_to_and_ends() {
        let (mut peer, mut stream) = pair().await;
        stream.doze();
        stream.write_all(b"reply").await.unwrap();
        stream.doze();
        stream.shutdown().await.unwrap();
        let mut reply = Vec::new();
        peer.read_to_end(&mut reply).await.unwrap();
        assert_eq!(reply, b"reply");
        stream.doze();
        drop(peer);
        assert_eq!(stream.read(&mut [0; 16]).await.unwrap(), 0);
    }

    #[test]
    fn fast_publishers_are_fetched_more_often() {
        let start = Instant::now();
        for (bit_rate, pause) in [
            (500_000, Some(200)),
            (1_500_000, Some(200)),
            (2_500_000, Some(157)),
            (6_000_000, Some(65)),
            (20_000_000, None),
        ] {
            let mut pace = Pace::new(start);
            assert_eq!(pace.pause(0), None, "nothing is known yet");
            for tenth in 1..=11 {
                pace.note(bit_rate / 80, start + Duration::from_millis(tenth * 100));
            }
            let got = pace.pause(0).map(|pause| pause.as_millis());
            assert_eq!(got, pause, "{bit_rate} bits a second");
            let least = pace.pause(255).map(|pause| pause.as_millis());
            let two_thirds = pause.map(|pause| pause * 2 / 3);
            assert!(least >= two_thirds && least <= pause, "{least:?}");
        }
    }
}
