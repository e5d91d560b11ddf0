//! The hot functions, each run a fixed number of times, for an instruction counter to watch: `scripts/instructions`.
//!
//! Times move with whatever else the machine does; instructions do not. Every function measured here is a `counted_…` of its own that
//! is never inlined, so that its share can be read from the counter's report; all else is preparation. Run by itself it only says
//! how many calls it makes of each.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark that cannot run should stop, and its results are what it prints"
)]

#[path = "../src/bin/lhls-bench/signal.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "shared with the load generator, which uses all of it"
)]
mod signal;

use std::future::poll_fn;
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use clap::Parser;
use http_body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use lhls::auth::{Access, Rules};
use lhls::cli::ServeArgs;
use lhls::config::Config;
use lhls::flv::{Demuxer, Event};
use lhls::hls::Now;
use lhls::hls::names::Early;
use lhls::hls::packager;
use lhls::hls::playlist::{Media, MediaSegment};
use lhls::hls::segment::{Piece, Segment};
use lhls::hooks::{self, Hooks};
use lhls::http::body::ResponseBody;
use lhls::http::cors::Cors;
use lhls::http::meter::{Meter, MeteredIo, Patience};
use lhls::http::{Service, Settings};
use lhls::live::Live;
use lhls::metrics::Metrics;
use lhls::proxy::TrustedProxies;
use lhls::rtmp::chunk::{ChunkReader, kind};
use lhls::server::Server;
use lhls::stream::name::StreamName;
use lhls::stream::registry::{Policy, Registry};
use lhls::stream::subscribers::Subscribers;
use lhls::stream::{Publication, Reconnect};
use rml_rtmp::chunk_io::ChunkSerializer;
use rml_rtmp::messages::MessagePayload;
use rml_rtmp::time::RtmpTimestamp;
use signal::{Options, Signal};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

fn main() {
    let signal = Signal::new(Options {
        bit_rate: 1_500_000,
        fps: 30,
        gop: 30,
        audio: true,
    });
    publisher(&signal);
    fan_out();
    http(&signal);
    sockets(&signal);
}

/// From the publisher's bytes to pieces in the ring: pictures of 5 kB with one or two frames of sound each.
fn publisher(signal: &Signal) {
    let mut serializer = ChunkSerializer::new();
    let chunks = serializer
        .set_max_chunk_size(4096, RtmpTimestamp::new(0))
        .unwrap();
    let mut input = BytesMut::from(&chunks.bytes[..]);
    let mut reader = ChunkReader::new();
    reader.read(&mut input).unwrap();
    let (registry, mut publication) = published();
    let (mut demuxer, mut events) = (Demuxer::new(), Vec::new());
    demuxer
        .video(0, signal.video_header(), &mut events)
        .unwrap();
    demuxer
        .audio(0, signal.audio_header(), &mut events)
        .unwrap();
    let origin = Now::read();
    let mut sounds = 0;
    let (mut messages, mut pieces) = (0, 0);
    for picture in 0..PICTURES {
        let at = signal.picture_time(picture);
        let mut batch = vec![(kind::VIDEO, at, signal.picture(picture, 0))];
        while signal.audio_time(sounds) <= at {
            batch.insert(
                0,
                (kind::AUDIO, signal.audio_time(sounds), signal.audio_frame()),
            );
            sounds += 1;
        }
        for (kind, time, payload) in batch {
            let message = MessagePayload {
                timestamp: RtmpTimestamp::new(time.as_millis() as u32),
                type_id: kind,
                message_stream_id: 1,
                data: payload,
            };
            let packet = serializer.serialize(&message, false, false).unwrap();
            input.extend_from_slice(&packet.bytes);
            let message = counted_read_message(&mut reader, &mut input);
            counted_demux(&mut demuxer, message.0, message.1, message.2, &mut events);
            messages += 1;
        }
        let now = Now {
            instant: origin.instant + at,
            wall: origin.wall + at,
        };
        counted_package(&mut publication, &mut events, now);
        pieces += 1;
    }
    calls("counted_read_message", messages);
    calls("counted_demux", messages);
    calls("counted_package", pieces);
    let playlist = Media {
        target_duration: 1,
        discontinuity_sequence: 0,
        independent_segments: true,
        media_sequence: 100_000_000,
        segments: (0..6)
            .map(|number| MediaSegment {
                uri: format!("lq3k2v0x-{}.ts", 100_000_000 + number),
                duration: Duration::from_secs(1),
                date: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600 + number)),
                discontinuity: false,
                gap: false,
            })
            .collect(),
        unfinished: 4,
        ended: false,
    };
    for _ in 0..CALLS {
        black_box(counted_find_playlist(&registry));
    }
    calls("counted_find_playlist", CALLS);
    for _ in 0..CALLS {
        black_box(counted_render(&playlist));
    }
    calls("counted_render", CALLS);
}

#[inline(never)]
fn counted_read_message(reader: &mut ChunkReader, input: &mut BytesMut) -> (u8, u32, Bytes) {
    let message = reader.read(input).unwrap().unwrap();
    (message.kind, message.timestamp, message.payload)
}

#[inline(never)]
fn counted_demux(
    demuxer: &mut Demuxer,
    kind: u8,
    timestamp: u32,
    payload: Bytes,
    events: &mut Vec<Event>,
) {
    match kind {
        kind::VIDEO => demuxer.video(timestamp, payload, events).unwrap(),
        _ => demuxer.audio(timestamp, payload, events).unwrap(),
    }
}

#[inline(never)]
fn counted_package(publication: &mut Publication, events: &mut Vec<Event>, now: Now) {
    black_box(publication.push(events.drain(..), now));
}

#[inline(never)]
fn counted_find_playlist(registry: &Registry) -> usize {
    let stream = registry.find("bench/stream").unwrap();
    let session = stream.output().session_of(1).unwrap();
    session.media(Early::Usual).plain().len()
}

/// What a segment costs once, whoever watches.
#[inline(never)]
fn counted_render(playlist: &Media) -> usize {
    playlist.render().len()
}

/// One piece to many viewers, without sockets.
fn fan_out() {
    let runtime = runtime();
    let subscribers = Subscribers::default();
    for _ in 0..VIEWERS {
        let subscribers = subscribers.clone();
        runtime.spawn(async move {
            let subscription = subscribers.subscribe();
            poll_fn::<(), _>(|context| {
                subscription.register(context);
                std::task::Poll::Pending
            })
            .await;
        });
    }
    settle(&runtime, "");
    for _ in 0..ROUNDS {
        counted_wake(&subscribers);
        settle(&runtime, "");
    }
    calls("counted_wake", VIEWERS * ROUNDS);

    let segment = Arc::new(Segment::pending(1));
    let meter = Arc::new(Meter::new(Arc::new(Metrics::new())));
    let mut bodies: Vec<ResponseBody> = (0..VIEWERS)
        .map(|_| ResponseBody::growing(Arc::clone(&segment), Arc::clone(&meter)))
        .collect();
    let bytes = Bytes::from(vec![0x47; 6204]);
    let mut context = Context::from_waker(std::task::Waker::noop());
    for _ in 0..ROUNDS {
        segment.append(Piece {
            bytes: bytes.clone(),
            published: Instant::now(),
        });
        for body in &mut bodies {
            counted_poll_body(body, &mut context);
        }
    }
    calls("counted_poll_body", VIEWERS * ROUNDS);
}

#[inline(never)]
fn counted_wake(subscribers: &Subscribers) {
    subscribers.wake_all();
}

/// A piece, and then the wait for the next.
#[inline(never)]
fn counted_poll_body(body: &mut ResponseBody, context: &mut Context<'_>) {
    black_box(Pin::new(&mut *body).poll_frame(context).is_ready());
    black_box(Pin::new(&mut *body).poll_frame(context).is_ready());
}

/// The same through hyper and the runtime, as over TLS, from the piece's being appended to its having been written, with a pipe for a socket.
fn http(signal: &Signal) {
    let (registry, mut publication) = published();
    let registry = Arc::new(registry);
    let settings = Settings {
        cors: Cors::new(&["*".to_owned()]).expect("an origin"),
        max_connections: VIEWERS as usize,
        admin: lhls::http::admin::Settings::default(),
        trusted: TrustedProxies::default(),
        https_redirect: None,
    };
    let metrics = Arc::new(Metrics::new());
    let (hooks, _) = Hooks::new(hooks::Settings::default(), Arc::clone(&metrics));
    let service = Arc::new(Service::new(
        registry,
        Arc::new(Access::new(Rules::default()).expect("random numbers")),
        hooks,
        Arc::clone(&metrics),
        Arc::new(Live::new(settings)),
    ));
    let mut pictures = Pictures::new(signal);
    let segment = pictures.start(&mut publication);

    let runtime = runtime();
    let mut clients = connections(&runtime, &service, &metrics);
    runtime.block_on(async {
        for client in &mut clients {
            client
                .write_all(request(&segment).as_bytes())
                .await
                .unwrap();
        }
    });
    counted_answer_segment(&runtime);
    calls("counted_answer_segment", VIEWERS);
    drain(&runtime, &mut clients);
    for _ in 0..ROUNDS.min(25) {
        pictures.push(&mut publication);
        counted_deliver(&runtime);
        drain(&runtime, &mut clients);
    }
    calls("counted_deliver", VIEWERS * ROUNDS.min(25));

    let mut clients = connections(&runtime, &service, &metrics);
    runtime.block_on(async {
        for client in &mut clients {
            let path = "/bench/stream/media-1.m3u8";
            client.write_all(request(path).as_bytes()).await.unwrap();
        }
    });
    counted_answer_playlist(&runtime);
    calls("counted_answer_playlist", VIEWERS);
}

/// A piece to viewers over sockets, which one loop writes to. What the system does for it is not counted.
fn sockets(signal: &Signal) {
    let line = "lhls --rtmp-listen 127.0.0.1:0 --http-listen 127.0.0.1:0".split(' ');
    let config = Config::new(&Line::try_parse_from(line).unwrap().serve).unwrap();
    let runtime = runtime();
    let entered = runtime.enter();
    let server = Server::bind(config).unwrap();
    let (registry, address) = (server.registry(), server.http_address().unwrap());
    runtime.spawn(server.run(CancellationToken::new()));
    let name = StreamName::new("bench", "stream").unwrap();
    let mut publication = registry.publish(name, Now::read()).unwrap();
    let mut pictures = Pictures::new(signal);
    let segment = pictures.start(&mut publication);
    let mut clients = runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..VIEWERS {
            let mut client = TcpStream::connect(address).await.unwrap();
            client
                .write_all(request(&segment).as_bytes())
                .await
                .unwrap();
            clients.push(client);
        }
        clients
    });
    for client in &clients {
        runtime.block_on(client.readable()).unwrap();
    }
    for _ in 0..ROUNDS.min(25) {
        drain(&runtime, &mut clients);
        pictures.push(&mut publication);
        counted_write_piece(&runtime);
    }
    calls("counted_write_piece", VIEWERS * ROUNDS.min(25));
    drop(entered);
    runtime.shutdown_background();
}

#[inline(never)]
fn counted_write_piece(runtime: &Runtime) {
    settle(black_box(runtime), "write_piece");
}

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    serve: ServeArgs,
}

/// What a publisher sends, a picture at a time.
struct Pictures<'a> {
    signal: &'a Signal,
    demuxer: Demuxer,
    events: Vec<Event>,
    origin: Now,
    number: u32,
}

impl<'a> Pictures<'a> {
    fn new(signal: &'a Signal) -> Self {
        let (mut demuxer, mut events) = (Demuxer::new(), Vec::new());
        let (video, audio) = (signal.video_header(), signal.audio_header());
        demuxer.video(0, video, &mut events).unwrap();
        demuxer.audio(0, audio, &mut events).unwrap();
        Self {
            signal,
            demuxer,
            events,
            origin: Now::read(),
            number: 0,
        }
    }

    /// The first group of pictures and the start of the second, so that there is a playlist. Returns the path of the segment that grows.
    fn start(&mut self, publication: &mut Publication) -> String {
        for _ in 0..31 {
            self.push(publication);
        }
        let sessions = publication.stream().output().sessions();
        let playlist = sessions[0].media(Early::Usual).plain().clone();
        let playlist = std::str::from_utf8(&playlist).unwrap();
        let mut segments = playlist.lines().filter(|line| !line.starts_with('#'));
        format!("/bench/stream/{}", segments.nth(1).unwrap())
    }

    fn push(&mut self, publication: &mut Publication) {
        let Self { signal, events, .. } = self;
        let at = signal.picture_time(self.number);
        let time = at.as_millis() as u32;
        let (picture, sound) = (signal.picture(self.number, 0), signal.audio_frame());
        self.demuxer.video(time, picture, events).unwrap();
        self.demuxer.audio(time, sound, events).unwrap();
        let now = Now {
            instant: self.origin.instant + at,
            wall: self.origin.wall + at,
        };
        publication.push(events.drain(..), now);
        self.number += 1;
    }
}

#[inline(never)]
fn counted_answer_segment(runtime: &Runtime) {
    settle(black_box(runtime), "answer_segment");
}

#[inline(never)]
fn counted_answer_playlist(runtime: &Runtime) {
    settle(black_box(runtime), "answer_playlist");
}

#[inline(never)]
fn counted_deliver(runtime: &Runtime) {
    settle(black_box(runtime), "deliver");
}

/// The viewers' ends of connections that have begun, so that this does not count where a request is answered.
fn connections(
    runtime: &Runtime,
    service: &Arc<Service>,
    metrics: &Arc<Metrics>,
) -> Vec<DuplexStream> {
    let clients = (0..VIEWERS)
        .map(|_| connection(runtime, service, metrics))
        .collect();
    settle(runtime, "connect");
    clients
}

/// A connection as the listener serves it, with a pipe for its socket; the viewer's end of that.
fn connection(runtime: &Runtime, service: &Arc<Service>, metrics: &Arc<Metrics>) -> DuplexStream {
    let (near, far) = tokio::io::duplex(256 * 1024);
    let (service, metrics) = (Arc::clone(service), Arc::clone(metrics));
    runtime.spawn(async move {
        let connection = service.connect(PEER, false);
        let io = MeteredIo::new(
            far,
            Arc::new(Meter::new(metrics)),
            Patience {
                stalled: Duration::from_secs(30),
                behind: Duration::from_secs(300),
            },
        );
        let answer = service_fn(|request| {
            let (service, connection) = (&service, &connection);
            async move {
                Ok::<_, std::convert::Infallible>(service.answer(connection, &request).await)
            }
        });
        let _ = http1::Builder::new()
            .max_buf_size(64 * 1024)
            .serve_connection(TokioIo::new(io), answer)
            .await;
    });
    near
}

fn request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: instructions\r\nAccept: */*\r\n\r\n"
    )
}

/// Empties the pipes; what woke the servers' ends for it is not counted.
fn drain(runtime: &Runtime, clients: &mut [impl AsyncRead + Unpin]) {
    runtime.block_on(async {
        let mut buffer = vec![0; 64 * 1024];
        for client in clients {
            let read = tokio::time::timeout(Duration::ZERO, client.read(&mut buffer));
            black_box(read.await.is_ok());
        }
    });
    settle(runtime, "");
}

fn published() -> (Registry, Publication) {
    let registry = Registry::new(Policy {
        packager: packager::Settings {
            segment_duration: Duration::from_secs(1),
            part_duration: Duration::from_millis(67),
            target_duration: None,
            announce: None,
            retain: Duration::from_secs(20),
            retain_bytes: 64 << 20,
        },
        max_streams: 1,
        take_over: false,
        reconnect: Reconnect {
            after_loss: Duration::ZERO,
            after_goodbye: Duration::ZERO,
        },
    });
    let now = Now {
        instant: Instant::now(),
        wall: SystemTime::now(),
    };
    let name = StreamName::new("bench", "stream").unwrap();
    let publication = registry.publish(name, now).unwrap();
    (registry, publication)
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Lets every task run until it waits.
fn settle(runtime: &Runtime, occasion: &str) {
    // Functions that are all the same would be made one.
    black_box(occasion);
    runtime.block_on(async {
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    });
}

fn calls(name: &str, count: u32) {
    println!("{name} {count}");
}

const PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1024));
const PICTURES: u32 = 300;
const CALLS: u32 = 200;
const VIEWERS: u32 = 100;
const ROUNDS: u32 = 50;
