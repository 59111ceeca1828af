//! Collections of styles: made, read, changed, deleted, and what a request gets out of one.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::studio::{ANONYMOUS, NOTHING, in_each_studio, outcome, with};
use crate::support::pop;

#[tokio::test]
async fn a_collection_is_made_read_changed_and_deleted() {
    in_each_studio(async |studio| {
        let a = studio.image(&studio.owner, "a", json!({ "public": false })).await;
        let b = studio.image(&studio.other, "b", json!({})).await;
        let body = json!({ "name": " <all> ", "styles": ["b", a, b] });
        let made = studio.post("/collections", &studio.newcomer, &body).await;
        let id = made.body["id"].as_str().unwrap().to_owned();
        assert_eq!(made.body, json!({ "id": id, "message": "OK", "warnings": [] }));
        let path = format!("/collections/{id}");
        let member = |alias: &str, name: &str, id: &str| {
            json!({ "name": format!("{alias}::style::{name}"), "id": id })
        };
        let first = member(&studio.owner.alias, "a", &a);
        let second = member(&studio.other.alias, "b", &b);
        let wanted = json!({
            "id": id, "name": "&lt;all&gt;", "type": "image", "info": null, "public": true,
            "styles": [second, first], "use_count": 0, "creator": studio.newcomer.alias,
        });
        assert_eq!(studio.horde.get(&path).await.body, wanted);
        let listed = studio.horde.get("/collections").await;
        assert_eq!(listed.body, json!([wanted]));

        let mut wanted = wanted;
        let changes = [
            (json!({}), json!({})),
            (json!({ "name": "some" }), json!({ "name": "some" })),
            (json!({ "info": "x" }), json!({ "info": "x" })),
            (json!({ "public": false }), json!({ "public": false })),
            (json!({ "styles": ["style::a"] }), json!({ "styles": [first] })),
        ];
        for (change, changed) in changes {
            let answer = studio.patch(&path, &studio.newcomer, &change).await;
            let ok = json!({ "id": id, "message": "OK", "warnings": [] });
            assert_eq!(answer.body, ok, "{change}");
            wanted = with(wanted, changed);
            assert_eq!(studio.horde.get(&path).await.body, wanted);
        }
        assert!(studio.names("/collections").await.is_empty(), "not public");
        let deleted = studio.delete(&path, &studio.newcomer).await;
        assert_eq!(deleted.body, json!({ "message": "OK" }));
        assert_eq!(outcome(&studio.horde.get(&path).await), (404, "CollectionNotFound"));
        assert_eq!(studio.horde.get(&format!("/styles/image/{a}")).await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn a_collection_must_be_fine() {
    in_each_studio(async |studio| {
        let image = studio.image(&studio.owner, "image", json!({})).await;
        studio.text(&studio.owner, "text", json!({})).await;
        let taken = json!({ "name": "taken", "styles": [image] });
        studio.make("/collections", &studio.owner, &taken).await;
        let kept = json!({ "name": "kept", "styles": [image] });
        let kept = studio.make("/collections", &studio.owner, &kept).await;
        let path = format!("/collections/{kept}");
        let faults = [
            (json!({ "styles": [] }), "BadRequest"),
            (json!({ "styles": vec!["image"; 501] }), "BadRequest"),
            (json!({ "styles": ["nothing"] }), "BadRequest"),
            (json!({ "styles": [NOTHING] }), "BadRequest"),
            (
                json!({ "styles": ["image", "collection::taken"] }),
                "BadRequest",
            ),
            (json!({ "styles": ["image\u{0}"] }), "BadRequest"),
            (json!({ "styles": [image, "text"] }), "StyleMismatch"),
            (json!({ "name": "fuck this" }), "BadRequest"),
            (json!({ "info": "fuck this" }), "BadRequest"),
            (json!({ "name": "taken" }), "BadRequest"),
            (json!({ "name": "" }), ""),
            (json!({ "name": "x".repeat(101) }), ""),
            (json!({ "info": "" }), ""),
            (json!({ "info": "x".repeat(1001) }), ""),
            (json!({ "styles": [""] }), ""),
            (json!({ "styles": "image" }), ""),
            (json!({ "public": 1 }), ""),
        ];
        for (fault, rc) in faults {
            let body = with(json!({ "name": "new", "styles": [image] }), fault.clone());
            let made = studio.post("/collections", &studio.owner, &body).await;
            assert_eq!(outcome(&made), (400, rc), "{fault}");
            assert_eq!(made.body["errors"].is_object(), rc.is_empty());
            let changed = studio.patch(&path, &studio.owner, &fault).await;
            assert_eq!(outcome(&changed), (400, rc), "{fault}");
        }
        for body in [
            json!({ "name": "new" }),
            json!({ "styles": ["image"] }),
            Value::Null,
        ] {
            let made = studio.post("/collections", &studio.owner, &body).await;
            assert_eq!(
                (made.status, made.body["errors"].is_object()),
                (400, true),
                "{body}"
            );
        }
        let texts = json!({ "styles": ["text"] });
        let changed = studio.patch(&path, &studio.owner, &texts).await;
        assert_eq!(
            outcome(&changed),
            (400, "StyleMismatch"),
            "it stays one for pictures"
        );
        studio.make("/collections", &studio.other, &taken).await;
        let same = json!({ "name": "kept" });
        assert_eq!(studio.patch(&path, &studio.owner, &same).await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn owners_change_and_moderators_delete_collections() {
    in_each_studio(async |studio| {
        let style = studio.image(&studio.owner, "a", json!({})).await;
        let body = json!({ "name": "all", "styles": [style] });
        let path = format!(
            "/collections/{}",
            studio.make("/collections", &studio.owner, &body).await
        );
        let new = json!({ "name": "new", "styles": ["nothing"] });
        let (owner, other) = (studio.owner.api_key.reveal(), studio.other.api_key.reveal());
        let moderator = studio.moderator.api_key.reveal();
        let (post, patch, delete) = (Method::POST, Method::PATCH, Method::DELETE);
        let cases = [
            (&post, "/collections", None, 400, ""),
            (&post, "/collections", Some("nobody"), 401, "InvalidAPIKey"),
            (
                &post,
                "/collections",
                Some(ANONYMOUS),
                403,
                "StylesAnonForbidden",
            ),
            (
                &patch,
                "/collections/garbage",
                None,
                404,
                "CollectionNotFound",
            ),
            (
                &delete,
                "/collections/garbage",
                None,
                404,
                "CollectionNotFound",
            ),
            (&patch, &path, None, 400, ""),
            (&delete, &path, None, 400, ""),
            (&patch, &path, Some("nobody"), 401, "InvalidAPIKey"),
            (&delete, &path, Some("nobody"), 401, "InvalidAPIKey"),
            (&patch, &path, Some(ANONYMOUS), 403, "StylesAnonForbidden"),
            (&delete, &path, Some(ANONYMOUS), 403, "StylesAnonForbidden"),
            (&patch, &path, Some(other), 403, "Forbidden"),
            (&delete, &path, Some(other), 403, "Forbidden"),
            (&patch, &path, Some(moderator), 403, "Forbidden"),
            (&patch, &path, Some(owner), 400, "BadRequest"),
            (&delete, &path, Some(moderator), 200, ""),
            (&delete, &path, Some(moderator), 404, "CollectionNotFound"),
        ];
        for (method, path, key, status, rc) in cases {
            let body = (*method != delete).then_some(&new);
            let answer = studio.horde.call(method.clone(), path, key, body).await;
            assert_eq!(outcome(&answer), (status, rc), "{method} {path} {key:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn collections_are_listed_and_found_by_name() {
    in_each_studio(async |studio| {
        let image = studio.image(&studio.owner, "image", json!({})).await;
        let text = studio.text(&studio.owner, "all", json!({})).await;
        let make = async |user, name: &str, style: &str, more: Value| {
            let body = with(json!({ "name": name, "styles": [style] }), more);
            let id = studio.make("/collections", user, &body).await;
            studio.horde.later(1);
            id
        };
        let first = make(&studio.owner, "all", &image, json!({})).await;
        let second = make(&studio.other, "all", &image, json!({ "public": false })).await;
        make(&studio.owner, "texts", &text, json!({})).await;
        for number in 0..25 {
            make(&studio.owner, &format!("c{number}"), &image, json!({})).await;
        }
        assert_eq!(studio.ask(ANONYMOUS, "c20", json!({})).await.status, 202);
        studio.horde.server.settle_down().await.unwrap();
        let popular = studio.names("/collections").await;
        assert_eq!(
            (popular.len(), &popular[..3]),
            (25, &["c20", "all", "texts"].map(str::to_owned)[..])
        );
        assert_eq!(studio.names("/collections?page=2").await, ["c23", "c24"]);
        let by_age = studio
            .names("/collections?sort=age&page=0&type=image")
            .await;
        assert_eq!(by_age[..2], ["all", "c0"]);
        assert_eq!(studio.names("/collections?type=text").await, ["texts"]);
        assert_eq!(
            studio.names("/collections?type=all&page=99999999999").await,
            [""; 0]
        );
        for query in ["sort=best", "type=both", "page=x"] {
            let answer = studio.horde.get(&format!("/collections?{query}")).await;
            assert_eq!(answer.status, 400, "{query}");
        }

        let alias = studio.other.alias.replace('#', "%23");
        let cases = [
            ("all".to_owned(), 200, first.as_str()),
            ("collection::all".to_owned(), 200, &first),
            (format!("{alias}::all"), 200, &second),
            (format!("collection::{alias}::all"), 200, &second),
            (format!("{alias}::collection::all"), 200, &second),
            ("style::all".to_owned(), 404, "CollectionNotFound"),
            (format!("{alias}::texts"), 404, "CollectionNotFound"),
            ("image".to_owned(), 404, "CollectionNotFound"),
            ("%00".to_owned(), 404, "CollectionNotFound"),
        ];
        for (name, status, wanted) in cases {
            let answer = studio
                .horde
                .get(&format!("/collection_by_name/{name}"))
                .await;
            let found = answer.body["id"].as_str().unwrap_or(answer.rc());
            assert_eq!((answer.status, found), (status, wanted), "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn each_style_of_a_collection_is_as_likely() {
    const REQUESTS: usize = 90;
    in_each_studio(async |studio| {
        let mut styles = Vec::new();
        for name in ["a", "b", "c"] {
            let prompt = json!({ "prompt": format!("{name}: {{p}}{{np}}") });
            styles.push(studio.image(&studio.owner, name, prompt).await);
        }
        let body = json!({ "name": "group", "styles": styles });
        let group = studio.make("/collections", &studio.owner, &body).await;
        let worker = studio.horde.client(&studio.other.api_key);
        let mut picked: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..REQUESTS {
            let answer = studio.ask(ANONYMOUS, "group", json!({})).await;
            assert_eq!(answer.status, 202, "{}", answer.body);
            let job = worker.pop_image(&pop("painter")).await.unwrap();
            let prompt = job.payload.prompt.unwrap();
            *picked.entry(prompt[..1].to_owned()).or_default() += 1;
        }
        // Six standard deviations about thirty.
        for name in ["a", "b", "c"] {
            assert!((4..=57).contains(&picked[name]), "{picked:?}");
        }
        studio.horde.server.settle_down().await.unwrap();
        let used = studio.horde.get(&format!("/collections/{group}")).await;
        assert_eq!(used.body["use_count"], REQUESTS);
        for (style, name) in styles.iter().zip(["a", "b", "c"]) {
            let used = studio.horde.get(&format!("/styles/image/{style}")).await;
            assert_eq!(used.body["use_count"], picked[name], "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_style_that_is_deleted_leaves_its_collections() {
    in_each_studio(async |studio| {
        let a = studio
            .image(&studio.owner, "a", json!({ "prompt": "a {p}{np}" }))
            .await;
        let b = studio
            .image(&studio.owner, "b", json!({ "prompt": "b {p}{np}" }))
            .await;
        let body = json!({ "name": "group", "styles": [a, b] });
        let group = studio.make("/collections", &studio.other, &body).await;
        studio.prompt("group").await;
        studio
            .delete(&format!("/styles/image/{a}"), &studio.moderator)
            .await;
        for _ in 0..8 {
            assert_eq!(studio.prompt("group").await, "b x###y");
        }
        studio
            .delete(&format!("/styles/image/{b}"), &studio.owner)
            .await;
        for style in ["group", group.as_str()] {
            let refused = studio.ask(ANONYMOUS, style, json!({})).await;
            assert_eq!(outcome(&refused), (400, "BadRequest"), "{}", refused.body);
        }
        let shown = studio
            .horde
            .get(&format!("/collections/{group}"))
            .await
            .body;
        assert_eq!(
            (&shown["styles"], &shown["type"]),
            (&json!([]), &json!("image"))
        );
        studio
            .delete(&format!("/collections/{group}"), &studio.other)
            .await;
        let gone = studio.ask(ANONYMOUS, "group", json!({})).await;
        assert_eq!(outcome(&gone), (404, "StyleNotFound"));
    })
    .await;
}
