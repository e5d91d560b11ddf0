//! What the system says of this process, under the names that Prometheus clients use everywhere.
//!
//! Read from `/proc` when asked for. On systems without it only the start time is known.

use std::fs;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Description;
use super::text::Text;

/// What [`write`] writes.
pub(super) const DESCRIBED: [Description; 6] = [
    Description {
        name: "process_cpu_seconds_total",
        labels: "",
        help: "Processor time used, in user space and in the system",
    },
    Description {
        name: "process_resident_memory_bytes",
        labels: "",
        help: "Memory in use",
    },
    Description {
        name: "process_open_fds",
        labels: "",
        help: "Open file descriptors",
    },
    Description {
        name: "process_max_fds",
        labels: "",
        help: "File descriptors that may be open",
    },
    Description {
        name: "process_threads",
        labels: "",
        help: "Threads",
    },
    Description {
        name: "process_start_time_seconds",
        labels: "",
        help: "When the process started, in seconds since 1970",
    },
];

/// Notes the time as the process's start; the first call counts.
pub fn started() -> SystemTime {
    static STARTED: OnceLock<SystemTime> = OnceLock::new();
    *STARTED.get_or_init(SystemTime::now)
}

/// Memory in use, in bytes.
pub fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    field(&status, "VmRSS:").map(|kibibytes| kibibytes * 1024)
}

/// Processor time used, in seconds.
pub fn cpu_seconds() -> Option<f64> {
    ticks(&fs::read_to_string("/proc/self/stat").ok()?).map(|ticks| ticks as f64 / TICKS_PER_SECOND)
}

pub(super) fn write(text: &mut Text) {
    let since = started().duration_since(UNIX_EPOCH).unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    // The folder's listing holds the descriptor that lists it.
    let open = fs::read_dir("/proc/self/fd").map(|files| files.count().saturating_sub(1));
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let values = [
        cpu_seconds(),
        field(&status, "VmRSS:").map(|kibibytes| kibibytes as f64 * 1024.0),
        open.ok().map(|count| count as f64),
        field(&limits, "Max open files").map(|count| count as f64),
        field(&status, "Threads:").map(|count| count as f64),
        Some(since.as_secs_f64()),
    ];
    for (description, value) in DESCRIBED.iter().zip(values) {
        let Some(value) = value else { continue };
        let kind = if description.name.ends_with("_total") {
            "counter"
        } else {
            "gauge"
        };
        text.begin(description.name, kind, description.help);
        text.value(description.name, "", value);
    }
}

/// The number behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// User and system time in `/proc/self/stat` (proc(5), fields 14 and 15). The name in front of them may have spaces.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// `USER_HZ`, the same on all Linux systems that Rust knows.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read() {
        let stat = "7 (a b) c) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0 3 0 12345";
        assert_eq!(ticks(stat), Some(175));
        assert_eq!(ticks("7"), None);
        let status = "Name:\tlhls\nVmRSS:\t    2048 kB\nThreads:\t3\n";
        assert_eq!(field(status, "VmRSS:"), Some(2048));
        assert_eq!(field(status, "Threads:"), Some(3));
        let limits = "Max open files            1024                 4096                 files\n";
        assert_eq!(field(limits, "Max open files"), Some(1024));
        assert_eq!(field("Max open files unlimited", "Max open files"), None);
    }
}
