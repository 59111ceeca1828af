//! Every rule for text requests, at its border and one step beyond.

use ordu_api::text::{REQUEST_SCHEMA, TextRequest};
use ordu_api::{ReturnCode, UserId};
use serde_json::{Value, json};

use super::*;
use crate::{Kudos, Roles};

fn standing(roles: Roles) -> Standing {
    Standing {
        user: UserId::new(9).unwrap(),
        alias: "a#9".to_owned(),
        roles,
        kudos: Kudos::new(100),
    }
}

/// A valid request with other members.
fn request(change: &Value) -> TextRequest {
    let mut body = json!({"prompt": "Once upon a time", "params": {}});
    for (name, value) in change.as_object().unwrap() {
        body[name] = value.clone();
    }
    REQUEST_SCHEMA.check(&mut body).unwrap();
    serde_json::from_value(body).unwrap()
}

fn code(change: &Value, roles: Roles) -> Option<ReturnCode> {
    check(&request(change), &standing(roles), Vision::Off)
        .err()
        .map(|refusal| refusal.code)
}

#[test]
fn rules_refuse_with_their_code() {
    use ReturnCode::*;
    let stops = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
    let params = |params: Value| json!({ "params": params });
    let image = json!({"image": "x"});
    let cases = [
        (json!({}), None),
        (json!({"prompt": ""}), Some(MissingPrompt)),
        (json!({"prompt": "a\u{0}b"}), Some(NulByteInPayload)),
        (json!({"models": ["a\u{0}"]}), Some(NulByteInPayload)),
        (
            params(json!({"stop_sequence": ["\u{0}"]})),
            Some(NulByteInPayload),
        ),
        (
            params(json!({"max_length": 200, "max_context_length": 200})),
            None,
        ),
        (
            params(json!({"max_length": 201, "max_context_length": 200})),
            Some(TokenOverflow),
        ),
        (params(json!({"max_length": 2049})), Some(TokenOverflow)),
        (
            params(json!({"sampler_order": [6, 0, 1, 3, 4, 2, 5]})),
            None,
        ),
        (
            params(json!({"sampler_order": [6, 0, 1, 3, 4, 2, 2]})),
            Some(MissingFullSamplerOrder),
        ),
        (
            params(json!({"sampler_order": []})),
            Some(MissingFullSamplerOrder),
        ),
        (params(json!({"stop_sequence": stops(128)})), None),
        (
            params(json!({"stop_sequence": stops(129)})),
            Some(TooManyStopSequences),
        ),
        (params(json!({"stop_sequence": vec!["a"; 200]})), None),
        (params(json!({"stop_sequence": ["é".repeat(2000)]})), None),
        (
            params(json!({"stop_sequence": ["a".repeat(2001)]})),
            Some(ExcessiveStopSequence),
        ),
        (
            json!({"extra_source_images": [image]}),
            Some(InvalidExtraSourceImages),
        ),
        (
            json!({"extra_source_images": vec![image.clone(); 2]}),
            Some(MoreThanMinExtraSourceImage),
        ),
        (
            json!({"extra_source_images": vec![image; 6]}),
            Some(TooManyExtraSourceImages),
        ),
        (json!({"disable_batching": true}), None),
        (
            json!({"disable_batching": true, "params": {"n": 2}}),
            Some(RequiresTrust),
        ),
        (json!({"workers": ["x"]}), Some(WorkerNotFound)),
    ];
    for (change, expected) in cases {
        assert_eq!(code(&change, Roles::NONE), expected, "{change}");
    }
    let trusted = Roles::NONE.with(Role::Trusted);
    let batch = json!({"disable_batching": true, "params": {"n": 2}});
    assert_eq!(code(&batch, trusted), None);
}

#[test]
fn the_first_broken_rule_wins() {
    use ReturnCode::*;
    let steps = [
        (json!({"prompt": "\u{0}"}), NulByteInPayload),
        (
            json!({"extra_source_images": vec![json!({}); 6]}),
            TooManyExtraSourceImages,
        ),
        (json!({"prompt": ""}), MissingPrompt),
        (json!({"disable_batching": true}), RequiresTrust),
        (
            json!({"params": {"max_length": 3000, "sampler_order": [], "n": 2}}),
            TokenOverflow,
        ),
    ];
    // All that are wrong at once, then one less each time.
    for first in 0..steps.len() {
        let mut change = json!({});
        for (members, _) in steps[first..].iter().rev() {
            for (name, value) in members.as_object().unwrap() {
                change[name] = value.clone();
            }
        }
        if first > 0 && change.get("prompt").is_none() {
            change["prompt"] = json!("a");
        }
        assert_eq!(code(&change, Roles::NONE), Some(steps[first].1), "{change}");
    }
}

#[test]
fn a_worker_gets_what_was_said_and_what_must_not_be_missing() {
    let spec = check(
        &request(&json!({"params": {"n": 3, "temperature": 0.5, "seed": 5}})),
        &standing(Roles::NONE),
        Vision::Off,
    )
    .unwrap();
    let payload = serde_json::to_value(spec.payload()).unwrap();
    let expected = json!({
        "prompt": "Once upon a time", "n": 1, "max_context_length": 2048, "max_length": 80,
        "temperature": 0.5, "min_p": 0.0, "smoothing_factor": 0.0, "dynatemp_range": 0.0,
        "dynatemp_exponent": 1.0
    });
    assert_eq!(payload, expected);
    assert_eq!(spec.n, 3);
}

#[test]
fn a_stored_spec_reads_back() {
    let spec = check(
        &request(&json!({"softprompt": "s", "validated_backends": true})),
        &standing(Roles::NONE.with(Role::Education)),
        Vision::Off,
    )
    .unwrap();
    assert!(spec.trusted_workers);
    let text = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<TextSpec>(&text).unwrap(), spec);
    assert_eq!(
        serde_json::from_str::<TextSpec>("{}").unwrap(),
        TextSpec::default()
    );
}

#[test]
fn pictures_are_taken_where_the_operator_says_so() {
    let with_picture = request(&json!({"extra_source_images": [{"image": "x"}]}));
    let who = standing(Roles::NONE);
    let spec = check(&with_picture, &who, Vision::On).unwrap();
    assert_eq!(spec.extra_source_images.len(), 1);
    let tax = crate::pricing::text::activation_tax(&spec);
    assert_eq!(tax, Kudos::new(6));
}
