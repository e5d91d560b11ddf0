//! A chunk writer for tests, able to write every legal form and the illegal ones that are met in the field.

use super::chunk::Message;

/// A chunk header of type 0.
pub(crate) fn type0(csid: u32, time: u32, length: usize, kind: u8, stream_id: u32) -> Vec<u8> {
    let mut bytes = type1(csid, time.min(0xff_ffff), length, kind);
    bytes[0] &= 0x3f;
    bytes.extend(stream_id.to_le_bytes());
    extend_time(&mut bytes, time);
    bytes
}

/// A chunk header of type 1, without extended timestamp.
pub(crate) fn type1(csid: u32, delta: u32, length: usize, kind: u8) -> Vec<u8> {
    let mut bytes = basic(1, csid);
    bytes.extend(&delta.to_be_bytes()[1..]);
    bytes.extend(&(length as u32).to_be_bytes()[1..]);
    bytes.push(kind);
    bytes
}

/// A chunk header of type 2, without extended timestamp.
pub(crate) fn type2(csid: u32, delta: u32) -> Vec<u8> {
    let mut bytes = basic(2, csid);
    bytes.extend(&delta.to_be_bytes()[1..]);
    bytes
}

/// A chunk header of type 3, without extended timestamp.
pub(crate) fn type3(csid: u32) -> Vec<u8> {
    basic(3, csid)
}

/// The extended timestamp, if `time` needs one.
pub(crate) fn extend_time(bytes: &mut Vec<u8>, time: u32) {
    if time >= 0xff_ffff {
        bytes.extend(time.to_be_bytes());
    }
}

fn basic(format: u8, csid: u32) -> Vec<u8> {
    let format = format << 6;
    match csid {
        2..64 => vec![format | csid as u8],
        64..320 => vec![format, (csid - 64) as u8],
        _ => {
            let id = (csid - 64).to_le_bytes();
            vec![format | 1, id[0], id[1]]
        }
    }
}

/// A whole message: a type-0 header, then type-3 chunks, as the specification has it.
pub(crate) fn message(csid: u32, message: &Message, chunk_size: usize) -> Vec<u8> {
    let Message {
        kind,
        stream_id,
        timestamp,
        payload,
    } = message;
    let mut bytes = type0(csid, *timestamp, payload.len(), *kind, *stream_id);
    for (i, part) in payload.chunks(chunk_size).enumerate() {
        if i > 0 {
            bytes.extend(type3(csid));
            extend_time(&mut bytes, *timestamp);
        }
        bytes.extend(part);
    }
    bytes
}

/// Set Chunk Size.
pub(crate) fn set_chunk_size(size: u32) -> Vec<u8> {
    control(1, &size.to_be_bytes())
}

/// A protocol control message.
pub(crate) fn control(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = type0(2, 0, payload.len(), kind, 0);
    bytes.extend(payload);
    bytes
}
