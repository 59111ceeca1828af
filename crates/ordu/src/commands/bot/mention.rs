//! What a mention asks for: its text without HTML and handles, and the options in it. Pure.

use crate::cli::{Size, parse_size};

/// How to talk to the bot.
const HELP: &str =
    "Tell me what to draw, such as: a lighthouse in a storm --size 768x512 --style STYLE";

/// What somebody wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) prompt: String,
    pub(super) style: Option<String>,
    pub(super) size: Option<Size>,
}

/// Reads the HTML of a mention; what cannot be read is told in words for who wrote it.
pub(super) fn read(html: &str) -> Result<Wish, String> {
    let text = plain(html);
    let mut words = text.split_whitespace().filter(|word| !is_handle(word));
    let mut wish = Wish {
        prompt: String::new(),
        style: None,
        size: None,
    };
    while let Some(word) = words.next() {
        let Some(option) = option(word) else {
            if !wish.prompt.is_empty() {
                wish.prompt.push(' ');
            }
            wish.prompt.push_str(word);
            continue;
        };
        let (name, given) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        if !matches!(name, "style" | "size") {
            return Err(format!("I do not know `--{name}`. {HELP}"));
        }
        let first = given.or_else(|| words.next()).unwrap_or_default();
        let value = quoted(first, &mut words);
        if value.is_empty() {
            return Err(format!("`--{name}` needs a value. {HELP}"));
        }
        match name {
            "style" => wish.style = Some(value),
            _ => wish.size = Some(parse_size(&value).map_err(|wrong| format!("{wrong}. {HELP}"))?),
        }
    }
    if wish.prompt.is_empty() {
        return Err(HELP.to_owned());
    }
    Ok(wish)
}

/// The name of an account: `@name` or `@name@server`.
fn is_handle(word: &str) -> bool {
    let name = word.strip_prefix('@').unwrap_or_default();
    name.starts_with(|first: char| first.is_alphanumeric() || first == '_')
}

/// The name of an option. Telephones like to make one dash of two.
fn option(word: &str) -> Option<&str> {
    let name = word
        .strip_prefix("--")
        .or_else(|| word.strip_prefix(['—', '–']))?;
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        .then_some(name)
}

/// A value that may be several words between quotes.
fn quoted<'a>(first: &str, words: &mut impl Iterator<Item = &'a str>) -> String {
    const OPEN: [char; 3] = ['"', '“', '„'];
    const CLOSE: [char; 2] = ['"', '”'];
    let Some(start) = first.strip_prefix(OPEN) else {
        return first.to_owned();
    };
    let mut value = start.to_owned();
    while !value.ends_with(CLOSE) {
        let Some(word) = words.next() else { break };
        value.push(' ');
        value.push_str(word);
    }
    value.trim_end_matches(CLOSE).to_owned()
}

/// The text of HTML as Mastodon makes it.
fn plain(html: &str) -> String {
    let mut text = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(start) = rest.find(['<', '&']) {
        let (before, from) = rest.split_at(start);
        text.push_str(before);
        let (read, length) = if from.starts_with('<') {
            tag(from)
        } else {
            entity(from)
        };
        text.push_str(&read);
        rest = from.get(length..).unwrap_or_default();
    }
    text.push_str(rest);
    text
}

/// What a tag stands for, and how long it is.
fn tag(from: &str) -> (String, usize) {
    let Some(end) = from.find('>') else {
        return (String::new(), from.len());
    };
    let name = from.get(1..end).unwrap_or_default().to_ascii_lowercase();
    let breaks = name.starts_with("br") || name.starts_with("/p") || name.starts_with("/li");
    (if breaks { "\n" } else { "" }.to_owned(), end + 1)
}

/// What an entity stands for, and how long it is.
fn entity(from: &str) -> (String, usize) {
    const LONGEST: usize = 12;
    let end = from
        .char_indices()
        .take(LONGEST)
        .find(|(_, character)| *character == ';');
    let Some((end, _)) = end else {
        return ("&".to_owned(), 1);
    };
    let name = from.get(1..end).unwrap_or_default();
    let number = name.strip_prefix('#').and_then(|number| {
        let hexadecimal = number.strip_prefix(['x', 'X']);
        let code = match hexadecimal {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => number.parse(),
        };
        char::from_u32(code.ok()?)
    });
    let read = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        _ => match number {
            Some(character) => character,
            None => return ("&".to_owned(), 1),
        },
    };
    (read.to_string(), end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(prompt: &str, style: Option<&str>, size: Option<(u32, u32)>) -> Wish {
        Wish {
            prompt: prompt.to_owned(),
            style: style.map(str::to_owned),
            size: size.map(|(width, height)| Size { width, height }),
        }
    }

    #[test]
    fn a_mention_is_a_wish() {
        let html = "<p><span class=\"h-card\" translate=\"no\"><a href=\"https://a.example/@bot\" \
                    class=\"u-url mention\">@<span>bot</span></a></span> a caf&eacute; &amp; a cat<br />in \
                    &quot;oil&quot; @friend@b.example</p><p>5 &lt; 6 &#39;&#x1F600;</p>";
        let expected = "a caf&eacute; & a cat in \"oil\" 5 < 6 '😀";
        assert_eq!(read(html), Ok(wish(expected, None, None)));
        assert_eq!(
            read("@bot a --size 768x512 b --style=oil"),
            Ok(wish("a b", Some("oil"), Some((768, 512))))
        );
        assert_eq!(
            read("—style “my own style” a &amp;lt; - -- b"),
            Ok(wish("a &lt; - -- b", Some("my own style"), None))
        );
    }

    #[test]
    fn what_is_no_wish_is_told() {
        for (html, word) in [
            ("", "Tell me what to draw"),
            ("<p>@bot @other</p>", "Tell me what to draw"),
            ("a --steps 9", "I do not know `--steps`"),
            ("a --size", "needs a value"),
            ("a --size 65x64", "not a multiple of 64"),
            ("a --style", "needs a value"),
            ("<p unfinished", "Tell me"),
        ] {
            let told = read(html).unwrap_err();
            assert!(told.contains(word), "{html}: {told}");
        }
        assert_eq!(
            plain("a & b &x; &#0; &#99999999; é&"),
            "a & b &x; \0 &#99999999; é&"
        );
    }
}
