//! Prices of texts, against recorded ones.

use ordu_api::text::{TextParams, TextRequest};

use super::*;
use crate::text::Vision;
use crate::{Roles, Standing};

fn models() -> TextModels {
    TextModels::from_json(
        r#"{"70b": {"parameters": 70e9}, "13b": {"parameters": 13e9}, "7b": {"parameters": 7e9},
            "tiny": {"parameters": 1.1e9}}"#,
    )
    .unwrap()
}

fn spec(models: &[&str], length: u32, context: u32, n: u32) -> TextSpec {
    let request = TextRequest {
        prompt: "Once upon a time".to_owned(),
        models: models.iter().map(|name| (*name).to_owned()).collect(),
        params: TextParams {
            n: Some(n),
            max_length: Some(length),
            max_context_length: Some(context),
            ..TextParams::default()
        },
        ..TextRequest::default()
    };
    let standing = Standing {
        user: ordu_api::UserId::new(5).unwrap(),
        alias: "a#5".to_owned(),
        roles: Roles::NONE,
        kudos: Kudos::new(100),
    };
    crate::text::check(&request, &standing, Vision::Off).unwrap()
}

/// The recorded scenarios `text-price/dry-run-upfront` and `text-validation/params`: whole kudos.
#[test]
fn full_prices_are_as_recorded() {
    let cases: &[(&[&str], u32, u32, u32, f64)] = &[
        (&[], 80, 2048, 1, 37.0),
        (&[], 80, 2048, 3, 110.0),
        (&[], 512, 8192, 1, 791.0),
        (&["13b"], 80, 2048, 1, 37.0),
        (&["13b"], 512, 8192, 1, 791.0),
        (&["70b"], 80, 2048, 1, 269.0),
        (&["70b"], 80, 2048, 3, 804.0),
        (&["70b"], 512, 8192, 1, 5948.0),
        (&["7b"], 80, 2048, 1, 21.0),
        (&["7b"], 512, 8192, 1, 427.0),
        (&["tiny"], 80, 2048, 3, 13.0),
        (&["tiny"], 512, 8192, 1, 69.0),
        (&["13b"], 80, 2048, 20, 728.0),
        (&["13b"], 16, 2048, 1, 9.0),
        (&["13b"], 80, 80, 1, 15.0),
        (&["13b"], 80, 1_048_576, 1, 314.0),
        // The dearest of several.
        (&["tiny", "70b", "7b"], 80, 2048, 1, 269.0),
        (&["13b.Q4_K_M"], 80, 2048, 1, 37.0),
        (&["nobody-knows"], 80, 2048, 1, 9.0),
    ];
    for (names, length, context, n, price) in cases {
        let spec = spec(names, *length, *context, *n);
        let kudos = full_price(&spec, &models()).as_f64().round();
        assert!(
            (kudos - price).abs() < 0.5,
            "{names:?} {length} {context}: {kudos}"
        );
    }
    let spec = spec(&[], 80, 2048, 1);
    assert_eq!(estimate(&spec, &models()), Kudos::from_milli(35_360));
}

/// The recorded scenario `text-flow/models-prices`, in hundredths.
#[test]
fn job_kudos_are_as_recorded() {
    let text = "hello from the worker, this is the answer text";
    let cases = [
        ("70b", true, true, 1900),
        ("7b", true, true, 136),
        ("tiny", true, true, 21),
        ("13b", true, true, 252),
        ("13b", false, true, 76),
        ("13b::owner#1", true, false, 252),
        ("unknown", true, true, 65),
        ("13b.Q4_K_M", true, true, 65),
        ("unknown", true, false, 121),
    ];
    let spec = spec(&[], 80, 2048, 1);
    for (model, validated, trusted, cents) in cases {
        let writer = Writer {
            model,
            validated,
            trusted,
        };
        let kudos = job_kudos(&spec, text, writer, &models());
        assert_eq!(kudos, Kudos::from_milli(cents * 10), "{model}");
    }
}

#[test]
fn a_text_counts_as_20_tokens_at_least_and_as_what_was_asked_at_most() {
    for (chars, counted) in [
        (0, 20.0),
        (80, 20.0),
        (81, 21.0),
        (320, 80.0),
        (10_000, 80.0),
    ] {
        assert!((tokens(&"é".repeat(chars), 80) - counted).abs() < f64::EPSILON);
    }
    assert!((tokens("", 16) - 16.0).abs() < f64::EPSILON);
}

#[test]
fn upfront_rules_follow_the_load() {
    let load = |queued, threads| Load { queued, threads };
    let long = spec(&["13b"], 513, 2048, 1);
    let short = spec(&["13b"], 512, 2048, 1);
    let fast = TextSpec {
        slow_workers: false,
        ..short.clone()
    };
    assert_eq!(upfront(&long, load(0, 100)), Some(Need::Tokens(512)));
    assert_eq!(upfront(&short, load(0, 0)), None);
    assert_eq!(upfront(&short, load(10, 0)), Some(Need::Tokens(503)));
    assert_eq!(upfront(&short, load(100_000, 0)), Some(Need::Tokens(256)));
    assert_eq!(upfront(&fast, load(0, 0)), Some(Need::FastWorkers));
    for spec in [&long, &fast] {
        assert_eq!(upfront(&downgrade(spec, load(10, 0)), load(10, 0)), None);
    }
    assert_eq!(
        upfront_price(&spec(&[], 600, 2048, 3), &models()),
        Kudos::new(60)
    );
    let price = upfront_price(&spec(&["tiny", "13b"], 600, 2048, 2), &models());
    assert_eq!(price, Kudos::from_milli(742_860));
}

#[test]
fn uptime_is_worth_more_with_context_and_size() {
    let writer = |model, validated| Writer {
        model,
        validated,
        trusted: true,
    };
    let cases = [
        (2048, "7b", true, 55_000),
        (2048, "7b", false, 16_500),
        (2048, "tiny", true, 13_750),
        (2048, "unknown", true, 27_500),
        (i64::MAX, "70b", true, 38_650_000),
        (-5, "7b", true, 25_000),
    ];
    for (context, model, validated, milli) in cases {
        let kudos = uptime(context, writer(model, validated), &models());
        assert_eq!(kudos, Kudos::from_milli(milli), "{model} {context}");
    }
}
