use super::super::test_util::{
    self, control, extend_time, message, set_chunk_size, type0, type1, type2, type3,
};
use super::*;
use proptest::prelude::*;

/// Everything `bytes` hold, read as one piece and byte by byte, which must agree.
fn read_all(bytes: &[u8]) -> Result<Vec<Message>, Error> {
    let whole = read_pieces([bytes]);
    assert_eq!(whole, read_pieces(bytes.chunks(1)));
    whole
}

fn read_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Message>, Error> {
    let mut reader = ChunkReader::new();
    let mut input = BytesMut::new();
    let mut messages = Vec::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        while let Some(message) = reader.read(&mut input)? {
            messages.push(message);
        }
    }
    Ok(messages)
}

fn times(bytes: &[u8]) -> Vec<u32> {
    let messages = read_all(bytes).unwrap();
    messages.iter().map(|m| m.timestamp).collect()
}

fn video(timestamp: u32, payload: &[u8]) -> Message {
    Message {
        kind: kind::VIDEO,
        stream_id: 1,
        timestamp,
        payload: Bytes::copy_from_slice(payload),
    }
}

fn counting(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 % 251) as u8).collect()
}

// Extended timestamps on type-3 chunks.

#[test]
fn extended_timestamp_repeated_on_type3_spec() {
    let sent = video(0x0123_4567, &counting(300));
    assert_eq!(read_all(&message(6, &sent, 128)).unwrap(), [sent]);
}

#[test]
fn extended_timestamp_not_repeated_on_type3_joy4() {
    let sent = video(0x0123_4567, &counting(300));
    let mut bytes = type0(6, sent.timestamp, 300, kind::VIDEO, 1);
    bytes.extend(&sent.payload[..128]);
    bytes.extend(type3(6));
    bytes.extend(&sent.payload[128..256]);
    bytes.extend(type3(6));
    bytes.extend(&sent.payload[256..]);
    assert_eq!(read_all(&bytes).unwrap(), [sent]);
}

#[test]
fn extended_timestamp_not_repeated_before_a_tail_shorter_than_it() {
    let sent = video(0x0123_4567, &counting(129));
    let mut bytes = type0(6, sent.timestamp, 129, kind::VIDEO, 1);
    bytes.extend(&sent.payload[..128]);
    bytes.extend(type3(6));
    bytes.extend(&sent.payload[128..]);
    assert_eq!(read_all(&bytes).unwrap(), [sent]);
}

#[test]
fn extended_delta_is_compared_raw_and_added() {
    let delta = 0x0100_0000_u32;
    let mut bytes = message(6, &video(5000, b"first"), 128);
    bytes.extend(type1(6, 0xff_ffff, 200, kind::VIDEO));
    bytes.extend(delta.to_be_bytes());
    bytes.extend(&counting(200)[..128]);
    bytes.extend(type3(6));
    bytes.extend(delta.to_be_bytes());
    bytes.extend(&counting(200)[128..]);
    let messages = read_all(&bytes).unwrap();
    assert_eq!(messages[1], video(5000 + delta, &counting(200)));
}

#[test]
fn extended_timestamp_of_exactly_the_escape_value() {
    let sent = video(0x00ff_ffff, b"4.66 hours");
    assert_eq!(read_all(&message(6, &sent, 128)).unwrap(), [sent]);
}

#[test]
fn small_negative_extended_delta_goes_back() {
    let mut bytes = message(6, &video(5000, b"a"), 128);
    bytes.extend(type2(6, 0xff_ffff));
    bytes.extend((-40_i32).to_be_bytes());
    bytes.extend(b"b");
    assert_eq!(times(&bytes), [5000, 4960]);
}

#[test]
fn timestamp_wraps_after_49_days() {
    let mut bytes = message(6, &video(u32::MAX - 10, b"a"), 128);
    bytes.extend(type2(6, 33));
    bytes.extend(b"b");
    assert_eq!(times(&bytes), [u32::MAX - 10, 22]);
}

// A type-3 chunk that starts a message after a type-0 one.

#[test]
fn type0_then_type3_fmle_delta() {
    let mut bytes = message(4, &video(23, b"a"), 128);
    bytes.extend([0xc4, b'b', 0xc4, b'c']);
    assert_eq!(times(&bytes), [23, 46, 69]);
}

#[test]
fn type0_then_type3_gstreamer_same_time() {
    let mut bytes = message(4, &video(3_600_000, b"a"), 128);
    bytes.extend([0xc4, b'b']);
    assert_eq!(times(&bytes), [3_600_000, 3_600_000]);
}

#[test]
fn type3_repeats_the_delta_of_type1_and_type2() {
    let mut bytes = message(4, &video(90_000, b"a"), 128);
    bytes.extend(type1(4, 40, 1, kind::VIDEO));
    bytes.extend([b'b', 0xc4, b'c']);
    bytes.extend(type2(4, 20));
    bytes.extend([b'd', 0xc4, b'e']);
    assert_eq!(times(&bytes), [90_000, 90_040, 90_080, 90_100, 90_120]);
}

// First headers and basic headers.

#[test]
fn fresh_chunk_stream_opens_with_type1_librtmp_ping() {
    let mut bytes = type1(2, 0, 6, kind::USER_CONTROL);
    bytes.extend([0, 7, 0, 0, 0, 1]);
    let messages = read_all(&bytes).unwrap();
    assert_eq!(
        (messages[0].kind, messages[0].stream_id),
        (kind::USER_CONTROL, 0)
    );
}

#[test]
fn fresh_chunk_stream_with_type2_or_type3_is_refused() {
    for (format, bytes) in [(2, type2(9, 0)), (3, type3(9))] {
        let refusal = Error::NoEarlierHeader {
            chunk_stream: 9,
            format,
        };
        assert_eq!(read_all(&bytes), Err(refusal));
    }
}

#[test]
fn basic_headers_of_two_and_three_bytes() {
    for csid in [2, 63, 64, 319, 320, 65_599] {
        let sent = video(7, &counting(200));
        assert_eq!(read_all(&message(csid, &sent, 128)).unwrap(), [sent]);
    }
}

// Control messages.

#[test]
fn control_messages_on_any_chunk_stream_ptzoptics() {
    let mut bytes = type0(5, 0, 4, kind::SET_CHUNK_SIZE, 1);
    bytes.extend(1000_u32.to_be_bytes());
    let sent = video(7, &counting(900));
    bytes.extend(message(6, &sent, 1000));
    assert_eq!(read_all(&bytes).unwrap(), [sent]);
}

// Chunk size.

#[test]
fn atem_chunk_size_134217728() {
    // Longer than any sane clamp of the chunk size: the message must come out whole.
    let sent = video(7, &counting(3 << 20));
    let mut bytes = set_chunk_size(134_217_728);
    bytes.extend(message(6, &sent, 134_217_728));
    assert_eq!(read_pieces(bytes.chunks(65_536)).unwrap(), [sent]);
}

#[test]
fn chunk_size_of_2_31_minus_1_and_of_1() {
    for size in [i32::MAX as u32, 1] {
        let sent = video(7, &counting(500));
        let mut bytes = set_chunk_size(size);
        bytes.extend(message(6, &sent, size as usize));
        assert_eq!(read_all(&bytes).unwrap(), [sent]);
    }
}

#[test]
fn chunk_size_0_and_top_bit_are_refused() {
    for size in [0, 0x8000_0000, 0x8000_1000] {
        assert_eq!(
            read_all(&set_chunk_size(size)),
            Err(Error::BadChunkSize(size))
        );
    }
}

#[test]
fn chunk_size_truncated_lal() {
    let refusal = Error::TruncatedControl {
        kind: kind::SET_CHUNK_SIZE,
        length: 2,
    };
    assert_eq!(read_all(&control(1, &[0, 1])), Err(refusal));
}

#[test]
fn chunk_size_changes_in_the_middle_of_a_message() {
    let sent = video(7, &counting(500));
    let mut bytes = type0(6, 7, 500, kind::VIDEO, 1);
    bytes.extend(&sent.payload[..128]);
    bytes.extend(set_chunk_size(300));
    bytes.extend(type3(6));
    bytes.extend(&sent.payload[128..428]);
    bytes.extend(type3(6));
    bytes.extend(&sent.payload[428..]);
    assert_eq!(read_all(&bytes).unwrap(), [sent]);
}

// Abort.

#[test]
fn abort_drops_the_half_message() {
    let mut bytes = type0(6, 7, 500, kind::VIDEO, 1);
    bytes.extend(&counting(128));
    bytes.extend(control(kind::ABORT, &6_u32.to_be_bytes()));
    let sent = video(40, b"next");
    bytes.extend(message(6, &sent, 128));
    assert_eq!(read_all(&bytes).unwrap(), [sent]);
}

#[test]
fn abort_of_nothing_and_of_an_unknown_chunk_stream_is_harmless() {
    let sent = video(40, b"next");
    let mut bytes = control(kind::ABORT, &600_u32.to_be_bytes());
    bytes.extend(message(6, &sent, 128));
    bytes.extend(control(kind::ABORT, &6_u32.to_be_bytes()));
    assert_eq!(read_all(&bytes).unwrap(), [sent]);
}

#[test]
fn abort_truncated_is_refused() {
    let refusal = Error::TruncatedControl {
        kind: kind::ABORT,
        length: 1,
    };
    assert_eq!(read_all(&control(kind::ABORT, &[0])), Err(refusal));
}

// Messages.

#[test]
fn audio_between_two_chunks_of_one_video_message() {
    let picture = video(7, &counting(200));
    let sound = Message {
        kind: kind::AUDIO,
        ..video(9, &counting(60))
    };
    let mut bytes = type0(6, 7, 200, kind::VIDEO, 1);
    bytes.extend(&picture.payload[..128]);
    bytes.extend(message(4, &sound, 128));
    bytes.extend(type3(6));
    bytes.extend(&picture.payload[128..]);
    assert_eq!(read_all(&bytes).unwrap(), [sound, picture]);
}

#[test]
fn fresh_header_in_the_middle_of_a_message_drops_it() {
    for fresh in [
        type0(6, 40, 4, kind::VIDEO, 1),
        type1(6, 33, 4, kind::VIDEO),
    ] {
        let mut bytes = type0(6, 7, 200, kind::VIDEO, 1);
        bytes.extend(&counting(128));
        bytes.extend(fresh);
        bytes.extend(b"next");
        assert_eq!(read_all(&bytes).unwrap(), [video(40, b"next")]);
    }
}

#[test]
fn full_header_repeated_on_every_chunk() {
    for time in [7, 0x0123_4567] {
        let sent = video(time, &counting(300));
        let mut bytes = Vec::new();
        for part in sent.payload.chunks(128) {
            bytes.extend(type0(6, time, 300, kind::VIDEO, 1));
            bytes.extend(part);
        }
        assert_eq!(read_all(&bytes).unwrap(), [sent]);
    }
}

#[test]
fn messages_without_payload_are_dropped() {
    let sent = video(40, b"next");
    let mut bytes = type0(6, 7, 0, kind::VIDEO, 1);
    bytes.extend([0xc6, 0xc6]);
    bytes.extend(message(6, &sent, 128));
    assert_eq!(read_all(&bytes).unwrap(), [sent]);
}

#[test]
fn whole_chunk_comes_out_without_a_copy() {
    let mut input = BytesMut::from(&message(6, &video(7, &counting(100)), 128)[..]);
    let at = input.as_ptr() as usize + 12;
    let message = ChunkReader::new().read(&mut input).unwrap().unwrap();
    assert_eq!(message.payload.as_ptr() as usize, at);
}

// Limits.

#[test]
fn messages_over_the_limit_of_their_kind_are_refused_at_the_header() {
    for (kind, limit) in [
        (kind::VIDEO, MAX_MEDIA_MESSAGE),
        (kind::AGGREGATE, MAX_MEDIA_MESSAGE),
        (kind::COMMAND_AMF0, MAX_OTHER_MESSAGE),
        (kind::DATA_AMF0, MAX_MEDIA_MESSAGE),
        (kind::COMMAND_AMF3, MAX_OTHER_MESSAGE),
        (77, MAX_OTHER_MESSAGE),
    ] {
        let length = limit + 1;
        let refusal = Error::MessageTooLong {
            kind,
            length,
            limit,
        };
        assert_eq!(read_all(&type0(6, 0, length, kind, 1)), Err(refusal));
        assert_eq!(read_all(&type0(6, 0, limit, kind, 1)), Ok(vec![]));
    }
}

#[test]
fn chunk_streams_are_counted() {
    let bytes: Vec<u8> = (0..MAX_CHUNK_STREAMS as u32 + 1)
        .flat_map(|i| message(3 + i, &video(0, b"x"), 128))
        .collect();
    // The last message begins with a basic header of two bytes.
    let last = bytes.len() - 14;
    assert_eq!(read_all(&bytes[..last]).unwrap().len(), MAX_CHUNK_STREAMS);
    assert_eq!(read_all(&bytes), Err(Error::TooManyChunkStreams));
}

#[test]
fn open_messages_are_counted() {
    let begin = |csid| {
        let mut bytes = type0(csid, 0, 200, kind::VIDEO, 1);
        bytes.extend(&counting(128));
        bytes
    };
    let mut bytes: Vec<u8> = (3..).take(MAX_OPEN_MESSAGES).flat_map(begin).collect();
    assert_eq!(read_all(&bytes), Ok(vec![]));
    bytes.extend(begin(60));
    assert_eq!(read_all(&bytes), Err(Error::TooManyOpenMessages));
}

#[test]
fn open_bytes_are_counted_and_only_what_came_is_held() {
    let mut reader = ChunkReader::new();
    let mut input = BytesMut::from(&set_chunk_size(1 << 20)[..]);
    let megabyte = vec![0; 1 << 20];
    let mut sent = 0;
    let mut result = Ok(None);
    'all: for csid in 3..9 {
        input.extend_from_slice(&type0(csid, 0, MAX_MEDIA_MESSAGE, kind::VIDEO, 1));
        for part in 0..3 {
            if part > 0 {
                input.extend_from_slice(&type3(csid));
            }
            input.extend_from_slice(&megabyte);
            result = reader.read(&mut input);
            if result.is_err() {
                break 'all;
            }
            sent += megabyte.len();
            let held: usize = reader
                .streams
                .iter()
                .filter_map(|s| s.partial.as_ref())
                .map(BytesMut::len)
                .sum();
            assert_eq!((reader.open_bytes(), held), (sent, sent));
        }
    }
    assert_eq!(result, Err(Error::TooManyOpenBytes));
    assert_eq!(sent, MAX_OPEN_BYTES);
}

#[test]
fn announced_length_reserves_nothing() {
    let mut reader = ChunkReader::new();
    let mut input = BytesMut::from(&type0(6, 0, MAX_MEDIA_MESSAGE, kind::VIDEO, 1)[..]);
    input.extend_from_slice(&[0; 128]);
    assert_eq!(reader.read(&mut input), Ok(None));
    let partial = reader.streams[0].partial.as_ref().unwrap();
    assert_eq!(partial.len(), 128);
    assert!(
        partial.capacity() <= 2 * ASSEMBLY_STEP,
        "{}",
        partial.capacity()
    );
}

// Properties.

/// What one chunk stream of the writer has sent, as the specification counts it.
#[derive(Clone, Copy)]
struct Sent {
    time: u32,
    delta: Option<u32>,
    length: usize,
    kind: u8,
    stream_id: u32,
}

/// Writes `message`'s chunks, with the shortest header allowed by `format` and by what was `sent` before.
fn write(csid: u32, message: &Message, sent: &mut Option<Sent>, format: u8) -> (Vec<u8>, u32) {
    let length = message.payload.len();
    let mut next = Sent {
        time: message.timestamp,
        delta: None,
        length,
        kind: message.kind,
        stream_id: message.stream_id,
    };
    let (header, field) = match *sent {
        Some(last) if format > 0 && last.stream_id == next.stream_id => {
            let delta = next.time.wrapping_sub(last.time);
            let field = delta.min(0xff_ffff);
            next.delta = Some(delta);
            let same = last.length == length && last.kind == next.kind;
            let mut header = match format {
                3 if same && last.delta == Some(delta) => type3(csid),
                2 | 3 if same => type2(csid, field),
                _ => type1(csid, field, length, next.kind),
            };
            extend_time(&mut header, delta);
            (header, delta)
        }
        _ => {
            let header = type0(csid, next.time, length, next.kind, next.stream_id);
            (header, next.time)
        }
    };
    *sent = Some(next);
    (header, field)
}

fn any_message() -> impl Strategy<Value = Message> {
    let kind = prop::sample::select(vec![4_u8, 8, 9, 18, 20, 22]);
    let time = prop_oneof![0..2000_u32, 0xff_fff0..0x100_0010_u32, any::<u32>()];
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..40),
        prop::collection::vec(any::<u8>(), 1..3000),
    ];
    (kind, 0..3_u32, time, payload).prop_map(|(kind, stream_id, timestamp, payload)| Message {
        kind,
        stream_id,
        timestamp,
        payload: payload.into(),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Any messages, in any chunk sizes, interleaved and split in any way, come out as they went in.
    #[test]
    fn what_goes_in_comes_out(
        queues in prop::collection::vec(prop::collection::vec((any_message(), 0..4_u8), 0..6), 1..6),
        schedule in prop::collection::vec((any::<prop::sample::Index>(), prop::option::weighted(0.1, 1..4000_u32)), 1..40),
        pieces in prop::collection::vec(1..5000_usize, 1..20),
        repeats_time: bool,
    ) {
        let csids = [3, 6, 63, 64, 320, 65_599];
        let mut waiting: Vec<_> = queues.into_iter().map(|q| q.into_iter().peekable()).collect();
        let mut sent = vec![None; waiting.len()];
        let mut running: Vec<Option<(Message, usize, u32)>> = vec![None; waiting.len()];
        let (mut bytes, mut expected, mut chunk_size) = (Vec::new(), Vec::new(), 128);
        for (choice, resize) in schedule.iter().cycle() {
            let busy: Vec<usize> = (0..waiting.len())
                .filter(|&i| running[i].is_some() || waiting[i].peek().is_some())
                .collect();
            if busy.is_empty() {
                break;
            }
            if let Some(size) = resize {
                let announcement = Message {
                    kind: kind::SET_CHUNK_SIZE,
                    stream_id: 0,
                    timestamp: 0,
                    payload: Bytes::copy_from_slice(&size.to_be_bytes()),
                };
                bytes.extend(test_util::message(2, &announcement, chunk_size));
                chunk_size = *size as usize;
            }
            let i = busy[choice.index(busy.len())];
            let (message, done, field) = match running[i].take() {
                Some((message, done, field)) => {
                    bytes.extend(type3(csids[i]));
                    if repeats_time {
                        extend_time(&mut bytes, field);
                    }
                    (message, done, field)
                }
                None => {
                    let (message, format) = waiting[i].next().unwrap();
                    let (header, field) = write(csids[i], &message, &mut sent[i], format);
                    bytes.extend(header);
                    (message, 0, field)
                }
            };
            let end = message.payload.len().min(done + chunk_size);
            bytes.extend(&message.payload[done..end]);
            if end == message.payload.len() {
                expected.push(message);
            } else {
                running[i] = Some((message, end, field));
            }
        }

        let mut rest = &bytes[..];
        let split = pieces.iter().cycle().map_while(|&size| {
            let (piece, tail) = rest.split_at(size.min(rest.len()));
            rest = tail;
            (!piece.is_empty()).then_some(piece)
        });
        prop_assert_eq!(read_pieces(split).unwrap(), expected);
    }

    /// Arbitrary bytes give messages or an error, and never hold more than the limits say.
    #[test]
    fn arbitrary_bytes_never_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..60)) {
        let mut reader = ChunkReader::new();
        let mut input = BytesMut::new();
        'all: for piece in pieces {
            input.extend_from_slice(&piece);
            loop {
                match reader.read(&mut input) {
                    Ok(Some(message)) => prop_assert!(!message.payload.is_empty()),
                    Ok(None) => break,
                    Err(_) => break 'all,
                }
            }
            let held: usize = reader.streams.iter().filter_map(|s| s.partial.as_ref()).map(BytesMut::len).sum();
            prop_assert_eq!(held, reader.open_bytes());
            prop_assert!(held <= MAX_OPEN_BYTES && reader.open_messages <= MAX_OPEN_MESSAGES);
        }
    }
}
