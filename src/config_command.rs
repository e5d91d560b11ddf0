//! `lhls config`: checking a configuration file, and showing what is in effect.

use std::io::Write;
use std::process::ExitCode;

use lhls::cli::{Command, ConfigCommand};
use lhls::config::layers::Layers;
use lhls::config::{Config, example};

use super::{said, usage_error};

/// Prints, and judges by the exit code.
pub(super) fn config(layers: &Layers, command: &ConfigCommand) -> ExitCode {
    let text = match command {
        ConfigCommand::Example => example::render(),
        ConfigCommand::Show(args) => match Config::new(args) {
            Ok(_) => layers.show(),
            Err(error) => return usage_error(&anyhow::anyhow!(layers.locate(&error))),
        },
        ConfigCommand::Check { file } => {
            let line = ["lhls", "serve", "--config"].map(Into::into);
            let layers = match Layers::read(line.into_iter().chain([file.clone().into_os_string()]))
            {
                Ok(layers) => layers,
                Err(error) => return usage_error(&said(error)),
            };
            match &layers.cli.command {
                Command::Serve(args) => match Config::new(args) {
                    Ok(_) => format!("{} is all right\n", file.display()),
                    Err(error) => return usage_error(&anyhow::anyhow!(layers.locate(&error))),
                },
                _ => String::new(),
            }
        }
    };
    let written = std::io::stdout().write_all(text.as_bytes());
    match written {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody reads on, as with `| head`.
        Err(_) => ExitCode::FAILURE,
    }
}
