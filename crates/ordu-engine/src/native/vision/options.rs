//! What forms may be asked for, from whatever was sent.
//!
//! # Source
//! `worker.md` § 6: names and defaults. `top_p` is for drawing words by lot, which a search over beams
//! does not do, so it has no effect.

use serde_json::{Map, Value};

use super::beam::Wish;
use super::interrogate::Asked;
use crate::EngineError;

/// How a sentence is to be.
pub(super) fn caption(options: &Map<String, Value>) -> Result<Wish, EngineError> {
    let least = count(options, "min_length", (0, 200), 20)?;
    let most = count(options, "max_length", (1, 300), least + 30)?;
    if most < least {
        return Err(EngineError::bad_task(format!(
            "`max_length` {most} is below `min_length` {least}"
        )));
    }
    #[expect(clippy::cast_possible_truncation, reason = "networks compute in f32")]
    let penalty = number(options, "repetition_penalty", (0.1, 10.0), 1.4)? as f32;
    Ok(Wish {
        beams: count(options, "num_beams", (1, 16), 7)?,
        least,
        most,
        penalty,
    })
}

/// What is asked about a picture.
pub(super) fn interrogation(options: &Map<String, Value>) -> Result<Asked, EngineError> {
    Ok(Asked {
        top: count(options, "top_count", (1, 100), 5)?,
        // Who wants likenesses wants no shares.
        likenesses: flag(options, "similarity", false)? || !flag(options, "rank", true)?,
    })
}

fn given<'o>(options: &'o Map<String, Value>, name: &str) -> Option<&'o Value> {
    options.get(name).filter(|value| !value.is_null())
}

fn wrong(name: &str, value: &Value, wanted: &str) -> EngineError {
    EngineError::bad_task(format!("`{name}` is {value}, not {wanted}"))
}

fn count(
    options: &Map<String, Value>,
    name: &str,
    (least, most): (usize, usize),
    usual: usize,
) -> Result<usize, EngineError> {
    let Some(value) = given(options, name) else {
        return Ok(usual.min(most));
    };
    let number = value
        .as_u64()
        .and_then(|number| usize::try_from(number).ok());
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| wrong(name, value, &format!("a number from {least} to {most}")))
}

fn number(
    options: &Map<String, Value>,
    name: &str,
    (least, most): (f64, f64),
    usual: f64,
) -> Result<f64, EngineError> {
    let Some(value) = given(options, name) else {
        return Ok(usual);
    };
    let number = value
        .as_f64()
        .filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| wrong(name, value, &format!("a number from {least} to {most}")))
}

fn flag(options: &Map<String, Value>, name: &str, usual: bool) -> Result<bool, EngineError> {
    let Some(value) = given(options, name) else {
        return Ok(usual);
    };
    value
        .as_bool()
        .ok_or_else(|| wrong(name, value, "true or false"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(value: &Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn what_is_not_said_is_as_the_protocol_has_it() {
        let usual = caption(&Map::new()).unwrap();
        let expected = Wish {
            beams: 7,
            least: 20,
            most: 50,
            penalty: 1.4,
        };
        assert_eq!(usual, expected);
        assert_eq!(caption(&of(&json!({"min_length": 30}))).unwrap().most, 60);
        let usual = interrogation(&of(&json!({"rank": null}))).unwrap();
        assert_eq!((usual.top, usual.likenesses), (5, false));
        let likenesses = interrogation(&of(&json!({"similarity": true}))).unwrap();
        assert!(likenesses.likenesses);
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (name, value) in [
            ("num_beams", json!(0)),
            ("num_beams", json!(1_000_000)),
            ("min_length", json!(-1)),
            ("max_length", json!("long")),
            ("max_length", json!(3)),
            ("repetition_penalty", json!(0)),
            ("repetition_penalty", json!(1e300)),
        ] {
            let mut options = Map::new();
            options.insert(name.to_owned(), value);
            let refused = caption(&options).unwrap_err().to_string();
            assert!(refused.contains(name), "{refused}");
        }
        assert!(interrogation(&of(&json!({"rank": 1}))).is_err());
        assert!(interrogation(&of(&json!({"top_count": 0.5}))).is_err());
    }
}
