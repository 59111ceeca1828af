//! A horde with those who make styles, those who may not, and ways to do it.

use ordu_api::user::TestUser;
use ordu_server::Config;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, TEXT_MODEL, TestHorde, on_each_database, pop, request};

/// The horde and who is in it.
pub(crate) struct Studio {
    pub(crate) horde: TestHorde,
    /// Makes styles.
    pub(crate) owner: TestUser,
    /// Makes styles too.
    pub(crate) other: TestUser,
    /// May not.
    pub(crate) newcomer: TestUser,
    pub(crate) moderator: TestUser,
}

/// The key that everybody shares.
pub(crate) const ANONYMOUS: &str = ordu_api::ANONYMOUS_KEY;

/// An id of nothing.
pub(crate) const NOTHING: &str = "00000000-0000-4000-8000-000000000000";

/// Runs a test in a studio on each database.
pub(crate) async fn in_each_studio(test: impl AsyncFn(&Studio)) {
    on_each_database(async |database| {
        let horde = TestHorde::start_with(|config| Config {
            database: database.to_owned(),
            ..config
        })
        .await;
        let rich = json!({ "trusted": true, "kudos": 1000 });
        let studio = Studio {
            owner: horde.mint("owner", rich.clone()).await,
            other: horde.mint("other", rich).await,
            newcomer: horde.mint("newcomer", json!({ "kudos": 100 })).await,
            moderator: horde.mint("mod", json!({ "moderator": true })).await,
            horde,
        };
        test(&studio).await;
    })
    .await;
}

/// A style for pictures of this name, with `more` members.
pub(crate) fn image_style(name: &str, more: Value) -> Value {
    with(json!({ "name": name, "models": ["ordu-tiny"] }), more)
}

/// A style for texts of this name, with `more` members.
pub(crate) fn text_style(name: &str, more: Value) -> Value {
    let style = json!({ "name": name, "prompt": "Say {p}", "models": [TEXT_MODEL] });
    with(style, more)
}

/// The same object with `more` members, or other ones.
pub(crate) fn with(mut body: Value, more: Value) -> Value {
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    body
}

/// Status and return code of an answer.
pub(crate) fn outcome(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.rc())
}

impl Studio {
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        user: &TestUser,
        body: Option<&Value>,
    ) -> Answer {
        let key = Some(user.api_key.reveal());
        self.horde.call(method, path, key, body).await
    }

    pub(crate) async fn post(&self, path: &str, user: &TestUser, body: &Value) -> Answer {
        self.call(Method::POST, path, user, Some(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, user: &TestUser, body: &Value) -> Answer {
        self.call(Method::PATCH, path, user, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str, user: &TestUser) -> Answer {
        self.call(Method::DELETE, path, user, None).await
    }

    /// Makes something that must be fine; answers its id.
    pub(crate) async fn make(&self, path: &str, user: &TestUser, body: &Value) -> String {
        let answer = self.post(path, user, body).await;
        assert_eq!(answer.status, 200, "{body}: {}", answer.body);
        assert_eq!(answer.body["message"], "OK");
        answer.body["id"].as_str().unwrap().to_owned()
    }

    /// Makes a style for pictures of this name.
    pub(crate) async fn image(&self, user: &TestUser, name: &str, more: Value) -> String {
        self.make("/styles/image", user, &image_style(name, more))
            .await
    }

    /// Makes a style for texts of this name.
    pub(crate) async fn text(&self, user: &TestUser, name: &str, more: Value) -> String {
        self.make("/styles/text", user, &text_style(name, more))
            .await
    }

    /// Makes a shared key.
    pub(crate) async fn shared_key(&self, user: &TestUser, body: &Value) -> String {
        let answer = self
            .call(Method::PUT, "/sharedkeys", user, Some(body))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body["id"].as_str().unwrap().to_owned()
    }

    /// Asks for a picture in a style.
    pub(crate) async fn ask(&self, key: &str, style: &str, more: Value) -> Answer {
        let body = serde_json::to_value(request()).unwrap();
        let body = with(body, json!({ "prompt": "x###y", "style": style }));
        let body = with(body, more);
        self.horde
            .call(Method::POST, "/generate/async", Some(key), Some(&body))
            .await
    }

    /// Asks for a picture in a style without a key of one's own; answers the prompt that a worker
    /// gets.
    pub(crate) async fn prompt(&self, style: &str) -> String {
        let answer = self.ask(ANONYMOUS, style, json!({})).await;
        assert_eq!(answer.status, 202, "{style}: {}", answer.body);
        let worker = self.horde.client(&self.other.api_key);
        let job = worker.pop_image(&pop("painter")).await.unwrap();
        job.payload.prompt.unwrap()
    }

    /// The names in a list.
    pub(crate) async fn names(&self, path: &str) -> Vec<String> {
        let answer = self.horde.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        let list = answer.body.as_array().unwrap();
        let names = list.iter().map(|item| item["name"].as_str().unwrap());
        names.map(str::to_owned).collect()
    }
}
