//! The horde that a rule is tried on: who is there, and what strangers' servers answer.

use std::collections::BTreeMap;
use std::io::Cursor;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use base64::Engine as _;
use ordu_api::user::TestUser;
use ordu_server::{Config, GuardConfig, ModelSource, ModelSources, OnboardingLimits};
use reqwest::Method;
use serde_json::{Value, json};

use super::script::{Body, Call, Expected, Rule, Step, Target};
use crate::support::{Answer, TEXT_MODEL, TINY_PNG, TestHorde};

/// What accounts are like when they first appear, and what an admin makes of them.
const ROLES: &[(&str, &str, &str)] = &[
    ("admin", r#"{"moderator": true, "kudos": 100000}"#, "{}"),
    ("mod", r#"{"moderator": true, "kudos": 10000}"#, "{}"),
    ("user", r#"{"kudos": 100}"#, "{}"),
    ("other", r#"{"kudos": 100}"#, "{}"),
    ("poor", r#"{"kudos": 0}"#, "{}"),
    ("rich", r#"{"kudos": 10000}"#, "{}"),
    ("trusted", r#"{"trusted": true, "kudos": 10000}"#, "{}"),
    ("owner", r#"{"trusted": true}"#, "{}"),
    ("untrusted", "{}", "{}"),
    ("special", r#"{"kudos": 10000}"#, r#"{"special": true}"#),
    ("service", r#"{"kudos": 10000}"#, r#"{"service": true}"#),
    ("education", r#"{"kudos": 10000}"#, r#"{"education": true}"#),
    ("flagged", r#"{"kudos": 10000}"#, r#"{"flagged": true}"#),
    (
        "customizer",
        r#"{"kudos": 10000}"#,
        r#"{"customizer": true}"#,
    ),
    ("vpn", r#"{"kudos": 10000}"#, r#"{"vpn": true}"#),
    ("leaver", r#"{"kudos": 10000}"#, "{}"),
];

/// The image models that the rules speak of.
const MODELS: &str = include_str!("../../../testdata/conformance/models.json");

pub(crate) struct World {
    horde: TestHorde,
    users: BTreeMap<String, TestUser>,
    saved: BTreeMap<String, String>,
}

impl World {
    /// Tries a rule; says what went wrong.
    pub(crate) async fn try_rule(rule: &Rule) -> Result<(), String> {
        let mut world = Self::new(&rule.settings).await;
        let mut outcome = Ok(());
        for step in &rule.steps {
            match step {
                Step::Later(seconds) => {
                    world.horde.later(*seconds);
                    world.horde.server.settle_down().await.unwrap();
                }
                Step::Call(call) => {
                    outcome = world.try_call(call).await;
                }
            }
            if outcome.is_err() {
                break;
            }
        }
        world.horde.server.stop().await;
        outcome.map_err(|why| format!("{} {}\n{why}", rule.id, rule.text))
    }

    pub(crate) async fn new(settings: &[(String, String)]) -> Self {
        let strangers = strangers().await;
        let get = |name: &str| {
            settings
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, v)| v.as_str())
        };
        let horde = TestHorde::start_with(|config| Config {
            admins: ordu_api::UserId::new(1).into_iter().collect(),
            trusted_proxies: vec!["127.0.0.1".parse().unwrap()],
            private_addresses: vec!["127.0.0.1".parse().unwrap()],
            models: ModelSources {
                image: ModelSource::Text(MODELS.to_owned()),
                ..ModelSources::default()
            },
            rate_limits: get("rate_limits").is_some(),
            test_users: get("no_test_users").is_none(),
            share_results: get("share_results").is_some(),
            ratings_url: get("ratings")
                .map(|at| format!("{strangers}/ratings/{at}").parse().unwrap()),
            guard: GuardConfig {
                ip_check_url: get("checker")
                    .map(|says| format!("{strangers}/check/{says}/{{ipaddr}}")),
                onboarding: OnboardingLimits {
                    same_address: get("same_address").map_or(3, |count| count.parse().unwrap()),
                    ..OnboardingLimits::default()
                },
                ..GuardConfig::default()
            },
            ..config
        })
        .await;
        let mut world = Self {
            horde,
            users: BTreeMap::new(),
            saved: BTreeMap::new(),
        };
        for (name, value) in pictures() {
            world.saved.insert(name.to_owned(), value);
        }
        world.saved.insert("strangers".to_owned(), strangers);
        if get("no_test_users").is_none() {
            world.meet("admin").await;
        }
        world
    }

    /// Somebody's key; `None` for nobody's.
    async fn key(&mut self, who: &str) -> Option<String> {
        match who {
            "none" => None,
            "anon" => Some("0000000000".to_owned()),
            "nobody" => Some("nobody has this key".to_owned()),
            saved if saved.starts_with('$') => Some(self.fill(saved).await),
            who => {
                self.meet(who).await;
                self.users
                    .get(who)
                    .map(|user| user.api_key.reveal().to_owned())
            }
        }
    }

    /// Makes an account when it is first spoken of.
    async fn meet(&mut self, who: &str) {
        if self.users.contains_key(who) {
            return;
        }
        let (_, minted, role) = ROLES
            .iter()
            .find(|(name, ..)| *name == who)
            .unwrap_or_else(|| panic!("nobody is called {who}"));
        let user = self
            .horde
            .mint(who, serde_json::from_str(minted).unwrap())
            .await;
        let path = format!("/users/{}", user.user_id);
        let own = user.api_key.reveal().to_owned();
        self.users.insert(who.to_owned(), user);
        if *role != "{}" {
            let admin = self.users["admin"].api_key.reveal().to_owned();
            let role: Value = serde_json::from_str(role).unwrap();
            let answer = self
                .horde
                .call(Method::PUT, &path, Some(&admin), Some(&role))
                .await;
            assert_eq!(answer.status, 200, "{who}: {}", answer.body);
        }
        if who == "leaver" {
            let answer = self
                .horde
                .call(Method::DELETE, &path, Some(&own), None)
                .await;
            assert_eq!(answer.status, 200, "{who}: {}", answer.body);
        }
    }

    /// Puts values for `$NAME`.
    async fn fill(&mut self, text: &str) -> String {
        let mut filled = String::new();
        let mut parts = text.split('$');
        filled.push_str(parts.next().unwrap_or_default());
        for part in parts {
            let end = part
                .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.'))
                .unwrap_or(part.len());
            let (name, rest) = part.split_at(end);
            filled.push_str(&self.value(name).await);
            filled.push_str(rest);
        }
        filled
    }

    async fn value(&mut self, name: &str) -> String {
        if let Some((who, what)) = name.split_once('.') {
            self.meet(who).await;
            let user = &self.users[who];
            return match what {
                "id" => user.user_id.clone(),
                "alias" => user.alias.clone(),
                "key" => user.api_key.reveal().to_owned(),
                _ => panic!("${name}"),
            };
        }
        if let Some(count) = name.strip_prefix("long") {
            return "a".repeat(count.parse().unwrap());
        }
        if let Some(count) = name.strip_prefix("words") {
            return "a ".repeat(count.parse().unwrap());
        }
        if let Some(count) = name.strip_prefix("stops") {
            return list(count, |i| json!(format!("stop {i}")));
        }
        if let Some(count) = name.strip_prefix("remarks") {
            return list(
                count,
                |i| json!({ "type": "lora", "value": "download_failed", "ref": i.to_string() }),
            );
        }
        let saved = self.saved.get(name);
        saved
            .unwrap_or_else(|| panic!("${name} was not saved"))
            .clone()
    }

    async fn try_call(&mut self, call: &Call) -> Result<(), String> {
        let answer = self.send(call).await;
        let mut expected = call.expected.clone();
        for (_, wanted) in &mut expected.members {
            if let Some(Value::String(text)) = wanted {
                *text = self.fill(text).await;
            }
        }
        judge(&expected, &answer).map_err(|why| {
            format!(
                "  {}\n  {why}\n  {} {}",
                call.line, answer.status, answer.body
            )
        })?;
        for (name, pointer) in &call.expected.saves {
            let value = answer.body.pointer(pointer).cloned().unwrap_or_default();
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            self.saved.insert(name.clone(), text);
        }
        Ok(())
    }

    pub(crate) async fn send(&mut self, call: &Call) -> Answer {
        let key = self.key(&call.who).await;
        let (method, path, usual) = match &call.target {
            Target::Verb(verb) => usual(verb),
            Target::Path(method, path) => (method.as_str(), path.as_str(), Value::Null),
        };
        let path = self.fill(path).await;
        let url = format!("{}/api/v2{path}", self.horde.url);
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.horde.http.request(method, url);
        if let Some(key) = key {
            request = request.header("apikey", key);
        }
        if let Some(address) = &call.address {
            request = request.header("x-forwarded-for", address);
        }
        for (name, value) in &call.headers {
            request = request.header(name, self.fill(value).await);
        }
        let request = match &call.body {
            Body::Raw(raw) => request
                .header("content-type", "application/json")
                .body(self.fill(raw).await),
            Body::None if usual.is_null() => request,
            Body::None => request.json(&self.filled(usual).await),
            Body::Json(json) => {
                let text = self.fill(json).await;
                let over =
                    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
                let mut body = self.filled(usual).await;
                lay_over(&mut body, over);
                request.json(&body)
            }
        };
        Answer::read(request).await
    }

    async fn filled(&mut self, usual: Value) -> Value {
        let text = usual.to_string();
        if usual.get("id").is_some() && !self.saved.contains_key("job") {
            self.saved.insert(
                "job".to_owned(),
                "6a1b0c9e-7f43-4b6e-9f3b-0d1c2b3a4958".to_owned(),
            );
        }
        serde_json::from_str(&self.fill(&text).await).unwrap()
    }
}

/// A list of so many items as JSON.
fn list(count: &str, item: impl Fn(usize) -> Value) -> String {
    let count: usize = count.parse().unwrap();
    Value::Array((0..count).map(item).collect()).to_string()
}

/// Whether an answer is as expected.
pub(crate) fn judge(expected: &Expected, answer: &Answer) -> Result<(), String> {
    if answer.status != expected.status {
        return Err(format!("the status is not {}", expected.status));
    }
    if answer.rc() != expected.rc.as_deref().unwrap_or_default() {
        return Err(format!("the code is `{}`", answer.rc()));
    }
    if let Some(field) = &expected.field {
        let errors = answer.body["errors"].as_object();
        if errors.is_none_or(|errors| !errors.contains_key(field)) {
            return Err(format!("`{field}` is not among the errors"));
        }
    }
    if answer.status >= 400 && !answer.body["message"].is_string() {
        return Err("there is no message".to_owned());
    }
    for (pointer, wanted) in &expected.members {
        let found = answer.body.pointer(pointer);
        let same = match (found, wanted) {
            (Some(found), Some(wanted)) => {
                found == wanted || found.as_f64().is_some_and(|n| Some(n) == wanted.as_f64())
            }
            (None, None) => true,
            _ => false,
        };
        if !same {
            return Err(format!("{pointer} is {found:?}"));
        }
    }
    let message = answer.body["message"].as_str().unwrap_or_default();
    match expected
        .says
        .iter()
        .find(|part| !message.contains(part.as_str()))
    {
        Some(part) => Err(format!("the message does not say `{part}`")),
        None => Ok(()),
    }
}

/// Lays members over others; `null` takes one away.
pub(crate) fn lay_over(body: &mut Value, over: Value) {
    match (body, over) {
        (Value::Object(body), Value::Object(over)) => {
            for (name, value) in over {
                if value.is_null() {
                    body.remove(&name);
                } else {
                    lay_over(body.entry(name).or_insert(Value::Null), value);
                }
            }
        }
        (body, over) => *body = over,
    }
}

/// What a verb means: method, path and the usual body.
pub(crate) fn usual(verb: &str) -> (&'static str, &'static str, Value) {
    let agent = "AI Horde Worker reGen:14.0.0:https://example.org";
    match verb {
        "async" => (
            "POST",
            "/generate/async",
            json!({ "prompt": "a lighthouse", "models": ["stable_diffusion"] }),
        ),
        "text" => (
            "POST",
            "/generate/text/async",
            json!({ "prompt": "Once upon a time", "models": [TEXT_MODEL] }),
        ),
        "alchemy" => (
            "POST",
            "/interrogate/async",
            json!({ "forms": [{ "name": "caption" }], "source_image": TINY_PNG }),
        ),
        "pop" => (
            "POST",
            "/generate/pop",
            json!({
                "name": "a worker", "models": ["stable_diffusion"], "bridge_agent": agent,
                "max_pixels": 4_194_304, "allow_controlnet": true, "allow_lora": true,
                "allow_sdxl_controlnet": true,
            }),
        ),
        "textpop" => (
            "POST",
            "/generate/text/pop",
            json!({
                "name": "a scribe", "models": [TEXT_MODEL], "max_context_length": 4096,
                "bridge_agent": "KoboldCppEmbedWorker:2:https://example.org",
            }),
        ),
        "alchemypop" => (
            "POST",
            "/interrogate/pop",
            json!({ "name": "an alchemist", "forms": ["caption"], "bridge_agent": agent }),
        ),
        "submit" => (
            "POST",
            "/generate/submit",
            json!({ "id": "$job", "generation": "R2", "seed": 1 }),
        ),
        "textsubmit" => (
            "POST",
            "/generate/text/submit",
            json!({ "id": "$job", "generation": "there was a horde", "seed": 1 }),
        ),
        "alchemysubmit" => (
            "POST",
            "/interrogate/submit",
            json!({ "id": "$job", "result": { "caption": "a picture" } }),
        ),
        _ => panic!("no verb is called {verb}"),
    }
}

/// Pictures by name, as base64.
fn pictures() -> [(&'static str, String); 4] {
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let mut opaque = Vec::new();
    image::RgbImage::new(8, 8)
        .write_to(&mut Cursor::new(&mut opaque), image::ImageFormat::Png)
        .unwrap();
    [
        ("clear", TINY_PNG.to_owned()),
        ("opaque", encode(&opaque)),
        ("large", encode(&header(4000, 4000))),
        ("tiled", encode(&header(8192, 8192))),
    ]
}

/// The head of a lossless WebP of so many pixels.
fn header(width: u32, height: u32) -> Vec<u8> {
    let bits = (width - 1) | ((height - 1) << 14);
    let mut chunk = vec![0x2f];
    chunk.extend(bits.to_le_bytes());
    chunk.extend([0; 5]);
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((u32::try_from(chunk.len()).unwrap() + 12).to_le_bytes());
    bytes.extend(b"WEBPVP8L");
    bytes.extend(u32::try_from(chunk.len()).unwrap().to_le_bytes());
    bytes.extend(chunk);
    bytes
}

/// Servers of others: one that judges addresses, one that takes ratings, one with files.
async fn strangers() -> String {
    let opaque = {
        let mut bytes = Vec::new();
        let picture = image::RgbImage::new(8, 8);
        picture
            .write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Png)
            .unwrap();
        bytes
    };
    let broken = opaque[..opaque.len() / 2].to_vec();
    let router = Router::new()
        .route(
            "/check/busy/{address}",
            get(|| async { StatusCode::TOO_MANY_REQUESTS }),
        )
        .route("/check/hidden/{address}", get(|| async { "0.99" }))
        .route("/check/open/{address}", get(|| async { "0.1" }))
        .route("/ratings/fine", post(|| async { "{}" }))
        .route(
            "/ratings/rated",
            post(|| async { (StatusCode::FORBIDDEN, "{}") }),
        )
        .route(
            "/ratings/wrong",
            post(|| async { (StatusCode::BAD_REQUEST, "{\"message\": \"x\"}") }),
        )
        .route(
            "/ratings/garbled",
            post(|| async { (StatusCode::BAD_GATEWAY, "<html>") }),
        )
        .route("/ratings/silent", post(std::future::pending::<StatusCode>))
        .route("/picture", get(move || async move { opaque.clone() }))
        .route("/broken", get(move || async move { broken.clone() }))
        .route("/page", get(|| async { "<html>" }))
        .route("/big", get(|| async { vec![0_u8; 6 << 20] }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}
