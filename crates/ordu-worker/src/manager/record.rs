//! What is known about models: records of both forms, the legacy one and version 2, each validated
//! alone, so that one bad record is skipped and told, not fatal. Pure.
//!
//! # Source
//! `worker.md` § 3.1 to 3.4.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use super::family::Family;
use super::store::Folder;

/// The longest name that is believed, in characters.
const MAX_NAME_CHARS: usize = 255;

/// The largest size that is believed, in bytes.
const MOST_BYTES: u64 = 1 << 40;

/// A kind of record, one document each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Checkpoints of image models.
    ImageGeneration,
    /// Text models.
    TextGeneration,
    /// Captioning.
    Blip,
    /// Judging pictures by words.
    Clip,
    /// Face fixers.
    Codeformer,
    /// Control networks.
    Controlnet,
    /// What makes control pictures.
    ControlnetAnnotator,
    /// Upscalers.
    Esrgan,
    /// Face fixers.
    Gfpgan,
    /// Judges of pictures.
    SafetyChecker,
    /// Helpers of all kinds.
    Miscellaneous,
}

impl Category {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::ImageGeneration,
        Self::TextGeneration,
        Self::Blip,
        Self::Clip,
        Self::Codeformer,
        Self::Controlnet,
        Self::ControlnetAnnotator,
        Self::Esrgan,
        Self::Gfpgan,
        Self::SafetyChecker,
        Self::Miscellaneous,
    ];

    /// The name in addresses and of the copy on disk.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ImageGeneration => "image_generation",
            Self::TextGeneration => "text_generation",
            Self::Blip => "blip",
            Self::Clip => "clip",
            Self::Codeformer => "codeformer",
            Self::Controlnet => "controlnet",
            Self::ControlnetAnnotator => "controlnet_annotator",
            Self::Esrgan => "esrgan",
            Self::Gfpgan => "gfpgan",
            Self::SafetyChecker => "safety_checker",
            Self::Miscellaneous => "miscellaneous",
        }
    }

    /// The file in its legacy repository; annotators have none.
    pub fn legacy_file(self) -> Option<String> {
        match self {
            Self::ImageGeneration => Some("stable_diffusion.json".to_owned()),
            Self::TextGeneration => Some("db.json".to_owned()),
            Self::ControlnetAnnotator => None,
            other => Some(format!("{}.json", other.as_str())),
        }
    }

    /// Where the files of its models lie, unless one says otherwise.
    pub fn folder(self) -> Folder {
        match self {
            Self::ImageGeneration | Self::TextGeneration => Folder::Compvis,
            Self::Blip => Folder::Blip,
            Self::Clip => Folder::Clip,
            Self::Codeformer => Folder::Codeformer,
            Self::Controlnet | Self::ControlnetAnnotator => Folder::Controlnet,
            Self::Esrgan => Folder::Esrgan,
            Self::Gfpgan => Folder::Gfpgan,
            Self::SafetyChecker => Folder::SafetyChecker,
            Self::Miscellaneous => Folder::Miscellaneous,
        }
    }
}

/// One document, as far as it is in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reference {
    /// Name → what is known.
    pub records: BTreeMap<String, Record>,
    /// Name → why its record is skipped.
    pub problems: BTreeMap<String, String>,
}

/// What is known about a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its name in the horde.
    pub name: String,
    /// The document it is from.
    pub category: Category,
    /// Its family; of image models.
    pub family: Family,
    /// What it is, in words.
    pub description: String,
    /// Its version, in words.
    pub version: String,
    /// `generalist`, `anime`, …
    pub style: String,
    /// Whether it was made for NSFW pictures.
    pub nsfw: bool,
    /// Whether it was made for inpainting.
    pub inpainting: bool,
    /// Words about it.
    pub tags: Vec<String>,
    /// Words that wake what it learnt.
    pub triggers: Vec<String>,
    /// The kind of control of a control network, the kind of a helper.
    pub kind: Option<String>,
    /// How many parameters a text model has.
    pub parameters: Option<u64>,
    /// What requests should ask for; the server warns by it.
    pub requirements: Map<String, Value>,
    /// Workers below this major version must not offer it.
    pub min_bridge_version: Option<u64>,
    /// Words of what it cannot do.
    pub features_not_supported: Vec<String>,
    /// What it needs on disk, in bytes.
    pub bytes: Option<u64>,
    /// The files that make it.
    pub files: Vec<ModelFile>,
}

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFile {
    /// Its name in the folder. Those of readers have folders of their own in it.
    pub name: String,
    /// The folder it lies in.
    pub folder: Folder,
    /// Where it can be had.
    pub url: Option<Url>,
    /// In lower case.
    pub sha256: Option<String>,
    /// Counts only if there is no `sha256`.
    pub md5: Option<String>,
    /// What it is for, such as `stable_cascade_stage_b`.
    pub purpose: Option<String>,
    /// Its size in bytes.
    pub bytes: Option<u64>,
}

impl Record {
    /// What fetching it takes at most, in bytes, as far as the record knows.
    pub fn size(&self) -> Option<u64> {
        let sizes: Option<u64> = self.files.iter().map(|file| file.bytes).sum();
        sizes.filter(|bytes| *bytes > 0).or(self.bytes)
    }
}

/// Reads a document of either form.
///
/// # Errors
/// If it is no JSON object or list of records, or if none of its records is in order: such a document
/// must not replace a good one.
pub fn parse(category: Category, document: &[u8]) -> Result<Reference, String> {
    let document: Value = serde_json::from_slice(document).map_err(|error| error.to_string())?;
    let named: Vec<(String, Value)> = match document {
        Value::Object(members) => members.into_iter().collect(),
        Value::Array(records) => records.into_iter().map(by_own_name).collect(),
        _ => return Err("neither an object nor a list".to_owned()),
    };
    let mut reference = Reference::default();
    for (name, value) in named {
        match record(category, &name, &value) {
            Ok(record) => drop(reference.records.insert(record.name.clone(), record)),
            Err(reason) => drop(reference.problems.insert(name, reason)),
        }
    }
    match reference.problems.first_key_value() {
        Some((name, reason)) if reference.records.is_empty() => Err(format!(
            "no record is in order; the first, `{name}`: {reason}"
        )),
        _ => Ok(reference),
    }
}

fn by_own_name(value: Value) -> (String, Value) {
    let name = value.get("name").and_then(Value::as_str);
    (name.unwrap_or_default().to_owned(), value)
}

fn record(category: Category, key: &str, value: &Value) -> Result<Record, String> {
    let members = value.as_object().ok_or("it is no object")?;
    let members = Members(members);
    let name = members.text("name")?.unwrap_or_else(|| key.to_owned());
    if name.trim().is_empty() || name.chars().count() > MAX_NAME_CHARS {
        return Err("its name is empty or too long".to_owned());
    }
    let baseline = members.text("baseline")?.unwrap_or_default();
    if category == Category::ImageGeneration && baseline.is_empty() {
        return Err("it has no `baseline`".to_owned());
    }
    let kind = ["controlnet_style", "type"];
    let kind = kind.iter().find_map(|key| members.text(key).ok().flatten());
    Ok(Record {
        category,
        family: Family::parse(&baseline),
        description: members.text("description")?.unwrap_or_default(),
        version: members.text("version")?.unwrap_or_default(),
        style: members.text("style")?.unwrap_or_default(),
        nsfw: members.flag("nsfw")?,
        inpainting: members.flag("inpainting")?,
        tags: members.texts("tags")?,
        triggers: members.texts("trigger")?,
        kind,
        parameters: members.number("parameters")?,
        requirements: members.object("requirements")?.cloned().unwrap_or_default(),
        min_bridge_version: members.number("min_bridge_version")?,
        features_not_supported: members.texts("features_not_supported")?,
        bytes: members.size("size_on_disk_bytes")?,
        files: match members.object("config")? {
            Some(config) => files(category, &Members(config))?,
            None => Vec::new(),
        },
        name,
    })
}

/// The files of a record: those to fetch, joined by name with those that must be there.
fn files(category: Category, config: &Members<'_>) -> Result<Vec<ModelFile>, String> {
    let mut found: BTreeMap<String, ModelFile> = BTreeMap::new();
    let mut order = Vec::new();
    let parts = config
        .objects("files")?
        .into_iter()
        .map(|part| (part, "path"));
    let sources = config.objects("download")?;
    for (part, key) in parts.chain(sources.into_iter().map(|part| (part, "file_name"))) {
        let Some(name) = part.text(key)? else {
            continue;
        };
        let folder = part.text("file_path")?.unwrap_or_default();
        if !is_plain(&name) || !folder.is_empty() {
            return Err(format!("`{name}` is no plain file name"));
        }
        let file = found.entry(name.clone()).or_insert_with(|| {
            order.push(name.clone());
            ModelFile::named(name, category.folder())
        });
        file.add(&part)?;
    }
    Ok(order.iter().filter_map(|name| found.remove(name)).collect())
}

impl ModelFile {
    fn named(name: String, folder: Folder) -> Self {
        Self {
            name,
            folder,
            url: None,
            sha256: None,
            md5: None,
            purpose: None,
            bytes: None,
        }
    }

    /// Takes over what one part of a record says.
    fn add(&mut self, part: &Members<'_>) -> Result<(), String> {
        self.sha256 = self.sha256.take().or(part.digest("sha256sum", 64)?);
        self.md5 = self.md5.take().or(part.digest("md5sum", 32)?);
        self.bytes = self.bytes.or(part.size("size_bytes")?);
        if let Some(address) = part.text("file_url")?.filter(|address| !address.is_empty()) {
            let url = Url::parse(&address).map_err(|error| format!("`file_url`: {error}"))?;
            if !matches!(url.scheme(), "http" | "https") {
                return Err(format!(
                    "`file_url` must be an http address, not `{}:`",
                    url.scheme()
                ));
            }
            self.url = Some(url);
        }
        let purpose = part.text("file_purpose")?.or(part.text("file_type")?);
        if let Some(purpose) = purpose.filter(|purpose| !purpose.is_empty()) {
            match purpose.as_str() {
                "vae" => self.folder = Folder::Vae,
                "text_encoder" | "text_encoders" => self.folder = Folder::TextEncoders,
                _ => {}
            }
            self.purpose = Some(purpose);
        }
        Ok(())
    }
}

/// Whether a name stays in its folder on every system.
pub(crate) fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && !name.starts_with('.')
        && !name
            .chars()
            .any(|letter| letter.is_control() || "/\\:*?\"<>|".contains(letter))
}

/// The members of an object, each as the type that it must have. `null` is as good as absent.
struct Members<'a>(&'a Map<String, Value>);

impl<'a> Members<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn text(&self, key: &str) -> Result<Option<String>, String> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err(format!("`{key}` is no text")),
        }
    }

    fn flag(&self, key: &str) -> Result<bool, String> {
        self.get(key).map_or(Ok(false), |value| {
            value.as_bool().ok_or_else(|| format!("`{key}` is no bool"))
        })
    }

    fn number(&self, key: &str) -> Result<Option<u64>, String> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
        number
            .map(Some)
            .ok_or_else(|| format!("`{key}` is no whole number"))
    }

    /// A size in bytes, so small that sizes can be added up.
    fn size(&self, key: &str) -> Result<Option<u64>, String> {
        let size = self.number(key)?;
        match size {
            Some(size) if size > MOST_BYTES => Err(format!("`{key}` is more than {MOST_BYTES}")),
            size => Ok(size),
        }
    }

    /// A list of texts, or one text.
    fn texts(&self, key: &str) -> Result<Vec<String>, String> {
        let wrong = || format!("`{key}` is no list of texts");
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text.clone()]),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong))
                .collect(),
            Some(_) => Err(wrong()),
        }
    }

    fn object(&self, key: &str) -> Result<Option<&'a Map<String, Value>>, String> {
        self.get(key).map_or(Ok(None), |value| {
            let object = value.as_object();
            object
                .map(Some)
                .ok_or_else(|| format!("`{key}` is no object"))
        })
    }

    fn objects(&self, key: &str) -> Result<Vec<Self>, String> {
        let wrong = || format!("`{key}` is no list of objects");
        let Some(value) = self.get(key) else {
            return Ok(Vec::new());
        };
        let items = value.as_array().ok_or_else(wrong)?.iter();
        items
            .map(|item| item.as_object().map(Members).ok_or_else(wrong))
            .collect()
    }

    /// A checksum in hexadecimal digits, in lower case. `FIXME` and nothing mean that nobody knows it.
    fn digest(&self, key: &str, digits: usize) -> Result<Option<String>, String> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        if text.is_empty() || text.eq_ignore_ascii_case("FIXME") {
            return Ok(None);
        }
        if text.len() != digits || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(format!("`{key}` is no checksum of {digits} digits"));
        }
        Ok(Some(text.to_ascii_lowercase()))
    }
}

#[cfg(test)]
mod tests;
