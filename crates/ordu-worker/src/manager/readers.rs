//! Where the networks come from with which the built-in engine reads pictures. What the public
//! documents name for these works are pickles, which nobody here opens, so these are ours. Pure.
//!
//! # Source
//! `worker.md` § 3.6, 4, 6; the repositories of their authors on Hugging Face.

use ordu_api::worker::WorkKind;
use serde::Deserialize;
use serde_json::Value;

use super::record::{Category, Record, parse};
use crate::Config;
use crate::bridge_data::Backend;

/// The form of alchemy by which a safety checker goes.
const NSFW: &str = "nsfw";

/// Where the files are, unless somebody mirrors them.
const HUB: &str = "https://huggingface.co";

/// One of the networks.
#[derive(Debug, Clone, PartialEq)]
pub struct Reader {
    /// The form of alchemy that needs it.
    pub form: String,
    /// Its files, in a folder of its own.
    pub record: Record,
}

#[derive(Deserialize)]
struct Entry {
    form: String,
    category: Category,
    record: Value,
}

/// All of them, from Hugging Face or its mirror, an address without a slash at its end.
pub fn readers(mirror: Option<&str>) -> Vec<Reader> {
    let document = include_str!("readers.json");
    let document = mirror.map_or_else(|| document.to_owned(), |hub| document.replace(HUB, hub));
    let entries: Vec<Entry> = serde_json::from_str(&document).unwrap_or_default();
    entries.into_iter().filter_map(reader).collect()
}

fn reader(entry: Entry) -> Option<Reader> {
    let document = Value::Array(vec![entry.record]).to_string();
    let reference = parse(entry.category, document.as_bytes()).ok()?;
    let mut record = reference.records.into_values().next()?;
    for file in &mut record.files {
        file.name = format!("{}/{}", record.name, file.name);
    }
    Some(Reader {
        form: entry.form,
        record,
    })
}

impl Reader {
    /// Whether a worker of these kinds needs it: for a form that it answers, or to judge its pictures.
    pub fn is_needed(&self, config: &Config, backend: &Backend, kinds: &[WorkKind]) -> bool {
        let is_judge = self.form == NSFW
            && kinds.contains(&WorkKind::Image)
            && backend.safety.as_deref() != Some("remote");
        let is_answered = kinds.contains(&WorkKind::Interrogation)
            && (config.forms.is_empty() || config.forms.contains(&self.form));
        is_judge || is_answered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_a_folder_of_tensors_with_its_settings() {
        let all = readers(None);
        let forms: Vec<_> = all.iter().map(|reader| reader.form.as_str()).collect();
        assert_eq!(forms, ["caption", "interrogation", NSFW]);
        for Reader { record, .. } in &all {
            let has = |name: &str| {
                let name = format!("{}/{name}", record.name);
                record.files.iter().any(|file| file.name == name)
            };
            assert!(has("config.json") && has("model.safetensors"), "{record:?}");
            for file in &record.files {
                let url = file.url.as_ref().unwrap();
                assert_eq!(url.host_str(), Some("huggingface.co"));
                assert_eq!(file.folder, record.category.folder());
            }
        }
    }

    #[test]
    fn a_mirror_has_all_of_them() {
        let all = readers(Some("http://127.0.0.1:1"));
        let files = all.iter().flat_map(|reader| &reader.record.files);
        let mut hosts = files.filter_map(|file| file.url.as_ref()?.host_str());
        assert!(hosts.all(|host| host == "127.0.0.1"));
        assert!(!readers(Some("not an address")).iter().any(|_| true));
    }

    #[test]
    fn they_are_needed_by_those_who_read_or_judge() {
        let (mut config, mut backend) = (Config::default(), Backend::default());
        let needed = |config: &Config, backend: &Backend, kinds: &[WorkKind]| {
            let all = readers(None).into_iter();
            all.filter(|reader| reader.is_needed(config, backend, kinds))
                .map(|reader| reader.form)
                .collect::<Vec<_>>()
        };
        let both = [WorkKind::Image, WorkKind::Interrogation];
        assert_eq!(needed(&config, &backend, &both).len(), 3);
        assert_eq!(needed(&config, &backend, &both[..1]), [NSFW]);
        assert!(needed(&config, &backend, &[WorkKind::Text]).is_empty());
        config.forms = vec!["caption".to_owned()];
        assert_eq!(needed(&config, &backend, &both), ["caption", NSFW]);
        backend.safety = Some("remote".to_owned());
        assert_eq!(needed(&config, &backend, &both), ["caption"]);
    }
}
