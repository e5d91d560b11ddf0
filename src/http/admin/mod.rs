//! What operators see and do: metrics, the status page, the API.
//!
//! | path | what | to whom |
//! |---|---|---|
//! | `/metrics` | counters for Prometheus: [`crate::metrics`] | readers |
//! | `/status` | the status page, made by the browser out of the API | readers |
//! | `/api/v1/openapi.json` | what the API is | readers |
//! | `/api/v1/server`, `/api/v1/streams…` | the server and its streams | readers; ending a stream: operators |
//! | `/api/v1/connections…` | publishers and viewers, with their addresses | operators |
//!
//! Who is a reader and who an operator is decided in `access`. With `--admin-listen` all of it is on that port only.
//!
//! Nothing here is for other sites' pages: no CORS headers, and what changes anything takes DELETE, which a browser does not send
//! to another site without asking first.

mod access;
mod api;
mod model;
mod query;

use std::sync::Arc;

use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use self::access::Access;
use super::body::ResponseBody;
use super::player;
use super::response::{Cache, Responder};
use crate::config::secret::Secret;
use crate::metrics::streams::Figures;
use crate::metrics::{self, Metrics};
use crate::stream::registry::Registry;
use crate::stream::report::State;

/// What the configuration says.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// What operators have to show.
    pub token: Option<Secret>,
    /// Whether operators have a port of their own.
    pub elsewhere: bool,
}

/// What operators may want to know of the server.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// Where publishers connect.
    pub rtmp_port: u16,
    /// Where viewers connect.
    pub http_port: u16,
    /// Cancelled when the server begins to end.
    pub shutdown: CancellationToken,
    /// Where publishers' tasks run, and writers', if not where viewers' do.
    pub media: Option<Handle>,
}

/// A path that is for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page<'a> {
    /// `/metrics`
    Metrics,
    /// `/status`
    Status,
    /// `/api/v1/…`, the rest of it.
    Api(&'a str),
}

impl<'a> Page<'a> {
    /// Reads a path without its leading slash.
    pub(super) fn parse(path: &'a str) -> Option<Self> {
        match path {
            "metrics" => Some(Self::Metrics),
            "status" => Some(Self::Status),
            _ => path.strip_prefix("api/v1/").map(Self::Api),
        }
    }
}

/// Answers one connection's requests for operators' pages.
pub(super) struct Admin<'a> {
    pub(super) registry: &'a Arc<Registry>,
    pub(super) metrics: &'a Metrics,
    pub(super) settings: &'a Settings,
    pub(super) about: &'a About,
    /// Whether the connection came to the operators' own port.
    pub(super) own_port: bool,
    pub(super) peer: std::net::SocketAddr,
}

impl Admin<'_> {
    pub(super) fn answer<B>(
        &self,
        page: Page<'_>,
        request: &Request<B>,
        respond: &Responder<'_>,
    ) -> Response<ResponseBody> {
        let headers = request.headers();
        let mut response = match (page, self.access(headers)) {
            (_, Access::None) => self.unauthorized(page, headers, respond),
            (Page::Api(path), access) => self.api(path, access, request, respond),
            _ if !matches!(*request.method(), Method::GET | Method::HEAD) => respond.not_allowed(),
            (Page::Metrics, _) => {
                let figures = self.gather();
                let text = self.metrics.encode(&figures);
                respond.full(metrics::CONTENT_TYPE, Cache::Never, text)
            }
            (Page::Status, _) => player::status(headers, respond),
        };
        let headers = response.headers_mut();
        for name in [
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            header::HeaderName::from_static("timing-allow-origin"),
        ] {
            headers.remove(name);
        }
        response
    }

    /// 401 with both ways to show a token: programmes are to send it, browsers ask their user for it.
    fn unauthorized(
        &self,
        page: Page<'_>,
        headers: &header::HeaderMap,
        respond: &Responder<'_>,
    ) -> Response<ResponseBody> {
        if headers.contains_key(header::AUTHORIZATION) {
            self.metrics.limit("admin_token");
        }
        let text = "this needs the token of --admin-token: Authorization: Bearer TOKEN, or as the password of any user";
        let mut response = match page {
            Page::Api(_) => api::error(StatusCode::UNAUTHORIZED, text, respond),
            _ => respond.error(StatusCode::UNAUTHORIZED, text),
        };
        for challenge in [r#"Basic realm="lhls""#, r#"Bearer realm="lhls""#] {
            let challenge = HeaderValue::from_static(challenge);
            response
                .headers_mut()
                .append(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }

    /// Brings the gauges that are counted only when asked for up to date, and returns what is told of single streams.
    fn gather(&self) -> Vec<Figures> {
        let streams = self.registry.list();
        let sum = |count: fn(&crate::stream::Stream) -> i64| {
            streams.iter().map(|stream| count(stream)).sum()
        };
        let metrics = self.metrics;
        metrics.streams.set(streams.len() as i64);
        metrics.viewers.set(sum(|stream| stream.viewers() as i64));
        metrics
            .ring_bytes
            .set(sum(|stream| stream.ring_bytes() as i64));
        let alive = |runtime: &Handle| runtime.metrics().num_alive_tasks() as i64;
        let media = self.about.media.as_ref().map_or(0, alive);
        metrics.tasks.set(alive(&Handle::current()) + media);
        let mut live: Vec<_> = streams
            .iter()
            .filter(|stream| !stream.output().ended() && stream.output().multivariant().is_some())
            .collect();
        // Those that are named stay named, whoever else comes.
        live.sort_by_key(|stream| stream.started());
        let now = std::time::Instant::now();
        live.iter()
            .map(|stream| {
                let report = stream.report(now);
                let snapshot = &report.snapshot;
                Figures {
                    name: stream.name().to_string(),
                    viewers: stream.viewers(),
                    publishing: report.state == State::Live,
                    bit_rate: snapshot.bit_rates.0 + snapshot.bit_rates.1,
                    frame_rate: snapshot.frame_rate,
                    gop: snapshot.gop.map(|gop| gop.as_secs_f64()),
                    ring_bytes: stream.ring_bytes(),
                    warnings: report.warnings().len(),
                }
            })
            .collect()
    }
}
