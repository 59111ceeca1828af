//! A classifier behind HTTP, for workers that are too small for one of their own.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use ordu_client::http_client;
use serde::Serialize;

use super::{Classifier, ClassifierError, Judgement, View};
use crate::manager::WebError;
use crate::manager::web::body;

/// How long one answer may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// The longest answer, in bytes.
const MAX_ANSWER: usize = 64 << 10;

/// What is asked.
#[derive(Serialize)]
struct Question<'a> {
    /// WebP in base64.
    image: String,
    prompt: &'a str,
    model: &'a str,
}

/// Asks `POST url` with `{"image", "prompt", "model"}`, the picture as WebP in base64, and is
/// answered `{"nsfw": bool, "csam": bool}`.
#[derive(Debug, Clone)]
pub struct RemoteClassifier {
    url: reqwest::Url,
    client: reqwest::Client,
}

impl RemoteClassifier {
    /// A classifier at an address. Nothing is sent yet.
    ///
    /// # Errors
    /// If that is no address that can be asked.
    pub fn new(url: &str) -> Result<Self, ClassifierError> {
        let wrong = |reason: String| ClassifierError(format!("`{url}` cannot be asked: {reason}"));
        let address = reqwest::Url::parse(url).map_err(|error| wrong(error.to_string()))?;
        if !matches!(address.scheme(), "http" | "https") {
            return Err(wrong(
                "it starts with neither http:// nor https://".to_owned(),
            ));
        }
        let client = http_client(|builder| builder.timeout(DEADLINE))
            .map_err(|error| wrong(error.to_string()))?;
        Ok(Self {
            url: address,
            client,
        })
    }

    async fn ask(&self, view: View<'_>) -> Result<Judgement, WebError> {
        let question = Question {
            image: STANDARD.encode(view.picture),
            prompt: view.prompt,
            model: view.model,
        };
        let request = self.client.post(self.url.clone()).json(&question);
        let response = request.send().await?.error_for_status()?;
        read(&body(response, MAX_ANSWER).await?)
    }
}

/// Reads a judgement.
pub(crate) fn read(answer: &[u8]) -> Result<Judgement, WebError> {
    serde_json::from_slice(answer).map_err(|error| WebError::Malformed(error.to_string()))
}

impl Classifier for RemoteClassifier {
    fn judge<'a>(&'a self, view: View<'a>) -> BoxFuture<'a, Result<Judgement, ClassifierError>> {
        self.ask(view)
            .map(|judged| judged.map_err(|error| ClassifierError(error.to_string())))
            .boxed()
    }
}
