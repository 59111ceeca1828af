//! Styles: made, read, changed, deleted, and what must not be.

use ordu_server::Config;
use reqwest::Method;
use serde_json::{Value, json};

use crate::studio::{ANONYMOUS, NOTHING, image_style, in_each_studio, outcome, text_style, with};
use crate::support::{Answer, TEXT_MODEL, TestHorde, text_pop};

#[tokio::test]
async fn a_style_is_made_read_changed_and_deleted() {
    in_each_studio(async |studio| {
        let params = json!({ "steps": 20, "width": 1024, "n": 3, "seed": "7", "control_type": 5 });
        let more = json!({
            "info": " <i>about</i> <x> ", "params": params, "tags": ["b", "a"], "nsfw": true,
        });
        let id = studio.image(&studio.owner, "oil & <p>", more).await;
        let path = format!("/styles/image/{id}");
        let wanted = json!({
            "id": id, "use_count": 0, "creator": studio.owner.alias, "examples": [],
            "name": "oil &amp; &lt;p&gt;", "info": "<i>about</i> &lt;x&gt;", "prompt": "{p}{np}",
            "params": { "steps": 20, "width": 1024 }, "public": true, "nsfw": true,
            "tags": ["b", "a"], "models": ["ordu-tiny"],
        });
        assert_eq!(studio.horde.get(&path).await.body, wanted);

        // What is not named stays.
        let patched = studio.patch(&path, &studio.owner, &json!({})).await;
        let ok = json!({ "id": id, "message": "OK", "warnings": [] });
        assert_eq!(patched.body, ok);
        assert_eq!(studio.horde.get(&path).await.body, wanted);
        let changes = [
            json!({ "name": "oil" }),
            json!({ "info": "x" }),
            json!({ "prompt": "{p} and {np}" }),
            json!({ "public": false }),
            json!({ "nsfw": false }),
            json!({ "tags": ["c"] }),
            json!({ "tags": [] }),
            json!({ "models": ["m", "ordu-tiny"] }),
            json!({ "params": { "karras": false } }),
        ];
        let mut wanted = wanted;
        for change in changes {
            let answer = studio.patch(&path, &studio.owner, &change).await;
            assert_eq!(answer.status, 200, "{change}: {}", answer.body);
            wanted = with(wanted, change);
            assert_eq!(studio.horde.get(&path).await.body, wanted);
        }
        let nothing = json!({ "models": [] });
        studio.patch(&path, &studio.owner, &nothing).await;
        assert_eq!(
            studio.horde.get(&path).await.body,
            wanted,
            "no models, no change"
        );

        let deleted = studio.delete(&path, &studio.owner).await;
        assert_eq!(
            (deleted.status, deleted.body),
            (200, json!({ "message": "OK" }))
        );
        assert_eq!(
            outcome(&studio.horde.get(&path).await),
            (404, "StyleNotFound")
        );
    })
    .await;
}

#[tokio::test]
async fn a_style_for_texts_is_made_and_changed_too() {
    in_each_studio(async |studio| {
        let body = text_style(
            "bard",
            json!({ "params": { "max_length": 40, "top_k": 5 } }),
        );
        let made = studio.post("/styles/text", &studio.owner, &body).await;
        let id = made.body["id"].as_str().unwrap().to_owned();
        assert_eq!(
            made.body,
            json!({ "id": id, "message": "OK" }),
            "no warnings ever"
        );
        let path = format!("/styles/text/{id}");
        let change = json!({ "prompt": "Sing {p}!", "tags": ["song"] });
        let changed = studio.patch(&path, &studio.owner, &change).await;
        assert_eq!(changed.body, json!({ "id": id, "message": "OK" }));
        let wanted = json!({
            "id": id, "use_count": 0, "creator": studio.owner.alias, "name": "bard", "info": "",
            "prompt": "Sing {p}!", "public": true, "nsfw": false, "tags": ["song"],
            "models": [TEXT_MODEL],
            "params": { "top_k": 5, "min_p": 0.0, "smoothing_factor": 0.0, "dynatemp_range": 0.0,
                "dynatemp_exponent": 1.0 },
        });
        assert_eq!(studio.horde.get(&path).await.body, wanted);

        let body = json!({ "prompt": "of {p}", "style": "bard", "params": { "max_length": 80 } });
        let path = "/generate/text/async";
        let asked = studio.post(path, &studio.other, &body).await;
        assert_eq!(asked.status, 202, "{}", asked.body);
        let worker = studio.horde.client(&studio.other.api_key);
        let job = worker.pop_text(&text_pop("scribe")).await.unwrap();
        assert_eq!(job.payload.prompt.as_deref(), Some("Sing of {p}!"));
        assert_eq!(
            job.payload.params.max_length,
            Some(40),
            "kept, though never shown"
        );
    })
    .await;
}

/// What is wrong with a new style for pictures, and what that is called.
fn faults() -> Vec<(Value, &'static str)> {
    let params = |params: Value| json!({ "params": params });
    let lora = json!({ "name": "1" });
    vec![
        (json!({ "models": [] }), "BadRequest"),
        (
            json!({ "models": ["1", "2", "3", "4", "5", "6"] }),
            "BadRequest",
        ),
        (json!({ "tags": vec!["x"; 11] }), "BadRequest"),
        (json!({ "name": "fuck this" }), "BadRequest"),
        (json!({ "info": "fuck this style" }), "BadRequest"),
        (json!({ "tags": ["fine", "fuck this"] }), "BadRequest"),
        (json!({ "models": ["fuck this"] }), "BadRequest"),
        (json!({ "name": "taken" }), "BadRequest"),
        (json!({ "name": " taken\u{0} " }), "BadRequest"),
        (json!({ "sharedkey": NOTHING }), "SharedKeyInvalid"),
        (json!({ "sharedkey": "x".repeat(36) }), "SharedKeyInvalid"),
        (json!({ "prompt": "only {p}" }), "StylePromptMissingVars"),
        (json!({ "prompt": "only {np}" }), "StylePromptMissingVars"),
        (json!({ "prompt": "{p}{np}\u{0}" }), "NulByteInPayload"),
        (json!({ "models": ["a\u{0}"] }), "NulByteInPayload"),
        (
            params(json!({ "loras": [lora, lora, lora, lora, lora, lora] })),
            "TooManyLoras",
        ),
        (
            params(json!({ "loras": [{ "name": "x", "is_version": true }] })),
            "BadLoraVersion",
        ),
        (params(json!({ "tis": vec![&lora; 21] })), "TooManyTIs"),
        (params(json!({ "cfg_scale": 7.123 })), "BadCFGDecimals"),
        (
            params(json!({ "post_processing": ["NMKD_Siax", "4x_AnimeSharp"] })),
            "TooManyUpscalers",
        ),
        (
            json!({ "models": ["RealESRGAN_x4plus"] }),
            "UnexpectedModelName",
        ),
        (
            json!({ "prompt": format!("{{p}}{{np}}{}", " x".repeat(7501)) }),
            "InvalidPromptSize",
        ),
    ]
}

#[tokio::test]
async fn a_style_must_be_fine() {
    in_each_studio(async |studio| {
        studio.image(&studio.owner, "taken", json!({})).await;
        let kept = studio.image(&studio.owner, "kept", json!({})).await;
        let path = format!("/styles/image/{kept}");
        for (fault, rc) in faults() {
            let body = image_style("new", fault.clone());
            let made = studio.post("/styles/image", &studio.owner, &body).await;
            assert_eq!(outcome(&made), (400, rc), "{fault}");
            if fault != json!({ "models": [] }) {
                let changed = studio.patch(&path, &studio.owner, &fault).await;
                assert_eq!(outcome(&changed), (400, rc), "{fault}");
            }
        }
        let special = image_style("new", json!({ "models": ["horde_special::x#1"] }));
        let made = studio.post("/styles/image", &studio.owner, &special).await;
        assert_eq!(outcome(&made), (403, "SpecialModelNeedsSpecialUser"));
        // The name is the owner's, whatever for; others may use it.
        let text = text_style("taken", json!({}));
        let made = studio.post("/styles/text", &studio.owner, &text).await;
        assert_eq!(outcome(&made), (400, "BadRequest"));
        studio.image(&studio.other, "taken", json!({})).await;
        studio.image(&studio.owner, "Taken", json!({})).await;
        // Its own name is not somebody else's.
        let same = json!({ "name": "kept" });
        assert_eq!(studio.patch(&path, &studio.owner, &same).await.status, 200);
        let shown = studio.horde.get(&path).await.body;
        assert_eq!(
            (&shown["prompt"], &shown["tags"]),
            (&json!("{p}{np}"), &json!([]))
        );
    })
    .await;
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn members_have_bounds() {
    in_each_studio(async |studio| {
        let long = |count: usize| "x".repeat(count);
        let both = [
            (json!({ "name": "" }), "name"),
            (json!({ "name": long(101) }), "name"),
            (json!({ "name": 5 }), "name"),
            (json!({ "name": " \u{0} " }), "name"),
            (json!({ "info": long(1001) }), "info"),
            (json!({ "prompt": "{p}{n}" }), "prompt"),
            (json!({ "tags": [""] }), "tags.0"),
            (json!({ "tags": ["x", long(26)] }), "tags.1"),
            (json!({ "models": [""] }), "models.0"),
            (json!({ "models": "x" }), "models"),
            (json!({ "public": "yes" }), "public"),
            (json!({ "params": { "steps": 501 } }), "params.steps"),
            (json!({ "params": { "width": 65 } }), "params.width"),
            (
                json!({ "params": { "loras": [{}] } }),
                "params.loras.0.name",
            ),
            (json!({ "params": null }), "params"),
            (json!({ "sharedkey": long(37) }), "sharedkey"),
        ];
        let new = [
            (json!({ "info": long(9) }), "info"),
            (json!({ "sharedkey": "" }), "sharedkey"),
        ];
        let id = studio.image(&studio.owner, "kept", json!({})).await;
        let path = format!("/styles/image/{id}");
        let check = async |answer: Answer, member: &str, body: &Value| {
            assert_eq!(answer.status, 400, "{body}: {}", answer.body);
            let complaint = &answer.body["errors"][member];
            assert!(complaint.is_string(), "{body}: {}", answer.body);
        };
        for (fault, member) in both.iter().chain(&new) {
            let body = image_style("new", fault.clone());
            let made = studio.post("/styles/image", &studio.owner, &body).await;
            check(made, member, &body).await;
        }
        for (fault, member) in &both {
            check(
                studio.patch(&path, &studio.owner, fault).await,
                member,
                fault,
            )
            .await;
        }
        for body in [json!([]), json!("x"), Value::Null] {
            check(
                studio.post("/styles/image", &studio.owner, &body).await,
                "",
                &body,
            )
            .await;
        }
        let nameless = json!({ "models": ["x"] });
        check(
            studio.post("/styles/text", &studio.owner, &nameless).await,
            "name",
            &nameless,
        )
        .await;
        let full = json!({
            "name": long(100), "info": long(1000), "tags": vec!["x"; 10],
            "models": ["1", "2", "3", "4", "5"],
        });
        studio.make("/styles/image", &studio.owner, &full).await;
        let short = text_style("short", json!({ "prompt": "{p}" }));
        studio.make("/styles/text", &studio.owner, &short).await;
    })
    .await;
}

#[tokio::test]
async fn texts_obey_the_rules_for_texts() {
    in_each_studio(async |studio| {
        let sequences: Vec<String> = (0..129).map(|number| number.to_string()).collect();
        let cases = [
            (
                json!({ "max_length": 200, "max_context_length": 100 }),
                "TokenOverflow",
            ),
            (
                json!({ "sampler_order": [1, 2] }),
                "MissingFullSamplerOrder",
            ),
            (
                json!({ "stop_sequence": sequences }),
                "TooManyStopSequences",
            ),
            (
                json!({ "stop_sequence": ["x".repeat(2001)] }),
                "ExcessiveStopSequence",
            ),
        ];
        for (params, rc) in cases {
            let body = text_style("new", json!({ "params": params }));
            let made = studio.post("/styles/text", &studio.owner, &body).await;
            assert_eq!(outcome(&made), (400, rc), "{body}");
        }
        let placeless = text_style("new", json!({ "prompt": "Say {np}" }));
        let made = studio.post("/styles/text", &studio.owner, &placeless).await;
        assert_eq!(outcome(&made), (400, "StylePromptMissingVars"));
    })
    .await;
}

#[tokio::test]
async fn the_first_of_several_faults_is_named() {
    in_each_studio(async |studio| {
        studio.image(&studio.owner, "taken", json!({})).await;
        // Each fault is mended after it was named; the next one is named then.
        let worst = json!({
            "name": "fuck", "models": [], "sharedkey": NOTHING, "prompt": "nothing",
            "params": { "cfg_scale": 1.234 },
        });
        let (owner, newcomer) = (
            studio.owner.api_key.reveal(),
            studio.newcomer.api_key.reveal(),
        );
        let steps = [
            (Some("nobody"), json!({ "info": 5 }), 400, ""),
            (
                Some("nobody"),
                json!({ "info": "about the style" }),
                400,
                "BadRequest",
            ),
            (
                Some("nobody"),
                json!({ "models": ["m"] }),
                401,
                "InvalidAPIKey",
            ),
            (None, json!({}), 400, ""),
            (Some(ANONYMOUS), json!({}), 403, "StylesRequiresCustomizer"),
            (Some(newcomer), json!({}), 403, "StylesRequiresCustomizer"),
            (Some(owner), json!({}), 400, "BadRequest"),
            (Some(owner), json!({ "name": "taken" }), 400, "BadRequest"),
            (
                Some(owner),
                json!({ "name": "new" }),
                400,
                "SharedKeyInvalid",
            ),
        ];
        let mut body = worst;
        for (key, mended, status, rc) in steps {
            body = with(body, mended);
            let path = "/styles/image";
            let answer = studio
                .horde
                .call(Method::POST, path, key, Some(&body))
                .await;
            assert_eq!(outcome(&answer), (status, rc), "{key:?} {body}");
        }
        body.as_object_mut().unwrap().remove("sharedkey");
        let rest = [
            (json!({}), 400, "StylePromptMissingVars"),
            (json!({ "prompt": "{np}{p}" }), 400, "BadCFGDecimals"),
            (json!({ "params": {} }), 200, ""),
        ];
        for (mended, status, rc) in rest {
            body = with(body, mended);
            let answer = studio.post("/styles/image", &studio.owner, &body).await;
            assert_eq!(outcome(&answer), (status, rc), "{body}");
        }
    })
    .await;
}

#[tokio::test]
async fn customizers_make_styles_too() {
    in_each_studio(async |studio| {
        let body = image_style("oil", json!({}));
        let refused = studio.post("/styles/image", &studio.newcomer, &body).await;
        assert_eq!(outcome(&refused), (403, "StylesRequiresCustomizer"));
        let path = format!("/users/{}", studio.newcomer.user_id);
        let role = json!({ "customizer": true });
        studio
            .call(Method::PUT, &path, &studio.moderator, Some(&role))
            .await;
        studio.make("/styles/image", &studio.newcomer, &body).await;
    })
    .await;
}

#[tokio::test]
async fn owners_change_and_moderators_delete() {
    in_each_studio(async |studio| {
        let image = format!(
            "/styles/image/{}",
            studio.image(&studio.owner, "a", json!({})).await
        );
        let text = format!(
            "/styles/text/{}",
            studio.text(&studio.owner, "b", json!({})).await
        );
        let (wrong, missing) = (
            image.replace("image", "text"),
            format!("/styles/text/{NOTHING}"),
        );
        let (own, other) = (studio.owner.api_key.reveal(), studio.other.api_key.reveal());
        let moderator = studio.moderator.api_key.reveal();
        let (patch, delete) = (Method::PATCH, Method::DELETE);
        let cases = [
            (
                &patch,
                "/styles/image/garbage",
                Some("nobody"),
                404,
                "StyleNotFound",
            ),
            (&delete, missing.as_str(), None, 404, "StyleNotFound"),
            (&patch, &wrong, Some(own), 400, "StyleMismatch"),
            (&delete, &wrong, Some(own), 400, "StyleMismatch"),
            (&patch, &image, None, 400, ""),
            (&delete, &image, None, 400, ""),
            (&patch, &image, Some("nobody"), 401, "InvalidAPIKey"),
            (&delete, &text, Some("nobody"), 401, "InvalidAPIKey"),
            (&patch, &image, Some(ANONYMOUS), 403, "Forbidden"),
            (&delete, &image, Some(ANONYMOUS), 403, "StylesAnonForbidden"),
            (&patch, &text, Some(other), 403, "Forbidden"),
            (&delete, &text, Some(other), 403, "Forbidden"),
            (&patch, &text, Some(moderator), 403, "Forbidden"),
            (&patch, &text, Some(own), 200, ""),
            (&delete, &text, Some(moderator), 200, ""),
            (&delete, &text, Some(moderator), 404, "StyleNotFound"),
            (&delete, &image, Some(own), 200, ""),
        ];
        for (method, path, key, status, rc) in cases {
            let body = (*method == patch).then(|| json!({ "nsfw": true }));
            let answer = studio
                .horde
                .call(method.clone(), path, key, body.as_ref())
                .await;
            assert_eq!(outcome(&answer), (status, rc), "{method} {path} {key:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn models_have_wishes() {
    let wishes = json!({ "wish": { "type": "ckpt", "requirements": {
        "clip_skip": 2, "min_steps": 25, "max_cfg_scale": 5, "samplers": ["k_lms"],
        "schedulers": ["simple"],
    } } });
    let horde = TestHorde::start_with(|config| Config {
        models: ordu_server::ModelSources {
            image: ordu_server::ModelSource::Text(wishes.to_string()),
            ..ordu_server::ModelSources::default()
        },
        ..config
    })
    .await;
    let owner = horde.user("owner", 0.0).await;
    let body = image_style(
        "oil",
        json!({ "models": ["wish"], "params": { "steps": 24 } }),
    );
    let made = horde
        .post("/styles/image", Some(&owner.api_key), &body)
        .await;
    let codes = |answer: &Answer| -> Vec<String> {
        let warnings = answer.body["warnings"].as_array().unwrap();
        let codes = warnings
            .iter()
            .map(|warning| warning["code"].as_str().unwrap());
        codes.map(str::to_owned).collect()
    };
    let all = [
        "ClipSkipMismatch",
        "StepsTooFew",
        "CfgScaleTooLarge",
        "SamplerMismatch",
        "SchedulerMismatch",
    ];
    assert_eq!(
        (made.status, codes(&made)),
        (200, all.map(str::to_owned).into())
    );
    let path = format!("/styles/image/{}", made.body["id"].as_str().unwrap());
    let key = Some(owner.api_key.reveal());
    let patch = async |params: Value| {
        let body = json!({ "params": params });
        horde.call(Method::PATCH, &path, key, Some(&body)).await
    };
    let good = json!({
        "clip_skip": 2, "steps": 25, "cfg_scale": 5, "sampler_name": "k_lms", "karras": false,
    });
    assert_eq!(codes(&patch(good.clone()).await), Vec::<String>::new());
    let worse = with(good, json!({ "steps": 1 }));
    assert_eq!(codes(&patch(worse).await), ["StepsTooFew"]);
}
