//! Where option values come from, in this order: command line, environment, file, default.
//!
//! The values of the file become the defaults of the command line's own definition, so that there
//! is one parser, one set of messages, and no second place that knows the options. The environment
//! names of existing AI Horde deployments count as defaults too, above the file.

mod listing;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Arg, CommandFactory as _, FromArgMatches as _};

use crate::cli::Cli;

pub(crate) use listing::Listing;

/// Environment names of existing deployments → the option they set.
///
/// # Source
/// `community.md` § 13.
const ALIASES: &[(&str, &str)] = &[
    ("HORDE_URL", "public_url"),
    ("HORDE_TITLE", "title"),
    ("HORDE_EMAIL", "contact"),
    ("HORDE_CONTACT_EMAIL", "contact"),
    ("HORDE_LOGO", "logo"),
    ("HORDE_REPOSITORY", "repository"),
    ("HORDE_HTML_TERMS", "terms_page"),
    ("HORDE_HTML_PRIVACY", "privacy_page"),
    ("HORDE_IMAGE_COMPVIS_REFERENCE", "model_reference"),
    ("HORDE_IMAGE_DIFFUSERS_REFERENCE", "extra_model_reference"),
    ("HORDE_IMAGE_LLM_REFERENCE", "text_model_reference"),
    ("ADMINS", "admins"),
    ("KUDOS_TRUST_THRESHOLD", "trust_threshold"),
    ("secret_key", "secret_key"),
    ("HORDE_TEST_APIKEYS", "test_apikeys"),
    ("IP_CHECKER", "ip_check_url"),
    ("DISCORD_PAUSED_NOTICE_WEBHOOK", "moderator_webhook"),
    ("DISCORD_PROBLEM_USER_WEBHOOK", "moderator_webhook"),
    ("HORDE_TEST_RATELIMIT_DISABLED", "no_rate_limits"),
    ("GOOGLE_CLIENT_ID", "google_client_id"),
    ("GOOGLE_CLIENT_SECRET", "google_client_secret"),
    // As existing deployments spell it.
    ("GLOOGLE_CLIENT_SECRET", "google_client_secret"),
    ("DISCORD_CLIENT_ID", "discord_client_id"),
    ("DISCORD_CLIENT_SECRET", "discord_client_secret"),
    ("GITHUB_CLIENT_ID", "github_client_id"),
    ("GITHUB_CLIENT_SECRET", "github_client_secret"),
    ("RECAPTCHA_SITE_KEY", "captcha_site_key"),
    ("RECAPTCHA_SECRET_KEY", "captcha_secret_key"),
    ("AWS_ACCESS_KEY_ID", "s3_access_key_id"),
    ("SHARED_AWS_ACCESS_ID", "s3_access_key_id"),
    ("AWS_SECRET_ACCESS_KEY", "s3_secret_access_key"),
    ("SHARED_AWS_ACCESS_KEY", "s3_secret_access_key"),
    ("AWS_SESSION_TOKEN", "s3_session_token"),
    ("AWS_REGION", "s3_region"),
    ("AWS_DEFAULT_REGION", "s3_region"),
];

/// The bucket of existing deployments that name none.
const R2_BUCKET: &str = "stable-horde";

/// Reads the command line with everything that stands behind it.
pub(crate) fn parse(arguments: Vec<OsString>) -> Result<Cli> {
    let file = match config_path(&arguments) {
        Some(path) => read_file(&path)?,
        None => toml::Table::new(),
    };
    let mut known = Vec::new();
    let command = with_defaults(Cli::command(), &file, &mut known);
    if let Some(key) = file.keys().find(|key| !known.contains(*key)) {
        bail!(
            "the configuration file sets `{key}`, which is no option; `ordu config print` lists them"
        );
    }
    let matches = command.get_matches_from(arguments);
    Cli::from_arg_matches(&matches).map_err(|error| error.exit())
}

/// The value of `--config`, found before everything else can be read.
fn config_path(arguments: &[OsString]) -> Option<PathBuf> {
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--config" {
            return rest.next().map(PathBuf::from);
        }
        if let Some(path) = argument
            .to_str()
            .and_then(|text| text.strip_prefix("--config="))
        {
            return Some(PathBuf::from(path));
        }
    }
    environment("ORDU_CONFIG").map(PathBuf::from)
}

fn read_file(path: &Path) -> Result<toml::Table> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the configuration file `{}`", path.display()))?;
    text.parse()
        .with_context(|| format!("`{}` is not valid TOML", path.display()))
}

/// Puts the values of the file and of the aliases in the place of the built-in defaults.
fn with_defaults(
    command: clap::Command,
    file: &toml::Table,
    known: &mut Vec<String>,
) -> clap::Command {
    let command = command.mut_args(|argument| {
        let id = argument.get_id().to_string();
        let value = alias(&id).or_else(|| file.get(&id).and_then(plain_text));
        if argument.get_env().is_some() {
            known.push(id);
        }
        match value {
            Some(value) => with_default(argument, value),
            None => argument,
        }
    });
    let names: Vec<String> = command
        .get_subcommands()
        .map(|sub| sub.get_name().to_owned())
        .collect();
    names.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, |sub| with_defaults(sub, file, known))
    })
}

fn with_default(argument: Arg, value: String) -> Arg {
    if argument.get_env().is_some() {
        argument.default_value(value)
    } else {
        argument
    }
}

/// A TOML value as it would be written on the command line.
fn plain_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Array(items) => Some(
            items
                .iter()
                .filter_map(plain_text)
                .collect::<Vec<_>>()
                .join(","),
        ),
        toml::Value::Table(_) => None,
        other => Some(other.to_string()),
    }
}

/// What an existing deployment's environment says about an option.
fn alias(option: &str) -> Option<String> {
    alias_named(option).map(|(_, value)| value)
}

/// The same, with the name of the variable.
fn alias_named(option: &str) -> Option<(&'static str, String)> {
    if option == "blobs" {
        let name = "R2_TRANSIENT_ACCOUNT";
        return Some((name, r2_bucket(&environment(name)?)?));
    }
    let mut names = ALIASES.iter().filter(|(_, target)| *target == option);
    let (name, value) = names.find_map(|(name, _)| Some((*name, environment(name)?)))?;
    // Lists are JSON arrays there and separated by commas here.
    let value = match serde_json::from_str::<Vec<String>>(&value) {
        Ok(items) => items.join(","),
        Err(_) => value,
    };
    Some((name, value))
}

/// The address of an existing deployment's bucket. Sources go into the same bucket as results.
fn r2_bucket(endpoint: &str) -> Option<String> {
    let bucket = environment("R2_TRANSIENT_BUCKET").unwrap_or_else(|| R2_BUCKET.to_owned());
    let mut address = url::Url::parse(&format!("s3://{bucket}")).ok()?;
    address.query_pairs_mut().append_pair("endpoint", endpoint);
    Some(address.into())
}

#[expect(clippy::disallowed_methods, reason = "this is the configuration")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The cards that programs may see, as CUDA reads it: an empty list is none.
#[expect(clippy::disallowed_methods, reason = "this is the configuration")]
pub(crate) fn visible_cards() -> Option<String> {
    std::env::var("CUDA_VISIBLE_DEVICES").ok()
}

/// The environment of existing workers.
pub(crate) fn worker_environment() -> ordu_worker::bridge_data::Environment {
    let given = std::env::vars_os();
    ordu_worker::bridge_data::Environment::new(
        given.filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(file: &str, arguments: &[&str]) -> String {
        let table = file.parse().unwrap();
        let command = with_defaults(Cli::command(), &table, &mut Vec::new());
        let matches = command.try_get_matches_from(arguments).unwrap();
        let cli = Cli::from_arg_matches(&matches).unwrap();
        match cli.command {
            crate::cli::Command::Serve(serve) => serve.server.listen.to_string(),
            _ => unreachable!("the tests only serve"),
        }
    }

    #[test]
    fn the_file_stands_below_the_command_line_and_above_the_default() {
        assert_eq!(listen("", &["ordu", "serve"]), "127.0.0.1:7001");
        let file = "listen = '127.0.0.1:9'\nadmins = ['a#1', 'b#2']";
        assert_eq!(listen(file, &["ordu", "serve"]), "127.0.0.1:9");
        assert_eq!(
            listen(file, &["ordu", "serve", "--listen", "127.0.0.1:8"]),
            "127.0.0.1:8"
        );
    }

    #[test]
    fn an_existing_deployments_bucket_becomes_an_address() {
        assert_eq!(
            r2_bucket("https://account.example/?a=b").unwrap(),
            "s3://stable-horde?endpoint=https%3A%2F%2Faccount.example%2F%3Fa%3Db"
        );
    }

    #[test]
    fn every_alias_stands_for_an_option() {
        let mut known = Vec::new();
        with_defaults(Cli::command(), &toml::Table::new(), &mut known);
        for (alias, option) in ALIASES {
            assert!(known.iter().any(|name| name == option), "{alias}: {option}");
        }
    }
}
