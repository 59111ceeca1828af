//! Whether an answer is the recorded one: exact, except where the recording holds a mark.

use serde_json::{Map, Value};

/// Prices of pictures may differ by this share: ours come from a fit, of which 19 in 20 are nearer.
const PICTURE_TOLERANCE: f64 = 0.08;
/// And by this much, because they are shown rounded.
const PICTURE_SLACK: f64 = 1.0;
/// Prices that have a formula are rounded to hundredths by us.
const ROUNDING: f64 = 0.006;
/// The recorded balances are whole numbers.
const BALANCE_SLACK: f64 = 1.0;

const PRICES: &[&str] = &["kudos", "reward", "kudos_rewards", "generated", "consumed"];
const BALANCES: &[&str] = &[
    "kudos",
    "accumulated",
    "generated",
    "kudos_rewards",
    "evaluating_kudos",
    "utilized",
    "transferred",
    "styled",
    "awarded",
];
const BALANCE_PATHS: &[&str] = &[
    "/api/v2/users",
    "/api/v2/find_user",
    "/api/v2/workers",
    "/api/v2/teams",
    "/api/v2/sharedkeys",
];

/// Where the prices in an answer come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prices {
    /// A formula of the protocol.
    Exact,
    /// Our fit.
    Fitted,
}

/// Compares answers to one path.
pub(crate) struct Comparison {
    is_balance: bool,
    prices: Prices,
    pub(crate) differences: Vec<String>,
}

/// Whether we add this member to an answer: what a price is made of, and advice that goes with it.
fn is_ours(name: &str, found: &Map<String, Value>) -> bool {
    match name {
        "breakdown" => found.contains_key("kudos"),
        "warnings" => found.contains_key("breakdown"),
        _ => false,
    }
}

impl Comparison {
    pub(crate) fn of(path: &str, prices: Prices) -> Self {
        Self {
            prices,
            is_balance: BALANCE_PATHS.iter().any(|start| path.starts_with(start)),
            differences: Vec::new(),
        }
    }

    fn say(&mut self, at: &str, what: &str, got: &Value) {
        self.differences
            .push(format!("{at}: {what}, got {}", short(got)));
    }

    /// Notes every difference between what is expected and what came; `key` is the name of the
    /// member that holds it.
    pub(crate) fn compare(&mut self, expected: &Value, got: &Value, at: &str, key: &str) {
        match expected {
            Value::String(mark) if is_mark(mark) => {
                if !fits(mark, got) {
                    self.say(at, &format!("expected {mark}"), got);
                }
            }
            Value::Object(members) => match operation(members) {
                Some((name, inner)) => self.compare_list(name, inner, got, at),
                None => self.compare_object(members, got, at),
            },
            Value::Array(items) => match got.as_array() {
                Some(found) if found.len() == items.len() => {
                    for (index, (item, found)) in items.iter().zip(found).enumerate() {
                        self.compare(item, found, &format!("{at}[{index}]"), key);
                    }
                }
                _ => self.say(at, &format!("expected {}", short(expected)), got),
            },
            _ => {
                if !self.same(expected, got, key) {
                    self.say(at, &format!("expected {}", short(expected)), got);
                }
            }
        }
    }

    fn compare_object(&mut self, expected: &Map<String, Value>, got: &Value, at: &str) {
        let Some(found) = got.as_object() else {
            return self.say(at, "expected an object", got);
        };
        for (name, value) in expected {
            let (name, optional) = match name.strip_suffix('?') {
                Some(name) => (name, true),
                None => (name.as_str(), false),
            };
            match found.get(name) {
                Some(member) => self.compare(value, member, &format!("{at}.{name}"), name),
                None if optional => {}
                None => self.say(
                    &format!("{at}.{name}"),
                    &format!("missing (expected {})", short(value)),
                    &Value::Null,
                ),
            }
        }
        for (name, value) in found {
            let is_expected =
                expected.contains_key(name) || expected.contains_key(&format!("{name}?"));
            if !is_expected && !is_ours(name, found) {
                self.say(&format!("{at}.{name}"), "unexpected member", value);
            }
        }
    }

    /// `<each>`: all elements fit. `<contains>`, `<set>`: each pattern fits an element of its own;
    /// for a set, nothing else is there.
    fn compare_list(&mut self, operation: &str, inner: &Value, got: &Value, at: &str) {
        let Some(found) = got.as_array() else {
            return self.say(at, "expected a list", got);
        };
        if operation == "<each>" {
            for (index, item) in found.iter().enumerate() {
                self.compare(inner, item, &format!("{at}[{index}]"), "");
            }
            return;
        }
        let mut left: Vec<&Value> = found.iter().collect();
        for pattern in inner.as_array().into_iter().flatten() {
            let fits = |item: &&Value| {
                let mut trial = Self {
                    prices: self.prices,
                    is_balance: self.is_balance,
                    differences: Vec::new(),
                };
                trial.compare(pattern, item, at, "");
                trial.differences.is_empty()
            };
            match left.iter().position(fits) {
                Some(index) => {
                    left.remove(index);
                }
                None => self.say(
                    at,
                    &format!("no element matches {}", short(pattern)),
                    &Value::Null,
                ),
            }
        }
        if operation == "<set>" && !left.is_empty() {
            let rest: Value = left.into_iter().cloned().collect();
            self.say(at, "unexpected elements", &rest);
        }
    }

    fn same(&self, expected: &Value, got: &Value, key: &str) -> bool {
        let (Some(a), Some(b)) = (expected.as_f64(), got.as_f64()) else {
            return expected == got;
        };
        let mut slack = 1e-6;
        if self.is_balance && BALANCES.contains(&key) {
            slack += BALANCE_SLACK;
        }
        if PRICES.contains(&key) {
            slack += match self.prices {
                Prices::Exact => ROUNDING,
                Prices::Fitted => a.abs() * PICTURE_TOLERANCE + PICTURE_SLACK,
            };
        }
        (a - b).abs() <= slack
    }
}

fn operation(members: &Map<String, Value>) -> Option<(&str, &Value)> {
    let (name, inner) = members.iter().next().filter(|_| members.len() == 1)?;
    ["<contains>", "<each>", "<set>"]
        .contains(&name.as_str())
        .then_some((name.as_str(), inner))
}

const MARKS: &[&str] = &[
    "<any>", "<text>", "<uuid>", "<time>", "<url>", "<key>", "<digits>", "<number>", "<bool>",
];

fn is_mark(text: &str) -> bool {
    MARKS.contains(&text)
}

fn fits(mark: &str, got: &Value) -> bool {
    let text = got.as_str();
    match mark {
        "<any>" => true,
        "<text>" => got.is_string(),
        "<uuid>" => {
            text.is_some_and(|text| text.len() == 36 && uuid::Uuid::try_parse(text).is_ok())
        }
        "<time>" => text.is_some_and(is_time),
        "<url>" => {
            text.is_some_and(|text| text.starts_with("http://") || text.starts_with("https://"))
        }
        "<key>" => text.is_some_and(|text| text.chars().count() >= 16),
        "<digits>" => text
            .is_some_and(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())),
        "<number>" => got.is_number(),
        "<bool>" => got.is_boolean(),
        _ => false,
    }
}

/// RFC 822 with a numeric zone, or the beginning of ISO 8601.
fn is_time(text: &str) -> bool {
    let iso = text.get(..19).is_some_and(|start| {
        let shape = start.bytes().map(|byte| match byte {
            b'0'..=b'9' => '0',
            other => char::from(other),
        });
        shape.eq("0000-00-00T00:00:00".chars())
    });
    iso || jiff::fmt::rfc2822::parse(text).is_ok()
}

/// The beginning of a value, for a person to read.
pub(crate) fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(160) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
