//! What a viewer shows to get a stream: a signed address ([`super::sign`]) or a JSON Web Token ([`super::jwt`]), in the path or, for
//! players that can, in the `Authorization` header.

#[cfg(feature = "jwt")]
use super::jwt::{self, Jwt};
use super::sign;
use crate::config::secret::Secret;

/// What a viewer must show. By default nothing.
#[derive(Debug, Default)]
pub struct Tokens {
    /// Secrets of signed addresses; the first signs, all are valid.
    pub secrets: Vec<Secret>,
    /// JSON Web Tokens.
    #[cfg(feature = "jwt")]
    pub jwt: Option<Jwt>,
}

/// What a request shows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shown<'a> {
    /// Between `/@` and the next slash.
    pub in_path: Option<&'a str>,
    /// In `Authorization: Bearer`.
    pub in_header: Option<&'a str>,
}

/// How a request that may have its stream is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Caches may keep the answer for whoever has the same address: nothing but the address decided.
    ByAddress,
    /// Something else decided, so that no shared cache may keep the answer.
    ByOther,
}

/// Why a viewer does not get a stream; the text is for whoever looks at the player's network log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Nothing was shown.
    #[error(
        "this stream needs a signed address, /@TOKEN/NAME/playlist.m3u8, or a token in the Authorization header"
    )]
    Missing,
    /// A signed address that is not valid.
    #[error(transparent)]
    Signature(#[from] sign::Error),
    /// A JSON Web Token that is not valid.
    #[cfg(feature = "jwt")]
    #[error(transparent)]
    Jwt(#[from] jwt::Error),
    /// The operator's own service says no.
    #[error("playback has been denied")]
    Hook,
    /// The operator's own service does not answer.
    #[error("whether this may be played cannot be found out at the moment")]
    HookDown,
}

impl Tokens {
    /// Whether anything must be shown.
    pub fn are_needed(&self) -> bool {
        #[cfg(feature = "jwt")]
        if self.jwt.is_some() {
            return true;
        }
        !self.secrets.is_empty()
    }

    /// Whether what is shown is good for a stream, at a time in seconds since 1970.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, stream: &str, shown: Shown<'_>, now: u64) -> Result<Seen, Denied> {
        if !self.are_needed() {
            return Ok(Seen::ByAddress);
        }
        let (token, seen) = match (shown.in_path, shown.in_header) {
            (Some(token), _) => (token, Seen::ByAddress),
            (None, Some(token)) => (token, Seen::ByOther),
            (None, None) => return Err(Denied::Missing),
        };
        match sign::verify(&self.secrets, token, stream, now) {
            Ok(_) => Ok(seen),
            #[cfg(feature = "jwt")]
            Err(sign::Error::Form) if self.jwt.is_some() => {
                let jwt = self.jwt.as_ref().ok_or(Denied::Missing)?;
                jwt.check(token, stream, now)?;
                Ok(seen)
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_needed_unless_something_is_configured() {
        let tokens = Tokens::default();
        assert_eq!(
            tokens.check("live/a", Shown::default(), 0),
            Ok(Seen::ByAddress)
        );
    }

    #[test]
    fn by_path_or_header() {
        let secret = Secret::new("secret");
        let token = sign::sign(&secret, "live/a", 100);
        let tokens = Tokens {
            secrets: vec![secret],
            #[cfg(feature = "jwt")]
            jwt: None,
        };
        let path = Shown {
            in_path: Some(&token),
            in_header: None,
        };
        let header = Shown {
            in_path: None,
            in_header: Some(&token),
        };
        assert_eq!(tokens.check("live/a", path, 99), Ok(Seen::ByAddress));
        assert_eq!(tokens.check("live/a", header, 99), Ok(Seen::ByOther));
        assert_eq!(
            tokens.check("live/a", Shown::default(), 99),
            Err(Denied::Missing)
        );
        let expired = Denied::Signature(sign::Error::Expired);
        assert_eq!(tokens.check("live/a", path, 100), Err(expired));
        let other = Denied::Signature(sign::Error::Mismatch);
        assert_eq!(tokens.check("live/b", path, 99), Err(other));
    }
}
