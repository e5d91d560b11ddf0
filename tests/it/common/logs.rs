//! The log of all servers of this process, kept for the tests to search. Lines carry the peer's address or the stream's name, which
//! is how a test finds its own.

use std::io::{self, Write};
use std::sync::{Mutex, Once};

use tracing_subscriber::EnvFilter;

use super::eventually;

/// Starts keeping the log. Any number of times.
pub(crate) fn capture() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new("lhls=debug"))
            .with_ansi(false)
            .with_writer(|| Line(Vec::new()))
            .init();
    });
}

/// The lines so far that hold all of these texts.
pub(crate) fn lines(texts: &[&str]) -> Vec<String> {
    let lines = LINES.lock().unwrap();
    let matches = |line: &&String| texts.iter().all(|text| line.contains(text));
    lines.iter().filter(matches).cloned().collect()
}

/// Waits for a line that holds all of these texts.
pub(crate) async fn wait_for(texts: &[&str]) -> String {
    let what = format!("a log line with {texts:?}");
    eventually(&what, || lines(texts).pop()).await
}

struct Line(Vec<u8>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let line = String::from_utf8_lossy(&self.0).into_owned();
        if let Ok(mut lines) = LINES.lock() {
            lines.push(line);
        }
    }
}

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
