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

    /// A new one: 128 bits from the system's random numbers, 26 letters and digits that can be told apart and need no escaping.
    ///
    /// # Errors
    /// If the system has no random numbers to give.
    pub fn random() -> std::io::Result<Self> {
        let mut bytes = [0; 16];
        getrandom::getrandom(&mut bytes).map_err(std::io::Error::from)?;
        let mut value = u128::from_be_bytes(bytes);
        let mut text = String::new();
        for _ in 0..26 {
            let digit = DIGITS[(value % 32) as usize];
            text.push(char::from(digit));
            value /= 32;
        }
        Ok(Self(text))
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

/// Base 32 without the letters that look like digits (Crockford's), in lower case.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

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

    #[test]
    fn new_ones_differ() {
        let (a, b) = (Secret::random().unwrap(), Secret::random().unwrap());
        assert_ne!(a.reveal(), b.reveal());
        assert_eq!(a.reveal().len(), 26);
    }
}
