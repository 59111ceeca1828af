//! What users write: weights, embeddings, filters and seeds.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ordu_core::agent::Agent;
use ordu_core::filter::normalise;
use ordu_core::image::seed;
use ordu_engine::native::sd::prompt;

fuzz_target!(|text: &str| {
    prompt::named(text);
    for (_, weight) in prompt::emphasised(text) {
        assert!(weight.is_finite(), "{weight}");
    }
    normalise(text);
    seed::from_text(text);
    Agent::parse(text);
});
