//! `lhls latency`: the viewer of [`lhls::viewer`], wired to the command line.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use lhls::cli::{LatencyArgs, ViewerMode};
use lhls::config::units::Span;
use lhls::viewer::report::{Report, live_line};
use lhls::viewer::{self, MAX_VIEWERS, Mode, Options};
use tokio_util::sync::CancellationToken;

use super::{cancel_on_signal, usage_error};
use crate::threads::{processors, runtime};

/// Watches a stream and prints what was measured. The exit code is 1 if it could not be watched or was too late.
pub(super) fn latency(args: &LatencyArgs) -> ExitCode {
    let options = match options(args) {
        Ok(options) => options,
        Err(error) => return usage_error(&error),
    };
    let runtime = match runtime(processors()) {
        Ok(runtime) => runtime,
        Err(error) => return usage_error(&error.into()),
    };
    let mut progress = Progress::new(args.json);
    let watched = runtime.block_on(async {
        let cancel = CancellationToken::new();
        cancel_on_signal(cancel.clone())?;
        Ok::<_, std::io::Error>(
            viewer::watch(options, cancel, |elapsed, totals| {
                progress.show(elapsed, || live_line(elapsed, totals));
            })
            .await,
        )
    });
    progress.clear();
    match watched {
        Ok(Ok(report)) => conclude(args, &report),
        Ok(Err(error)) => fail(&error.to_string()),
        Err(error) => usage_error(&error.into()),
    }
}

fn options(args: &LatencyArgs) -> anyhow::Result<Options> {
    let in_range = |value: Span, most: u64| value.0.as_secs() <= most;
    if !(1..=MAX_VIEWERS).contains(&args.viewers) {
        anyhow::bail!("--viewers is {}: expected 1 to {MAX_VIEWERS}", args.viewers);
    }
    if !in_range(args.buffer, 60) {
        anyhow::bail!("--buffer is {}: expected 0s to 1m", args.buffer);
    }
    if !in_range(args.duration, 30 * 86_400) {
        anyhow::bail!("--duration is {}: expected at most 720h", args.duration);
    }
    Ok(Options {
        url: args.url.clone(),
        #[cfg(feature = "tls")]
        trust: args.trust.trust(),
        #[cfg(not(feature = "tls"))]
        trust: lhls::dial::Trust::default(),
        mode: match args.mode {
            ViewerMode::Auto => None,
            ViewerMode::Lhls => Some(Mode::Segments),
            ViewerMode::Ll => Some(Mode::Parts),
        },
        viewers: args.viewers,
        duration: (!args.duration.0.is_zero()).then_some(args.duration.0),
        buffer: args.buffer.0,
        decode: !args.no_decode,
    })
}

/// Prints the report, and says what the exit code says.
fn conclude(args: &LatencyArgs, report: &Report) -> ExitCode {
    let text = if args.json {
        report.json()
    } else {
        report.table()
    };
    let mut out = std::io::stdout();
    if writeln!(out, "{}", text.trim_end())
        .and_then(|()| out.flush())
        .is_err()
    {
        return ExitCode::FAILURE;
    }
    if let Some(limit) = args.max_p95 {
        match report.p95() {
            None => return fail("--max-p95 cannot be judged: no latency could be measured"),
            Some((clock, micros)) if micros as f64 > limit.0.as_secs_f64() * 1e6 => {
                return fail(&format!(
                    "p95 is {:.1} ms ({}), more than --max-p95 {limit}",
                    micros as f64 / 1e3,
                    clock.meaning()
                ));
            }
            Some(_) => {}
        }
    }
    match report.errors.as_slice() {
        [] => ExitCode::SUCCESS,
        [error] => fail(error),
        [error, others @ ..] => fail(&format!(
            "{error}; and {} more viewers stopped",
            others.len()
        )),
    }
}

fn fail(text: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "lhls: {text}");
    ExitCode::FAILURE
}

/// The line that is rewritten while it runs on a terminal. Elsewhere it is a line now and then, and nothing when the result is for
/// a machine.
struct Progress {
    terminal: bool,
    quiet: bool,
    shown: u64,
}

impl Progress {
    fn new(json: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self {
            terminal,
            quiet: json && !terminal,
            shown: 0,
        }
    }

    fn show(&mut self, elapsed: std::time::Duration, line: impl FnOnce() -> String) {
        let mut err = std::io::stderr();
        if self.quiet || elapsed.as_millis() < 500 {
            return;
        }
        if self.terminal {
            let _ = write!(err, "\r\x1b[K{}", line());
            let _ = err.flush();
        } else if elapsed.as_secs() >= self.shown + PLAIN_EVERY {
            self.shown = elapsed.as_secs();
            let _ = writeln!(err, "{}", line());
        }
    }

    fn clear(&mut self) {
        if self.terminal && !self.quiet {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// Seconds between lines in a log file.
const PLAIN_EVERY: u64 = 5;
