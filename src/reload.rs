//! SIGHUP: the configuration is read again, and what can be changed while the server runs is; certificates too.

use lhls::cli::{Command, ServeArgs};
use lhls::config::layers::{Layers, Setting};
use lhls::config::secret::Secret;
use lhls::config::{Config, RELOADABLE};
use lhls::server::Reload;
use lhls::systemd::Notifier;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

/// Reloads at every SIGHUP. `current` is what the server was started with; systemd is told when it begins and, with the status beside it,
/// when it is over, whatever came of it.
pub(super) fn on_hangup(
    reload: Reload,
    mut current: Vec<Setting>,
    own_key: Option<(&'static str, Secret)>,
    (systemd, status): (Notifier, String),
) -> std::io::Result<()> {
    let mut hangups = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            systemd.reloading();
            reload.reload_certificates();
            match read() {
                Ok((layers, mut config)) => {
                    if let Some((name, key)) = &own_key {
                        config.access.admit(name, key);
                    }
                    reload.apply(&config);
                    tell(&layers, &current);
                    current = layers.settings;
                }
                Err(text) => {
                    for line in text.lines() {
                        error!("{line}");
                    }
                    error!("the configuration stays as it was: what is new has errors");
                }
            }
            systemd.ready(&status);
        }
    });
    Ok(())
}

fn read() -> Result<(Layers, Config), String> {
    let layers =
        Layers::read(std::env::args_os()).map_err(|error| super::said(error).to_string())?;
    let config = Config::new(serve_args(&layers).ok_or("this command serves nothing")?)
        .map_err(|error| layers.locate(&error))?;
    Ok((layers, config))
}

fn serve_args(layers: &Layers) -> Option<&ServeArgs> {
    match &layers.cli.command {
        Command::Serve(args) => Some(args),
        #[cfg(feature = "demo")]
        Command::Demo(args) => Some(&args.serve),
        _ => None,
    }
}

/// Says what has changed, and which of it needs a restart.
fn tell(layers: &Layers, before: &[Setting]) {
    let (live, fixed): (Vec<&str>, Vec<&str>) = layers
        .changed(before)
        .partition(|name| RELOADABLE.contains(name));
    if live.is_empty() && fixed.is_empty() {
        info!("the configuration has been read again: no option has changed");
    }
    if !live.is_empty() {
        info!(
            "the configuration has been read again; changed: {}",
            live.join(", ")
        );
    }
    if !fixed.is_empty() {
        warn!(
            "changed, but without effect until the server is restarted: {}",
            fixed.join(", ")
        );
    }
}
