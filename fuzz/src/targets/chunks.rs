//! The chunk reader: any bytes come out as the same messages however they were cut in transit; messages of a proper writer come out as
//! they went in, whatever their interleaving.

use bytes::BytesMut;
use lhls::rtmp::chunk::{ChunkReader, Error, Message};
use lhls::rtmp::limits::{MAX_MEDIA_MESSAGE, MAX_OPEN_BYTES, MAX_OTHER_MESSAGE};

use super::script::Script;

/// Twice over, since the input is read twice: a copy of the input, as much in messages, and as much again while a buffer grows.
pub fn memory_bound(length: usize) -> usize {
    8 * length + (1 << 20)
}

/// The first byte says how.
pub fn run(data: &[u8]) {
    let mut script = Script(data);
    match script.byte() {
        mode @ 0..0x80 => cut_anywhere(mode, script.0),
        0x80.. => interleaved(script),
    }
}

fn cut_anywhere(mode: u8, data: &[u8]) {
    let whole = read(data, usize::MAX);
    let piece = 1 + usize::from(mode);
    let pieces = read(data, piece);
    assert_eq!(whole, pieces, "cut every {piece} bytes");
    for message in &whole.0 {
        let limit = match message.kind {
            8 | 9 | 15 | 18 | 22 => MAX_MEDIA_MESSAGE,
            _ => MAX_OTHER_MESSAGE,
        };
        assert!((1..=limit).contains(&message.payload.len()));
    }
}

fn read(data: &[u8], piece: usize) -> (Vec<Message>, Option<Error>) {
    let mut reader = ChunkReader::new();
    let mut input = BytesMut::new();
    let mut messages = Vec::new();
    for piece in data.chunks(piece.min(data.len()).max(1)) {
        input.extend_from_slice(piece);
        loop {
            match reader.read(&mut input) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
            assert!(reader.open_bytes() <= MAX_OPEN_BYTES);
        }
    }
    (messages, None)
}

/// Writes messages on several chunk streams, a chunk of one, then a chunk of another, with the header forms that the specification
/// allows, and expects them back.
fn interleaved(mut script: Script<'_>) {
    let mut writer = Writer::default();
    while !script.is_over() && writer.bytes.len() < MOST_WRITTEN {
        writer.step(&mut script);
    }
    writer.finish();
    let (messages, error) = read(&writer.bytes, 1 + usize::from(script.byte()) * 7);
    assert_eq!(error, None);
    assert_eq!(messages, writer.sent);
}

#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    sent: Vec<Message>,
    chunk_size: Option<usize>,
    streams: [Stream; STREAMS],
}

#[derive(Default, Clone)]
struct Stream {
    last: Option<Header>,
    /// The message that is being written, and how much of it has been.
    open: Option<(Message, usize)>,
}

#[derive(Clone, Copy)]
struct Header {
    length: usize,
    kind: u8,
    stream_id: u32,
    time: u32,
    delta: Option<u32>,
    extended: Option<u32>,
}

impl Writer {
    fn step(&mut self, script: &mut Script<'_>) {
        let choice = script.byte();
        let at = usize::from(choice & 7) % STREAMS;
        if choice == 0xff {
            let size = 1 + u32::from(script.u16());
            self.control(1, size);
            self.chunk_size = Some(size as usize);
        } else if choice == 0xfe {
            let at = usize::from(script.byte()) % STREAMS;
            self.control(2, id(at));
            self.streams[at].open = None;
        } else if self.streams[at].open.is_some() {
            self.chunk(at);
        } else {
            self.begin(at, choice, script);
        }
    }

    fn control(&mut self, kind: u8, value: u32) {
        // A control message may come between any two chunks.
        self.bytes.extend([2, 0, 0, 0, 0, 0, 4, kind, 0, 0, 0, 0]);
        let value = value.to_be_bytes();
        for (index, part) in value.chunks(self.size()).enumerate() {
            if index > 0 {
                self.bytes.push(0xc2);
            }
            self.bytes.extend(part);
        }
    }

    fn size(&self) -> usize {
        self.chunk_size.unwrap_or(128)
    }

    fn begin(&mut self, at: usize, choice: u8, script: &mut Script<'_>) {
        let payload: Vec<u8> = match script.byte() {
            // A long one of a few bytes of script.
            byte @ 0xf0.. => vec![byte; usize::from(script.byte()) * 4 + 1],
            length => script.take(usize::from(length)).to_vec(),
        };
        if payload.is_empty() {
            return;
        }
        let last = self.streams[at].last;
        let format = match last {
            None => choice >> 3 & 1,
            Some(_) => choice >> 3 & 3,
        };
        let mut header = last.unwrap_or(Header {
            length: 0,
            kind: 0,
            stream_id: 0,
            time: 0,
            delta: None,
            extended: None,
        });
        match format {
            // Nothing in front of it: only where the message is like the one before in all that it leaves out.
            3 if header.length == payload.len() && header.delta.is_some() => {
                header.time = header.time.wrapping_add(header.delta.unwrap_or(0));
                self.basic(3, at);
                self.bytes
                    .extend(header.extended.iter().flat_map(|time| time.to_be_bytes()));
            }
            2 if header.length == payload.len() => self.delta(2, at, &mut header, script),
            1 => {
                header.length = payload.len();
                header.kind = KINDS[usize::from(script.byte()) % KINDS.len()];
                self.delta(1, at, &mut header, script);
            }
            _ => {
                header.length = payload.len();
                header.kind = KINDS[usize::from(script.byte()) % KINDS.len()];
                header.stream_id = script.byte().into();
                header.time = time(script);
                header.delta = None;
                header.extended = (header.time >= EXTENDED).then_some(header.time);
                self.basic(0, at);
                self.bytes
                    .extend(&header.time.min(EXTENDED).to_be_bytes()[1..]);
                self.bytes
                    .extend(&(header.length as u32).to_be_bytes()[1..]);
                self.bytes.push(header.kind);
                self.bytes.extend(header.stream_id.to_le_bytes());
                self.bytes
                    .extend(header.extended.iter().flat_map(|time| time.to_be_bytes()));
            }
        }
        self.streams[at].last = Some(header);
        let message = Message {
            kind: header.kind,
            stream_id: header.stream_id,
            timestamp: header.time,
            payload: payload.into(),
        };
        self.payload(at, message, 0);
    }

    fn delta(&mut self, format: u8, at: usize, header: &mut Header, script: &mut Script<'_>) {
        let delta = time(script);
        header.time = header.time.wrapping_add(delta);
        header.delta = Some(delta);
        header.extended = (delta >= EXTENDED).then_some(delta);
        self.basic(format, at);
        self.bytes.extend(&delta.min(EXTENDED).to_be_bytes()[1..]);
        if format == 1 {
            self.bytes
                .extend(&(header.length as u32).to_be_bytes()[1..]);
            self.bytes.push(header.kind);
        }
        self.bytes
            .extend(header.extended.iter().flat_map(|time| time.to_be_bytes()));
    }

    /// The next chunk of the message that is open on a stream.
    fn chunk(&mut self, at: usize) {
        let Some((message, from)) = self.streams[at].open.take() else {
            return;
        };
        self.basic(3, at);
        let extended = self.streams[at].last.and_then(|last| last.extended);
        self.bytes
            .extend(extended.iter().flat_map(|time| time.to_be_bytes()));
        self.payload(at, message, from);
    }

    fn payload(&mut self, at: usize, message: Message, from: usize) {
        let to = message.payload.len().min(from + self.size());
        self.bytes.extend(&message.payload[from..to]);
        if to == message.payload.len() {
            self.sent.push(message);
        } else {
            self.streams[at].open = Some((message, to));
        }
    }

    fn basic(&mut self, format: u8, at: usize) {
        let format = format << 6;
        match id(at) {
            id @ 2..64 => self.bytes.push(format | id as u8),
            id @ 64..320 => self.bytes.extend([format, (id - 64) as u8]),
            id => {
                let [low, high, ..] = (id - 64).to_le_bytes();
                self.bytes.extend([format | 1, low, high]);
            }
        }
    }

    fn finish(&mut self) {
        for at in 0..STREAMS {
            while self.streams[at].open.is_some() {
                self.chunk(at);
            }
        }
    }
}

/// Small, middling and large ones, among them those beside the limit of the short field.
fn time(script: &mut Script<'_>) -> u32 {
    match script.byte() {
        byte @ 0..0xc0 => byte.into(),
        0xc0..0xe0 => u32::from(script.u16()) * 300,
        byte @ 0xe0..0xf0 => EXTENDED - 8 + u32::from(byte & 15),
        0xf0.. => script.u32(),
    }
}

/// One id of each form of basic header among them.
fn id(at: usize) -> u32 {
    [3, 4, 63, 64, 319, 320, 65599][at]
}

/// As many messages as the reader lets be open at once, less the one for control.
const STREAMS: usize = 7;
const KINDS: [u8; 6] = [8, 9, 18, 20, 4, 22];
const EXTENDED: u32 = 0xff_ffff;
const MOST_WRITTEN: usize = 16 << 10;
