//! Which streams something is good for: one (`live/stream`), all below an application (`live/*`), or all (`*`).

use std::fmt;
use std::str::FromStr;

use crate::stream::name::{self, StreamName};

/// A stream's name, or all names that begin like this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// This stream.
    One(StreamName),
    /// All whose names begin with this path and a slash; with nothing, all.
    Below(String),
}

impl Pattern {
    /// Whether a stream is among them.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::One(own) => own.as_str() == name,
            Self::Below(path) if path.is_empty() => true,
            Self::Below(path) => name
                .strip_prefix(path.as_str())
                .is_some_and(|rest| rest.starts_with('/')),
        }
    }

    /// The stream, if it is one.
    pub fn one(&self) -> Option<&StreamName> {
        match self {
            Self::One(name) => Some(name),
            Self::Below(_) => None,
        }
    }
}

impl FromStr for Pattern {
    type Err = name::Error;

    fn from_str(text: &str) -> Result<Self, name::Error> {
        let text = text.trim_matches('/');
        match text.strip_suffix('*') {
            Some("") => Ok(Self::Below(String::new())),
            Some(path) if path.ends_with('/') => {
                let path = StreamName::new(path, "")?;
                Ok(Self::Below(path.as_str().to_owned()))
            }
            _ => StreamName::new(text, "").map(Self::One),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(name) => name.fmt(formatter),
            Self::Below(path) if path.is_empty() => formatter.write_str("*"),
            Self::Below(path) => write!(formatter, "{path}/*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, yes, no) in [
            (
                "live/a",
                &["live/a"][..],
                &["live/b", "live/a/b", "live", "a"][..],
            ),
            (
                "live/*",
                &["live/a", "live/a/b"],
                &["live", "livex/a", "a/live/b"],
            ),
            ("*", &["live", "live/a"], &[]),
        ] {
            let parsed: Pattern = pattern.parse().unwrap();
            assert_eq!(parsed.to_string(), pattern);
            for name in yes {
                assert!(parsed.matches(name), "{pattern} {name}");
            }
            for name in no {
                assert!(!parsed.matches(name), "{pattern} {name}");
            }
        }
        for bad in ["", "live/a*", "**", "live/*/b", "live/../a", "a b"] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
    }
}
