//! Signed addresses: `/@EXPIRES.SIGNATURE/NAME/playlist.m3u8`.
//!
//! The signature stands in front of the path and not in a query, because references in playlists are relative: they keep the path's
//! beginning and lose the query. So the playlists need not be written for each viewer, and the signature reaches every playlist, segment
//! and part without a cookie. It says which stream and until when, and nothing about who: everybody who gets the same stream with the
//! same end gets the same address, byte for byte, and a cache keeps one copy for all of them.
//!
//! EXPIRES is in seconds since 1970, SIGNATURE the HMAC-SHA256 of `lhls-play\nNAME\nEXPIRES` in base64url without padding. The texts are
//! compared, not the bytes they stand for, so that no second spelling is valid.

use super::mac;
use crate::config::secret::Secret;

/// Why an address is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not of this form; it may be some other kind of token.
    #[error("this is no signature")]
    Form,
    /// Changed on the way, made for another stream, or with another secret.
    #[error(
        "the signature in the address does not match: the address has been changed, or was signed for another stream or with another secret"
    )]
    Mismatch,
    /// Once it was valid.
    #[error("the signed address has expired; get a new one")]
    Expired,
}

/// What goes between `/@` and the next slash, valid until `expires` (seconds since 1970).
pub fn sign(secret: &Secret, name: &str, expires: u64) -> String {
    format!(
        "{expires}.{}",
        signature(secret, name, &expires.to_string())
    )
}

/// Checks what stands between `/@` and the next slash, for a stream, at a time in seconds since 1970. Returns when it expires.
///
/// # Errors
/// Why it is not valid.
pub fn verify(secrets: &[Secret], token: &str, name: &str, now: u64) -> Result<u64, Error> {
    let (expires, given) = token.split_once('.').ok_or(Error::Form)?;
    if expires.is_empty()
        || !expires.bytes().all(|byte| byte.is_ascii_digit())
        || given.contains('.')
    {
        return Err(Error::Form);
    }
    let mut good = false;
    for secret in secrets {
        good |= mac::equal(
            signature(secret, name, expires).as_bytes(),
            given.as_bytes(),
        );
    }
    if !good {
        return Err(Error::Mismatch);
    }
    match expires.parse() {
        Ok(expires) if expires > now => Ok(expires),
        _ => Err(Error::Expired),
    }
}

fn signature(secret: &Secret, name: &str, expires: &str) -> String {
    let parts: [&[u8]; 4] = [b"lhls-play\n", name.as_bytes(), b"\n", expires.as_bytes()];
    mac::base64url(&mac::hmac_sha256(secret.reveal().as_bytes(), &parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_until_it_expires() {
        let secrets = [Secret::new("new secret"), Secret::new("old secret")];
        for secret in &secrets {
            let token = sign(secret, "live/a", 1000);
            assert_eq!(verify(&secrets, &token, "live/a", 999), Ok(1000));
            assert_eq!(
                verify(&secrets, &token, "live/a", 1000),
                Err(Error::Expired)
            );
            assert_eq!(
                verify(&secrets, &token, "live/b", 999),
                Err(Error::Mismatch)
            );
        }
        let other = sign(&Secret::new("another"), "live/a", 1000);
        assert_eq!(
            verify(&secrets, &other, "live/a", 999),
            Err(Error::Mismatch)
        );
        assert_eq!(verify(&[], &other, "live/a", 999), Err(Error::Mismatch));
    }

    #[test]
    fn changed_in_any_bit_it_is_not_valid() {
        let secrets = [Secret::new("secret")];
        let token = sign(&secrets[0], "live/a", 4_000_000_000);
        for position in 0..token.len() {
            for bit in 0..8 {
                let mut bytes = token.clone().into_bytes();
                bytes[position] ^= 1 << bit;
                let Ok(changed) = String::from_utf8(bytes) else {
                    continue;
                };
                assert!(
                    verify(&secrets, &changed, "live/a", 0).is_err(),
                    "{changed}"
                );
            }
            let mut shorter = token.clone();
            shorter.truncate(position);
            assert!(
                verify(&secrets, &shorter, "live/a", 0).is_err(),
                "{shorter}"
            );
        }
        for text in [
            format!("{token}="),
            format!("0{token}"),
            format!("{token}A"),
        ] {
            assert!(verify(&secrets, &text, "live/a", 0).is_err(), "{text}");
        }
    }

    /// Whoever signs elsewhere can check himself against this one.
    #[test]
    fn a_known_one() {
        let token = sign(&Secret::new("secret"), "live/stream", 1_800_000_000);
        assert_eq!(
            token,
            "1800000000.PX45BsP_IcXoQUjYr8Ab6PXCJsCghDJVfvh9eWUUrLY"
        );
    }
}
