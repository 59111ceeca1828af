//! Which models a worker loads: names and meta instructions such as `top 5` or `all sdxl`, as exact set
//! algebra. Pure.
//!
//! Result = (names ∪ what instructions to load mean) − (names ∪ what instructions to skip mean), of
//! the models that are known. An entry that is exactly the name of a known model is that model.
//!
//! # Source
//! `worker.md` § 1.24.

use std::collections::{BTreeMap, BTreeSet};

use super::family::Family;
use super::record::Reference;

/// The retired beta of Stable Diffusion XL, which every worker skips.
const RETIRED: &str = "SDXL_beta::stability.ai#6901";

/// What an entry that is no name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Instruction {
    All,
    Top(usize),
    Bottom(usize),
    Of(Vec<Family>),
    Sfw,
    Nsfw,
    Inpainting,
    Fits,
}

/// Whether meta instructions may mean large models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Large {
    /// They may.
    Allowed,
    /// Only an explicit name may.
    LeftOut,
}

/// What instructions are judged by.
#[derive(Debug, Clone)]
pub struct Circumstances<'a> {
    /// The models that are known.
    pub reference: &'a Reference,
    /// Model → pictures within a month, if the horde said.
    pub usage: Option<&'a BTreeMap<String, u64>>,
    /// The memory of the card, in MB, if it is known.
    pub card_mb: Option<u64>,
    /// Whether instructions may mean large models.
    pub large: Large,
}

/// The models to load, and what could not be followed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Their names.
    pub models: BTreeSet<String>,
    /// Explicit names that no record knows.
    pub unknown: Vec<String>,
    /// What its owner should know.
    pub notes: Vec<String>,
}

/// Whether any entry needs to know how often models are used.
pub fn needs_usage(entries: &[String]) -> bool {
    entries.iter().any(|entry| {
        matches!(
            Instruction::parse(entry),
            Some(Instruction::Top(_) | Instruction::Bottom(_))
        )
    })
}

/// Whether any entry is more than a name.
pub fn has_instructions(entries: &[String]) -> bool {
    entries
        .iter()
        .any(|entry| Instruction::parse(entry).is_some())
}

/// The models that `load` and `skip` mean.
pub fn select(load: &[String], skip: &[String], world: &Circumstances<'_>) -> Selection {
    let mut selection = Selection::default();
    let loaded = world.meaning(load, &mut selection);
    let mut notes = Vec::new();
    std::mem::swap(&mut notes, &mut selection.notes);
    // A name to skip that is unknown skips nothing, and is nobody's mistake.
    let mut skipping = Selection::default();
    let mut skipped = world.meaning(skip, &mut skipping);
    skipped.insert(RETIRED.to_owned());
    notes.append(&mut skipping.notes);
    notes.sort();
    notes.dedup();
    selection.notes = notes;
    selection.models = loaded.difference(&skipped).cloned().collect();
    selection
}

impl Instruction {
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.to_lowercase();
        let mut words = entry.split_whitespace();
        let (first, second) = (words.next()?, words.next());
        match first {
            "top" => second?.parse().ok().map(Self::Top),
            "bottom" => second?.parse().ok().map(Self::Bottom),
            "fits" => second.is_none().then_some(Self::Fits),
            "all" => Self::all_of(second),
            _ => None,
        }
    }

    fn all_of(word: Option<&str>) -> Option<Self> {
        let Some(word) = word else {
            return Some(Self::All);
        };
        let families: &[Family] = match word {
            "model" | "models" | "model(s)" => return Some(Self::All),
            "sfw" => return Some(Self::Sfw),
            "nsfw" => return Some(Self::Nsfw),
            "inpainting" => return Some(Self::Inpainting),
            "sd15" => &[Family::StableDiffusion1],
            "sd21" => &[Family::StableDiffusion2, Family::StableDiffusion2Small],
            "sdxl" => &[Family::StableDiffusionXl],
            "cascade" => &[Family::StableCascade],
            "flux" => &[Family::Flux, Family::FluxSchnell, Family::FluxDev],
            "qwen" => &[Family::QwenImage],
            "zimage" => &[Family::ZImageTurbo],
            _ => return None,
        };
        Some(Self::Of(families.to_vec()))
    }
}

impl Circumstances<'_> {
    fn meaning(&self, entries: &[String], selection: &mut Selection) -> BTreeSet<String> {
        let mut meant = BTreeSet::new();
        for entry in entries.iter().map(|entry| entry.trim()) {
            if self.reference.records.contains_key(entry) {
                meant.insert(entry.to_owned());
            } else if let Some(instruction) = Instruction::parse(entry) {
                match self.follow(&instruction) {
                    Ok(mut models) => meant.append(&mut models),
                    Err(reason) => selection.notes.push(format!("`{entry}`: {reason}")),
                }
            } else if !entry.is_empty() {
                selection.unknown.push(entry.to_owned());
            }
        }
        meant
    }

    fn follow(&self, instruction: &Instruction) -> Result<BTreeSet<String>, &'static str> {
        let records = || {
            let all = self.reference.records.values();
            all.filter(|record| self.large == Large::Allowed || !record.family.is_large())
        };
        let names = |wanted: &dyn Fn(&super::record::Record) -> bool| {
            let found = records().filter(|record| wanted(record));
            found.map(|record| record.name.clone()).collect()
        };
        Ok(match instruction {
            Instruction::All => names(&|_| true),
            Instruction::Of(families) => names(&|record| families.contains(&record.family)),
            Instruction::Sfw => names(&|record| !record.nsfw),
            Instruction::Nsfw => names(&|record| record.nsfw),
            Instruction::Inpainting => names(&|record| record.inpainting),
            Instruction::Fits => {
                let card = self.card_mb.ok_or("the memory of the card is not known")?;
                names(&|record| record.family.min_card_mb() <= card)
            }
            Instruction::Top(count) => self.by_usage(&names(&|_| true), *count, Order::Most)?,
            Instruction::Bottom(count) => self.by_usage(&names(&|_| true), *count, Order::Least)?,
        })
    }

    /// The `count` most or least used of these. Equal ones come by name.
    fn by_usage(
        &self,
        known: &BTreeSet<String>,
        count: usize,
        order: Order,
    ) -> Result<BTreeSet<String>, &'static str> {
        let usage = self
            .usage
            .ok_or("the horde did not say how often models are used")?;
        let mut ranked: Vec<_> = usage
            .iter()
            .filter(|(name, _)| known.contains(*name))
            .map(|(name, times)| (*times, name))
            .collect();
        match order {
            Order::Most => ranked.sort_by(|(a, x), (b, y)| b.cmp(a).then(x.cmp(y))),
            Order::Least => ranked.sort(),
        }
        Ok(ranked
            .into_iter()
            .take(count)
            .map(|(_, name)| name.clone())
            .collect())
    }
}

#[derive(Debug, Clone, Copy)]
enum Order {
    Most,
    Least,
}

#[cfg(test)]
mod tests;
