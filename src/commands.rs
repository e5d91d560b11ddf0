//! `lhls demo` and `lhls publish-test`: the test picture, wired to the command line.

use std::io::{IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use lhls::cli::{DemoArgs, PublishTestArgs, SignalArgs};
use lhls::config::layers::Layers;
use lhls::config::secret::Secret;
use lhls::demo::publisher::{self, PublishOptions};
use lhls::rtmp::url::Url;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::{cancel_on_signal, serve_with, usage_error};
use crate::threads::{processors, runtime};

/// Runs the server and publishes the test picture to it, through its real RTMP port.
pub(super) fn demo(layers: &Layers, args: &DemoArgs) -> ExitCode {
    let key = match Secret::random() {
        Ok(key) => key,
        Err(error) => return usage_error(&error.into()),
    };
    // Checked before the ports are opened: a wrong option should not start anything.
    if let Err(error) = parse_options(&args.signal, "rtmp://localhost/live/demo") {
        return usage_error(&error);
    }
    let own_key = (DEMO_NAME, &key);
    serve_with(layers, &args.serve, Some(own_key), |server, shutdown| {
        let (Ok(rtmp), Ok(http)) = (server.rtmp_address(), server.http_address()) else {
            return;
        };
        let (rtmp, http) = (reachable(rtmp), reachable(http));
        let url = format!("rtmp://{rtmp}/{DEMO_NAME}?key={}", key.reveal());
        match parse_options(&args.signal, &url) {
            Ok(options) => {
                tokio::spawn(async move {
                    match publisher::publish(options, shutdown.clone()).await {
                        Ok(summary) => {
                            info!(pictures = summary.pictures, "the test picture has ended")
                        }
                        Err(error) => error!(%error, "the test picture has stopped"),
                    }
                    shutdown.cancel();
                });
                introduce(rtmp, http);
            }
            Err(error) => error!(%error, "no test picture"),
        }
    })
}

/// Publishes the test picture to any RTMP server.
pub(super) fn publish_test(args: &PublishTestArgs) -> ExitCode {
    let options = match options(&args.signal, args.url.clone()) {
        Ok(options) => PublishOptions {
            #[cfg(feature = "tls")]
            trust: args.trust.trust(),
            ..options
        },
        Err(error) => return usage_error(&error),
    };
    let runtime = match runtime(processors()) {
        Ok(runtime) => runtime,
        Err(error) => return usage_error(&error.into()),
    };
    runtime.block_on(async {
        let cancel = CancellationToken::new();
        if let Err(error) = cancel_on_signal(cancel.clone()) {
            return usage_error(&error.into());
        }
        info!(
            "publishing the test picture to {}; Ctrl-C ends it",
            options.url
        );
        match publisher::publish(options, cancel).await {
            Ok(summary) => {
                info!(
                    pictures = summary.pictures,
                    skipped = summary.skipped,
                    dropped = summary.dropped,
                    bytes = summary.bytes,
                    encode_ms = summary.mean_encode.as_secs_f64() * 1e3,
                    "done"
                );
                ExitCode::SUCCESS
            }
            Err(error) => {
                error!("{error}");
                ExitCode::FAILURE
            }
        }
    })
}

fn parse_options(signal: &SignalArgs, url: &str) -> anyhow::Result<PublishOptions> {
    options(signal, url.parse()?)
}

fn options(signal: &SignalArgs, url: Url) -> anyhow::Result<PublishOptions> {
    let options = PublishOptions {
        size: (signal.size.0, signal.size.1),
        fps: signal.fps,
        gop: signal.gop.0,
        bitrate: signal.bitrate.saturating_mul(1000),
        audio: !signal.no_audio,
        sound_rate: signal.sound_rate,
        duration: signal.duration.map(|duration| duration.0),
        ..PublishOptions::new(url)
    };
    options.check()?;
    Ok(options)
}

/// The address at which this machine itself reaches a listener.
fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port())
    } else {
        address
    }
}

/// Says what to do with it, on standard output: this is what a person started the command for.
fn introduce(rtmp: SocketAddr, http: SocketAddr) {
    let mut out = std::io::stdout();
    let (bold, plain) = if out.is_terminal() {
        ("\x1b[1m", "\x1b[0m")
    } else {
        ("", "")
    };
    let _ = writeln!(
        out,
        "
  The test picture is live: a clock, so that you can see how late it is where you watch.

  Watch   {bold}http://{http}/live/demo/{plain} in a browser, or
    ffplay -fflags nobuffer -flags low_delay -framedrop http://{http}/live/demo/playlist.m3u8
    mpv --profile=low-latency http://{http}/live/demo/playlist.m3u8
    VLC or any HLS player: http://{http}/live/demo/playlist.m3u8

  Publish your own beside it
    OBS: Settings, Stream, Service Custom, Server {bold}rtmp://{rtmp}/live{plain}, Stream Key {bold}mystream{plain}
         Settings, Output: Keyframe Interval 1 s, Tune zerolatency
    ffmpeg -re -i FILE -c:v libx264 -tune zerolatency -g 30 -c:a aac -f flv rtmp://{rtmp}/live/mystream

  Ctrl-C ends it.
"
    );
    let _ = out.flush();
}

/// The test picture's stream.
const DEMO_NAME: &str = "live/demo";
