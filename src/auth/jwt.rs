//! JSON Web Tokens (RFC 7519) of viewers, by the keys of a JSON Web Key Set (RFC 7517): HS256, RS256 and ES256.
//!
//! A token must expire (`exp`), and must name the streams it is for in a claim: one pattern or a list of them (`live/stream`, `live/*`).
//! The key alone says which algorithm is right, never the token. What has been verified is remembered until it expires, so that a viewer's
//! thousand requests cost one verification.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value;

use super::mac;
use super::pattern::Pattern;
use crate::live::Live;

/// Why a token is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not three parts, not JSON, and so on.
    #[error("this is neither a signature nor a JSON Web Token")]
    Form,
    /// By none of the keys, or with an algorithm that is not the key's.
    #[error("the token is not signed by a key that this server knows")]
    Signature,
    /// Past `exp`.
    #[error("the token has expired; get a new one")]
    Expired,
    /// Before `nbf`.
    #[error("the token is not valid yet")]
    Early,
    /// Issuer or audience.
    #[error("the token was issued by somebody else, or for somebody else")]
    Party,
    /// No `exp`, or no streams.
    #[error("the token lacks its time of expiry (exp) or the claim that names its streams")]
    Claims,
    /// Good, but not for this.
    #[error("the token is for other streams")]
    Stream,
}

/// How tokens are checked.
#[derive(Debug)]
pub struct Jwt {
    /// The keys; replaced when they are fetched anew.
    pub keys: Arc<Live<KeySet>>,
    /// Where they are fetched, if not from a file.
    pub url: Option<String>,
    /// The claim that names the streams.
    pub claim: String,
    /// What `aud` must be, if anything.
    pub audience: Option<String>,
    /// What `iss` must be, if anything.
    pub issuer: Option<String>,
}

/// Keys, and what has been verified with them.
#[derive(Default)]
pub struct KeySet {
    keys: Vec<Key>,
    verified: Mutex<HashMap<[u8; 32], Verified>>,
}

struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

struct Verified {
    streams: Vec<Pattern>,
    expires: u64,
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "KeySet of {}", self.keys.len())
    }
}

impl KeySet {
    /// Reads a JSON Web Key Set. Keys of other kinds are passed over.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let set: JwkSet = serde_json::from_slice(json)
            .map_err(|error| format!("it is no JSON Web Key Set: {error}"))?;
        let keys: Vec<Key> = set.keys.iter().filter_map(Key::new).collect();
        if keys.is_empty() {
            return Err("it has no key for HS256, RS256 or ES256".to_owned());
        }
        Ok(Self {
            keys,
            verified: Mutex::default(),
        })
    }
}

impl Key {
    fn new(jwk: &Jwk) -> Option<Self> {
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::OctetKey(_) => Algorithm::HS256,
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => {
                Algorithm::ES256
            }
            _ => return None,
        };
        Some(Self {
            id: jwk.common.key_id.clone(),
            algorithm,
            key: DecodingKey::from_jwk(jwk).ok()?,
        })
    }
}

impl Jwt {
    /// Whether a token is good for a stream, at a time in seconds since 1970.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, token: &str, stream: &str, now: u64) -> Result<(), Error> {
        let set = self.keys.get();
        let digest = mac::hmac_sha256(b"", &[token.as_bytes()]);
        let lock = || set.verified.lock().unwrap_or_else(PoisonError::into_inner);
        let good_for = |streams: &[Pattern]| match streams.iter().any(|own| own.matches(stream)) {
            true => Ok(()),
            false => Err(Error::Stream),
        };
        if let Some(known) = lock().get(&digest) {
            return match known.expires > now {
                true => good_for(&known.streams),
                false => Err(Error::Expired),
            };
        }
        let verified = self.verify(&set, token)?;
        if verified.expires <= now {
            return Err(Error::Expired);
        }
        let result = good_for(&verified.streams);
        let mut table = lock();
        if table.len() >= MAX_VERIFIED {
            table.retain(|_, known| known.expires > now);
        }
        if table.len() >= MAX_VERIFIED {
            table.clear();
        }
        table.insert(digest, verified);
        result
    }

    fn verify(&self, set: &KeySet, token: &str) -> Result<Verified, Error> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| Error::Form)?;
        let mut keys = set.keys.iter().filter(|key| {
            key.algorithm == header.alg
                && (header.kid.is_none() || key.id.is_none() || key.id == header.kid)
        });
        let claims = keys.find_map(|key| {
            match jsonwebtoken::decode::<Value>(token, &key.key, &self.validation(key.algorithm)) {
                Err(error) if *error.kind() == ErrorKind::InvalidSignature => None,
                Err(error) => Some(Err(reason(error.kind()))),
                Ok(data) => Some(Ok(data.claims)),
            }
        });
        let claims = claims.ok_or(Error::Signature)??;
        let expires = claims.get("exp").and_then(Value::as_f64);
        let streams = match claims.get(&self.claim) {
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => return Err(Error::Claims),
        };
        Ok(Verified {
            streams: streams
                .iter()
                .filter_map(|text| text.parse().ok())
                .collect(),
            expires: expires.ok_or(Error::Claims)? as u64,
        })
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        // The end is the end; small differences of clocks are for whoever makes the token.
        validation.leeway = 0;
        validation.validate_nbf = true;
        validation.validate_aud = self.audience.is_some();
        let mut required = vec!["exp"];
        if let Some(audience) = &self.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        validation
    }
}

fn reason(kind: &ErrorKind) -> Error {
    match kind {
        ErrorKind::ExpiredSignature => Error::Expired,
        ErrorKind::ImmatureSignature => Error::Early,
        ErrorKind::InvalidIssuer | ErrorKind::InvalidAudience => Error::Party,
        ErrorKind::MissingRequiredClaim(claim) if claim == "exp" => Error::Claims,
        ErrorKind::MissingRequiredClaim(_) => Error::Party,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidSignature => Error::Signature,
        _ => Error::Form,
    }
}

/// Tokens that are remembered, some 150 bytes each.
const MAX_VERIFIED: usize = 10_000;

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    use super::super::unix_seconds;
    use super::*;

    /// "a secret of the right length 123" in base64url.
    const SECRET: &[u8] = b"a secret of the right length 123";

    fn jwt() -> Jwt {
        let set = json!({"keys": [
            {"kty": "oct", "kid": "one", "k": mac::base64url(SECRET)},
            {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
        ]});
        let set = KeySet::parse(set.to_string().as_bytes()).unwrap();
        Jwt {
            keys: Arc::new(Live::new(set)),
            url: None,
            claim: "streams".to_owned(),
            audience: None,
            issuer: None,
        }
    }

    fn token(claims: &Value) -> String {
        encode(
            &Header::default(),
            claims,
            &EncodingKey::from_secret(SECRET),
        )
        .unwrap()
    }

    #[test]
    fn what_a_token_is_good_for() {
        let (jwt, now) = (jwt(), unix_seconds());
        let check = |claims: Value, stream| jwt.check(&token(&claims), stream, now);
        let one = json!({"exp": now + 60, "streams": "live/a"});
        let many = json!({"exp": now + 60, "streams": ["live/b", "shows/*"]});
        assert_eq!(check(one.clone(), "live/a"), Ok(()));
        assert_eq!(check(one, "live/b"), Err(Error::Stream));
        assert_eq!(check(many.clone(), "shows/x"), Ok(()));
        assert_eq!(check(many, "live/a"), Err(Error::Stream));
        for (claims, error) in [
            (json!({"streams": "live/a"}), Error::Claims),
            (json!({"exp": now + 60}), Error::Claims),
            (json!({"exp": now + 60, "streams": 5}), Error::Claims),
            (json!({"exp": now - 1, "streams": "live/a"}), Error::Expired),
            (
                json!({"exp": now + 60, "nbf": now + 30, "streams": "live/a"}),
                Error::Early,
            ),
        ] {
            assert_eq!(check(claims.clone(), "live/a"), Err(error), "{claims}");
        }
    }

    #[test]
    fn it_is_remembered_until_it_expires() {
        let (jwt, now) = (jwt(), unix_seconds());
        let token = token(&json!({"exp": now + 60, "streams": "live/a"}));
        for later in [0, 0, 59] {
            assert_eq!(jwt.check(&token, "live/a", now + later), Ok(()));
        }
        assert_eq!(jwt.check(&token, "live/a", now + 60), Err(Error::Expired));
        assert_eq!(jwt.check(&token, "live/b", now), Err(Error::Stream));
        assert_eq!(jwt.keys.get().verified.lock().unwrap().len(), 1);
    }

    #[test]
    fn issuer_and_audience() {
        let jwt = Jwt {
            audience: Some("us".to_owned()),
            issuer: Some("them".to_owned()),
            ..jwt()
        };
        let now = unix_seconds();
        for (claims, good) in [
            (
                json!({"exp": now + 60, "streams": "*", "aud": "us", "iss": "them"}),
                true,
            ),
            (
                json!({"exp": now + 60, "streams": "*", "aud": "you", "iss": "them"}),
                false,
            ),
            (
                json!({"exp": now + 60, "streams": "*", "aud": "us", "iss": "me"}),
                false,
            ),
            (
                json!({"exp": now + 60, "streams": "*", "iss": "them"}),
                false,
            ),
            (json!({"exp": now + 60, "streams": "*", "aud": "us"}), false),
        ] {
            let result = jwt.check(&token(&claims), "live/a", now);
            assert_eq!(result.is_ok(), good, "{claims}");
            assert!(good || result == Err(Error::Party));
        }
    }

    #[test]
    fn the_key_says_which_algorithm_is_right() {
        let (jwt, now) = (jwt(), unix_seconds());
        let claims = mac::base64url(
            json!({"exp": now + 60, "streams": "*"})
                .to_string()
                .as_bytes(),
        );
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"RS256"}"#,
            r#"{"alg":"HS384"}"#,
            r#"{"alg":"HS256","kid":"another"}"#,
        ] {
            let text = format!("{}.{claims}.", mac::base64url(header.as_bytes()));
            assert!(jwt.check(&text, "live/a", now).is_err(), "{header}");
        }
        for text in ["", "..", "a.b.c", "\u{e9}.\u{e9}.\u{e9}"] {
            assert_eq!(jwt.check(text, "live/a", now), Err(Error::Form), "{text}");
        }
        // With the right algorithm and another secret.
        let key = EncodingKey::from_secret(b"another secret of the right size");
        let claims = json!({"exp": now + 60, "streams": "*"});
        let forged = encode(&Header::default(), &claims, &key).unwrap();
        assert_eq!(jwt.check(&forged, "live/a", now), Err(Error::Signature));
    }

    #[test]
    fn changed_in_any_byte_it_is_not_valid() {
        let (jwt, now) = (jwt(), unix_seconds());
        let token = token(&json!({"exp": now + 60, "streams": "live/a"}));
        for position in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[position] ^= 1;
            let changed = String::from_utf8(bytes).unwrap();
            assert!(jwt.check(&changed, "live/a", now).is_err(), "{changed}");
        }
    }

    /// Made with OpenSSL.
    #[test]
    fn public_keys() {
        let jwt = Jwt {
            keys: Arc::new(Live::new(
                KeySet::parse(include_bytes!("testdata/keys.json")).unwrap(),
            )),
            ..jwt()
        };
        let now = unix_seconds();
        for token in [
            include_str!("testdata/rs256.jwt"),
            include_str!("testdata/es256.jwt"),
        ] {
            assert_eq!(jwt.check(token, "live/a", now), Ok(()));
            assert_eq!(jwt.check(token, "other/a", now), Err(Error::Stream));
            // The last character holds bits that count for nothing, so the one before it.
            let at = token.len() - 2;
            let other = if token.as_bytes()[at] == b'A' {
                "B"
            } else {
                "A"
            };
            let changed = format!("{}{other}{}", &token[..at], &token[at + 1..]);
            assert_eq!(jwt.check(&changed, "live/a", now), Err(Error::Signature));
        }
    }

    #[test]
    fn what_is_no_key_set() {
        for (text, said) in [
            ("", "no JSON Web Key Set"),
            ("{}", "no JSON Web Key Set"),
            ("{\"keys\":[]}", "no key for HS256"),
        ] {
            assert!(KeySet::parse(text.as_bytes()).unwrap_err().contains(said));
        }
    }
}
