//! Text hygiene: what happens to names and notes before they are stored.

/// Tags that are harmless and kept.
const KEPT_TAGS: &[&str] = &[
    "a",
    "abbr",
    "acronym",
    "b",
    "blockquote",
    "code",
    "em",
    "i",
    "li",
    "ol",
    "strong",
    "ul",
];

/// Neutralises markup, drops NUL, trims.
///
/// # Source
/// `community.md` § 1.6. Tags of the harmless set are kept only without attributes.
pub(crate) fn clean(text: &str) -> String {
    let text = text.replace('\0', "");
    let mut out = String::with_capacity(text.len());
    let mut rest = text.trim();
    while let Some(c) = rest.chars().next() {
        if let Some(tag) = kept_tag(rest) {
            out.push_str(tag);
            rest = rest.get(tag.len()..).unwrap_or_default();
            continue;
        }
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' if !starts_with_entity(rest) => out.push_str("&amp;"),
            other => out.push(other),
        }
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
    }
    out
}

fn kept_tag(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('<')?;
    let end = inner.find('>')?;
    let name = inner.get(..end)?;
    let bare = name.strip_prefix('/').unwrap_or(name);
    KEPT_TAGS
        .contains(&bare)
        .then(|| text.get(..end + 2))
        .flatten()
}

fn starts_with_entity(text: &str) -> bool {
    ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"]
        .iter()
        .any(|entity| text.starts_with(entity))
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn markup_is_neutralised_and_harmless_tags_stay() {
        assert_eq!(clean("  a\0b "), "ab");
        assert_eq!(clean("<b>x</b>"), "<b>x</b>");
        assert_eq!(
            clean("<script>x</script>"),
            "&lt;script&gt;x&lt;/script&gt;"
        );
        assert_eq!(clean("<a href=x>"), "&lt;a href=x&gt;");
        assert_eq!(clean("a & b &amp; c < d"), "a &amp; b &amp; c &lt; d");
        assert_eq!(clean("héé<"), "héé&lt;");
    }
}
