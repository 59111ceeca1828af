//! Styles found: by name, in lists, in accounts.

use reqwest::Method;
use serde_json::json;

use crate::studio::{ANONYMOUS, NOTHING, in_each_studio, outcome};

#[tokio::test]
async fn names_lead_to_styles_in_every_form() {
    in_each_studio(async |studio| {
        let first = studio.image(&studio.owner, "oil", json!({})).await;
        studio.horde.later(1);
        let second = studio
            .image(&studio.other, "oil", json!({ "public": false }))
            .await;
        studio.text(&studio.owner, "a text", json!({})).await;
        let group = json!({ "name": "group", "styles": [first] });
        studio.make("/collections", &studio.owner, &group).await;
        let alias = studio.other.alias.replace('#', "%23");
        let cases = [
            ("image", "oil".to_owned(), 200, first.as_str()),
            ("image", "style::oil".to_owned(), 200, &first),
            ("image", format!("{alias}::oil"), 200, &second),
            ("image", format!("style::{alias}::oil"), 200, &second),
            ("image", format!("{alias}::style::oil"), 200, &second),
            ("image", "Oil".to_owned(), 404, "StyleNotFound"),
            ("image", "collection::oil".to_owned(), 404, "StyleNotFound"),
            ("image", format!("{alias}::a%20text"), 404, "StyleNotFound"),
            ("image", "group".to_owned(), 404, "StyleNotFound"),
            ("image", "%00".to_owned(), 404, "StyleNotFound"),
            ("image", first.clone(), 404, "StyleNotFound"),
            ("image", "a%20text".to_owned(), 400, "StyleGetMistmatch"),
            ("text", "oil".to_owned(), 400, "StyleGetMistmatch"),
        ];
        for (kind, name, status, wanted) in cases {
            let path = format!("/styles/{kind}_by_name/{name}");
            let answer = studio.horde.get(&path).await;
            let found = answer.body["id"].as_str().unwrap_or(answer.rc());
            assert_eq!((answer.status, found), (status, wanted), "{path}");
        }
        let wrong = studio.horde.get(&format!("/styles/text/{first}")).await;
        assert_eq!(outcome(&wrong), (400, "StyleGetMistmatch"));
        for id in ["garbage", NOTHING, "%00", "9999999999999999999999"] {
            let answer = studio.horde.get(&format!("/styles/image/{id}")).await;
            assert_eq!(outcome(&answer), (404, "StyleNotFound"), "{id}");
        }
    })
    .await;
}

#[tokio::test]
async fn lists_have_pages_an_order_and_filters() {
    in_each_studio(async |studio| {
        for number in 0..27 {
            let tags = if number % 9 == 0 {
                json!(["nine", "a\"b"])
            } else {
                json!(["other"])
            };
            let models = json!([format!("m{}", number % 2), "ordu-tiny"]);
            let more = json!({ "tags": tags, "models": models });
            studio
                .image(&studio.owner, &format!("s{number:02}"), more)
                .await;
            studio.horde.later(1);
        }
        studio
            .image(&studio.owner, "hidden", json!({ "public": false }))
            .await;
        studio.text(&studio.owner, "a text", json!({})).await;
        let popular = studio
            .ask(ANONYMOUS, "s26", json!({ "dry_run": false }))
            .await;
        assert_eq!(popular.status, 202, "{}", popular.body);
        studio.horde.server.settle_down().await.unwrap();

        let named = |numbers: &[usize]| -> Vec<String> {
            numbers
                .iter()
                .map(|number| format!("s{number:02}"))
                .collect()
        };
        let all: Vec<usize> = (0..27).collect();
        let first_popular: Vec<usize> = std::iter::once(26).chain(0..24).collect();
        let cases = [
            ("", named(&first_popular)),
            ("?sort=popular&page=2", named(&[24, 25])),
            ("?sort=age", named(&all[..25])),
            ("?sort=age&page=2", named(&all[25..])),
            ("?sort=age&page=0", named(&all[..25])),
            ("?sort=age&page=-5", named(&all[..25])),
            ("?page=3", Vec::new()),
            ("?page=9223372036854775807", Vec::new()),
            ("?sort=age&tag=nine", named(&[0, 9, 18])),
            ("?sort=age&tag=a%22b", named(&[0, 9, 18])),
            ("?tag=Nine", Vec::new()),
            ("?tag=nin", Vec::new()),
            ("?tag=%00", Vec::new()),
            ("?sort=age&tag=nine&model=m1", named(&[9])),
            ("?model=m", Vec::new()),
        ];
        for (query, wanted) in cases {
            let found = studio.names(&format!("/styles/image{query}")).await;
            assert_eq!(found, wanted, "{query}");
        }
        assert_eq!(studio.names("/styles/text").await, ["a text"]);
        for (query, member) in [("sort=best", ""), ("page=x", "page"), ("page=1e9", "page")] {
            let answer = studio.horde.get(&format!("/styles/text?{query}")).await;
            assert_eq!(answer.status, 400, "{query}");
            assert_eq!(
                answer.body["errors"][member].is_string(),
                !member.is_empty()
            );
        }
    })
    .await;
}

#[tokio::test]
async fn filters_follow_changes() {
    in_each_studio(async |studio| {
        let more = json!({ "tags": ["old", "old"], "models": ["m", "m"] });
        let id = studio.image(&studio.owner, "oil", more).await;
        let path = format!("/styles/image/{id}");
        assert_eq!(studio.names("/styles/image?tag=old&model=m").await, ["oil"]);
        let change = json!({ "tags": ["new"] });
        studio.patch(&path, &studio.owner, &change).await;
        assert!(studio.names("/styles/image?tag=old").await.is_empty());
        assert_eq!(studio.names("/styles/image?tag=new&model=m").await, ["oil"]);
        studio
            .patch(&path, &studio.owner, &json!({ "public": false }))
            .await;
        assert!(studio.names("/styles/image").await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn accounts_show_what_they_made() {
    in_each_studio(async |studio| {
        let shown = studio.image(&studio.owner, "shown", json!({})).await;
        studio.horde.later(1);
        let hidden = studio
            .text(&studio.owner, "hidden", json!({ "public": false }))
            .await;
        let link = |kind: &str, name: &str, id: &str| {
            let name = format!("{}::style::{name}", studio.owner.alias);
            json!({ "type": kind, "name": name, "id": id })
        };
        let public = json!([link("image", "shown", &shown)]);
        let all = json!([
            link("image", "shown", &shown),
            link("text", "hidden", &hidden)
        ]);
        let path = format!("/users/{}", studio.owner.user_id);
        let views = [
            (&studio.owner, &all),
            (&studio.moderator, &all),
            (&studio.other, &public),
        ];
        for (viewer, wanted) in views {
            let view = studio.call(Method::GET, &path, viewer, None).await;
            assert_eq!(view.body["styles"], *wanted, "{}", viewer.alias);
        }
        assert_eq!(studio.horde.get(&path).await.body["styles"], public);
        let own = studio
            .call(Method::GET, "/find_user", &studio.owner, None)
            .await;
        assert_eq!(own.body["styles"], all);
        // The name that is printed leads to the style.
        let name = link("text", "hidden", &hidden)["name"]
            .as_str()
            .unwrap()
            .replace('#', "%23");
        let found = studio
            .horde
            .get(&format!("/styles/text_by_name/{name}"))
            .await;
        assert_eq!(found.body["id"], hidden.as_str());
    })
    .await;
}
