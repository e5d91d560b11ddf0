//! `lhls man` and `lhls completions`: manual pages and shell completions, written from the same declarations as `--help`.
//!
//! Packages run them once when they are built. Feature `manual`.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;
use lhls::cli::Cli;

use super::usage_error;

/// Prints the manual page of the program, or of one of its commands.
pub(super) fn man(command: Option<&str>) -> ExitCode {
    // Built as one tree, so that a command's page has the program's name in it, and the options that all commands share.
    let mut program = Cli::command();
    program.build();
    let page = match command {
        None => program,
        Some(name) => match program.find_subcommand(name).cloned() {
            Some(found) => found,
            None => {
                let names: Vec<&str> = program
                    .get_subcommands()
                    .map(clap::Command::get_name)
                    .collect();
                return usage_error(&anyhow::anyhow!(
                    "there is no command {name}; there are {}",
                    names.join(", ")
                ));
            }
        },
    };
    let mut text = Vec::new();
    conclude(
        clap_mangen::Man::new(page)
            .render(&mut text)
            .and_then(|()| io::stdout().write_all(&text)),
    )
}

/// Prints what makes a shell complete the program's options.
pub(super) fn completions(shell: Shell) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "lhls", &mut text);
    conclude(io::stdout().write_all(&text))
}

fn conclude(written: io::Result<()>) -> ExitCode {
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => usage_error(&error.into()),
    }
}
