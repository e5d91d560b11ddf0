//! Stream names: what a publisher's URL says, checked once, safe to be a path from then on.

use std::fmt;
use std::sync::Arc;

/// Why a name is refused. The texts are shown to the person at the encoder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Neither an application nor a name.
    #[error("the stream has no name; publish to rtmp://HOST/APP/NAME")]
    Empty,
    /// Longer than [`MAX_LENGTH`], or more than [`MAX_COMPONENTS`] components.
    #[error(
        "the stream name is too long: {MAX_LENGTH} characters in {MAX_COMPONENTS} parts are allowed"
    )]
    TooLong,
    /// A character that has a meaning in a URL, or is not printable ASCII.
    #[error("the stream name has the character {0:?}; use letters, digits, '-', '_', '.' and '~'")]
    Character(char),
    /// `.` or `..`, or a part that begins with a dot.
    #[error("a part of the stream name begins with a dot")]
    Dot,
}

/// The name of a stream, `APP/NAME`: one or more components of unreserved URL characters (RFC 3986, 2.3), joined by slashes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamName(Arc<str>);

impl StreamName {
    /// Checks the application and name of a publisher. Either may itself have several components, or be empty, but not both.
    pub fn new(app: &str, name: &str) -> Result<Self, Error> {
        let components: Vec<&str> = app
            .split('/')
            .chain(name.split('/'))
            .filter(|part| !part.is_empty())
            .collect();
        let joined = components.join("/");
        if joined.is_empty() {
            return Err(Error::Empty);
        }
        if joined.len() > MAX_LENGTH || components.len() > MAX_COMPONENTS {
            return Err(Error::TooLong);
        }
        if let Some(character) = joined
            .chars()
            .find(|&c| !(c.is_ascii_alphanumeric() || "-_.~/".contains(c)))
        {
            return Err(Error::Character(character));
        }
        if components.iter().any(|part| part.starts_with('.')) {
            return Err(Error::Dot);
        }
        Ok(Self(joined.into()))
    }

    /// The name as a path without leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for StreamName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Bytes in a name: fits a URL, a log line and a metric label.
pub const MAX_LENGTH: usize = 200;
/// Components in a name: application, instance, and some structure in the name.
pub const MAX_COMPONENTS: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_and_name_are_joined() {
        for (app, name, joined) in [
            ("live", "stream", "live/stream"),
            ("live/", "/stream", "live/stream"),
            ("live/inst", "a-b_c.d~e", "live/inst/a-b_c.d~e"),
            ("live", "", "live"),
        ] {
            assert_eq!(StreamName::new(app, name).unwrap().as_str(), joined);
        }
    }

    #[test]
    fn what_is_not_a_path_is_refused() {
        assert_eq!(StreamName::new("", "/"), Err(Error::Empty));
        assert_eq!(StreamName::new("live", ".."), Err(Error::Dot));
        assert_eq!(StreamName::new("live", ".hidden"), Err(Error::Dot));
        assert_eq!(StreamName::new("live", "a%00"), Err(Error::Character('%')));
        assert_eq!(StreamName::new("live", "a b"), Err(Error::Character(' ')));
        assert_eq!(
            StreamName::new("live", "straße"),
            Err(Error::Character('ß'))
        );
        assert_eq!(
            StreamName::new("live", &"x".repeat(500)),
            Err(Error::TooLong)
        );
        assert_eq!(StreamName::new("a/b/c/d", "e/f/g"), Err(Error::TooLong));
    }
}
