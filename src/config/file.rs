//! The configuration file: TOML whose keys are the long names of `serve`'s options.
//!
//! Nothing is listed here: names, types and checks are those of the command line's own definitions, so an option that is added there is
//! at once one of the file. A table is a prefix: `url` in `[hooks]` is the option `hooks-url`. An option that takes a list of
//! `NAME=VALUE` may be a table of its own: `[keys]`. What a value must be beyond its type is [`super::Config`]'s, for all sources alike.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Command};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::secret::Secret;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read the configuration file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// What is wrong in it, all of it.
    #[error("{}", list(.0))]
    Problems(Vec<Problem>),
}

/// One thing that is wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong and what would be right.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}:{}: {}",
            self.path.display(),
            self.line,
            self.text
        )
    }
}

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Where it was read from.
    pub path: PathBuf,
    /// By the long name of the option.
    pub entries: BTreeMap<String, Entry>,
}

/// The value of one option in a file.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// As they would be typed on the command line; one, but for lists.
    pub values: Vec<String>,
    /// The line, from 1.
    pub line: usize,
}

/// Values may be secrets.
impl fmt::Debug for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} values in line {}",
            self.values.len(),
            self.line
        )
    }
}

impl File {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, or with everything that is wrong in it.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, &text)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// Everything that is wrong in it.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let options = options();
        let mut reader = Reader {
            text,
            path,
            options: &options,
            entries: BTreeMap::new(),
            problems: Vec::new(),
        };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let at = error.span().map_or(0, |span| span.start);
            reader.problem(at, error.message().trim().to_owned());
        }
        // Names that stand in a broken line may be broken too, so nothing is said of them.
        if errors.is_empty() {
            reader.table("", table.get_ref());
        }
        let Reader {
            entries, problems, ..
        } = reader;
        if problems.is_empty() {
            Ok(Self {
                path: path.to_owned(),
                entries,
            })
        } else {
            Err(Error::Problems(problems))
        }
    }
}

/// Every option that may stand in a file, in the order of the help.
pub fn options() -> Vec<Arg> {
    let mut command = <crate::cli::Cli as clap::CommandFactory>::command();
    command.build();
    let serve = command.find_subcommand("serve");
    serve
        .into_iter()
        .flat_map(Command::get_arguments)
        .filter(|arg| {
            !matches!(arg.get_long(), None | Some(CONFIG))
                && !matches!(
                    arg.get_action(),
                    ArgAction::Help
                        | ArgAction::HelpShort
                        | ArgAction::HelpLong
                        | ArgAction::Version
                )
        })
        .cloned()
        .collect()
}

/// What TOML type an option's value has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Switch,
    /// A whole number.
    Number,
    /// A string.
    Text,
    /// Strings.
    List,
}

impl Kind {
    /// That of an option.
    pub fn of(arg: &Arg) -> Self {
        let is = |id: TypeId| arg.get_value_parser().type_id() == id;
        match arg.get_action() {
            ArgAction::SetTrue | ArgAction::SetFalse => Self::Switch,
            ArgAction::Append => Self::List,
            _ if is(TypeId::of::<u16>())
                || is(TypeId::of::<u32>())
                || is(TypeId::of::<u64>())
                || is(TypeId::of::<usize>()) =>
            {
                Self::Number
            }
            _ => Self::Text,
        }
    }
}

/// Whether an option's values are never to be shown.
pub fn is_secret(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == TypeId::of::<Secret>()
}

/// Whether an option takes `NAME=VALUE`, so that it may be a table.
pub fn is_map(arg: &Arg) -> bool {
    Kind::of(arg) == Kind::List
        && arg
            .get_value_names()
            .unwrap_or_default()
            .iter()
            .any(|name| name.contains('='))
}

struct Reader<'a> {
    text: &'a str,
    path: &'a Path,
    options: &'a [Arg],
    entries: BTreeMap<String, Entry>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = format!("{prefix}{}", key.get_ref());
            let option = self
                .options
                .iter()
                .find(|arg| arg.get_long() == Some(name.as_str()));
            match (option, value.get_ref()) {
                (Some(option), DeValue::Table(map)) if is_map(option) => {
                    let values = self.map_values(&name, map);
                    self.entry(option, name, values, key.span().start);
                }
                (_, DeValue::Table(inner)) if self.is_prefix(&format!("{name}-")) => {
                    self.table(&format!("{name}-"), inner);
                }
                (Some(option), _) => {
                    if let Some(values) = self.values(option, &name, value) {
                        self.entry(option, name, values, key.span().start);
                    }
                }
                (None, _) => self.unknown(prefix, key),
            }
        }
    }

    fn is_prefix(&self, prefix: &str) -> bool {
        self.options
            .iter()
            .filter_map(Arg::get_long)
            .any(|long| long.starts_with(prefix))
    }

    fn entry(&mut self, option: &Arg, name: String, values: Vec<String>, at: usize) {
        for value in &values {
            if let Err(reason) = check(option, value) {
                let shown = if is_secret(option) { "given" } else { value };
                self.problem(at, format!("{name} is {shown:?}: {reason}"));
            }
        }
        let line = self.line(at);
        if let Some(first) = self.entries.insert(name.clone(), Entry { values, line }) {
            let first = first.line;
            self.problem(at, format!("{name} is given twice, first in line {first}"));
        }
    }

    /// `NAME = "VALUE"` and `NAME = ["VALUE", …]` as `NAME=VALUE`.
    fn map_values(&mut self, name: &str, map: &DeTable<'_>) -> Vec<String> {
        let mut pairs = Vec::new();
        for (key, value) in map {
            match strings(value.get_ref()) {
                Some(values) => {
                    pairs.extend(
                        values
                            .iter()
                            .map(|value| format!("{}={value}", key.get_ref())),
                    );
                }
                None => {
                    let key_name = key.get_ref();
                    self.problem(
                        key.span().start,
                        format!(
                            "{key_name:?} in [{name}] is {}; expected a string or a list of strings",
                            article(value.get_ref())
                        ),
                    );
                }
            }
        }
        pairs
    }

    fn values(
        &mut self,
        option: &Arg,
        name: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<Vec<String>> {
        let (kind, found) = (Kind::of(option), value.get_ref());
        let values = match (kind, found) {
            (Kind::Switch, DeValue::Boolean(on)) => Some(vec![on.to_string()]),
            (Kind::Number, DeValue::Integer(number)) => {
                i128::from_str_radix(number.as_str(), number.radix())
                    .ok()
                    .map(|number| vec![number.to_string()])
            }
            (Kind::Text, DeValue::String(text)) => Some(vec![text.to_string()]),
            (Kind::List, found) => strings(found),
            _ => None,
        };
        if values.is_none() {
            let expected = match kind {
                Kind::Switch => "true or false",
                Kind::Number => "a whole number",
                Kind::Text => "a string",
                Kind::List => "a string or a list of strings",
            };
            let default = option
                .get_default_values()
                .first()
                .and_then(|value| value.to_str());
            let as_in = default
                .filter(|_| kind == Kind::Text)
                .map(|default| format!(", as in {name} = {default:?}"))
                .unwrap_or_default();
            self.problem(
                value.span().start,
                format!("{name} is {}; expected {expected}{as_in}", article(found)),
            );
        }
        values
    }

    fn unknown(&mut self, prefix: &str, key: &Spanned<toml::de::DeString<'_>>) {
        let name = format!("{prefix}{}", key.get_ref());
        let nearest = self
            .options
            .iter()
            .filter_map(Arg::get_long)
            .min_by_key(|long| distance(&name, long));
        let (shown, table) = (key.get_ref(), prefix.trim_end_matches('-'));
        let place = match table {
            "" => String::new(),
            table => format!(" in [{table}]"),
        };
        let nearest = nearest
            .map(|nearest| match nearest.strip_prefix(prefix) {
                Some(rest) => format!("; the nearest name is {rest:?}"),
                None => format!("; the nearest name is {nearest:?}, outside of any table"),
            })
            .unwrap_or_default();
        self.problem(
            key.span().start,
            format!("there is no option {shown:?}{place}{nearest}"),
        );
    }

    fn problem(&mut self, at: usize, text: String) {
        let line = self.line(at);
        self.problems.push(Problem {
            path: self.path.to_owned(),
            line,
            text: text.split_whitespace().collect::<Vec<_>>().join(" "),
        });
    }

    fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().get(..at).unwrap_or_default();
        before.iter().filter(|&&byte| byte == b'\n').count() + 1
    }
}

/// A string, or all strings of a list.
fn strings(value: &DeValue<'_>) -> Option<Vec<String>> {
    match value {
        DeValue::String(text) => Some(vec![text.to_string()]),
        DeValue::Array(values) => values
            .iter()
            .map(|value| value.get_ref().as_str().map(str::to_owned))
            .collect(),
        _ => None,
    }
}

fn article(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// What the option's own parser says to a value.
fn check(option: &Arg, value: &str) -> Result<(), String> {
    let Some(long) = option.get_long() else {
        return Ok(());
    };
    if Kind::of(option) == Kind::Switch {
        return Ok(());
    }
    let alone = option
        .clone()
        .env(Resettable::Reset)
        .global(false)
        .required(false);
    let command = Command::new("check").no_binary_name(true).arg(alone);
    let parsed = command.try_get_matches_from([format!("--{long}={value}")]);
    parsed.map(drop).map_err(|error| {
        if let Some(source) = error.source() {
            return source.to_string();
        }
        match error.get(ContextKind::ValidValue) {
            Some(ContextValue::Strings(values)) => format!("expected {}", values.join(" or ")),
            _ => "this is not a value it can have".to_owned(),
        }
    })
}

/// Insertions, deletions and replacements that make `a` of `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(LONGEST_NAME).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = *cell;
            left = replaced.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

fn list(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// The option that names the file, which cannot stand in it.
const CONFIG: &str = "config";
/// Characters of a name that are compared with those there are.
const LONGEST_NAME: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<File, Error> {
        File::parse(Path::new("a.toml"), text)
    }

    fn problems(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn options_as_keys() {
        let file = parse("# mine\nretain = \"30s\"\nmax-streams = 1_000\n\non-busy = 'refuse'\n");
        let entries = file.unwrap().entries;
        let values = |name: &str| (entries[name].values.clone(), entries[name].line);
        assert_eq!(values("retain"), (vec!["30s".to_owned()], 2));
        assert_eq!(values("max-streams"), (vec!["1000".to_owned()], 3));
        assert_eq!(values("on-busy"), (vec!["refuse".to_owned()], 5));
    }

    #[test]
    fn a_table_is_a_prefix() {
        let entries = parse("[max]\nstreams = 5\n").unwrap().entries;
        assert_eq!(entries["max-streams"].values, ["5"]);
        assert!(
            problems("max-streams = 4\n[max]\nstreams = 5\n")
                .contains("max-streams is given twice")
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_what_would_be_right() {
        for (text, expected) in [
            (
                "\nmax_streams = 5\n",
                "a.toml:2: there is no option \"max_streams\"; the nearest name is \"max-streams\"",
            ),
            (
                "[max]\nstraems = 5\n",
                "a.toml:2: there is no option \"straems\" in [max]; the nearest name is \"streams\"",
            ),
            (
                "retain = 20\n",
                "a.toml:1: retain is a whole number; expected a string, as in retain = \"20s\"",
            ),
            (
                "max-streams = \"5\"",
                "a.toml:1: max-streams is a string; expected a whole number",
            ),
            ("max-streams = -1", "a.toml:1: max-streams is \"-1\": "),
            (
                "retain = \"20\"\n",
                "a.toml:1: retain is \"20\": a time needs a unit, as in 500ms, 1s or 2m",
            ),
            (
                "on-busy = \"wait\"\n",
                "a.toml:1: on-busy is \"wait\": expected takeover or refuse",
            ),
            ("on-busy = {}\n", "a.toml:1: on-busy is a table"),
            ("config = \"b.toml\"\n", "there is no option \"config\""),
            ("help = true\n", "there is no option \"help\""),
            ("retain = \"20s\nx\"", "a.toml:1: "),
            ("retain", "a.toml:1: "),
        ] {
            let said = problems(text);
            assert!(said.contains(expected), "{text:?}: {said}");
        }
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let said = problems("a = 1\nretain = 5\nb = 2\n");
        assert_eq!(said.lines().count(), 3, "{said}");
    }

    #[test]
    fn a_secret_is_not_repeated() {
        let said = problems("[keys]\n\"live/a\" = 5\n");
        assert!(
            said.contains("\"live/a\" in [keys] is a whole number"),
            "{said}"
        );
    }

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("abc", "ab", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
