//! What was typed, checked: every value in its range, every contradiction named.

pub mod secret;
pub mod units;

use std::net::SocketAddr;
use std::time::Duration;

use hyper::header::HeaderValue;

use crate::cli::{OnBusy, ServeArgs};
use crate::{hls, http, rtmp, stream};

/// Why the server does not start. One line each, naming the option and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value outside its range.
    #[error("--{option} is {value}; it must be from {least} to {most}")]
    Range {
        /// The option's long name.
        option: &'static str,
        /// What was given.
        value: String,
        /// Least allowed value.
        least: String,
        /// Greatest allowed value.
        most: String,
    },
    /// Two options that cannot both be.
    #[error("{0}")]
    Contradiction(String),
    /// A value that cannot be read.
    #[error("--{option} is {value:?}: {reason}")]
    Invalid {
        /// The option's long name.
        option: &'static str,
        /// What was given.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Everything the server needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where publishers connect.
    pub rtmp_listen: SocketAddr,
    /// Where viewers connect.
    pub http_listen: SocketAddr,
    /// The streams.
    pub streams: stream::registry::Policy,
    /// The RTMP side.
    pub rtmp: rtmp::listener::Settings,
    /// The HTTP side.
    pub http: http::Settings,
    /// Where operators connect, if not to the port of the viewers.
    pub admin_listen: Option<SocketAddr>,
    /// How long the end may take.
    pub shutdown_timeout: Duration,
    /// Worker threads, if not one for each processor.
    pub threads: Option<usize>,
}

impl Config {
    /// Checks what was typed.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn new(args: &ServeArgs) -> Result<Self, Error> {
        let segment_duration = span("segment-duration", args.segment_duration, 250, 10_000)?;
        let target_duration = args
            .target_duration
            .map(|n| number("target-duration", n, 1, 12))
            .transpose()?;
        if let Some(target) = target_duration
            && segment_duration >= Duration::from_millis(u64::from(target) * 1000 + 500)
        {
            return Err(Error::Contradiction(format!(
                "--target-duration {target} is less than --segment-duration {}: segments would be longer than the playlist may say",
                args.segment_duration
            )));
        }
        if args.rtmp_listen == args.http_listen && args.rtmp_listen.port() != 0 {
            return Err(Error::Contradiction(format!(
                "--rtmp-listen and --http-listen are both {}; give them different ports",
                args.rtmp_listen
            )));
        }
        if let Some(admin) = args.admin_listen.filter(|admin| admin.port() != 0)
            && [args.rtmp_listen, args.http_listen].contains(&admin)
        {
            return Err(Error::Contradiction(format!(
                "--admin-listen is {admin}, which is --http-listen or --rtmp-listen too; give it a port of its own"
            )));
        }
        if let Some(token) = &args.admin_token
            && !admin_token_is_good(token.reveal())
        {
            // Not repeated: it may be a good token with a slip.
            return Err(Error::Contradiction(format!(
                "--admin-token must be {LEAST_TOKEN} to 200 printable ASCII characters without spaces; `openssl rand -hex 16` makes one"
            )));
        }
        let cors_origin = HeaderValue::from_str(&args.cors_origin)
            .ok()
            .filter(|value| !value.is_empty());
        let cors_origin = cors_origin.ok_or_else(|| Error::Invalid {
            option: "cors-origin",
            value: args.cors_origin.clone(),
            reason: "give an origin such as https://example.org, or *",
        })?;
        let reconnect_window = span("reconnect-window", args.reconnect_window, 0, 600_000)?;
        Ok(Self {
            rtmp_listen: args.rtmp_listen,
            http_listen: args.http_listen,
            streams: stream::registry::Policy {
                packager: hls::packager::Settings {
                    segment_duration,
                    part_duration: span("part-duration", args.part_duration, 20, 1000)?,
                    target_duration,
                    announce: args
                        .announce
                        .map(|n| number("announce", n, 1, 20))
                        .transpose()?,
                    retain: span("retain", args.retain, 10_000, 600_000)?,
                    retain_bytes: size("retain-bytes", args.retain_bytes, 4 << 20, 4 << 30)?,
                },
                max_streams: number("max-streams", args.max_streams, 1, 10_000)?,
                take_over: args.on_busy == OnBusy::Takeover,
                reconnect: stream::Reconnect {
                    after_loss: reconnect_window,
                    after_goodbye: reconnect_window / 3,
                },
            },
            rtmp: rtmp::listener::Settings {
                max_connections: number("max-publishers", args.max_publishers, 1, 100_000)?,
                publish_timeout: span("publish-timeout", args.publish_timeout, 5_000, 600_000)?,
                http_port: args.http_listen.port(),
            },
            http: http::Settings {
                cors_origin,
                max_connections: number("max-connections", args.max_connections, 1, 1_000_000)?,
                admin: http::admin::Settings {
                    token: args.admin_token.clone(),
                    elsewhere: args.admin_listen.is_some(),
                },
            },
            admin_listen: args.admin_listen,
            shutdown_timeout: span("shutdown-timeout", args.shutdown_timeout, 0, 300_000)?,
            threads: args
                .threads
                .map(|n| number("threads", n, 1, 512))
                .transpose()?,
        })
    }
}

/// Checks that a number is in its range.
pub fn number<T: PartialOrd + std::fmt::Display>(
    option: &'static str,
    value: T,
    least: T,
    most: T,
) -> Result<T, Error> {
    if value < least || value > most {
        let (value, least, most) = (value.to_string(), least.to_string(), most.to_string());
        return Err(Error::Range {
            option,
            value,
            least,
            most,
        });
    }
    Ok(value)
}

/// Checks that a time is in its range, given in milliseconds.
pub fn span(
    option: &'static str,
    value: units::Span,
    least: u64,
    most: u64,
) -> Result<Duration, Error> {
    let [least, most] = [least, most].map(|millis| units::Span(Duration::from_millis(millis)));
    number(option, value, least, most).map(|span| span.0)
}

fn size(option: &'static str, value: units::ByteSize, least: u64, most: u64) -> Result<u64, Error> {
    number(option, value, units::ByteSize(least), units::ByteSize(most)).map(|size| size.0)
}

fn admin_token_is_good(token: &str) -> bool {
    (LEAST_TOKEN..=200).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Characters of a token. Tries are not limited, so it must be too long to be guessed: 64 bits, when they are hexadecimal digits.
const LEAST_TOKEN: usize = 16;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        serve: ServeArgs,
    }

    fn config(args: &[&str]) -> Result<Config, Error> {
        let line = Line::try_parse_from(["lhls"].iter().chain(args)).unwrap();
        Config::new(&line.serve)
    }

    #[test]
    fn defaults_are_in_range() {
        config(&[]).unwrap();
    }

    #[test]
    fn what_is_out_of_range_is_named_with_the_range() {
        for (args, text) in [
            (
                ["--segment-duration", "100ms"],
                "--segment-duration is 100ms; it must be from 250ms to 10s",
            ),
            (
                ["--retain-bytes", "1KiB"],
                "--retain-bytes is 1KiB; it must be from 4MiB to 4GiB",
            ),
            (
                ["--announce", "0"],
                "--announce is 0; it must be from 1 to 20",
            ),
            (
                ["--target-duration", "13"],
                "--target-duration is 13; it must be from 1 to 12",
            ),
            (
                ["--cors-origin", ""],
                "--cors-origin is \"\": give an origin such as https://example.org, or *",
            ),
        ] {
            assert_eq!(config(&args).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn contradictions_are_named() {
        let error = config(&["--segment-duration", "3s", "--target-duration", "2"]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("--target-duration 2 is less than --segment-duration 3s")
        );
        let error = config(&[
            "--rtmp-listen",
            "127.0.0.1:9094",
            "--http-listen",
            "127.0.0.1:9094",
        ])
        .unwrap_err();
        assert!(error.to_string().contains("different ports"));
        let error = config(&["--admin-listen", "0.0.0.0:9094"]).unwrap_err();
        assert!(error.to_string().contains("a port of its own"));
    }

    #[test]
    fn tokens_that_could_be_guessed_are_refused_and_not_repeated() {
        for token in [
            "",
            "hunter2",
            "with spaces in between",
            "ümlaute-und-viel-mehr",
        ] {
            let error = config(&["--admin-token", token]).unwrap_err().to_string();
            assert!(error.contains("16 to 200 printable"), "{error}");
            assert!(token.is_empty() || !error.contains(token), "{error}");
        }
        let good = config(&["--admin-token", "0123456789abcdef"]).unwrap();
        assert!(!format!("{good:?}").contains("0123456789abcdef"));
    }
}
