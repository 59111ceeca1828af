//! Field masks: `X-Fields: done,generations{id,img}` keeps only the named members of an answer.
//!
//! Nested objects and lists of objects recurse; the outer braces may be left out; `*` and an empty
//! mask keep everything, except what a nested mask beside the `*` drops.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Members to keep, each with what to keep of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    everything: bool,
    members: BTreeMap<String, Option<Self>>,
}

/// A mask that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Mask parse error: {0}")]
pub struct MaskError(&'static str);

/// How deep braces may nest.
const MAX_DEPTH: usize = 16;

impl std::str::FromStr for Mask {
    type Err = MaskError;

    /// # Errors
    /// Unbalanced braces, a comma without a name before it, or braces nested too deep.
    fn from_str(text: &str) -> Result<Self, MaskError> {
        let text = text.trim();
        let inner = match text.strip_prefix('{') {
            Some(rest) => rest
                .strip_suffix('}')
                .ok_or(MaskError("missing closing brace"))?,
            None => text,
        };
        let mut rest = inner.chars().peekable();
        let mask = parse_members(&mut rest, 0)?;
        if rest.next().is_some() {
            return Err(MaskError("unexpected closing brace"));
        }
        Ok(mask)
    }
}

fn parse_members(
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
    depth: usize,
) -> Result<Mask, MaskError> {
    if depth > MAX_DEPTH {
        return Err(MaskError("nested too deep"));
    }
    let mut starred = false;
    let mut members = BTreeMap::new();
    loop {
        let name = take_name(rest);
        let nested = match rest.peek() {
            Some('{') => {
                rest.next();
                let inner = parse_members(rest, depth + 1)?;
                rest.next_if_eq(&'}')
                    .ok_or(MaskError("missing closing brace"))?;
                Some(inner)
            }
            _ => None,
        };
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        let last = rest.peek() != Some(&',');
        let alone = last && members.is_empty() && !starred;
        if name.is_empty() && (nested.is_some() || !alone) {
            return Err(MaskError("a name is missing"));
        }
        match name.as_str() {
            "*" if nested.is_some() => return Err(MaskError("braces after `*`")),
            "*" => starred = true,
            "" => {}
            _ => {
                members.insert(name, nested);
            }
        }
        if last {
            return Ok(Mask {
                everything: starred || members.is_empty(),
                members,
            });
        }
        rest.next();
    }
}

fn take_name(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> String {
    let mut name = String::new();
    while let Some(c) = rest.next_if(|c| !matches!(c, '{' | '}' | ',')) {
        name.push(c);
    }
    name.trim().to_owned()
}

impl Mask {
    /// Drops from `value` what the mask does not name.
    pub fn apply(&self, value: Value) -> Value {
        if self.everything && self.members.is_empty() {
            return value;
        }
        match value {
            Value::Object(members) => Value::Object(self.keep(members)),
            Value::Array(list) => list.into_iter().map(|item| self.apply(item)).collect(),
            other => other,
        }
    }

    fn keep(&self, members: Map<String, Value>) -> Map<String, Value> {
        members
            .into_iter()
            .filter_map(|(name, value)| match self.members.get(&name) {
                Some(Some(inner)) => Some((name, inner.apply(value))),
                Some(None) => Some((name, value)),
                None => self.everything.then_some((name, value)),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn masked(mask: &str) -> Result<Value, MaskError> {
        let answer =
            json!({"done": true, "kudos": 1, "generations": [{"id": 1, "img": "x"}, {"id": 2}]});
        mask.parse::<Mask>().map(|mask| mask.apply(answer))
    }

    #[test]
    fn masks_keep_what_they_name() {
        assert_eq!(masked("done").unwrap(), json!({"done": true}));
        assert_eq!(
            masked("{ done , kudos }").unwrap(),
            json!({"done": true, "kudos": 1})
        );
        assert_eq!(
            masked("generations{id}").unwrap(),
            json!({"generations": [{"id": 1}, {"id": 2}]})
        );
        assert_eq!(masked("nothing").unwrap(), json!({}));
        assert_eq!(masked("").unwrap()["kudos"], 1);
        assert_eq!(masked("*").unwrap()["kudos"], 1);
        for starred in ["{*,generations{id}}", "generations{id},*"] {
            let masked = masked(starred).unwrap();
            assert_eq!(masked["kudos"], 1);
            assert_eq!(masked["generations"], json!([{"id": 1}, {"id": 2}]));
        }
    }

    #[test]
    fn broken_masks_are_refused() {
        for broken in [
            ",", "a,,b", "{a", "a}", "a{b", "a{b}}", "{a,}", "*,", "*{a}",
        ] {
            assert!(masked(broken).is_err(), "{broken}");
        }
        assert!(masked(&"a{".repeat(10_000)).is_err());
    }
}
