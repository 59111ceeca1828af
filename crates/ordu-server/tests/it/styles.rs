//! Styles as requests use them.

use ordu_api::user::TestUser;
use ordu_api::worker::WorkKind;
use ordu_api::{CollectionId, SharedKeyId, StyleId};
use ordu_core::Kudos;
use ordu_store::{Bucket, NewCollection, NewStyle, Record};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Answer, TestHorde, pop, request};

fn style(horde: &TestHorde, owner: &TestUser, name: &str) -> NewStyle {
    NewStyle {
        id: StyleId::from_uuid(Uuid::new_v4()),
        owner: owner.user_id.parse().unwrap(),
        kind: WorkKind::Image,
        name: name.to_owned(),
        info: String::new(),
        prompt: "{p}, impasto###no blur, {np}".to_owned(),
        params: json!({ "steps": 20, "width": 1024 }).to_string(),
        models: vec!["ordu-tiny".to_owned()],
        tags: Vec::new(),
        public: true,
        nsfw: false,
        shared_key: None,
        created: horde.clock.now(),
    }
}

async fn insert(horde: &TestHorde, style: &NewStyle) {
    horde.server.store().insert_style(style).await.unwrap();
}

async fn collection(
    horde: &TestHorde,
    owner: &TestUser,
    name: &str,
    styles: &[&NewStyle],
) -> CollectionId {
    let new = NewCollection {
        id: CollectionId::from_uuid(Uuid::new_v4()),
        owner: owner.user_id.parse().unwrap(),
        kind: styles.first().map_or(WorkKind::Image, |style| style.kind),
        name: name.to_owned(),
        info: String::new(),
        public: true,
        styles: styles.iter().map(|style| style.id).collect(),
        created: horde.clock.now(),
    };
    horde.server.store().insert_collection(&new).await.unwrap();
    new.id
}

async fn ask(horde: &TestHorde, key: &str, style: impl ToString, more: Value) -> Answer {
    let mut body = serde_json::to_value(request()).unwrap();
    let members = body.as_object_mut().unwrap();
    members.insert("prompt".to_owned(), json!("robots###organic"));
    members.insert("style".to_owned(), json!(style.to_string()));
    if let Value::Object(more) = more {
        members.extend(more);
    }
    horde
        .call(Method::POST, "/generate/async", Some(key), Some(&body))
        .await
}

fn outcome(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.rc())
}

const ANONYMOUS: &str = "0000000000";

#[tokio::test]
async fn a_style_makes_the_request_its_own() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let new = style(&horde, &owner, "oil");
    insert(&horde, &new).await;
    let params = json!({ "params": {
        "steps": 8, "width": 64, "height": 128, "n": 2, "sampler_name": "k_euler",
    } });
    let answer = ask(&horde, ANONYMOUS, new.id, params).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let worker = horde.client(&owner.api_key);
    let job = worker.pop_image(&pop("w")).await.unwrap();
    let payload = job.payload;
    assert_eq!(
        payload.prompt.as_deref(),
        Some("robots, impasto###no blur, organic")
    );
    assert_eq!((payload.width, payload.height), (1024, 128));
    assert_eq!((payload.ddim_steps, payload.n_iter), (20, 2));
    assert_eq!(payload.sampler_name, "k_euler_a");
}

#[tokio::test]
async fn a_style_is_found_by_id_and_every_form_of_its_name() {
    let horde = TestHorde::start().await;
    let (first, second) = (
        horde.user("first", 0.0).await,
        horde.user("second#5", 0.0).await,
    );
    let mut older = style(&horde, &first, "oil");
    older.prompt = "older{p}{np}".to_owned();
    let mut newer = style(&horde, &second, "oil");
    newer.prompt = "newer{p}{np}".to_owned();
    newer.created = newer.created + ordu_core::Millis(1);
    insert(&horde, &newer).await;
    insert(&horde, &older).await;
    let mut grouped = style(&horde, &first, "grouped");
    grouped.prompt = "grouped{p}{np}".to_owned();
    insert(&horde, &grouped).await;
    let group = collection(&horde, &second, "oil", &[&grouped]).await;
    let mut text = style(&horde, &first, "a text");
    text.kind = WorkKind::Text;
    insert(&horde, &text).await;
    collection(&horde, &first, "nothing", &[]).await;
    collection(&horde, &first, "texts", &[&text]).await;

    let worker = horde.client(&first.api_key);
    let found = [
        (older.id.to_string(), "older"),
        ("oil".to_owned(), "older"),
        ("style::oil".to_owned(), "older"),
        (format!("{}::oil", second.alias), "newer"),
        (format!("style::{}::oil", second.alias), "newer"),
        (format!("{}::style::oil", second.alias), "newer"),
        (group.to_string(), "grouped"),
        ("collection::oil".to_owned(), "grouped"),
        (format!("collection::{}::oil", second.alias), "grouped"),
        (format!("{}::collection::oil", second.alias), "grouped"),
    ];
    for (name, prompt) in found {
        let answer = ask(&horde, ANONYMOUS, &name, json!({})).await;
        assert_eq!(answer.status, 202, "{name}: {}", answer.body);
        let job = worker.pop_image(&pop("w")).await.unwrap();
        assert_eq!(
            job.payload.prompt.unwrap(),
            format!("{prompt}robots###organic"),
            "{name}"
        );
    }
    let refused = [
        ("nobody's".to_owned(), 404, "StyleNotFound"),
        (
            format!("collection::{}::oil", first.alias),
            404,
            "StyleNotFound",
        ),
        ("Oil".to_owned(), 404, "StyleNotFound"),
        (Uuid::new_v4().to_string(), 404, "StyleNotFound"),
        ("a text".to_owned(), 400, "StyleMismatch"),
        ("texts".to_owned(), 400, "StyleMismatch"),
        ("nothing".to_owned(), 400, "BadRequest"),
    ];
    for (name, status, rc) in refused {
        let answer = ask(&horde, ANONYMOUS, &name, json!({})).await;
        assert_eq!(outcome(&answer), (status, rc), "{name}");
    }
    let unknown = ask(&horde, "nobody", "nobody's", json!({})).await;
    assert_eq!(
        outcome(&unknown),
        (404, "StyleNotFound"),
        "the style comes first"
    );
}

#[tokio::test]
async fn owners_are_thanked_for_what_others_queue() {
    let horde = TestHorde::start().await;
    let (owner, asker) = (
        horde.user("owner", 100.0).await,
        horde.user("asker", 100.0).await,
    );
    let new = style(&horde, &owner, "oil");
    insert(&horde, &new).await;
    let group = collection(&horde, &owner, "group", &[&new]).await;
    let key = asker.api_key.reveal();
    ask(&horde, key, new.id, json!({})).await;
    ask(&horde, key, group, json!({})).await;
    // Neither a look at the price, nor a refusal, nor one's own use is thanked for.
    ask(&horde, key, new.id, json!({ "dry_run": true })).await;
    let refused = ask(
        &horde,
        key,
        new.id,
        json!({ "webhook": "http://example.org" }),
    )
    .await;
    assert_eq!(refused.status, 400);
    ask(&horde, owner.api_key.reveal(), new.id, json!({})).await;

    horde.server.settle_down().await.unwrap();
    let store = horde.server.store();
    let id = owner.user_id.parse().unwrap();
    let totals = store.totals(&[id]).await.unwrap();
    assert_eq!(totals[&id].kudos(Bucket::Styled), Kudos::new(4));
    assert_eq!(totals[&id].record(Record::Style, WorkKind::Image), 2);
    let stored = store.find_style(new.id).await.unwrap().unwrap();
    assert_eq!(stored.use_count, 3, "a use is a use, also one's own");
    let group = store.find_collection(group).await.unwrap().unwrap();
    assert_eq!(group.use_count, 1);
    let asker = store
        .find_user(asker.user_id.parse().unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(asker.spendable, Kudos::new(94), "two activations");
    assert_eq!(store.ledger_sum().await.unwrap(), Kudos::ZERO);
}

#[tokio::test]
async fn a_style_with_a_key_pays_for_whoever_asks() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 1000.0).await;
    let body = json!({ "kudos": 100, "max_image_steps": 1 });
    let made = horde
        .call(
            Method::PUT,
            "/sharedkeys",
            Some(owner.api_key.reveal()),
            Some(&body),
        )
        .await;
    let key = made.body["id"].as_str().unwrap().to_owned();
    let mut new = style(&horde, &owner, "paid");
    new.shared_key = Some(key.parse::<SharedKeyId>().unwrap());
    insert(&horde, &new).await;

    let utilized = async || {
        let shown = horde.get(&format!("/sharedkeys/{key}")).await;
        shown.body["utilized"].as_i64().unwrap()
    };
    let answer = ask(&horde, ANONYMOUS, new.id, json!({})).await;
    assert_eq!(
        answer.status, 202,
        "limits are not enforced: {}",
        answer.body
    );
    assert_eq!(utilized().await, 3);
    let plain = serde_json::to_value(request()).unwrap();
    let direct = horde
        .call(Method::POST, "/generate/async", Some(&key), Some(&plain))
        .await;
    assert_eq!(outcome(&direct), (403, "SharedKeyAssignedStyles"));
    let found = horde
        .call(Method::GET, "/find_user", Some(&key), None)
        .await;
    assert_eq!(found.status, 200);

    // A key that is of no use leaves it to whoever asks.
    let path = format!("/sharedkeys/{key}");
    let empty = json!({ "kudos": 0 });
    horde
        .call(
            Method::PATCH,
            &path,
            Some(owner.api_key.reveal()),
            Some(&empty),
        )
        .await;
    let answer = ask(&horde, ANONYMOUS, new.id, json!({})).await;
    assert_eq!(answer.status, 202);
    assert_eq!(utilized().await, 3);
    let nobody = ask(&horde, "nobody", new.id, json!({})).await;
    assert_eq!(outcome(&nobody), (401, "InvalidAPIKey"));
}

#[tokio::test]
async fn texts_have_styles_of_their_own() {
    let horde = TestHorde::start().await;
    let owner = horde.user("owner", 0.0).await;
    let picture = style(&horde, &owner, "a picture");
    let mut text = style(&horde, &owner, "a text");
    text.kind = WorkKind::Text;
    text.prompt = "Say {p}.{np}".to_owned();
    text.params = json!({ "max_length": 40 }).to_string();
    insert(&horde, &picture).await;
    insert(&horde, &text).await;
    let ask = async |style: &str| {
        let body = json!({ "prompt": "hi###ho", "style": style });
        horde
            .call(
                Method::POST,
                "/generate/text/async",
                Some(ANONYMOUS),
                Some(&body),
            )
            .await
    };
    assert_eq!(outcome(&ask("a picture").await), (400, "StyleMismatch"));
    let asked = ask("a text").await;
    assert_eq!(asked.status, 202, "{}", asked.body);
    let offer = json!({ "name": "scribe", "models": ["ordu-tiny"], "max_length": 512 });
    let job = horde
        .call(
            Method::POST,
            "/generate/text/pop",
            Some(owner.api_key.reveal()),
            Some(&offer),
        )
        .await;
    assert_eq!(
        job.body["payload"]["prompt"], "Say hi###ho.",
        "{}",
        job.body
    );
    assert_eq!(job.body["payload"]["max_length"], 40);
    let path = format!(
        "/generate/text/status/{}",
        asked.body["id"].as_str().unwrap()
    );
    assert_eq!(
        horde.get(&path).await.body["kudos"],
        3.0,
        "a style costs two more"
    );
}
