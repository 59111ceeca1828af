//! LoRAs and textual inversions of jobs, against a server that speaks CivitAI's API.

use std::path::Path;
use std::time::Duration;

use ordu_api::image::{ImagePayload, Lora, TextualInversion};
use ordu_worker::manager::{
    AddOns, CivitaiOptions, Downloads, Family, Folder, Pantry, PantryOptions, Secret, Store, Taste,
    Web,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::downloads::{options, sum};
use crate::support::files::{FileServer, Served, Trick};
use crate::support::{logs, within};

const TOKEN: &str = "CIVITOKEN0123456789";

/// A small file of named tensors that is different for each number, and so large at least.
pub fn tensors(number: u64, bytes: usize) -> Vec<u8> {
    let length = bytes.next_multiple_of(4).max(4);
    let head = format!(
        "{{\"t{number}\":{{\"dtype\":\"F32\",\"shape\":[{}],\"data_offsets\":[0,{length}]}}}}",
        length / 4
    );
    let mut file = (head.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(head.as_bytes());
    file.resize(file.len() + length, 0);
    file
}

/// One version as CivitAI describes it, whose file is at `/files/{id}`.
pub fn version(server: &FileServer, id: u64, base_model: &str) -> Value {
    let body = tensors(id, 1_000);
    #[expect(clippy::cast_precision_loss, reason = "it is small")]
    let kilobytes = body.len() as f64 / 1024.0;
    let file = json!({
        "id": id, "sizeKB": kilobytes, "name": format!("v{id}.safetensors"), "type": "Model", "primary": true,
        "metadata": {"format": "SafeTensor"}, "hashes": {"AutoV2": "0", "SHA256": sum(&body).to_uppercase()},
        "downloadUrl": server.at(&format!("/files/{id}")).to_string()
    });
    server.put(&format!("/files/{id}"), Served::new(body));
    json!({
        "id": id, "modelId": id / 10, "name": "v", "baseModel": base_model, "availability": "Public",
        "trainedWords": ["dragon", "red wings"], "earlyAccessEndsAt": null, "files": [file],
        "description": null
    })
}

pub fn model(id: u64, name: &str, versions: &[Value]) -> Value {
    json!({"id": id, "name": name, "type": "LORA", "nsfw": false, "modelVersions": versions})
}

/// A server with LoRA 1 in versions 11, 12 and, in early access, 13; for SD 1.5.
pub async fn civitai() -> FileServer {
    let server = FileServer::start().await;
    let mut early = version(&server, 13, "SD 1.5");
    early["availability"] = json!("EarlyAccess");
    let versions = [
        early,
        version(&server, 11, "SD 1.5"),
        version(&server, 12, "SD 1.5"),
    ];
    let whole = model(1, "Dragon Wings", &versions);
    server.put_json("/civitai/models/1", &whole);
    server.put_json(
        "/civitai/models",
        &json!({"items": [whole], "metadata": {}}),
    );
    let mut alone = version(&server, 11, "SD 1.5");
    alone["model"] = json!({"name": "Dragon Wings", "type": "LORA", "nsfw": false});
    server.put_json("/civitai/model-versions/11", &alone);
    server
}

pub fn pantry_with(
    server: &FileServer,
    folder: &Path,
    adapt: impl FnOnce(&mut PantryOptions),
) -> Pantry {
    logs::record();
    let mut options_ = PantryOptions::with(CivitaiOptions {
        url: server.at("/civitai"),
        embeddings: server.at("/hordeling"),
        pause: Duration::from_millis(1),
        ..CivitaiOptions::public().unwrap()
    });
    adapt(&mut options_);
    let web = Web::new()
        .unwrap()
        .with_token("127.0.0.1", &Secret::new(TOKEN));
    let store = Store::open(&[folder.to_owned()], &[]).unwrap();
    Pantry::new(store, Downloads::new(web.clone(), options()), web, options_)
}

pub fn lora(name: &str) -> Lora {
    Lora {
        name: name.to_owned(),
        model: 1.0,
        clip: 1.0,
        inject_trigger: None,
        is_version: false,
    }
}

pub async fn brought(pantry: &Pantry, loras: Vec<Lora>, tis: Vec<TextualInversion>) -> AddOns {
    let payload = ImagePayload {
        loras,
        tis,
        ..ImagePayload::default()
    };
    let latest = Instant::now() + Duration::from_mins(1);
    within(pantry.prefetch(&payload, &Family::StableDiffusion1, 1, latest)).await
}

pub fn remarks(add_ons: &AddOns) -> Vec<(String, String, String)> {
    let remarks = add_ons.remarks.iter();
    remarks
        .map(|remark| {
            let reference = remark.reference.clone().unwrap();
            (remark.kind.clone(), remark.value.clone(), reference)
        })
        .collect()
}

pub fn failed(name: &str) -> Vec<(String, String, String)> {
    vec![(
        "lora".to_owned(),
        "download_failed".to_owned(),
        name.to_owned(),
    )]
}

#[tokio::test]
async fn the_newest_public_version_is_fetched_once_and_found_again() {
    let server = civitai().await;
    let folder = tempfile::tempdir().unwrap();
    let pantry = pantry_with(&server, folder.path(), |_| {});
    let wish = Lora {
        inject_trigger: Some("any".to_owned()),
        model: 0.5,
        clip: -20.0,
        ..lora("1")
    };
    let add_ons = brought(&pantry, vec![wish], Vec::new()).await;
    assert_eq!(remarks(&add_ons), []);
    let ready = &add_ons.loras[0];
    assert_eq!(
        ready.path,
        folder.path().join("lora/Dragon_Wings_12.safetensors")
    );
    assert_eq!(
        (ready.model.to_string(), ready.clip.to_string()),
        ("0.5".to_owned(), "-10".to_owned())
    );
    let (prompt, negative) = add_ons.inject("a cat", "ugly");
    assert_eq!(
        (prompt.as_str(), negative.as_str()),
        ("red wings, a cat", "ugly")
    );
    assert_eq!(server.asked("/files/12")[0].query, format!("token={TOKEN}"));
    for name in ["1", "Dragon Wings", "dragon wings", "Wings", "Dragon Wing"] {
        let again = brought(&pantry, vec![lora(name)], Vec::new()).await;
        assert_eq!(again.loras[0].path, ready.path, "{name}");
    }
    assert_eq!(server.asked("/civitai/models/1").len(), 1);
    assert_eq!(server.asked("/files/12").len(), 1);
    assert!(server.asked("/civitai/models").is_empty());
    assert!(!logs::recorded().contains(TOKEN));
}

#[tokio::test]
async fn versions_and_names_are_looked_up_as_documented() {
    let server = civitai().await;
    let folder = tempfile::tempdir().unwrap();
    let pantry = pantry_with(&server, folder.path(), |_| {});
    let by_version = Lora {
        is_version: true,
        ..lora("11")
    };
    let add_ons = brought(&pantry, vec![by_version], Vec::new()).await;
    assert!(
        add_ons.loras[0]
            .path
            .ends_with("Dragon_Wings_11.safetensors"),
        "{add_ons:?}"
    );
    let other = tempfile::tempdir().unwrap();
    let pantry = pantry_with(&server, other.path(), |_| {});
    let add_ons = brought(&pantry, vec![lora("drag on")], Vec::new()).await;
    assert_eq!(add_ons.loras.len(), 1, "{add_ons:?}");
    let asked = &server.asked("/civitai/models")[0].query;
    let expected = format!(
        "types=LORA&sort=Highest%20Rated&primaryFileOnly=true&nsfw=true&query=drag%20on&token={TOKEN}"
    );
    assert_eq!(*asked, expected);
}

#[tokio::test]
async fn what_cannot_be_had_becomes_a_remark_and_is_not_asked_for_again() {
    let server = civitai().await;
    let folder = tempfile::tempdir().unwrap();
    let pantry = pantry_with(&server, folder.path(), |options| options.largest = 2_000);
    let put = |id: u64, change: &dyn Fn(&mut Value)| {
        let mut whole = model(id, "x", &[version(&server, id * 10, "SD 1.5")]);
        change(&mut whole);
        server.put_json(&format!("/civitai/models/{id}"), &whole);
    };
    put(2, &|model| {
        model["modelVersions"][0]["files"][0]["primary"] = json!(false);
    });
    put(3, &|model| {
        model["modelVersions"][0]["files"][0]["name"] = json!("x.ckpt");
    });
    put(4, &|model| {
        model["modelVersions"][0]["files"][0]["hashes"] = json!({});
    });
    put(5, &|model| {
        model["modelVersions"][0]["files"][0]["sizeKB"] = json!(5_000);
    });
    put(6, &|model| model["id"] = json!(7));
    put(8, &|model| model["modelVersions"] = json!([]));
    put(9, &|model| model["type"] = json!("Checkpoint"));
    put(10, &|model| {
        model["modelVersions"][0]["files"][0]["hashes"]["SHA256"] = json!("0".repeat(64));
    });
    for id in [2, 3, 4, 5, 6, 8, 9, 10, 404] {
        let path = format!("/civitai/models/{id}");
        for _ in 0..2 {
            let add_ons = brought(&pantry, vec![lora(&id.to_string())], Vec::new()).await;
            assert_eq!(remarks(&add_ons), failed(&id.to_string()), "{id}");
        }
        let asked = server.asked(&path).len();
        // What CivitAI offers well is asked for again: the mistake is elsewhere.
        assert_eq!(asked, if matches!(id, 5 | 10) { 2 } else { 1 }, "{id}");
    }
    assert_eq!(server.asked("/files/50").len(), 0);
    for name in ["4294967296", "99999999999999999999"] {
        let add_ons = brought(&pantry, vec![lora(name)], Vec::new()).await;
        assert_eq!(remarks(&add_ons), failed(name));
        assert!(server.asked(&format!("/civitai/models/{name}")).is_empty());
    }
}

#[tokio::test]
async fn add_ons_of_another_family_are_a_mismatch_and_strengths_of_zero_nothing() {
    let server = civitai().await;
    let folder = tempfile::tempdir().unwrap();
    server.put_json(
        "/civitai/models/2",
        &model(2, "x", &[version(&server, 20, "Pony")]),
    );
    let pantry = pantry_with(&server, folder.path(), |_| {});
    let nothing = Lora {
        model: 0.0,
        clip: 0.0,
        ..lora("3")
    };
    let add_ons = brought(&pantry, vec![lora("2"), nothing, lora("1")], Vec::new()).await;
    let mismatch = (
        "lora".to_owned(),
        "baseline_mismatch".to_owned(),
        "2".to_owned(),
    );
    assert_eq!(remarks(&add_ons), [mismatch]);
    assert_eq!(add_ons.loras.len(), 1);
    assert!(server.asked("/files/20").is_empty());
}

#[tokio::test]
async fn a_sfw_worker_has_no_nsfw_add_ons() {
    let server = civitai().await;
    let folder = tempfile::tempdir().unwrap();
    let mut whole = model(2, "x", &[version(&server, 20, "SD 1.5")]);
    whole["nsfw"] = json!(true);
    server.put_json("/civitai/models/2", &whole);
    let any = pantry_with(&server, folder.path(), |_| {});
    assert_eq!(
        brought(&any, vec![lora("2")], Vec::new()).await.loras.len(),
        1
    );
    let sfw = pantry_with(&server, folder.path(), |options| options.taste = Taste::Sfw);
    let add_ons = brought(&sfw, vec![lora("2")], Vec::new()).await;
    assert_eq!(remarks(&add_ons), failed("2"));
    let add_ons = brought(&sfw, vec![lora("absent")], Vec::new()).await;
    assert_eq!(add_ons.loras.len(), 1);
    assert!(
        server.asked("/civitai/models")[0]
            .query
            .contains("nsfw=false")
    );
}

#[tokio::test]
async fn patience_is_counted_by_how_things_fail() {
    for (trick, body, tries) in [
        (Some(Trick::Status(401)), "{}", 1),
        (Some(Trick::Status(503)), "{}", 1),
        (Some(Trick::Status(500)), "{}", 3),
        (None, "<html>busy</html>", 3),
        (Some(Trick::Status(429)), "{}", 10),
    ] {
        let server = FileServer::start().await;
        let folder = tempfile::tempdir().unwrap();
        let served = Served {
            always: trick,
            ..Served::new(body)
        };
        server.put("/civitai/models/1", served);
        let pantry = pantry_with(&server, folder.path(), |_| {});
        let add_ons = brought(&pantry, vec![lora("1")], Vec::new()).await;
        assert_eq!(remarks(&add_ons), failed("1"));
        assert_eq!(
            server.asked("/civitai/models/1").len(),
            tries,
            "{trick:?} {body}"
        );
    }
}

#[tokio::test]
async fn a_job_does_not_wait_for_ever_and_the_next_one_goes_on() {
    let server = civitai().await;
    let folder = tempfile::tempdir().unwrap();
    let body = tensors(12, 1_000);
    server.put("/files/12", Served::new(body).tricks([Trick::Stall(1_010)]));
    let pantry = pantry_with(&server, folder.path(), |options| {
        options.first_wait = Duration::from_millis(500);
    });
    let late = brought(&pantry, vec![lora("1")], Vec::new()).await;
    assert_eq!(remarks(&late), failed("1"));
    let add_ons = brought(&pantry, vec![lora("1")], Vec::new()).await;
    assert_eq!(add_ons.loras.len(), 1);
    let ranges = server.ranges("/files/12");
    assert!(ranges[1].starts_with("bytes=10"), "{ranges:?}");
}

#[tokio::test]
async fn a_spoilt_file_is_fetched_anew() {
    let server = civitai().await;
    let folder = tempfile::tempdir().unwrap();
    let pantry = pantry_with(&server, folder.path(), |_| {});
    let first = brought(&pantry, vec![lora("1")], Vec::new()).await;
    let path = first.loras[0].path.clone();
    drop(first);
    std::fs::write(&path, "spoilt").unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let later = file.metadata().unwrap().modified().unwrap() + Duration::from_hours(1);
    file.set_modified(later).unwrap();
    let again = brought(&pantry, vec![lora("1")], Vec::new()).await;
    assert_eq!(again.loras[0].path, path);
    assert_eq!(std::fs::read(&path).unwrap(), tensors(12, 1_000));
    assert_eq!(server.asked("/files/12").len(), 2);
}

#[tokio::test]
async fn the_longest_unused_lora_makes_room_unless_a_job_uses_it() {
    let server = FileServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    for id in 1..=4 {
        let whole = model(
            id,
            &format!("number {id}"),
            &[version(&server, id * 10, "SD 1.5")],
        );
        server.put_json(&format!("/civitai/models/{id}"), &whole);
    }
    let room_for_two = |options: &mut PantryOptions| options.budget = 2_400;
    let pantry = pantry_with(&server, folder.path(), room_for_two);
    let neighbour = pantry_with(&server, folder.path(), room_for_two);
    let here = |id: u64| {
        folder
            .path()
            .join(format!("lora/number_{id}_{id}0.safetensors"))
            .exists()
    };
    let one = brought(&pantry, vec![lora("1")], Vec::new()).await;
    drop(brought(&pantry, vec![lora("2")], Vec::new()).await);
    // 1 is the longest unused, but a job uses it; another worker must see that, too.
    drop(brought(&neighbour, vec![lora("3")], Vec::new()).await);
    assert_eq!([1, 2, 3].map(here), [true, false, true]);
    let three = brought(&neighbour, vec![lora("3")], Vec::new()).await;
    let full = brought(&pantry, vec![lora("4")], Vec::new()).await;
    assert_eq!(remarks(&full), failed("4"));
    drop((one, three));
    assert_eq!(
        brought(&pantry, vec![lora("4")], Vec::new())
            .await
            .loras
            .len(),
        1
    );
    assert_eq!([1, 2, 3, 4].map(here), [false, false, true, true]);
}

#[tokio::test]
async fn defaults_are_stocked_and_strangers_purged() {
    let server = civitai().await;
    let folder = tempfile::tempdir().unwrap();
    server.put_json("/reference/lora.json", &json!([1, "404"]));
    let pantry = pantry_with(&server, folder.path(), |options| options.largest = 10);
    let here = within(pantry.stock_defaults(&server.at("/reference/")))
        .await
        .unwrap();
    assert_eq!(here, 1, "the limit is for what jobs bring");
    let store = Store::open(&[folder.path().to_owned()], &[]).unwrap();
    std::fs::write(store.place(Folder::Lora, "stranger.safetensors"), "x").unwrap();
    assert_eq!(pantry.purge().await.unwrap(), 1);
    assert_eq!(pantry.purge().await.unwrap(), 0);
    assert_eq!(
        brought(&pantry, vec![lora("1")], Vec::new())
            .await
            .loras
            .len(),
        1
    );
}

pub fn ti(name: &str, inject: Option<&str>) -> TextualInversion {
    TextualInversion {
        name: name.to_owned(),
        inject_ti: inject.map(str::to_owned),
        strength: 0.8,
    }
}

#[tokio::test]
async fn textual_inversions_come_from_their_own_service() {
    let server = FileServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut pickle = version(&server, 70, "SD 1.5");
    pickle["files"][0]["name"] = json!("x.pt");
    let mut whole = model(7, "Bad Hands", &[pickle]);
    whole["type"] = json!("TextualInversion");
    server.put_json("/civitai/models/7", &whole);
    let body = tensors(7, 100);
    let found = json!({"url": server.at("/ti/7").to_string(), "sha256": sum(&body)});
    server.put_json("/hordeling/embedding/7", &found);
    server.put("/ti/7", Served::new(body));
    let pantry = pantry_with(&server, folder.path(), |_| {});
    let wishes = vec![ti("7", Some("negprompt")), ti("404", Some("prompt"))];
    let add_ons = brought(&pantry, Vec::new(), wishes).await;
    let missing = (
        "ti".to_owned(),
        "download_failed".to_owned(),
        "404".to_owned(),
    );
    assert_eq!(remarks(&add_ons), [missing]);
    assert_eq!(add_ons.tis[0].path, folder.path().join("ti/7.safetensors"));
    assert_eq!(
        add_ons.inject("a cat", "ugly"),
        ("a cat".to_owned(), "ugly,(embedding:7:0.8)".to_owned())
    );
    let by_name = brought(&pantry, Vec::new(), vec![ti("bad hand", Some("prompt"))]).await;
    assert_eq!(by_name.inject("a cat", "").0, "(embedding:7:0.8),a cat");
    assert_eq!(server.asked("/ti/7").len(), 1);
    assert_eq!(
        server.asked("/files/70").len(),
        0,
        "no pickle is ever fetched"
    );
}
