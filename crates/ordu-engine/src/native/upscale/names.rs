//! The two namings of networks of the ESRGAN family, brought to one.
//!
//! New files name layers by what they do (`conv_first`, `body.0.rdb1.conv1`, `conv_up1`), old ones by
//! their place in a sequence (`model.0`, `model.1.sub.0.RDB1.conv1.0`, `model.3`). The canonical names
//! are the new ones.

use std::collections::BTreeMap;

use super::super::weights::{Entry, TensorFile, Weights};

/// What files put before all names. The averaged weights are the ones to use where both are there.
const WRAPPINGS: [&str; 4] = ["params_ema.", "params.", "module.", ""];

/// The tensors under canonical names; `None` if the file holds something else.
pub(super) fn canonical(file: &TensorFile) -> Option<Weights> {
    WRAPPINGS.iter().find_map(|wrapping| {
        let entries: BTreeMap<&str, &Entry> = file
            .entries()
            .filter_map(|(name, entry)| Some((name.strip_prefix(wrapping)?, entry)))
            .collect();
        if entries.contains_key("conv_first.weight") {
            let own = |(name, entry): (&str, &Entry)| (name.to_owned(), entry.clone());
            return Some(Weights::from_entries(entries.into_iter().map(own)));
        }
        entries
            .contains_key("model.1.sub.0.RDB1.conv1.0.weight")
            .then(|| from_places(&entries))
    })
}

/// From an old file. Names that follow no rule stay, and are found to be left over later.
fn from_places(entries: &BTreeMap<&str, &Entry>) -> Weights {
    let mut tail: Vec<u32> = entries
        .keys()
        .filter_map(|name| tail_place(name))
        .filter(|place| *place > 1)
        .collect();
    tail.sort_unstable();
    tail.dedup();
    let rename = |name: &str| -> Option<String> {
        let (place, kind) = name.rsplit_once('.')?;
        if let Some(inner) = place.strip_prefix("model.1.sub.") {
            return Some(match inner.strip_suffix(".0") {
                Some(block) if block.contains("RDB") => {
                    format!("body.{}.{kind}", block.replace("RDB", "rdb"))
                }
                _ => format!("conv_body.{kind}"),
            });
        }
        let number = tail_place(name)?;
        if number == 0 {
            return Some(format!("conv_first.{kind}"));
        }
        let index = tail.iter().position(|other| *other == number)?;
        Some(match tail.len() - index {
            1 => format!("conv_last.{kind}"),
            2 => format!("conv_hr.{kind}"),
            _ => format!("conv_up{}.{kind}", index + 1),
        })
    };
    Weights::from_entries(entries.iter().map(|(name, entry)| {
        let renamed = rename(name).unwrap_or_else(|| (*name).to_owned());
        (renamed, (*entry).clone())
    }))
}

/// The place of a layer that stands outside of the body: `3` of `model.3.weight`.
fn tail_place(name: &str) -> Option<u32> {
    let (place, _) = name.strip_prefix("model.")?.rsplit_once('.')?;
    place.parse().ok()
}
