//! Makes the committed inputs of the fuzz targets anew: what the encoders of this machine send, cut to a second of tiny pictures, and some
//! scripts and requests written by hand. `scripts/fuzz-seeds` runs it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use lhls::rtmp::chunk::{ChunkReader, Message, kind};
use lhls::rtmp::client::Client;
use lhls::rtmp::session::{Event, Session, SessionConfig};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let out = std::env::args().nth(1).ok_or("usage: seeds FOLDER")?;
    let out = Seeds(PathBuf::from(out));
    for (name, command) in encoders() {
        let capture = capture(&command)?;
        println!(
            "{name}: {} bytes, {} answered",
            capture.said.len(),
            capture.answered.len()
        );
        out.of_capture(name, &capture)?;
    }
    match capture_of_nginx() {
        Ok(answered) => {
            println!("nginx: {} bytes answered", answered.len());
            out.write("client", "nginx", &[0x20], &answered)?;
        }
        Err(error) => println!("nginx: left as it is ({error})"),
    }
    for (target, name, bytes) in by_hand() {
        out.write(target, name, &[], &bytes)?;
    }
    Ok(())
}

/// Encoders by name, with `URL` where the address goes.
fn encoders() -> Vec<(&'static str, String)> {
    let x264 = "-c:v libx264 -preset ultrafast -g 5 -pix_fmt yuv420p";
    let picture = "-f lavfi -i testsrc=size=64x48:rate=10";
    let sound = "-f lavfi -i sine=sample_rate=44100";
    let gstreamer = |sink: &str| {
        format!(
            "gst-launch-1.0 -q flvmux name=mux streamable=true ! {sink} \
             videotestsrc is-live=true num-buffers=20 ! video/x-raw,format=I420,width=64,height=48,framerate=10/1 \
             ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=5 ! h264parse ! queue ! mux. \
             audiotestsrc is-live=true num-buffers=90 samplesperbuffer=1024 ! audio/x-raw,rate=44100 \
             ! voaacenc bitrate=16000 ! aacparse ! queue ! mux."
        )
    };
    vec![
        (
            "ffmpeg",
            format!(
                "ffmpeg -v error -re {picture} {sound} -t 2 {x264} -tune zerolatency -c:a aac -b:a 16k -f flv URL"
            ),
        ),
        (
            "ffmpeg-b-frames",
            format!("ffmpeg -v error -re {picture} -t 2 {x264} -bf 2 -f flv URL"),
        ),
        (
            "ffmpeg-mp3",
            format!(
                "ffmpeg -v error -re {picture} {sound} -t 2 {x264} -c:a libmp3lame -b:a 32k -f flv URL"
            ),
        ),
        (
            "ffmpeg-audio",
            format!("ffmpeg -v error -re {sound} -t 2 -c:a aac -b:a 16k -f flv URL"),
        ),
        ("rtmpsink", gstreamer("rtmpsink location=URL")),
        ("rtmp2sink", gstreamer("rtmp2sink location=URL")),
        // It only plays: the commands of a viewer.
        ("rtmpdump", "rtmpdump -q -r URL -o /dev/null".to_owned()),
    ]
}

/// What went both ways, each with its handshake.
struct Capture {
    said: Vec<u8>,
    answered: Vec<u8>,
}

fn capture(command: &str) -> Result<Capture> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("rtmp://{}/live/stream", listener.local_addr()?);
    let mut child = start(&command.replace("URL", &url))?;
    let (mut socket, _) = listener.accept()?;
    let capture = serve(&mut socket);
    drop(socket);
    child.kill().ok();
    child.wait()?;
    capture
}

fn start(command: &str) -> Result<Child> {
    let mut words = command.split_whitespace();
    let program = words.next().ok_or("no program")?;
    let child = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Ok(child.map_err(|error| format!("{program}: {error}"))?)
}

/// Accepts what is published, until there is enough of it.
fn serve(socket: &mut TcpStream) -> Result<Capture> {
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut session = Session::new(SessionConfig::default());
    let mut input = BytesMut::new();
    let mut events = Vec::new();
    let mut capture = Capture {
        said: Vec::new(),
        answered: Vec::new(),
    };
    let mut buffer = [0; 4096];
    while capture.said.len() < ENOUGH {
        let count = match socket.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        capture.said.extend_from_slice(&buffer[..count]);
        input.extend_from_slice(&buffer[..count]);
        loop {
            session.feed(&mut input, &mut events)?;
            let asked = events
                .drain(..)
                .any(|event| matches!(event, Event::Publish(_)));
            if asked {
                session.accept_publish();
            }
            while let Some(output) = session.take_output() {
                capture.answered.extend_from_slice(&output);
                socket.write_all(&output)?;
            }
            if !asked {
                break;
            }
        }
    }
    Ok(capture)
}

/// What nginx with its RTMP module answers to our own client.
fn capture_of_nginx() -> Result<Vec<u8>> {
    let folder = std::env::temp_dir().join(format!("fuzz-seeds-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let configuration = folder.join("nginx.conf");
    std::fs::write(
        &configuration,
        format!(
            "load_module /usr/lib/nginx/modules/ngx_rtmp_module.so; daemon off; master_process off; pid {0}/pid; error_log {0}/log; \
             events {{}} rtmp {{ server {{ listen 127.0.0.1:{port}; application live {{ live on; }} }} }}",
            folder.display()
        ),
    )?;
    let mut nginx = start(&format!(
        "nginx -c {} -p {}",
        configuration.display(),
        folder.display()
    ))?;
    let answered = talk(port);
    nginx.kill().ok();
    nginx.wait()?;
    std::fs::remove_dir_all(&folder)?;
    answered
}

fn talk(port: u16) -> Result<Vec<u8>> {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut socket = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(socket) => break socket,
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut client = Client::new(&format!("rtmp://127.0.0.1:{port}/live/stream").parse()?)?;
    let (mut input, mut answered) = (BytesMut::new(), Vec::new());
    let mut buffer = [0; 4096];
    loop {
        socket.write_all(&client.take_output())?;
        let count = match socket.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        answered.extend_from_slice(&buffer[..count]);
        input.extend_from_slice(&buffer[..count]);
        client.handle_input(&mut input)?;
    }
    Ok(answered.split_off(HANDSHAKE_ANSWER.min(answered.len())))
}

struct Seeds(PathBuf);

impl Seeds {
    fn write(&self, target: &str, name: &str, before: &[u8], bytes: &[u8]) -> Result<()> {
        let folder = self.0.join(target);
        std::fs::create_dir_all(&folder)?;
        Ok(std::fs::write(folder.join(name), [before, bytes].concat())?)
    }

    /// Everything that can be made of one encoder's bytes.
    fn of_capture(&self, name: &str, capture: &Capture) -> Result<()> {
        let chunks = capture.said.get(HANDSHAKE..).ok_or("no handshake")?;
        self.write("chunks", name, &[0x20], chunks)?;
        self.write("session", name, &[0x10], chunks)?;
        self.write("ingest", name, &[0x05], chunks)?;
        if name == "ffmpeg" {
            let hello = &capture.said[..HANDSHAKE + 600];
            self.write("session", "handshake", &[0], hello)?;
            self.write(
                "client",
                "ffmpeg",
                &[0x20],
                &capture.answered[HANDSHAKE_ANSWER..],
            )?;
        }
        let mut tags = Vec::new();
        let mut number = BTreeMap::new();
        for message in messages(chunks)? {
            let payload = &message.payload[..];
            match message.kind {
                kind::COMMAND_AMF0 | kind::DATA_AMF0 => {
                    let number = number.entry(message.kind).or_insert(0);
                    *number += 1;
                    if message.kind == kind::DATA_AMF0 || *number == 1 {
                        let of = if message.kind == kind::DATA_AMF0 {
                            "metadata"
                        } else {
                            "connect"
                        };
                        self.write("amf", &format!("{name}-{of}"), &[], payload)?;
                    }
                }
                kind::VIDEO | kind::AUDIO if tags.len() + payload.len() < MOST_TAGS => {
                    tags.push(u8::from(message.kind == kind::AUDIO) | 12);
                    tags.extend((payload.len() as u16).to_be_bytes());
                    tags.extend(payload);
                    self.codec(name, payload, message.kind)?;
                }
                _ => {}
            }
        }
        if !tags.is_empty() {
            self.write("flv", name, &[], &tags)?;
        }
        Ok(())
    }

    /// Configurations.
    fn codec(&self, name: &str, tag: &[u8], kind: u8) -> Result<()> {
        match (kind, tag) {
            (kind::VIDEO, [0x17, 0, _, _, _, record @ ..]) => {
                self.write("codec", &format!("{name}-avcc"), &[0], record)?;
                let length = usize::from(record[7]);
                let (sps, rest) = record[8..].split_at(length);
                let sets = [&[4, length as u8], sps, &rest[3..]].concat();
                self.write("codec", &format!("{name}-sps"), &[1], &sets)?;
            }
            (kind::VIDEO, [0x17, 1, _, _, _, units @ ..]) => {
                let units = &units[..units.len().min(400)];
                self.write("codec", &format!("{name}-units"), &[4, 4], units)?;
            }
            (kind::AUDIO, [0xaf, 0, config @ ..]) => {
                let config = [&[config.len() as u8], config, b"frame"].concat();
                self.write("codec", &format!("{name}-asc"), &[2], &config)?;
            }
            (kind::AUDIO, [flags, frame @ ..]) if flags >> 4 == 2 => {
                self.write("codec", &format!("{name}-mp3"), &[3], frame)?;
            }
            _ => {}
        }
        Ok(())
    }
}

fn messages(chunks: &[u8]) -> Result<Vec<Message>> {
    let mut reader = ChunkReader::new();
    let mut input = BytesMut::from(chunks);
    let mut messages = Vec::new();
    while let Some(message) = reader.read(&mut input)? {
        messages.push(message);
    }
    Ok(messages)
}

fn by_hand() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (name, text) in REQUESTS {
        seeds.push(("http", *name, text.as_bytes().to_vec()));
    }
    for (name, operations) in PROGRAMMES {
        seeds.push(("ingest", *name, [&[0x80], *operations].concat()));
    }
    seeds.push(("session", "script", SESSION.to_vec()));
    seeds.push(("client", "script", CLIENT.to_vec()));
    // Interleaved chunks of three streams with deltas, a larger chunk size and an abort.
    let mut interleaved = vec![0x80];
    for round in 0..12 {
        interleaved.extend([
            round * 9,
            0xf1,
            20,
            1,
            5,
            0xe8,
            8 + round,
            9,
            b'a',
            b'b',
            b'c',
            b'd',
            0,
            40,
        ]);
    }
    interleaved.extend([0xff, 1, 0, 0xfe, 2, 3, 4]);
    seeds.push(("chunks", "interleaved", interleaved));
    seeds
}

/// Requests of browsers, players and people with other intentions.
const REQUESTS: &[(&str, &str)] = &[
    (
        "early",
        "GET /live/stream/playlist.m3u8 HTTP/1.1\nUser-Agent: Lavf/61\nAccept-Encoding: gzip;q=1.0, br",
    ),
    ("prefetch", "GET /live/stream/playlist.m3u8?prefetch&wait=5"),
    ("parts", "GET /live/stream/ll.m3u8?pt=200"),
    (
        "blocking",
        "GET /live/stream/ll1-1.m3u8?_HLS_msn=#&_HLS_part=3&_HLS_skip=YES",
    ),
    ("media", "GET /live/stream/media-1.m3u8"),
    (
        "segment",
        "GET /live/stream/$-#.ts\nSec-Fetch-Dest: empty\nRange: bytes=0-",
    ),
    ("stream", "GET /live/stream/$-#.ts?stream"),
    ("part", "GET /live/stream/$-ll1-3.ts\nRange: bytes=100-1000"),
    ("suffix", "HEAD /live/stream/$-ll1-0.ts\nRange: bytes=-188"),
    ("waits", "GET /live/none/playlist.m3u8?wait=25"),
    (
        "page",
        "GET /live/stream/\nAccept: text/html\nIf-None-Match: \"0\"",
    ),
    ("api", "GET /api/streams\nAccept: application/json"),
    ("ended", "GET /live/ended/playlist.m3u8"),
    ("metrics", "GET /metrics"),
    ("asset", "GET /web/hls.js?v=1\nAccept-Encoding: gzip"),
    (
        "options",
        "OPTIONS /live/stream/playlist.m3u8\nOrigin: http://example.org",
    ),
    ("traversal", "POST /live/../../etc/passwd%00?a=b&a"),
];

/// Operations of the `ingest` target.
const PROGRAMMES: &[(&str, &[u8])] = &[
    ("regular", &[0x1e, 0x1e, 0x1e, 0x1e, 0x1e, 0x1e]),
    (
        "outages",
        &[
            0x1e, 0x1e, 0x1e, 0xb1, 0x1e, 0x1e, 0xb5, 0x1e, 0xbf, 0x1e, 0x1e,
        ],
    ),
    (
        "takeover",
        &[0x1e, 0x1e, 0xc0, 0x1e, 0xd0, 0x1e, 0xce, 0x1e],
    ),
    (
        "changes",
        &[0x1e, 0x1e, 0x61, 0x1e, 0x1e, 0x71, 0x1e, 0x1e, 0x62, 0x1e],
    ),
    (
        "jumps",
        &[
            0x1e, 0x1e, 0xa0, 0, 0xff, 0xff, 0xf0, 0x1e, 0x1e, 0xa0, 0, 0, 0, 0, 0x1e, 0x1e,
        ],
    ),
    (
        "slow",
        &[0xeb, 0x10, 0x10, 0x10, 0x11, 0xec, 0x10, 0x10, 0x12],
    ),
    ("audio", &[0x2f, 0x2f, 0x2f, 0x2f, 0x2f, 0x2f, 0x2f]),
    (
        "irregular",
        &[
            0x1e, 0x1e, 0x31, 0, 40, 10, 50, 0x30, 0, 40, 0xf6, 9, 0x30, 0xff, 0xe0, 0, 9, 0x41, 0,
            23, 30, 0x50, 8, 0, 0x1e, 0x1e, 0x82, 5, 0x27, 1, 0, 0, 0, 0x92, 3, 0xaf, 1, 7, 0xf0,
            3, 1, 2, 3,
        ],
    ),
    (
        "heavy",
        &[0xe1, 250, 0x1e, 0x1e, 0x1e, 0x1e, 0x1e, 0x1e, 0x1e, 0x1e],
    ),
];

/// Operations of the `session` target: a publish, media, an aggregate, metadata, a ping, the end, and again.
const SESSION: &[u8] = &[
    0x80, 0, 0x47, 3, 0x17, 0, 0, 0x48, 3, 0xaf, 0, 1, 1, 0x10, 0, 0x49, 19, 8, 0, 0, 4, 0, 0, 0,
    0, 0, 0, 0, 0xaf, 1, 2, 3, 0, 0, 0, 15, 0x4d, 4, 3, 0, 0, 9, 3, 0x16, 10, 4, 6, 0, 6, 0, 0, 0,
    1, 11, 4, 0, 1, b'a', 5, 0x4c, 3, b'k', b'e', b'y', 14, 9, 2, 0x4c, 1, b'x', 4, 5, 0x15,
];

/// Operations of the `client` target: welcome, media, a ping, a window, the end.
const CLIENT: &[u8] = &[
    0x80, 0x0e, 0x0b, 3, 0x17, 0, 0, 0x0a, 2, 0xaf, 0, 6, 0, 0, 0, 1, 5, 0, 0, 1, 0, 0x15, 0, 0, 1,
    0, 4, 1, 0, 2, 3, 2, b'n', b'o', 0, 0, 1, 1, 0x0d,
];

/// Bytes of C0, C1 and C2, and of the answers.
const HANDSHAKE: usize = 1 + 2 * 1536;
const HANDSHAKE_ANSWER: usize = HANDSHAKE;
/// Bytes of a capture.
const ENOUGH: usize = 12 << 10;
/// Bytes of tags in one input.
const MOST_TAGS: usize = 6 << 10;
