//! A tokenizer's file, and a text for it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ordu_engine::native::sd::tokenizer::Tokenizer;

fuzz_target!(|parts: (&[u8], &str)| {
    if let Ok(tokenizer) = Tokenizer::from_json(parts.0) {
        tokenizer.ids(parts.1);
        tokenizer.marks();
    }
});
