//! User and password as encoders send them in RTMP: Adobe's `authmod=adobe`, as ffmpeg (`rtmp://user:password@…`) speaks it.
//!
//! There is no specification; this is what ffmpeg does. librtmp means to do the same, but GStreamer's `rtmpsink`, which is made with it, has
//! been seen to end in a memory error of its own at the challenge. The encoder connects three times, each time to be refused with a
//! description that says how to go on:
//!
//! ```text
//!  connect app                                       ─►  need auth
//!  connect app?authmod=adobe&user=U                  ─►  salt, challenge, opaque
//!  connect app?authmod=adobe&user=U&challenge=C&response=R&opaque=O
//!  R = base64(md5(base64(md5(U + salt + password)) + opaque + C))
//! ```
//!
//! Nothing is remembered between the connections: what is sent as `opaque` is a MAC over the time and the peer's address,
//! and the salt follows from it.
//!
//! An encoder without a password gives up at the first refusal, and an encoder with one does not say so before it. So the challenge is
//! for applications that are set aside for it.

use std::net::IpAddr;

use super::md5::md5;
use crate::auth::mac;

/// Makes challenges and checks answers.
#[derive(Debug)]
pub struct Login {
    secret: [u8; 32],
}

/// How far an encoder has got, by the query of its application.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// It does not know yet that it must log in.
    Unaware,
    /// It has told its user, and wants the challenge.
    User(&'a str),
    /// It answers.
    Answer(Answer<'a>),
}

/// An answer to a challenge.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    user: &'a str,
    challenge: &'a str,
    response: &'a str,
    opaque: &'a str,
}

impl<'a> Step<'a> {
    /// Reads the query of a `connect`.
    pub fn of(query: Option<&'a str>) -> Self {
        let value = |name: &str| {
            let mut pairs = query
                .unwrap_or_default()
                .split('&')
                .filter_map(|pair| pair.split_once('='));
            pairs.find_map(|(key, value)| (key == name).then_some(value))
        };
        let user = value("user").filter(|_| value("authmod") == Some("adobe"));
        match (user, value("response")) {
            (None, _) => Self::Unaware,
            (Some(user), None) => Self::User(user),
            (Some(user), Some(response)) => Self::Answer(Answer {
                user,
                challenge: value("challenge").unwrap_or_default(),
                response,
                opaque: value("opaque").unwrap_or_default(),
            }),
        }
    }
}

impl Login {
    /// With a secret that is known to this process only.
    pub fn new(secret: [u8; 32]) -> Self {
        Self { secret }
    }

    /// The challenge for a user, at a time in seconds since 1970, as the description of the refusal.
    pub fn challenge(&self, user: &str, peer: IpAddr, now: u64) -> String {
        let opaque = self.opaque(peer, now / SLOT);
        let salt = self.salt(&opaque);
        // What is not plain would break the query it is put into; the user has no say in the result anyway.
        let user: String = user
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || "-_.~@%".contains(*c))
            .take(MAX_USER)
            .collect();
        format!(
            "[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason=needauth&user={user}&salt={salt}&challenge={opaque}&opaque={opaque}"
        )
    }

    /// Whether an answer is to a challenge that this peer got lately.
    pub fn is_ours(&self, answer: &Answer<'_>, peer: IpAddr, now: u64) -> bool {
        let slot = now / SLOT;
        let mut ours = false;
        for age in 0..=VALID / SLOT {
            let expected = self.opaque(peer, slot.saturating_sub(age));
            ours |= mac::equal(expected.as_bytes(), answer.opaque.as_bytes());
        }
        ours
    }

    /// Whether an answer proves that the encoder has this password.
    pub fn proves(&self, answer: &Answer<'_>, password: &str) -> bool {
        let salt = self.salt(answer.opaque);
        let [user, salt, password] = [answer.user, &salt, password].map(str::as_bytes);
        let first = mac::base64(&md5(&[user, salt, password]));
        let [opaque, challenge] = [answer.opaque, answer.challenge].map(str::as_bytes);
        let expected = mac::base64(&md5(&[first.as_bytes(), opaque, challenge]));
        mac::equal(expected.as_bytes(), answer.response.as_bytes())
    }

    /// Eight characters, as Adobe's server has it.
    fn opaque(&self, peer: IpAddr, slot: u64) -> String {
        let peer = peer.to_canonical().to_string();
        let mac = mac::hmac_sha256(
            &self.secret,
            &[b"opaque", peer.as_bytes(), b" ", &slot.to_be_bytes()],
        );
        mac::base64url(mac.get(..6).unwrap_or_default())
    }

    fn salt(&self, opaque: &str) -> String {
        let mac = mac::hmac_sha256(&self.secret, &[b"salt", opaque.as_bytes()]);
        mac::base64url(mac.get(..6).unwrap_or_default())
    }
}

/// The first refusal.
pub const NEED_AUTH: &str = "[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ] : ";
/// The refusal of a wrong password.
pub const AUTH_FAILED: &str =
    "[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason=authfailed&opaque=-";
/// Seconds from the challenge to the answer; encoders take one round trip.
const VALID: u64 = 60;
/// Seconds that a challenge is the same.
const SLOT: u64 = 4;
/// Characters of a user's name that are given back.
const MAX_USER: usize = 100;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    /// What an encoder makes of a challenge.
    fn answer(description: &str, user: &str, password: &str) -> String {
        let value = |name: &str| {
            let query = description.split_once('?').unwrap().1;
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).unwrap().1.to_owned()
        };
        let (salt, opaque) = (value("salt"), value("opaque"));
        let first = mac::base64(&md5(&[
            user.as_bytes(),
            salt.as_bytes(),
            password.as_bytes(),
        ]));
        let response = mac::base64(&md5(&[first.as_bytes(), opaque.as_bytes(), b"0badcafe"]));
        format!("authmod=adobe&user={user}&challenge=0badcafe&response={response}&opaque={opaque}")
    }

    #[test]
    fn three_steps() {
        let login = Login::new([7; 32]);
        assert_eq!(Step::of(None), Step::Unaware);
        assert_eq!(Step::of(Some("x=1")), Step::Unaware);
        assert_eq!(Step::of(Some("authmod=adobe&user=me")), Step::User("me"));
        let query = answer(&login.challenge("me", PEER, 1000), "me", "right");
        let Step::Answer(answer) = Step::of(Some(&query)) else {
            panic!("no answer");
        };
        assert!(login.is_ours(&answer, PEER, 1000 + VALID));
        assert!(login.proves(&answer, "right"));
        assert!(!login.proves(&answer, "wrong"));
        // Too late, by another peer, by another server.
        assert!(!login.is_ours(&answer, PEER, 1000 + VALID + SLOT));
        assert!(!login.is_ours(&answer, IpAddr::V4(Ipv4Addr::LOCALHOST), 1000));
        assert!(!Login::new([8; 32]).is_ours(&answer, PEER, 1000));
    }

    #[test]
    fn nonsense_is_no_answer() {
        let login = Login::new([7; 32]);
        for query in [
            "authmod=adobe&user=me&response=x",
            "authmod=adobe&user=me&response=x&opaque=-",
            "authmod=adobe&user=me&response=x&opaque=1000-zz",
        ] {
            let Step::Answer(answer) = Step::of(Some(query)) else {
                panic!("no answer");
            };
            assert!(!login.is_ours(&answer, PEER, 1000), "{query}");
        }
        let said = login.challenge("a&salt=b", PEER, 1);
        assert_eq!(said.matches("salt=").count(), 1, "{said}");
    }
}
