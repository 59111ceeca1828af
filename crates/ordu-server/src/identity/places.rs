//! Where somebody may be sent back to after signing in: a path of ours, nothing else.

use url::Url;

/// The longest path that is remembered, in bytes; it travels in a cookie.
const MAX_BYTES: usize = 512;

/// A base that no real address has: what leaves it leads elsewhere.
const BASE: &str = "http://here.invalid/";

/// The local path that `wanted` means, with a query if it has one; `None` for everything else.
pub(crate) fn local_path(wanted: &str) -> Option<String> {
    let odd = |c: char| c.is_control() || c == '\\';
    if wanted.len() > MAX_BYTES || wanted.contains(odd) {
        return None;
    }
    let relative = wanted.strip_prefix('/').unwrap_or(wanted);
    if relative.starts_with('/') {
        return None;
    }
    let base = Url::parse(BASE).ok()?;
    let url = base.join(&format!("/{relative}")).ok()?;
    let is_local = url.origin() == base.origin() && Url::parse(relative).is_err();
    // A path such as `/a/..//b` comes out of the parser as `//b`, which is another host.
    let path = url.path();
    if !is_local || path.starts_with("//") {
        return None;
    }
    Some(match url.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::local_path;

    #[test]
    fn only_paths_of_ours_are_places_to_go_back_to() {
        for (wanted, path) in [
            ("transfer", "/transfer"),
            ("/transfer", "/transfer"),
            ("/", "/"),
            ("", "/"),
            ("account?a=b", "/account?a=b"),
            ("requests/x#y", "/requests/x"),
            ("a/../b", "/b"),
        ] {
            assert_eq!(local_path(wanted).as_deref(), Some(path), "{wanted}");
        }
        for foreign in [
            "//evil.example",
            "///evil.example",
            "https://evil.example/",
            "javascript:alert(1)",
            "/\\evil.example",
            "\\\\evil.example",
            "a/..//evil.example",
            "./..//evil.example",
            "a\r\nSet-Cookie: b=c",
            "\u{0}",
            "data:text/html,x",
        ] {
            assert_eq!(local_path(foreign), None, "{foreign}");
        }
        assert_eq!(local_path(&"a".repeat(600)), None);
    }
}
