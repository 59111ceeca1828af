//! What a request needs of a worker and what a worker has, as bits, and what to say if one is
//! missing.
//!
//! Everything that is yes or no is one bit, so that a pop compares a request with a worker in a
//! few instructions. The bits live in memory only and may be renumbered at any time.
//!
//! # Source
//! `generation.md` § 6.6 (hard filters), § 6.7 (checks and reasons); `observed.md` 8, 9 (every
//! refusal names its reason, once).

use ordu_api::image::{POST_PROCESSORS, SAMPLERS};
use ordu_api::worker::{Skipped, WorkKind};

use crate::agent::VISION;

/// Why a waiting request was passed over, as a pop is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The worker has none of its models, or none that fits.
    Models,
    /// The request chose other workers.
    WorkerId,
    /// It has a source image.
    Img2img,
    /// It is in- or outpainting.
    Painting,
    /// It comes from an address that hides who is behind it.
    UnsafeIp,
    /// It may become NSFW.
    Nsfw,
    /// It needs LoRAs.
    Lora,
    /// It needs post-processing.
    PostProcessing,
    /// It needs `ControlNet`.
    Controlnet,
    /// The worker is too slow for it.
    Performance,
    /// The worker's owner is not trusted.
    Untrusted,
    /// The worker's software is too old for it, or not known to be able to.
    BridgeVersion,
    /// It is too large.
    MaxPixels,
    /// Its requester cannot pay upfront.
    Kudos,
    /// Its prompt contains a word that the worker refuses.
    Blacklist,
    /// It has too many steps.
    StepCount,
    /// Its text may be too long.
    MaxLength,
    /// Its context may be too long.
    MaxContextLength,
    /// The worker does not have its soft prompt.
    MatchingSoftprompt,
    /// Its picture is too large.
    MaxTiles,
    /// It brings pictures, and the worker looks at none. An extension.
    Vision,
}

impl Reason {
    /// All reasons.
    pub const ALL: &[Self] = &[
        Self::Models,
        Self::WorkerId,
        Self::Img2img,
        Self::Painting,
        Self::UnsafeIp,
        Self::Nsfw,
        Self::Lora,
        Self::PostProcessing,
        Self::Controlnet,
        Self::Performance,
        Self::Untrusted,
        Self::BridgeVersion,
        Self::MaxPixels,
        Self::Kudos,
        Self::Blacklist,
        Self::StepCount,
        Self::MaxLength,
        Self::MaxContextLength,
        Self::MatchingSoftprompt,
        Self::MaxTiles,
        Self::Vision,
    ];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Models => "models",
            Self::WorkerId => "worker_id",
            Self::Img2img => "img2img",
            Self::Painting => "painting",
            Self::UnsafeIp => "unsafe_ip",
            Self::Nsfw => "nsfw",
            Self::Lora => "lora",
            Self::PostProcessing => "post-processing",
            Self::Controlnet => "controlnet",
            Self::Performance => "performance",
            Self::Untrusted => "untrusted",
            Self::BridgeVersion => "bridge_version",
            Self::MaxPixels => "max_pixels",
            Self::Kudos => "kudos",
            Self::Blacklist => "blacklist",
            Self::StepCount => "step_count",
            Self::MaxLength => "max_length",
            Self::MaxContextLength => "max_context_length",
            Self::MatchingSoftprompt => "matching_softprompt",
            Self::MaxTiles => "max_tiles",
            Self::Vision => "vision",
        }
    }

    /// Whether an answer to an image pop names it even when it never applied.
    const fn is_always_named(self) -> bool {
        !matches!(
            self,
            Self::MaxPixels
                | Self::Kudos
                | Self::Blacklist
                | Self::StepCount
                | Self::MaxLength
                | Self::MaxContextLength
                | Self::MatchingSoftprompt
                | Self::MaxTiles
                | Self::Vision
        )
    }

    /// Whether a request that it keeps away is invisible to a worker of this kind, as if it did not
    /// wait at all. Image workers are told everything.
    ///
    /// # Source
    /// `generation.md` § 6.6 (hard filters), § 6.8 (what is told); the recorded scenario
    /// `text-pop/skipped`.
    const fn hides(self, kind: WorkKind) -> bool {
        let told = match kind {
            WorkKind::Image => return false,
            WorkKind::Text => matches!(
                self,
                Self::Nsfw | Self::Untrusted | Self::Kudos | Self::MatchingSoftprompt
            ),
            WorkKind::Interrogation => {
                matches!(self, Self::Untrusted | Self::WorkerId | Self::BridgeVersion)
            }
        };
        !told
    }
}

/// A set of reasons.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reasons(u32);

impl Reasons {
    pub(super) const fn add(&mut self, reason: Reason) {
        self.0 |= 1 << reason as u32;
    }

    pub(super) const fn add_all(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) const fn has(self, reason: Reason) -> bool {
        self.0 & 1 << reason as u32 != 0
    }

    /// Those that are in both.
    pub(super) const fn shared_with(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those that are not in the other.
    pub(super) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Their names on the wire.
    pub(super) fn names(self) -> impl Iterator<Item = &'static str> {
        let all = Reason::ALL.iter();
        all.filter(move |reason| self.has(**reason))
            .map(|reason| reason.name())
    }
}

/// How many waiting requests were passed over, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally([u64; Reason::ALL.len()]);

impl Tally {
    /// Counts so many requests once for each of the reasons, unless they are invisible.
    pub(super) fn add(&mut self, kind: WorkKind, reasons: Reasons, requests: u64) {
        let hides = |reason: &&Reason| reasons.has(**reason) && reason.hides(kind);
        if Reason::ALL.iter().any(|reason| hides(&reason)) {
            return;
        }
        for (reason, count) in Reason::ALL.iter().zip(&mut self.0) {
            if reasons.has(*reason) {
                *count += requests;
            }
        }
    }

    /// What the answer to an idle pop says.
    ///
    /// # Source
    /// `generation.md` § 6.8, Appendix B.
    pub(super) fn skipped(&self, kind: WorkKind) -> Skipped {
        let counts = Reason::ALL.iter().zip(&self.0);
        let named = counts.filter(|(reason, count)| {
            **count > 0 || kind == WorkKind::Image && reason.is_always_named()
        });
        named
            .map(|(reason, count)| (reason.name().to_owned(), *count))
            .collect()
    }
}

/// Needs that a worker declares, or that follow from its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Switch {
    Nsfw,
    TrustedOwner,
    Fast,
    /// Not extra slow.
    Prompt,
    UnsafeAddress,
    SourceImage,
    Painting,
    InpaintingModel,
    OrdinaryModel,
    PostProcessing,
    ControlNet,
    SdxlControlNet,
    Lora,
    ValidatedBackend,
}

const SWITCHES: &[Switch] = &[
    Switch::Nsfw,
    Switch::TrustedOwner,
    Switch::Fast,
    Switch::Prompt,
    Switch::UnsafeAddress,
    Switch::SourceImage,
    Switch::Painting,
    Switch::InpaintingModel,
    Switch::OrdinaryModel,
    Switch::PostProcessing,
    Switch::ControlNet,
    Switch::SdxlControlNet,
    Switch::Lora,
    Switch::ValidatedBackend,
];

impl Switch {
    const fn reason(self) -> Reason {
        match self {
            Self::Nsfw => Reason::Nsfw,
            Self::TrustedOwner => Reason::Untrusted,
            Self::Fast | Self::Prompt => Reason::Performance,
            Self::UnsafeAddress => Reason::UnsafeIp,
            Self::SourceImage => Reason::Img2img,
            Self::Painting => Reason::Painting,
            Self::InpaintingModel | Self::OrdinaryModel => Reason::Models,
            Self::PostProcessing => Reason::PostProcessing,
            Self::ControlNet | Self::SdxlControlNet => Reason::Controlnet,
            Self::Lora => Reason::Lora,
            Self::ValidatedBackend => Reason::BridgeVersion,
        }
    }
}

/// Control types that are no lines: who knows all types has it.
pub(super) const OTHER_CONTROLS: &str = "other controls";

/// Capabilities that a request may need, in the words of the protocol.
const ABILITIES: &[(&str, Reason)] = &[
    ("img2img", Reason::Img2img),
    ("inpainting", Reason::Painting),
    ("post-processing", Reason::BridgeVersion),
    ("r2", Reason::BridgeVersion),
    ("tiling", Reason::BridgeVersion),
    ("return_control_map", Reason::BridgeVersion),
    ("controlnet", Reason::BridgeVersion),
    (OTHER_CONTROLS, Reason::Controlnet),
    ("image_is_control", Reason::BridgeVersion),
    ("qr_code", Reason::BridgeVersion),
    ("hires_fix", Reason::BridgeVersion),
    ("clip_skip", Reason::BridgeVersion),
    ("lora", Reason::BridgeVersion),
    ("lora_versions", Reason::BridgeVersion),
    ("textual_inversion", Reason::BridgeVersion),
    ("layer_diffuse", Reason::BridgeVersion),
    ("extra_source_images", Reason::BridgeVersion),
    (VISION, Reason::Vision),
];

const FIRST_ABILITY: usize = 32;
const FIRST_POST_PROCESSOR: usize = 56;
const FIRST_KARRAS_SAMPLER: usize = 80;
const FIRST_PLAIN_SAMPLER: usize = 100;
/// What nobody has.
const NEVER: usize = 127;

/// The noise schedule that a sampler is used with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Schedule {
    Karras,
    Plain,
}

/// A set of needs, or of what fulfils them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Needs(u128);

impl Needs {
    /// The switches that are on.
    pub(super) fn of(switches: &[(bool, Switch)]) -> Self {
        let mut needs = Self::default();
        for (_, switch) in switches.iter().filter(|(is_on, _)| *is_on) {
            needs.switch(*switch);
        }
        needs
    }

    pub(super) const fn switch(&mut self, switch: Switch) {
        self.0 |= 1 << switch as u32;
    }

    pub(super) const fn switch_off(&mut self, switch: Switch) {
        self.0 &= !(1 << switch as u32);
    }

    /// Adds a capability, or a post-processor. A word that nobody knows is a need that nobody has.
    pub(super) fn ability(&mut self, word: &str) {
        self.set(ability_bit(word).unwrap_or(NEVER));
    }

    /// Adds what a worker has; words that no request needs are left out.
    pub(super) fn held_ability(&mut self, word: &str) {
        if let Some(bit) = ability_bit(word) {
            self.set(bit);
        }
    }

    pub(super) fn sampler(&mut self, name: &str, schedule: Schedule) {
        let first = match schedule {
            Schedule::Karras => FIRST_KARRAS_SAMPLER,
            Schedule::Plain => FIRST_PLAIN_SAMPLER,
        };
        let index = SAMPLERS.iter().position(|sampler| *sampler == name);
        self.set(index.map_or(NEVER, |index| first + index));
    }

    /// Whether a capability is among them.
    pub(super) fn has_ability(self, word: &str) -> bool {
        ability_bit(word).is_some_and(|bit| self.0 >> bit & 1 == 1)
    }

    /// What is needed and not held.
    pub(super) const fn missing_from(self, held: Self) -> Self {
        Self(self.0 & !held.0)
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The reasons to name when these are missing.
    pub(super) fn reasons(self) -> Reasons {
        let mut reasons = Reasons::default();
        let mut rest = self.0;
        while rest != 0 {
            let bit = rest.trailing_zeros() as usize;
            reasons.add(reason_of(bit));
            rest &= rest - 1;
        }
        reasons
    }

    const fn set(&mut self, bit: usize) {
        self.0 |= 1 << bit;
    }
}

fn ability_bit(word: &str) -> Option<usize> {
    let ability = ABILITIES.iter().position(|row| row.0 == word);
    let post_processor = || POST_PROCESSORS.iter().position(|name| *name == word);
    ability
        .map(|index| FIRST_ABILITY + index)
        .or_else(|| post_processor().map(|index| FIRST_POST_PROCESSOR + index))
}

fn reason_of(bit: usize) -> Reason {
    if let Some(switch) = SWITCHES.get(bit) {
        return switch.reason();
    }
    let ability = bit
        .checked_sub(FIRST_ABILITY)
        .and_then(|at| ABILITIES.get(at));
    ability.map_or(Reason::BridgeVersion, |row| row.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_do_not_overlap() {
        assert!(SWITCHES.len() <= FIRST_ABILITY);
        assert!(FIRST_ABILITY + ABILITIES.len() <= FIRST_POST_PROCESSOR);
        assert!(FIRST_POST_PROCESSOR + POST_PROCESSORS.len() <= FIRST_KARRAS_SAMPLER);
        assert!(FIRST_KARRAS_SAMPLER + SAMPLERS.len() <= FIRST_PLAIN_SAMPLER);
        assert!(FIRST_PLAIN_SAMPLER + SAMPLERS.len() <= NEVER);
        for (index, switch) in SWITCHES.iter().enumerate() {
            assert_eq!(*switch as usize, index);
        }
    }

    #[test]
    fn each_missing_thing_names_its_reason_once() {
        let mut needs = Needs::default();
        needs.switch(Switch::Lora);
        needs.ability("lora");
        needs.ability("tiling");
        needs.ability("wonder");
        needs.sampler("lcm", Schedule::Karras);
        let mut held = Needs::default();
        held.held_ability("lora");
        held.held_ability("r2_source");
        let missing = needs.missing_from(held).reasons();
        let named = Reason::ALL.iter().filter(|reason| missing.has(**reason));
        assert_eq!(named.count(), 2);
        assert!(missing.has(Reason::Lora) && missing.has(Reason::BridgeVersion));
    }

    #[test]
    fn image_answers_name_most_reasons_always() {
        let skipped = Tally::default().skipped(WorkKind::Image);
        assert_eq!(skipped.len(), 12);
        assert!(!skipped.contains_key("max_pixels"));
        assert!(Tally::default().skipped(WorkKind::Text).is_empty());
    }
}
