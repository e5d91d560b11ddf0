//! Who may publish and who may play.
//!
//! The RTMP side asks [`Access::publisher`] for the stream that a publisher may feed; the HTTP side asks [`Access::viewer`] whether a
//! request may have a stream. Both are told why not in words for the person at the other end. The rules are replaced as a whole when the
//! configuration is read again.
//!
//! Not here: sockets and waiting. That a wrong key is answered late is [`Denied::delay`], which the caller keeps; what the operator's own
//! service says is asked for by [`crate::hooks`].

#[cfg(feature = "jwt")]
pub mod jwt;
pub mod keys;
pub mod mac;
pub mod pattern;
pub mod sign;
pub mod throttle;
pub mod token;

use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::live::Live;
use crate::rtmp::login::{self, Login, Step};
use crate::rtmp::session::{ConnectRequest, PublishRequest};
use crate::stream::name::{self, StreamName};
use keys::Keys;
use pattern::Pattern;
use throttle::Throttle;
use token::Tokens;

/// What the configuration says about access.
#[derive(Debug, Default)]
pub struct Rules {
    /// The stream keys.
    pub keys: Keys,
    /// Anybody may publish, under any name.
    pub open: bool,
    /// Applications whose publishers are asked for user and password.
    pub login_apps: Vec<String>,
    /// What a viewer must show.
    pub tokens: Tokens,
}

/// The rules, and what they must remember.
#[derive(Debug)]
pub struct Access {
    rules: Live<Rules>,
    throttle: Throttle,
    login: Login,
}

/// What a publisher may feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    /// The stream.
    pub name: StreamName,
    /// Whether it has shown a key; else a hook may have to decide.
    pub by_key: bool,
}

/// What is answered to a `connect`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connecting {
    /// Go on; with what has been proved, if anything.
    Accept(Option<Pattern>),
    /// Refuse with this description: the encoder will connect again and say more.
    AskMore(String),
    /// Refuse with this description: the password is wrong.
    Refuse(String, Denied),
}

/// Why a publisher is turned away; the text is for the person at the encoder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No key is configured.
    #[error(
        "this server takes streams from its own machine only, as long as it has no stream keys (keys) and is not open to all (--publish-open)"
    )]
    NotLocal,
    /// No key, or a wrong one.
    #[error(
        "no valid stream key was given; check the stream key in the encoder, or append ?key=KEY to the stream's name"
    )]
    Key,
    /// A right key, for something else.
    #[error("this stream key is for {0}, not for the stream that was named")]
    OtherStream(Pattern),
    /// A right key, for several.
    #[error("this stream key is for {0}: name the stream, and append ?key=KEY to its name")]
    WhichStream(Pattern),
    /// The operator's own service says no.
    #[error("{}", .0.as_deref().unwrap_or("publishing this has been denied"))]
    Hook(Option<String>),
    /// The operator's own service does not answer.
    #[error("whether this may be published cannot be found out at the moment; try again")]
    HookDown,
    /// Too many wrong keys.
    #[error("too many wrong stream keys from your address; try again in {} s", .0.as_secs() + 1)]
    TooMany(Duration),
    /// The name is none.
    #[error(transparent)]
    Name(#[from] name::Error),
}

impl Denied {
    /// How long to wait with the answer, so that guessing is slow.
    pub fn delay(&self) -> Duration {
        match self {
            Self::Key | Self::Hook(_) => WRONG_KEY_DELAY,
            _ => Duration::ZERO,
        }
    }

    /// Its name in the metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotLocal => "not_local",
            Self::Key => "wrong_key",
            Self::OtherStream(_) | Self::WhichStream(_) => "other_stream",
            Self::Hook(_) => "hook",
            Self::HookDown => "hook_down",
            Self::TooMany(_) => "too_many_wrong_keys",
            Self::Name(_) => "bad_name",
        }
    }
}

impl Access {
    /// With rules, and a secret for this run of the process.
    ///
    /// # Errors
    /// If the system has no random numbers to give.
    pub fn new(rules: Rules) -> std::io::Result<Self> {
        let mut secret = [0; 32];
        getrandom::getrandom(&mut secret).map_err(std::io::Error::from)?;
        Ok(Self {
            rules: Live::new(rules),
            throttle: Throttle::default(),
            login: Login::new(secret),
        })
    }

    /// Replaces the rules. Who publishes or plays already is not concerned until the next request.
    pub fn set_rules(&self, rules: Rules) {
        #[cfg(feature = "jwt")]
        let rules = {
            let mut rules = rules;
            let before = self.rules.get();
            // Keys that have been fetched from the same place are good until they are fetched again.
            if let (Some(new), Some(old)) = (&mut rules.tokens.jwt, &before.tokens.jwt)
                && new.url.is_some()
                && new.url == old.url
            {
                new.keys = std::sync::Arc::clone(&old.keys);
            }
            rules
        };
        self.rules.set(rules);
    }

    /// Where viewers' keys are fetched, if they are, and where they are put.
    #[cfg(feature = "jwt")]
    pub fn fetched_keys(&self) -> Option<(String, std::sync::Arc<Live<jwt::KeySet>>)> {
        let rules = self.rules.get();
        let jwt = rules.tokens.jwt.as_ref()?;
        Some((jwt.url.clone()?, std::sync::Arc::clone(&jwt.keys)))
    }

    /// Addresses that have been wrong lately.
    pub fn suspects(&self) -> usize {
        self.throttle.len()
    }

    /// Whether `connect` is to be asked about: some application is set aside for user and password.
    pub fn asks_at_connect(&self) -> bool {
        let rules = self.rules.get();
        !rules.keys.is_empty() && !rules.login_apps.is_empty()
    }

    /// The verdict on a `connect`: whether its application asks for user and password, and whether they are right.
    pub fn connecting(&self, request: &ConnectRequest, peer: IpAddr, now: Instant) -> Connecting {
        let rules = self.rules.get();
        let step = Step::of(request.query.as_deref());
        let set_aside = is_login_app(&rules, &request.app);
        let seconds = unix_seconds();
        match step {
            _ if rules.keys.is_empty() => Connecting::Accept(None),
            Step::Unaware if set_aside => Connecting::AskMore(login::NEED_AUTH.to_owned()),
            Step::Unaware => Connecting::Accept(None),
            Step::User(user) => Connecting::AskMore(self.login.challenge(user, peer, seconds)),
            Step::Answer(answer) => {
                if let Err(wait) = self.throttle.check(peer, now) {
                    let text = login::AUTH_FAILED.to_owned();
                    return Connecting::Refuse(text, Denied::TooMany(wait));
                }
                let ours = self.login.is_ours(&answer, peer, seconds);
                let found = rules.keys.find_by(|key| self.login.proves(&answer, key));
                match found.filter(|_| ours) {
                    Some(pattern) => Connecting::Accept(Some(pattern.clone())),
                    None => {
                        self.throttle.failed(peer, now);
                        Connecting::Refuse(login::AUTH_FAILED.to_owned(), Denied::Key)
                    }
                }
            }
        }
    }

    /// The stream that a publisher may feed. `proved` is what [`Self::connecting`] has found. With `hook`, somebody else decides on who
    /// has shown no key that is known here.
    ///
    /// # Errors
    /// Why it may not publish.
    pub fn publisher(
        &self,
        request: &PublishRequest,
        proved: Option<&Pattern>,
        peer: IpAddr,
        now: Instant,
        hook: bool,
    ) -> Result<Permit, Denied> {
        let rules = self.rules.get();
        if rules.keys.is_empty() && !hook {
            if !rules.open && !peer.to_canonical().is_loopback() {
                return Err(Denied::NotLocal);
            }
            let name = StreamName::new(&request.app, &request.name)?;
            return Ok(Permit {
                name,
                by_key: false,
            });
        }
        self.throttle.check(peer, now).map_err(Denied::TooMany)?;
        match permit(&rules, request, proved) {
            // The hook may know the key.
            Err(Denied::Key) if hook => {
                let name = StreamName::new(&request.app, &request.name);
                Ok(Permit {
                    name: name.or_else(|_| StreamName::new(&request.app, "unnamed"))?,
                    by_key: false,
                })
            }
            Err(denied @ Denied::Key) => {
                self.throttle.failed(peer, now);
                Err(denied)
            }
            other => other,
        }
    }

    /// Counts a failed try that somebody else has found to be one.
    pub fn failed(&self, peer: IpAddr, now: Instant) {
        self.throttle.failed(peer, now);
    }

    /// Whether a viewer may have a stream.
    ///
    /// # Errors
    /// Why not.
    pub fn viewer(
        &self,
        stream: &str,
        shown: token::Shown<'_>,
    ) -> Result<token::Seen, token::Denied> {
        self.rules.get().tokens.check(stream, shown, unix_seconds())
    }
}

/// What is looked for where: the key may be the name, or stand in the query, or have been proved by a login.
fn permit(
    rules: &Rules,
    request: &PublishRequest,
    proved: Option<&Pattern>,
) -> Result<Permit, Denied> {
    let by_key = |name| Permit { name, by_key: true };
    let asked = StreamName::new(&request.app, &request.name);
    let in_query = request.query.as_deref().and_then(key_in_query);
    let beside = match (proved, &in_query) {
        (Some(pattern), _) => Some(pattern),
        (None, Some(key)) => rules.keys.find(key),
        (None, None) => None,
    };
    if let Some(pattern) = beside {
        if let Ok(name) = &asked
            && pattern.matches(name.as_str())
        {
            return Ok(by_key(name.clone()));
        }
        return match pattern {
            // The application is there for the login alone, and a missing name is no other name.
            Pattern::One(name) if request.name.is_empty() || is_login_app(rules, &request.app) => {
                Ok(by_key(name.clone()))
            }
            Pattern::Below(path) if is_login_app(rules, &request.app) => {
                Ok(by_key(StreamName::new(path, &request.name)?))
            }
            Pattern::One(_) => Err(Denied::OtherStream(pattern.clone())),
            Pattern::Below(_) if request.name.is_empty() => {
                Err(Denied::WhichStream(pattern.clone()))
            }
            Pattern::Below(_) => Err(Denied::OtherStream(pattern.clone())),
        };
    }
    // As the last element of the path, whatever stands before it.
    let path = match request.name.as_str() {
        "" => request.app.as_str(),
        _ => request.name.as_str(),
    };
    let (before, key) = path.rsplit_once('/').unwrap_or(("", path));
    let before = if request.name.is_empty() {
        before
    } else {
        &request.app
    };
    match rules.keys.find(key) {
        None => Err(Denied::Key),
        Some(Pattern::One(name)) => Ok(by_key(name.clone())),
        Some(pattern) => match StreamName::new(before, "") {
            Ok(name) if pattern.matches(name.as_str()) => Ok(by_key(name)),
            _ => Err(Denied::WhichStream(pattern.clone())),
        },
    }
}

fn is_login_app(rules: &Rules, app: &str) -> bool {
    let first = app.split('/').next().unwrap_or_default();
    rules.login_apps.iter().any(|own| own == first)
}

/// The key in a query, by the names that encoders' manuals use for it.
fn key_in_query(query: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let named = |name: &str| {
        KEY_PARAMETERS
            .iter()
            .any(|own| own.eq_ignore_ascii_case(name))
    };
    let (_, value) = pairs.find(|(name, value)| named(name) && !value.is_empty())?;
    mac::unescape(value)
}

/// Seconds since 1970.
pub fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// Names of the parameter that holds the key.
const KEY_PARAMETERS: [&str; 8] = [
    "key",
    "streamkey",
    "stream_key",
    "stream-key",
    "token",
    "pass",
    "password",
    "pwd",
];
/// What a wrong key costs who tries it.
const WRONG_KEY_DELAY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
