//! The Prometheus text format, version 0.0.4.
//!
//! The registry's encoder writes OpenMetrics, which names a counter without its `_total` and has lines of its own; every scraper
//! reads the older form, and so do promtool and people.

use std::collections::HashSet;
use std::fmt::{Display, Write};

use prometheus_client::registry::Registry;

/// A text that grows.
#[derive(Debug)]
pub(super) struct Text(String);

impl Text {
    /// What a registry holds.
    pub(super) fn of(registry: &Registry) -> Self {
        let mut encoded = String::new();
        // Writing into a string fails only when a metric's own encoder does, which ours do not.
        let _ = prometheus_client::encoding::text::encode(&mut encoded, registry);
        Self(classic(&encoded))
    }

    /// Begins a metric.
    pub(super) fn begin(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}.\n# TYPE {name} {kind}\n");
    }

    /// A value of the metric that was begun. `labels` are written as they are: `stream="live/a"`, or nothing.
    pub(super) fn value(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = if labels.is_empty() {
            writeln!(self.0, "{name} {value}")
        } else {
            writeln!(self.0, "{name}{{{labels}}} {value}")
        };
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// OpenMetrics text in the older form.
fn classic(text: &str) -> String {
    let counters: HashSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(what @ ("HELP" | "TYPE")), Some(name), Some(rest)) => {
                let suffix = if counters.contains(name) {
                    "_total"
                } else {
                    ""
                };
                let _ = writeln!(out, "# {what} {name}{suffix} {rest}");
            }
            (Some("#"), ..) => {}
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_get_their_suffix() {
        let text = "# HELP a A counter.\n# TYPE a counter\n# UNIT a bytes\na_total{reason=\"x y\"} 1\n# HELP b A gauge.\n# TYPE b gauge\nb 2\n# EOF\n";
        assert_eq!(
            classic(text),
            "# HELP a_total A counter.\n# TYPE a_total counter\na_total{reason=\"x y\"} 1\n# HELP b A gauge.\n# TYPE b gauge\nb 2\n"
        );
    }
}
