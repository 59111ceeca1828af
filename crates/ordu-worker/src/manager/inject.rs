//! Words that wake an add-on, put into the prompt. Pure.
//!
//! # Source
//! `worker.md` § 2.4, 2.6.

use super::similar::similarity;

/// How alike a wish and a trigger must be, in percent.
const ALIKE: f64 = 65.0;

/// Where the word of a textual inversion goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InjectTi {
    /// Before the prompt.
    Prompt,
    /// After the negative prompt.
    Negative,
}

impl InjectTi {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "prompt" => Some(Self::Prompt),
            "negprompt" => Some(Self::Negative),
            _ => None,
        }
    }
}

/// The trigger that a request wishes for, if there is one. `seed` decides where it leaves the choice.
pub(crate) fn trigger(triggers: &[String], wish: &str, seed: u64) -> Option<String> {
    let triggers: Vec<_> = triggers
        .iter()
        .map(|text| plain(text))
        .filter(|text| !text.is_empty())
        .collect();
    if triggers.is_empty() {
        return None;
    }
    if wish.eq_ignore_ascii_case("all") {
        return Some(triggers.join(", "));
    }
    if wish.eq_ignore_ascii_case("any") {
        let place = seed % triggers.len() as u64;
        return triggers
            .get(usize::try_from(place).unwrap_or_default())
            .map(|text| (*text).to_owned());
    }
    let lower = wish.trim().to_lowercase();
    if lower.is_empty() {
        return None;
    }
    let exact = triggers.iter().find(|text| text.to_lowercase() == lower);
    let within = || {
        triggers
            .iter()
            .find(|text| text.to_lowercase().contains(&lower))
    };
    let alike = || {
        let rated = triggers.iter().map(|text| (similarity(text, wish), text));
        let best = rated.max_by(|(a, _), (b, _)| a.total_cmp(b));
        best.filter(|(rate, _)| *rate > ALIKE).map(|(_, text)| text)
    };
    let found = exact.or_else(within).or_else(alike);
    found.map(|text| (*text).to_owned())
}

/// `<lora:x:1>` is how another program names the LoRA `x`.
fn plain(text: &str) -> &str {
    let text = text.trim().trim_end_matches(',').trim();
    let inner = text
        .strip_prefix("<lora:")
        .and_then(|rest| rest.strip_suffix('>'));
    inner.map_or(text, |inner| inner.split(':').next().unwrap_or(inner))
}

/// The prompts with the word of a textual inversion.
pub(crate) fn with_embedding(
    (prompt, negative): (String, String),
    id: u64,
    strength: f64,
    place: InjectTi,
) -> (String, String) {
    let word = format!("(embedding:{id}:{strength:?})");
    match place {
        InjectTi::Prompt => (format!("{word},{prompt}"), negative),
        InjectTi::Negative => {
            let negative = format!("{negative},{word}");
            (prompt, negative.trim_start_matches(',').to_owned())
        }
    }
}

/// A prompt that wakes a LoRA.
pub(crate) fn with_trigger(prompt: &str, trigger: &str) -> String {
    format!("{trigger}, {prompt}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wished(wish: &str, seed: u64) -> Option<String> {
        let triggers = ["Red Dragon", "<lora:wings:0.8>", "", "fire breath,"];
        trigger(&triggers.map(str::to_owned), wish, seed)
    }

    #[test]
    fn triggers_are_wished_for_by_name_or_left_to_the_seed() {
        for (wish, seed, expected) in [
            ("any", 0, Some("Red Dragon")),
            ("any", 4, Some("wings")),
            ("ALL", 0, Some("Red Dragon, wings, fire breath")),
            ("red dragon", 0, Some("Red Dragon")),
            ("dragon", 0, Some("Red Dragon")),
            ("fyre breath", 0, Some("fire breath")),
            ("unrelated", 0, None),
            ("", 0, None),
        ] {
            assert_eq!(wished(wish, seed).as_deref(), expected, "{wish}");
        }
        assert_eq!(trigger(&[], "all", 0), None);
    }

    #[test]
    fn words_go_before_the_prompt_and_after_the_negative_one() {
        let both = |prompt: &str, negative: &str| (prompt.to_owned(), negative.to_owned());
        assert_eq!(
            with_embedding(both("a cat", ""), 7, 1.0, InjectTi::Prompt),
            both("(embedding:7:1.0),a cat", "")
        );
        assert_eq!(
            with_embedding(both("a cat", "ugly"), 7, 0.25, InjectTi::Negative),
            both("a cat", "ugly,(embedding:7:0.25)")
        );
        assert_eq!(
            with_embedding(both("", ""), 7, 1.0, InjectTi::Negative).1,
            "(embedding:7:1.0)"
        );
        assert_eq!(with_trigger("a cat", "dragon"), "dragon, a cat");
    }
}
