//! The add-ons of a job, made ready: LoRAs and textual inversions found here or fetched, with a remark
//! for each that cannot be had. A job never fails for want of an add-on.
//!
//! [`Pantry::prefetch`] may be called for one job while another is being sampled. What it returns keeps
//! its files from being evicted until it is dropped.
//!
//! # Source
//! `worker.md` § 1.16, 2.6.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use ordu_api::image::{ImagePayload, Lora, Metadata, TextualInversion};
use ordu_engine::native::weights::TensorFile;
use reqwest::header::HeaderMap;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::civitai::{AddOn, Asked, Civitai, CivitaiOptions, Offered, Taste, Unknown};
use super::download::{DownloadError, Downloads, Format, TransferProgress, Wanted};
use super::family::Family;
use super::index::{Entry, Index, Pin};
use super::inject::{InjectTi, trigger, with_embedding, with_trigger};
use super::record::is_plain;
use super::store::{Folder, Store};
use super::web::Web;
use crate::generate::{LeftOut, Why};

/// LoRAs that one job may bring.
const MAX_LORAS: usize = 5;

/// Textual inversions that one job may bring.
const MAX_TIS: usize = 20;

/// The longest reference of a remark, in characters.
const MAX_REFERENCE_CHARS: usize = 255;

/// Strengths beyond are cut.
const MAX_STRENGTH: f64 = 10.0;

/// The longest name of a LoRA in the name of its file, in characters.
const MAX_FILE_CHARS: usize = 128;

/// The stem of the file that lies among the add-ons, so that an engine that is another program can be
/// asked whether it sees what is fetched for it.
pub const PROOF: &str = "ordu-proof";

/// A file of tensors without a tensor.
const NO_TENSORS: &[u8] = b"\x02\0\0\0\0\0\0\0{}";

/// How alike the name of a LoRA must be, in percent.
const LORA_ALIKE: f64 = 90.0;

/// How alike the name of a textual inversion must be, in percent.
const TI_ALIKE: f64 = 80.0;

/// How add-ons are kept.
#[derive(Debug, Clone)]
pub struct PantryOptions {
    /// Where they are looked up.
    pub civitai: CivitaiOptions,
    /// What LoRAs that jobs brought may take, in bytes.
    pub budget: u64,
    /// What the LoRAs that are fetched by default may take, in bytes.
    pub defaults_budget: u64,
    /// The largest add-on that is fetched, in bytes.
    pub largest: u64,
    /// How long a job waits for its first LoRA.
    pub first_wait: Duration,
    /// How much longer for each further one.
    pub further_wait: Duration,
    /// Files that are fetched at the same time.
    pub connections: usize,
    /// What the worker may use.
    pub taste: Taste,
}

impl PantryOptions {
    /// As the deployed worker does it, looking up here.
    pub fn with(civitai: CivitaiOptions) -> Self {
        Self {
            civitai,
            budget: 10 << 30,
            defaults_budget: 10 << 30,
            largest: 400 << 20,
            first_wait: Duration::from_secs(45),
            further_wait: Duration::from_secs(15),
            connections: 4,
            taste: Taste::Any,
        }
    }
}

/// A LoRA to apply.
#[derive(Debug)]
pub struct ReadyLora {
    /// As the request named it.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Strength on the diffusion model.
    pub model: f64,
    /// Strength on the text encoder.
    pub clip: f64,
    /// What wakes it, if the request wished for it.
    pub trigger: Option<String>,
    _pin: Pin,
}

impl ReadyLora {
    /// The name of its file.
    pub fn file(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

/// A textual inversion to apply.
#[derive(Debug)]
pub struct ReadyTi {
    /// As the request named it.
    pub name: String,
    /// The id by which prompts name it: `embedding:<id>`.
    pub id: u64,
    /// Where it is.
    pub path: PathBuf,
    /// Weight of the word.
    pub strength: f64,
    /// Where the word goes, if the request did not write it.
    pub inject: Option<InjectTi>,
    _pin: Pin,
}

/// What a job brought and could be had, in its order, and remarks about the rest.
#[derive(Debug, Default)]
pub struct AddOns {
    /// LoRAs, to be chained in this order.
    pub loras: Vec<ReadyLora>,
    /// Textual inversions.
    pub tis: Vec<ReadyTi>,
    /// For the submit.
    pub remarks: Vec<Metadata>,
}

impl AddOns {
    /// Remarks that none of these is served here.
    pub(crate) fn refused(payload: &ImagePayload) -> Self {
        let loras = payload.loras.iter().map(|lora| ("lora", &lora.name));
        let tis = payload.tis.iter().map(|ti| ("ti", &ti.name));
        let all = loras.take(MAX_LORAS).chain(tis.take(MAX_TIS));
        Self {
            remarks: all
                .map(|(kind, name)| remark(kind, "download_failed", name))
                .collect(),
            ..Self::default()
        }
    }

    /// What is told of an add-on that is here and that the engine could not use.
    pub(crate) fn missed(&self, add_on: &LeftOut) -> Option<Metadata> {
        let value = match add_on.why {
            Why::Missing => "download_failed",
            Why::Mismatch => "baseline_mismatch",
        };
        let lora = self.loras.iter().find(|lora| lora.file() == add_on.name);
        let ti = || self.tis.iter().find(|ti| ti.id.to_string() == add_on.name);
        match lora {
            Some(lora) => Some(remark("lora", value, &lora.name)),
            None => ti().map(|ti| remark("ti", value, &ti.name)),
        }
    }

    /// Prompt and negative prompt with the words of the add-ons.
    pub fn inject(&self, prompt: &str, negative: &str) -> (String, String) {
        let mut both = (prompt.to_owned(), negative.to_owned());
        for ti in &self.tis {
            if let Some(place) = ti.inject {
                both = with_embedding(both, ti.id, ti.strength, place);
            }
        }
        for trigger in self.loras.iter().filter_map(|lora| lora.trigger.as_ref()) {
            both.0 = with_trigger(&both.0, trigger);
        }
        both
    }
}

/// Why an add-on is missing.
#[derive(Debug, thiserror::Error)]
enum Missing {
    #[error("it is for another family of models")]
    Mismatch,
    #[error(transparent)]
    Unknown(#[from] Unknown),
    #[error(transparent)]
    Download(#[from] DownloadError),
    #[error("it is larger than {0} bytes")]
    TooLarge(u64),
    #[error("there is no room for it")]
    NoRoom,
    #[error("it did not come in time")]
    TooLate,
    #[error("the disk said no: {0}")]
    Io(#[from] io::Error),
}

impl Missing {
    fn remark(&self, kind: &str, name: &str) -> Metadata {
        let value = match self {
            Self::Mismatch => "baseline_mismatch",
            _ => "download_failed",
        };
        remark(kind, value, name)
    }
}

fn remark(kind: &str, value: &str, name: &str) -> Metadata {
    Metadata {
        kind: kind.to_owned(),
        value: value.to_owned(),
        reference: Some(name.chars().take(MAX_REFERENCE_CHARS).collect()),
    }
}

/// Where add-ons come from.
#[derive(Debug)]
pub struct Pantry {
    store: Store,
    downloads: Downloads,
    web: Web,
    civitai: Civitai,
    options: PantryOptions,
    /// Whether what is NSFW may not be used, whatever it was at first.
    is_sfw: AtomicBool,
    slots: Arc<Semaphore>,
}

impl Pantry {
    /// Add-ons in `store`, fetched by `downloads`, looked up with `web`.
    pub fn new(store: Store, downloads: Downloads, web: Web, options: PantryOptions) -> Self {
        Self {
            civitai: Civitai::new(web.clone(), options.civitai.clone()),
            slots: Arc::new(Semaphore::new(options.connections.max(1))),
            is_sfw: AtomicBool::new(options.taste == Taste::Sfw),
            store,
            downloads,
            web,
            options,
        }
    }

    /// What may be used from now on.
    pub fn set_taste(&self, taste: Taste) {
        self.is_sfw.store(taste == Taste::Sfw, Ordering::Relaxed);
    }

    fn taste(&self) -> Taste {
        if self.is_sfw.load(Ordering::Relaxed) {
            Taste::Sfw
        } else {
            Taste::Any
        }
    }

    /// Makes the folders for add-ons, and puts the file there by which an engine proves that it sees
    /// them. Add-ons are served from then on.
    ///
    /// # Errors
    /// If a folder or file cannot be made.
    pub fn open(&self) -> io::Result<()> {
        for folder in [Folder::Lora, Folder::Ti] {
            std::fs::create_dir_all(self.store.folder(folder))?;
            let proof = self.store.place(folder, &format!("{PROOF}.safetensors"));
            if std::fs::read(&proof).ok().as_deref() != Some(NO_TENSORS) {
                std::fs::write(proof, NO_TENSORS)?;
            }
        }
        Ok(())
    }

    /// Makes the add-ons of a job ready for a model of this family, as far as they come until `latest`.
    /// `seed` is that of the job.
    pub async fn prefetch(
        &self,
        payload: &ImagePayload,
        family: &Family,
        seed: u64,
        latest: Instant,
    ) -> AddOns {
        let loras: Vec<_> = payload
            .loras
            .iter()
            .filter(|lora| !lora.name.trim().is_empty() && (lora.model != 0.0 || lora.clip != 0.0))
            .take(MAX_LORAS)
            .collect();
        let named = payload.tis.iter().filter(|ti| !ti.name.trim().is_empty());
        let tis: Vec<_> = named.take(MAX_TIS).collect();
        let further = (loras.len() + tis.len()).saturating_sub(1);
        let further = u32::try_from(further).unwrap_or(u32::MAX);
        let wait = self.options.first_wait + self.options.further_wait.saturating_mul(further);
        let end = latest.min(Instant::now() + wait);
        let (ready_loras, ready_tis) = futures::join!(
            join_all(
                loras
                    .iter()
                    .map(|lora| in_time(end, self.lora(lora, family, seed)))
            ),
            join_all(tis.iter().map(|ti| in_time(end, self.ti(ti, family))))
        );
        let mut add_ons = AddOns::default();
        for (lora, ready) in loras.iter().zip(ready_loras) {
            let kept = add_ons.kept(ready, "lora", &lora.name);
            add_ons.loras.extend(kept);
        }
        for (ti, ready) in tis.iter().zip(ready_tis) {
            let kept = add_ons.kept(ready, "ti", &ti.name);
            add_ons.tis.extend(kept);
        }
        add_ons
    }

    async fn lora(&self, wish: &Lora, family: &Family, seed: u64) -> Result<ReadyLora, Missing> {
        let asked = Asked::parse(&wish.name, wish.is_version)?;
        let (entry, path, pin) = self.lora_file(&asked, Some(family)).await?;
        let wished = wish.inject_trigger.as_deref();
        Ok(ReadyLora {
            name: wish.name.clone(),
            path,
            model: strength(wish.model),
            clip: strength(wish.clip),
            trigger: wished.and_then(|wished| trigger(&entry.triggers, wished, seed)),
            _pin: pin,
        })
    }

    /// A LoRA that is here or can be fetched. Without a family it becomes one of the defaults.
    async fn lora_file(
        &self,
        asked: &Asked,
        family: Option<&Family>,
    ) -> Result<(Entry, PathBuf, Pin), Missing> {
        let fits = |base: &str| family.is_none_or(|family| family.takes(base));
        if let Some(found) = self.here(Folder::Lora, asked, LORA_ALIKE).await? {
            return if fits(&found.0.base_model) {
                Ok(found)
            } else {
                Err(Missing::Mismatch)
            };
        }
        let offered = self.civitai.find(AddOn::Lora, asked, self.taste()).await?;
        if !fits(&offered.base_model) {
            return Err(Missing::Mismatch);
        }
        let curated = family.is_none();
        if offered.bytes > self.options.largest && !curated {
            return Err(Missing::TooLarge(self.options.largest));
        }
        let file = file_name(&offered.name, offered.version_id);
        if !curated {
            self.make_room(offered.bytes).await?;
        }
        let (url, sum) = (offered.url.clone(), offered.sha256.clone());
        let limit = (!curated).then_some(self.options.largest);
        let bytes = self.fetch(Folder::Lora, &file, (url, sum, limit)).await?;
        let entry = Entry {
            curated,
            ..entry(offered, file, bytes)
        };
        self.shelve(Folder::Lora, entry).await
    }

    async fn ti(&self, wish: &TextualInversion, family: &Family) -> Result<ReadyTi, Missing> {
        let asked = Asked::parse(&wish.name, false)?;
        let (entry, path, pin) = match self.here(Folder::Ti, &asked, TI_ALIKE).await? {
            Some(found) => found,
            None => self.fetched_ti(&asked, family).await?,
        };
        if !family.takes(&entry.base_model) {
            return Err(Missing::Mismatch);
        }
        Ok(ReadyTi {
            name: wish.name.clone(),
            id: entry.model_id,
            path,
            strength: strength(wish.strength),
            inject: wish.inject_ti.as_deref().and_then(InjectTi::parse),
            _pin: pin,
        })
    }

    async fn fetched_ti(
        &self,
        asked: &Asked,
        family: &Family,
    ) -> Result<(Entry, PathBuf, Pin), Missing> {
        let offered = self.civitai.find(AddOn::Ti, asked, self.taste()).await?;
        if !family.takes(&offered.base_model) {
            return Err(Missing::Mismatch);
        }
        let (url, sum) = self.civitai.embedding(offered.model_id).await?;
        let file = format!("{}.safetensors", offered.model_id);
        let limit = Some(self.options.largest);
        let bytes = self
            .fetch(Folder::Ti, &file, (url, sum.clone(), limit))
            .await?;
        let entry = Entry {
            sha256: sum,
            ..entry(offered, file, bytes)
        };
        self.shelve(Folder::Ti, entry).await
    }

    /// An add-on that is here already, pinned.
    async fn here(
        &self,
        folder: Folder,
        asked: &Asked,
        alike: f64,
    ) -> Result<Option<(Entry, PathBuf, Pin)>, Missing> {
        let index_path = self.index(folder);
        let mut index = Index::read(&index_path);
        // One that somebody removed by hand is not here, and must not hide another one.
        index.entries.retain(|entry| {
            is_plain(&entry.file) && self.store.find(folder, &entry.file).is_some()
        });
        if self.taste() == Taste::Sfw {
            index.entries.retain(|entry| !entry.nsfw);
        }
        let Some(entry) = index.find(asked, alike).cloned() else {
            return Ok(None);
        };
        let Some(path) = self.store.find(folder, &entry.file) else {
            return Ok(None);
        };
        let pin = Pin::new(&path).await?;
        // One that was spoilt is fetched anew.
        if !is_sound(path.clone()).await {
            return Ok(None);
        }
        let version = entry.version_id;
        Index::change(&index_path, |index| index.touch(version)).await?;
        Ok(Some((entry, path, pin)))
    }

    /// Fetches a file of an add-on. Returns its size.
    async fn fetch(
        &self,
        folder: Folder,
        file: &str,
        (url, sum, limit): (Url, String, Option<u64>),
    ) -> Result<u64, Missing> {
        // The semaphore is never closed; without a permit there would be one connection more.
        let _slot = self.slots.acquire().await.ok();
        let wanted = Wanted {
            url,
            target: self.store.place(folder, file),
            sha256: Some(sum),
            md5: None,
            limit,
            format: Format::Safetensors,
        };
        let progress = watch::Sender::new(TransferProgress::default());
        self.downloads.fetch(&wanted, &progress).await?;
        Ok(std::fs::metadata(&wanted.target)?.len())
    }

    /// Writes down that an add-on is here, and pins it.
    async fn shelve(&self, folder: Folder, entry: Entry) -> Result<(Entry, PathBuf, Pin), Missing> {
        let path = self.store.place(folder, &entry.file);
        let pin = Pin::new(&path).await?;
        let kept = entry.clone();
        Index::change(&self.index(folder), |index| index.insert(kept)).await?;
        if !path.exists() {
            return Err(Missing::NoRoom);
        }
        Ok((entry, path, pin))
    }

    /// Evicts LoRAs that were not used for long until `incoming` bytes fit.
    async fn make_room(&self, incoming: u64) -> Result<(), Missing> {
        let place = |entry: &Entry| self.store.place(Folder::Lora, &entry.file);
        let evicted = |index: &mut Index| -> Result<(), Missing> {
            let mut pinned = BTreeSet::new();
            let mut going = Vec::new();
            for entry in &index.entries {
                match Pin::evicting(&place(entry))? {
                    Some(right) => going.push((entry.version_id, place(entry), right)),
                    None => drop(pinned.insert(entry.version_id)),
                }
            }
            let evicted = index.to_evict(self.options.budget, incoming, &pinned);
            let evicted = evicted.ok_or(Missing::NoRoom)?;
            for (version, path, _) in going.iter().filter(|(id, ..)| evicted.contains(id)) {
                remove(path)?;
                index.entries.retain(|entry| entry.version_id != *version);
                tracing::info!(lora.version = version, "a LoRA was evicted");
            }
            Ok(())
        };
        Index::change(&self.index(Folder::Lora), evicted).await?
    }

    /// Fetches the LoRAs that workers have by default, as far as they fit. Returns how many are here.
    ///
    /// # Errors
    /// If the list of them, `lora.json` in the folder `list`, cannot be read.
    pub async fn stock_defaults(&self, list: &Url) -> Result<usize, super::web::WebError> {
        let url = list.join("lora.json");
        let url = url.map_err(|error| super::web::WebError::Malformed(error.to_string()))?;
        let timeout = Duration::from_secs(10);
        let (_, _, body) = self
            .web
            .read(&url, HeaderMap::new(), 1 << 20, timeout)
            .await?;
        let ids: Vec<serde_json::Value> = serde_json::from_slice(&body)
            .map_err(|error| super::web::WebError::Malformed(error.to_string()))?;
        let (mut here, mut bytes) = (0, 0_u64);
        for id in ids
            .iter()
            .filter_map(|id| id.as_u64().or_else(|| id.as_str()?.parse().ok()))
        {
            if bytes >= self.options.defaults_budget {
                break;
            }
            match self.lora_file(&Asked::Model(id), None).await {
                Ok((entry, ..)) => {
                    here += 1;
                    bytes = bytes.saturating_add(entry.bytes);
                }
                Err(reason) => {
                    tracing::info!(lora.model = id, %reason, "a default LoRA is missing");
                }
            }
        }
        Ok(here)
    }

    /// Removes the LoRA files that no index knows and nobody uses. Returns how many.
    ///
    /// # Errors
    /// If the folder cannot be read or a file not be removed.
    pub async fn purge(&self) -> io::Result<usize> {
        let folder = self.store.folder(Folder::Lora);
        let act = |index: &mut Index| -> io::Result<usize> {
            let known: BTreeSet<_> = index
                .entries
                .iter()
                .map(|entry| entry.file.as_str())
                .collect();
            let mut removed = 0;
            for file in std::fs::read_dir(&folder)? {
                let path = file?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let is_lora = path
                    .extension()
                    .is_some_and(|ending| ending == "safetensors");
                let is_ours = path.file_stem().is_some_and(|stem| stem == PROOF);
                let stays = is_ours || known.contains(name.as_ref());
                if !is_lora || stays || Pin::evicting(&path)?.is_none() {
                    continue;
                }
                remove(&path)?;
                removed += 1;
            }
            Ok(removed)
        };
        if !folder.exists() {
            return Ok(0);
        }
        Index::change(&self.index(Folder::Lora), act).await?
    }

    fn index(&self, folder: Folder) -> PathBuf {
        self.store
            .place(folder, &format!("{}.json", folder.as_str()))
    }
}

impl AddOns {
    fn kept<T>(&mut self, ready: Result<T, Missing>, kind: &str, name: &str) -> Option<T> {
        match ready {
            Ok(ready) => Some(ready),
            Err(missing) => {
                tracing::info!(kind, reason = %missing, "an add-on is missing");
                self.remarks.push(missing.remark(kind, name));
                None
            }
        }
    }
}

async fn in_time<T>(
    end: Instant,
    ready: impl Future<Output = Result<T, Missing>>,
) -> Result<T, Missing> {
    timeout_at(end, ready)
        .await
        .unwrap_or(Err(Missing::TooLate))
}

/// Whether a file is there and its header can be believed.
async fn is_sound(path: PathBuf) -> bool {
    let opened = tokio::task::spawn_blocking(move || TensorFile::open(&path).is_ok());
    opened.await.unwrap_or(false)
}

fn entry(offered: Offered, file: String, bytes: u64) -> Entry {
    Entry {
        model_id: offered.model_id,
        version_id: offered.version_id,
        name: offered.name,
        base_model: offered.base_model,
        triggers: offered.triggers,
        nsfw: offered.nsfw,
        file,
        sha256: offered.sha256,
        bytes,
        used: 0,
        curated: false,
    }
}

fn strength(number: f64) -> f64 {
    if number.is_finite() {
        number.clamp(-MAX_STRENGTH, MAX_STRENGTH)
    } else {
        1.0
    }
}

fn remove(path: &Path) -> io::Result<()> {
    super::checksum::forget(path);
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The name of a LoRA's file: letters and digits of its name, and its version.
fn file_name(name: &str, version: u64) -> String {
    let plain: String = name
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter
            } else {
                '_'
            }
        })
        .take(MAX_FILE_CHARS)
        .collect();
    let plain = plain.trim_matches('_');
    let plain = if plain.is_empty() { "lora" } else { plain };
    format!("{plain}_{version}.safetensors")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_plain() {
        for (name, expected) in [
            ("Détail: Tweaker / XL", "D_tail__Tweaker___XL_5.safetensors"),
            ("../../etc", "etc_5.safetensors"),
            ("龍", "lora_5.safetensors"),
        ] {
            assert_eq!(file_name(name, 5), expected);
            assert!(is_plain(&file_name(name, 5)));
        }
        assert!(file_name(&"x".repeat(1000), 5).len() < 160);
    }

    #[test]
    fn strengths_are_cut() {
        assert_eq!(
            [99.0, -99.0, 0.5, f64::NAN].map(strength).map(f64::to_bits),
            [10.0_f64, -10.0, 0.5, 1.0].map(f64::to_bits)
        );
    }
}
