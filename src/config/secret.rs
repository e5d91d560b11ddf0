//! Text that is never shown: stream keys, signing secrets, tokens.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// A secret. Neither `Debug` nor anything else here shows it, and there is no `Display`; who compares it does so in constant time.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Keeps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether this is it. How long the comparison takes tells nothing of where they differ.
    pub fn is(&self, given: &[u8]) -> bool {
        let secret = self.0.as_bytes();
        let differences = secret
            .iter()
            .zip(given)
            .fold(0, |sum, (a, b)| std::hint::black_box(sum | (a ^ b)));
        differences == 0 && secret.len() == given.len()
    }

    /// The secret itself, for who must send or hash it. Never to be logged.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Whatever is typed can be one, so no error ever repeats it.
impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::new(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_not_shown() {
        assert_eq!(format!("{:?}", Secret::new("hush")), "Secret(…)");
    }

    #[test]
    fn only_the_whole_secret_is_it() {
        let secret = Secret::new("hush");
        assert!(secret.is(b"hush"));
        for other in ["", "h", "hus", "hush!", "husk", "Hush"] {
            assert!(!secret.is(other.as_bytes()), "{other}");
        }
    }
}
