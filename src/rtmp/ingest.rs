//! One publisher's connection: from its socket through session and demuxer into its stream.
//!
//! The only place where RTMP meets sockets and the clock. Everything it decides itself is about time (how long a peer may take) and
//! about verdicts (who may publish what); the rest is [`super::session`]'s and the layers' below.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{Span, debug, info, warn};

use super::dozing::{Pace, Source};
use super::listener::{Settings, Shared};
use super::session::{
    self, ConnectRequest, Event, PublishRequest, Refusal, Session, SessionConfig,
};
use crate::auth::pattern::Pattern;
use crate::auth::{Connecting, Denied, Permit};
use crate::flv::{self, Demuxer};
use crate::hls::Now;
use crate::hls::packager::Stats;
use crate::hooks::{self, Verdict};
use crate::metrics::{Metrics, Reason};
use crate::stream::connections::Connection;
use crate::stream::history::RunEnd;
use crate::stream::name::StreamName;
use crate::stream::registry::Policy;
use crate::stream::{Entrance, Publication};
use crate::time::Repairs;

/// Why a connection ended. All of it is the peer's doing or the network's.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the peer closed the connection")]
    Closed,
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error("the peer spoke no proper RTMP: {0}")]
    Session(#[from] session::Error),
    #[error("nothing was published within {0:?}")]
    TooSlow(Duration),
    #[error("the publisher sent nothing for {0:?}")]
    Silent(Duration),
    #[error("refused: {0}")]
    Refused(String),
    #[error("turned away: {0}")]
    Denied(#[from] Denied),
    #[error("asked for user and password")]
    AskedMore,
    #[error("another publisher has taken over")]
    Replaced,
    #[error("an operator has ended the stream")]
    Ended,
    #[error("an operator has closed the connection")]
    Kicked,
    #[error("the server is shutting down")]
    Shutdown,
}

impl End {
    /// What it is in the stream's history.
    fn of_run(&self) -> RunEnd {
        match self {
            Self::Closed | Self::Broken(_) | Self::TooSlow(_) => RunEnd::Lost,
            Self::Session(_) | Self::Refused(_) | Self::Denied(_) | Self::AskedMore => {
                RunEnd::Refused
            }
            Self::Silent(_) => RunEnd::Silent,
            Self::Replaced => RunEnd::Replaced,
            Self::Ended => RunEnd::Ended,
            Self::Kicked => RunEnd::Kicked,
            Self::Shutdown => RunEnd::Shutdown,
        }
    }
}

/// A publisher's connection.
pub(super) struct Ingest {
    stream: Box<dyn Source>,
    peer: IpAddr,
    shared: Arc<Shared>,
    listed: Arc<Connection>,
    /// Those that stood when the connection came.
    settings: Arc<Settings>,
    session: Session,
    /// Since when the connection has not been publishing.
    idle_since: Instant,
    input: BytesMut,
    /// What a login has proved.
    proved: Option<Pattern>,
    run: Option<Run>,
}

/// What a publisher may feed.
struct Admitted {
    name: StreamName,
    /// Options of the stream, as a hook has set them.
    options: Map<String, Value>,
}

/// What is being published on the connection.
struct Run {
    publication: Publication,
    since: Instant,
    demuxer: Demuxer,
    counted: Stats,
    live: bool,
    malformed: u64,
    repairs: Repairs,
    pending: Vec<flv::Event>,
}

impl Ingest {
    pub(super) fn new(
        stream: Box<dyn Source>,
        shared: Arc<Shared>,
        listed: Arc<Connection>,
    ) -> Self {
        let session = Session::new(SessionConfig {
            ask_connect: shared.access.asks_at_connect(),
            ..SessionConfig::default()
        });
        Self {
            stream,
            peer: listed.peer().ip(),
            settings: shared.settings.get(),
            shared,
            listed,
            session,
            idle_since: Instant::now(),
            input: BytesMut::with_capacity(READ_BUFFER),
            proved: None,
            run: None,
        }
    }

    /// Serves the connection to its end.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let listed = Arc::clone(&self.listed);
        let end = tokio::select! {
            end = self.serve() => end,
            () = listed.kicked() => End::Kicked,
            () = shutdown.cancelled() => End::Shutdown,
        };
        let published = self.run.is_some();
        if let Some(run) = &mut self.run {
            run.publication.ends_for(end.of_run());
        }
        match end {
            End::Shutdown => self.session.unpublish("The server is shutting down."),
            End::Replaced => self
                .session
                .fail_publish(&Refusal::bad_name("Another publisher has taken over.")),
            End::Ended => self
                .session
                .fail_publish(&Refusal::bad_name("An operator has ended the stream.")),
            End::Kicked => self
                .session
                .fail_publish(&Refusal::bad_name("An operator has closed the connection.")),
            _ => {}
        }
        // Ends the stream, so that its viewers get its end before the publisher gets ours.
        self.finish_run();
        let farewell = async {
            self.flush().await?;
            self.stream.shutdown().await?;
            // Closing with input unread would reset the connection and take back what was sent; the peer may read it first.
            while self.stream.read_buf(&mut self.input).await? > 0 {
                self.input.clear();
            }
            Ok::<_, io::Error>(())
        };
        let _ = timeout(FAREWELL, farewell).await;
        self.report(&end, published);
    }

    async fn serve(&mut self) -> End {
        let mut pace = Pace::new(Instant::now());
        loop {
            if let Some(run) = &self.run
                && run.is_unwatched(Instant::now())
                && let Some(pause) = pace.pause(by_chance())
            {
                self.stream.doze();
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = run.publication.stream().watched() => {}
                    end = replaced(&self.run) => return end,
                }
            }
            let (patience, late) = match &self.run {
                Some(_) => {
                    let patience = self.settings.publish_timeout;
                    (patience, End::Silent(patience))
                }
                None => (
                    PUBLISH_WITHIN.saturating_sub(self.idle_since.elapsed()),
                    End::TooSlow(PUBLISH_WITHIN),
                ),
            };
            self.input.reserve(READ_BUFFER / 2);
            let read = timeout(patience, self.stream.read_buf(&mut self.input));
            let read = tokio::select! {
                read = read => read,
                end = replaced(&self.run) => return end,
            };
            match read {
                Err(_) => return late,
                Ok(Err(error)) => return End::Broken(error),
                Ok(Ok(0)) => return End::Closed,
                Ok(Ok(count)) => {
                    pace.note(count, Instant::now());
                    self.shared.metrics.rtmp_bytes.inc_by(count as u64);
                    self.listed.count(count);
                }
            }
            if let Err(end) = self.consume().await {
                return end;
            }
        }
    }

    /// Takes in what has been read.
    async fn consume(&mut self) -> Result<(), End> {
        let mut events = Vec::new();
        loop {
            let fed = self.session.feed(&mut self.input, &mut events);
            let now = Now::read();
            let mut verdict_given = false;
            for event in events.drain(..) {
                match event {
                    Event::Connect(request) => {
                        verdict_given = true;
                        self.judge_connect(&request).await?;
                    }
                    Event::Publish(request) => {
                        verdict_given = true;
                        self.judge_publish(&request).await?;
                    }
                    event => self.handle(event)?,
                }
            }
            if let Some(run) = &mut self.run {
                run.deliver(&self.shared, now);
            }
            self.flush().await?;
            fed?;
            if !verdict_given {
                return Ok(());
            }
        }
    }

    async fn judge_connect(&mut self, request: &ConnectRequest) -> Result<(), End> {
        let access = Arc::clone(&self.shared.access);
        match access.connecting(request, self.peer, Instant::now()) {
            Connecting::Accept(proved) => {
                self.proved = proved;
                self.session.accept_connect();
                Ok(())
            }
            Connecting::AskMore(description) => {
                self.session.refuse_connect(&description);
                Err(End::AskedMore)
            }
            Connecting::Refuse(description, denied) => {
                tokio::time::sleep(denied.delay()).await;
                self.session.refuse_connect(&description);
                Err(denied.into())
            }
        }
    }

    async fn judge_publish(&mut self, request: &PublishRequest) -> Result<(), End> {
        let admitted = match self.admit(request).await {
            Ok(admitted) => admitted,
            Err(denied) => {
                tokio::time::sleep(denied.delay()).await;
                let refusal = match &denied {
                    Denied::Name(error) => Refusal::bad_name(error.to_string()),
                    _ => Refusal::unauthorized(denied.to_string()),
                };
                self.session.refuse_publish(&refusal);
                return Err(denied.into());
            }
        };
        match self.start_run(request, admitted, Now::read()) {
            Ok(()) => {
                self.session.accept_publish();
                Ok(())
            }
            Err(refusal) => {
                self.session.refuse_publish(&refusal);
                Err(End::Refused(refusal.description))
            }
        }
    }

    /// What a publisher may feed: by its key, and by the hook's verdict, if there is one.
    async fn admit(&self, request: &PublishRequest) -> Result<Admitted, Denied> {
        let shared = &self.shared;
        let permit = |hook| {
            let now = Instant::now();
            let proved = self.proved.as_ref();
            shared
                .access
                .publisher(request, proved, self.peer, now, hook)
        };
        let by_rules = |permit: Permit| Admitted {
            name: permit.name,
            options: Map::new(),
        };
        if !shared.hooks.has(hooks::Event::Publish) {
            return permit(false).map(by_rules);
        }
        let by_key = permit(true)?;
        let stream = by_key.by_key.then(|| by_key.name.as_str());
        let publisher = hooks::Publisher {
            address: self.peer,
            app: &request.app,
            name: &request.name,
            query: request.query.as_deref(),
            encoder: request.flash_ver.as_deref(),
            stream,
        };
        match shared.hooks.publish(publisher).await {
            Verdict::Allow { stream, options } => Ok(Admitted {
                name: match stream {
                    Some(name) => StreamName::new(&name, "")?,
                    None => by_key.name,
                },
                options,
            }),
            Verdict::Deny(reason) => {
                if !by_key.by_key {
                    shared.access.failed(self.peer, Instant::now());
                }
                Err(Denied::Hook(reason))
            }
            Verdict::Down(_) if shared.hooks.allows_when_down() => permit(false).map(by_rules),
            Verdict::Down(_) => Err(Denied::HookDown),
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), End> {
        match event {
            // Judged before.
            Event::Connect(_) | Event::Publish(_) => {}
            Event::Video { timestamp, payload } => {
                if let Some(run) = &mut self.run {
                    let result = run.demuxer.video(timestamp, payload, &mut run.pending);
                    self.check(result)?;
                }
            }
            Event::Audio { timestamp, payload } => {
                if let Some(run) = &mut self.run {
                    let result = run.demuxer.audio(timestamp, payload, &mut run.pending);
                    self.check(result)?;
                }
            }
            Event::Metadata(metadata) => debug!(?metadata, "metadata, for information only"),
            Event::Unpublish => {
                if let Some(run) = &mut self.run {
                    run.publication.say_goodbye();
                }
                self.finish_run();
            }
        }
        Ok(())
    }

    fn start_run(
        &mut self,
        request: &PublishRequest,
        admitted: Admitted,
        now: Now,
    ) -> Result<(), Refusal> {
        let Admitted { name, options } = admitted;
        let mut policy = Policy::clone(&self.shared.registry.policy());
        for (option, value) in &options {
            if let Err(error) = crate::config::set_stream_option(&mut policy, option, value) {
                warn!("the hook sets an option that is left out: {error}");
            }
        }
        let publication = self
            .shared
            .registry
            .publish_with(name, &policy, now)
            .map_err(|error| Refusal::bad_name(format!("{error}.")))?;
        Span::current().record(
            "stream",
            tracing::field::display(publication.stream().name()),
        );
        let encoder = request.flash_ver.as_deref();
        publication.introduce(encoder, self.listed.id());
        self.listed.does(publication.stream().name(), encoder);
        let entrance = publication.entrance();
        info!(
            encoder = request.flash_ver.as_deref().unwrap_or("unknown"),
            ?entrance,
            "publishing"
        );
        match entrance {
            Entrance::Start => {}
            Entrance::Reconnect => {
                self.shared.metrics.reconnects.inc();
            }
            Entrance::Takeover => {
                self.shared.metrics.takeovers.inc();
            }
        }
        let event = match entrance {
            Entrance::Start => hooks::Event::PublishStart,
            Entrance::Reconnect | Entrance::Takeover => hooks::Event::PublishReconnect,
        };
        let stream = publication.stream().name().to_string();
        let told = json!({
            "stream": stream,
            "address": self.peer.to_canonical().to_string(),
            "encoder": request.flash_ver,
            "takeover": entrance == Entrance::Takeover,
        });
        self.shared.hooks.tell(event, told);
        self.shared.metrics.publishes.inc();
        self.shared.metrics.publishers.inc();
        // They are the stream's, and earlier runs have been counted.
        let counted = publication.stats();
        self.run = Some(Run {
            publication,
            since: Instant::now(),
            demuxer: Demuxer::new(),
            counted,
            live: false,
            malformed: 0,
            repairs: Repairs::default(),
            pending: Vec::new(),
        });
        Ok(())
    }

    fn finish_run(&mut self) {
        if let Some(mut run) = self.run.take() {
            self.idle_since = Instant::now();
            run.deliver(&self.shared, Now::read());
            self.listed.rests();
            self.shared.metrics.publishers.dec();
            info!(
                pieces = run.counted.pieces,
                bytes = run.counted.bytes,
                "publishing has ended"
            );
            let told = json!({
                "stream": run.publication.stream().name().to_string(),
                "address": self.peer.to_canonical().to_string(),
                "pieces": run.counted.pieces,
                "bytes": run.counted.bytes,
                "seconds": run.since.elapsed().as_secs_f64(),
            });
            self.shared.hooks.tell(hooks::Event::PublishEnd, told);
        }
    }

    /// A malformed tag is left out; a codec that cannot be carried ends the run, and the encoder is told.
    fn check(&mut self, result: Result<(), flv::Error>) -> Result<(), End> {
        match result {
            Ok(()) => Ok(()),
            Err(error @ flv::Error::Unsupported { .. }) => {
                self.session.fail_publish(&Refusal {
                    code: UNSUPPORTED,
                    description: format!("{error}."),
                });
                Err(End::Refused(error.to_string()))
            }
            Err(error) => {
                self.shared.metrics.tags_dropped.inc();
                if let Some(run) = &mut self.run {
                    run.malformed += 1;
                    if run.malformed == 1 {
                        // Usual at a run's start: frames that come before their configuration.
                        debug!(%error, "a malformed tag was left out; further ones are only counted");
                    }
                }
                Ok(())
            }
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        while let Some(output) = self.session.take_output() {
            let written = async {
                self.stream.write_all(&output).await?;
                // An encrypted connection may have taken more than it has sent.
                self.stream.flush().await
            };
            match timeout(WRITE_PATIENCE, written).await {
                Ok(written) => written?,
                Err(_) => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the peer does not read its replies",
                    ));
                }
            }
        }
        Ok(())
    }

    fn report(&self, end: &End, published: bool) {
        let reason = match end {
            End::Closed | End::Broken(_) if published => None,
            End::Shutdown | End::Replaced | End::Ended | End::Kicked | End::AskedMore => None,
            End::Closed => Some("closed_early"),
            End::Broken(_) => Some("broken"),
            End::Session(_) => Some("protocol"),
            End::TooSlow(_) => Some("too_slow"),
            End::Silent(_) => Some("silent"),
            End::Refused(_) => Some("refused"),
            End::Denied(denied) => Some(denied.reason()),
        };
        if let Some(reason) = reason {
            self.shared
                .metrics
                .rtmp_rejects
                .get_or_create(&Reason { reason })
                .inc();
        }
        // The peer's fault, so never an error of ours; a port scan is not worth more than a debug line.
        match end {
            End::AskedMore => debug!("connection ended: {end}"),
            End::Closed if !published => debug!("connection closed without publishing"),
            _ => info!("connection ended: {end}"),
        }
    }
}

/// Resolves when another publisher has taken the place of this one, or the stream was ended; never while nothing is published.
async fn replaced(run: &Option<Run>) -> End {
    match run {
        Some(run) => {
            run.publication.replaced().await;
            if run.publication.stream().output().ended() {
                End::Ended
            } else {
                End::Replaced
            }
        }
        None => std::future::pending().await,
    }
}

impl Run {
    /// Whether it can be watched, and nobody does.
    fn is_unwatched(&self, now: Instant) -> bool {
        self.live && !self.publication.stream().is_watched(now)
    }

    /// Hands what the demuxer has found to the stream.
    fn deliver(&mut self, shared: &Shared, now: Now) {
        if self.pending.is_empty() {
            return;
        }
        let (stats, live) = self.publication.push(self.pending.drain(..), now);
        let metrics = &shared.metrics;
        metrics.pieces.inc_by(stats.pieces - self.counted.pieces);
        metrics.piece_bytes.inc_by(stats.bytes - self.counted.bytes);
        metrics.parts.inc_by(stats.parts - self.counted.parts);
        metrics
            .units_dropped
            .inc_by(stats.dropped - self.counted.dropped);
        self.counted = stats;
        self.count_repairs(metrics);
        if live && !self.live {
            self.live = true;
            let name = self.publication.stream().name();
            info!(
                "live at http://localhost:{}/{name}/playlist.m3u8",
                shared.settings.get().http_port
            );
        }
    }
}

impl Run {
    /// Counts what has been repaired of the publisher's times since the last look, and says so the first time.
    fn count_repairs(&mut self, metrics: &Metrics) {
        let repairs = *self.publication.timeline().repairs();
        if repairs == self.repairs {
            return;
        }
        if self.repairs.total() == 0 {
            warn!(
                ?repairs,
                "the publisher's timestamps need repair; further repairs are only counted, in timestamp_repairs"
            );
        }
        let kinds = |repairs: &Repairs| {
            [
                ("jump_ahead", repairs.jumps_ahead),
                ("jump_back", repairs.jumps_back),
                ("stalled", repairs.stalled),
                ("not_rising", repairs.not_rising),
                ("skew", repairs.skew),
                ("negative_composition", repairs.negative_composition),
                ("audio_gap", repairs.audio_gaps),
            ]
        };
        for ((reason, total), (_, before)) in kinds(&repairs).into_iter().zip(kinds(&self.repairs))
        {
            if total > before {
                metrics
                    .timestamp_repairs
                    .get_or_create(&Reason { reason })
                    .inc_by(total - before);
            }
        }
        self.repairs = repairs;
    }
}

/// A number that need not be hard to guess.
fn by_chance() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.subsec_nanos() / 64)
}

/// One read takes what a busy publisher sends in some milliseconds.
const READ_BUFFER: usize = 64 * 1024;
/// From accept to publish. Encoders need three round trips; whoever needs longer only holds a place.
const PUBLISH_WITHIN: Duration = Duration::from_secs(10);
/// Replies are a few hundred bytes; a peer that does not take them for this long is not there.
const WRITE_PATIENCE: Duration = Duration::from_secs(5);
/// How long a peer that is sent away gets to read why.
const FAREWELL: Duration = Duration::from_secs(1);
/// The code that encoders show for a format they may change.
const UNSUPPORTED: &str = "NetStream.Publish.Rejected";
