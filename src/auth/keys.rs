//! Stream keys: who holds one may publish the stream it stands for. Keys are secrets, names are public.
//!
//! A key is looked up by comparing it with every one there is, in constant time and without stopping at the right one, so that the time
//! taken tells nothing about how near a guess was.

use super::mac;
use super::pattern::Pattern;
use crate::config::secret::Secret;

/// Why a list of keys cannot be used. Keys are never repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No `=`.
    #[error(
        "entry {0} has no name: write NAME=KEY, as in live/stream=…; `lhls key new live/stream` makes one"
    )]
    NoName(usize),
    /// The name is none.
    #[error("{0:?} is no stream: {1}")]
    Name(String, crate::stream::name::Error),
    /// Too easy to guess.
    #[error(
        "the key of {0} has fewer than {MIN_LENGTH} characters; `lhls key new {0}` makes a good one"
    )]
    Short(String),
    /// It could not be sent in every form.
    #[error(
        "the key of {0} has characters other than letters, digits and -_.~, or more than {MAX_LENGTH}: encoders could not send it"
    )]
    Characters(String),
    /// Which stream would it be?
    #[error("{0} and {1} have the same key; each needs its own")]
    Same(String, String),
}

/// All keys.
#[derive(Debug, Default)]
pub struct Keys(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    pattern: Pattern,
    key: Secret,
}

impl Keys {
    /// Reads entries of the form `NAME=KEY`. A name may have several keys.
    ///
    /// # Errors
    /// The first entry that is wrong.
    pub fn new(entries: &[Secret]) -> Result<Self, Error> {
        let mut keys: Vec<Entry> = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let (name, key) = entry
                .reveal()
                .split_once('=')
                .ok_or(Error::NoName(index + 1))?;
            let (name, key) = (name.trim(), key.trim());
            let pattern: Pattern = name
                .parse()
                .map_err(|error| Error::Name(name.to_owned(), error))?;
            if key.len() < MIN_LENGTH {
                return Err(Error::Short(name.to_owned()));
            }
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.~".contains(c);
            if key.len() > MAX_LENGTH || !key.chars().all(plain) {
                return Err(Error::Characters(name.to_owned()));
            }
            if let Some(same) = keys.iter().find(|other| other.key.reveal() == key) {
                return Err(Error::Same(same.pattern.to_string(), name.to_owned()));
            }
            let key = Secret::new(key);
            keys.push(Entry { pattern, key });
        }
        Ok(Self(keys))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a key is good for.
    pub fn find(&self, key: &str) -> Option<&Pattern> {
        // Digests have one length, so that of a key does not show either.
        let digest = |text: &str| mac::hmac_sha256(b"lhls stream key", &[text.as_bytes()]);
        let given = digest(key);
        self.find_by(|own| mac::equal(&digest(own), &given))
    }

    /// What the key is good for that passes a test, which must take the same time for all.
    pub fn find_by(&self, mut is_it: impl FnMut(&str) -> bool) -> Option<&Pattern> {
        let mut found = None;
        for entry in &self.0 {
            if is_it(entry.key.reveal()) {
                found = Some(&entry.pattern);
            }
        }
        found
    }
}

/// Characters of a key; fewer can be guessed even through the limit on failed tries.
const MIN_LENGTH: usize = 8;
/// Characters of a key: as long as a stream's name may be.
const MAX_LENGTH: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(entries: &[&str]) -> Result<Keys, Error> {
        let entries: Vec<Secret> = entries.iter().map(|&entry| Secret::new(entry)).collect();
        Keys::new(&entries)
    }

    #[test]
    fn keys_are_found() {
        let keys = keys(&["live/a=aaaaaaaa", "live/a=abababab", "shows/*=cccccccc"]).unwrap();
        let found = |key: &str| keys.find(key).map(ToString::to_string);
        assert_eq!(found("aaaaaaaa").as_deref(), Some("live/a"));
        assert_eq!(found("abababab").as_deref(), Some("live/a"));
        assert_eq!(found("cccccccc").as_deref(), Some("shows/*"));
        for wrong in ["", "aaaaaaa", "aaaaaaaaa", "live/a", "AAAAAAAA"] {
            assert_eq!(found(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_entry_is_said_without_the_key() {
        for (entries, said) in [
            (&["secretkey1"][..], "entry 1 has no name"),
            (&["live/a=hush"], "the key of live/a has fewer than 8"),
            (&["live/a=secretkey1/2"], "characters other than"),
            (
                &["live/a=secretkey1", "live/b=secretkey1"],
                "live/a and live/b have the same key",
            ),
            (&["a b=secretkey1"], "\"a b\" is no stream"),
        ] {
            let error = keys(entries).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
            assert!(
                !error.contains("secretkey1") && !error.contains("hush"),
                "{error}"
            );
        }
    }

    #[test]
    fn nothing_shows_a_key() {
        assert!(!format!("{:?}", keys(&["live/a=secretkey1"]).unwrap()).contains("secretkey1"));
    }
}
