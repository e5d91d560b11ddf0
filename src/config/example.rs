//! The example of a configuration file: every option with its help, commented out, so that it says what is there and changes nothing.
//!
//! It is made from the command line's definitions; `docs/lhls.toml` is a copy of it, which a test compares.

use std::fmt::Write as _;

use clap::Arg;

use super::file::{self, Kind};
use super::layers::quoted;

/// The file's text.
pub fn render() -> String {
    let mut text = String::from(HEAD);
    for option in file::options() {
        let Some(name) = option.get_long() else {
            continue;
        };
        text.push('\n');
        let help = option.get_long_help().or_else(|| option.get_help());
        let mut help = help.map(ToString::to_string).unwrap_or_default();
        // The help of a command line has no full stop at its end.
        if !help.ends_with('.') {
            help.push('.');
        }
        for line in wrap(&help) {
            let _ = writeln!(text, "# {line}");
        }
        let _ = writeln!(text, "#{name} = {}", sample(&option));
        if file::is_map(&option) {
            let _ = writeln!(
                text,
                "# Or, at the file's end, as a table [{name}] of lines such as \"live/stream\" = \"…\"."
            );
        }
    }
    text
}

/// The default, or something of the right type.
fn sample(option: &Arg) -> String {
    let placeholder = option
        .get_value_names()
        .and_then(|names| names.first())
        .map_or("…", |name| name.as_str());
    let defaults = option.get_default_values();
    let values = defaults.iter().map(|value| value.to_string_lossy());
    let delimiter = option.get_value_delimiter().unwrap_or('\n');
    let mut values: Vec<String> = values
        .flat_map(|value| {
            value
                .split(delimiter)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect();
    let kind = Kind::of(option);
    if values.is_empty() {
        values.push(
            if kind == Kind::Number {
                "2"
            } else {
                placeholder
            }
            .to_owned(),
        );
    }
    match kind {
        Kind::Switch => "false".to_owned(),
        Kind::Number => values.concat(),
        Kind::Text => quoted(&values.concat()),
        Kind::List => {
            let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
            format!("[{}]", values.join(", "))
        }
    }
}

fn wrap(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

const HEAD: &str = "\
# Configuration of lhls: `lhls serve --config FILE`, or LHLS_CONFIG=FILE.
#
# Names are those of the command line's options, which come first; then the environment; then this file. A table is a prefix:
# `url` in `[hooks]` is `hooks-url`. `lhls config check FILE` says what is wrong, `lhls config show --config FILE` what is in effect.
# What is commented out here is the default, or an example if there is none.
";
const WIDTH: usize = 118;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The options are those of the default features.
    #[cfg(all(feature = "demo", feature = "jwt", feature = "tls"))]
    #[test]
    fn the_copy_in_the_documentation_is_up_to_date() {
        let copy = include_str!("../../docs/lhls.toml");
        assert!(
            copy == render(),
            "docs/lhls.toml is not what `lhls config example` prints: write it anew"
        );
    }

    #[test]
    fn it_names_every_option_and_changes_nothing() {
        let text = render();
        let file = file::File::parse(Path::new("lhls.toml"), &text).unwrap();
        assert!(file.entries.is_empty());
        for option in file::options() {
            let name = option.get_long().unwrap();
            assert!(text.contains(&format!("\n#{name} = ")), "{name}");
        }
    }

    #[test]
    fn what_has_a_default_can_be_used_as_it_stands() {
        for option in file::options() {
            if option.get_default_values().is_empty() {
                continue;
            }
            let line = format!("{} = {}\n", option.get_long().unwrap(), sample(&option));
            file::File::parse(Path::new("lhls.toml"), &line).unwrap();
        }
    }
}
