//! Figures of single streams, labelled with their public names.
//!
//! Names come from publishers, so there is a bound: the streams that started first are named, at most [`MAX_NAMED`] of them, and the
//! rest is only counted. Each figure is a gauge of the moment, computed when asked for; what has to add up over time is in the
//! server's own counters, without labels.

use super::Description;
use super::text::Text;

/// What is known of one live stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// Public name. Its characters need no escaping: [`crate::stream::name::StreamName`].
    pub name: String,
    /// Connections that are playing.
    pub viewers: usize,
    /// Whether somebody publishes; else its publisher is waited for.
    pub publishing: bool,
    /// Audio and video of the last seconds, in bits per second.
    pub bit_rate: f64,
    /// Pictures per second, over the last seconds.
    pub frame_rate: f64,
    /// Time from key frame to key frame, in seconds, if known.
    pub gop: Option<f64>,
    /// Bytes in its ring.
    pub ring_bytes: u64,
    /// Things that are wrong with it.
    pub warnings: usize,
}

/// A metric and how it is read from the figures.
type Column = (Description, fn(&Figures) -> Option<f64>);

const COLUMNS: [Column; 7] = [
    (
        describe(
            "lhls_stream_publishing",
            "1 while somebody publishes the stream, 0 while its publisher is waited for",
        ),
        |stream| Some(f64::from(u8::from(stream.publishing))),
    ),
    (
        describe(
            "lhls_stream_viewers",
            "Connections that are playing the stream",
        ),
        |stream| Some(stream.viewers as f64),
    ),
    (
        describe(
            "lhls_stream_bytes_per_second",
            "Bytes of audio and video received each second, over the last few",
        ),
        |stream| Some(stream.bit_rate / 8.0),
    ),
    (
        describe(
            "lhls_stream_frames_per_second",
            "Pictures received over the last seconds",
        ),
        |stream| Some(stream.frame_rate),
    ),
    (
        describe(
            "lhls_stream_gop_seconds",
            "Time from the last key frame but one to the last",
        ),
        |stream| stream.gop,
    ),
    (
        describe("lhls_stream_ring_bytes", "Bytes in the stream's ring"),
        |stream| Some(stream.ring_bytes as f64),
    ),
    (
        describe(
            "lhls_stream_warnings",
            "Things wrong with the stream; the status page says what",
        ),
        |stream| Some(stream.warnings as f64),
    ),
];

const UNNAMED: Description = Description {
    name: "lhls_streams_unnamed",
    labels: "",
    help: "Live streams beyond the number that have metrics of their own",
};

/// What [`write`] writes.
pub(super) const DESCRIBED: [Description; 8] = [
    COLUMNS[0].0,
    COLUMNS[1].0,
    COLUMNS[2].0,
    COLUMNS[3].0,
    COLUMNS[4].0,
    COLUMNS[5].0,
    COLUMNS[6].0,
    UNNAMED,
];

/// Writes the figures of the first streams, and how many more there are. The order is the caller's.
pub(super) fn write(figures: &[Figures], text: &mut Text) {
    let named = &figures[..figures.len().min(MAX_NAMED)];
    for (description, read) in COLUMNS {
        text.begin(description.name, "gauge", description.help);
        for stream in named {
            if let Some(value) = read(stream) {
                text.value(
                    description.name,
                    &format!("stream=\"{}\"", stream.name),
                    value,
                );
            }
        }
    }
    text.begin(UNNAMED.name, "gauge", UNNAMED.help);
    text.value(UNNAMED.name, "", figures.len() - named.len());
}

const fn describe(name: &'static str, help: &'static str) -> Description {
    Description {
        name,
        labels: "stream",
        help,
    }
}

/// Streams with metrics of their own: seven series each, so a scrape stays below 100 kB whatever publishers do.
pub const MAX_NAMED: usize = 100;
