//! What is known about models: the built-in documents, files of the operator's, or documents from
//! the network; kept up to date while the server runs.
//!
//! What cannot be had or read changes nothing: the last good document stays, on the disk as well if
//! it came from the network.
//!
//! # Source
//! `generation.md` § 3.5; `community.md` § 13.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use ordu_api::ReturnCode;
use ordu_core::model_reference::{Model, ModelReference};
use ordu_core::text_models::{TextModel, TextModels};
use ordu_core::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::watched::{self, WatchedFile};

/// How long a fetch may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// How often a document is fetched.
const FETCH_EVERY: Millis = Millis::from_minutes(60);

/// How often it is tried, a round apart, until it counts as away for this time.
const MAX_ATTEMPTS: u32 = 10;

/// The most entries that moderators may write.
const MAX_EDITS: usize = 1000;

/// The name under which they are stored.
const SETTING: &str = "model_edits";

/// Where a document of models comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ModelSource {
    /// From this program.
    #[default]
    BuiltIn,
    /// This is it.
    Text(String),
    /// From a file, read again when it changes.
    File(PathBuf),
    /// From the network, fetched once an hour. Named by the operator, so it may lead anywhere.
    Url(Url),
}

impl FromStr for ModelSource {
    type Err = url::ParseError;

    /// An address, or the name of a file.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("http://") || text.starts_with("https://") {
            return text.parse().map(Self::Url);
        }
        Ok(Self::File(PathBuf::from(text)))
    }
}

/// Where all documents of models come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelSources {
    /// Image models.
    pub image: ModelSource,
    /// More image models; where both know a name, these are right.
    pub extra: ModelSource,
    /// Text models.
    pub text: ModelSource,
    /// The folder that keeps what was fetched; nothing is kept if `None`.
    pub cache: Option<PathBuf>,
}

/// Why a document cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The operator's file cannot be read.
    #[error("cannot read the models in `{0}`")]
    File(String, #[source] std::io::Error),
    /// The document is not an object of models.
    #[error("the models in `{0}` are not the JSON that is expected")]
    Json(String, #[source] serde_json::Error),
    /// The document from the network cannot be had.
    #[error("cannot fetch models from `{0}`")]
    Fetch(String, #[source] reqwest::Error),
    /// The document from the network is of no use.
    #[error("the models from `{0}` are too large, or none at all")]
    Useless(String),
}

/// Everything that is known about models, and where it comes from.
pub(crate) struct Catalogue {
    client: reqwest::Client,
    image: Feed<ModelReference>,
    extra: Feed<ModelReference>,
    text: Feed<TextModels>,
    edits: Mutex<Edits>,
    current: RwLock<Arc<ModelReference>>,
}

/// Entries that moderators wrote; they count more than every document.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Edits {
    pub(crate) image: BTreeMap<String, Model>,
    pub(crate) text: BTreeMap<String, TextModel>,
}

impl Edits {
    fn count(&self) -> usize {
        self.image.len() + self.text.len()
    }
}

impl Catalogue {
    /// Reads everything once. What comes from the network need not be there.
    ///
    /// # Errors
    /// A file or a text that cannot be read: the operator should know at once.
    pub(crate) async fn open(
        sources: &ModelSources,
        client: reqwest::Client,
        now: Timestamp,
    ) -> Result<Self, ModelError> {
        let feed = |source: &ModelSource, name: &str| {
            let cache = sources.cache.as_ref().map(|folder| folder.join(name));
            Place::new(source, cache)
        };
        let catalogue = Self {
            image: Feed::new(feed(&sources.image, "image.json"), IMAGE),
            extra: Feed::new(feed(&sources.extra, "extra.json"), EXTRA),
            text: Feed::new(feed(&sources.text, "text.json"), TEXT),
            edits: Mutex::default(),
            current: RwLock::default(),
            client,
        };
        catalogue.image.open(&catalogue.client, now).await?;
        catalogue.extra.open(&catalogue.client, now).await?;
        catalogue.text.open(&catalogue.client, now).await?;
        catalogue.put_together();
        Ok(catalogue)
    }

    /// What is known now.
    pub(crate) fn current(&self) -> Arc<ModelReference> {
        let current = self.current.read();
        Arc::clone(&current.unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads what changed; answers what is known if anything did.
    async fn refresh(&self, now: Timestamp) -> Option<Arc<ModelReference>> {
        let image = self.image.refresh(&self.client, now).await;
        let extra = self.extra.refresh(&self.client, now).await;
        let text = self.text.refresh(&self.client, now).await;
        (image || extra || text).then(|| self.put_together())
    }

    /// What moderators wrote.
    pub(crate) fn edits(&self) -> Edits {
        let edits = self.edits.lock();
        edits.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes over what moderators wrote; answers what is known if that changes anything.
    fn set_edits(&self, edits: Edits) -> Option<Arc<ModelReference>> {
        if self.edits() == edits {
            return None;
        }
        *self.edits.lock().unwrap_or_else(PoisonError::into_inner) = edits;
        Some(self.put_together())
    }

    fn put_together(&self) -> Arc<ModelReference> {
        let (image, extra, text) = (self.image.last(), self.extra.last(), self.text.last());
        let unreadable = image.unreadable().iter().chain(extra.unreadable());
        for name in unreadable.chain(text.unreadable()) {
            tracing::warn!(
                model = name,
                "a model of the reference cannot be read and is left out"
            );
        }
        let (mut all, mut texts) = (
            ModelReference::clone(&image).with_images(&extra),
            TextModels::clone(&text),
        );
        let edits = self.edits();
        for (name, model) in edits.image {
            all = all.with_image(name, model);
        }
        for (name, model) in edits.text {
            texts = texts.with_model(name, model);
        }
        let all = Arc::new(all.with_text(texts));
        let current = self.current.write();
        *current.unwrap_or_else(PoisonError::into_inner) = Arc::clone(&all);
        all
    }
}

/// What can be made of a document of one kind.
struct Kind<T> {
    read: fn(&str) -> Result<T, serde_json::Error>,
    built_in: fn() -> T,
    is_empty: fn(&T) -> bool,
}

const IMAGE: Kind<ModelReference> = Kind {
    read: ModelReference::from_json,
    built_in: ModelReference::embedded,
    is_empty: ModelReference::is_empty,
};

const EXTRA: Kind<ModelReference> = Kind {
    built_in: ModelReference::default,
    ..IMAGE
};

const TEXT: Kind<TextModels> = Kind {
    read: TextModels::from_json,
    built_in: TextModels::embedded,
    is_empty: TextModels::is_empty,
};

/// Where one document comes from.
enum Place {
    BuiltIn,
    Text(String),
    File(WatchedFile),
    Url {
        url: Url,
        cache: Option<PathBuf>,
        pace: Mutex<Pace>,
    },
}

impl Place {
    fn new(source: &ModelSource, cache: Option<PathBuf>) -> Self {
        match source {
            ModelSource::BuiltIn => Self::BuiltIn,
            ModelSource::Text(text) => Self::Text(text.clone()),
            ModelSource::File(path) => Self::File(WatchedFile::new(path.clone())),
            ModelSource::Url(url) => Self::Url {
                url: url.clone(),
                cache,
                pace: Mutex::default(),
            },
        }
    }
}

/// When to fetch next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Pace {
    due: Timestamp,
    failures: u32,
}

impl Pace {
    fn after(self, is_fetched: bool, now: Timestamp) -> Self {
        if is_fetched || self.failures + 1 >= MAX_ATTEMPTS {
            return Self {
                due: now + FETCH_EVERY,
                failures: 0,
            };
        }
        Self {
            due: now,
            failures: self.failures + 1,
        }
    }
}

/// One document, as it was last good.
struct Feed<T> {
    place: Place,
    kind: Kind<T>,
    last: Mutex<Arc<T>>,
}

impl<T> Feed<T> {
    fn new(place: Place, kind: Kind<T>) -> Self {
        let last = Mutex::new(Arc::new((kind.built_in)()));
        Self { place, kind, last }
    }

    fn last(&self) -> Arc<T> {
        Arc::clone(&self.last.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, document: T) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(document);
    }

    fn parse(&self, text: &str, from: impl FnOnce() -> String) -> Result<T, ModelError> {
        (self.kind.read)(text).map_err(|error| ModelError::Json(from(), error))
    }

    async fn open(&self, client: &reqwest::Client, now: Timestamp) -> Result<(), ModelError> {
        match &self.place {
            Place::BuiltIn => {}
            Place::Text(text) => self.set(self.parse(text, || "the configuration".to_owned())?),
            Place::File(file) => {
                self.read(file).await?;
            }
            Place::Url { cache, .. } => {
                let kept = match cache {
                    Some(cache) => watched::read(cache).await.ok(),
                    None => None,
                };
                let kept = kept.and_then(|text| (self.kind.read)(&text).ok());
                match kept {
                    Some(kept) => self.set(kept),
                    None => {
                        self.refresh(client, now).await;
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads the document again if that is due. Says whether it was.
    async fn refresh(&self, client: &reqwest::Client, now: Timestamp) -> bool {
        let read = match &self.place {
            Place::BuiltIn | Place::Text(_) => return false,
            Place::File(file) => self.read(file).await,
            Place::Url { url, cache, pace } => {
                let before = *pace.lock().unwrap_or_else(PoisonError::into_inner);
                if now < before.due {
                    return false;
                }
                let fetched = self.fetch(client, url, cache.as_deref()).await;
                let after = before.after(fetched.is_ok(), now);
                *pace.lock().unwrap_or_else(PoisonError::into_inner) = after;
                fetched.map(|()| true)
            }
        };
        read.unwrap_or_else(|error| {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "what is known about models stays as it was");
            false
        })
    }

    async fn read(&self, file: &WatchedFile) -> Result<bool, ModelError> {
        let name = || file.path().display().to_string();
        let read = file.read_if_changed().await;
        let Some(text) = read.map_err(|error| ModelError::File(name(), error))? else {
            return Ok(false);
        };
        self.set(self.parse(&text, name)?);
        Ok(true)
    }

    async fn fetch(
        &self,
        client: &reqwest::Client,
        url: &Url,
        cache: Option<&Path>,
    ) -> Result<(), ModelError> {
        let text = fetch(client, url).await?;
        let document = self.parse(&text, || url.to_string())?;
        if (self.kind.is_empty)(&document) {
            return Err(ModelError::Useless(url.to_string()));
        }
        self.set(document);
        if let Some(cache) = cache
            && let Err(error) = keep(cache, &text).await
        {
            tracing::warn!(%error, "what was fetched about models cannot be kept");
        }
        Ok(())
    }
}

/// A document from the network.
async fn fetch(client: &reqwest::Client, url: &Url) -> Result<String, ModelError> {
    let failed = |error: reqwest::Error| ModelError::Fetch(url.to_string(), error.without_url());
    let get = client.get(url.clone()).timeout(DEADLINE);
    let response = get.send().await.map_err(failed)?;
    let mut response = response.error_for_status().map_err(failed)?;
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > watched::MAX_BYTES {
            return Err(ModelError::Useless(url.to_string()));
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Puts a document into the cache, whole or not at all.
async fn keep(cache: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = cache.parent() {
        tokio::fs::create_dir_all(folder).await?;
    }
    let unfinished = cache.with_extension("new");
    tokio::fs::write(&unfinished, text).await?;
    tokio::fs::rename(&unfinished, cache).await
}

impl App {
    /// What is known about models.
    pub(crate) fn reference(&self) -> Arc<ModelReference> {
        self.catalogue.current()
    }

    /// Reads again what is known about models, as far as that is due.
    pub(crate) async fn refresh_models(&self) {
        if let Err(error) = self.load_model_edits().await {
            tracing::warn!(%error, "entries of moderators stay as they were");
        }
        self.know(self.catalogue.refresh(self.clock.now()).await);
    }

    fn know(&self, reference: Option<Arc<ModelReference>>) {
        if let Some(reference) = reference {
            self.live().horde.set_reference(reference);
            tracing::info!("what is known about models was read again");
        }
    }

    /// Takes over what moderators wrote, here or elsewhere.
    pub(crate) async fn load_model_edits(&self) -> Result<(), ordu_store::Error> {
        let stored = self.store.find_setting(SETTING).await?;
        let edits = stored.and_then(|text| serde_json::from_str(&text).ok());
        self.know(self.catalogue.set_edits(edits.unwrap_or_default()));
        Ok(())
    }

    /// Changes what moderators wrote, for now and for later starts.
    ///
    /// # Errors
    /// `BadRequest` when there are too many entries.
    pub(crate) async fn edit_models(&self, change: impl FnOnce(&mut Edits)) -> ApiResult<()> {
        self.load_model_edits().await?;
        let mut edits = self.catalogue.edits();
        change(&mut edits);
        if edits.count() > MAX_EDITS {
            let message = format!("At most {MAX_EDITS} entries: give larger documents as a file");
            return Err(ApiError::refused(ReturnCode::BadRequest, message));
        }
        let text =
            serde_json::to_string(&edits).map_err(|error| ApiError::Internal(error.to_string()))?;
        self.store.set_setting(SETTING, &text).await?;
        self.know(self.catalogue.set_edits(edits));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_or_a_file_names_a_source() {
        let read = |text: &str| text.parse::<ModelSource>().unwrap();
        let url = "https://example.org/a.json";
        assert_eq!(read(url), ModelSource::Url(url.parse().unwrap()));
        assert_eq!(read("a.json"), ModelSource::File("a.json".into()));
        assert!("https://".parse::<ModelSource>().is_err());
    }

    #[test]
    fn failures_are_repeated_at_once_but_not_for_ever() {
        let start = Timestamp(1_000_000);
        let mut pace = Pace::default();
        for _ in 1..MAX_ATTEMPTS {
            pace = pace.after(false, start);
            assert_eq!(pace.due, start);
        }
        let hour = start + FETCH_EVERY;
        assert_eq!(pace.after(false, start).due, hour);
        let fetched = pace.after(true, start);
        assert_eq!((fetched.due, fetched.failures), (hour, 0));
    }
}
