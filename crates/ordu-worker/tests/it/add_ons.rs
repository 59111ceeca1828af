//! LoRAs and textual inversions on their way from a job to the engine.

use std::path::Path;
use std::sync::Arc;

use ordu_engine::Feature;
use ordu_worker::Stage;
use ordu_worker::manager::{PROOF, Pantry, PantryOptions};
use serde_json::{Value, json};

use crate::pantry::{brought, civitai, lora, model, pantry_with, remarks, tensors, version};
use crate::support::engine::{Plan, Scripted};
use crate::support::files::{FileServer, Served, Trick};
use crate::support::horde::{FakeHorde, id, job, job_with, ok, outcomes};
use crate::support::{Rig, config};

const ALL: &[Feature] = &[Feature::Lora, Feature::TextualInversion];

/// A worker that serves add-ons from this pantry.
fn rig(horde: FakeHorde, plans: &[Plan], pantry: Pantry) -> Rig {
    let mut config = config(&horde);
    config.allow_lora = true;
    let engine = Scripted::new(plans.iter().copied()).knowing(ALL);
    Rig::start_helped(horde, engine, config, |engines| {
        engines.pantry = Some(Arc::new(pantry));
    })
}

fn with_loras(number: usize, loras: &Value) -> Value {
    let payload = json!({"loras": loras, "prompt": "a {cat}###a dog"});
    job_with(number, &json!({}), &payload)
}

fn told(kind: &str, value: &str, name: &str) -> Value {
    json!({"type": kind, "value": value, "ref": name})
}

fn plain_pantry(server: &FileServer, folder: &Path) -> Pantry {
    pantry_with(server, folder, |_| {})
}

#[tokio::test]
async fn the_next_jobs_lora_is_on_disk_before_the_present_job_ends() {
    let server = civitai().await;
    let folder = tempfile::tempdir().unwrap();
    let next = with_loras(3, &json!([{"name": "1"}]));
    let horde = FakeHorde::with_jobs([job(&[1]), job(&[2]), next]).await;
    let pantry = plain_pantry(&server, folder.path());
    let mut rig = rig(horde, &[Plan::Draw(1), Plan::Hold], pantry);
    rig.engine.started(2).await;
    let is_ready = |status: &ordu_worker::Status| {
        let mut jobs = status.jobs.iter();
        jobs.any(|job| job.id.to_string() == id(3) && job.stage == Stage::Ready)
    };
    let status = rig.until(is_ready).await;
    let file = folder.path().join("lora/Dragon_Wings_12.safetensors");
    assert_eq!(std::fs::read(file).unwrap(), tensors(12, 1_000));
    assert_eq!(
        (status.done, rig.engine.tasks().len()),
        (1, 2),
        "job 2 is being drawn"
    );
    rig.engine.release();
    rig.ended(3).await;
    assert_eq!(
        rig.engine.tasks()[2].loras[0].file,
        "Dragon_Wings_12.safetensors"
    );
    rig.stop().await;
}

#[tokio::test]
async fn add_ons_reach_the_engine_in_their_order_and_what_is_missing_is_told() {
    let server = civitai().await;
    let folder = tempfile::tempdir().unwrap();
    let mut word = model(7, "Bad Hands", &[version(&server, 70, "SD 1.5")]);
    word["type"] = json!("TextualInversion");
    server.put_json("/civitai/models/7", &word);
    let body = tensors(7, 100);
    let found =
        json!({"url": server.at("/ti/7").to_string(), "sha256": crate::downloads::sum(&body)});
    server.put_json("/hordeling/embedding/7", &found);
    server.put("/ti/7", Served::new(body));
    let loras = json!([
        {"name": "404"},
        {"name": "1", "model": 0.5, "clip": -20, "inject_trigger": "any"},
        {"name": "11", "is_version": true, "inject_trigger": "red"},
        {"name": "9", "model": 0, "clip": 0}
    ]);
    let tis = json!([{"name": "7", "inject_ti": "negprompt", "strength": 0.8}, {"name": "8"}]);
    let payload = json!({"loras": loras, "tis": tis, "prompt": "a {cat}###a dog", "seed": "0"});
    let horde = FakeHorde::with_jobs([job_with(1, &json!({}), &payload)]).await;
    let mut rig = rig(horde, &[], plain_pantry(&server, folder.path()));
    assert_eq!(rig.ended(1).await.done, 1);
    let task = rig.engine.tasks().remove(0);
    assert_eq!(task.prompt, "red wings, dragon, a cat");
    assert_eq!(task.negative_prompt, "a dog,(embedding:7:0.8)");
    let files: Vec<_> = task.loras.iter().map(|lora| lora.file.as_str()).collect();
    assert_eq!(
        files,
        ["Dragon_Wings_12.safetensors", "Dragon_Wings_11.safetensors"]
    );
    assert_eq!(
        format!("{} {}", task.loras[0].model, task.loras[0].clip),
        "0.5 -10"
    );
    assert_eq!(
        (task.embeddings[0].name.as_str(), task.embeddings[0].place),
        ("7", None)
    );
    let expected = json!([
        told("lora", "download_failed", "404"),
        told("ti", "download_failed", "8")
    ]);
    assert_eq!(rig.horde.submits()[0]["gen_metadata"], expected);
    rig.stop().await;
}

#[tokio::test]
async fn the_files_of_a_job_stay_until_it_is_drawn() {
    let server = FileServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    for id in 1..=2 {
        let versions = [version(&server, id * 10, "SD 1.5")];
        let whole = model(id, &format!("number {id}"), &versions);
        server.put_json(&format!("/civitai/models/{id}"), &whole);
    }
    let room_for_one = |options: &mut PantryOptions| options.budget = 1_200;
    let pantry = pantry_with(&server, folder.path(), room_for_one);
    let neighbour = pantry_with(&server, folder.path(), room_for_one);
    let horde = FakeHorde::with_jobs([with_loras(1, &json!([{"name": "1"}]))]).await;
    let mut rig = rig(horde, &[Plan::Hold], pantry);
    rig.engine.started(1).await;
    let full = brought(&neighbour, vec![lora("2")], Vec::new()).await;
    assert_eq!(remarks(&full).len(), 1, "the file is in use");
    rig.engine.release();
    assert_eq!(rig.ended(1).await.done, 1);
    let fits = brought(&neighbour, vec![lora("2")], Vec::new()).await;
    assert_eq!(fits.loras.len(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn who_serves_no_add_ons_offers_none_and_tells_who_asks() {
    let server = civitai().await;
    let folder = tempfile::tempdir().unwrap();
    let payload = json!({"loras": [{"name": "1"}], "tis": [{"name": "7"}]});
    let lora = told("lora", "download_failed", "1");
    let ti = told("ti", "download_failed", "7");
    // Without a pantry; not allowed by the owner; an engine that cannot.
    for (pantry, allowed, features) in [(false, true, ALL), (true, false, ALL), (true, true, &[])] {
        let horde = FakeHorde::with_jobs([job_with(1, &json!({}), &payload)]).await;
        let mut config = config(&horde);
        config.allow_lora = allowed;
        let engine = Scripted::new([]).knowing(features);
        let pantry = pantry.then(|| Arc::new(plain_pantry(&server, folder.path())));
        let serves_tis = pantry.is_some() && !features.is_empty();
        let mut rig = Rig::start_helped(horde, engine, config, |engines| engines.pantry = pantry);
        assert_eq!(rig.ended(1).await.done, 1);
        let pop = rig.horde.pops().remove(0);
        assert_eq!(pop["allow_lora"], false);
        let words = pop["capabilities"].to_string();
        assert!(!words.contains("\"lora\""), "{words}");
        assert_eq!(words.contains("textual_inversion"), serves_tis, "{words}");
        let said = rig.horde.submits().remove(0)["gen_metadata"].clone();
        let expected = if serves_tis {
            json!([ti, lora])
        } else {
            json!([lora, ti])
        };
        assert_eq!(said, expected);
        assert!(rig.engine.tasks()[0].loras.is_empty());
        rig.stop().await;
    }
    assert!(server.asked("/files/12").is_empty());
}

#[tokio::test]
async fn loras_are_offered_when_the_owner_allows_and_the_engine_sees_them() {
    let server = civitai().await;
    let folder = tempfile::tempdir().unwrap();
    let pantry = plain_pantry(&server, folder.path());
    pantry.open().unwrap();
    for place in ["lora", "ti"] {
        let proof = folder
            .path()
            .join(place)
            .join(format!("{PROOF}.safetensors"));
        let read = ordu_engine::native::weights::TensorFile::open(&proof);
        assert!(read.is_ok(), "{place}");
    }
    assert_eq!(pantry.purge().await.unwrap(), 0, "the proof stays");
    let mut rig = rig(FakeHorde::with_jobs([job(&[1])]).await, &[], pantry);
    rig.ended(1).await;
    let pop = rig.horde.pops().remove(0);
    assert_eq!(pop["allow_lora"], true);
    let words = pop["capabilities"].to_string();
    for word in ["lora", "lora_versions", "textual_inversion"] {
        assert!(words.contains(&format!("\"{word}\"")), "{words}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn what_the_engine_cannot_use_is_left_out_and_told() {
    let server = civitai().await;
    let folder = tempfile::tempdir().unwrap();
    let loras = json!([{"name": "dragon wings"}, {"name": "11", "is_version": true}]);
    let horde = FakeHorde::with_jobs([with_loras(1, &loras)]).await;
    let pantry = plain_pantry(&server, folder.path());
    let mut rig = rig(horde, &[Plan::Lack, Plan::Mismatch], pantry);
    assert_eq!(rig.ended(1).await.done, 1);
    assert_eq!(outcomes(&rig.horde.submits()), [ok(1)]);
    let said = &rig.horde.submits()[0]["gen_metadata"];
    assert_eq!(
        *said,
        json!([
            told("lora", "download_failed", "dragon wings"),
            told("lora", "baseline_mismatch", "11")
        ])
    );
    let loras: Vec<usize> = rig.engine.tasks().iter().map(|it| it.loras.len()).collect();
    assert_eq!(loras, [2, 1, 0]);
    rig.stop().await;
}

#[tokio::test]
async fn a_damaged_add_on_is_left_out_like_one_that_did_not_come() {
    let server = civitai().await;
    let folder = tempfile::tempdir().unwrap();
    let horde = FakeHorde::with_jobs([with_loras(1, &json!([{"name": "dragon wings"}]))]).await;
    let pantry = plain_pantry(&server, folder.path());
    let mut rig = rig(horde, &[Plan::Damaged], pantry);
    assert_eq!(rig.ended(1).await.done, 1);
    let said = &rig.horde.submits()[0]["gen_metadata"];
    assert_eq!(
        *said,
        json!([told("lora", "download_failed", "dragon wings")])
    );
    rig.stop().await;
}

#[tokio::test]
async fn an_add_on_may_take_half_of_the_time_of_its_job() {
    let server = civitai().await;
    let folder = tempfile::tempdir().unwrap();
    server.put(
        "/files/12",
        Served::new(tensors(12, 1_000)).always(Trick::Stall(100)),
    );
    let mut late = with_loras(1, &json!([{"name": "1"}]));
    late["ttl"] = json!(1);
    let horde = FakeHorde::with_jobs([late]).await;
    let mut config = config(&horde);
    config.allow_lora = true;
    config.timing.deadline_margin = std::time::Duration::ZERO;
    let engine = Scripted::new([]).knowing(ALL);
    let pantry = Arc::new(plain_pantry(&server, folder.path()));
    let mut rig = Rig::start_helped(horde, engine, config, |engines| {
        engines.pantry = Some(pantry);
    });
    assert_eq!(rig.ended(1).await.done, 1);
    let said = &rig.horde.submits()[0]["gen_metadata"];
    assert_eq!(*said, json!([told("lora", "download_failed", "1")]));
    rig.stop().await;
}
