//! What an import reads out of texts of the old database, as fuzzing calls it.

use ordu_api::worker::WorkKind;

use crate::import::{accounts, styles};

/// Whether a text makes sense as parameters of a style, or as a record of an account.
pub fn import(text: &str) -> bool {
    let is_record = text
        .split_once(' ')
        .is_some_and(|(kind, record)| accounts::record_name(kind, record).is_some());
    let is_style = |kind| {
        let read = styles::params(kind, text);
        read.inspect(|read| assert!(styles::params(kind, read).is_ok(), "{read}"))
            .is_ok()
    };
    is_record | is_style(WorkKind::Image) | is_style(WorkKind::Text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_old_database_are_read() {
        for text in [r#"{"steps": 20, "width": null}"#, "USAGE image"] {
            assert!(import(text), "{text}");
        }
        for text in ["", "[", r#"{"steps": "many", "n": "most"}"#, "USAGE \0"] {
            assert!(!import(text), "{text}");
        }
    }
}
