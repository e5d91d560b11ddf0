//! What was typed, checked: every value in its range, every contradiction named.

mod access;
pub mod example;
pub mod file;
pub mod layers;
pub mod secret;
pub mod units;

use std::net::SocketAddr;
use std::time::Duration;

pub use self::access::Access;
use crate::cli::{OnBusy, ProxiedPort, ServeArgs};
use crate::http::cors::Cors;
use crate::proxy::TrustedProxies;
use crate::{hls, hooks, http, rtmp, stream};

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
        reason: String,
    },
}

impl Error {
    /// The long name of the option whose value is not accepted, if it is one alone.
    pub fn option(&self) -> Option<&'static str> {
        match self {
            Self::Range { option, .. } | Self::Invalid { option, .. } => Some(option),
            Self::Contradiction(_) => None,
        }
    }
}

/// The options whose change takes effect without a restart, by SIGHUP. Those of streams are for streams that start afterwards.
pub const RELOADABLE: &[&str] = &[
    "segment-duration",
    "part-duration",
    "target-duration",
    "announce",
    "retain",
    "retain-bytes",
    "max-streams",
    "publish-timeout",
    "reconnect-window",
    "on-busy",
    "cors-origin",
    "admin-token",
    "https-redirect",
    "keys",
    "publish-open",
    "login-apps",
    "playback-secret",
    "playback-jwks",
    "playback-jwt-claim",
    "playback-jwt-audience",
    "playback-jwt-issuer",
    "hooks-url",
    "hooks-secret",
    "hooks-events",
    "hooks-timeout",
    "hooks-when-down",
    "hooks-play-cache",
    "hooks-viewers-interval",
    "shutdown-timeout",
];

/// Everything the server needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where publishers connect.
    pub rtmp_listen: SocketAddr,
    /// Where viewers connect.
    pub http_listen: SocketAddr,
    /// The encrypted ports, if there are any.
    #[cfg(feature = "tls")]
    pub secure: Option<Secure>,
    /// Ports whose connections begin with a PROXY header when they come from `http.trusted`.
    pub proxied: Vec<ProxiedPort>,
    /// The streams.
    pub streams: stream::registry::Policy,
    /// Who may publish and play.
    pub access: Access,
    /// The operator's own service.
    pub hooks: hooks::Settings,
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

/// Encrypted ports, and what they show who they are with.
#[cfg(feature = "tls")]
#[derive(Debug, Clone)]
pub struct Secure {
    /// Where publishers connect.
    pub rtmps_listen: Option<SocketAddr>,
    /// Where viewers connect.
    pub https_listen: Option<SocketAddr>,
    /// Certificate and key.
    pub files: crate::tls::Files,
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
        different_ports(args)?;
        proxies_make_sense(args)?;
        if let Some(token) = &args.admin_token
            && !admin_token_is_good(token.reveal())
        {
            // Not repeated: it may be a good token with a slip.
            return Err(Error::Contradiction(format!(
                "--admin-token must be {LEAST_TOKEN} to 200 printable ASCII characters without spaces; `openssl rand -hex 16` makes one"
            )));
        }
        let cors = Cors::new(&args.cors_origin).map_err(|value| Error::Invalid {
            option: "cors-origin",
            value,
            reason: "give origins such as https://example.org, or * alone".to_owned(),
        })?;
        let reconnect_window = span("reconnect-window", args.reconnect_window, 0, 600_000)?;
        Ok(Self {
            rtmp_listen: args.rtmp_listen,
            http_listen: args.http_listen,
            #[cfg(feature = "tls")]
            secure: secure(&args.tls)?,
            proxied: args.proxy.proxy_protocol.clone(),
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
            access: Access::new(args)?,
            hooks: access::hooks(args)?,
            rtmp: rtmp::listener::Settings {
                max_connections: number("max-publishers", args.max_publishers, 1, 100_000)?,
                publish_timeout: span("publish-timeout", args.publish_timeout, 5_000, 600_000)?,
                http_port: args.http_listen.port(),
            },
            http: http::Settings {
                cors,
                max_connections: number("max-connections", args.max_connections, 1, 1_000_000)?,
                admin: http::admin::Settings {
                    token: args.admin_token.clone(),
                    elsewhere: args.admin_listen.is_some(),
                },
                trusted: TrustedProxies::new(&args.proxy.trusted_proxy),
                https_redirect: args.proxy.https_redirect,
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

/// The addresses that ports are opened on, each with its option.
fn addresses(args: &ServeArgs) -> Vec<(&'static str, SocketAddr)> {
    let all = [
        ("rtmp-listen", Some(args.rtmp_listen)),
        ("http-listen", Some(args.http_listen)),
        ("admin-listen", args.admin_listen),
        #[cfg(feature = "tls")]
        ("rtmps-listen", args.tls.rtmps_listen),
        #[cfg(feature = "tls")]
        ("https-listen", args.tls.https_listen),
    ];
    all.into_iter()
        .filter_map(|(option, address)| Some((option, address?)))
        .collect()
}

fn different_ports(args: &ServeArgs) -> Result<(), Error> {
    let addresses = addresses(args);
    for (index, (option, address)) in addresses.iter().enumerate() {
        let same = addresses[..index]
            .iter()
            .find(|(_, other)| other == address && address.port() != 0);
        if let Some((other, _)) = same {
            return Err(Error::Contradiction(format!(
                "--{other} and --{option} are both {address}; give them different ports"
            )));
        }
    }
    Ok(())
}

fn proxies_make_sense(args: &ServeArgs) -> Result<(), Error> {
    let proxy = &args.proxy;
    if !proxy.proxy_protocol.is_empty() && proxy.trusted_proxy.is_empty() {
        return Err(Error::Contradiction(
            "--proxy-protocol needs --trusted-proxy: the addresses of those who send the header, as in 10.0.0.0/8".to_owned(),
        ));
    }
    let has_https = addresses(args)
        .iter()
        .any(|(option, _)| *option == "https-listen");
    if proxy.https_redirect.is_some() && !has_https && proxy.trusted_proxy.is_empty() {
        return Err(Error::Contradiction(
            "--https-redirect leads nowhere: give --https-listen too, or --trusted-proxy if a proxy in front speaks HTTPS".to_owned(),
        ));
    }
    if proxy.https_redirect == Some(0) {
        return Err(Error::Invalid {
            option: "https-redirect",
            value: "0".to_owned(),
            reason: "give the port that viewers reach HTTPS at, mostly 443".to_owned(),
        });
    }
    Ok(())
}

#[cfg(feature = "tls")]
fn secure(args: &crate::cli::TlsArgs) -> Result<Option<Secure>, Error> {
    let contradiction = |text: &str| Err(Error::Contradiction(text.to_owned()));
    let listens = args.https_listen.is_some() || args.rtmps_listen.is_some();
    match (&args.tls_cert, &args.tls_key) {
        (None, None) if !listens => Ok(None),
        (Some(certificate), Some(key)) if listens => Ok(Some(Secure {
            rtmps_listen: args.rtmps_listen,
            https_listen: args.https_listen,
            files: crate::tls::Files {
                certificate: certificate.clone(),
                key: key.clone(),
            },
        })),
        (Some(_), Some(_)) => contradiction(
            "--tls-cert and --tls-key are given but no port to use them on; give --https-listen, --rtmps-listen or both",
        ),
        (None, None) => contradiction(
            "--https-listen and --rtmps-listen need a certificate and its key; give --tls-cert FILE and --tls-key FILE",
        ),
        (Some(_), None) => {
            contradiction("--tls-cert is given without --tls-key, the certificate's private key")
        }
        (None, Some(_)) => {
            contradiction("--tls-key is given without --tls-cert, the key's certificate")
        }
    }
}

/// Sets one option of a stream, as a hook may: a string for times and sizes, a number for numbers.
///
/// # Errors
/// What is wrong with it, also that it is no option of a stream.
pub fn set_stream_option(
    policy: &mut stream::registry::Policy,
    name: &str,
    value: &serde_json::Value,
) -> Result<(), Error> {
    let text = match value {
        serde_json::Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    let invalid = |option: &'static str, reason: String| Error::Invalid {
        option,
        value: text.clone(),
        reason,
    };
    let time = |option, least, most| {
        let parsed = text.parse().map_err(|reason| invalid(option, reason))?;
        span(option, parsed, least, most)
    };
    let packager = &mut policy.packager;
    match name {
        "segment-duration" => packager.segment_duration = time("segment-duration", 250, 10_000)?,
        "part-duration" => packager.part_duration = time("part-duration", 20, 1000)?,
        "retain" => packager.retain = time("retain", 10_000, 600_000)?,
        "reconnect-window" => {
            let window = time("reconnect-window", 0, 600_000)?;
            policy.reconnect = stream::Reconnect {
                after_loss: window,
                after_goodbye: window / 3,
            };
        }
        "target-duration" => {
            let seconds = text
                .parse()
                .map_err(|_| invalid("target-duration", "give whole seconds".to_owned()))?;
            packager.target_duration = Some(number("target-duration", seconds, 1, 12)?);
        }
        "on-busy" => {
            policy.take_over = match text.as_str() {
                "takeover" => true,
                "refuse" => false,
                _ => return Err(invalid("on-busy", "expected takeover or refuse".to_owned())),
            }
        }
        _ => {
            return Err(Error::Contradiction(format!(
                "{name:?} is no option of a stream; those are segment-duration, part-duration, target-duration, retain, reconnect-window and on-busy"
            )));
        }
    }
    Ok(())
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
                "--cors-origin is \"\": give origins such as https://example.org, or * alone",
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
        assert!(error.to_string().contains("different ports"));
        for (args, part) in [
            (&["--proxy-protocol", "all"][..], "needs --trusted-proxy"),
            (&["--https-redirect", "443"], "leads nowhere"),
            #[cfg(feature = "tls")]
            (
                &["--https-listen", "127.0.0.1:8443"],
                "--tls-cert FILE and --tls-key FILE",
            ),
            #[cfg(feature = "tls")]
            (
                &["--tls-cert", "a", "--rtmps-listen", "127.0.0.1:1936"],
                "without --tls-key",
            ),
            #[cfg(feature = "tls")]
            (
                &["--tls-cert", "a", "--tls-key", "b"],
                "no port to use them on",
            ),
            #[cfg(feature = "tls")]
            (
                &[
                    "--https-listen",
                    "0.0.0.0:9094",
                    "--tls-cert",
                    "a",
                    "--tls-key",
                    "b",
                ],
                "--http-listen and --https-listen are both",
            ),
        ] {
            let error = config(args).unwrap_err().to_string();
            assert!(error.contains(part), "{args:?}: {error}");
        }
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
