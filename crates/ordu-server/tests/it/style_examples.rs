//! Examples of styles: at most four, one of them the primary one.

use reqwest::Method;
use serde_json::{Value, json};

use crate::studio::{ANONYMOUS, NOTHING, Studio, in_each_studio, outcome};

/// The examples of a style as `name` or `name!` if it is the primary one.
async fn shown(studio: &Studio, style: &str) -> Vec<String> {
    let view = studio.horde.get(&format!("/styles/image/{style}")).await;
    let examples = view.body["examples"].as_array().unwrap().clone();
    let name = |example: &Value| {
        let name = example["url"].as_str().unwrap().replace("https://x/", "");
        let mark = if example["primary"] == true { "!" } else { "" };
        format!("{name}{mark}")
    };
    examples.iter().map(name).collect()
}

fn example(name: &str, primary: bool) -> Value {
    json!({ "url": format!("https://x/{name}"), "primary": primary })
}

#[tokio::test]
async fn one_example_is_the_primary_one_whatever_happens() {
    in_each_studio(async |studio| {
        let style = studio.image(&studio.owner, "oil", json!({})).await;
        let path = format!("/styles/image/{style}/example");
        let add = async |name: &str, primary: bool| {
            let body = example(name, primary);
            let answer = studio.post(&path, &studio.owner, &body).await;
            let id = answer.body["id"].as_str().unwrap().to_owned();
            let nothing = json!([{ "code": null, "message": null }]);
            let wanted = json!({ "id": id, "message": "OK", "warnings": nothing });
            assert_eq!(answer.body, wanted);
            format!("{path}/{id}")
        };
        let a = add("a", false).await;
        assert_eq!(
            shown(studio, &style).await,
            ["a!"],
            "the first one, whatever it says"
        );
        let b = add("b", false).await;
        let c = add("c", true).await;
        assert_eq!(shown(studio, &style).await, ["a", "b", "c!"]);

        let patch = async |path: &str, body: Value| {
            let answer = studio.patch(path, &studio.owner, &body).await;
            (answer.status, answer.rc().to_owned())
        };
        let fine = (200, String::new());
        assert_eq!(patch(&b, json!({ "primary": true })).await, fine);
        assert_eq!(shown(studio, &style).await, ["a", "b!", "c"]);
        assert_eq!(patch(&b, json!({ "url": "https://x/B" })).await, fine);
        assert_eq!(patch(&b, json!({ "primary": true })).await, fine);
        assert_eq!(patch(&a, json!({ "primary": false })).await, fine);
        assert_eq!(patch(&a, json!({})).await, fine);
        let refused = (400, "BadRequest".to_owned());
        assert_eq!(
            patch(&b, json!({ "primary": false, "url": "https://x/z" })).await,
            refused
        );
        assert_eq!(shown(studio, &style).await, ["a", "B!", "c"]);

        assert_eq!(studio.delete(&c, &studio.owner).await.status, 200);
        assert_eq!(shown(studio, &style).await, ["a", "B!"]);
        add("d", false).await;
        let deleted = studio.delete(&b, &studio.moderator).await;
        assert_eq!(deleted.body, json!({ "message": "OK" }));
        assert_eq!(shown(studio, &style).await, ["a!", "d"], "the oldest one");
        assert_eq!(studio.delete(&a, &studio.owner).await.status, 200);
        assert_eq!(shown(studio, &style).await, ["d!"]);
    })
    .await;
}

#[tokio::test]
async fn examples_have_rules() {
    in_each_studio(async |studio| {
        let style = studio.image(&studio.owner, "oil", json!({})).await;
        let text = studio.text(&studio.owner, "text", json!({})).await;
        let path = format!("/styles/image/{style}/example");
        let of_text = format!("/styles/image/{text}/example");
        let of_nothing = format!("/styles/image/{NOTHING}/example");
        let first = studio.make(&path, &studio.owner, &example("a", true)).await;
        let second = studio.make(&path, &studio.owner, &example("b", true)).await;
        let first_path = format!("{path}/{first}");
        let insecure = json!({ "url": "http://x/c", "primary": false });
        let nul = json!({ "url": "https://x/\u{0}", "primary": false });
        let (good, known) = (example("c", false), example("b", false));
        let (post, patch) = (Method::POST, Method::PATCH);
        let cases = [
            (&post, path.as_str(), json!({ "url": "https://x" }), 400, ""),
            (&post, &path, json!({ "primary": true }), 400, ""),
            (&post, &path, json!({ "url": 5, "primary": true }), 400, ""),
            (&post, &path, insecure.clone(), 400, "BadRequest"),
            (&patch, &first_path, insecure, 400, "BadRequest"),
            (&post, &path, nul.clone(), 400, "NulByteInPayload"),
            (&patch, &first_path, nul, 400, "NulByteInPayload"),
            (&post, &path, known.clone(), 400, "ExampleURLAlreadyInUse"),
            (&patch, &first_path, known, 400, "ExampleURLAlreadyInUse"),
            (&patch, &first_path, example("a", false), 200, ""),
            (&post, &of_text, good.clone(), 400, "BadRequest"),
            (&post, &of_nothing, good.clone(), 404, "StyleNotFound"),
            (
                &post,
                "/styles/image/x/example",
                good.clone(),
                404,
                "StyleNotFound",
            ),
            (&post, &path, good, 200, ""),
            (&post, &path, example("d", true), 200, ""),
            (
                &post,
                &path,
                example("e", true),
                403,
                "TooManyStyleExamples",
            ),
        ];
        for (method, path, body, status, rc) in cases {
            let answer = studio
                .call(method.clone(), path, &studio.owner, Some(&body))
                .await;
            assert_eq!(outcome(&answer), (status, rc), "{method} {path} {body}");
        }
        assert_eq!(shown(studio, &style).await, ["a", "b", "c", "d!"]);
        assert_ne!(first, second);
    })
    .await;
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn examples_are_the_owners_and_of_their_style() {
    in_each_studio(async |studio| {
        let style = studio.image(&studio.owner, "oil", json!({})).await;
        let other = studio.image(&studio.owner, "other", json!({})).await;
        let path = format!("/styles/image/{style}/example");
        let id = studio.make(&path, &studio.owner, &example("a", true)).await;
        let own = format!("{path}/{id}");
        let foreign = format!("/styles/image/{other}/example/{id}");
        let (missing, garbage) = (format!("{path}/{NOTHING}"), format!("{path}/x"));
        let stranger = studio.other.api_key.reveal();
        let moderator = studio.moderator.api_key.reveal();
        let (post, patch, delete) = (Method::POST, Method::PATCH, Method::DELETE);
        let cases = [
            (
                &patch,
                foreign.as_str(),
                Some(moderator),
                404,
                "StyleExampleNotFound",
            ),
            (
                &delete,
                &foreign,
                Some(moderator),
                404,
                "StyleExampleNotFound",
            ),
            (
                &patch,
                &missing,
                Some(moderator),
                404,
                "StyleExampleNotFound",
            ),
            (
                &delete,
                &garbage,
                Some(moderator),
                404,
                "StyleExampleNotFound",
            ),
            (&post, &path, None, 400, ""),
            (&delete, &own, None, 400, ""),
            (&patch, &own, Some("nobody"), 401, "InvalidAPIKey"),
            (&post, &path, Some(ANONYMOUS), 403, "Forbidden"),
            (&post, &path, Some(stranger), 403, "Forbidden"),
            (&patch, &own, Some(stranger), 403, "Forbidden"),
            (&delete, &own, Some(stranger), 403, "Forbidden"),
            (&post, &path, Some(moderator), 200, ""),
            (&patch, &own, Some(moderator), 200, ""),
            (&delete, &own, Some(moderator), 200, ""),
        ];
        for (method, path, key, status, rc) in cases {
            let body = match *method {
                Method::POST => Some(example("b", false)),
                Method::PATCH => Some(json!({ "url": "https://x/c" })),
                _ => None,
            };
            let answer = studio
                .horde
                .call(method.clone(), path, key, body.as_ref())
                .await;
            assert_eq!(outcome(&answer), (status, rc), "{method} {path} {key:?}");
        }
        assert_eq!(shown(studio, &style).await, ["b!"]);
        assert_eq!(
            studio
                .delete(&format!("/styles/image/{style}"), &studio.owner)
                .await
                .status,
            200
        );
    })
    .await;
}
