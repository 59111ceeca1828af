//! What a ComfyUI has: classes of nodes and files, as `/object_info` lists them.

use std::collections::BTreeMap;

use serde_json::Value;

/// Endings that say how weights are stored, not what they are.
const STORAGE: [&str; 4] = ["_fp16", "-fp16", "_bf16", ".fp16"];

/// The classes of nodes and what their inputs may be chosen from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shelf {
    classes: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

impl Shelf {
    /// Reads `/object_info`. `None` if it is not one.
    #[must_use]
    pub(super) fn read(info: &Value) -> Option<Self> {
        let classes = info.as_object()?;
        let class = |(name, class): (&String, &Value)| {
            let groups = class.get("input")?.as_object()?.values();
            let inputs = groups.filter_map(Value::as_object).flatten();
            Some((name.clone(), inputs.filter_map(choices).collect()))
        };
        let classes: BTreeMap<_, _> = classes.iter().filter_map(class).collect();
        (!classes.is_empty()).then_some(Self { classes })
    }

    /// Whether there is a class of this name.
    pub(super) fn has(&self, class: &str) -> bool {
        self.classes.contains_key(class)
    }

    /// Whether there are all classes of these names.
    pub(super) fn has_all(&self, classes: &[&str]) -> bool {
        classes.iter().all(|class| self.has(class))
    }

    /// What an input may be chosen from; nothing if it is no choice or unknown.
    pub(super) fn choices(&self, class: &str, input: &str) -> &[String] {
        let inputs = self.classes.get(class);
        inputs
            .and_then(|inputs| inputs.get(input))
            .map_or(&[], Vec::as_slice)
    }

    /// The choice that is this file: the whole name, or the name without folders.
    pub(super) fn file<'a>(&'a self, class: &str, input: &str, file: &str) -> Option<&'a str> {
        let choices = self.choices(class, input).iter().map(String::as_str);
        let mut named = choices.filter(|known| base_name(known) == base_name(file));
        let first = named.next()?;
        Some(if first == file {
            first
        } else {
            named.find(|known| *known == file).unwrap_or(first)
        })
    }

    /// The file of one of these stems, the first that is there. How the weights are stored does not
    /// matter, nor does the case.
    pub(super) fn file_of_stem<'a>(
        &'a self,
        class: &str,
        input: &str,
        stems: &[&str],
    ) -> Option<&'a str> {
        let choices = self.choices(class, input);
        stems.iter().find_map(|stem| {
            let is_it = |file: &&String| pure_stem(file).eq_ignore_ascii_case(stem);
            choices.iter().find(is_it).map(String::as_str)
        })
    }
}

/// The values of an input that is a choice, in the old way of writing or the new one.
fn choices((name, input): (&String, &Value)) -> Option<(String, Vec<String>)> {
    let listed = match input.get(0)? {
        Value::Array(listed) => listed,
        _ => input.get(1)?.get("options")?.as_array()?,
    };
    let texts = listed.iter().filter_map(Value::as_str);
    Some((name.clone(), texts.map(str::to_owned).collect()))
}

/// The name of a file without its folders.
pub(super) fn base_name(file: &str) -> &str {
    file.rsplit(['/', '\\']).next().unwrap_or(file)
}

/// The name of a file without its folders and its extension.
pub(super) fn stem(file: &str) -> &str {
    let name = base_name(file);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

fn pure_stem(file: &str) -> &str {
    let stem = stem(file);
    STORAGE
        .iter()
        .find_map(|ending| stem.strip_suffix(ending))
        .unwrap_or(stem)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shelf() -> Shelf {
        let info = json!({
            "Old": {"input": {"required": {"file": [["a.pt", "sub/diff_x_FP16.safetensors", "sub/b_fp16.safetensors"], {}], "n": ["INT", {}]}}},
            "New": {"input": {"optional": {"file": ["COMBO", {"options": ["c.pth"]}]}}},
            "Odd": 7,
        });
        Shelf::read(&info).unwrap()
    }

    #[test]
    fn choices_are_read_in_both_ways_of_writing() {
        assert_eq!(shelf().choices("New", "file"), ["c.pth"]);
        assert_eq!(shelf().choices("Old", "n"), [""; 0]);
        assert!(shelf().has_all(&["Old", "New"]));
        assert!(!shelf().has("Odd"));
        assert_eq!(Shelf::read(&json!([])), None);
        assert_eq!(Shelf::read(&json!({"error": "x"})), None);
    }

    #[test]
    fn files_are_found_by_name_and_by_stem() {
        let shelf = shelf();
        assert_eq!(
            shelf.file("Old", "file", "b_fp16.safetensors"),
            Some("sub/b_fp16.safetensors")
        );
        assert_eq!(shelf.file("Old", "file", "b"), None);
        assert_eq!(
            shelf.file_of_stem("Old", "file", &["zzz", "b"]),
            Some("sub/b_fp16.safetensors")
        );
        assert_eq!(shelf.file_of_stem("New", "file", &["C"]), Some("c.pth"));
    }
}
