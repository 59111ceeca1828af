//! Prompts as they are written, made ready for the engine.

/// What to draw and what to keep away from: the text before and after the first `###`.
///
/// In both, each `{a|b|c}` gives way to one of its alternatives, chosen by the seed. Groups may be
/// nested; a brace without its partner stays.
pub(super) fn split(prompt: &str, seed: u64) -> (String, String) {
    let (positive, negative) = prompt.split_once("###").unwrap_or((prompt, ""));
    let mut dice = Dice(seed);
    let positive = choose(positive.trim(), &mut dice);
    (positive, choose(negative.trim(), &mut dice))
}

/// `SplitMix64`: small, and the same everywhere.
///
/// # Source
/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let scaled = (u128::from(mixed ^ (mixed >> 31)) * count as u128) >> 64;
        usize::try_from(scaled).unwrap_or_default()
    }
}

/// One pass with a stack of open groups, so that a hostile prompt costs no more than its length.
fn choose(text: &str, dice: &mut Dice) -> String {
    let mut open: Vec<Vec<String>> = Vec::new();
    let mut current = String::new();
    for c in text.chars() {
        match (c, open.last_mut()) {
            ('{', _) => open.push(vec![std::mem::take(&mut current)]),
            ('|', Some(group)) => group.push(std::mem::take(&mut current)),
            ('}', Some(_)) => current = close(open.pop().unwrap_or_default(), current, dice),
            _ => current.push(c),
        }
    }
    while let Some(mut group) = open.pop() {
        group.push(current);
        current = unclosed(&group);
    }
    current
}

/// What came before the group, followed by one of its alternatives.
fn close(group: Vec<String>, last: String, dice: &mut Dice) -> String {
    let mut parts = group.into_iter();
    let before = parts.next().unwrap_or_default();
    let mut alternatives: Vec<String> = parts.collect();
    alternatives.push(last);
    let chosen = alternatives.swap_remove(dice.below(alternatives.len()));
    before + &chosen
}

/// A group that never ended, as it was written.
fn unclosed(group: &[String]) -> String {
    match group.split_first() {
        Some((before, parts)) => format!("{before}{{{}", parts.join("|")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halves(prompt: &str) -> (String, String) {
        split(prompt, 1)
    }

    #[test]
    fn the_first_separator_splits() {
        for (prompt, positive, negative) in [
            ("a cat", "a cat", ""),
            ("a cat ### blurry", "a cat", "blurry"),
            ("a###b###c", "a", "b###c"),
            ("###b", "", "b"),
            ("", "", ""),
            ("a####b", "a", "#b"),
        ] {
            let halves = halves(prompt);
            assert_eq!(
                (halves.0.as_str(), halves.1.as_str()),
                (positive, negative),
                "{prompt}"
            );
        }
    }

    #[test]
    fn groups_give_way_to_one_alternative_by_the_seed() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..64 {
            let (text, _) = split("a {red|green|{light|dark} blue} ball", seed);
            assert_eq!(split("a {red|green|{light|dark} blue} ball", seed).0, text);
            seen.insert(text);
        }
        let expected = [
            "a dark blue ball",
            "a green ball",
            "a light blue ball",
            "a red ball",
        ];
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn odd_braces_stay_and_single_alternatives_lose_theirs() {
        for (text, chosen) in [
            ("{x}", "x"),
            ("{}", ""),
            ("a } b", "a } b"),
            ("a { b", "a { b"),
            ("a {b|{c", "a {b|{c"),
            ("a | b", "a | b"),
            ("{{x}", "{x"),
        ] {
            assert_eq!(halves(text).0, chosen, "{text}");
        }
    }

    #[test]
    fn a_hostile_prompt_is_read_in_no_time() {
        let text = "{".repeat(50_000) + &"}".repeat(50_000);
        assert_eq!(halves(&text).0, "");
        let text = "{a|".repeat(30_000);
        assert_eq!(halves(&text).0, text);
    }
}
