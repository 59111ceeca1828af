//! A style on a request: what it replaces, what it keeps, how it writes prompts.

use proptest::prelude::*;

use super::*;

#[test]
fn prompts_are_put_where_the_template_says() {
    let cases = [
        // The example of the protocol.
        (
            "{p}, impasto impressionism###no blur, {np}",
            "robots###organic",
            "robots, impasto impressionism###no blur, organic",
        ),
        ("{p}{np}", "robots", "robots"),
        ("{p}{np}", "robots###organic", "robots###organic"),
        ("{p} {np}", "robots###", "robots "),
        ("{p}{np}", "robots###a###b", "robotsa###b"),
        ("{np}|{p}|{p}", "x###y", "###y|x|x"),
        ("{p} {other} {{p}} {np", "x", "x {other} {x} {np"),
        ("{p}", "{np}###{p}", "{np}"),
        ("no place", "x###y", "no place"),
        ("{", "x", "{"),
    ];
    for (template, prompt, filled) in cases {
        assert_eq!(fill(template, prompt), filled, "{template} with {prompt}");
    }
    assert_eq!(fill_text("Say {p}. {np}{x}", "hi###ho"), "Say hi###ho. {x}");
}

#[test]
fn a_style_wins_but_for_number_and_missing_size() {
    let style = ImageStyle {
        prompt: "{p}!{np}".to_owned(),
        params: ImageParams {
            sampler_name: Some("k_euler_a".to_owned()),
            width: Some(1024),
            ..ImageParams::default()
        },
        models: vec!["m".to_owned()],
    };
    let mut request = ImageRequest {
        prompt: "x###y".to_owned(),
        params: ImageParams {
            sampler_name: Some("k_euler".to_owned()),
            steps: Some(8),
            seed: Some("7".to_owned()),
            n: Some(3),
            width: Some(64),
            height: Some(128),
            ..ImageParams::default()
        },
        nsfw: false,
        ..ImageRequest::default()
    };
    style.apply(&mut request);
    let wanted = ImageParams {
        sampler_name: Some("k_euler_a".to_owned()),
        n: Some(3),
        width: Some(1024),
        height: Some(128),
        ..ImageParams::default()
    };
    assert_eq!(request.params, wanted);
    assert_eq!((request.prompt.as_str(), request.nsfw), ("x!###y", false));
    assert_eq!(request.models, ["m"]);
}

#[test]
fn a_style_for_texts_keeps_the_number_only() {
    let style = TextStyle {
        prompt: "Say {p}. {np}".to_owned(),
        params: TextParams {
            max_length: Some(40),
            ..TextParams::default()
        },
        models: vec!["m".to_owned()],
    };
    let mut request = TextRequest {
        prompt: "hi###ho".to_owned(),
        params: TextParams {
            n: Some(2),
            max_length: Some(80),
            max_context_length: Some(1024),
            ..TextParams::default()
        },
        ..TextRequest::default()
    };
    style.apply(&mut request);
    let wanted = TextParams {
        n: Some(2),
        max_length: Some(40),
        ..TextParams::default()
    };
    assert_eq!(
        (request.prompt.as_str(), request.params),
        ("Say hi###ho. ", wanted)
    );
    assert_eq!(request.models, ["m"]);
}

#[test]
fn names_say_where_to_look() {
    let owner = UserId::new(7);
    let (style, collection) = (Some(Category::Style), Some(Category::Collection));
    let cases = [
        ("a b", None, None, "a b"),
        ("style::a", style, None, "a"),
        ("collection::a", collection, None, "a"),
        ("x#7::a", None, owner, "a"),
        ("style::x#7::a", style, owner, "a"),
        ("collection::x#7::a", collection, owner, "a"),
        ("x#7::style::a", style, owner, "a"),
        ("x#y#7::collection::a", collection, owner, "a"),
        ("other::a", None, None, "other::a"),
        ("x::style::a", None, None, "x::style::a"),
        ("style::style::a", style, None, "style::a"),
        ("x#7::a::b", None, owner, "a::b"),
        ("x#7::style::a::b", style, owner, "a::b"),
        ("u::v#7::style::a", style, owner, "a"),
        ("a::style::b", None, None, "a::style::b"),
        ("x#::a", None, None, "x#::a"),
        ("::", None, None, "::"),
        ("", None, None, ""),
    ];
    for (text, category, owner, name) in cases {
        let name = name.to_owned();
        let wanted = Name {
            category,
            owner,
            name,
        };
        assert_eq!(Name::parse(text), wanted, "{text}");
    }
}

proptest! {
    /// What is not one of the two places comes out as it went in, whatever the prompt holds.
    #[test]
    fn everything_but_the_places_stays(
        texts in proptest::collection::vec("[^{}#]{0,6}|\\{x\\}|\\{\\{|\\}|np\\}", 1..5),
        places in proptest::collection::vec(prop_oneof![Just("{p}"), Just("{np}")], 1..5),
        positive in "[^#]{0,8}",
        negative in "[a-z{}]{1,8}",
    ) {
        let mut template = String::new();
        let mut wanted = String::new();
        for (index, text) in texts.iter().enumerate() {
            // An open brace before a place would read on into it.
            let text = text.trim_end_matches('{');
            template.push_str(text);
            wanted.push_str(text);
            let place = places[index % places.len()];
            template.push_str(place);
            if place == "{p}" {
                wanted.push_str(&positive);
            } else {
                wanted.push_str("###");
                wanted.push_str(&negative);
            }
        }
        let prompt = format!("{positive}###{negative}");
        prop_assert_eq!(fill(&template, &prompt), wanted);
    }

    /// What the horde prints leads back to what it was printed for.
    #[test]
    fn what_is_printed_is_read_again(
        user in "[^:]{0,12}|[a-z]{1,4}::[a-z]{1,4}",
        id in 0_i64..=UserId::MAX,
        name in "[^:]{1,20}|[a-z]::?[a-z]",
        is_style in any::<bool>(),
    ) {
        let category = if is_style { Category::Style } else { Category::Collection };
        let other = if is_style { Category::Collection } else { Category::Style };
        let read = Name::parse(&Name::print(category, &format!("{user}#{id}"), &name));
        let owner = UserId::new(id);
        prop_assert!(read.is_in(category) && !read.is_in(other));
        let wanted = Name { category: Some(category), owner, name: name.clone() };
        prop_assert_eq!(read, wanted);
        let bare = Name::parse(&name);
        prop_assert!(bare.is_in(category) && bare.is_in(other));
        prop_assert_eq!((bare.owner, bare.name), (None, name));
    }

    #[test]
    fn any_name_can_be_read(text in ".{0,40}") {
        let name = Name::parse(&text);
        prop_assert!(text.ends_with(&name.name));
    }
}
