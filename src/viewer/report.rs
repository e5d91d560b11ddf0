//! What was measured, as a table for people and as one JSON object for machines.
//!
//! All times in JSON are milliseconds. What was not measured is `null`, never zero.

use std::fmt::Write as _;
use std::time::Duration;

use super::Mode;
use super::stats::{Clock, Distribution, Totals};
use super::url::Url;
use crate::config::units::Span;

/// The result of watching.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was watched.
    pub url: Url,
    /// As what kind of player.
    pub mode: Mode,
    /// How many viewers there were.
    pub viewers: usize,
    /// From the start of the command to its end.
    pub elapsed: Duration,
    /// The buffer of the player whose stalls were counted.
    pub buffer: Duration,
    /// Whether the stream ended before the time was over.
    pub ended: bool,
    /// Why viewers stopped before the time was over.
    pub errors: Vec<String>,
    /// The sums of all viewers.
    pub totals: Totals,
}

impl Report {
    /// The 95th percentile of the latency that is the result, in microseconds, and its clock.
    pub fn p95(&self) -> Option<(Clock, i64)> {
        let clock = self.totals.headline()?;
        Some((clock, self.totals.latency.get(&clock)?.quantile(0.95)?))
    }

    /// A table for people.
    pub fn table(&self) -> String {
        let totals = &self.totals;
        let mut table = Table(String::new());
        table.row("stream", format_args!("{}", self.url));
        table.row(
            "watched",
            format_args!(
                "as {}, {} viewer{}, {:.1} s{}",
                self.mode.meaning(),
                self.viewers,
                if self.viewers == 1 { "" } else { "s" },
                self.elapsed.as_secs_f64(),
                if self.ended {
                    ", until the stream ended"
                } else {
                    ""
                }
            ),
        );
        for (name, at) in [
            ("playlist", &totals.playlist_at),
            ("first byte", &totals.byte_at),
            ("first picture", &totals.picture_at),
        ] {
            table.row(name, format_args!("after {}", self.start_time(at)));
        }
        table.text("\n  milliseconds    ");
        for column in ["p50", "p95", "p99", "max", "mean", "number"] {
            table.text(&format!("{column:>9}"));
        }
        table.text("\n");
        let headline = totals.headline();
        for clock in Clock::ALL {
            if let Some(distribution) = totals.latency.get(&clock) {
                let mark = match clock {
                    clock if Some(clock) == headline => "latency",
                    Clock::Picture => "by picture",
                    Clock::Sent => "by stamp",
                    Clock::Date => "by date",
                };
                table.times(mark, distribution, clock.meaning());
                if totals.waiting.count() > 0
                    && let Some(delivery) = totals.delivery.get(&clock)
                {
                    table.times("  delivery", delivery, self.mode.without_waiting());
                }
            }
        }
        if totals.waiting.count() > 0 {
            table.times("waiting", &totals.waiting, self.mode.waiting());
        }
        table.times("jitter", &totals.jitter, "from one picture to the next");
        match headline {
            Some(Clock::Date) => table.text(
                "  The latency trusts the server's PROGRAM-DATE-TIME, and that its clock and this machine's agree.\n",
            ),
            Some(_) => {}
            None => table.text(
                "  No latency: the stream has neither the demo's time strip nor PROGRAM-DATE-TIME.\n",
            ),
        }
        table.text("\n");
        table.row("stalls", format_args!("{}", self.stalls()));
        table.row("gaps", format_args!("{}", gaps(totals)));
        table.row("http", format_args!("{}", statuses(totals)));
        table.row(
            "read",
            format_args!(
                "{} playlists, {} segments, {} parts, {} pictures ({} key, {} already there at the start), {:.2} MB, {} kb/s",
                totals.playlists,
                totals.segments,
                totals.parts,
                totals.units,
                totals.keys,
                totals.caught_up,
                totals.bytes as f64 / 1e6,
                bit_rate(totals).map_or_else(|| "?".to_owned(), |rate| format!("{:.0}", rate / 1e3)),
            ),
        );
        if totals.undecoded > 0 {
            table.row(
                "decoder",
                format_args!(
                    "was too slow {} times; each left out a group of pictures",
                    totals.undecoded
                ),
            );
        }
        for error in &self.errors {
            table.row("stopped", format_args!("{error}"));
        }
        table.0
    }

    /// The same and more as one JSON object, on one line.
    pub fn json(&self) -> String {
        let totals = &self.totals;
        let mut json = Object::new();
        json.text("url", &self.url.to_string());
        json.text("mode", self.mode.name());
        json.number("viewers", self.viewers as f64);
        json.number("playing", totals.playing as f64);
        json.number("seconds", self.elapsed.as_secs_f64());
        json.raw("ended", if self.ended { "true" } else { "false" });
        json.raw("start_ms", &{
            let mut start = Object::new();
            start.raw("playlist", &times(&totals.playlist_at));
            start.raw("first_byte", &times(&totals.byte_at));
            start.raw("first_picture", &times(&totals.picture_at));
            start.close()
        });
        match totals.headline() {
            Some(clock) => json.text("latency_by", clock.name()),
            None => json.raw("latency_by", "null"),
        }
        for (key, by_clock) in [
            ("latency_ms", &totals.latency),
            ("delivery_ms", &totals.delivery),
        ] {
            let mut object = Object::new();
            for clock in Clock::ALL {
                let distribution = by_clock.get(&clock);
                object.raw(
                    clock.name(),
                    &distribution.map_or_else(|| "null".to_owned(), times),
                );
            }
            json.raw(key, &object.close());
        }
        json.raw("waiting_ms", &times(&totals.waiting));
        json.raw("jitter_ms", &times(&totals.jitter));
        json.raw("stalls", &{
            let mut stalls = Object::new();
            stalls.number("count", totals.stalls.count() as f64);
            stalls.number("total_ms", totals.stalls.sum() / 1e3);
            stalls.number("longest_ms", totals.stalls.max().unwrap_or(0) as f64 / 1e3);
            stalls.number("buffer_ms", self.buffer.as_secs_f64() * 1e3);
            stalls.close()
        });
        json.raw("gaps", &{
            let mut gaps = Object::new();
            gaps.number("total", totals.gaps() as f64);
            for (name, count) in kinds(totals) {
                gaps.number(&name.replace(' ', "_"), count as f64);
            }
            gaps.close()
        });
        json.number("wrong_hints", totals.wrong_hints as f64);
        json.raw("http", &{
            let mut http = Object::new();
            for (status, count) in &totals.statuses {
                http.number(&status.to_string(), *count as f64);
            }
            http.close()
        });
        json.number("failures", totals.failures as f64);
        for (key, value) in [
            ("playlists", totals.playlists),
            ("segments", totals.segments),
            ("parts", totals.parts),
            ("pictures", totals.units),
            ("key_pictures", totals.keys),
            ("pictures_there_at_start", totals.caught_up),
            ("other_units", totals.other_units),
            ("undecoded", totals.undecoded),
            ("bytes", totals.bytes),
        ] {
            json.number(key, value as f64);
        }
        match bit_rate(totals) {
            Some(rate) => json.number("bits_per_second", rate.round()),
            None => json.raw("bits_per_second", "null"),
        }
        let errors: Vec<_> = self.errors.iter().map(|error| quoted(error)).collect();
        json.raw("errors", &format!("[{}]", errors.join(",")));
        json.close()
    }

    fn start_time(&self, at: &Distribution) -> String {
        match (at.quantile(0.5), at.max()) {
            (Some(median), Some(max)) if self.viewers > 1 => format!(
                "{} ms in the median, {} ms at the latest",
                millis(median as f64),
                millis(max as f64)
            ),
            (_, Some(max)) => format!("{} ms", millis(max as f64)),
            _ => "never".to_owned(),
        }
    }

    fn stalls(&self) -> String {
        let (stalls, buffer) = (&self.totals.stalls, Span(self.buffer));
        match stalls.max() {
            None => format!("none, in a player with {buffer} of buffer"),
            Some(longest) => format!(
                "{}, together {} ms, the longest {} ms, in a player with {buffer} of buffer",
                stalls.count(),
                millis(stalls.sum()),
                millis(longest as f64)
            ),
        }
    }
}

impl Mode {
    /// Its name in JSON and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Segments => "lhls",
            Self::Parts => "ll",
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::Segments => "an LHLS player (segments as they grow)",
            Self::Parts => "an LL-HLS player (parts)",
        }
    }

    fn waiting(self) -> &'static str {
        match self {
            Self::Segments => "of it: for the rest of the segment",
            Self::Parts => "of it: for the rest of the part",
        }
    }

    fn without_waiting(self) -> &'static str {
        match self {
            Self::Segments => "the same without waiting for the rest of the segment",
            Self::Parts => "the same without waiting for the rest of the part",
        }
    }
}

/// One line about the state, for while it runs.
pub fn live_line(elapsed: Duration, totals: &Totals) -> String {
    let mut line = format!("{:4.0} s  ", elapsed.as_secs_f64());
    if totals.playing == 0 {
        line.push_str("waiting for the first picture");
        return line;
    }
    match totals
        .headline()
        .and_then(|clock| totals.latency.get(&clock))
    {
        Some(latency) => {
            line.push_str("latency");
            for (name, share) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)] {
                let micros = latency.quantile(share).unwrap_or(0);
                let _ = write!(line, "  {name} {} ms", millis(micros as f64));
            }
        }
        None => line.push_str("latency unknown yet"),
    }
    let _ = write!(
        line,
        "  |  {} pictures, {} stalls, {} gaps",
        totals.units,
        totals.stalls.count(),
        totals.gaps()
    );
    line
}

struct Table(String);

impl Table {
    fn row(&mut self, name: &str, value: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.0, "  {name:<14}{value}");
    }

    fn text(&mut self, text: &str) {
        self.0.push_str(text);
    }

    fn times(&mut self, name: &str, distribution: &Distribution, meaning: &str) {
        let _ = write!(self.0, "  {name:<16}");
        let quantiles = [0.5, 0.95, 0.99].map(|share| distribution.quantile(share));
        let values = quantiles.into_iter().chain([distribution.max()]);
        let values = values.map(|micros| micros.map(|micros| micros as f64));
        for value in values.chain([distribution.mean()]) {
            let _ = match value {
                Some(micros) => write!(self.0, "{:>9}", millis(micros)),
                None => write!(self.0, "{:>9}", "-"),
            };
        }
        let _ = writeln!(self.0, "{:>9}   {meaning}", distribution.count());
    }
}

/// A JSON object being written (RFC 8259).
struct Object(String);

impl Object {
    fn new() -> Self {
        Self("{".to_owned())
    }

    fn raw(&mut self, key: &str, value: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        let _ = write!(self.0, "{}:{value}", quoted(key));
    }

    fn text(&mut self, key: &str, value: &str) {
        self.raw(key, &quoted(value));
    }

    /// Three digits behind the point are microseconds, where it is milliseconds.
    fn number(&mut self, key: &str, value: f64) {
        self.raw(key, &number(value));
    }

    fn close(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

fn times(distribution: &Distribution) -> String {
    if distribution.count() == 0 {
        return "null".to_owned();
    }
    let mut object = Object::new();
    for (key, share) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
        let micros = distribution.quantile(share).unwrap_or(0);
        object.number(key, micros as f64 / 1e3);
    }
    object.number("min", distribution.min().unwrap_or(0) as f64 / 1e3);
    object.number("max", distribution.max().unwrap_or(0) as f64 / 1e3);
    object.number("mean", distribution.mean().unwrap_or(0.0) / 1e3);
    object.number("count", distribution.count() as f64);
    object.close()
}

fn number(value: f64) -> String {
    if !value.is_finite() {
        return "null".to_owned();
    }
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0" } else { text }.to_owned()
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Milliseconds with as many digits as mean something.
fn millis(micros: f64) -> String {
    let millis = micros / 1e3;
    match millis.abs() {
        m if m < 10.0 => format!("{millis:.2}"),
        m if m < 1000.0 => format!("{millis:.1}"),
        _ => format!("{millis:.0}"),
    }
}

fn kinds(totals: &Totals) -> [(&'static str, u64); 8] {
    [
        ("segments missed", totals.segments_missed),
        ("parts missed", totals.parts_missed),
        ("playlists back", totals.playlists_back),
        ("continuity", totals.faults.continuity_gaps),
        ("packets repeated", totals.faults.repeats),
        ("sync lost", totals.faults.sync_losses),
        ("pictures missed", totals.pictures_missed),
        ("times back", totals.times_back),
    ]
}

fn gaps(totals: &Totals) -> String {
    let found: Vec<_> = kinds(totals)
        .into_iter()
        .chain([("wrong hints", totals.wrong_hints)])
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{name}: {count}"))
        .collect();
    if found.is_empty() {
        "none: media sequence, parts, continuity counters and time stamps are complete".to_owned()
    } else {
        found.join(", ")
    }
}

fn statuses(totals: &Totals) -> String {
    let statuses = totals.statuses.iter();
    let mut parts: Vec<_> = statuses
        .map(|(status, count)| format!("{status}: {count}"))
        .collect();
    if totals.failures > 0 {
        parts.push(format!("failed: {}", totals.failures));
    }
    parts.join(", ")
}

/// Bits of segments and parts a second of media.
fn bit_rate(totals: &Totals) -> Option<f64> {
    let seconds = totals.media_time.as_secs_f64();
    (seconds > 0.0).then(|| totals.media_bytes as f64 * 8.0 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut totals = Totals::default();
        totals.answered(200);
        totals.answered(404);
        for millis in 1..=100 {
            totals.latency(Clock::Date, millis * 1000, 500);
        }
        totals.stalls.add(7000);
        totals.faults.continuity_gaps = 2;
        Report {
            url: "http://h:1/a\"b".replace('"', "%22").parse().unwrap(),
            mode: Mode::Parts,
            viewers: 2,
            elapsed: Duration::from_millis(10_500),
            buffer: Duration::from_millis(100),
            ended: false,
            errors: vec!["a \"line\"\nand\tanother \\".to_owned()],
            totals,
        }
    }

    #[test]
    fn json_holds_what_was_measured() {
        let json = report().json();
        for part in [
            r#""url":"http://h:1/a%22b""#,
            r#""mode":"ll","viewers":2,"playing":0,"seconds":10.5,"ended":false"#,
            r#""latency_by":"date""#,
            r#""latency_ms":{"picture":null,"sent":null,"date":{"p50":50,"p95":95,"p99":99,"min":1,"max":100,"mean":50.5,"count":100}}"#,
            r#""delivery_ms":{"picture":null,"sent":null,"date":{"p50":49.5,"#,
            r#""stalls":{"count":1,"total_ms":7,"longest_ms":7,"buffer_ms":100}"#,
            r#""gaps":{"total":2,"segments_missed":0,"#,
            r#""http":{"200":1,"404":1}"#,
            r#""errors":["a \"line\"\nand\u0009another \\"]"#,
        ] {
            assert!(json.contains(part), "{part} is missing:\n{json}");
        }
        assert!(!json.contains('\n'));
    }

    #[test]
    fn table_says_what_to_trust() {
        let table = report().table();
        for part in [
            "LL-HLS",
            "continuity: 2",
            "200: 1, 404: 1",
            "trusts",
            "1, together 7.00 ms",
        ] {
            assert!(table.contains(part), "{part} is missing:\n{table}");
        }
        assert_eq!(report().p95(), Some((Clock::Date, 95_000)));
    }

    #[test]
    fn nothing_measured() {
        let report = Report {
            totals: Totals::default(),
            ..report()
        };
        assert!(report.table().contains("No latency"));
        assert!(report.json().contains(r#""latency_by":null"#));
        assert_eq!(report.p95(), None);
        assert!(live_line(Duration::ZERO, &report.totals).contains("waiting"));
    }
}
