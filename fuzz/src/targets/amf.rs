//! The AMF0 gate: any bytes are read or refused, within the memory that its documentation states, and what is read can be written and
//! read again.

use bytes::Bytes;
use lhls::rtmp::amf::{self, Amf0Value, Command};

/// What [`amf::decode`] states, for the command and for the values that are compared.
pub fn memory_bound(length: usize) -> usize {
    4 * (100 * length + 4096)
}

/// Reads `data` as values, as a command and as a command in AMF3's wrapping.
pub fn run(data: &[u8]) {
    let decoded = amf::decode(data);
    let command = Command::decode(data);
    if let Ok(command) = &command {
        assert!(command.transaction.is_finite());
        let values = decoded.as_ref().expect("a command is made of values");
        assert!(
            matches!(values.first(), Some(Amf0Value::Utf8String(name)) if *name == command.name)
        );
    }
    let stripped = amf::strip_amf3_prefix(&Bytes::copy_from_slice(data));
    assert!(stripped.len() + 1 >= data.len());
    if let Ok(values) = decoded
        && let Ok(written) = amf::encode(&values)
        // What was read as an array of objects may be longer when it is written properly.
        && let Ok(again) = amf::decode(&written)
    {
        assert!(same(&values, &again), "{values:?}\n{again:?}");
    }
}

/// Equality that holds for "not a number" too.
fn same(left: &[Amf0Value], right: &[Amf0Value]) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).all(|pair| match pair {
            (Amf0Value::Number(a), Amf0Value::Number(b)) => a.to_bits() == b.to_bits(),
            (Amf0Value::StrictArray(a), Amf0Value::StrictArray(b)) => same(a, b),
            (Amf0Value::Object(a), Amf0Value::Object(b)) => {
                a.len() == b.len()
                    && a.iter().all(|(key, value)| {
                        let other = b.get(key).map(std::slice::from_ref);
                        other.is_some_and(|other| same(std::slice::from_ref(value), other))
                    })
            }
            (a, b) => a == b,
        })
}
