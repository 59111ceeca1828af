//! The HTTP side of ComfyUI: one method per route.
//!
//! # Source
//! ComfyUI, "Server routes" (docs.comfy.org).

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, ImageReader};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde_json::{Value, json};

use super::ComfyOptions;
use crate::EngineError;

/// The longest answer that is read, in bytes: `/object_info` of many add-ons has a few million.
const MAX_JSON: usize = 64 << 20;

/// The largest picture that is read, in bytes.
const MAX_PICTURE: usize = 256 << 20;

/// The longest side of a picture that is decoded, in pixels.
const MAX_SIDE: u32 = 40_000;

/// The most memory that decoding a picture may take, in bytes.
const MAX_DECODED: u64 = 2 << 30;

/// Characters of a strange answer that are told on.
const MAX_QUOTE: usize = 300;

/// A picture as ComfyUI refers to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredPicture {
    filename: String,
    subfolder: String,
    kind: String,
}

impl StoredPicture {
    /// Reads one entry of a list of pictures.
    pub(super) fn read(entry: &Value) -> Option<Self> {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            filename: text("filename")?,
            subfolder: text("subfolder").unwrap_or_default(),
            kind: text("type").unwrap_or_else(|| "output".to_owned()),
        })
    }
}

/// A ComfyUI and how to talk to it.
#[derive(Debug)]
pub(super) struct Api {
    http: Client,
    base: Url,
}

impl Api {
    pub(super) fn new(base: &str, options: &ComfyOptions) -> Result<Self, EngineError> {
        let bad = |reason: String| EngineError::bad_task(format!("the address `{base}` {reason}"));
        let mut url = Url::parse(base).map_err(|error| bad(format!("is none: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(bad("does not start with http:// or https://".to_owned()));
        }
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        // Whoever came first has chosen; any choice will do.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = Client::builder()
            .connect_timeout(options.connect_timeout)
            .timeout(options.request_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| bad(format!("cannot be used: {error}")))?;
        Ok(Self { http, base: url })
    }

    pub(super) fn base(&self) -> &Url {
        &self.base
    }

    pub(super) fn name(&self) -> String {
        format!("ComfyUI at {}", self.base)
    }

    pub(super) fn failed(&self, reason: impl Into<String>) -> EngineError {
        EngineError::Backend {
            backend: self.name(),
            reason: reason.into(),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> EngineError {
        let mut reason = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            reason = format!("{reason}: {cause}");
            source = cause.source();
        }
        EngineError::Unreachable {
            backend: self.name(),
            reason,
        }
    }

    fn url(&self, path: &str) -> Url {
        self.base.join(path).unwrap_or_else(|_| self.base.clone())
    }

    /// Sends, and reads no more than so many bytes of the answer.
    async fn exchange(
        &self,
        request: RequestBuilder,
        most: usize,
    ) -> Result<(StatusCode, Vec<u8>), EngineError> {
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        Ok((status, self.body(response, most).await?))
    }

    async fn body(&self, mut response: Response, most: usize) -> Result<Vec<u8>, EngineError> {
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| self.unreachable(&error))?
        {
            if body.len() + chunk.len() > most {
                return Err(self.failed(format!("an answer has more than {most} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The answer as JSON.
    async fn json(&self, request: RequestBuilder) -> Result<Value, EngineError> {
        let (status, body) = self.exchange(request, MAX_JSON).await?;
        if !status.is_success() {
            return Err(self.failed(format!("{status}: {}", quote(&body))));
        }
        serde_json::from_slice(&body)
            .map_err(|_| self.failed(format!("an answer is no JSON: {}", quote(&body))))
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, EngineError> {
        self.json(self.http.get(self.url(path))).await
    }

    /// Posts what needs no answer.
    pub(super) async fn tell(&self, path: &str, body: &Value) -> Result<(), EngineError> {
        let (status, body) = self.exchange(self.post(path, body), MAX_JSON).await?;
        if status.is_success() {
            return Ok(());
        }
        Err(self.failed(format!("{status}: {}", quote(&body))))
    }

    fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        let request = self
            .http
            .post(self.url(path))
            .header(CONTENT_TYPE, "application/json");
        request.body(body.to_string())
    }

    /// What a checkpoint says about itself; `None` if it says nothing.
    pub(super) async fn metadata(&self, file: &str) -> Result<Option<Value>, EngineError> {
        let mut url = self.url("view_metadata/checkpoints");
        url.query_pairs_mut().append_pair("filename", file);
        let (status, body) = self.exchange(self.http.get(url), MAX_JSON).await?;
        let said = serde_json::from_slice(&body).ok();
        Ok(said.filter(|_| status.is_success()))
    }

    /// Puts a picture among the temporary files: they go when ComfyUI restarts. The name to refer to
    /// it by.
    pub(super) async fn upload(
        &self,
        name: &str,
        picture: DynamicImage,
    ) -> Result<String, EngineError> {
        let encoded = tokio::task::spawn_blocking(move || {
            let mut bytes = Cursor::new(Vec::new());
            picture
                .write_to(&mut bytes, ImageFormat::Png)
                .map(|()| bytes.into_inner())
        });
        let bytes = encoded.await.ok().and_then(Result::ok);
        let bytes = bytes.ok_or_else(|| EngineError::bad_task("a source cannot be encoded"))?;
        let boundary = format!("ordu-{}", super::random_name());
        let body = multipart(&boundary, name, &bytes);
        let kind = format!("multipart/form-data; boundary={boundary}");
        let request = self
            .http
            .post(self.url("upload/image"))
            .header(CONTENT_TYPE, kind);
        let answer = self.json(request.body(body)).await?;
        let text = |key: &str| {
            answer
                .get(key)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
        };
        let stored =
            text("name").ok_or_else(|| self.failed("an upload was answered without a name"))?;
        let path = match text("subfolder") {
            Some(folder) => format!("{folder}/{stored}"),
            None => stored.to_owned(),
        };
        Ok(match text("type") {
            Some(kind) if kind != "input" => format!("{path} [{kind}]"),
            _ => path,
        })
    }

    /// Queues a graph; its id.
    pub(super) async fn queue(&self, graph: &Value, client: &str) -> Result<String, EngineError> {
        let body = json!({"prompt": graph, "client_id": client});
        let (status, body) = self.exchange(self.post("prompt", &body), MAX_JSON).await?;
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status == StatusCode::BAD_REQUEST {
            return Err(self.failed(refusal(&answer).unwrap_or_else(|| quote(&body))));
        }
        let id = answer.get("prompt_id").and_then(Value::as_str);
        match id.filter(|id| status.is_success() && !id.is_empty()) {
            Some(id) => Ok(id.to_owned()),
            None => Err(self.failed(format!(
                "a graph was answered with {status}: {}",
                quote(&body)
            ))),
        }
    }

    pub(super) async fn picture(
        &self,
        stored: &StoredPicture,
    ) -> Result<DynamicImage, EngineError> {
        let mut url = self.url("view");
        url.query_pairs_mut()
            .append_pair("filename", &stored.filename)
            .append_pair("subfolder", &stored.subfolder)
            .append_pair("type", &stored.kind);
        let (status, body) = self.exchange(self.http.get(url), MAX_PICTURE).await?;
        if !status.is_success() {
            return Err(self.failed(format!("a picture was answered with {status}")));
        }
        let decoded = tokio::task::spawn_blocking(move || decode(&body, MAX_DECODED)).await;
        decoded
            .ok()
            .flatten()
            .ok_or_else(|| self.failed("a picture cannot be decoded"))
    }
}

/// A picture whose head does not promise too much.
pub(super) fn decode(bytes: &[u8], max_decoded: u64) -> Option<DynamicImage> {
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .ok()?;
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(max_decoded);
    reader.limits(limits);
    reader.decode().ok()
}

/// The form that a browser would send.
fn multipart(boundary: &str, name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(bytes.len() + 1024);
    for (key, value) in [
        ("type", "temp"),
        ("subfolder", "ordu"),
        ("overwrite", "true"),
    ] {
        body.extend_from_slice(
            format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"{key}\"\r\n\r\n{value}\r\n"
            )
            .as_bytes(),
        );
    }
    body.extend_from_slice(
        format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"image\"; filename=\"{name}\"\r\n\
             Content-Type: image/png\r\n\r\n"
        )
        .as_bytes(),
    );
    body.extend_from_slice(bytes);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    body
}

/// Why a graph was refused: the whole of it, and each node.
pub(super) fn refusal(answer: &Value) -> Option<String> {
    let message = |error: &Value| {
        let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
        let (what, details) = (text("message"), text("details"));
        if details.is_empty() {
            what.to_owned()
        } else {
            format!("{what} ({details})")
        }
    };
    let mut reasons = vec![message(answer.get("error")?)];
    for (id, node) in answer
        .get("node_errors")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let class = node
            .get("class_type")
            .and_then(Value::as_str)
            .unwrap_or("?");
        let errors = node.get("errors").and_then(Value::as_array);
        let errors: Vec<String> = errors.into_iter().flatten().map(message).collect();
        reasons.push(format!("node {id} `{class}`: {}", errors.join(", ")));
    }
    Some(quote(reasons.join("; ").as_bytes()))
}

pub(super) fn quote(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut quoted: String = text.chars().take(MAX_QUOTE).collect();
    if quoted.len() < text.len() {
        quoted.push('…');
    }
    quoted
}
