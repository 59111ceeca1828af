//! What counts as a word before byte pairs are merged.

use fancy_regex::Regex;

/// GPT-2's words.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// The same, with every digit on its own.
const SINGLE_DIGITS: &str =
    r"\p{N}|'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Those of Llama 3: digits by threes, one sign may stick to a word.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Those of Qwen 2: the same with single digits.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Those of Mistral's Tekken: a change from small to capital letters begins a word.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Names in `tokenizer.ggml.pre`, their words, and whether words that are tokens are taken whole.
const KNOWN: &[(&str, &str, bool)] = &[
    ("default", GPT2, false),
    ("gpt-2", GPT2, false),
    ("smollm", SINGLE_DIGITS, false),
    ("llama-bpe", LLAMA3, true),
    ("llama3", LLAMA3, true),
    ("llama-v3", LLAMA3, true),
    ("falcon3", LLAMA3, true),
    ("smaug-bpe", LLAMA3, false),
    ("dbrx", LLAMA3, false),
    ("qwen2", QWEN2, false),
    ("deepseek-r1-qwen", QWEN2, false),
    ("tekken", TEKKEN, true),
];

/// What is looked at in one go where the expression does not get done, in bytes.
const HANDFUL: usize = 256;

/// Cuts a text into words.
#[derive(Debug)]
pub(super) struct Words {
    expression: Regex,
    whole: bool,
}

impl Words {
    /// Those of a name in a file.
    pub(super) fn named(name: &str) -> Result<Self, String> {
        let Some((_, expression, whole)) = KNOWN.iter().find(|known| known.0 == name) else {
            let known: Vec<&str> = KNOWN.iter().map(|known| known.0).collect();
            return Err(format!(
                "its tokenizer cuts words as `{name}` does; known are {}",
                known.join(", ")
            ));
        };
        let expression = Regex::new(expression).map_err(|error| error.to_string())?;
        Ok(Self {
            expression,
            whole: *whole,
        })
    }

    pub(super) fn are_taken_whole(&self) -> bool {
        self.whole
    }

    /// The words of a text; together they are the text.
    pub(super) fn of<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let mut words = Vec::new();
        let mut done = 0;
        while done < text.len() {
            let found = self.expression.find_from_pos(text, done);
            let end = match found {
                Ok(Some(word)) if word.end() > done => {
                    // What no expression knows is a word, too.
                    words.extend(text.get(done..word.start()).filter(|gap| !gap.is_empty()));
                    words.extend(text.get(word.start()..word.end()));
                    word.end()
                }
                Ok(_) => {
                    words.extend(text.get(done..));
                    text.len()
                }
                // It gives up on endless white space and the like.
                Err(_) => {
                    let end = text.floor_char_boundary((done + HANDFUL).min(text.len()));
                    words.extend(text.get(done..end));
                    end
                }
            };
            done = end.max(done + 1);
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_cut_as_their_models_learned_them() {
        let text = "Hello'Ve world 1234\n\n  foo";
        for (name, expected) in [
            (
                "qwen2",
                vec![
                    "Hello", "'Ve", " world", " ", "1", "2", "3", "4", "\n\n", " ", " foo",
                ],
            ),
            (
                "llama-bpe",
                vec![
                    "Hello", "'Ve", " world", " ", "123", "4", "\n\n", " ", " foo",
                ],
            ),
            (
                "gpt-2",
                vec!["Hello", "'", "Ve", " world", " 1234", "\n\n ", " foo"],
            ),
            (
                "smollm",
                vec![
                    "Hello", "'", "Ve", " world", " ", "1", "2", "3", "4", "\n\n ", " foo",
                ],
            ),
        ] {
            assert_eq!(Words::named(name).unwrap().of(text), expected, "{name}");
        }
        assert_eq!(
            Words::named("tekken").unwrap().of("helloWorld HTTPServer"),
            ["hello", "World", " HTTPServer"]
        );
        assert!(Words::named("gpt-9").is_err());
    }

    #[test]
    fn endless_white_space_is_cut_somewhere() {
        let text = " ".repeat(200_000);
        let words = Words::named("qwen2").unwrap();
        assert_eq!(words.of(&text).concat(), text);
    }

    proptest! {
        #[test]
        fn words_together_are_the_text(text in ".{0,200}") {
            // Expressions are slow to make.
            static ALL: std::sync::LazyLock<Vec<Words>> = std::sync::LazyLock::new(|| {
                KNOWN.iter().map(|known| Words::named(known.0).unwrap()).collect()
            });
            for words in ALL.iter() {
                prop_assert_eq!(words.of(&text).concat(), text.as_str());
            }
        }
    }
}
