//! A bounded AMF0 decoder.
//!
//! Adobe's AMF0 specification, into the value type of `rml_amf0`. It takes what real encoders send wrongly: objects and
//! arrays without an end, wrong array counts, empty keys. It refuses what can only be an error or an attack: strings and
//! numbers cut short, nesting past [`MAX_AMF_DEPTH`], markers outside the specification.
//!
//! What [`Amf0Value`] has no word for is mapped: ECMA arrays and typed objects to objects, dates to their number of
//! milliseconds, XML and long strings to strings; references and `unsupported` to undefined, since following references
//! would let a few bytes stand for any amount of memory.
//!
//! Deliberately not here: AMF3. A switch to it (marker 0x11) ends the values read; what stands before it is kept.

use super::limits::{MAX_AMF_DEPTH, MAX_OTHER_MESSAGE};
use bytes::Bytes;
pub use rml_rtmp::rml_amf0::Amf0Value;
use std::collections::HashMap;

/// What is wrong with the AMF0 of a message. Positions are bytes from its start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// See [`MAX_OTHER_MESSAGE`].
    #[error("AMF0 data of {0} bytes; the limit is {MAX_OTHER_MESSAGE}")]
    TooLong(usize),
    /// See [`MAX_AMF_DEPTH`].
    #[error("AMF0 values nested deeper than {MAX_AMF_DEPTH} at byte {0}")]
    TooDeep(usize),
    /// A value that says it is longer than the data.
    #[error("AMF0 {what} cut short at byte {at}")]
    CutShort {
        /// Kind of value.
        what: &'static str,
        /// Position of its first missing or short field.
        at: usize,
    },
    /// No value of AMF0 begins like this.
    #[error("unknown AMF0 marker {marker:#04x} at byte {at}")]
    UnknownMarker {
        /// The marker byte.
        marker: u8,
        /// Its position.
        at: usize,
    },
    /// A command must begin with its name.
    #[error("a command begins with {0}; expected its name, a string")]
    NoCommandName(&'static str),
    /// A string of ours that does not fit its field of 16 bits.
    #[error("cannot write AMF0: {0}")]
    Encode(String),
}

/// A command message, with what short ones leave out filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// Such as `connect`.
    pub name: String,
    /// Number of the transaction, which an answer repeats; 0 if there is none, and none is expected.
    pub transaction: f64,
    /// The command object; null for most commands.
    pub object: Amf0Value,
    /// What follows it.
    pub arguments: Vec<Amf0Value>,
}

impl Command {
    /// Reads the payload of a command message (type 20; type 17 too, see [`strip_amf3_prefix`]).
    pub fn decode(payload: &[u8]) -> Result<Self, Error> {
        let mut values = decode(payload)?.into_iter();
        let name = match values.next() {
            Some(Amf0Value::Utf8String(name)) => name,
            Some(other) => return Err(Error::NoCommandName(type_name(&other))),
            None => return Err(Error::NoCommandName("nothing")),
        };
        let transaction = values.next().and_then(Amf0Value::get_number);
        Ok(Self {
            name,
            transaction: transaction.filter(|n| n.is_finite()).unwrap_or(0.0),
            object: values.next().unwrap_or(Amf0Value::Null),
            arguments: values.collect(),
        })
    }

    /// The argument at `index`, if it is a string.
    pub fn string(&self, index: usize) -> Option<&str> {
        self.arguments.get(index).and_then(as_str)
    }
}

/// Reads all values of an AMF0 message.
///
/// The values take at most about 100 times the memory of `payload`, which is limited to [`MAX_OTHER_MESSAGE`] bytes.
pub fn decode(payload: &[u8]) -> Result<Vec<Amf0Value>, Error> {
    if payload.len() > MAX_OTHER_MESSAGE {
        return Err(Error::TooLong(payload.len()));
    }
    let mut decoder = Decoder {
        rest: payload,
        length: payload.len(),
        ended: false,
    };
    let mut values = Vec::new();
    while decoder.more() {
        if let Some(value) = decoder.value(0)? {
            values.push(value);
        }
    }
    Ok(values)
}

/// Writes values as AMF0. Properties of objects come in no particular order.
pub fn encode(values: &[Amf0Value]) -> Result<Bytes, Error> {
    // The crate wants a `&Vec`.
    match rml_rtmp::rml_amf0::serialize(&values.to_vec()) {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) => Err(Error::Encode(error.to_string())),
    }
}

/// The AMF0 part of an "AMF3" command or data message (types 17 and 15): senders put one format byte before plain AMF0. A
/// few forget it; a message can begin only with a string, so the two are told apart.
pub fn strip_amf3_prefix(payload: &Bytes) -> Bytes {
    match payload.first() {
        Some(&marker::STRING) | None => payload.clone(),
        Some(_) => payload.slice(1..),
    }
}

/// The string in `value`, if it is one.
pub fn as_str(value: &Amf0Value) -> Option<&str> {
    match value {
        Amf0Value::Utf8String(text) => Some(text),
        _ => None,
    }
}

/// A property of `value`, if it is an object that has it.
pub fn property<'a>(value: &'a Amf0Value, name: &str) -> Option<&'a Amf0Value> {
    match value {
        Amf0Value::Object(properties) => properties.get(name),
        _ => None,
    }
}

/// An object of these properties.
pub fn object<const N: usize>(properties: [(&str, Amf0Value); N]) -> Amf0Value {
    let owned = properties.map(|(name, value)| (name.to_owned(), value));
    Amf0Value::Object(HashMap::from(owned))
}

/// A string value.
pub fn string(text: impl Into<String>) -> Amf0Value {
    Amf0Value::Utf8String(text.into())
}

struct Decoder<'a> {
    rest: &'a [u8],
    length: usize,
    /// Nothing after this point can be read: AMF3, or a value without a known form.
    ended: bool,
}

impl Decoder<'_> {
    fn more(&self) -> bool {
        !self.ended && !self.rest.is_empty()
    }

    fn position(&self) -> usize {
        self.length - self.rest.len()
    }

    /// The next value; `None` for what is no value, such as a stray end of object.
    fn value(&mut self, depth: usize) -> Result<Option<Amf0Value>, Error> {
        let at = self.position();
        let [marker] = self.take("value")?;
        let nested = matches!(
            marker,
            marker::OBJECT | marker::TYPED_OBJECT | marker::ECMA_ARRAY | marker::STRICT_ARRAY
        );
        if nested && depth >= MAX_AMF_DEPTH {
            return Err(Error::TooDeep(at));
        }
        Ok(Some(match marker {
            marker::NUMBER => Amf0Value::Number(self.number("number")?),
            marker::BOOLEAN => {
                let [byte] = self.take("boolean")?;
                Amf0Value::Boolean(byte != 0)
            }
            marker::STRING => Amf0Value::Utf8String(self.short_string()?),
            marker::LONG_STRING | marker::XML => Amf0Value::Utf8String(self.long_string()?),
            marker::OBJECT => self.properties(depth)?,
            marker::TYPED_OBJECT => {
                self.short_string()?;
                self.properties(depth)?
            }
            marker::ECMA_ARRAY => {
                // The count is often wrong; the end marker decides.
                let _: [u8; 4] = self.take("array")?;
                self.properties(depth)?
            }
            marker::STRICT_ARRAY => {
                let count = u32::from_be_bytes(self.take("array")?);
                let mut items = Vec::new();
                for _ in 0..count {
                    if !self.more() {
                        break;
                    }
                    items.extend(self.value(depth + 1)?);
                }
                Amf0Value::StrictArray(items)
            }
            marker::DATE => {
                let milliseconds = self.number("date")?;
                // The time zone, which the specification reserves.
                let _: [u8; 2] = self.take("date")?;
                Amf0Value::Number(milliseconds)
            }
            marker::NULL => Amf0Value::Null,
            marker::UNDEFINED | marker::UNSUPPORTED => Amf0Value::Undefined,
            marker::REFERENCE => {
                let _: [u8; 2] = self.take("reference")?;
                Amf0Value::Undefined
            }
            marker::OBJECT_END => return Ok(None),
            marker::SWITCH_TO_AMF3 | marker::MOVIE_CLIP | marker::RECORD_SET => {
                self.ended = true;
                Amf0Value::Undefined
            }
            marker => return Err(Error::UnknownMarker { marker, at }),
        }))
    }

    /// Properties up to the end marker, or to the end of the data: some encoders leave the marker out.
    fn properties(&mut self, depth: usize) -> Result<Amf0Value, Error> {
        let mut properties = HashMap::new();
        while self.more() {
            if self.rest == [marker::OBJECT_END] {
                self.rest = &[];
                break;
            }
            let key = self.short_string()?;
            if key.is_empty() && self.rest.first().is_none_or(|&m| m == marker::OBJECT_END) {
                self.rest = self.rest.get(1..).unwrap_or_default();
                break;
            }
            if !self.more() {
                // A key whose value was cut off tells nothing.
                break;
            }
            if let Some(value) = self.value(depth + 1)? {
                properties.insert(key, value);
            }
        }
        Ok(Amf0Value::Object(properties))
    }

    fn number(&mut self, what: &'static str) -> Result<f64, Error> {
        Ok(f64::from_be_bytes(self.take(what)?))
    }

    fn short_string(&mut self) -> Result<String, Error> {
        let length = u16::from_be_bytes(self.take("string")?);
        self.text(usize::from(length))
    }

    fn long_string(&mut self) -> Result<String, Error> {
        let length = u32::from_be_bytes(self.take("string")?);
        self.text(length as usize)
    }

    fn text(&mut self, length: usize) -> Result<String, Error> {
        let Some((text, rest)) = self.rest.split_at_checked(length) else {
            return Err(self.cut_short("string"));
        };
        self.rest = rest;
        // Not every encoder writes UTF-8; a replaced letter in metadata is no reason to lose a stream.
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    fn take<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Error> {
        let Some((bytes, rest)) = self.rest.split_first_chunk() else {
            return Err(self.cut_short(what));
        };
        self.rest = rest;
        Ok(*bytes)
    }

    fn cut_short(&self, what: &'static str) -> Error {
        Error::CutShort {
            what,
            at: self.position(),
        }
    }
}

fn type_name(value: &Amf0Value) -> &'static str {
    match value {
        Amf0Value::Number(_) => "a number",
        Amf0Value::Boolean(_) => "a boolean",
        Amf0Value::Utf8String(_) => "a string",
        Amf0Value::Object(_) => "an object",
        Amf0Value::StrictArray(_) => "an array",
        Amf0Value::Null => "null",
        Amf0Value::Undefined => "an undefined value",
    }
}

/// Type markers of AMF0 (specification section 2.1).
mod marker {
    pub(super) const NUMBER: u8 = 0x00;
    pub(super) const BOOLEAN: u8 = 0x01;
    pub(super) const STRING: u8 = 0x02;
    pub(super) const OBJECT: u8 = 0x03;
    pub(super) const MOVIE_CLIP: u8 = 0x04;
    pub(super) const NULL: u8 = 0x05;
    pub(super) const UNDEFINED: u8 = 0x06;
    pub(super) const REFERENCE: u8 = 0x07;
    pub(super) const ECMA_ARRAY: u8 = 0x08;
    pub(super) const OBJECT_END: u8 = 0x09;
    pub(super) const STRICT_ARRAY: u8 = 0x0a;
    pub(super) const DATE: u8 = 0x0b;
    pub(super) const LONG_STRING: u8 = 0x0c;
    pub(super) const UNSUPPORTED: u8 = 0x0d;
    pub(super) const RECORD_SET: u8 = 0x0e;
    pub(super) const XML: u8 = 0x0f;
    pub(super) const TYPED_OBJECT: u8 = 0x10;
    pub(super) const SWITCH_TO_AMF3: u8 = 0x11;
}

#[cfg(test)]
mod tests;
