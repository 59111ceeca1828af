//! Instructions against a small reference, and the algebra on random lists.

use proptest::prelude::*;

use super::*;
use crate::manager::record::{Category, parse};

const LEGACY: &str = include_str!("../../../testdata/reference/stable_diffusion.json");

fn reference() -> Reference {
    parse(Category::ImageGeneration, LEGACY.as_bytes()).unwrap()
}

fn usage() -> BTreeMap<String, u64> {
    let counts = [
        ("Deliberate", 50),
        ("AlbedoBase XL (SDXL)", 90),
        ("Flux.1-Schnell fp8 (Compact)", 80),
        ("stable_diffusion", 50),
        ("Pony Diffusion XL", 3),
        ("gone", 1000),
        ("null", 2000),
    ];
    counts.map(|(name, times)| (name.to_owned(), times)).into()
}

fn list(entries: &[&str]) -> Vec<String> {
    entries.iter().map(|entry| (*entry).to_owned()).collect()
}

fn selected(load: &[&str], skip: &[&str], large: Large) -> Vec<String> {
    let (reference, usage) = (reference(), usage());
    let world = Circumstances {
        reference: &reference,
        usage: Some(&usage),
        card_mb: Some(8_000),
        large,
    };
    let selection = select(&list(load), &list(skip), &world);
    selection.models.into_iter().collect()
}

#[test]
fn each_instruction_means_what_it_says() {
    for (load, expected) in [
        ("Deliberate", &["Deliberate"][..]),
        ("TOP 1", &["AlbedoBase XL (SDXL)"]),
        ("top 2 models", &["AlbedoBase XL (SDXL)", "Deliberate"]),
        ("bottom 1", &["Pony Diffusion XL"]),
        ("all SD21 models", &["stable_diffusion_2.1"]),
        ("All inpainting", &["stable_diffusion_inpainting"]),
        (
            "all nsfw models",
            &["Anything Diffusion", "Pony Diffusion XL"],
        ),
        ("all qwen", &["Qwen-Image_fp8"]),
        ("all zimage", &["Z-Image-Turbo"]),
        ("all flux", &[]),
        ("all cascade", &[]),
        ("all in one", &[]),
        ("top of the world", &[]),
    ] {
        assert_eq!(selected(&[load], &[], Large::LeftOut), expected, "{load}");
    }
    assert_eq!(selected(&["all flux"], &[], Large::Allowed).len(), 1);
    assert_eq!(selected(&["all"], &[], Large::Allowed).len(), 14);
    assert_eq!(selected(&["all models"], &[], Large::LeftOut).len(), 12);
}

#[test]
fn what_fits_is_judged_by_the_card() {
    let fitting = selected(&["fits"], &[], Large::Allowed);
    assert!(fitting.contains(&"SDXL 1.0".to_owned()));
    assert!(!fitting.contains(&"Qwen-Image_fp8".to_owned()));
}

/// Checklist: two adjacent meta instructions both apply.
#[test]
fn adjacent_instructions_both_apply() {
    assert_eq!(
        selected(
            &["all sd21", "all inpainting", "top 1"],
            &[],
            Large::LeftOut
        ),
        [
            "AlbedoBase XL (SDXL)",
            "stable_diffusion_2.1",
            "stable_diffusion_inpainting"
        ]
    );
    let rest = selected(&["all"], &["all sd15", "all sdxl"], Large::LeftOut);
    assert_eq!(
        rest,
        ["Qwen-Image_fp8", "Z-Image-Turbo", "stable_diffusion_2.1"]
    );
}

#[test]
fn a_name_brings_a_large_model_and_a_skipped_one_is_not_replaced() {
    let flux = "Flux.1-Schnell fp8 (Compact)";
    assert_eq!(selected(&[flux], &[], Large::LeftOut), [flux]);
    assert_eq!(
        selected(&["top 2"], &["AlbedoBase XL (SDXL)"], Large::LeftOut),
        ["Deliberate"]
    );
}

#[test]
fn what_cannot_be_followed_is_told() {
    let reference = reference();
    let world = Circumstances {
        reference: &reference,
        usage: None,
        card_mb: None,
        large: Large::LeftOut,
    };
    let selection = select(
        &list(&["top 3", "fits", "Deliberate", "Typo"]),
        &list(&["Unheard"]),
        &world,
    );
    assert_eq!(selection.models.len(), 1);
    assert_eq!(selection.unknown, ["Typo"]);
    assert_eq!(selection.notes.len(), 2, "{:?}", selection.notes);
    assert!(needs_usage(&list(&["x", "Bottom 2"])) && !needs_usage(&list(&["all"])));
}

fn entries() -> impl Strategy<Value = Vec<String>> {
    let entry = prop::sample::select(vec![
        "all",
        "top 2",
        "bottom 3",
        "all sdxl",
        "all sd15",
        "all sd21",
        "all sfw",
        "all nsfw",
        "all inpainting",
        "all flux",
        "fits",
        "Deliberate",
        "SDXL 1.0",
        "unknown",
    ]);
    prop::collection::vec(entry.prop_map(str::to_owned), 0..6)
}

proptest! {
    /// Result = ⋃ load − ⋃ skip, entry by entry, in any order.
    #[test]
    fn lists_are_unions_and_skips_are_differences(load in entries(), skip in entries()) {
        let (reference, usage) = (reference(), usage());
        let world = Circumstances {
            reference: &reference, usage: Some(&usage), card_mb: Some(8_000), large: Large::LeftOut,
        };
        let alone = |entries: &[String]| -> BTreeSet<String> {
            let each = entries.iter().map(|entry| select(std::slice::from_ref(entry), &[], &world).models);
            each.flatten().collect()
        };
        let expected: BTreeSet<_> = alone(&load).difference(&alone(&skip)).cloned().collect();
        prop_assert_eq!(&select(&load, &skip, &world).models, &expected);
        let backwards: Vec<_> = load.iter().rev().cloned().collect();
        prop_assert_eq!(&select(&backwards, &skip, &world).models, &expected);
    }
}
