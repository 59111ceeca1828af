//! Bodies of requests against the tables that check them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ordu_api::schema::Schema;
use ordu_api::{alchemy, collection, filter, image, kudos, operation, shared_key, style, team, text, user, worker};
use serde_json::Value;

const SCHEMAS: [&Schema; 16] = [
    &image::REQUEST_SCHEMA,
    &image::POP_SCHEMA,
    &image::SUBMIT_SCHEMA,
    &text::REQUEST_SCHEMA,
    &text::POP_SCHEMA,
    &text::SUBMIT_SCHEMA,
    &alchemy::REQUEST_SCHEMA,
    &alchemy::POP_SCHEMA,
    &alchemy::SUBMIT_SCHEMA,
    &collection::SCHEMA,
    &filter::NEW_SCHEMA,
    &kudos::GIFT_SCHEMA,
    &operation::TIME_OUT_SCHEMA,
    &shared_key::SCHEMA,
    &style::EXAMPLE_SCHEMA,
    &team::NEW_SCHEMA,
];

fuzz_target!(|bytes: &[u8]| {
    let Ok(body) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    for schema in SCHEMAS.into_iter().chain([&user::INPUT_SCHEMA, &worker::INPUT_SCHEMA]) {
        let mut checked = body.clone();
        if schema.check(&mut checked).is_ok() {
            // What was once in order stays so.
            let before = checked.clone();
            schema.check(&mut checked).unwrap();
            assert_eq!(checked, before);
        }
    }
    serde_json::from_value::<image::ImageRequest>(body.clone()).ok();
    serde_json::from_value::<text::TextRequest>(body).ok();
});
