//! The documents about models, from services that are there, gone, or talk nonsense.

use std::path::Path;
use std::time::Duration;

use ordu_worker::manager::{Category, Origin, ReferenceSources, References, Web};
use serde_json::json;

use crate::support::files::{FileServer, Served, Trick};
use crate::support::within;

const PRIMARY: &str = "/api/model_references/v2/image_generation";
const LEGACY: &str = "/images/stable_diffusion.json";

fn references(server: &FileServer, folder: &Path) -> References {
    let sources = ReferenceSources {
        primary: Some(server.at("/api")),
        images: Some(server.at("/images/")),
        texts: Some(server.at("/texts/")),
        pause: Duration::from_millis(1),
        fresh_for: Duration::ZERO,
        ..ReferenceSources::default()
    };
    References::new(Web::new().unwrap(), sources, folder.to_owned())
}

fn document(name: &str) -> Served {
    Served::new(json!({name: {"name": name, "baseline": "SDXL"}}).to_string())
}

async fn known(references: &References) -> (Vec<String>, Origin) {
    let (found, origin) = within(references.get(Category::ImageGeneration))
        .await
        .unwrap();
    (found.records.keys().cloned().collect(), origin)
}

fn names(name: &str, origin: Origin) -> (Vec<String>, Origin) {
    (vec![name.to_owned()], origin)
}

#[tokio::test]
async fn the_primary_comes_first_and_the_repository_three_times() {
    let server = FileServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let references = references(&server, folder.path());
    server.put(PRIMARY, document("primary"));
    assert_eq!(known(&references).await, names("primary", Origin::Web));
    assert!(server.asked(LEGACY).is_empty());
    server.put(PRIMARY, Served::new("<html>").always(Trick::Status(502)));
    server.put(
        LEGACY,
        document("legacy").tricks([Trick::Status(500), Trick::Cut(3)]),
    );
    assert_eq!(known(&references).await, names("legacy", Origin::Web));
    assert_eq!(server.asked(PRIMARY).len(), 2);
    assert_eq!(server.asked(LEGACY).len(), 3);
}

#[tokio::test]
async fn nonsense_never_replaces_a_good_copy() {
    let server = FileServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    server.put(PRIMARY, document("good"));
    known(&references(&server, folder.path())).await;
    for nonsense in [
        "<html>sorry</html>",
        "[]x",
        "{\"a\": {\"baseline\": 3, \"nsfw\": 1}}",
        "7",
    ] {
        server.put(PRIMARY, Served::new(nonsense));
        let anew = references(&server, folder.path());
        assert_eq!(
            known(&anew).await,
            names("good", Origin::Disk),
            "{nonsense}"
        );
    }
}

#[tokio::test]
async fn a_worker_starts_without_a_network_from_its_copy() {
    let folder = tempfile::tempdir().unwrap();
    let server = FileServer::start().await;
    let nothing = references(&server, folder.path());
    let error = within(nothing.get(Category::ImageGeneration))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("404"), "{error}");
    // As the deployed worker leaves it.
    std::fs::create_dir_all(folder.path().join("legacy")).unwrap();
    let left = json!({"left": {"name": "left", "baseline": "stable diffusion 1"}});
    std::fs::write(
        folder.path().join("legacy/stable_diffusion.json"),
        left.to_string(),
    )
    .unwrap();
    assert_eq!(
        known(&references(&server, folder.path())).await,
        names("left", Origin::Disk)
    );
    let offline = ReferenceSources {
        offline: true,
        ..ReferenceSources::default()
    };
    let offline = References::new(Web::new().unwrap(), offline, folder.path().to_owned());
    assert_eq!(known(&offline).await, names("left", Origin::Disk));
}

#[tokio::test]
async fn a_document_that_did_not_change_does_not_come_again() {
    let server = FileServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    server.put(
        PRIMARY,
        document("same").tricks([Trick::None, Trick::Status(304), Trick::Status(304)]),
    );
    let first = references(&server, folder.path());
    known(&first).await;
    assert_eq!(known(&first).await, names("same", Origin::Web));
    // A worker that starts anew remembers, too.
    let second = references(&server, folder.path());
    assert_eq!(known(&second).await, names("same", Origin::Web));
    let asked = server.asked(PRIMARY);
    assert!(!asked[0].headers.contains_key("if-none-match"));
    assert_eq!(asked[1].headers["if-none-match"], "\"one\"");
    assert_eq!(asked[2].headers["if-none-match"], "\"one\"");
}

#[tokio::test]
async fn a_new_document_is_not_asked_for_again_so_soon() {
    let server = FileServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    server.put(PRIMARY, document("new"));
    let sources = ReferenceSources {
        primary: Some(server.at("/api")),
        ..ReferenceSources::default()
    };
    let references = References::new(Web::new().unwrap(), sources, folder.path().to_owned());
    known(&references).await;
    known(&references).await;
    assert_eq!(server.asked(PRIMARY).len(), 1);
}
