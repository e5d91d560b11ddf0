//! Every counter, gauge and histogram, declared in one place.
//!
//! The registry is a value, not a global; handles are atomics that the hot path touches directly. Names follow the Prometheus
//! conventions: base units, `_total` for what only grows. Labels have few values each, and never a stream key; the one label that
//! comes from publishers is a stream's public name, on [`streams`] alone, which bounds how many there are.
//!
//! To add a metric, add a field and its line in [`Metrics::new`], then run the tests: they tell what the list in
//! `docs/operations.md` lacks.

pub mod process;
pub mod streams;
mod text;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use self::streams::Figures;
use self::text::Text;

/// Labels of an HTTP request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Request {
    /// What was asked for: `multivariant`, `media`, `media_low_latency`, `segment`, `part`, `page`, `admin`, `other`.
    pub kind: &'static str,
    /// Status code of the answer.
    pub status: u16,
}

/// A named reason.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    /// Which one, of a fixed set.
    pub reason: &'static str,
}

/// A version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Version {
    version: &'static str,
}

/// What the list of metrics says of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Description {
    /// Its name in the text, prefix and `_total` included.
    pub name: &'static str,
    /// Names of its labels, separated by commas; empty for none.
    pub labels: &'static str,
    /// What it counts.
    pub help: &'static str,
}

/// Histograms by request, all with the same buckets.
type Durations = Family<Request, Histogram, fn() -> Histogram>;

/// Handles to everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    described: Vec<Description>,
    /// Connections that are publishing.
    pub publishers: Gauge,
    /// Publishes accepted.
    pub publishes: Counter,
    /// Publishes that continued a stream after an outage.
    pub reconnects: Counter,
    /// Publishes that replaced another publisher.
    pub takeovers: Counter,
    /// RTMP connections refused or broken off, by reason.
    pub rtmp_rejects: Family<Reason, Counter>,
    /// Open RTMP connections.
    pub rtmp_connections: Gauge,
    /// Bytes read from publishers.
    pub rtmp_bytes: Counter,
    /// Malformed audio and video tags left out.
    pub tags_dropped: Counter,
    /// Access units that could not be carried or came before a stream could start.
    pub units_dropped: Counter,
    /// Repairs of publishers' times, by kind.
    pub timestamp_repairs: Family<Reason, Counter>,
    /// Pieces put into rings.
    pub pieces: Counter,
    /// Bytes put into rings.
    pub piece_bytes: Counter,
    /// Base parts closed, for LL-HLS.
    pub parts: Counter,
    /// Streams in the table, those included that have just ended.
    pub streams: Gauge,
    /// Connections that are playing.
    pub viewers: Gauge,
    /// Bytes held by rings.
    pub ring_bytes: Gauge,
    /// Connections that ended before the protocol of their port began, by reason: TLS, or the PROXY header.
    pub preamble_rejects: Family<Reason, Counter>,
    /// TLS handshakes that were made.
    pub tls_handshakes: Counter,
    /// When the TLS certificate expires, in seconds since 1970; 0 if there is none.
    pub tls_certificate_expiry: Gauge,
    /// Open HTTP connections.
    pub http_connections: Gauge,
    /// HTTP requests answered, by what was asked for and by status.
    pub http_requests: Family<Request, Counter>,
    /// From an HTTP request's head to its answer's head; playlists that are waited for take long on purpose.
    pub http_durations: Durations,
    /// Bytes written to viewers.
    pub http_bytes: Counter,
    /// From a piece's arrival in the ring to its first byte's acceptance by a waiting viewer's socket.
    pub delivery_latency: Histogram,
    /// Connections closed and streams ended by the API.
    pub kicks: Counter,
    /// Limits that were hit, by limit.
    pub limits: Family<Reason, Counter>,
    /// Tasks that panicked; each is a bug.
    pub panics: Counter,
    /// Tasks of the runtime that have not ended.
    pub tasks: Gauge,
}

impl Metrics {
    /// Everything at zero.
    pub fn new() -> Self {
        process::started();
        let mut list = List::default();
        list.add(
            "lhls_build_info",
            "version",
            "1, with the server's version",
            Family::<Version, Gauge>::default(),
        )
        .get_or_create(&Version {
            version: env!("CARGO_PKG_VERSION"),
        })
        .set(1);
        let metrics = Self {
            publishers: list.add("lhls_publishers", "", "Connections that are publishing", Gauge::default()),
            publishes: list.add("lhls_publishes_total", "", "Publishes accepted", Counter::default()),
            reconnects: list.add("lhls_reconnects_total", "", "Publishes that continued a stream after an outage", Counter::default()),
            takeovers: list.add("lhls_takeovers_total", "", "Publishes that replaced another publisher", Counter::default()),
            rtmp_rejects: list.add("lhls_rtmp_rejects_total", "reason", "RTMP connections refused or broken off, by reason", Family::default()),
            rtmp_connections: list.add("lhls_rtmp_connections", "", "Open RTMP connections", Gauge::default()),
            rtmp_bytes: list.add("lhls_rtmp_received_bytes_total", "", "Bytes read from publishers", Counter::default()),
            tags_dropped: list.add("lhls_tags_dropped_total", "", "Malformed audio and video tags left out", Counter::default()),
            units_dropped: list.add("lhls_access_units_dropped_total", "", "Access units that could not be carried or came before a stream could start", Counter::default()),
            timestamp_repairs: list.add("lhls_timestamp_repairs_total", "reason", "Repairs of publishers' times, by kind", Family::default()),
            pieces: list.add("lhls_pieces_total", "", "Pieces put into rings", Counter::default()),
            piece_bytes: list.add("lhls_pieces_bytes_total", "", "Bytes put into rings", Counter::default()),
            parts: list.add("lhls_parts_total", "", "Base parts closed, for LL-HLS", Counter::default()),
            streams: list.add("lhls_streams", "", "Streams in the table, those included that have just ended", Gauge::default()),
            viewers: list.add("lhls_viewers", "", "Connections that are playing", Gauge::default()),
            ring_bytes: list.add("lhls_ring_bytes", "", "Bytes held by rings", Gauge::default()),
            preamble_rejects: list.add("lhls_preamble_rejects_total", "reason", "Connections that ended before the protocol of their port began: TLS, or the PROXY header", Family::default()),
            tls_handshakes: list.add("lhls_tls_handshakes_total", "", "TLS handshakes made", Counter::default()),
            tls_certificate_expiry: list.add("lhls_tls_certificate_expiry_timestamp_seconds", "", "When the TLS certificate expires, in seconds since 1970; 0 if there is none", Gauge::default()),
            http_connections: list.add("lhls_http_connections", "", "Open HTTP connections", Gauge::default()),
            http_requests: list.add("lhls_http_requests_total", "kind,status", "HTTP requests answered, by what was asked for and by status", Family::default()),
            http_durations: list.add("lhls_http_request_duration_seconds", "kind,status", "From an HTTP request's head to its answer's head; playlists that are waited for take long on purpose", Durations::new_with_constructor(request_times)),
            http_bytes: list.add("lhls_http_sent_bytes_total", "", "Bytes written to viewers", Counter::default()),
            delivery_latency: list.add("lhls_delivery_latency_seconds", "", "From a piece's arrival in the ring to its first byte's acceptance by a waiting viewer's socket", delivery_times()),
            kicks: list.add("lhls_kicks_total", "", "Connections closed and streams ended by the API", Counter::default()),
            limits: list.add("lhls_limits_hit_total", "reason", "Limits that were hit, by limit", Family::default()),
            panics: list.add("lhls_panics_total", "", "Tasks that panicked; each is a bug", Counter::default()),
            tasks: list.add("lhls_tasks", "", "Tasks that have not ended: one or two a connection, and a few of the server's own", Gauge::default()),
            described: Vec::new(),
            registry: Registry::default(),
        };
        // A series that first appears with its first event would hide that event from `rate()`.
        for reason in LIMITS {
            drop(metrics.limits.get_or_create(&Reason { reason }));
        }
        for reason in REPAIRS {
            drop(metrics.timestamp_repairs.get_or_create(&Reason { reason }));
        }
        for reason in REJECTS {
            drop(metrics.rtmp_rejects.get_or_create(&Reason { reason }));
        }
        for reason in PREAMBLE_REJECTS {
            drop(metrics.preamble_rejects.get_or_create(&Reason { reason }));
        }
        let List {
            registry,
            described,
        } = list;
        Self {
            registry,
            described,
            ..metrics
        }
    }

    /// The text that Prometheus scrapes, with what is known of single streams.
    pub fn encode(&self, figures: &[Figures]) -> String {
        let mut text = Text::of(&self.registry);
        streams::write(figures, &mut text);
        process::write(&mut text);
        text.finish()
    }

    /// Every metric there is, for the documentation.
    pub fn described(&self) -> impl Iterator<Item = Description> {
        let own = self.described.iter().copied();
        own.chain(streams::DESCRIBED).chain(process::DESCRIBED)
    }

    /// Counts a limit that was hit.
    pub fn limit(&self, reason: &'static str) {
        self.limits.get_or_create(&Reason { reason }).inc();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// A registry, and what was put into it.
#[derive(Default)]
struct List {
    registry: Registry,
    described: Vec<Description>,
}

impl List {
    fn add<M: Metric + Clone>(
        &mut self,
        name: &'static str,
        labels: &'static str,
        help: &'static str,
        metric: M,
    ) -> M {
        // The encoder adds the suffix to what only grows, and a full stop to the help.
        let stem = name.strip_suffix("_total").unwrap_or(name);
        self.registry.register(stem, help, metric.clone());
        self.described.push(Description { name, labels, help });
        metric
    }
}

fn delivery_times() -> Histogram {
    Histogram::new(DELIVERY_BUCKETS)
}

fn request_times() -> Histogram {
    Histogram::new(REQUEST_BUCKETS)
}

/// Content type of [`Metrics::encode`]'s text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Limits that can be hit.
const LIMITS: [&str; 13] = [
    "admin_token",
    "h2_resets",
    "header_size",
    "header_time",
    "hook_down",
    "hook_dropped",
    "hook_queue",
    "http_connections",
    "idle_connection",
    "rtmp_connections",
    "viewer_behind",
    "viewer_slow",
    "viewer_stalled",
];
/// Why RTMP connections are refused or broken off.
const REJECTS: [&str; 13] = [
    "bad_name",
    "broken",
    "closed_early",
    "hook",
    "hook_down",
    "not_local",
    "other_stream",
    "protocol",
    "refused",
    "silent",
    "too_many_wrong_keys",
    "too_slow",
    "wrong_key",
];
/// Why connections end before the protocol of their port begins.
const PREAMBLE_REJECTS: [&str; 5] = [
    "not_tls",
    "proxy_header",
    "tls_handshake",
    "tls_handshake_time",
    "tls_handshakes",
];
/// Kinds of repairs: [`crate::time::Repairs`].
const REPAIRS: [&str; 7] = [
    "audio_gap",
    "jump_ahead",
    "jump_back",
    "negative_composition",
    "not_rising",
    "skew",
    "stalled",
];
/// Seconds. A waiting viewer on loopback is served in tens of microseconds; a second is as good as lost.
const DELIVERY_BUCKETS: [f64; 14] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0,
];
/// Seconds. What is there is answered at once; a blocking reload waits for a part or a segment, a held segment up to six seconds, a
/// stream that is not there yet up to 25.
const REQUEST_BUCKETS: [f64; 10] = [0.000_5, 0.002, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
