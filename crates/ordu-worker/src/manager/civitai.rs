//! CivitAI's public API: what it knows about LoRAs and textual inversions.
//!
//! # Source
//! CivitAI's public documentation of `/api/v1/models` and `/api/v1/model-versions`; `worker.md` § 2.6.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::HeaderMap;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use tokio::time::Instant;
use url::Url;

use super::web::{Web, WebError};

/// The largest answer that is read.
const MAX_ANSWER: usize = 16 << 20;

/// Ids from here on cannot exist.
const FIRST_IMPOSSIBLE_ID: u64 = 1 << 32;

/// Negative answers that are remembered at the same time.
const MAX_REMEMBERED: usize = 10_000;

/// Where CivitAI is, and how patiently it is asked.
#[derive(Debug, Clone)]
pub struct CivitaiOptions {
    /// The root of the API, up to `/api/v1`.
    pub url: Url,
    /// The service that knows where textual inversions are, up to `/api/v1`.
    pub embeddings: Url,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How long an answer about a textual inversion may take.
    pub embedding_timeout: Duration,
    /// How much patience there is: a failed try takes 1, an inner error or a page instead of an
    /// answer 4, silence 6.
    pub patience: u32,
    /// Between two tries.
    pub pause: Duration,
    /// How long a no is remembered.
    pub remember: Duration,
}

impl CivitaiOptions {
    /// The public services.
    ///
    /// # Errors
    /// Never: the addresses are constants.
    pub fn public() -> Result<Self, url::ParseError> {
        Ok(Self {
            url: Url::parse("https://civitai.com/api/v1")?,
            embeddings: Url::parse("https://hordeling.aihorde.net/api/v1")?,
            timeout: Duration::from_secs(35),
            embedding_timeout: Duration::from_secs(5),
            patience: 10,
            pause: Duration::from_secs(3),
            remember: Duration::from_mins(10),
        })
    }
}

/// A kind of add-on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AddOn {
    Lora,
    Ti,
}

impl AddOn {
    fn search_type(self) -> &'static str {
        match self {
            Self::Lora => "LORA",
            Self::Ti => "TextualInversion",
        }
    }

    /// Types of CivitAI that count as this kind.
    fn accepts(self, kind: &str) -> bool {
        let kinds: &[&str] = match self {
            Self::Lora => &["LORA", "LoCon", "DoRA"],
            Self::Ti => &["TextualInversion"],
        };
        kind.is_empty() || kinds.iter().any(|known| known.eq_ignore_ascii_case(kind))
    }
}

/// How an add-on is named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asked {
    Version(u64),
    Model(u64),
    Name(String),
}

/// Why there is no such add-on. The words are for the log.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Unknown {
    #[error("no such id can exist")]
    ImpossibleId,
    #[error("it was not to be had a short while ago")]
    Remembered,
    #[error("CivitAI knows none")]
    NoneFound,
    #[error("it is {0}")]
    Unfit(&'static str),
    #[error(transparent)]
    Web(#[from] WebError),
}

impl Asked {
    /// What the name of an entry means.
    pub(crate) fn parse(name: &str, is_version: bool) -> Result<Self, Unknown> {
        let name = name.trim();
        let is_number = !name.is_empty() && name.bytes().all(|digit| digit.is_ascii_digit());
        if !is_number {
            return match (is_version || name.is_empty(), name) {
                (true, _) => Err(Unknown::ImpossibleId),
                (false, name) => Ok(Self::Name(name.to_owned())),
            };
        }
        let id = name.parse().ok().filter(|id| *id < FIRST_IMPOSSIBLE_ID);
        let id = id.ok_or(Unknown::ImpossibleId)?;
        Ok(if is_version {
            Self::Version(id)
        } else {
            Self::Model(id)
        })
    }
}

/// A version of an add-on that can be fetched.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Offered {
    pub(crate) model_id: u64,
    pub(crate) version_id: u64,
    pub(crate) name: String,
    pub(crate) base_model: String,
    pub(crate) triggers: Vec<String>,
    pub(crate) nsfw: bool,
    pub(crate) url: Url,
    pub(crate) sha256: String,
    /// In bytes, rounded up.
    pub(crate) bytes: u64,
}

/// Asks CivitAI.
#[derive(Debug)]
pub(crate) struct Civitai {
    web: Web,
    options: CivitaiOptions,
    nos: Mutex<BTreeMap<(bool, Asked), Instant>>,
}

/// What a job's worker may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taste {
    /// Everything.
    Any,
    /// Nothing that is NSFW.
    Sfw,
}

impl Civitai {
    pub(crate) fn new(web: Web, options: CivitaiOptions) -> Self {
        Self {
            web,
            options,
            nos: Mutex::default(),
        }
    }

    /// The version of an add-on that is meant.
    pub(crate) async fn find(
        &self,
        add_on: AddOn,
        asked: &Asked,
        taste: Taste,
    ) -> Result<Offered, Unknown> {
        let key = (add_on == AddOn::Lora, asked.clone());
        if self.is_remembered(&key) {
            return Err(Unknown::Remembered);
        }
        let found = self.look_up(add_on, asked, taste).await;
        if found.is_err() {
            self.remember(key);
        }
        found
    }

    async fn look_up(
        &self,
        add_on: AddOn,
        asked: &Asked,
        taste: Taste,
    ) -> Result<Offered, Unknown> {
        match asked {
            Asked::Version(id) => {
                let version: Version = self.ask(&["model-versions", &id.to_string()], &[]).await?;
                if version.id != *id {
                    return Err(Unknown::Unfit("another one than asked for"));
                }
                let model = version.model.clone().unwrap_or_default();
                offered(add_on, &model, version, taste)
            }
            Asked::Model(id) => {
                let model: Model = self.ask(&["models", &id.to_string()], &[]).await?;
                if model.id != *id {
                    return Err(Unknown::Unfit("another one than asked for"));
                }
                newest(add_on, &model, taste)
            }
            Asked::Name(name) => {
                let nsfw = if taste == Taste::Any { "true" } else { "false" };
                let query = [
                    ("types", add_on.search_type()),
                    ("sort", "Highest Rated"),
                    ("primaryFileOnly", "true"),
                    ("nsfw", nsfw),
                    ("query", name.as_str()),
                ];
                let page: Page = self.ask(&["models"], &query).await?;
                let first = page.items.into_iter().next().ok_or(Unknown::NoneFound)?;
                newest(add_on, &first, taste)
            }
        }
    }

    /// Where a textual inversion is, by the service that keeps them as safetensors, and its checksum.
    pub(crate) async fn embedding(&self, id: u64) -> Result<(Url, String), Unknown> {
        let key = (false, Asked::Version(id));
        if self.is_remembered(&key) {
            return Err(Unknown::Remembered);
        }
        let found = self.embedding_now(id).await;
        if found.is_err() {
            self.remember(key);
        }
        found
    }

    async fn embedding_now(&self, id: u64) -> Result<(Url, String), Unknown> {
        let url = address(
            &self.options.embeddings,
            &["embedding", &id.to_string()],
            &[],
        );
        let found: Embedding = self
            .ask_patiently(&url, self.options.embedding_timeout)
            .await?;
        found.place()
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, WebError> {
        let url = address(&self.options.url, path, query);
        self.ask_patiently(&url, self.options.timeout).await
    }

    async fn ask_patiently<T: DeserializeOwned>(
        &self,
        url: &Url,
        timeout: Duration,
    ) -> Result<T, WebError> {
        let mut patience = self.options.patience;
        loop {
            let read = self.web.read(url, HeaderMap::new(), MAX_ANSWER, timeout);
            let error = match read.await {
                Ok((_, _, body)) => match understood(&body) {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            let cost = match &error {
                error if error.is_final() => return Err(error.clone()),
                WebError::Status { status, .. } if *status > 500 => return Err(error),
                WebError::Status { status: 500, .. } | WebError::Malformed(_) => 4,
                WebError::TimedOut => 6,
                _ => 1,
            };
            patience = patience.saturating_sub(cost);
            if patience == 0 {
                return Err(error);
            }
            let asked = match &error {
                WebError::Status { retry_after, .. } => *retry_after,
                _ => None,
            };
            tokio::time::sleep(asked.unwrap_or(self.options.pause)).await;
        }
    }

    fn is_remembered(&self, key: &(bool, Asked)) -> bool {
        let nos = self.nos.lock().unwrap_or_else(PoisonError::into_inner);
        let since = nos.get(key).map(Instant::elapsed);
        since.is_some_and(|age| age < self.options.remember)
    }

    fn remember(&self, key: (bool, Asked)) {
        let mut nos = self.nos.lock().unwrap_or_else(PoisonError::into_inner);
        let remember = self.options.remember;
        nos.retain(|_, since| since.elapsed() < remember);
        if nos.len() < MAX_REMEMBERED {
            nos.insert(key, Instant::now());
        }
    }
}

/// An answer, unless it is a page for people or says that something is wrong.
fn understood<T: DeserializeOwned>(body: &[u8]) -> Result<T, WebError> {
    if body.trim_ascii_start().first() == Some(&b'<') {
        return Err(WebError::Malformed(
            "a page instead of an answer".to_owned(),
        ));
    }
    serde_json::from_slice(body).map_err(|error| WebError::Malformed(error.to_string()))
}

fn address(base: &Url, path: &[&str], query: &[(&str, &str)]) -> Url {
    let mut url = base.clone();
    // Only an address that cannot be a base has no segments, and such ones are refused before.
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    if !query.is_empty() {
        let text: Vec<_> = query
            .iter()
            .map(|(key, value)| format!("{key}={}", escaped(value)))
            .collect();
        url.set_query(Some(&text.join("&")));
    }
    url
}

/// Whether an answer says where an add-on is.
#[cfg(any(test, fuzzing))]
pub(crate) fn is_read(answer: &[u8]) -> bool {
    let model = |model: Model| newest(AddOn::Lora, &model, Taste::Any).is_ok();
    let version = |version: Version| {
        let model = version.model.clone().unwrap_or_default();
        offered(AddOn::Ti, &model, version, Taste::Sfw).is_ok()
    };
    let embedding = |found: Embedding| found.place().is_ok();
    understood(answer).is_ok_and(|page: Page| page.items.into_iter().any(model))
        | understood(answer).is_ok_and(model)
        | understood(answer).is_ok_and(version)
        | understood(answer).is_ok_and(embedding)
}

/// As CivitAI documents it: a blank is `%20`.
fn escaped(value: &str) -> String {
    let plus: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
    plus.replace('+', "%20")
}

/// The version with the highest id that everybody may have.
fn newest(add_on: AddOn, model: &Model, taste: Taste) -> Result<Offered, Unknown> {
    let public = model.versions.iter();
    let public = public.filter(|version| !version.is_early_access());
    let newest = public.max_by_key(|version| version.id).cloned();
    let newest = newest.ok_or(Unknown::Unfit("in early access only"))?;
    offered(add_on, model, newest, taste)
}

/// What a version offers, if it is what a worker may use.
fn offered(
    add_on: AddOn,
    model: &Model,
    version: Version,
    taste: Taste,
) -> Result<Offered, Unknown> {
    if !add_on.accepts(&model.kind) {
        return Err(Unknown::Unfit("of another kind"));
    }
    if model.nsfw && taste == Taste::Sfw {
        return Err(Unknown::Unfit("NSFW"));
    }
    let mut files = version.files.iter();
    let fitting = files.find_map(|file| {
        let named = file.name.to_ascii_lowercase().ends_with(".safetensors");
        let sum = file.hashes.sha256.as_deref().and_then(checksum)?;
        let url = web_address(&file.url)?;
        // A textual inversion is fetched from elsewhere, whatever CivitAI has it as.
        ((named || add_on == AddOn::Ti) && file.primary).then_some((file, url, sum))
    });
    let (file, url, sha256) =
        fitting.ok_or(Unknown::Unfit("without a primary .safetensors file"))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float cast saturates, and a size is positive"
    )]
    let bytes = (file.kilobytes * 1024.0).ceil() as u64;
    Ok(Offered {
        model_id: if model.id == 0 {
            version.model_id
        } else {
            model.id
        },
        version_id: version.id,
        name: model.name.clone(),
        base_model: version.base_model,
        triggers: version.triggers,
        nsfw: model.nsfw,
        url,
        sha256,
        bytes,
    })
}

fn checksum(text: &str) -> Option<String> {
    let is_sum = text.len() == 64 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_sum.then(|| text.to_ascii_lowercase())
}

fn web_address(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    matches!(url.scheme(), "http" | "https").then_some(url)
}

/// A page of search results.
#[derive(Debug, Deserialize)]
struct Page {
    #[serde(default, deserialize_with = "or_default")]
    items: Vec<Model>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Model {
    #[serde(deserialize_with = "or_default")]
    id: u64,
    #[serde(deserialize_with = "or_default")]
    name: String,
    #[serde(rename = "type", deserialize_with = "or_default")]
    kind: String,
    #[serde(deserialize_with = "or_default")]
    nsfw: bool,
    #[serde(rename = "modelVersions", deserialize_with = "or_default")]
    versions: Vec<Version>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Version {
    #[serde(deserialize_with = "or_default")]
    id: u64,
    #[serde(deserialize_with = "or_default")]
    model_id: u64,
    #[serde(deserialize_with = "or_default")]
    base_model: String,
    #[serde(rename = "trainedWords", deserialize_with = "or_default")]
    triggers: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    availability: String,
    #[serde(deserialize_with = "or_default")]
    early_access_ends_at: Option<String>,
    #[serde(deserialize_with = "or_default")]
    files: Vec<File>,
    #[serde(deserialize_with = "or_default")]
    model: Option<Model>,
}

impl Version {
    fn is_early_access(&self) -> bool {
        self.availability.eq_ignore_ascii_case("EarlyAccess")
            || (self.availability.is_empty() && self.early_access_ends_at.is_some())
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct File {
    #[serde(deserialize_with = "or_default")]
    name: String,
    #[serde(rename = "sizeKB", deserialize_with = "or_default")]
    kilobytes: f64,
    #[serde(deserialize_with = "or_default")]
    primary: bool,
    #[serde(rename = "downloadUrl", deserialize_with = "or_default")]
    url: String,
    #[serde(deserialize_with = "or_default")]
    hashes: Hashes,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Hashes {
    #[serde(rename = "SHA256", deserialize_with = "or_default")]
    sha256: Option<String>,
}

/// What the service of textual inversions says.
#[derive(Debug, Deserialize)]
struct Embedding {
    #[serde(default)]
    url: Option<String>,
    #[serde(default, alias = "hash", alias = "sha256sum")]
    sha256: Option<String>,
}

impl Embedding {
    /// Its address and its checksum.
    fn place(self) -> Result<(Url, String), Unknown> {
        let sum = self.sha256.as_deref().and_then(checksum);
        let url = self.url.as_deref().and_then(web_address);
        url.zip(sum)
            .ok_or(Unknown::Unfit("without an address or a checksum"))
    }
}

/// CivitAI writes `null` where it has nothing.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ids_versions_or_words() {
        assert_eq!(Asked::parse("12", false).unwrap(), Asked::Model(12));
        assert_eq!(Asked::parse(" 12 ", true).unwrap(), Asked::Version(12));
        assert_eq!(
            Asked::parse("Add More Details", false).unwrap(),
            Asked::Name("Add More Details".to_owned())
        );
        assert_eq!(
            Asked::parse("4294967295", false).unwrap(),
            Asked::Model(u64::from(u32::MAX))
        );
        for (name, is_version) in [
            ("4294967296", false),
            ("99999999999999999999999999", true),
            ("words", true),
            ("", false),
        ] {
            assert!(Asked::parse(name, is_version).is_err(), "{name}");
        }
    }

    #[test]
    fn a_query_is_written_as_documented() {
        let base = Url::parse("https://x/api/v1/").unwrap();
        let url = address(
            &base,
            &["models"],
            &[("sort", "Highest Rated"), ("query", "a&b+c")],
        );
        assert_eq!(
            url.as_str(),
            "https://x/api/v1/models?sort=Highest%20Rated&query=a%26b%2Bc"
        );
    }
}
