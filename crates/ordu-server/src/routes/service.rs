//! What kind of server this is, for programs that know only its address.
//!
//! # Source
//! `community.md` § 12.1; `platform.md` § 4.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use ordu_api::extension::EXTENSIONS;
use ordu_api::{API_VERSION, BASE_PATH};
use serde_json::{Map, Value, json};

use crate::app::App;

/// The version of the document.
const VERSION: &str = "0.2";

/// `GET /.well-known/serviceinfo`
pub(crate) async fn info(State(app): State<Arc<App>>) -> Json<Value> {
    let site = &app.config.site;
    let url = app.url.as_str();
    let logo = match &site.logo {
        Some(logo) => logo.clone(),
        None => format!("{url}/assets/icon.svg"),
    };
    let repository = match &site.repository {
        Some(repository) => repository.as_str(),
        None => env!("CARGO_PKG_REPOSITORY"),
    };
    let extensions = EXTENSIONS.iter();
    let extensions: Map<String, Value> = extensions
        .map(|(name, version)| ((*name).to_owned(), json!(version)))
        .collect();
    Json(json!({
        "version": VERSION,
        "software": {
            "name": app.config.title,
            "version": env!("CARGO_PKG_VERSION"),
            "repository": repository,
            "homepage": url,
            "logo": logo,
        },
        "api": {
            "aihorde": {
                "name": "AI Horde API",
                "version": API_VERSION,
                "base_url": format!("{url}{BASE_PATH}"),
                "rel_url": BASE_PATH,
                "documentation": format!("{url}/api"),
            },
            "ordu": {
                "name": "Ordu",
                "version": env!("CARGO_PKG_VERSION"),
                "base_url": format!("{url}{BASE_PATH}"),
                "rel_url": BASE_PATH,
                "extensions": extensions,
            },
        },
    }))
}
