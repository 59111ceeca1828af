//! What becomes of texts and tokens.

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

fn tokenizer(name: &str) -> Tokenizer {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/texts");
    let file = Gguf::open(&folder.join(format!("{name}.gguf"))).unwrap();
    Tokenizer::of(&file).unwrap()
}

fn decoded(tokenizer: &Tokenizer, tokens: &[u32]) -> String {
    let bytes: Vec<u8> = tokens
        .iter()
        .flat_map(|token| tokenizer.piece(*token).to_vec())
        .collect();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn scores_order_as_numbers_do() {
    let numbers = [f32::NEG_INFINITY, -2.0, -1e-9, 0.0, 1e-9, 3.0];
    assert!(numbers.map(ordered).is_sorted());
}

#[test]
fn named_tokens_are_found_the_longest_first() {
    let tokenizer = tokenizer("qwen2");
    let start = tokenizer.ids["<|im_start|>"];
    let end = tokenizer.ids["<|im_end|>"];
    let found = tokenizer.names_in("<|im_start|><|im_end|> x <|im_start|");
    assert_eq!(found, [(0..12, start), (12..22, end)]);
    assert!(tokenizer.ends(end) && !tokenizer.ends(start));
    assert_eq!(tokenizer.piece(end), b"");
}

proptest! {
    #[test]
    fn what_is_encoded_can_be_read_again(text in "[^<]{0,40}") {
        let words = tokenizer("qwen2");
        prop_assert_eq!(decoded(&words, &words.encode(&text)), text.as_str());
        let pieces = tokenizer("llama");
        let again = decoded(&pieces, &pieces.encode(&text));
        let spaced = if text.is_empty() { String::new() } else { format!(" {text}") };
        // SentencePiece's sign for a space is read as one.
        prop_assert_eq!(again, spaced.replace('\u{2581}', " "));
    }
}
