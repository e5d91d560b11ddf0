//! The command line, exactly as typed. Meaning and ranges are [`crate::config`]'s.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::auth::pattern::Pattern;
use crate::config::secret::Secret;
#[cfg(feature = "demo")]
use crate::config::units::Size;
use crate::config::units::{ByteSize, Span};
use crate::hooks::Event;
use crate::proxy::Cidr;
#[cfg(feature = "demo")]
use crate::rtmp::url::Url;
use crate::viewer;

/// A live streaming server: RTMP in, low-latency HLS out.
#[derive(Debug, Parser)]
#[command(name = "lhls", version, about, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How logs look: `text` for people, `json` for machines.
    #[arg(
        long,
        global = true,
        env = "LHLS_LOG_FORMAT",
        value_enum,
        default_value = "text"
    )]
    pub log_format: LogFormat,
    /// What is logged, as in `info` or `lhls=debug,warn`.
    #[arg(long, global = true, env = "LHLS_LOG", default_value = "info")]
    pub log: String,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server.
    Serve(Box<ServeArgs>),
    /// Make stream keys.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Sign a playback address, so that it can be played for some time.
    Sign(SignArgs),
    /// Check a configuration file, or show what is in effect.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Run the server with a built-in test picture to watch.
    #[cfg(feature = "demo")]
    Demo(Box<DemoArgs>),
    /// Publish the built-in test picture to any RTMP server.
    #[cfg(feature = "demo")]
    PublishTest(PublishTestArgs),
    /// Watch a stream without a browser and measure how late it comes.
    ///
    /// A table of latency, jitter, stalls and gaps is printed at the end; a line on standard error tells how it goes. The exit code is 0 if
    /// all went well, 1 if the stream could not be watched to the end or was later than --max-p95, 2 if the command line was wrong.
    Latency(LatencyArgs),
    /// Print the manual page, as `lhls man | man -l -` shows it, or the page of one command.
    #[cfg(feature = "manual")]
    Man {
        /// The command whose page it is.
        command: Option<String>,
    },
    /// Print the completions of a shell, as in `lhls completions bash > /etc/bash_completion.d/lhls`.
    #[cfg(feature = "manual")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// `lhls config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say everything that is wrong in a configuration file. The exit code is 0 if nothing is.
    Check {
        /// The file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print the value of every option as a configuration file, each with where it comes from. Secrets are masked.
    Show(Box<ServeArgs>),
    /// Print a configuration file that names and explains every option.
    Example,
}

/// `lhls key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a stream key, and say how it is used.
    New {
        /// The stream it is for, as in `live/stream`, or `live/*` for all of an application.
        #[arg(default_value = "live/stream")]
        name: Pattern,
        /// Print the key alone.
        #[arg(long)]
        quiet: bool,
    },
}

/// `lhls sign`.
#[derive(Debug, Clone, Args)]
pub struct SignArgs {
    /// The address to sign, of a playlist or a player page: http://HOST:PORT/APP/NAME/playlist.m3u8.
    pub url: String,

    /// How long it shall be valid, rounded up to a full minute, so that those signed within the same minute are the same to a cache.
    #[arg(long, value_name = "TIME", default_value = "1h")]
    pub ttl: Span,

    /// Configuration file with the server's secret.
    #[arg(long, env = "LHLS_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The server's secret.
    #[arg(
        long,
        env = "LHLS_PLAYBACK_SECRET",
        value_name = "SECRET",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub playback_secret: Vec<Secret>,
}

/// How logs look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line of text an event.
    Text,
    /// One JSON object an event.
    Json,
}

/// What happens to a second publisher of a live stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnBusy {
    /// It replaces the first; viewers see a reconnect.
    Takeover,
    /// It is told that the name is taken.
    Refuse,
}

/// What is decided when a hook does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WhenDown {
    /// Nobody may.
    Deny,
    /// What would be decided without a hook.
    Allow,
}

/// Options of the server.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Configuration file (TOML): its keys are the names of these options. The command line comes first, then the environment, then the
    /// file. SIGHUP reads it again.
    #[arg(long, env = "LHLS_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Where publishers connect.
    #[arg(
        long,
        env = "LHLS_RTMP_LISTEN",
        value_name = "ADDR:PORT",
        default_value = "0.0.0.0:1935"
    )]
    pub rtmp_listen: SocketAddr,

    /// Where viewers connect.
    #[arg(
        long,
        env = "LHLS_HTTP_LISTEN",
        value_name = "ADDR:PORT",
        default_value = "0.0.0.0:9094"
    )]
    pub http_listen: SocketAddr,

    /// Least length of a segment: it is cut at the first key frame at or after this. Latency in browsers is about one segment, so
    /// shorter is faster, if the encoder sends key frames as often; costs a playlist reload and a request per viewer and segment
    /// [250ms to 10s].
    #[arg(
        long,
        env = "LHLS_SEGMENT_DURATION",
        value_name = "TIME",
        default_value = "1s"
    )]
    pub segment_duration: Span,

    /// Length of an LL-HLS part, rounded to whole pictures. Latency in hls.js is about twice this plus 0.25 s; it must be at least
    /// twice the viewers' round trip, and each viewer makes two requests a part. Longer ones are on offer too, by `ll.m3u8?pt=MS`
    /// [20ms to 1s].
    #[arg(
        long,
        env = "LHLS_PART_DURATION",
        value_name = "TIME",
        default_value = "67ms"
    )]
    pub part_duration: Span,

    /// EXT-X-TARGETDURATION in whole seconds. By default it is learnt from the first group of pictures, which the first viewer
    /// waits for; a value given here spares that wait, but must not be less than the encoder's key frame interval [1 to 12].
    #[arg(long, env = "LHLS_TARGET_DURATION", value_name = "SECONDS")]
    pub target_duration: Option<u32>,

    /// Segments announced ahead of the growing one. By default as many as let players that start three target durations from the end
    /// start on the growing segment; fewer add latency, more make some players stall [1 to 20].
    #[arg(long, env = "LHLS_ANNOUNCE", value_name = "N")]
    pub announce: Option<usize>,

    /// How long a segment can be fetched after the playlist has forgotten it. Memory per stream is its bit rate times (this plus about
    /// four segments): 8 MB for 20 s of 2.5 Mb/s [10s to 10m].
    #[arg(long, env = "LHLS_RETAIN", value_name = "TIME", default_value = "20s")]
    pub retain: Span,

    /// Bytes a stream may hold in memory; older segments go first. A quarter of it is the most one segment may weigh [4MiB to 4GiB].
    #[arg(
        long,
        env = "LHLS_RETAIN_BYTES",
        value_name = "SIZE",
        default_value = "64MiB"
    )]
    pub retain_bytes: ByteSize,

    /// Stream keys, as NAME=KEY with commas between: who has a key may publish that stream, under any of the forms that encoders know (key
    /// as stream name, NAME?key=KEY, user and password). NAME may be `live/*` for all streams of an application. `lhls key new NAME` makes
    /// one. Better in the file or the environment than on the command line, which other users of this machine can see. Without any,
    /// streams are taken from this machine only.
    #[arg(
        long,
        env = "LHLS_KEYS",
        value_name = "NAME=KEY",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub keys: Vec<Secret>,

    /// Take streams from everybody who reaches the RTMP port, under any name, without keys.
    #[arg(long, env = "LHLS_PUBLISH_OPEN", value_parser = BoolishValueParser::new())]
    pub publish_open: bool,

    /// Applications, with commas between, whose publishers are asked for user and password (rtmp://USER:KEY@HOST/login/NAME). The
    /// password is the key, the user can be anything. Encoders that send no password cannot use them. Only if there are keys.
    #[arg(
        long,
        env = "LHLS_LOGIN_APPS",
        value_name = "APP",
        value_delimiter = ',',
        default_value = "login"
    )]
    pub login_apps: Vec<String>,

    /// Secrets that playback addresses are signed with, with commas between; at least 16 characters each. With one, nothing is played
    /// without a signature: see `lhls sign`. The first signs, all are valid, so that a new one can be put in front of the old.
    #[arg(
        long,
        env = "LHLS_PLAYBACK_SECRET",
        value_name = "SECRET",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub playback_secret: Vec<Secret>,

    /// JSON Web Keys (a file, or a URL that is fetched every five minutes) by which viewers' tokens are checked: HS256, RS256 or ES256.
    /// With them, nothing is played without a token or a signature.
    #[arg(long, env = "LHLS_PLAYBACK_JWKS", value_name = "FILE|URL")]
    pub playback_jwks: Option<String>,

    /// The claim in which a token names the streams it is for: a name, a pattern such as `live/*`, or a list of them.
    #[arg(
        long,
        env = "LHLS_PLAYBACK_JWT_CLAIM",
        value_name = "CLAIM",
        default_value = "streams"
    )]
    pub playback_jwt_claim: String,

    /// What a token's audience (`aud`) must be.
    #[arg(long, env = "LHLS_PLAYBACK_JWT_AUDIENCE", value_name = "TEXT")]
    pub playback_jwt_audience: Option<String>,

    /// What a token's issuer (`iss`) must be.
    #[arg(long, env = "LHLS_PLAYBACK_JWT_ISSUER", value_name = "TEXT")]
    pub playback_jwt_issuer: Option<String>,

    /// Where to tell what happens, and to ask what may (POST of JSON to your own service; docs/security.md).
    #[arg(long, env = "LHLS_HOOKS_URL", value_name = "URL")]
    pub hooks_url: Option<String>,

    /// What the hook's messages are signed with.
    #[arg(
        long,
        env = "LHLS_HOOKS_SECRET",
        value_name = "SECRET",
        hide_env_values = true
    )]
    pub hooks_secret: Option<Secret>,

    /// Events for the hook, with commas between. `publish` and `play` are questions: publishers and viewers wait for the answer.
    #[arg(
        long,
        env = "LHLS_HOOKS_EVENTS",
        value_enum,
        value_delimiter = ',',
        default_value = "publish,publish-start,publish-reconnect,publish-end,viewers,stream-ended"
    )]
    pub hooks_events: Vec<Event>,

    /// How long the hook may take to answer [100ms to 30s].
    #[arg(
        long,
        env = "LHLS_HOOKS_TIMEOUT",
        value_name = "TIME",
        default_value = "3s"
    )]
    pub hooks_timeout: Span,

    /// What is decided when the hook does not answer: nobody may, or keys and signatures decide alone.
    #[arg(long, env = "LHLS_HOOKS_WHEN_DOWN", value_enum, default_value = "deny")]
    pub hooks_when_down: WhenDown,

    /// How long an answer to `play` holds for the same token, or for the same address if there is none [1s to 1h].
    #[arg(
        long,
        env = "LHLS_HOOKS_PLAY_CACHE",
        value_name = "TIME",
        default_value = "60s"
    )]
    pub hooks_play_cache: Span,

    /// How often the hook is told how many are watching, if that has changed [1s to 1h].
    #[arg(
        long,
        env = "LHLS_HOOKS_VIEWERS_INTERVAL",
        value_name = "TIME",
        default_value = "30s"
    )]
    pub hooks_viewers_interval: Span,

    /// Streams at the same time; further publishers are refused [1 to 10000].
    #[arg(
        long,
        env = "LHLS_MAX_STREAMS",
        value_name = "N",
        default_value_t = 1000
    )]
    pub max_streams: usize,

    /// RTMP connections at the same time, publishing or not yet [1 to 100000].
    #[arg(
        long,
        env = "LHLS_MAX_PUBLISHERS",
        value_name = "N",
        default_value_t = 2000
    )]
    pub max_publishers: usize,

    /// HTTP connections at the same time; further ones get a 503. A waiting viewer holds about 16 kB of memory and a file descriptor
    /// (check `ulimit -n`) [1 to 1000000].
    #[arg(
        long,
        env = "LHLS_MAX_CONNECTIONS",
        value_name = "N",
        default_value_t = 10_000
    )]
    pub max_connections: usize,

    /// A publisher that sends nothing for this long is disconnected. Slow sources (a picture every ten seconds) need more than their
    /// interval [5s to 10m].
    #[arg(
        long,
        env = "LHLS_PUBLISH_TIMEOUT",
        value_name = "TIME",
        default_value = "30s"
    )]
    pub publish_timeout: Span,

    /// How long a stream whose publisher has gone stays live for it to come back; its viewers wait, and go on where they were. A publisher
    /// that says goodbye is waited for a third of this. Costs the stream's memory for as long [0s to 10m].
    #[arg(
        long,
        env = "LHLS_RECONNECT_WINDOW",
        value_name = "TIME",
        default_value = "30s"
    )]
    pub reconnect_window: Span,

    /// What happens to a second publisher of a live stream: it takes over, or it is refused.
    #[arg(long, env = "LHLS_ON_BUSY", value_enum, default_value = "takeover")]
    pub on_busy: OnBusy,

    /// Origins of the pages that may play what is served (CORS), with commas between; `*` for any. With more than one, shared caches must
    /// keep answers apart by the page's origin.
    #[arg(
        long,
        env = "LHLS_CORS_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ',',
        default_value = "*"
    )]
    pub cors_origin: Vec<String>,

    /// Where operators connect: /status, /api/v1 and /metrics are then served here only, and no longer to whoever reaches the viewers'
    /// port. From a loopback address, as in 127.0.0.1:9095, they may also send publishers and viewers away without a token.
    #[arg(long, env = "LHLS_ADMIN_LISTEN", value_name = "ADDR:PORT")]
    pub admin_listen: Option<SocketAddr>,

    /// What operators have to show for /status, /api/v1 and /metrics: as `Authorization: Bearer TOKEN`, or as a password with any user
    /// name. At least 16 characters; better in the environment, since others on this machine can see a command line.
    #[arg(
        long,
        env = "LHLS_ADMIN_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub admin_token: Option<Secret>,

    /// How long the server may take to end after Ctrl-C or SIGTERM; what is not finished by then is cut off [0s to 5m].
    #[arg(
        long,
        env = "LHLS_SHUTDOWN_TIMEOUT",
        value_name = "TIME",
        default_value = "5s"
    )]
    pub shutdown_timeout: Span,

    /// Worker threads; by default one for each processor. From two on there are as many again for publishers and for writing what they send
    /// to viewers [1 to 512].
    #[arg(long, env = "LHLS_THREADS", value_name = "N")]
    pub threads: Option<usize>,

    /// Encrypted ports.
    #[cfg(feature = "tls")]
    #[command(flatten)]
    pub tls: TlsArgs,

    /// What stands in front of the server.
    #[command(flatten)]
    pub proxy: ProxyArgs,
}

/// Options about encryption.
#[cfg(feature = "tls")]
#[derive(Debug, Clone, Args)]
pub struct TlsArgs {
    /// Where viewers connect with HTTPS, in HTTP/2 or HTTP/1.1; the plain port stays open beside it. Costs each viewer about 50 kB of
    /// memory, and the server about a millisecond of a core per connection.
    #[arg(long, env = "LHLS_HTTPS_LISTEN", value_name = "ADDR:PORT")]
    pub https_listen: Option<SocketAddr>,

    /// Where publishers connect with RTMPS; the plain port stays open beside it.
    #[arg(long, env = "LHLS_RTMPS_LISTEN", value_name = "ADDR:PORT")]
    pub rtmps_listen: Option<SocketAddr>,

    /// The certificate for HTTPS and RTMPS with those that lead to its root, in PEM form. When the file changes, and on SIGHUP, it is
    /// read again; connections that are open are not touched.
    #[arg(long, env = "LHLS_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// The certificate's private key, in PEM form.
    #[arg(long, env = "LHLS_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
}

/// Options about load balancers and reverse proxies.
#[derive(Debug, Clone, Args)]
pub struct ProxyArgs {
    /// Send those who come without encryption to https://, at this port (mostly 443). /healthz and /metrics are answered all the same.
    /// Some players do not follow redirects on every reload, so it is better to give out https:// addresses.
    #[arg(long, env = "LHLS_HTTPS_REDIRECT", value_name = "PORT")]
    pub https_redirect: Option<u16>,

    /// Proxies and load balancers whose word about a client's address is believed: X-Forwarded-For or Forwarded in requests, and PROXY
    /// headers where --proxy-protocol says so. Addresses or ranges, separated by commas.
    #[arg(
        long,
        env = "LHLS_TRUSTED_PROXY",
        value_name = "CIDR",
        value_delimiter = ','
    )]
    pub trusted_proxy: Vec<Cidr>,

    /// Ports whose connections begin with a PROXY header (version 1 or 2) when they come from a --trusted-proxy; others come without.
    #[arg(
        long,
        env = "LHLS_PROXY_PROTOCOL",
        value_name = "PORTS",
        value_enum,
        value_delimiter = ','
    )]
    pub proxy_protocol: Vec<ProxiedPort>,
}

/// A port that a load balancer may stand before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProxiedPort {
    /// All of them.
    All,
    /// `--rtmp-listen`.
    Rtmp,
    /// `--rtmps-listen`.
    Rtmps,
    /// `--http-listen`.
    Http,
    /// `--https-listen`.
    Https,
}

/// Whom to believe when connecting to a server with TLS.
#[cfg(feature = "tls")]
#[derive(Debug, Clone, Args)]
pub struct TrustArgs {
    /// Believe servers that these certificates vouch for (PEM), instead of those that the system's root certificates vouch for.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Believe every server, whatever certificate it shows.
    #[arg(long, conflicts_with = "ca")]
    pub insecure: bool,
}

#[cfg(feature = "tls")]
impl TrustArgs {
    /// What they mean.
    pub fn trust(&self) -> crate::dial::Trust {
        use crate::dial::Trust;
        match &self.ca {
            _ if self.insecure => Trust::Anybody,
            Some(file) => Trust::File(file.clone()),
            None => Trust::System,
        }
    }
}

/// Options of the test picture.
#[cfg(feature = "demo")]
#[derive(Debug, Clone, Args)]
pub struct SignalArgs {
    /// Width and height in pixels: even numbers, 160x90 to 3840x2160; costs CPU in proportion.
    #[arg(long, value_name = "WIDTHxHEIGHT", default_value = "640x360")]
    pub size: Size,
    /// Pictures a second [1 to 120].
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub fps: u32,
    /// Time between key frames, rounded to whole pictures [up to 60s].
    #[arg(long, value_name = "TIME", default_value = "1s")]
    pub gop: Span,
    /// The most the video may take, in kb/s; the picture is simple and often takes less [50 to 50000].
    #[arg(long, value_name = "KBPS", default_value_t = 1500)]
    pub bitrate: u32,
    /// Leave the tone out.
    #[arg(long)]
    pub no_audio: bool,
    /// Samples a second that the tone really takes, as from a sound card whose clock is not the computer's; it always says 48000
    /// [47000 to 49000].
    #[arg(long, value_name = "HZ", default_value_t = 48_000)]
    pub sound_rate: u32,
    /// Stop after this long.
    #[arg(long, value_name = "TIME")]
    pub duration: Option<Span>,
}

/// `lhls demo`.
#[cfg(feature = "demo")]
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// The server's options.
    #[command(flatten)]
    pub serve: ServeArgs,
    /// The picture's options.
    #[command(flatten)]
    pub signal: SignalArgs,
}

/// `lhls publish-test`.
#[cfg(feature = "demo")]
#[derive(Debug, Clone, Args)]
pub struct PublishTestArgs {
    /// Where to: `rtmp://HOST[:PORT]/APP/NAME`, or `rtmps://`.
    pub url: Url,
    /// Whom to believe.
    #[cfg(feature = "tls")]
    #[command(flatten)]
    pub trust: TrustArgs,
    /// The picture's options.
    #[command(flatten)]
    pub signal: SignalArgs,
}

/// `lhls latency`.
#[derive(Debug, Clone, Args)]
pub struct LatencyArgs {
    /// The playlist: http://HOST:PORT/APP/NAME/playlist.m3u8, or ll.m3u8, or any other server's; or https://, in HTTP/2 if the server can.
    pub url: viewer::url::Url,

    /// Whom to believe.
    #[cfg(feature = "tls")]
    #[command(flatten)]
    pub trust: TrustArgs,

    /// As what kind of player: `lhls` reads segments as they grow, `ll` reads parts, `auto` does what the playlist is made for.
    #[arg(long, value_enum, default_value = "auto")]
    pub mode: ViewerMode,

    /// How long, from the first picture on; 0s for until Ctrl-C.
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub duration: Span,

    /// Viewers at the same time, all counted together. They share this machine's processors: with hundreds, it is they that are late
    /// [1 to 1000].
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub viewers: usize,

    /// End with exit code 1 if 95 of 100 pictures are not in time.
    #[arg(long, value_name = "TIME")]
    pub max_p95: Option<Span>,

    /// What the player, whose stalls are counted, keeps before it shows a picture [0s to 1m].
    #[arg(long, value_name = "TIME", default_value = "100ms")]
    pub buffer: Span,

    /// Do not look for the demo's time strip in the pictures, which saves the decoding; latency is then by PROGRAM-DATE-TIME.
    #[arg(long)]
    pub no_decode: bool,

    /// Print one JSON object instead of the table.
    #[arg(long)]
    pub json: bool,
}

/// What `lhls latency` behaves as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ViewerMode {
    /// Parts if the playlist has them.
    Auto,
    /// Segments as they grow.
    Lhls,
    /// Parts.
    Ll,
}
