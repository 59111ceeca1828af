//! `ordu work --check`: a tiny job for each engine, and what would be offered.

use anyhow::Result;
use ordu_worker::{Config, Engines, Trial, try_out};
use serde_json::{Value, json};

use crate::exit::Exit;

/// Members of an offer that say nothing about what the worker can do.
const UNSAID: &[&str] = &["priority_usernames", "blacklist"];

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Json,
}

/// Tries everything out and tells how it went; fails if anything did.
pub(crate) async fn run(config: &Config, engines: &Engines, form: Form) -> Result<Exit> {
    let trials = try_out(config, engines).await;
    match form {
        Form::Json => {
            let all: Vec<_> = trials.iter().map(as_json).collect();
            println!("{}", serde_json::to_string_pretty(&all)?);
        }
        Form::Text => trials.iter().for_each(|trial| print!("{}", as_text(trial))),
    }
    if trials.iter().all(|trial| trial.tried.is_ok()) {
        Ok(Exit::Done)
    } else {
        Ok(Exit::Failed)
    }
}

fn as_json(trial: &Trial) -> Value {
    let (with, seconds, error) = match &trial.tried {
        Ok((with, took)) => (Some(with), Some(took.as_secs_f64()), None),
        Err(error) => (None, None, Some(error)),
    };
    json!({
        "kind": trial.kind.name(), "works": error.is_none(), "tried": with, "seconds": seconds,
        "error": error, "offer": trial.offer, "missing": trial.missing,
    })
}

fn as_text(trial: &Trial) -> String {
    let mut lines = Vec::new();
    let kind = trial.kind.name();
    lines.push(match &trial.tried {
        Ok((with, took)) => format!("{kind}: works, `{with}` in {:.2} s", took.as_secs_f64()),
        Err(error) => format!("{kind}: does not work: {error}"),
    });
    match &trial.offer {
        Some(Value::Object(members)) => {
            let told = members
                .iter()
                .filter(|(name, _)| !UNSAID.contains(&name.as_str()));
            lines.extend(told.map(|(name, value)| format!("  {name}: {}", short(value))));
        }
        _ => lines.push("  nothing would be offered".to_owned()),
    }
    let missing = trial.missing.iter();
    lines.extend(missing.map(|what| format!("  not offered: {what}")));
    lines.push(String::new());
    lines.join("\n")
}

/// A value as people read it.
fn short(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(short).collect::<Vec<_>>().join(", "),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ordu_api::worker::WorkKind;

    use super::*;

    #[test]
    fn a_trial_is_told_in_words() {
        let works = Trial {
            kind: WorkKind::Image,
            offer: Some(
                json!({"models": ["a", "b"], "nsfw": true, "max_pixels": 9, "blacklist": []}),
            ),
            tried: Ok(("a".to_owned(), Duration::from_millis(1500))),
            missing: vec!["ControlNet: node `X` missing".to_owned()],
        };
        insta::assert_snapshot!(as_text(&works), @r"
        image: works, `a` in 1.50 s
          max_pixels: 9
          models: a, b
          nsfw: yes
          not offered: ControlNet: node `X` missing
        ");
        let fails = Trial {
            kind: WorkKind::Text,
            offer: None,
            tried: Err("nobody is there".to_owned()),
            missing: Vec::new(),
        };
        insta::assert_snapshot!(as_text(&fails), @r"
        text: does not work: nobody is there
          nothing would be offered
        ");
    }
}
