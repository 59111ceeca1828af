//! What is done with finished pictures, and in which order.
//!
//! # Source
//! `worker.md` § 2.13.

/// One step after drawing.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[expect(missing_docs, reason = "the table below gives each its public name")]
pub enum PostProcessor {
    RealEsrganX4Plus,
    RealEsrganX2Plus,
    RealEsrganX4PlusAnime6B,
    NmkdSiax,
    AnimeSharp4x,
    Nomos8kSc4x,
    LsdirPlus4x,
    NomosWebPhoto4x,
    Nomos2Dysample4x,
    Nomos2HqDat4x,
    ModernSpanimation2x,
    Gfpgan,
    GfpganV13,
    CodeFormers,
    RestoreFormer,
    StripBackground,
}

/// What kind of step it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostKind {
    /// Makes each side so many times as long.
    Upscaler(u32),
    /// Mends faces.
    FaceFixer,
    /// Makes the background transparent.
    Background,
}

/// Each step: its public name, its kind, and the stem of the usual file of its weights.
const TABLE: [(PostProcessor, &str, PostKind, &str); 16] = {
    use PostKind::{Background, FaceFixer, Upscaler};
    use PostProcessor as P;
    [
        (
            P::RealEsrganX4Plus,
            "RealESRGAN_x4plus",
            Upscaler(4),
            "RealESRGAN_x4plus",
        ),
        (
            P::RealEsrganX2Plus,
            "RealESRGAN_x2plus",
            Upscaler(2),
            "RealESRGAN_x2plus",
        ),
        (
            P::RealEsrganX4PlusAnime6B,
            "RealESRGAN_x4plus_anime_6B",
            Upscaler(4),
            "RealESRGAN_x4plus_anime_6B",
        ),
        (P::NmkdSiax, "NMKD_Siax", Upscaler(4), "4x_NMKD-Siax_200k"),
        (
            P::AnimeSharp4x,
            "4x_AnimeSharp",
            Upscaler(4),
            "4x-AnimeSharp",
        ),
        (P::Nomos8kSc4x, "4xNomos8kSC", Upscaler(4), "4xNomos8kSC"),
        (P::LsdirPlus4x, "4xLSDIRplus", Upscaler(4), "4xLSDIRplus"),
        (
            P::NomosWebPhoto4x,
            "4xNomosWebPhoto_RealPLKSR",
            Upscaler(4),
            "4xNomosWebPhoto_RealPLKSR",
        ),
        (
            P::Nomos2Dysample4x,
            "4xNomos2_realplksr_dysample",
            Upscaler(4),
            "4xNomos2_realplksr_dysample",
        ),
        (
            P::Nomos2HqDat4x,
            "4xNomos2_hq_dat2",
            Upscaler(4),
            "4xNomos2_hq_dat2",
        ),
        (
            P::ModernSpanimation2x,
            "2xModernSpanimationV1",
            Upscaler(2),
            "2x_ModernSpanimationV1",
        ),
        (P::Gfpgan, "GFPGAN", FaceFixer, "GFPGANv1.4"),
        (P::GfpganV13, "GFPGANv1.3", FaceFixer, "GFPGANv1.3"),
        (P::CodeFormers, "CodeFormers", FaceFixer, "codeformer"),
        (
            P::RestoreFormer,
            "RestoreFormer",
            FaceFixer,
            "RestoreFormer",
        ),
        (P::StripBackground, "strip_background", Background, ""),
    ]
};

impl PostProcessor {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }

    /// The step of a public name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    fn row(self) -> &'static (Self, &'static str, PostKind, &'static str) {
        TABLE.iter().find(|row| row.0 == self).unwrap_or(&TABLE[0])
    }

    /// Its public name.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// What kind of step it is.
    pub fn kind(self) -> PostKind {
        self.row().2
    }

    /// The stem of the file that its weights are usually in; empty if it has none of its own.
    pub fn file_stem(self) -> &'static str {
        self.row().3
    }
}

/// The order in which steps are done: as asked, but face fixers behind all others, since enlarging a
/// mended face brings nothing back, and the background at the very end, since fixers know no
/// transparency.
#[must_use]
pub fn ordered(asked: &[PostProcessor]) -> Vec<PostProcessor> {
    let mut steps = asked.to_vec();
    steps.sort_by_key(|step| match step.kind() {
        PostKind::Upscaler(_) => 0,
        PostKind::FaceFixer => 1,
        PostKind::Background => 2,
    });
    steps
}

/// How many times longer than drawn a side is after these steps.
#[must_use]
pub fn factor(steps: &[PostProcessor]) -> u32 {
    steps.iter().fold(1, |factor: u32, step| match step.kind() {
        PostKind::Upscaler(by) => factor.saturating_mul(by),
        _ => factor,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_step() {
        for step in PostProcessor::all() {
            assert_eq!(PostProcessor::from_name(step.name()), Some(step));
        }
        assert_eq!(PostProcessor::from_name("no such"), None);
    }

    #[test]
    fn fixers_come_behind_and_the_background_last() {
        use PostProcessor as P;
        let asked = [
            P::StripBackground,
            P::RestoreFormer,
            P::NmkdSiax,
            P::GfpganV13,
        ];
        let expected = [
            P::NmkdSiax,
            P::RestoreFormer,
            P::GfpganV13,
            P::StripBackground,
        ];
        assert_eq!(ordered(&asked), expected);
        assert_eq!(factor(&expected), 4);
        assert_eq!(factor(&[]), 1);
    }
}
