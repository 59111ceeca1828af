//! Those who ask, and fresh things for each question.

use std::sync::atomic::{AtomicU32, Ordering};

use ordu_api::image::ImageRequest;
use ordu_api::user::TestUser;
use ordu_api::{ANONYMOUS_KEY, UserId};
use ordu_server::{Config, IdentityConfig, Registration};
use reqwest::Method;
use serde_json::{Value, json};

use crate::receiver::Receiver;
use crate::support::{
    Answer, TEXT_MODEL, TestHorde, alchemy_pop, alchemy_request, deliver_all, pop, request,
    text_pop, text_request,
};

/// Every kind of caller.
pub(super) const ROLES: [&str; 8] = [
    "none", "bad", "anon", "user", "owner", "mod", "admin", "shared",
];

/// Stands in samples for the id of something real.
const SOME_ID: &str = "00000000-0000-4000-8000-000000000000";

/// Somebody who has everything that one question is about.
struct Scene {
    owner: TestUser,
    path: String,
    body: Option<Value>,
}

pub(super) struct World {
    pub(super) horde: TestHorde,
    user: TestUser,
    /// Whom others give something.
    friend: TestUser,
    pub(super) moderator: TestUser,
    admin: TestUser,
    names: AtomicU32,
    /// The ratings service says yes as long as it lives.
    _ratings: Receiver,
}

impl World {
    pub(super) async fn start() -> Self {
        let ratings = Receiver::start().await;
        let horde = TestHorde::start_with(|config| Config {
            admins: vec![UserId::new(1).unwrap()],
            awarders: vec![UserId::new(1).unwrap()],
            share_results: true,
            identity: IdentityConfig {
                json_registration: Registration::Open,
                accounts_per_address: 0,
                ..config.identity.clone()
            },
            ratings_url: Some(ratings.url("/rating").parse().unwrap()),
            ..config
        })
        .await;
        let rich =
            |moderator: bool| json!({ "kudos": 1000, "trusted": true, "moderator": moderator });
        let admin = horde.mint("admin", rich(true)).await;
        assert_eq!(admin.user_id, "1");
        Self {
            admin,
            moderator: horde.mint("mod", rich(true)).await,
            user: horde.mint("user", rich(false)).await,
            friend: horde.mint("friend", rich(false)).await,
            horde,
            names: AtomicU32::new(0),
            _ratings: ratings,
        }
    }

    /// A name that nobody has.
    fn name(&self) -> String {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        format!("Name {number}")
    }

    /// Sends a sample as somebody, to something fresh; answers the status.
    pub(super) async fn ask(
        &self,
        method: &str,
        path: &str,
        sample: Option<&Value>,
        role: &str,
    ) -> u16 {
        let scene = self.scene(path, sample).await;
        let key = self.key(role, &scene.owner).await;
        let method = method.parse().unwrap();
        let answer = self
            .call(method, &scene.path, key.as_deref(), scene.body.as_ref())
            .await;
        if path.starts_with("/operations/block_worker") {
            // Everybody here comes from the one address.
            let key = self.admin.api_key.reveal();
            self.call(Method::DELETE, &scene.path, Some(key), None)
                .await;
        }
        answer.status
    }

    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: Option<&Value>,
    ) -> Answer {
        self.horde.call(method, path, key, body).await
    }

    /// The key that a role asks with.
    pub(super) async fn key(&self, role: &str, owner: &TestUser) -> Option<String> {
        let key = match role {
            "none" => return None,
            "bad" => "nobody has this key",
            "anon" => ANONYMOUS_KEY,
            "user" => self.user.api_key.reveal(),
            "owner" => owner.api_key.reveal(),
            "mod" => self.moderator.api_key.reveal(),
            "admin" => self.admin.api_key.reveal(),
            "shared" => return Some(self.shared_key_of(owner).await),
            other => panic!("{other}"),
        };
        Some(key.to_owned())
    }

    /// Makes something as somebody.
    pub(super) async fn make(
        &self,
        by: &TestUser,
        method: Method,
        path: &str,
        body: Value,
    ) -> Value {
        let key = Some(by.api_key.reveal());
        let answer = self.call(method, path, key, Some(&body)).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.body
    }

    async fn shared_key_of(&self, owner: &TestUser) -> String {
        let made = self
            .make(owner, Method::PUT, "/sharedkeys", json!({}))
            .await;
        made["id"].as_str().unwrap().to_owned()
    }

    pub(super) async fn owner(&self) -> TestUser {
        let more = json!({ "kudos": 1000, "trusted": true });
        self.horde.mint(&self.name(), more).await
    }

    /// Somebody's new worker: its id and its name.
    pub(super) async fn worker_of(&self, owner: &TestUser) -> (String, String) {
        let name = self.name();
        self.horde
            .client(&owner.api_key)
            .pop_image(&pop(&name))
            .await
            .unwrap();
        let found = self.horde.get(&format!("/workers/name/{name}")).await;
        (found.body["id"].as_str().unwrap().to_owned(), name)
    }

    /// An owner with what a path names, and the sample as it fits.
    async fn scene(&self, path: &str, sample: Option<&Value>) -> Scene {
        let owner = self.owner().await;
        let (id, inner) = self.subject(path, &owner).await;
        let segments = path.split('/').map(|segment| match segment {
            // What lies in something else is named second.
            "{example_id}" => inner.as_str(),
            parameter if parameter.starts_with('{') => id.as_str(),
            literal => literal,
        });
        let path = segments.collect::<Vec<_>>().join("/");
        let body = sample.map(|sample| {
            let text = sample
                .to_string()
                .replace(SOME_ID, &inner)
                .replace("somebody#3", &self.friend.alias);
            let mut body: Value = serde_json::from_str(&text).unwrap();
            let is_new_team = path == "/teams";
            if is_new_team || path.ends_with("/pop") {
                body["name"] = json!(self.name());
            }
            body
        });
        Scene { owner, path, body }
    }

    /// What stands for the parameters of a path, and what for the id in its sample.
    async fn subject(&self, path: &str, owner: &TestUser) -> (String, String) {
        let client = self.horde.client(&owner.api_key);
        let only = |id: String| (id, String::new());
        let parameter = path
            .split('{')
            .nth(1)
            .and_then(|rest| rest.split('}').next());
        match (path, parameter) {
            ("/generate/rate/{id}", _) => self.shared_picture(owner).await,
            ("/operations/models/{model_name}", _) => only(self.written_model().await),
            ("/collections", _) => (String::new(), self.style_of(owner, "image").await.0),
            (path, Some("style_id" | "style_name")) => self.style(path, owner).await,
            ("/generate/submit" | "/generate/progress", _) => {
                client.async_image(&request()).await.unwrap();
                let job = client.pop_image(&pop(&self.name())).await.unwrap();
                (String::new(), job.id.unwrap().to_string())
            }
            ("/generate/text/submit", _) => {
                client.async_text(&text_request()).await.unwrap();
                let job = client.pop_text(&text_pop(&self.name())).await.unwrap();
                (String::new(), job.id.unwrap().to_string())
            }
            ("/interrogate/submit", _) => {
                let asked = alchemy_request(&["caption"]);
                client.async_alchemy(&asked).await.unwrap();
                let offer = alchemy_pop(&self.name(), &["caption"]);
                let jobs = client.pop_alchemy(&offer).await.unwrap();
                (String::new(), jobs.forms.unwrap()[0].id.to_string())
            }
            (text, Some("id")) if text.starts_with("/generate/text") => only(
                client
                    .async_text(&text_request())
                    .await
                    .unwrap()
                    .id
                    .to_string(),
            ),
            (image, Some("id")) if image.starts_with("/generate") => {
                only(client.async_image(&request()).await.unwrap().id.to_string())
            }
            (_, Some("id")) => {
                let asked = alchemy_request(&["caption"]);
                only(client.async_alchemy(&asked).await.unwrap().id.to_string())
            }
            (_, Some(parameter)) => only(self.thing(parameter, owner).await),
            (_, None) => only(String::new()),
        }
    }

    async fn thing(&self, parameter: &str, owner: &TestUser) -> String {
        let id = |made: Value| made["id"].as_str().unwrap().to_owned();
        match parameter {
            "worker_id" => self.worker_of(owner).await.0,
            "worker_name" => self.worker_of(owner).await.1,
            "message_id" => {
                let (worker, _) = self.worker_of(owner).await;
                let body = json!({ "message": "hello", "worker_id": worker });
                id(self
                    .make(owner, Method::POST, "/workers/messages", body)
                    .await)
            }
            "collection_id" => self.collection_of(owner).await.0,
            "collection_name" => self.collection_of(owner).await.1,
            "team_id" => self.team_of(owner).await,
            "user_id" => owner.user_id.clone(),
            "sharedkey_id" => self.shared_key_of(owner).await,
            "filter_id" => {
                let body = json!({ "regex": "b[a4]d", "filter_type": 20 });
                id(self
                    .make(&self.moderator, Method::PUT, "/filters", body)
                    .await)
            }
            "model_name" => "ordu-tiny".to_owned(),
            "ipaddr" => "203.0.113.7".to_owned(),
            other => panic!("say what stands for {{{other}}}"),
        }
    }

    /// The style that a path is about, with an example if it is about one.
    async fn style(&self, path: &str, owner: &TestUser) -> (String, String) {
        let kind = if path.starts_with("/styles/text") {
            "text"
        } else {
            "image"
        };
        let (id, name) = self.style_of(owner, kind).await;
        if path.contains("{style_name}") {
            return (name, String::new());
        }
        if !path.contains("{example_id}") {
            return (id, String::new());
        }
        let examples = format!("/styles/image/{id}/example");
        let body = json!({ "url": "https://example.org/c.webp", "primary": true });
        let made = self.make(owner, Method::POST, &examples, body).await;
        (id, made["id"].as_str().unwrap().to_owned())
    }

    /// Somebody's new style: its id and its name.
    async fn style_of(&self, owner: &TestUser, kind: &str) -> (String, String) {
        let name = self.name();
        let model = if kind == "text" {
            TEXT_MODEL
        } else {
            "ordu-tiny"
        };
        let body = json!({
            "name": name, "info": "something new", "prompt": "{p}, well{np}", "models": [model],
        });
        let path = format!("/styles/{kind}");
        let made = self.make(owner, Method::POST, &path, body).await;
        (made["id"].as_str().unwrap().to_owned(), name)
    }

    /// Somebody's new team: its id.
    pub(super) async fn team_of(&self, owner: &TestUser) -> String {
        let body = json!({ "name": self.name(), "info": "something new" });
        let made = self.make(owner, Method::POST, "/teams", body).await;
        made["id"].as_str().unwrap().to_owned()
    }

    /// A model that a moderator wrote an entry for.
    async fn written_model(&self) -> String {
        let name = self.name();
        let path = format!("/operations/models/{name}");
        let body = json!({ "baseline": "stable diffusion 1" });
        self.make(&self.moderator, Method::PUT, &path, body).await;
        name
    }

    async fn collection_of(&self, owner: &TestUser) -> (String, String) {
        let name = self.name();
        let (style, _) = self.style_of(owner, "image").await;
        let body = json!({ "name": name, "styles": [style] });
        let made = self.make(owner, Method::POST, "/collections", body).await;
        (made["id"].as_str().unwrap().to_owned(), name)
    }

    /// A delivered picture for the public dataset: the request and the picture.
    async fn shared_picture(&self, owner: &TestUser) -> (String, String) {
        let client = self.horde.client(&owner.api_key);
        let shared = ImageRequest {
            shared: true,
            ..request()
        };
        let asked = client.async_image(&shared).await.unwrap();
        let offer = pop(&self.name());
        loop {
            let job = client.pop_image(&offer).await.unwrap();
            deliver_all(&client, &job).await;
            let status = client.status(asked.id).await.unwrap();
            if let Some(picture) = status.generations.first() {
                return (asked.id.to_string(), picture.id.to_string());
            }
        }
    }
}
