//! Rules in text: what is done, and what must be answered.
//!
//! ```text
//! ## 3.3/13 results that must not be batched need trust
//! user async {"disable_batching": true, "params": {"n": 2}} => 400 RequiresTrust
//! ```
//!
//! A rule has a heading, `## ID TEXT`, and lines. Its last line with `=>` is what proves it.
//! - `with NAME[=VALUE]` prepares the horde: see [`super::world`].
//! - `later SECONDS` moves the clock and lets everything that happens by itself happen.
//! - `WHO[@ADDRESS] [NAME=VALUE…] VERB|METHOD PATH [JSON] => STATUS [EXPECTED…]` is a call, with headers.
//!   The JSON of a verb is laid over its usual body; `null` takes a member away. A JSON in `<…>` is sent as it stands.
//! - Expected is any of: `==JSON`, the whole answer; a return code; `errors.PATH`, a refused member; `/POINTER=JSON`, a member of the answer;
//!   `/POINTER!`, one that is missing; `says "TEXT"`, a part of the message; `save NAME=/POINTER`.
//! - `$NAME` stands for what was saved, `$WHO.id`, `$WHO.alias` and `$WHO.key` for somebody's.

use serde_json::Value;

/// A rule of the protocol and its proof.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) id: String,
    pub(crate) text: String,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Later(i64),
    Call(Box<Call>),
}

#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// The line as it stands.
    pub(crate) line: String,
    pub(crate) who: String,
    pub(crate) address: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) target: Target,
    pub(crate) body: Body,
    pub(crate) expected: Expected,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Target {
    Verb(String),
    Path(String, String),
}

#[derive(Debug, Clone)]
pub(crate) enum Body {
    None,
    Json(String),
    Raw(String),
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Expected {
    pub(crate) status: u16,
    pub(crate) rc: Option<String>,
    pub(crate) field: Option<String>,
    pub(crate) members: Vec<(String, Option<Value>)>,
    pub(crate) says: Vec<String>,
    pub(crate) saves: Vec<(String, String)>,
}

impl Rule {
    /// Reads a file of rules.
    pub(crate) fn read_all(file: &str) -> Vec<Self> {
        let mut rules: Vec<Self> = Vec::new();
        for line in file.lines().map(str::trim) {
            if let Some(heading) = line.strip_prefix("## ") {
                let (id, text) = heading.split_once(' ').unwrap();
                rules.push(Self {
                    id: id.to_owned(),
                    text: text.trim().to_owned(),
                    settings: Vec::new(),
                    steps: Vec::new(),
                });
            } else if !line.is_empty() && !line.starts_with('#') {
                rules.last_mut().unwrap().add(line);
            }
        }
        rules
    }

    fn add(&mut self, line: &str) {
        if let Some(setting) = line.strip_prefix("with ") {
            let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
            self.settings.push((name.to_owned(), value.to_owned()));
        } else if let Some(seconds) = line.strip_prefix("later ") {
            self.steps.push(Step::Later(seconds.parse().unwrap()));
        } else {
            self.steps.push(Step::Call(Box::new(Call::read(line))));
        }
    }

    /// The call that proves it.
    pub(crate) fn proof(&self) -> &Call {
        let calls = self.steps.iter().rev().filter_map(|step| match step {
            Step::Call(call) => Some(&**call),
            Step::Later(_) => None,
        });
        calls
            .into_iter()
            .next()
            .unwrap_or_else(|| panic!("{}: no call", self.id))
    }
}

impl Call {
    fn read(line: &str) -> Self {
        let (left, right) = line
            .rsplit_once(" => ")
            .unwrap_or_else(|| panic!("no `=>`: {line}"));
        let (head, body) = left.split_at(body_start(left));
        let body = match body.trim() {
            "" => Body::None,
            raw if raw.starts_with('<') => {
                Body::Raw(raw.trim_start_matches('<').trim_end_matches('>').to_owned())
            }
            json => Body::Json(json.to_owned()),
        };
        let mut words = head.split_whitespace().peekable();
        let who = words.next().unwrap();
        let (who, address) = match who.split_once('@') {
            Some((who, address)) => (who, Some(address.to_owned())),
            None => (who, None),
        };
        let mut headers = Vec::new();
        while let Some((name, value)) = words.peek().and_then(|word| word.split_once('=')) {
            headers.push((name.to_owned(), value.to_owned()));
            words.next();
        }
        let verb = words.next().unwrap().to_owned();
        let target = match words.next() {
            Some(path) => Target::Path(verb, path.to_owned()),
            None => Target::Verb(verb),
        };
        Self {
            line: line.to_owned(),
            who: who.to_owned(),
            address,
            headers,
            target,
            body,
            expected: Expected::read(right),
        }
    }
}

/// Where the body begins: a brace, bracket or angle after a space.
fn body_start(left: &str) -> usize {
    let places = [" {", " [", " <"]
        .into_iter()
        .filter_map(|mark| left.find(mark));
    places.min().unwrap_or(left.len())
}

impl Expected {
    fn read(text: &str) -> Self {
        let (status, mut rest) = word(text);
        let mut expected = Self {
            status: status.parse().unwrap_or_else(|_| panic!("{text}")),
            ..Self::default()
        };
        while !rest.is_empty() {
            rest = if let Some(body) = rest.strip_prefix('=') {
                expected.read_member(body)
            } else if rest.starts_with('/') {
                expected.read_member(rest)
            } else {
                expected.read_word(rest)
            };
        }
        expected
    }

    /// Reads `/POINTER=JSON` or `/POINTER!`; gives what is behind.
    fn read_member<'a>(&mut self, text: &'a str) -> &'a str {
        let end = text.find(['=', '!']).unwrap_or_else(|| panic!("{text}"));
        let (pointer, rest) = text.split_at(end);
        if let Some(rest) = rest.strip_prefix('!') {
            self.members.push((pointer.to_owned(), None));
            return rest.trim_start();
        }
        let rest = &rest[1..];
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        let value = values.next().unwrap().unwrap_or_else(|_| panic!("{text}"));
        self.members.push((pointer.to_owned(), Some(value)));
        rest[values.byte_offset()..].trim_start()
    }

    fn read_word<'a>(&mut self, text: &'a str) -> &'a str {
        let (first, rest) = word(text);
        match first {
            "says" => {
                let (part, rest) = rest.strip_prefix('"').unwrap().split_once('"').unwrap();
                self.says.push(part.to_owned());
                rest.trim_start()
            }
            "save" => {
                let (saved, rest) = word(rest);
                let (name, pointer) = saved.split_once('=').unwrap();
                self.saves.push((name.to_owned(), pointer.to_owned()));
                rest
            }
            _ => {
                match first.strip_prefix("errors.") {
                    Some(field) => self.field = Some(field.to_owned()),
                    None => self.rc = Some(first.to_owned()),
                }
                rest
            }
        }
    }

    /// The answer as the table shows it.
    pub(crate) fn show(&self) -> String {
        let mut shown = self.status.to_string();
        let parts = self.rc.iter().cloned();
        let parts = parts.chain(self.field.iter().map(|field| format!("errors.{field}")));
        let members = self.members.iter().map(|(pointer, value)| match value {
            Some(value) => format!("{pointer}={value}"),
            None => format!("no {pointer}"),
        });
        for part in parts.chain(members) {
            shown.push(' ');
            shown.push_str(&part);
        }
        shown
    }
}

/// The first word, and what is behind it.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    (word, rest.trim_start())
}
