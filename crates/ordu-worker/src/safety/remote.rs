//! A classifier behind HTTP, for workers that are too small for one of their own.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use ordu_client::http_client;
use serde::Serialize;

use super::{Classifier, ClassifierError, Judgement, View};

/// How long one answer may take.
const DEADLINE: Duration = Duration::from_secs(30);

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

    async fn ask(&self, view: View<'_>) -> Result<Judgement, reqwest::Error> {
        let question = Question {
            image: STANDARD.encode(view.picture),
            prompt: view.prompt,
            model: view.model,
        };
        let request = self.client.post(self.url.clone()).json(&question);
        request.send().await?.error_for_status()?.json().await
    }
}

impl Classifier for RemoteClassifier {
    fn judge<'a>(&'a self, view: View<'a>) -> BoxFuture<'a, Result<Judgement, ClassifierError>> {
        // The address may hold a secret of the owner's.
        let told = |error: reqwest::Error| ClassifierError(error.without_url().to_string());
        self.ask(view)
            .map(move |judged| judged.map_err(told))
            .boxed()
    }
}
