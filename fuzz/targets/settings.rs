//! Settings of workers, documents about models and subscriptions, and what a worker offered.

#![no_main]

use std::collections::BTreeMap;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use ordu_api::worker::WorkKind;
use ordu_core::filter::Terms;
use ordu_core::horde::Declared;
use ordu_core::model_reference::ModelReference;
use ordu_core::subscription::{Document, Subscribers};
use ordu_core::text_models::TextModels;
use ordu_worker::bridge_data::{BridgeData, Environment};
use ordu_worker::manager::{Category, parse};

fuzz_target!(|text: &str| {
    for name in ["a.yaml", "a.json"] {
        BridgeData::parse(Path::new(name), text, &Environment::default()).ok();
    }
    for category in Category::ALL {
        let reference = parse(category, text.as_bytes()).unwrap_or_default();
        for record in reference.records.values() {
            record.size();
        }
    }
    for kind in WorkKind::ALL {
        Declared::from_json(kind, text).to_json();
    }
    if let Ok(document) = serde_json::from_str::<Document>(text) {
        Subscribers::new(&document, &BTreeMap::new());
    }
    ModelReference::from_json(text).ok();
    TextModels::from_json(text).ok();
    Terms::from_json(text).ok();
});
