//! The options about who may publish and play, checked.

#[cfg(feature = "jwt")]
use std::sync::Arc;

use super::secret::Secret;
use super::{Error, span};
use crate::auth::Rules;
#[cfg(feature = "jwt")]
use crate::auth::jwt;
use crate::auth::keys::Keys;
use crate::auth::token::Tokens;
use crate::cli::{ServeArgs, WhenDown};
use crate::hooks;
#[cfg(feature = "jwt")]
use crate::live::Live;
use crate::stream::name::StreamName;
use crate::viewer::url::{self, Url};

/// Who may publish and play. It is known to make [`Rules`].
#[derive(Debug, Clone)]
pub struct Access {
    keys: Vec<Secret>,
    open: bool,
    login_apps: Vec<String>,
    playback_secrets: Vec<Secret>,
    #[cfg_attr(not(feature = "jwt"), expect(dead_code))]
    jwt: Option<Jwt>,
}

/// How viewers' JSON Web Tokens are checked.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "jwt"), expect(dead_code))]
struct Jwt {
    source: JwkSource,
    claim: String,
    audience: Option<String>,
    issuer: Option<String>,
}

#[derive(Debug, Clone)]
enum JwkSource {
    Url(#[cfg_attr(not(feature = "jwt"), expect(dead_code))] Url),
    #[cfg(feature = "jwt")]
    Keys(Vec<u8>),
}

impl Jwt {
    fn new(args: &ServeArgs, source: &str) -> Result<Self, String> {
        if !cfg!(feature = "jwt") {
            return Err("this lhls was built without the feature jwt".to_owned());
        }
        let source = match source.contains("://") {
            true => JwkSource::Url(
                source
                    .parse()
                    .map_err(|error: url::Error| error.to_string())?,
            ),
            false => Self::file(source)?,
        };
        Ok(Self {
            source,
            claim: args.playback_jwt_claim.clone(),
            audience: args.playback_jwt_audience.clone(),
            issuer: args.playback_jwt_issuer.clone(),
        })
    }

    #[cfg(feature = "jwt")]
    fn file(path: &str) -> Result<JwkSource, String> {
        let json = std::fs::read(path).map_err(|error| format!("it cannot be read: {error}"))?;
        jwt::KeySet::parse(&json)?;
        Ok(JwkSource::Keys(json))
    }

    #[cfg(not(feature = "jwt"))]
    fn file(_: &str) -> Result<JwkSource, String> {
        Err(String::new())
    }

    #[cfg(feature = "jwt")]
    fn rules(&self) -> jwt::Jwt {
        let (keys, url) = match &self.source {
            JwkSource::Url(url) => (jwt::KeySet::default(), Some(url.to_string())),
            // Checked above.
            JwkSource::Keys(json) => (jwt::KeySet::parse(json).unwrap_or_default(), None),
        };
        jwt::Jwt {
            keys: Arc::new(Live::new(keys)),
            url,
            claim: self.claim.clone(),
            audience: self.audience.clone(),
            issuer: self.issuer.clone(),
        }
    }
}

impl Access {
    pub(super) fn new(args: &ServeArgs) -> Result<Self, Error> {
        let invalid = |option, value: &str, reason: String| Error::Invalid {
            option,
            value: value.to_owned(),
            reason,
        };
        let keys = Keys::new(&args.keys);
        let keys = keys.map_err(|error| invalid("keys", "…", error.to_string()))?;
        if args.publish_open && !keys.is_empty() {
            return Err(Error::Contradiction(
                "--publish-open lets everybody publish, and there are stream keys (--keys): give one or the other"
                    .to_owned(),
            ));
        }
        let login_apps: Vec<String> = args
            .login_apps
            .iter()
            .map(|app| app.trim().to_owned())
            .collect();
        for app in login_apps.iter().filter(|app| !app.is_empty()) {
            if app.contains('/') || StreamName::new(app, "").is_err() {
                let reason =
                    "give applications, each a word of letters, digits and -_.~".to_owned();
                return Err(invalid("login-apps", app, reason));
            }
        }
        let short = |secret: &&Secret| secret.reveal().len() < MIN_SECRET;
        if args.playback_secret.iter().any(|secret| short(&secret)) {
            let reason = format!(
                "a secret has at least {MIN_SECRET} characters; `lhls key new --quiet` makes one"
            );
            return Err(invalid("playback-secret", "…", reason));
        }
        let jwt = args
            .playback_jwks
            .as_ref()
            .map(|source| {
                Jwt::new(args, source).map_err(|reason| invalid("playback-jwks", source, reason))
            })
            .transpose()?;
        Ok(Self {
            jwt,
            keys: args.keys.clone(),
            open: args.publish_open,
            login_apps: login_apps
                .into_iter()
                .filter(|app| !app.is_empty())
                .collect(),
            playback_secrets: args.playback_secret.clone(),
        })
    }

    /// The rules that follow.
    pub fn rules(&self) -> Rules {
        Rules {
            // Checked above.
            keys: Keys::new(&self.keys).unwrap_or_default(),
            open: self.open,
            login_apps: self.login_apps.clone(),
            tokens: Tokens {
                secrets: self.playback_secrets.clone(),
                #[cfg(feature = "jwt")]
                jwt: self.jwt.as_ref().map(Jwt::rules),
            },
        }
    }

    /// Whether there are stream keys.
    pub fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whether everybody may publish.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Lets one more publisher in, unless everybody on this machine may publish anyway.
    pub fn admit(&mut self, name: &str, key: &Secret) {
        if !self.keys.is_empty() {
            self.keys
                .push(Secret::new(format!("{name}={}", key.reveal())));
        }
    }
}

/// The options about hooks, checked.
pub(super) fn hooks(args: &ServeArgs) -> Result<hooks::Settings, Error> {
    let url = args
        .hooks_url
        .as_ref()
        .map(|url| {
            url.parse::<Url>().map_err(|error| Error::Invalid {
                option: "hooks-url",
                value: url.clone(),
                reason: error.to_string(),
            })
        })
        .transpose()?;
    Ok(hooks::Settings {
        url,
        events: args.hooks_events.clone(),
        secret: args.hooks_secret.clone(),
        timeout: span("hooks-timeout", args.hooks_timeout, 100, 30_000)?,
        allow_when_down: args.hooks_when_down == WhenDown::Allow,
        play_cache: span("hooks-play-cache", args.hooks_play_cache, 1000, 3_600_000)?,
        viewers_interval: span(
            "hooks-viewers-interval",
            args.hooks_viewers_interval,
            1000,
            3_600_000,
        )?,
    })
}

/// Characters of a secret that signs: nobody types it, so it can be long.
const MIN_SECRET: usize = 16;
