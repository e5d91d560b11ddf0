//! Every counter, gauge and histogram, declared in one place.
//!
//! The registry is a value, not a global; handles are atomics that the hot path touches directly. Names follow the Prometheus
//! conventions. Labels have few values each, and never a stream key.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Labels of an HTTP request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Request {
    /// What was asked for: `multivariant`, `media`, `media_low_latency`, `segment`, `part`, `other`.
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

/// Handles to everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Connections that are publishing.
    pub publishers: Gauge,
    /// Publishes that were accepted.
    pub publishes: Counter,
    /// Publishes that continued a stream after an outage.
    pub reconnects: Counter,
    /// Publishes that replaced another publisher.
    pub takeovers: Counter,
    /// RTMP connections that ended in an error or a refusal, by reason.
    pub rtmp_rejects: Family<Reason, Counter>,
    /// Open RTMP connections.
    pub rtmp_connections: Gauge,
    /// Bytes read from publishers.
    pub rtmp_bytes: Counter,
    /// Audio and video tags that were malformed and left out.
    pub tags_dropped: Counter,
    /// Access units that could not be carried or came before a stream could start.
    pub units_dropped: Counter,
    /// Repairs of publishers' times, by kind.
    pub timestamp_repairs: Family<Reason, Counter>,
    /// Pieces put into rings.
    pub pieces: Counter,
    /// Bytes put into rings.
    pub piece_bytes: Counter,
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
    /// HTTP requests answered.
    pub http_requests: Family<Request, Counter>,
    /// Bytes written to viewers.
    pub http_bytes: Counter,
    /// From a piece's arrival in the ring to its first byte's acceptance by a viewer's socket.
    pub delivery_latency: Histogram,
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
        let mut metrics = Self {
            registry: Registry::with_prefix("lhls"),
            publishers: Gauge::default(),
            publishes: Counter::default(),
            reconnects: Counter::default(),
            takeovers: Counter::default(),
            rtmp_rejects: Family::default(),
            rtmp_connections: Gauge::default(),
            rtmp_bytes: Counter::default(),
            tags_dropped: Counter::default(),
            units_dropped: Counter::default(),
            timestamp_repairs: Family::default(),
            pieces: Counter::default(),
            piece_bytes: Counter::default(),
            streams: Gauge::default(),
            viewers: Gauge::default(),
            ring_bytes: Gauge::default(),
            preamble_rejects: Family::default(),
            tls_handshakes: Counter::default(),
            tls_certificate_expiry: Gauge::default(),
            http_connections: Gauge::default(),
            http_requests: Family::default(),
            http_bytes: Counter::default(),
            delivery_latency: Histogram::new(DELIVERY_BUCKETS),
            limits: Family::default(),
            panics: Counter::default(),
            tasks: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    /// The text that Prometheus scrapes (OpenMetrics 1.0).
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing into a string fails only when a metric's own encoder does, which ours do not.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }

    /// Counts a limit that was hit.
    pub fn limit(&self, reason: &'static str) {
        self.limits.get_or_create(&Reason { reason }).inc();
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "publishers",
            "Connections that are publishing",
            self.publishers.clone(),
        );
        registry.register("publishes", "Publishes accepted", self.publishes.clone());
        registry.register(
            "reconnects",
            "Publishes that continued a stream",
            self.reconnects.clone(),
        );
        registry.register(
            "takeovers",
            "Publishes that replaced another publisher",
            self.takeovers.clone(),
        );
        registry.register(
            "rtmp_rejects",
            "RTMP connections refused or broken off",
            self.rtmp_rejects.clone(),
        );
        registry.register(
            "rtmp_connections",
            "Open RTMP connections",
            self.rtmp_connections.clone(),
        );
        registry.register_with_unit(
            "rtmp_received",
            "Read from publishers",
            Unit::Bytes,
            self.rtmp_bytes.clone(),
        );
        registry.register(
            "tags_dropped",
            "Malformed audio and video tags left out",
            self.tags_dropped.clone(),
        );
        registry.register(
            "access_units_dropped",
            "Access units not carried",
            self.units_dropped.clone(),
        );
        registry.register(
            "timestamp_repairs",
            "Repairs of publishers' times",
            self.timestamp_repairs.clone(),
        );
        registry.register("pieces", "Pieces put into rings", self.pieces.clone());
        registry.register_with_unit(
            "pieces",
            "Put into rings",
            Unit::Bytes,
            self.piece_bytes.clone(),
        );
        registry.register(
            "streams",
            "Streams, those included that have just ended",
            self.streams.clone(),
        );
        registry.register(
            "viewers",
            "Connections that are playing",
            self.viewers.clone(),
        );
        registry.register_with_unit(
            "ring",
            "Held by rings",
            Unit::Bytes,
            self.ring_bytes.clone(),
        );
        registry.register(
            "preamble_rejects",
            "Connections that ended before the protocol of their port began: TLS, or the PROXY header",
            self.preamble_rejects.clone(),
        );
        registry.register(
            "tls_handshakes",
            "TLS handshakes made",
            self.tls_handshakes.clone(),
        );
        registry.register_with_unit(
            "tls_certificate_expiry_timestamp",
            "When the TLS certificate expires, since 1970; 0 if there is none",
            Unit::Seconds,
            self.tls_certificate_expiry.clone(),
        );
        registry.register(
            "http_connections",
            "Open HTTP connections",
            self.http_connections.clone(),
        );
        registry.register(
            "http_requests",
            "HTTP requests answered",
            self.http_requests.clone(),
        );
        registry.register_with_unit(
            "http_sent",
            "Written to viewers",
            Unit::Bytes,
            self.http_bytes.clone(),
        );
        registry.register_with_unit(
            "delivery_latency",
            "From a piece's arrival in the ring to its first byte's acceptance by a viewer's socket",
            Unit::Seconds,
            self.delivery_latency.clone(),
        );
        registry.register("limits_hit", "Limits hit, by limit", self.limits.clone());
        registry.register("panics", "Tasks that panicked", self.panics.clone());
        registry.register(
            "tasks",
            "Tasks that have not ended: one or two a connection, and a few of the server's own",
            self.tasks.clone(),
        );
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Content type of [`Metrics::encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Seconds. A waiting viewer on loopback is served in tens of microseconds; a second is as good as lost.
const DELIVERY_BUCKETS: [f64; 14] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0,
];
