//! The list of accounts, and what each may see of one.

use ordu_api::StyleId;
use ordu_api::user::TestUser;
use ordu_api::worker::WorkKind;
use ordu_server::Config;
use ordu_store::{NewStyle, UserChange};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{TestHorde, on_each_database, pop};

fn names(list: &Value) -> Vec<&str> {
    let list = list.as_array().unwrap().iter();
    list.map(|user| user["username"].as_str().unwrap())
        .collect()
}

async fn style(horde: &TestHorde, owner: &TestUser, name: &str, public: bool) -> StyleId {
    let style = NewStyle {
        id: StyleId::from_uuid(Uuid::new_v4()),
        owner: owner.user_id.parse().unwrap(),
        kind: WorkKind::Text,
        name: name.to_owned(),
        info: String::new(),
        prompt: "{p}{np}".to_owned(),
        params: "{}".to_owned(),
        models: Vec::new(),
        tags: Vec::new(),
        public,
        nsfw: false,
        shared_key: None,
        created: horde.clock.now(),
    };
    horde.server.store().insert_style(&style).await.unwrap();
    style.id
}

#[tokio::test]
async fn the_list_is_sorted_by_kudos_or_age() {
    on_each_database(async |database| {
        let horde = TestHorde::start_with(|config| Config {
            database: database.to_owned(),
            ..config
        })
        .await;
        horde.user("poor", 100.0).await;
        horde.later(1);
        let rich = horde.user("rich", 900.0).await;
        let list = horde.get("/users").await.body;
        assert_eq!(names(&list), ["rich#2", "poor#1", "Anonymous#0"]);
        let same = horde.get("/users?sort=wealth&page=0").await.body;
        assert_eq!(list, same);
        let oldest = horde.get("/users?sort=age&page=-3").await.body;
        assert_eq!(names(&oldest), ["Anonymous#0", "poor#1", "rich#2"]);
        // What is shown of an account is new; its place may be older.
        let id = rich.user_id.parse().unwrap();
        let renamed = UserChange {
            username: Some("famed".to_owned()),
            ..UserChange::default()
        };
        horde
            .server
            .store()
            .update_user(id, &renamed)
            .await
            .unwrap();
        horde.user("newest", 5000.0).await;
        let list = horde.get("/users").await.body;
        assert_eq!(names(&list), ["famed#2", "poor#1", "Anonymous#0"]);
        horde.later(10);
        horde.server.store().wipe_user(id).await.unwrap();
        let list = horde.get("/users").await.body;
        assert_eq!(names(&list), ["newest#3", "poor#1", "Anonymous#0"]);
    })
    .await;
}

#[tokio::test]
async fn the_list_has_pages_of_25() {
    let horde = TestHorde::start().await;
    for number in 1..=30 {
        horde
            .user(&format!("user{number}"), f64::from(number))
            .await;
    }
    let page = async |page: &str| horde.get(&format!("/users?page={page}")).await;
    let first = page("1").await.body;
    assert_eq!(first.as_array().unwrap().len(), 25);
    assert_eq!(names(&first)[0], "user30#30");
    assert_eq!(page("2").await.body.as_array().unwrap().len(), 6);
    for empty in ["3", "10000", "10001", "99999999999999999999"] {
        assert_eq!(page(empty).await.body, json!([]), "{empty}");
    }
    for garbage in ["x", "1.5", "%00", ""] {
        let answer = page(garbage).await;
        assert_eq!(answer.status, 400, "{garbage}");
        assert!(answer.body["errors"]["page"].is_string());
    }
}

#[tokio::test]
async fn the_list_has_every_member_and_hides_what_is_private() {
    let horde = TestHorde::start().await;
    let user = horde.user("user", 100.0).await;
    horde
        .client(&user.api_key)
        .pop_image(&pop("w"))
        .await
        .unwrap();
    style(&horde, &user, "hidden", false).await;
    let shown = style(&horde, &user, "shown", true).await;
    let list = horde.get("/users").await.body;
    let view = &list[0];
    for hidden in [
        "evaluating_kudos",
        "worker_ids",
        "sharedkey_ids",
        "vpn",
        "special",
        "suspicious",
        "contact",
        "admin_comment",
        "proxy_passkey",
    ] {
        assert_eq!(view.get(hidden), Some(&Value::Null), "{hidden}");
    }
    for hidden in ["active_generations", "monthly_kudos"] {
        assert_eq!(view.get(hidden), Some(&json!({})), "{hidden}");
    }
    assert_eq!(
        (&view["worker_count"], &view["kudos"]),
        (&json!(1), &json!(100.0))
    );
    let link = json!({ "name": "user#1::style::shown", "id": shown, "type": "text" });
    assert_eq!(view["styles"], json!([link]));
    // The same account, without what is null.
    let mut alone = horde.get("/users/1").await.body;
    for (name, member) in view.as_object().unwrap() {
        if !member.is_null() && member != &json!({}) {
            let found = alone.as_object_mut().unwrap().remove(name);
            assert_eq!(found.as_ref(), Some(member), "{name}");
        }
    }
    assert_eq!(alone, json!({}));
}

#[tokio::test]
async fn who_looks_decides_what_is_seen() {
    let horde = TestHorde::start_with(|config| Config {
        admins: vec![ordu_api::UserId::new(3).unwrap()],
        ..config
    })
    .await;
    let user = horde.user("user", 100.0).await;
    let moderator = horde.mint("mod", json!({ "moderator": true })).await;
    let admin = horde.mint("admin", json!({})).await;
    style(&horde, &user, "hidden", false).await;
    let put = |body: Value, key: &str| {
        let key = key.to_owned();
        let horde = &horde;
        async move {
            horde
                .call(Method::PUT, "/users/1", Some(&key), Some(&body))
                .await
        }
    };
    let service = json!({ "service": true, "admin_comment": "a comment", "contact": "a@b.cd" });
    assert_eq!(put(service, moderator.api_key.reveal()).await.status, 200);
    let passkey = put(
        json!({ "generate_proxy_passkey": true }),
        user.api_key.reveal(),
    )
    .await;
    let passkey = &passkey.body["proxy_passkey"];
    let get = async |key: Option<&TestUser>| {
        let key = key.map(|user| user.api_key.reveal());
        horde.call(Method::GET, "/users/1", key, None).await.body
    };
    let (public, own) = (get(None).await, get(Some(&user)).await);
    let (theirs, all) = (get(Some(&moderator)).await, get(Some(&admin)).await);
    let seen = |member: &str| [&public, &own, &theirs, &all].map(|view| view.get(member).is_some());
    for member in ["sharedkey_ids", "worker_ids", "contact", "vpn", "special"] {
        assert_eq!(seen(member), [false, true, true, true], "{member}");
    }
    for member in [
        "evaluating_kudos",
        "monthly_kudos",
        "suspicious",
        "admin_comment",
    ] {
        assert_eq!(seen(member), [false, false, true, true], "{member}");
    }
    assert_eq!(seen("proxy_passkey"), [false, false, false, true]);
    assert_eq!(&all["proxy_passkey"], passkey);
    let styles = [&public, &own, &theirs].map(|view| view["styles"].as_array().unwrap().len());
    assert_eq!(styles, [0, 1, 1]);
}
