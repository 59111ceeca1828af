//! Which helpers a worker needs besides its models: only those of the features that it offers. Pure.
//!
//! # Source
//! `worker.md` § 3.5, 3.6.

use super::record::{Category, Record};
use crate::Config;

/// The documents whose models these features need. What reads and judges pictures is in none of them.
pub fn supplies(config: &Config) -> Vec<Category> {
    let mut needed = Vec::new();
    if config.allow_controlnet {
        needed.extend([Category::Controlnet, Category::ControlnetAnnotator]);
    }
    if config.allow_post_processing {
        needed.extend([Category::Esrgan, Category::Gfpgan, Category::Codeformer]);
    }
    if config.allow_sdxl_controlnet {
        needed.push(Category::Miscellaneous);
    }
    needed
}

/// Whether these features need a model of one of their documents.
pub fn is_needed(record: &Record, config: &Config) -> bool {
    let is_sdxl = || {
        let kind = record.kind.as_deref().unwrap_or_default().to_lowercase();
        kind.ends_with("_xl") || kind.contains("sdxl")
    };
    match record.category {
        Category::Controlnet => config.allow_sdxl_controlnet || !is_sdxl(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manager::record::parse;

    #[test]
    fn helpers_are_those_of_the_features() {
        let mut config = Config {
            allow_post_processing: false,
            ..Config::default()
        };
        assert_eq!(supplies(&config), []);
        config.allow_post_processing = true;
        config.allow_controlnet = true;
        assert_eq!(supplies(&config).len(), 5);
        config.allow_sdxl_controlnet = true;
        let last = supplies(&config).pop();
        assert_eq!(last, Some(Category::Miscellaneous));
    }

    #[test]
    fn control_networks_of_sdxl_are_needed_only_where_they_are_offered() {
        let document = br#"{"a": {"type": "control_qr"}, "b": {"type": "control_qr_xl"}}"#;
        let reference = parse(Category::Controlnet, document).unwrap();
        let needed = |allowed| {
            let config = Config {
                allow_sdxl_controlnet: allowed,
                ..Config::default()
            };
            let records = reference.records.values();
            records.filter(|record| is_needed(record, &config)).count()
        };
        assert_eq!((needed(false), needed(true)), (1, 2));
    }
}
