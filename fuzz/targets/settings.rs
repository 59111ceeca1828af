//! Settings of workers and documents about models.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use ordu_core::filter::Terms;
use ordu_core::model_reference::ModelReference;
use ordu_core::text_models::TextModels;
use ordu_worker::bridge_data::{BridgeData, Environment};
use ordu_worker::manager::{Category, parse};

fuzz_target!(|text: &str| {
    for name in ["a.yaml", "a.json"] {
        BridgeData::parse(Path::new(name), text, &Environment::default()).ok();
    }
    for category in Category::ALL {
        parse(category, text.as_bytes()).ok();
    }
    ModelReference::from_json(text).ok();
    TextModels::from_json(text).ok();
    Terms::from_json(text).ok();
});
