//! Hooks: the operator's own service is told what happens, and asked what may.
//!
//! Everything goes to one URL as a POST of JSON, signed. Two events are *questions*, whose answer is waited for: `publish` and `play`. The
//! rest are *notices*: they wait in a bounded queue, are sent one after the other, tried again a few times, and dropped when nobody takes
//! them; they never hold up a stream. What is decided when the service does not answer is an option, and is *no* by default.
//!
//! The signature is `X-Lhls-Signature: t=SECONDS,v1=HEX`, the HMAC-SHA256 of the time, a dot, and the body. The time is signed too, so that
//! an old message cannot be sent again.
//!
//! Not here: what a verdict means to RTMP and HTTP (`rtmp::ingest`, `http`).

pub mod answer;
mod notices;
mod verdicts;
mod watch;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tracing::warn;

pub use self::answer::Verdict;
use self::notices::Queue;
pub use self::notices::Worker;
use self::verdicts::Verdicts;
pub use self::watch::Watch;
use crate::auth::{mac, unix_seconds};
use crate::config::secret::Secret;
use crate::hls::playlist::iso8601;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::outbound;
use crate::viewer::url::Url;

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Event {
    /// Somebody wants to publish. A question.
    Publish,
    /// Somebody wants to play. A question.
    Play,
    /// A stream has a publisher.
    PublishStart,
    /// A stream has a publisher again, or another one.
    PublishReconnect,
    /// A publisher has gone; the stream waits for it.
    PublishEnd,
    /// How many are watching.
    Viewers,
    /// A stream is over.
    StreamEnded,
}

impl Event {
    /// Its name in messages and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Play => "play",
            Self::PublishStart => "publish-start",
            Self::PublishReconnect => "publish-reconnect",
            Self::PublishEnd => "publish-end",
            Self::Viewers => "viewers",
            Self::StreamEnded => "stream-ended",
        }
    }
}

/// What the configuration says about hooks.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Where to; without it there are no hooks.
    pub url: Option<Url>,
    /// Which events.
    pub events: Vec<Event>,
    /// What messages are signed with.
    pub secret: Option<Secret>,
    /// How long an answer is waited for.
    pub timeout: Duration,
    /// Whether a question that is not answered is decided as if there were no hook; else the answer is no.
    pub allow_when_down: bool,
    /// How long an answer to `play` holds.
    pub play_cache: Duration,
    /// How often viewers are counted.
    pub viewers_interval: Duration,
}

/// Asks and tells.
#[derive(Debug)]
pub struct Hooks {
    settings: Live<Settings>,
    metrics: Arc<Metrics>,
    queue: Queue,
    verdicts: Verdicts,
}

/// A publisher, as the hook is told of it.
#[derive(Debug, Clone, Copy)]
pub struct Publisher<'a> {
    /// Its address.
    pub address: IpAddr,
    /// The application, as sent. It may hold a key, and so may the next two: the hook is trusted with them.
    pub app: &'a str,
    /// The name, as sent.
    pub name: &'a str,
    /// The query, as sent.
    pub query: Option<&'a str>,
    /// What the encoder says it is.
    pub encoder: Option<&'a str>,
    /// The stream that a key has decided on.
    pub stream: Option<&'a str>,
}

/// A viewer, as the hook is told of it.
#[derive(Debug, Clone, Copy)]
pub struct Player<'a> {
    /// Its address.
    pub address: IpAddr,
    /// The stream.
    pub stream: &'a str,
    /// What it has shown.
    pub token: Option<&'a str>,
    /// What it says it is.
    pub agent: Option<&'a str>,
}

impl Hooks {
    /// Hooks, and what sends their notices once it is run.
    pub fn new(settings: Settings, metrics: Arc<Metrics>) -> (Arc<Self>, Worker) {
        let (queue, notices) = Queue::new();
        let hooks = Arc::new(Self {
            settings: Live::new(settings),
            metrics,
            queue,
            verdicts: Verdicts::default(),
        });
        let worker = Worker::new(Arc::clone(&hooks), notices);
        (hooks, worker)
    }

    /// Replaces the settings; what is on its way goes where it was to go.
    pub fn set(&self, settings: Settings) {
        self.settings.set(settings);
        self.verdicts.clear();
    }

    /// Whether an event is asked or told about.
    pub fn has(&self, event: Event) -> bool {
        let settings = self.settings.get();
        settings.url.is_some() && settings.events.contains(&event)
    }

    /// Asks whether somebody may publish, and under what name.
    pub async fn publish(&self, publisher: Publisher<'_>) -> Verdict {
        let body = json!({
            "address": publisher.address.to_canonical().to_string(),
            "app": publisher.app,
            "name": publisher.name,
            "query": publisher.query,
            "encoder": publisher.encoder,
            "stream": publisher.stream,
        });
        self.ask(Event::Publish, body).await
    }

    /// Asks whether somebody may play, unless that has been asked a short time ago.
    pub async fn play(&self, player: Player<'_>) -> Verdict {
        let address = player.address.to_canonical().to_string();
        let who = player.token.unwrap_or(&address);
        let settings = self.settings.get();
        let body = json!({
            "address": address,
            "stream": player.stream,
            "token": player.token,
            "user_agent": player.agent,
        });
        let key = mac::hmac_sha256(b"", &[player.stream.as_bytes(), b"\n", who.as_bytes()]);
        self.verdicts
            .get(key, settings.play_cache, self.ask(Event::Play, body))
            .await
    }

    /// Whether a question that nobody answers is decided as if there were no hook.
    pub fn allows_when_down(&self) -> bool {
        self.settings.get().allow_when_down
    }

    /// Tells of something, some time soon.
    pub fn tell(&self, event: Event, body: Value) {
        if self.has(event) && !self.queue.push(event, body) {
            self.metrics.limit("hook_queue");
        }
    }

    /// How often viewers are counted.
    pub fn viewers_interval(&self) -> Duration {
        self.settings.get().viewers_interval
    }

    async fn ask(&self, event: Event, body: Value) -> Verdict {
        let verdict = match self.send(event, body).await {
            Ok((status, body)) => answer::read(status, &body),
            Err(error) => Verdict::Down(error.to_string()),
        };
        if let Verdict::Down(reason) = &verdict {
            self.metrics.limit("hook_down");
            warn!(hook = event.name(), "the hook gives no verdict: {reason}");
        }
        verdict
    }

    async fn send(
        &self,
        event: Event,
        mut body: Value,
    ) -> Result<(StatusCode, Vec<u8>), outbound::Error> {
        let settings = self.settings.get();
        let Some(url) = &settings.url else {
            return Ok((StatusCode::OK, Vec::new()));
        };
        if let Value::Object(fields) = &mut body {
            fields.insert("event".to_owned(), event.name().into());
            let time = fields.get("time").is_none();
            if time {
                fields.insert("time".to_owned(), iso8601(SystemTime::now()).into());
            }
        }
        let body = body.to_string();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(EVENT, HeaderValue::from_static(event.name()));
        if let Some(secret) = &settings.secret {
            let signature = signature(secret, unix_seconds(), &body);
            if let Ok(value) = HeaderValue::from_str(&signature) {
                headers.insert(SIGNATURE, value);
            }
        }
        outbound::fetch(
            Method::POST,
            url,
            headers,
            body,
            settings.timeout,
            MAX_ANSWER,
        )
        .await
    }
}

/// The value of the signature header.
pub fn signature(secret: &Secret, time: u64, body: &str) -> String {
    let key = secret.reveal().as_bytes();
    let mac = mac::hmac_sha256(key, &[time.to_string().as_bytes(), b".", body.as_bytes()]);
    format!("t={time},v1={}", mac::hex(&mac))
}

/// Which event a message is about.
const EVENT: HeaderName = HeaderName::from_static("x-lhls-event");
/// Proof that it comes from here.
const SIGNATURE: HeaderName = HeaderName::from_static("x-lhls-signature");
/// Bytes of an answer: a name, a reason, some options.
const MAX_ANSWER: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_signature() {
        let signature = signature(&Secret::new("secret"), 1_800_000_000, "{}");
        assert_eq!(
            signature,
            "t=1800000000,v1=bb7079132825ac793cea8c013c1dd24d926b9b02132245b10588d9e5c0df70d7"
        );
    }

    #[test]
    fn names_are_those_of_the_option() {
        use clap::ValueEnum;
        for event in Event::value_variants() {
            assert_eq!(event.to_possible_value().unwrap().get_name(), event.name());
        }
    }
}
