//! What a model is called.

use std::path::Path;

use super::gguf::Gguf;

/// The longest name that is believed, in characters. Longer ones are no names.
const MAX_NAME: usize = 100;

/// `organisation/name` from the metadata, as far as it says; else the name of the file.
///
/// Names with spaces are written with `-`, as the places where models are found do.
pub(super) fn of(file: &Gguf) -> String {
    let text = |key: &str| {
        let text = file.text(key)?.trim();
        let is_name = !text.is_empty() && text.chars().count() <= MAX_NAME;
        is_name.then(|| text.split_whitespace().collect::<Vec<_>>().join("-"))
    };
    let Some(name) = text("general.name") else {
        let stem = Path::new(file.name()).file_stem();
        return stem.map_or_else(
            || file.name().to_owned(),
            |stem| stem.to_string_lossy().into_owned(),
        );
    };
    match text("general.organization") {
        Some(organisation) if !name.contains('/') => format!("{organisation}/{name}"),
        _ => name,
    }
}
