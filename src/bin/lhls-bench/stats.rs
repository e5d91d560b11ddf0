//! Numbers: a histogram of times, a process's use of the machine as `/proc` tells it, and results as JSON.

use std::fmt;
use std::fs;
use std::time::Duration;

/// Times in nanoseconds, counted in steps of 1.6 % of their size.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    largest: u64,
}

impl Histogram {
    /// Counts one time.
    pub fn record(&mut self, nanoseconds: u64) {
        self.counts[bucket(nanoseconds)] += 1;
        self.total += 1;
        self.largest = self.largest.max(nanoseconds);
    }

    /// How many were counted.
    pub fn len(&self) -> u64 {
        self.total
    }

    /// The time that the given share of all does not exceed, in milliseconds; not a number when nothing was counted.
    pub fn percentile(&self, share: f64) -> f64 {
        if self.total == 0 {
            return f64::NAN;
        }
        let rank = (share * self.total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return lower_bound(index + 1).min(self.largest) as f64 / 1e6;
            }
        }
        self.max()
    }

    /// The longest, in milliseconds.
    pub fn max(&self) -> f64 {
        self.largest as f64 / 1e6
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; (64 - STEP_BITS as usize + 1) << STEP_BITS],
            total: 0,
            largest: 0,
        }
    }
}

fn bucket(value: u64) -> usize {
    let exponent = (63 - (value | 1).leading_zeros()).saturating_sub(STEP_BITS);
    ((exponent as usize) << STEP_BITS) + (value >> exponent) as usize
}

fn lower_bound(bucket: usize) -> u64 {
    let exponent = (bucket >> STEP_BITS).saturating_sub(1);
    ((bucket - (exponent << STEP_BITS)) as u64) << exponent
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Processor time, user and system.
    pub cpu: Duration,
    /// Resident memory, bytes.
    pub resident: u64,
}

impl Usage {
    /// Of the process `pid` and all its threads; zero when there is none.
    pub fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|value| value.trim().strip_suffix("kB"))
            .and_then(|value| value.trim().parse::<u64>().ok())
            .unwrap_or(0);
        Self {
            cpu: Self::by_threads(pid).unwrap_or_else(|| Self::by_ticks(pid)),
            resident: resident * 1024,
        }
    }

    /// Of this process.
    pub fn own() -> Self {
        Self::of(std::process::id())
    }

    /// To the nanosecond, where the kernel keeps such accounts.
    fn by_threads(pid: u32) -> Option<Duration> {
        let mut total = Duration::ZERO;
        for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
            let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            total += Duration::from_nanos(text.split(' ').next()?.parse().ok()?);
        }
        Some(total)
    }

    /// To the hundredth of a second.
    fn by_ticks(pid: u32) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name, in parentheses, may hold anything.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        Duration::from_millis(ticks * 10)
    }
}

/// How busy the whole machine is.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    busy: Duration,
    stolen: Duration,
}

impl Machine {
    /// So far, all cores together.
    pub fn read() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let ticks: Vec<u64> = stat
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(1)
            .filter_map(|field| field.parse().ok())
            .collect();
        let time = |fields: &[usize]| {
            let sum: u64 = fields.iter().filter_map(|&at| ticks.get(at)).sum();
            Duration::from_millis(sum * 10)
        };
        Self {
            // user, nice, system, irq, softirq
            busy: time(&[0, 1, 2, 5, 6]),
            stolen: time(&[7]),
        }
    }

    /// Processor time that processes other than `known` of it have had since `before`, or that the host has kept for itself.
    pub fn disturbance(self, before: Self, known: Duration) -> Duration {
        (self.busy.saturating_sub(before.busy)).saturating_sub(known)
            + self.stolen.saturating_sub(before.stolen)
    }
}

/// What was measured: names and numbers, and lists of them.
#[derive(Debug, Clone)]
pub enum Json {
    /// A number; written as null when it is not finite.
    Number(f64),
    /// A text without characters that need escaping other than quotes and backslashes.
    Text(String),
    /// A list.
    List(Vec<Self>),
    /// Named values in order.
    Object(Vec<(&'static str, Self)>),
}

impl From<f64> for Json {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<u64> for Json {
    fn from(value: u64) -> Self {
        Self::Number(value as f64)
    }
}

impl From<usize> for Json {
    fn from(value: usize) -> Self {
        Self::Number(value as f64)
    }
}

impl From<String> for Json {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(value) if !value.is_finite() => out.write_str("null"),
            Self::Number(value) if value.fract() == 0.0 && value.abs() < 1e15 => {
                write!(out, "{value:.0}")
            }
            Self::Number(value) => write!(out, "{value:.4}"),
            Self::Text(text) => {
                write!(
                    out,
                    "\"{}\"",
                    text.replace('\\', "\\\\").replace('"', "\\\"")
                )
            }
            Self::List(values) => {
                out.write_str("[")?;
                for (index, value) in values.iter().enumerate() {
                    write!(out, "{}{value}", if index > 0 { "," } else { "" })?;
                }
                out.write_str("]")
            }
            Self::Object(values) => {
                out.write_str("{")?;
                for (index, (name, value)) in values.iter().enumerate() {
                    write!(
                        out,
                        "{}\"{name}\":{value}",
                        if index > 0 { "," } else { "" }
                    )?;
                }
                out.write_str("}")
            }
        }
    }
}

const STEP_BITS: u32 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_two_percent() {
        let mut histogram = Histogram::default();
        for value in 1..=100_000 {
            histogram.record(value * 1000);
        }
        for (share, milliseconds) in [(0.5, 50.0), (0.99, 99.0), (0.999, 99.9), (1.0, 100.0)] {
            let found = histogram.percentile(share);
            assert!(
                (found / milliseconds - 1.0).abs() < 0.02,
                "{share}: {found}"
            );
        }
        for value in [0, 1, 63, 64, 65, 1 << 20, u64::MAX] {
            let at = bucket(value);
            assert!(lower_bound(at) <= value && at < Histogram::default().counts.len());
        }
    }
}
