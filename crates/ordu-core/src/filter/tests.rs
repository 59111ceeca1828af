//! Filters, as tables.

use std::sync::{Arc, LazyLock};

use proptest::prelude::*;

use super::*;
use crate::Refusal;

fn filter(kind: u8, regex: &str, replacement: &str) -> Filter {
    Filter {
        regex: regex.to_owned(),
        kind,
        replacement: replacement.to_owned(),
    }
}

/// The words of the recorded exchanges. Compiled once: it is what costs time here.
fn set() -> &'static FilterSet {
    static SET: LazyLock<FilterSet> = LazyLock::new(|| {
        let filters = [
            filter(10, "zzminor", "zzadult"),
            filter(11, "zzsecond", ""),
            filter(20, "zzlewd", ""),
        ];
        FilterSet::compile(&filters, Arc::new(Terms::embedded())).unwrap()
    });
    &SET
}

#[test]
fn prompts_are_written_plainly() {
    let cases = [
        ("a red circle", "a red circle"),
        ("(text:1.2)", "text"),
        ("(ab:1.2) (cd: -0.5 ) ef", "ab cd ef"),
        ("((deep:1.1):1.3)", "deep"),
        ("ratio 3:2, at 16:9", "ratio 3 2 at 16 9"),
        ("time: 12)", "time"),
        ("n a m e", "name"),
        ("say n a m e twice", "say name twice"),
        ("a b", "a b"),
        ("Z Z Z", "ZZZ"),
        ("n-a_m.e", "name"),
        ("snake_case,comma.dot", "snake case comma dot"),
        ("  many\t\nspaces  ", "many spaces"),
        ("Ünïcödé naïve", "Unicode naive"),
        ("ｆｕｌｌ ｗｉｄｔｈ", "full width"),
        ("𝓯𝓪𝓷𝓬𝔂 Ⓛⓔⓣⓣⓔⓡⓢ", "fancy Letters"),
        ("hid\u{200b}den soft\u{ad}hyphen", "hidden softhyphen"),
        ("combi\u{301}ning", "combining"),
        ("👶 and 🍆", "and"),
        ("1 2 3", "1 2 3"),
        ("###", ""),
        ("", ""),
    ];
    for (text, plain) in cases {
        assert_eq!(normalise(text), plain, "{text}");
    }
}

#[test]
fn each_context_counts_once() {
    let cases: &[(&str, u8, &[&str])] = &[
        ("nothing here", 0, &[]),
        ("a zzminor thing", 1, &["zzminor"]),
        ("a zzlewd thing", 1, &["zzlewd"]),
        ("a zzminor zzlewd thing", 2, &["zzminor", "zzlewd"]),
        ("a zzminor zzsecond thing", 1, &["zzminor"]),
        ("a zzsecond zzlewd thing", 2, &["zzsecond", "zzlewd"]),
        ("a ZZMINOR and Zzlewd thing", 2, &["ZZMINOR", "Zzlewd"]),
        ("a zzminor### zzlewd", 1, &["zzminor"]),
        ("###zzminor zzlewd", 0, &[]),
        ("(zzminor:1.2), z z l e w d", 2, &["zzminor", "zzlewd"]),
        ("zz_minor zzlewd", 1, &["zzlewd"]),
        ("zzminor zzminor zzlewd zzlewd", 2, &["zzminor", "zzlewd"]),
        ("👶", 1, &["👶"]),
        ("👶 zzminor", 1, &["👶"]),
        ("👶 zzlewd", 2, &["👶", "zzlewd"]),
        ("a thing ###👶 zzlewd", 0, &[]),
        ("🍆 zzlewd", 1, &["zzlewd"]),
        ("", 0, &[]),
    ];
    let set = set();
    for (prompt, suspicion, matches) in cases {
        let verdict = set.judge(prompt);
        assert_eq!(verdict.suspicion, *suspicion, "{prompt}");
        assert_eq!(verdict.matches, *matches, "{prompt}");
    }
}

#[test]
fn one_type_can_be_tried_alone() {
    let cases: &[(u8, &str, u8, usize)] = &[
        (10, "a zzsecond zzlewd", 0, 0),
        (20, "a zzminor zzlewd thing", 1, 1),
        (11, "zzsecond", 1, 1),
        (10, "👶", 1, 1),
        (20, "👶", 0, 0),
        (15, "zzminor", 0, 0),
    ];
    for (kind, prompt, suspicion, matches) in cases {
        let verdict = set().judge_by(*kind, prompt);
        let found = (verdict.suspicion, verdict.matches.len());
        assert_eq!(found, (*suspicion, *matches), "{kind} {prompt}");
    }
}

#[test]
fn emoji_of_people_never_count_for_the_second_context() {
    let filters = [filter(20, "baby|boy|child", "")];
    let set = FilterSet::compile(&filters, Arc::new(Terms::embedded())).unwrap();
    for emoji in ["👶", "👦🏽", "👨‍👩‍👧", "🧒🍼"] {
        assert_eq!(set.judge(emoji).suspicion, 1, "{emoji}");
    }
}

#[test]
fn nothing_without_filters() {
    let set = FilterSet::default();
    assert_eq!(set.judge("zzminor zzlewd 👶"), Verdict::default());
    assert_eq!(set.rule_image(&case("zzminor zzlewd")), Ruling::Clean);
}

#[test]
fn expressions_stand_for_themselves() {
    let filters = [
        filter(20, "first|second", ""),
        filter(20, "(?-i:Third)", ""),
        filter(20, r"(?<!not )fourth", ""),
        filter(20, r"\bfifth\b", ""),
    ];
    let set = FilterSet::compile(&filters, Arc::default()).unwrap();
    let cases = [
        ("the second one", true),
        ("Third", true),
        ("third", false),
        ("the FOURTH", true),
        ("not fourth", false),
        ("fifth", true),
        ("fifths", false),
    ];
    for (prompt, found) in cases {
        assert_eq!(set.judge(prompt).suspicion == 1, found, "{prompt}");
    }
    assert_eq!(set.judge("not fourth, fourth, first").matches, ["fourth"]);
    let joined: Vec<(u8, &str)> = set.regexes().collect();
    let text = r"first|second|(?-i:Third)|(?<!not )fourth|\bfifth\b";
    assert_eq!(joined, [(20, text)]);
}

#[test]
fn useless_and_hostile_expressions_are_refused() {
    let long = "x".repeat(MAX_REGEX_CHARS + 1);
    let cases = [
        "(",
        ")",
        "a)|(b",
        "[",
        "*",
        "",
        "a*",
        "|",
        r"\1",
        "(?=",
        &long,
        r"(\w{500}){500}",
        "x{1000000}",
        r"(?R)",
    ];
    for regex in cases {
        let shown: String = regex.chars().take(20).collect();
        assert!(FilterSet::check(regex).is_err(), "{shown}");
        let compiled = FilterSet::compile(&[filter(10, regex, "")], Arc::default());
        assert!(compiled.is_err(), "{shown}");
    }
    let fits = "x".repeat(MAX_REGEX_CHARS);
    assert!(FilterSet::check(&fits).is_ok());
    let too_many = vec![filter(20, "a", ""); MAX_FILTERS + 1];
    let refused = FilterSet::compile(&too_many, Arc::default()).unwrap_err();
    assert_eq!(refused, FilterError::TooMany(MAX_FILTERS + 1));
    let twice = [filter(20, "(?P<x>a)", ""), filter(20, "(?P<x>b)", "")];
    let refused = FilterSet::compile(&twice, Arc::default()).unwrap_err();
    assert!(matches!(refused, FilterError::Together { kind: 20, .. }));
}

#[test]
fn an_expression_that_tries_for_ever_gives_up() {
    let set = FilterSet::compile(&[filter(20, r"(x+x+)+(?=y)", "")], Arc::default()).unwrap();
    assert_eq!(set.judge(&"x".repeat(5_000)).suspicion, 0);
    assert_eq!(set.judge("xxy").suspicion, 1);
}

fn case(prompt: &str) -> Case<'_> {
    Case {
        prompt,
        may_rewrite: true,
        is_flagged: false,
        is_nsfw_model: false,
    }
}

/// The ruling in a word, and what comes out.
fn show(ruling: Ruling) -> String {
    let code = |refusal: Refusal| refusal.code.name();
    match ruling {
        Ruling::Clean => "clean".to_owned(),
        Ruling::Rewritten(prompt) => prompt,
        Ruling::Refused(refusal) => format!("refused {}", code(refusal)),
        Ruling::Corrupt(refusal) => format!("corrupt {}", code(refusal)),
    }
}

const NEGATIVES: &str = "###child, infant, underage, teenager, immature";

#[test]
fn corrupt_pictures_are_rewritten_or_refused() {
    let long = format!("zzminor zzlewd {}", "word ".repeat(1_500));
    let huge = "x".repeat(MAX_SCANNED_BYTES + 1);
    let cases = [
        ("a zzminor thing", true, "clean".to_owned()),
        ("a zzminor thing", false, "clean".to_owned()),
        (
            "a (zzminor:1.1), z z l e w d thing",
            true,
            format!("a zzadult zzlewd thing{NEGATIVES}"),
        ),
        (
            "a zzminor zzlewd### blur ",
            true,
            format!("a zzadult zzlewd{NEGATIVES}, blur"),
        ),
        (
            "a zzminor zzlewd",
            false,
            "corrupt CorruptPrompt".to_owned(),
        ),
        (&long, true, "refused BadRequest".to_owned()),
        (&long, false, "corrupt CorruptPrompt".to_owned()),
        (&huge, true, "refused InvalidPromptSize".to_owned()),
    ];
    for (prompt, may_rewrite, expected) in cases {
        let case = Case {
            may_rewrite,
            ..case(prompt)
        };
        let shown: String = prompt.chars().take(40).collect();
        assert_eq!(show(set().rule_image(&case)), expected, "{shown}");
    }
}

#[test]
fn what_is_rewritten_to_nothing_is_corrupt() {
    let filters = [filter(10, "zz[a-z]+", ""), filter(20, "zzlewd", "")];
    let set = FilterSet::compile(&filters, Arc::new(Terms::embedded())).unwrap();
    let ruling = set.rule_image(&case("zzminor zzlewd"));
    assert_eq!(show(ruling), "corrupt CorruptPrompt");
    let flagged = Case {
        is_flagged: true,
        ..case("zzminor")
    };
    assert_eq!(show(set.rule_image(&flagged)), "refused CorruptPrompt");
}

#[test]
fn prompts_of_flagged_users_and_for_nsfw_models_are_made_adult() {
    let adult = |words: &str| format!("{words}{NEGATIVES}");
    let cases = [
        ("a red circle", false, true, "clean".to_owned()),
        ("a red, red circle", true, false, adult("a red red circle")),
        ("a young girl", false, true, adult("a mature adult woman")),
        ("two Boys", true, true, adult("two adult man")),
        ("a zzminor thing", false, true, adult("a zzadult thing")),
        ("!!!", true, false, "refused CorruptPrompt".to_owned()),
    ];
    for (prompt, is_flagged, is_nsfw_model, expected) in cases {
        let case = Case {
            is_flagged,
            is_nsfw_model,
            may_rewrite: false,
            ..case(prompt)
        };
        assert_eq!(show(set().rule_image(&case)), expected, "{prompt}");
    }
}

#[test]
fn texts_are_rewritten_in_their_form_and_never_corrupt() {
    let cases = [
        ("a zzminor zzlewd thing", false, false, "clean"),
        (
            "### Story\nA young (very young) elf.",
            false,
            true,
            "### Story\nA mature (very mature) elf.",
        ),
        ("A dragon, 300 years old.", false, true, "clean"),
        (
            "A dragon, 300 years old.",
            true,
            false,
            "A dragon, 300 years old.",
        ),
        (
            "one y o u n g zzminor, or so",
            true,
            false,
            "one mature zzadult or so",
        ),
        ("  ", true, false, "refused CorruptPrompt"),
    ];
    for (prompt, is_flagged, is_nsfw_model, expected) in cases {
        let case = Case {
            is_flagged,
            is_nsfw_model,
            ..case(prompt)
        };
        assert_eq!(show(set().rule_text(&case)), expected, "{prompt}");
    }
}

#[test]
fn the_built_in_terms_can_be_read() {
    let terms = Terms::from_json(include_str!("terms.json")).unwrap();
    assert!(!terms.emoji().is_empty() && !terms.negatives().is_empty());
    // What comes out holds nothing that would be replaced again.
    let adult = terms.adult("a petite young teen girl, boy, child");
    assert_eq!(terms.adult(&adult), adult);
    assert!(!terms.names_youth(&adult), "{adult}");
    for wrong in [
        "",
        "5",
        r#"{"emojis": []}"#,
        r#"{"adult_terms": [{"regex": "(", "replacement": ""}]}"#,
    ] {
        assert!(Terms::from_json(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn replacements_cannot_blow_a_prompt_up() {
    let filters = [
        filter(10, "a", &"a".repeat(255)),
        filter(10, "aa", &"a".repeat(255)),
        filter(10, "aaa", &"a".repeat(255)),
        filter(20, "z", ""),
    ];
    let set = FilterSet::compile(&filters, Arc::default()).unwrap();
    let prompt = "a z ".repeat(1_500);
    assert_eq!(
        show(set.rule_image(&case(&prompt))),
        "corrupt CorruptPrompt"
    );
}

proptest! {
    #[test]
    fn any_text_can_be_written_plainly_and_stays_so(text in any::<String>()) {
        let plain = normalise(&text);
        prop_assert!(plain.chars().all(|c| c.is_ascii_alphanumeric() || c == ' '));
        prop_assert!(!plain.contains("  ") && plain.trim() == plain);
        prop_assert_eq!(normalise(&plain), plain);
    }

    #[test]
    fn ordinary_words_stay_as_they_are(words in proptest::collection::vec("[A-Za-z0-9]{2,8}", 0..8)) {
        let text = words.join(" ");
        prop_assert_eq!(normalise(&text), text);
    }

    #[test]
    fn no_prompt_panics(prompt in any::<String>(), may_rewrite: bool, is_flagged: bool, is_nsfw_model: bool) {
        let case = Case { prompt: &prompt, may_rewrite, is_flagged, is_nsfw_model };
        let set = set();
        if let Ruling::Rewritten(text) = set.rule_image(&case) {
            prop_assert!(!text.is_empty());
        }
        set.rule_text(&case);
    }

    #[test]
    fn no_expression_panics(regex in any::<String>(), prompt in ".{0,40}") {
        if let Ok(set) = FilterSet::compile(&[filter(10, &regex, "x")], Arc::default()) {
            set.judge(&prompt);
            set.rule_image(&Case { is_flagged: true, ..case(&prompt) });
        }
    }
}
