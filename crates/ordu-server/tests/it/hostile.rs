//! Whatever is sent, the answer is never a 5xx, never a panic, and errors are JSON with a message.
//!
//! Each worker of the test mutates valid requests at random from a seed of its own. `ORDU_FUZZ=N`
//! sends N requests instead of a few thousand, and then also watches the memory.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use ordu_server::Config;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use crate::support::TestHorde;

/// How many are sent if nobody says otherwise.
const REQUESTS: u64 = 3000;
/// How many are sent at the same time.
const SENDERS: u64 = 8;
/// After so many the clock moves on, so that what was accepted also expires.
const CLOCK_EVERY: u64 = 100;
/// So much more memory at the end than after the first quarter is a leak, in KiB.
const MAX_GROWTH_KIB: u64 = 96 * 1024;
/// From so many requests on the memory is watched.
const WATCH_FROM: u64 = 100_000;

/// What is sent where: method, path with `{id}` for an id, and a valid body.
#[expect(clippy::too_many_lines, reason = "a table")]
fn operations() -> Vec<(&'static str, &'static str, Value)> {
    let params = json!({
        "sampler_name": "k_euler", "cfg_scale": 7.5, "width": 512, "height": 512, "steps": 20,
        "n": 2, "seed": "x", "seed_variation": 3, "karras": true, "denoising_strength": 0.5,
        "hires_fix": true, "clip_skip": 2, "tiling": false, "facefixer_strength": 0.5,
        "post_processing": ["GFPGAN"], "loras": [{"name": "1", "is_version": true, "model": 0.5}],
        "tis": [{"name": "2", "inject_ti": "prompt"}], "control_type": "canny",
        "special": {"a": [1]}, "workflow": "qr_code",
        "extra_texts": [{"text": "x", "reference": "qr_code"}], "transparent": false,
    });
    let image = json!({
        "prompt": "a (fox:1.2)###blur", "params": params, "nsfw": true, "models": ["ordu-tiny"],
        "source_image": "iVBORw0KGgo=", "source_processing": "img2img", "source_mask": "AAAA",
        "extra_source_images": [{"image": "AAAA", "strength": 1}], "workers": [], "r2": true,
        "trusted_workers": false, "slow_workers": true, "dry_run": true, "style": "impasto",
        "webhook": "https://example.org/hook", "proxied_account": "x", "allow_downgrade": true,
    });
    let text = json!({
        "prompt": "Once upon", "models": ["x"], "softprompt": "y", "dry_run": false,
        "params": { "n": 1, "max_length": 80, "max_context_length": 1024, "temperature": 0.7,
            "sampler_order": [6, 0, 1, 2, 3, 4, 5], "stop_sequence": ["\n"], "top_k": 40,
            "rep_pen": 1.1 },
    });
    let pop = json!({
        "name": "w", "models": ["ordu-tiny"], "bridge_agent": "AI Horde Worker reGen:14:x",
        "max_pixels": 1_048_576, "amount": 2, "threads": 1, "priority_usernames": ["a#1"],
        "blacklist": ["x"], "nsfw": true, "allow_lora": true, "capabilities": ["r2"],
        "max_length": 80, "max_context_length": 2048, "softprompts": ["y"],
        "forms": ["caption"], "max_tiles": 16,
    });
    let submit = json!({
        "id": "00000000-0000-0000-0000-000000000000", "generation": "R2", "state": "ok", "seed": 1,
        "gen_metadata": [{"type": "lora", "value": "download_failed", "ref": "1"}],
        "result": {"caption": "x"},
    });
    let forms = json!({
        "forms": [{"name": "caption", "payload": {"a": 1}}, {"name": "GFPGAN"}],
        "source_image": "iVBORw0KGgo=", "slow_workers": true,
    });
    let rating = json!({
        "best": "00000000-0000-0000-0000-000000000000",
        "ratings": [{"id": "00000000-0000-0000-0000-000000000000", "rating": 7, "artifacts": 1}],
    });
    let filter = json!({ "regex": "a(b|c)", "filter_type": 10, "description": "x", "prompt": "y",
        "replacement": "z" });
    let key = json!({ "name": "k", "kudos": 100, "expiry": 3, "max_image_pixels": 1000,
        "max_image_steps": 20, "max_text_tokens": 100 });
    let style = json!({
        "name": "s", "info": "about the style", "prompt": "{p}, x###{np}", "public": true,
        "nsfw": false, "tags": ["t"], "models": ["ordu-tiny"],
        "params": { "steps": 5, "loras": [{ "name": "1" }], "special": {}, "top_k": 4 },
        "sharedkey": "00000000-0000-0000-0000-000000000000",
    });
    let style_of_all = json!({ "name": "all", "prompt": "{p}{np} x", "models": ["m"] });
    let example = json!({ "url": "https://example.org/x.webp", "primary": true });
    let collection = json!({ "name": "c", "info": "i", "styles": ["all"], "public": true });
    let modes = json!({ "invite_only_mode": false, "raid_mode": false });
    let user = json!({ "kudos": 5, "trusted": true, "username": "n", "contact": "c",
        "concurrency": 30, "flagged": false, "public_workers": true, "usage_multiplier": 1.5 });
    let worker = json!({ "maintenance": true, "maintenance_msg": "m", "paused": false,
        "info": "i", "name": "n", "team": "" });
    let model = json!({ "baseline": "flux_1", "requirements": { "min_steps": 4 }, "nsfw": true,
        "parameters": 7e9 });
    let team = json!({ "name": "a team", "info": "about" });
    let address = json!({ "ipaddr": "203.0.113.7", "hours": 1 });
    let progress = json!({ "id": "00000000-0000-0000-0000-000000000000", "step": 1, "of": 3,
        "text": "Once", "preview": "AAAA" });
    let nothing = Value::Null;
    let transfer = json!({ "username": "a#1", "amount": 1.5 });
    vec![
        ("POST", "/generate/async", image),
        ("GET", "/generate/check/{id}", nothing.clone()),
        ("GET", "/generate/status/{id}", nothing.clone()),
        ("DELETE", "/generate/status/{id}", nothing.clone()),
        ("POST", "/generate/rate/{id}", rating),
        ("POST", "/generate/pop", pop.clone()),
        ("POST", "/generate/progress", progress),
        ("GET", "/generate/events/{id}", nothing.clone()),
        ("POST", "/generate/submit", submit.clone()),
        ("POST", "/generate/text/async", text),
        ("GET", "/generate/text/status/{id}", nothing.clone()),
        ("DELETE", "/generate/text/status/{id}", nothing.clone()),
        ("POST", "/generate/text/pop", pop.clone()),
        ("POST", "/generate/text/submit", submit.clone()),
        ("POST", "/interrogate/async", forms),
        ("GET", "/interrogate/status/{id}", nothing.clone()),
        ("DELETE", "/interrogate/status/{id}", nothing.clone()),
        ("POST", "/interrogate/pop", pop),
        ("POST", "/interrogate/submit", submit),
        ("GET", "/status/heartbeat", nothing.clone()),
        ("GET", "/status/models", nothing.clone()),
        ("GET", "/status/models/{id}", nothing.clone()),
        ("GET", "/status/performance", nothing.clone()),
        ("GET", "/status/news", nothing.clone()),
        ("GET", "/status/modes", nothing.clone()),
        ("PUT", "/status/modes", modes),
        ("GET", "/stats/img/totals", nothing.clone()),
        ("GET", "/stats/img/models", nothing.clone()),
        ("GET", "/stats/text/totals", nothing.clone()),
        ("GET", "/stats/text/models", nothing.clone()),
        ("GET", "/documents/terms", nothing.clone()),
        ("GET", "/documents/sponsors", nothing.clone()),
        ("PUT", "/operations/models/{id}", model),
        ("DELETE", "/operations/models/{id}", nothing.clone()),
        ("GET", "/teams", nothing.clone()),
        ("POST", "/teams", team.clone()),
        ("GET", "/teams/{id}", nothing.clone()),
        ("PATCH", "/teams/{id}", team),
        ("DELETE", "/teams/{id}", nothing.clone()),
        ("GET", "/workers", nothing.clone()),
        ("GET", "/workers/{id}", nothing.clone()),
        ("PUT", "/workers/{id}", worker),
        ("DELETE", "/workers/{id}", nothing.clone()),
        ("GET", "/workers/name/{id}", nothing.clone()),
        ("GET", "/find_user", nothing.clone()),
        ("GET", "/users", nothing.clone()),
        ("GET", "/users/{id}", nothing.clone()),
        ("PUT", "/users/{id}", user),
        ("POST", "/kudos/transfer", transfer),
        ("GET", "/filters", nothing.clone()),
        ("PUT", "/filters", filter.clone()),
        ("POST", "/filters", filter.clone()),
        ("PATCH", "/filters/{id}", filter),
        ("DELETE", "/filters/{id}", nothing.clone()),
        ("PUT", "/sharedkeys", key.clone()),
        ("GET", "/sharedkeys/{id}", nothing.clone()),
        ("PATCH", "/sharedkeys/{id}", key),
        ("DELETE", "/sharedkeys/{id}", nothing.clone()),
        ("GET", "/styles/image", nothing.clone()),
        ("POST", "/styles/image", style.clone()),
        ("POST", "/styles/image", style_of_all.clone()),
        ("GET", "/styles/image/{id}", nothing.clone()),
        ("PATCH", "/styles/image/{id}", style.clone()),
        ("DELETE", "/styles/image/{id}", nothing.clone()),
        ("GET", "/styles/image_by_name/{id}", nothing.clone()),
        ("POST", "/styles/image/{id}/example", example.clone()),
        ("PATCH", "/styles/image/{id}/example/{id}", example),
        ("DELETE", "/styles/image/{id}/example/{id}", nothing.clone()),
        ("GET", "/styles/text", nothing.clone()),
        ("POST", "/styles/text", style_of_all),
        ("GET", "/styles/text/{id}", nothing.clone()),
        ("PATCH", "/styles/text/{id}", style),
        ("DELETE", "/styles/text/{id}", nothing.clone()),
        ("GET", "/styles/text_by_name/{id}", nothing.clone()),
        ("GET", "/collections", nothing.clone()),
        ("POST", "/collections", collection.clone()),
        ("GET", "/collections/{id}", nothing.clone()),
        ("PATCH", "/collections/{id}", collection),
        ("DELETE", "/collections/{id}", nothing.clone()),
        ("GET", "/collection_by_name/{id}", nothing.clone()),
        ("GET", "/operations/ipaddr", nothing.clone()),
        ("POST", "/operations/ipaddr", address.clone()),
        ("DELETE", "/operations/ipaddr", address),
        (
            "GET",
            "/operations/block_worker_ipaddr/{id}",
            nothing.clone(),
        ),
        ("GET", "/operations/audit", nothing),
        (
            "POST",
            "/users",
            json!({ "username": "name", "captcha": "x" }),
        ),
    ]
}

/// Texts that have broken servers before.
const TEXTS: &[&str] = &[
    "",
    " ",
    "\0",
    "a\0b",
    "null",
    "-1",
    "9999999999999999999999999",
    "' OR 1=1 --",
    "<script>alert(1)</script>",
    "../../../../etc/passwd",
    "%00",
    "%s%n",
    "\u{202e}abc",
    "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
    "z\u{0335}\u{0321}a\u{0334}l",
    "\u{feff}",
    "\r\nSet-Cookie: a=b",
    "http://169.254.169.254/latest",
    "http://127.0.0.1:1/",
    "https://[::1]/",
    "http://",
    "data:image/png;base64,",
    "R2",
    "horde_special::x",
    "(((((((((((a:1.1)",
    "###",
    "{p}{np}{",
    "#",
    "a#",
    "#0",
    "00000000-0000-0000-0000-000000000000",
    "AI Horde Worker reGen:99999999999999999999:x",
    "(a+)+$",
    "[",
];

/// How many requests were answered.
static ANSWERED: AtomicU64 = AtomicU64::new(0);

struct Fuzzer {
    dice: ChaCha8Rng,
    operations: Vec<(&'static str, &'static str, Value)>,
    keys: Vec<String>,
    /// Ids that answers mentioned.
    ids: Arc<Mutex<Vec<String>>>,
}

impl Fuzzer {
    fn chance(&mut self, percent: u32) -> bool {
        self.dice.random_range(0..100) < percent
    }

    fn text(&mut self) -> String {
        match self.dice.random_range(0..10) {
            0 => "x".repeat(self.dice.random_range(1..20_000)),
            1 => (0..self.dice.random_range(0..40))
                .map(|_| self.dice.random::<char>())
                .collect(),
            2 => self.id(),
            _ => (*TEXTS.choose(&mut self.dice).unwrap()).to_owned(),
        }
    }

    fn id(&mut self) -> String {
        let known = self.ids.lock().unwrap();
        match known.choose(&mut self.dice) {
            Some(id) if self.dice.random_range(0..4) > 0 => id.clone(),
            _ => uuid::Uuid::from_u128(self.dice.random()).to_string(),
        }
    }

    fn value(&mut self, depth: u32) -> Value {
        match self.dice.random_range(0..14) {
            0 => Value::Null,
            1 => json!(self.dice.random::<bool>()),
            2 => json!(self.dice.random::<i64>()),
            3 => json!(u64::MAX - self.dice.random_range(0..3)),
            4 => json!(self.dice.random_range(-3..70)),
            5 => json!(f64::from_bits(self.dice.next_u64())),
            6 => json!(self.dice.random_range(-1e9..1e9_f64)),
            7 if depth < 4 => (0..self.dice.random_range(0..5))
                .map(|_| self.value(depth + 1))
                .collect(),
            8 if depth < 4 => {
                let mut members = Map::new();
                for _ in 0..self.dice.random_range(0..4) {
                    members.insert(self.text(), self.value(depth + 1));
                }
                Value::Object(members)
            }
            9 => (0..200).fold(Value::Null, |inner, _| Value::Array(vec![inner])),
            10 => json!(vec!["x"; self.dice.random_range(0..600)]),
            _ => json!(self.text()),
        }
    }

    /// Changes a value somewhere.
    fn mutate(&mut self, value: &mut Value) {
        match value {
            Value::Object(members) if !members.is_empty() && self.chance(85) => {
                let index = self.dice.random_range(0..members.len());
                let name = members.keys().nth(index).unwrap().clone();
                match self.dice.random_range(0..6) {
                    0 => drop(members.remove(&name)),
                    1 => drop(members.insert(name, self.value(0))),
                    2 => drop(members.insert(self.text(), self.value(0))),
                    _ => self.mutate(members.get_mut(&name).unwrap()),
                }
            }
            Value::Array(items) if !items.is_empty() && self.chance(85) => {
                let index = self.dice.random_range(0..items.len());
                match self.dice.random_range(0..4) {
                    0 => drop(items.remove(index)),
                    1 => items.push(items[index].clone()),
                    _ => self.mutate(&mut items[index]),
                }
            }
            other => *other = self.value(0),
        }
    }

    /// A body as bytes: mostly JSON.
    fn body(&mut self, valid: &Value) -> Vec<u8> {
        let mut value = valid.clone();
        for _ in 0..self.dice.random_range(0..4) {
            self.mutate(&mut value);
        }
        let mut bytes = value.to_string().into_bytes();
        match self.dice.random_range(0..30) {
            0 => bytes.truncate(self.dice.random_range(0..=bytes.len())),
            1 => bytes = vec![b'['; 20_000],
            2 => bytes = br#"{"prompt": 1e999, "prompt": -0.0}"#.to_vec(),
            3 => {
                let at = self.dice.random_range(0..=bytes.len());
                bytes.insert(at, self.dice.random());
            }
            4 => bytes.clear(),
            _ => {}
        }
        bytes
    }

    /// Something that can stand in a header; what cannot is not the server's concern.
    fn header(&mut self) -> Option<reqwest::header::HeaderValue> {
        reqwest::header::HeaderValue::from_bytes(self.text().as_bytes()).ok()
    }

    fn path(&mut self, path: &str) -> String {
        let segment = if self.chance(60) {
            self.id()
        } else {
            let text = self.text();
            let text: String = text.chars().take(500).collect();
            url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
        };
        let mut path = path.replace("{id}", &segment);
        if self.chance(10) {
            let text = self.text();
            let query: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
            let query: String = query.chars().take(1000).collect();
            let name = [
                "type",
                "name",
                "model_state",
                "min_count",
                "page",
                "tag",
                "model",
                "sort",
                "explain",
            ]
            .choose(&mut self.dice)
            .unwrap();
            path = format!("{path}?{name}={query}");
        }
        path
    }

    fn request(&mut self, http: &reqwest::Client, url: &str) -> (String, reqwest::RequestBuilder) {
        let (method, path, valid) = self.operations.choose(&mut self.dice).unwrap().clone();
        let path = self.path(path);
        let name = format!("{method} {path}");
        let address = format!("{url}/api/v2{path}");
        let mut request = http.request(method.parse().unwrap(), address);
        if self.chance(90) {
            let key = self.keys.choose(&mut self.dice).unwrap().clone();
            request = request.header("apikey", key);
        }
        for name in [
            "apikey",
            "X-Fields",
            "Client-Agent",
            "X-Forwarded-For",
            "Proxied-For",
        ] {
            if self.chance(4)
                && let Some(value) = self.header()
            {
                request = request.header(name, value);
            }
        }
        if !valid.is_null() || self.chance(10) {
            let media_type = match self.dice.random_range(0..12) {
                0 => "text/plain",
                1 => "application/vnd.api+json; charset=utf-8",
                _ => "application/json",
            };
            request = request
                .header("content-type", media_type)
                .body(self.body(&valid));
        }
        (name, request)
    }
}

/// Takes note of ids in an answer, so that later requests meet living things.
fn remember(ids: &Mutex<Vec<String>>, body: &Value) {
    let mut known = ids.lock().unwrap();
    let mentioned = [&body["id"], &body["user_id"]];
    for text in mentioned.into_iter().filter_map(Value::as_str) {
        if known.len() >= 200 {
            known.remove(0);
        }
        known.push(text.to_owned());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_is_sent_breaks_the_server() {
    let total: u64 = std::env::var("ORDU_FUZZ").map_or(REQUESTS, |text| text.parse().unwrap());
    let horde = Arc::new(TestHorde::start_with(|config| Config { ..config }).await);
    let mut keys = vec![ordu_api::ANONYMOUS_KEY.to_owned()];
    for name in ["one", "two", "three"] {
        keys.push(horde.user(name, 1e9).await.api_key.reveal().to_owned());
    }
    let ids = Arc::new(Mutex::new(Vec::new()));
    let sent = Arc::new(AtomicU64::new(0));
    let early_memory = Arc::new(AtomicU64::new(0));
    let mut senders = tokio::task::JoinSet::new();
    for seed in 0..SENDERS {
        let (horde, ids, sent) = (Arc::clone(&horde), Arc::clone(&ids), Arc::clone(&sent));
        let early_memory = Arc::clone(&early_memory);
        let mut fuzzer = Fuzzer {
            dice: ChaCha8Rng::seed_from_u64(seed),
            operations: operations(),
            keys: keys.clone(),
            ids: Arc::clone(&ids),
        };
        senders.spawn(async move {
            loop {
                let number = sent.fetch_add(1, Ordering::Relaxed);
                if number >= total {
                    return;
                }
                if number % CLOCK_EVERY == 0 {
                    horde.later(7);
                    horde.server.settle_down().await.unwrap();
                }
                if number == total / 4 {
                    early_memory.store(resident_kib(), Ordering::Relaxed);
                }
                let (name, request) = fuzzer.request(&horde.http, &horde.url);
                let name = format!("sender {seed}, request {number}: {name}");
                judge(&horde.http, &name, request, &ids).await;
            }
        });
    }
    while let Some(ended) = senders.join_next().await {
        ended.unwrap();
    }
    assert_eq!(horde.get("/status/heartbeat").await.status, 200);
    let answered = ANSWERED.load(Ordering::Relaxed);
    assert!(answered > total * 9 / 10, "only {answered} were answered");
    let (early, late) = (early_memory.load(Ordering::Relaxed), resident_kib());
    println!(
        "{total} requests, {answered} answered; resident memory {early} KiB after a quarter, {late} KiB at the end"
    );
    assert!(
        total < WATCH_FROM || late < early + MAX_GROWTH_KIB,
        "memory grew from {early} to {late} KiB"
    );
}

/// Sends a request and looks at the answer; `name` says which one it was.
async fn judge(
    http: &reqwest::Client,
    name: &str,
    request: reqwest::RequestBuilder,
    ids: &Mutex<Vec<String>>,
) {
    let Ok(request) = request.build() else {
        return;
    };
    let sent = request
        .body()
        .and_then(|body| body.as_bytes())
        .map(|bytes| {
            String::from_utf8_lossy(bytes)
                .chars()
                .take(2000)
                .collect::<String>()
        });
    // Who is refused before its body is read may find the connection closed instead of an answer.
    let Ok(response) = http.execute(request).await else {
        return;
    };
    ANSWERED.fetch_add(1, Ordering::Relaxed);
    let status = response.status().as_u16();
    let is_stream = response
        .headers()
        .get("content-type")
        .is_some_and(|kind| kind == "text/event-stream");
    if is_stream {
        // It goes on as long as the request lives.
        return;
    }
    let text = response.text().await.unwrap();
    let context = || {
        let text: String = text.chars().take(500).collect();
        format!("{name}\nsent {sent:?}\ngot {status} {text}")
    };
    assert!(status < 500, "{}", context());
    let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    if status >= 400 {
        assert!(body["message"].is_string(), "{}", context());
    }
    remember(ids, &body);
}

/// The memory of this process.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}
