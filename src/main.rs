//! The `lhls` program: parse, set up logs and runtime, run, and end with the right exit code.

mod access;
#[cfg(feature = "demo")]
mod commands;
mod config_command;
mod latency;
#[cfg(feature = "manual")]
mod manual;
mod reload;
mod threads;

use std::process::ExitCode;

use clap::error::ErrorKind;
use lhls::cli::{Cli, Command, LogFormat, ServeArgs};
use lhls::config::Config;
use lhls::config::layers::{self, Layers};
use lhls::config::secret::Secret;
use lhls::server::Server;
use lhls::systemd::Notifier;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;
use tracing_subscriber::EnvFilter;

use crate::threads::Threads;

fn main() -> ExitCode {
    let layers = match Layers::read(std::env::args_os()) {
        Ok(layers) => layers,
        // Help and version go to standard output; a bare `lhls` gets the help as well.
        Err(layers::Error::Usage(error))
            if !error.use_stderr()
                || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand =>
        {
            error.exit()
        }
        Err(error) => return usage_error(&said(error)),
    };
    if let Err(error) = set_up_logs(&layers.cli) {
        return usage_error(&error);
    }
    match &layers.cli.command {
        Command::Serve(args) => serve_with(&layers, args, None, |_, _| ()),
        Command::Key(command) => access::key(command),
        Command::Sign(args) => access::sign(args),
        Command::Config(command) => config_command::config(&layers, command),
        Command::Latency(args) => latency::latency(args),
        #[cfg(feature = "manual")]
        Command::Man { command } => manual::man(command.as_deref()),
        #[cfg(feature = "manual")]
        Command::Completions { shell } => manual::completions(*shell),
        #[cfg(feature = "demo")]
        Command::Demo(args) => commands::demo(&layers, args),
        #[cfg(feature = "demo")]
        Command::PublishTest(args) => commands::publish_test(args),
    }
}

/// Runs the server; `started` is told when its ports are open. `own_key` is of the program's own publisher.
fn serve_with(
    layers: &Layers,
    args: &ServeArgs,
    own_key: Option<(&'static str, &Secret)>,
    started: impl FnOnce(&Server, CancellationToken),
) -> ExitCode {
    let mut config = match Config::new(args) {
        Ok(config) => config,
        Err(error) => return usage_error(&anyhow::anyhow!(layers.locate(&error))),
    };
    let own_key = own_key.map(|(name, key)| (name, key.clone()));
    if let Some((name, key)) = &own_key {
        config.access.admit(name, key);
    }
    let (access, hooks) = (config.access.clone(), config.hooks.clone());
    let threads = match Threads::start(config.threads) {
        Ok(threads) => threads,
        Err(error) => return usage_error(&error.into()),
    };
    let systemd = match Notifier::from_environment() {
        Ok(systemd) => systemd,
        Err(error) => return usage_error(&error.into()),
    };
    threads.others.block_on(async {
        let server = match Server::bind(config) {
            Ok(server) => match threads.media() {
                Some(runtime) => server.with_media_on(runtime),
                None => server,
            },
            Err(error) => return usage_error(&error.into()),
        };
        // Before anything is said: whoever waits for the line below may send a signal the moment it comes.
        let shutdown = CancellationToken::new();
        if let Err(error) = cancel_on_signal(shutdown.clone()) {
            return usage_error(&error.into());
        }
        if let Err(error) = leave_on_signal() {
            return usage_error(&error.into());
        }
        let addresses = match (server.rtmp_address(), server.http_address()) {
            (Ok(rtmp), Ok(http)) => {
                format!(
                    "publish to rtmp://{rtmp}/APP/NAME, watch http://{http}/APP/NAME/playlist.m3u8"
                )
            }
            _ => String::new(),
        };
        let settings = layers.settings.clone();
        let told = (systemd.clone(), addresses.clone());
        if let Err(error) = reload::on_hangup(server.reload(), settings, own_key, told) {
            return usage_error(&error.into());
        }
        info!("{addresses}");
        #[cfg(feature = "tls")]
        {
            if let Some(rtmps) = server.rtmps_address() {
                info!("publish with TLS to rtmps://{rtmps}/APP/NAME");
            }
            if let Some(https) = server.https_address() {
                info!("watch with TLS https://{https}/APP/NAME/playlist.m3u8");
            }
        }
        let admin = server
            .admin_address()
            .unwrap_or_else(|| server.http_address());
        if let Ok(admin) = admin {
            info!("status page: http://{admin}/status");
        }
        access::warn(&access, &hooks);
        systemd.ready(&addresses);
        let told = tokio::spawn(systemd.keep_alive(shutdown.clone()));
        started(&server, shutdown.clone());
        server.run(shutdown).await;
        // Without viewers the end comes so fast that systemd might not be told of it.
        let _ = told.await;
        ExitCode::SUCCESS
    })
}

/// Cancels on the first Ctrl-C or SIGTERM, and ends the process at once on the second. Signals are caught from the return of this
/// function on.
fn cancel_on_signal(shutdown: CancellationToken) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        next().await;
        shutdown.cancel();
        next().await;
        std::process::exit(130);
    });
    Ok(())
}

/// Ends the process at once on SIGUSR2, for an upgrade: the streams do not end, so viewers wait for the next server, where they go on when
/// their encoder has come back.
fn leave_on_signal() -> std::io::Result<()> {
    let mut leave = signal(SignalKind::user_defined2())?;
    tokio::spawn(async move {
        if leave.recv().await.is_some() {
            info!("leaving at once; streams are left to the next server");
            std::process::exit(0);
        }
    });
    Ok(())
}

fn set_up_logs(cli: &Cli) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(&cli.log).map_err(|error| {
        anyhow::anyhow!(
            "--log is {:?}: {error}; try info, or lhls=debug,warn",
            cli.log
        )
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match cli.log_format {
        LogFormat::Text => builder
            .with_target(false)
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

/// What is wrong with a command line, the environment or a configuration file.
fn said(error: layers::Error) -> anyhow::Error {
    match error {
        layers::Error::Usage(error) => anyhow::anyhow!(one_line(&error.to_string())),
        layers::Error::File(error) => error.into(),
    }
}

/// What clap says in several paragraphs, less the usage: what is wrong, and its tip if it has one.
fn one_line(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|paragraph| {
        let words: Vec<&str> = paragraph.split_whitespace().collect();
        words.join(" ")
    });
    let wanted = paragraphs.filter(|paragraph| {
        !paragraph.is_empty()
            && !paragraph.starts_with("Usage:")
            && !paragraph.starts_with("For more information")
    });
    let line = wanted.collect::<Vec<_>>().join("; ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

/// One line that says what was wrong, and the exit code for it.
fn usage_error(error: &anyhow::Error) -> ExitCode {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "lhls: {error:#}");
    ExitCode::from(2)
}
