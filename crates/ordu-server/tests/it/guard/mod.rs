//! The countermeasures, from outside.

mod addresses;
mod filters;
mod onboarding;
mod problems;
mod suspicion;

use std::net::SocketAddr;

use axum::Router;
use ordu_api::user::TestUser;
use ordu_api::{ApiKey, UserId};
use ordu_server::{Config, GuardConfig};
use ordu_store::UserChange;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, TestHorde, pop, request};

/// A horde that believes where a test says it calls from.
async fn start(guard: GuardConfig) -> TestHorde {
    TestHorde::start_with(|config| with_guard(config, guard)).await
}

fn with_guard(config: Config, guard: GuardConfig) -> Config {
    Config {
        guard,
        trusted_proxies: vec!["127.0.0.1".parse().unwrap()],
        ..config
    }
}

/// Who calls, and from where.
struct Caller<'a> {
    horde: &'a TestHorde,
    key: ApiKey,
    address: &'static str,
    agent: &'static str,
}

impl<'a> Caller<'a> {
    fn new(horde: &'a TestHorde, key: &ApiKey) -> Self {
        Self {
            horde,
            key: key.clone(),
            address: "203.0.113.1",
            agent: "tests:1:here",
        }
    }

    fn from(self, address: &'static str) -> Self {
        Self { address, ..self }
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let url = format!("{}/api/v2{path}", self.horde.url);
        let mut request = self
            .horde
            .http
            .request(method, url)
            .header("apikey", self.key.reveal())
            .header("client-agent", self.agent)
            .header("x-forwarded-for", self.address);
        if let Some(body) = body {
            request = request.json(&body);
        }
        Answer::read(request).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None).await
    }

    async fn put(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PUT, path, Some(body)).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, Some(body)).await
    }

    async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PATCH, path, Some(body)).await
    }

    async fn delete(&self, path: &str, body: Option<Value>) -> Answer {
        self.call(Method::DELETE, path, body).await
    }

    /// Asks for a picture of a prompt.
    async fn ask(&self, prompt: &str) -> Answer {
        self.ask_with(json!({ "prompt": prompt })).await
    }

    async fn ask_with(&self, members: Value) -> Answer {
        let mut body = serde_json::to_value(request()).unwrap();
        for (name, value) in members.as_object().unwrap() {
            body[name] = value.clone();
        }
        self.post("/generate/async", body).await
    }

    async fn pop(&self, name: &str) -> Answer {
        self.pop_with(name, json!({})).await
    }

    async fn pop_with(&self, name: &str, members: Value) -> Answer {
        let mut body = serde_json::to_value(pop(name)).unwrap();
        for (name, value) in members.as_object().unwrap() {
            body[name] = value.clone();
        }
        self.post("/generate/pop", body).await
    }

    /// Delivers a job without a picture.
    async fn submit(&self, job: &Value, members: Value) -> Answer {
        let mut body = json!({ "id": job, "generation": "R2", "state": "ok", "seed": 1 });
        for (name, value) in members.as_object().unwrap() {
            body[name] = value.clone();
        }
        self.post("/generate/submit", body).await
    }
}

async fn mint(horde: &TestHorde, name: &str, moderator: bool, trusted: bool) -> TestUser {
    let body = json!({ "username": name, "oauth_id": name, "kudos": 10_000,
                       "moderator": moderator, "trusted": trusted });
    let answer = horde.post("/dev/test-user", None, &body).await;
    serde_json::from_value(answer.body).unwrap()
}

async fn moderator(horde: &TestHorde) -> Caller<'_> {
    let user = mint(horde, "moderator", true, true).await;
    Caller::new(horde, &user.api_key).from("203.0.113.200")
}

/// Somebody whom nobody trusts yet.
async fn stranger<'a>(horde: &'a TestHorde, name: &str) -> Caller<'a> {
    let user = mint(horde, name, false, false).await;
    Caller::new(horde, &user.api_key)
}

/// Somebody who is trusted.
async fn friend<'a>(horde: &'a TestHorde, name: &str) -> Caller<'a> {
    let user = mint(horde, name, false, true).await;
    Caller::new(horde, &user.api_key)
}

/// Changes an account behind the server's back, and lets its copy grow old.
async fn change(horde: &TestHorde, caller: &Caller<'_>, change: UserChange) {
    let id = id_of(caller).await;
    horde.server.store().update_user(id, &change).await.unwrap();
    horde.later(11);
}

async fn id_of(caller: &Caller<'_>) -> UserId {
    let found = caller.get("/find_user").await;
    UserId::new(found.body["id"].as_i64().unwrap()).unwrap()
}

/// How much moderators see against an account.
async fn suspicion_of(moderator: &Caller<'_>, caller: &Caller<'_>) -> Value {
    let id = id_of(caller).await;
    let seen = moderator.get(&format!("/users/{id}")).await;
    seen.body["suspicious"].clone()
}

/// Somebody else's service that a horde calls, on this machine.
async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}
