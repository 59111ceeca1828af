//! Every option that a file can set: its value, and where that comes from.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use clap::CommandFactory as _;
use serde_json::{Value, json};

use super::{alias_named, environment, read_file};
use crate::cli::Cli;

/// Options that have no place in a file.
const NOT_IN_A_FILE: &[&str] = &["config"];

/// All options by their names in a file.
#[derive(Debug, Default)]
pub(crate) struct Listing(BTreeMap<String, Setting>);

/// One option.
#[derive(Debug)]
struct Setting {
    help: String,
    variable: String,
    /// Whether nobody may see its value.
    is_secret: bool,
    default: String,
    given: Option<Given>,
}

/// A value that somebody gave.
#[derive(Debug)]
struct Given {
    value: toml::Value,
    source: String,
}

impl Listing {
    /// All options as this environment and this file have them.
    pub(crate) fn read(file: Option<&Path>) -> Result<Self> {
        let mut listing = Self::default();
        listing.collect(&Cli::command());
        let table = file.map(read_file).transpose()?.unwrap_or_default();
        for (name, setting) in &mut listing.0 {
            setting.given = given(name, &setting.variable).or_else(|| {
                let (value, file) = (table.get(name)?.clone(), file?);
                let source = format!("the file `{}`", file.display());
                Some(Given { value, source })
            });
        }
        Ok(listing)
    }

    fn collect(&mut self, command: &clap::Command) {
        for argument in command.get_arguments() {
            let name = argument.get_id().as_str();
            let Some(variable) = argument.get_env() else {
                continue;
            };
            if NOT_IN_A_FILE.contains(&name) {
                continue;
            }
            let defaults = argument.get_default_values().iter();
            let defaults: Vec<_> = defaults.map(|value| value.to_string_lossy()).collect();
            let default = defaults.join(",");
            // Commands share options; one of them may know a default.
            let known = self.0.get(name);
            if known.is_some_and(|known| !known.default.is_empty() || default.is_empty()) {
                continue;
            }
            let help = argument.get_help().map(ToString::to_string);
            let setting = Setting {
                help: help.unwrap_or_default().replace('\n', " "),
                variable: variable.to_string_lossy().into_owned(),
                is_secret: argument.is_hide_env_values_set(),
                default,
                given: None,
            };
            self.0.insert(name.to_owned(), setting);
        }
        let subcommands = command.get_subcommands();
        subcommands.for_each(|command| self.collect(command));
    }

    /// A TOML file that sets the same. What is secret, and what nobody set, is in comments.
    pub(crate) fn toml(&self) -> String {
        let mut text = String::new();
        for (name, setting) in &self.0 {
            let (help, variable) = (&setting.help, &setting.variable);
            // Writing to a text cannot fail.
            let _ = match &setting.given {
                Some(given) if setting.is_secret => write!(
                    text,
                    "# {help} ({variable}; from {}, secret)\n#{name} = \"…\"\n\n",
                    given.source
                ),
                Some(given) => write!(
                    text,
                    "# {help} ({variable}; from {})\n{name} = {}\n\n",
                    given.source, given.value
                ),
                None => write!(
                    text,
                    "# {help} ({variable})\n#{name} = {}\n\n",
                    toml::Value::from(setting.default.as_str())
                ),
            };
        }
        text
    }

    /// The same as JSON.
    pub(crate) fn json(&self) -> String {
        let all = self.0.iter().map(|(name, setting)| {
            let (value, source) = match &setting.given {
                Some(given) if setting.is_secret => (Value::Null, given.source.as_str()),
                Some(given) => (json!(given.value), given.source.as_str()),
                None if setting.default.is_empty() => (Value::Null, "nobody"),
                None => (json!(setting.default), "the default"),
            };
            let told = json!({
                "value": value, "source": source, "variable": setting.variable,
                "secret": setting.is_secret, "help": setting.help,
            });
            (name.clone(), told)
        });
        format!("{}\n", Value::Object(all.collect()))
    }
}

/// What the environment says.
fn given(name: &str, variable: &str) -> Option<Given> {
    let own = environment(variable).map(|value| (variable, value));
    let (variable, value) = own.or_else(|| alias_named(name))?;
    Some(Given {
        value: toml::Value::String(value),
        source: format!("the environment, `{variable}`"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_can_be_printed_once() {
        let text = Listing::read(None).unwrap().toml();
        assert!(
            text.contains("(ORDU_LISTEN)\n#listen = \"127.0.0.1:7001\"\n"),
            "{text}"
        );
        assert_eq!(text.matches("\n#data = ").count(), 1);
        let uncommented: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix('#'))
            .filter(|line| !line.starts_with(' '))
            .collect();
        let table: toml::Table = uncommented.join("\n").parse().unwrap();
        assert!(table.len() > 60, "{}", table.len());
    }

    #[test]
    fn what_sounds_secret_is_not_shown() {
        let listing = Listing::read(None).unwrap();
        for (name, setting) in &listing.0 {
            let sounds_secret = ["secret", "api_key", "token", "engine_key", "password"]
                .iter()
                .any(|word| name.contains(word));
            assert!(
                !sounds_secret || setting.is_secret,
                "`{name}` would be printed: give it `hide_env_values = true`"
            );
        }
    }
}
