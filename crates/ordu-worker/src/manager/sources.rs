//! Where the documents about models come from: the primary service, the legacy repositories, the last
//! copy on disk. A document that does not parse never replaces a good one.
//!
//! # Source
//! `worker.md` § 1.22, 3.1.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use tokio::time::Instant;
use url::Url;

use super::record::{Category, Reference, parse};
use super::web::{Web, WebError};

/// The largest document that is read.
const MAX_DOCUMENT: usize = 64 << 20;

/// Where documents are, and how patiently they are asked for.
#[derive(Debug, Clone)]
pub struct ReferenceSources {
    /// The primary service, up to `/api`. Asked once.
    pub primary: Option<Url>,
    /// The folder of the legacy documents about image models.
    pub images: Option<Url>,
    /// The folder of the legacy documents about text models.
    pub texts: Option<Url>,
    /// How often a legacy repository is asked.
    pub tries: u32,
    /// Between two tries.
    pub pause: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How long a document counts as new.
    pub fresh_for: Duration,
    /// Whether nobody may be asked.
    pub offline: bool,
}

impl Default for ReferenceSources {
    fn default() -> Self {
        let github = |repository: &str| {
            let address = format!(
                "https://raw.githubusercontent.com/Haidra-Org/AI-Horde-{repository}-model-reference/main/"
            );
            Url::parse(&address).ok()
        };
        Self {
            primary: Url::parse("https://models.aihorde.net/api").ok(),
            images: github("image"),
            texts: github("text"),
            tries: 3,
            pause: Duration::from_secs(2),
            timeout: Duration::from_secs(10),
            fresh_for: Duration::from_mins(30),
            offline: false,
        }
    }
}

impl ReferenceSources {
    /// The sources of a category, best first.
    fn of(&self, category: Category) -> Vec<Source> {
        let primary = self.primary.as_ref().map(|base| Source {
            url: below(base, &["model_references", "v2", category.as_str()]),
            tries: 1,
        });
        let repository = match category {
            Category::TextGeneration => &self.texts,
            _ => &self.images,
        };
        let legacy = category.legacy_file().zip(repository.as_ref());
        let legacy = legacy.map(|(file, base)| Source {
            url: below(base, &[&file]),
            tries: self.tries,
        });
        primary.into_iter().chain(legacy).collect()
    }
}

/// One address of a document.
struct Source {
    url: Url,
    tries: u32,
}

fn below(base: &Url, path: &[&str]) -> Url {
    let mut url = base.clone();
    // Only an address that cannot be a base has no segments, and such ones never get here.
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}

/// Where a document came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// From the web, now or within the time that it counts as new.
    Web,
    /// From the copy on disk.
    Disk,
}

/// Why nothing is known about models.
#[derive(Debug, Clone, thiserror::Error)]
#[error("nothing is known about {category} models: {reason}, and there is no copy on disk")]
pub struct NoReference {
    category: &'static str,
    reason: String,
}

/// The documents about models.
#[derive(Debug)]
pub struct References {
    web: Web,
    sources: ReferenceSources,
    folder: PathBuf,
    known: Mutex<BTreeMap<Category, Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    reference: Arc<Reference>,
    origin: Origin,
    asked: Option<Instant>,
    etag: Option<(Url, String)>,
}

impl References {
    /// Documents whose copies lie in `folder`.
    pub fn new(web: Web, sources: ReferenceSources, folder: PathBuf) -> Self {
        Self {
            web,
            sources,
            folder,
            known: Mutex::default(),
        }
    }

    /// What is known about models of a category, and where from.
    ///
    /// # Errors
    /// If no source answers and there is no copy on disk.
    pub async fn get(&self, category: Category) -> Result<(Arc<Reference>, Origin), NoReference> {
        let known = self.known(category);
        if let Some(known) = &known {
            let age = known.asked.map(|asked| asked.elapsed());
            if age.is_some_and(|age| age < self.sources.fresh_for) {
                return Ok((known.reference.clone(), known.origin));
            }
        }
        let known = known.or_else(|| self.read_disk(category));
        let (reason, mut found) = match self.ask_web(category, known.as_ref()).await {
            Ok(found) => return Ok(self.keep(category, found)),
            Err(reason) => (reason, known),
        };
        if let Some(found) = found.as_mut() {
            tracing::warn!(category = category.as_str(), %reason, "the last copy of a model reference is used");
            found.asked = Some(Instant::now());
            return Ok(self.keep(category, found.clone()));
        }
        Err(NoReference {
            category: category.as_str(),
            reason,
        })
    }

    fn keep(&self, category: Category, known: Known) -> (Arc<Reference>, Origin) {
        let found = (known.reference.clone(), known.origin);
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(category, known);
        found
    }

    fn known(&self, category: Category) -> Option<Known> {
        let all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&category).cloned()
    }

    async fn ask_web(&self, category: Category, known: Option<&Known>) -> Result<Known, String> {
        if self.sources.offline {
            return Err("the worker is offline".to_owned());
        }
        let mut reason = "no source is set".to_owned();
        for source in self.sources.of(category) {
            for tried in 0..source.tries {
                if tried > 0 {
                    tokio::time::sleep(self.sources.pause).await;
                }
                match self.ask(category, &source.url, known).await {
                    Ok(found) => return Ok(found),
                    Err(error) => {
                        let is_final = error.is_final();
                        reason = error.to_string();
                        if is_final {
                            break;
                        }
                    }
                }
            }
        }
        Err(reason)
    }

    async fn ask(
        &self,
        category: Category,
        url: &Url,
        known: Option<&Known>,
    ) -> Result<Known, WebError> {
        let mut headers = HeaderMap::new();
        let tagged = known.and_then(|known| known.etag.as_ref().map(|etag| (known, etag)));
        let tagged = tagged.filter(|(_, (from, _))| from == url);
        if let Some(etag) = tagged.and_then(|(_, (_, etag))| HeaderValue::from_str(etag).ok()) {
            headers.insert(IF_NONE_MATCH, etag);
        }
        let timeout = self.sources.timeout;
        let (status, headers, body) = self.web.read(url, headers, MAX_DOCUMENT, timeout).await?;
        let asked = Some(Instant::now());
        if status == StatusCode::NOT_MODIFIED {
            let (known, _) = tagged.ok_or_else(|| WebError::Malformed("an odd 304".to_owned()))?;
            return Ok(Known {
                asked,
                origin: Origin::Web,
                ..known.clone()
            });
        }
        let reference = parse(category, &body)
            .map_err(|reason| WebError::Malformed(format!("it does not parse: {reason}")))?;
        for (name, reason) in &reference.problems {
            tracing::debug!(model = name, reason, "a record is skipped");
        }
        let etag = headers.get(ETAG).and_then(|value| value.to_str().ok());
        let etag = etag.map(|etag| (url.clone(), etag.to_owned()));
        if let Err(error) = self.write(category, &body, etag.as_ref()) {
            tracing::warn!(%error, "a model reference could not be kept on disk");
        }
        Ok(Known {
            reference: Arc::new(reference),
            origin: Origin::Web,
            asked,
            etag,
        })
    }

    fn copy(&self, category: Category) -> PathBuf {
        self.folder.join(format!("{}.json", category.as_str()))
    }

    fn write(
        &self,
        category: Category,
        body: &[u8],
        etag: Option<&(Url, String)>,
    ) -> std::io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let copy = self.copy(category);
        let tag = copy.with_extension("etag");
        // Between the two writes a copy without a tag is only asked for once more.
        fs::remove_file(&tag).ok();
        replace(&copy, body)?;
        match etag {
            Some((url, etag)) => replace(&tag, format!("{etag}\n{url}").as_bytes()),
            None => Ok(()),
        }
    }

    /// The last copy, or one that the deployed worker left.
    fn read_disk(&self, category: Category) -> Option<Known> {
        let copy = self.copy(category);
        let legacy = category.legacy_file();
        let legacy = legacy.map(|file| self.folder.join("legacy").join(file));
        let candidates = [Some(copy.clone()), legacy].into_iter().flatten();
        let reference = candidates
            .filter_map(|path| fs::read(path).ok())
            .find_map(|document| parse(category, &document).ok())?;
        let tag = fs::read_to_string(copy.with_extension("etag")).ok();
        let etag = tag.as_deref().and_then(|text| {
            let (etag, url) = text.split_once('\n')?;
            Some((Url::parse(url).ok()?, etag.to_owned()))
        });
        Some(Known {
            reference: Arc::new(reference),
            origin: Origin::Disk,
            asked: None,
            etag,
        })
    }
}

/// Replaces a file at once, so that nobody ever reads half of it.
pub(crate) fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let half = path.with_file_name(format!(".{name}.{}", std::process::id()));
    fs::write(&half, content)?;
    fs::rename(&half, path)
}
