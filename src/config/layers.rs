//! Where a value comes from: the command line, else the environment, else the configuration file, else the default.
//!
//! A file's values become the defaults of the command line's own definitions, which are then read once more. So there is one order of
//! precedence, one set of parsers and one set of messages. `lhls config show` prints the outcome.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches};

use super::file::{self, Entry, File, Kind};
use crate::cli::Cli;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line, or the environment; or help was asked for.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    /// The configuration file.
    #[error(transparent)]
    File(#[from] file::Error),
}

/// A command line with the environment and the configuration file beneath it.
#[derive(Debug)]
pub struct Layers {
    /// What was typed, and what stands for what was not.
    pub cli: Cli,
    /// The file, if there is one.
    pub path: Option<PathBuf>,
    /// The value of every option a file can have, in the order of the help; empty for commands that take no file.
    pub settings: Vec<Setting>,
}

/// The effective value of an option.
#[derive(Clone, PartialEq, Eq)]
pub struct Setting {
    /// The option's long name.
    pub name: String,
    /// As typed; several for lists, none if it is not set.
    pub values: Vec<String>,
    /// Where they come from.
    pub source: Source,
    kind: Kind,
    map: bool,
    secret: bool,
}

/// Values may be secrets.
impl std::fmt::Debug for Setting {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} from {:?}", self.name, self.source)
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// It was typed.
    CommandLine,
    /// This variable of the environment.
    Environment(String),
    /// This line of the file.
    File(PathBuf, usize),
    /// The built-in default, which may be that it is not set.
    Default,
}

impl Layers {
    /// Reads a command line, its first word the program's name, and the file it names.
    ///
    /// # Errors
    /// What is wrong with either. Asking for help is an error too, as it is with clap.
    pub fn read<I, T>(line: I) -> Result<Self, Error>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString>,
    {
        let line: Vec<OsString> = line.into_iter().map(Into::into).collect();
        let matches = Cli::command().try_get_matches_from(&line)?;
        let (mut names, typed) = innermost(&matches);
        let options = options_of(&names);
        if !options.iter().any(|arg| arg.get_long() == Some("config")) {
            return Ok(Self {
                cli: Cli::from_arg_matches(&matches)?,
                path: None,
                settings: Vec::new(),
            });
        }
        let path = typed.get_one::<PathBuf>("config").cloned();
        let file = path.as_deref().map(File::read).transpose()?;
        let entries = file.map(|file| file.entries).unwrap_or_default();
        names.reverse();
        let matches = with_defaults(Cli::command(), names, &entries).try_get_matches_from(&line)?;
        let settings = settings(&options, innermost(&matches).1, path.as_deref(), &entries);
        Ok(Self {
            cli: Cli::from_arg_matches(&matches)?,
            path,
            settings,
        })
    }

    /// Where a value that [`super::Config`] does not accept comes from, put before what is wrong with it.
    pub fn locate(&self, error: &super::Error) -> String {
        let option = error.option().unwrap_or_default();
        let setting = self.settings.iter().find(|setting| setting.name == option);
        match setting.map(|setting| &setting.source) {
            Some(Source::File(path, line)) => format!("{}:{line}: {error}", path.display()),
            Some(Source::Environment(variable)) => format!("{error} (from {variable})"),
            _ => error.to_string(),
        }
    }

    /// The names of the options whose values differ.
    pub fn changed<'a>(&'a self, before: &'a [Setting]) -> impl Iterator<Item = &'a str> {
        self.settings
            .iter()
            .filter(|setting| {
                let old = before.iter().find(|old| old.name == setting.name);
                old.is_none_or(|old| old.values != setting.values)
            })
            .map(|setting| setting.name.as_str())
    }

    /// All settings as a configuration file, each with its source; secrets are masked.
    pub fn show(&self) -> String {
        let mut text = String::new();
        let entry = |setting: &Setting| match setting.values.is_empty() {
            true => format!("#{}", setting.name),
            false => setting.toml(),
        };
        let width = self.settings.iter().map(|setting| entry(setting).len());
        let width = width.filter(|&width| width <= 50).max().unwrap_or_default();
        for setting in &self.settings {
            let entry = entry(setting);
            let source = match &setting.source {
                Source::CommandLine => "command line".to_owned(),
                Source::Environment(variable) => format!("environment, {variable}"),
                Source::File(path, line) => format!("{}:{line}", path.display()),
                Source::Default if setting.values.is_empty() => "not set".to_owned(),
                Source::Default => "default".to_owned(),
            };
            let _ = writeln!(text, "{entry:width$}  # {source}");
        }
        text
    }
}

impl Setting {
    fn toml(&self) -> String {
        let shown: Vec<String> = self.values.iter().map(|value| self.masked(value)).collect();
        let value = match (self.kind, shown.as_slice()) {
            (Kind::List, _) => format!(
                "[{}]",
                shown
                    .iter()
                    .map(|value| quoted(value))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            (Kind::Text, [value]) => quoted(value),
            (_, values) => values.concat(),
        };
        format!("{} = {value}", self.name)
    }

    fn masked(&self, value: &str) -> String {
        match (self.secret, self.map, value.split_once('=')) {
            (false, ..) => value.to_owned(),
            (true, true, Some((name, _))) => format!("{name}={MASK}"),
            (true, ..) => MASK.to_owned(),
        }
    }
}

/// A TOML string.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// The names and the matches of the subcommand that was asked for.
fn innermost(matches: &ArgMatches) -> (Vec<String>, &ArgMatches) {
    let (mut names, mut matches) = (Vec::new(), matches);
    while let Some((name, inner)) = matches.subcommand() {
        names.push(name.to_owned());
        matches = inner;
    }
    (names, matches)
}

/// The command with a file's values as its defaults. `names` is the way to the innermost subcommand, first name last.
fn with_defaults(
    mut command: Command,
    mut names: Vec<String>,
    entries: &BTreeMap<String, Entry>,
) -> Command {
    let ids = command.get_arguments().filter_map(|arg| {
        let entry = entries.get(arg.get_long()?)?;
        Some((arg.get_id().clone(), entry.values.clone()))
    });
    for (id, values) in ids.collect::<Vec<_>>() {
        command = command.mut_arg(id, |arg| arg.default_values(values));
    }
    match names.pop() {
        Some(name) => {
            command.mut_subcommand(name, |command| with_defaults(command, names, entries))
        }
        None => command,
    }
}

/// The options of a subcommand, those included that every one has.
fn options_of(names: &[String]) -> Vec<Arg> {
    let mut command = Cli::command();
    command.build();
    let innermost = names
        .iter()
        .try_fold(&command, |command, name| command.find_subcommand(name));
    let arguments = innermost.into_iter().flat_map(Command::get_arguments);
    arguments.cloned().collect()
}

fn settings(
    options: &[Arg],
    matches: &ArgMatches,
    path: Option<&Path>,
    entries: &BTreeMap<String, Entry>,
) -> Vec<Setting> {
    let mut of_files = file::options();
    of_files.retain(|arg| options.iter().any(|own| own.get_id() == arg.get_id()));
    of_files
        .iter()
        .map(|arg| {
            let id = arg.get_id().as_str();
            let name = arg.get_long().unwrap_or_default().to_owned();
            let raw = matches.get_raw(id).into_iter().flatten();
            let values: Vec<String> = raw
                .map(|value| value.to_string_lossy().into_owned())
                .collect();
            let source = match matches.value_source(id) {
                Some(ValueSource::CommandLine) => Source::CommandLine,
                Some(ValueSource::EnvVariable) => Source::Environment(variable(arg)),
                _ => match (path, entries.get(&name)) {
                    (Some(path), Some(entry)) => Source::File(path.to_owned(), entry.line),
                    _ => Source::Default,
                },
            };
            Setting {
                values,
                source,
                kind: Kind::of(arg),
                map: file::is_map(arg),
                secret: file::is_secret(arg),
                name,
            }
        })
        .collect()
}

fn variable(arg: &Arg) -> String {
    arg.get_env()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Stands for a secret.
const MASK: &str = "********";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted_so_that_toml_reads_it_back() {
        for text in ["", "a\"b\\c", "tab\tand\u{7f}", "é"] {
            let line = format!("x = {}", quoted(text));
            let table = toml::de::DeTable::parse(&line).unwrap();
            let value = table.get_ref().values().next().unwrap();
            assert_eq!(value.get_ref().as_str(), Some(text));
        }
    }

    #[test]
    fn settings_show_their_sources() {
        let layers = Layers::read(["lhls", "config", "show", "--retain", "40s"]).unwrap();
        let text = layers.show();
        let line = |name: &str| {
            let mut lines = text.lines();
            lines
                .find(|line| line.starts_with(name))
                .unwrap()
                .to_owned()
        };
        assert!(line("retain =").starts_with("retain = \"40s\" "));
        assert!(line("retain =").ends_with("# command line"));
        assert!(line("max-streams").starts_with("max-streams = 1000 "));
        assert!(line("max-streams").ends_with("# default"));
        assert!(line("#target-duration").ends_with("# not set"));
    }

    #[test]
    fn other_commands_have_no_settings() {
        let layers = Layers::read(["lhls", "latency", "http://h/a/b/playlist.m3u8"]).unwrap();
        assert!(layers.settings.is_empty());
    }
}
