//! What the deployed server was recorded to answer, replayed against ours.
//!
//! `testdata/exchanges/exchanges.jsonl` holds one exchange a line; lines of one scenario belong
//! together and share variables. What we answer otherwise on purpose is listed in
//! `docs/differences.md`: an exchange that differs must be there, and one that is there must differ.

mod compare;

use std::collections::{BTreeMap, BTreeSet};

use ordu_api::UserId;
use ordu_server::{Config, ModelSource, ModelSources};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::{TestHorde, on_each_database};
use compare::{Comparison, Prices, short};

/// One recorded exchange.
#[derive(Debug, Deserialize)]
struct Exchange {
    scenario: String,
    step: u32,
    #[serde(default)]
    actors: BTreeMap<String, Value>,
    #[serde(rename = "as")]
    who: String,
    method: String,
    path: String,
    #[serde(default)]
    query: BTreeMap<String, Value>,
    #[serde(default)]
    headers: BTreeMap<String, Option<String>>,
    body: Option<Value>,
    raw: Option<String>,
    #[serde(default)]
    wait: f64,
    #[serde(default)]
    capture: BTreeMap<String, String>,
    expect: Expected,
}

#[derive(Debug, Deserialize)]
struct Expected {
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "present")]
    body: Option<Value>,
}

/// A `null` that is there is an expectation; a member that is not there is none.
fn present<'de, D: serde::Deserializer<'de>>(body: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(body).map(Some)
}

const RECORDED: &str = include_str!("../../../testdata/exchanges/exchanges.jsonl");
const IMAGE_MODELS: &str = include_str!("../../../testdata/exchanges/stable_diffusion.json");
const TEXT_MODELS: &str = include_str!("../../../testdata/exchanges/db.json");
const DIFFERENCES: &str = include_str!("../../../../../docs/differences.md");

/// Users that exist before everybody else, so that an empty database gives them the ids 1, 2, 3.
fn first_actors() -> [(&'static str, Value); 3] {
    let actor = |name: &str, subject: &str, moderator: bool, kudos: i64| {
        json!({ "username": name, "oauth_id": subject, "moderator": moderator, "trusted": true,
                "kudos": kudos })
    };
    [
        (
            "user1",
            actor("user_one", "golden_user_one", false, 1_000_000),
        ),
        ("filler", actor("test_user", "golden_filler", false, 1000)),
        (
            "admin",
            actor("test_admin", "golden_admin", true, 1_000_000),
        ),
    ]
}

/// Exchanges that `docs/differences.md` says we answer otherwise: `topic/scenario/step`.
fn differences() -> BTreeSet<String> {
    let section = DIFFERENCES.split("## Recorded exchanges").nth(1);
    let rows = section.unwrap_or_default().lines();
    let cells = rows.filter_map(|row| row.strip_prefix("| ")?.split(" | ").next());
    let mut listed = BTreeSet::new();
    for cell in cells.filter(|cell| cell.contains('/')) {
        let (scenario, steps) = cell.rsplit_once('/').unwrap();
        for step in steps.split(", ") {
            listed.insert(format!("{scenario}/{step}"));
        }
    }
    listed
}

/// Replays one topic on a horde of its own.
async fn replay(topic: &str) {
    let exchanges: Vec<Exchange> = RECORDED
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|exchange: &Exchange| exchange.scenario.split('/').next() == Some(topic))
        .collect();
    assert!(
        !exchanges.is_empty(),
        "no exchange of `{topic}` is recorded"
    );
    on_each_database(async |database| {
        let mut player = Player::start(database).await;
        let (mut failures, mut differing) = (Vec::new(), BTreeSet::new());
        for exchange in &exchanges {
            if player.scenario != exchange.scenario {
                player.begin(exchange).await;
            }
            let name = format!("{}/{}", exchange.scenario, exchange.step);
            let found = player.play(exchange).await;
            if !found.is_empty() {
                differing.insert(name.clone());
                failures.push((
                    name,
                    format!("{} {}", exchange.method, exchange.path),
                    found,
                ));
            }
        }
        report(topic, &exchanges, failures, &differing);
    })
    .await;
}

/// Fails unless exactly the listed exchanges differ.
fn report(
    topic: &str,
    exchanges: &[Exchange],
    mut failures: Vec<(String, String, Vec<String>)>,
    differing: &BTreeSet<String>,
) {
    let listed: BTreeSet<String> = differences()
        .into_iter()
        .filter(|name| name.split('/').next() == Some(topic))
        .collect();
    failures.retain(|(name, ..)| !listed.contains(name));
    let stale: Vec<&String> = listed.difference(differing).collect();
    println!(
        "{topic}: {} exchanges, {} differ on purpose, {} otherwise",
        exchanges.len(),
        listed.len() - stale.len(),
        failures.len()
    );
    for (name, what, found) in &failures {
        println!("{name} {what}");
        for line in found.iter().take(12) {
            println!("    {line}");
        }
    }
    assert!(
        failures.is_empty() && stale.is_empty(),
        "{} exchanges of `{topic}` differ; listed, but the same: {stale:?}",
        failures.len()
    );
}

/// Plays exchanges against a horde.
struct Player {
    horde: TestHorde,
    variables: BTreeMap<String, Value>,
    scenario: String,
    words: u64,
}

impl Player {
    async fn start(database: &str) -> Self {
        let horde = TestHorde::start_with(|config| Config {
            database: database.to_owned(),
            admins: vec![UserId::new(3).unwrap()],
            models: ModelSources {
                image: ModelSource::Text(IMAGE_MODELS.to_owned()),
                text: ModelSource::Text(TEXT_MODELS.to_owned()),
                ..ModelSources::default()
            },
            ..config
        })
        .await;
        let mut player = Self {
            horde,
            variables: BTreeMap::new(),
            scenario: String::new(),
            words: 0,
        };
        for (name, spec) in first_actors() {
            player.mint(name, spec).await;
        }
        player
    }

    async fn mint(&mut self, name: &str, spec: Value) {
        let answer = self.horde.post("/dev/test-user", None, &spec).await;
        assert!(answer.status < 300, "{name}: {}", answer.body);
        for (variable, member) in [("key", "api_key"), ("id", "user_id"), ("alias", "alias")] {
            let value = answer.body[member].clone();
            self.variables.insert(format!("{name}.{variable}"), value);
        }
    }

    /// Begins a scenario: its variables are its own.
    async fn begin(&mut self, first: &Exchange) {
        self.scenario.clone_from(&first.scenario);
        let kept = first_actors().map(|(name, _)| format!("{name}."));
        self.variables
            .retain(|name, _| kept.iter().any(|start| name.starts_with(start)));
        let word = self.word();
        self.variables.insert("n".to_owned(), json!(word));
        for (name, spec) in &first.actors {
            let mut spec = spec.clone();
            spec["username"] = json!(format!("gold_{name}"));
            spec["oauth_id"] = json!(format!("g:{word}:{}:{name}", first.scenario.len()));
            self.mint(name, spec).await;
        }
    }

    /// A short word, new each time, that no profanity filter can read anything into.
    fn word(&mut self) -> String {
        const LETTERS: &[u8; 8] = b"bdmnqtvz";
        self.words += 1;
        let mut rest = self.words.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut word = String::new();
        for _ in 0..9 {
            word.push(char::from(LETTERS[(rest >> 61) as usize]));
            rest <<= 3;
        }
        word
    }

    /// Plays one exchange; answers every difference.
    async fn play(&mut self, exchange: &Exchange) -> Vec<String> {
        let shows_sums = ["/api/v2/users", "/api/v2/styles"];
        let shows_sums = shows_sums
            .iter()
            .any(|path| exchange.path.starts_with(path));
        if exchange.wait > 0.0 || shows_sums {
            #[expect(clippy::cast_possible_truncation, reason = "waits are a few seconds")]
            self.horde.later(exchange.wait.ceil() as i64);
            // Balances are folded behind, uses are counted behind; the recorded server took its time between requests.
            self.horde.server.settle_down().await.unwrap();
        }
        let request = match self.request(exchange) {
            Ok(request) => request,
            Err(missing) => return vec![format!("variable {missing} was never captured")],
        };
        let answer = crate::support::Answer::read(request).await;
        for (name, place) in &exchange.capture {
            match dig(&answer.body, place) {
                Some(value) => self.variables.insert(name.clone(), value.clone()),
                None => self.variables.remove(name),
            };
        }
        let mut comparison = Comparison::of(&exchange.path, prices(&exchange.scenario));
        let expected = &exchange.expect;
        if answer.status != expected.status {
            let line = format!(
                "status: expected {}, got {} {}",
                expected.status,
                answer.status,
                short(&answer.body)
            );
            comparison.differences.push(line);
        }
        for (name, value) in &expected.headers {
            let found = answer
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok());
            let found = match name.as_str() {
                "content-type" => found.and_then(|value| value.split(';').next()),
                _ => found,
            };
            if found != Some(value) && !(value == "<text>" && found.is_some()) {
                let line = format!("header {name}: expected {value:?}, got {found:?}");
                comparison.differences.push(line);
            }
        }
        if let Some(body) = expected
            .body
            .as_ref()
            .filter(|_| answer.status == expected.status)
        {
            match self.substitute(body) {
                Ok(body) => comparison.compare(&body, &answer.body, "body", ""),
                Err(name) => comparison
                    .differences
                    .push(format!("variable {name} was never captured")),
            }
        }
        comparison.differences
    }

    /// The request of an exchange, or the variable that it lacks.
    fn request(&self, exchange: &Exchange) -> Result<reqwest::RequestBuilder, String> {
        let mut url: url::Url = format!("{}{}", self.horde.url, self.in_path(&exchange.path)?)
            .parse()
            .unwrap();
        for (name, value) in &exchange.query {
            let value = self.substitute(value)?;
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            url.query_pairs_mut().append_pair(name, &text);
        }
        let method = exchange.method.parse().unwrap();
        let mut request = self.horde.http.request(method, url);
        let key = match exchange.who.as_str() {
            "none" => None,
            "anon" => Some(json!(ordu_api::ANONYMOUS_KEY)),
            "bad" => Some(json!("not-a-known-key-000000")),
            who => Some(match who.strip_prefix("key:") {
                Some(variable) => self.variable(variable)?,
                None => self.variable(&format!("{who}.key"))?,
            }),
        };
        if let Some(key) = key {
            request = request.header("apikey", key.as_str().unwrap_or_default());
        }
        let body = match (&exchange.raw, &exchange.body) {
            (Some(raw), _) => Some(raw.clone()),
            (None, Some(body)) => Some(self.substitute(body)?.to_string()),
            (None, None) => None,
        };
        let mut media_type = body.is_some().then(|| "application/json".to_owned());
        for (name, value) in &exchange.headers {
            if name.eq_ignore_ascii_case("content-type") {
                media_type.clone_from(value);
            } else if let Some(value) = value {
                let value = self.substitute(&json!(value))?;
                request = request.header(name, value.as_str().unwrap_or_default());
            }
        }
        if let Some(media_type) = media_type {
            request = request.header("content-type", media_type);
        }
        Ok(match body {
            Some(body) => request.body(body),
            None => request,
        })
    }

    fn variable(&self, name: &str) -> Result<Value, String> {
        self.variables.get(name).cloned().ok_or(name.to_owned())
    }

    /// Puts variables into a path, escaped.
    fn in_path(&self, path: &str) -> Result<String, String> {
        let mut rest = path;
        let mut done = String::new();
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, after) = after.split_once("}}").ok_or(rest.to_owned())?;
            done.push_str(before);
            let value = plain(&self.variable(name)?);
            let escaped: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
            done.push_str(&escaped.replace('+', "%20"));
            rest = after;
        }
        done.push_str(rest);
        Ok(done)
    }

    /// Puts variables into a value.
    fn substitute(&self, value: &Value) -> Result<Value, String> {
        Ok(match value {
            Value::String(text) => self.substitute_text(text)?,
            Value::Array(items) => {
                let items: Result<Vec<Value>, String> =
                    items.iter().map(|item| self.substitute(item)).collect();
                Value::Array(items?)
            }
            Value::Object(members) => {
                let mut done = serde_json::Map::new();
                for (name, member) in members {
                    let name = plain(&self.substitute_text(name)?);
                    done.insert(name, self.substitute(member)?);
                }
                Value::Object(done)
            }
            other => other.clone(),
        })
    }

    fn substitute_text(&self, text: &str) -> Result<Value, String> {
        let whole = text
            .strip_prefix("{{")
            .and_then(|rest| rest.strip_suffix("}}"));
        if let Some(name) = whole.filter(|name| !name.contains('{')) {
            return match name.strip_prefix("int:") {
                Some(name) => {
                    let value = plain(&self.variable(name)?);
                    Ok(json!(value.parse::<i64>().map_err(|_| name.to_owned())?))
                }
                None => self.variable(name),
            };
        }
        let mut rest = text;
        let mut done = String::new();
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((name, after)) = after.split_once("}}") else {
                break;
            };
            done.push_str(before);
            done.push_str(&plain(&self.variable(name)?));
            rest = after;
        }
        done.push_str(rest);
        Ok(json!(done))
    }
}

/// Texts and forms have formulas.
fn prices(scenario: &str) -> Prices {
    if scenario.starts_with("text-") || scenario.starts_with("alchemy-") {
        Prices::Exact
    } else {
        Prices::Fitted
    }
}

/// A value as it reads inside a text.
fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// The value at a dotted place.
fn dig<'a>(value: &'a Value, place: &str) -> Option<&'a Value> {
    place.split('.').try_fold(value, |value, part| match value {
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        other => other.get(part),
    })
}

/// One test a topic.
macro_rules! topics {
    ($($name:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $name() {
            replay(&stringify!($name).replace('_', "-")).await;
        }
    )*};
}

topics! {
    alchemy_flow,
    alchemy_pop,
    alchemy_validation,
    filters,
    image_flow,
    image_pop,
    image_price,
    image_validation,
    kudos,
    operations,
    protocol,
    rating,
    sharedkeys,
    stats,
    status,
    styles,
    teams,
    text_flow,
    text_pop,
    text_price,
    text_validation,
    users,
    workers,
}

#[test]
fn every_recorded_topic_is_listed() {
    let here = include_str!("mod.rs");
    for line in RECORDED.lines() {
        let exchange: Exchange = serde_json::from_str(line).unwrap();
        let topic = exchange.scenario.split('/').next().unwrap();
        let tested = here.contains(&format!("    {},\n", topic.replace('-', "_")));
        assert!(tested, "{topic}");
    }
}
