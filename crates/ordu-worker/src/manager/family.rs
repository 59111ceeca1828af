//! The families of models: which add-ons fit which models, what is large, what a card must hold.
//!
//! # Source
//! `worker.md` § 1.20, 2.6, 3.2.

/// A family of models: same networks, exchangeable add-ons.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Stable Diffusion 1.x.
    StableDiffusion1,
    /// Stable Diffusion 2.x for 512 pixels.
    StableDiffusion2Small,
    /// Stable Diffusion 2.x for 768 pixels.
    StableDiffusion2,
    /// Stable Diffusion XL and its relatives.
    StableDiffusionXl,
    /// Stable Cascade.
    StableCascade,
    /// Flux.1 of no certain kind.
    Flux,
    /// Flux.1 Schnell.
    FluxSchnell,
    /// Flux.1 Dev.
    FluxDev,
    /// Qwen-Image.
    QwenImage,
    /// Z-Image-Turbo.
    ZImageTurbo,
    /// Another one, by its name.
    Other(String),
}

/// What people write → what they mean. Compared in lower case with `_` for every blank, hyphen and dot.
const NAMES: &[(&str, Family)] = &[
    ("stable_diffusion_1", Family::StableDiffusion1),
    ("sd1", Family::StableDiffusion1),
    ("sd15", Family::StableDiffusion1),
    ("sd1_5", Family::StableDiffusion1),
    ("sd_1_5", Family::StableDiffusion1),
    ("stable_diffusion_2", Family::StableDiffusion2),
    ("stable_diffusion_2_768", Family::StableDiffusion2),
    ("sd2", Family::StableDiffusion2),
    ("sd21", Family::StableDiffusion2),
    ("sd2_1", Family::StableDiffusion2),
    ("stable_diffusion_2_512", Family::StableDiffusion2Small),
    ("stable_diffusion_xl", Family::StableDiffusionXl),
    ("sdxl", Family::StableDiffusionXl),
    ("stable_cascade", Family::StableCascade),
    ("cascade", Family::StableCascade),
    ("flux_1", Family::Flux),
    ("flux", Family::Flux),
    ("flux_schnell", Family::FluxSchnell),
    ("flux_1_schnell", Family::FluxSchnell),
    ("flux_dev", Family::FluxDev),
    ("flux_1_dev", Family::FluxDev),
    ("qwen_image", Family::QwenImage),
    ("qwen", Family::QwenImage),
    ("z_image_turbo", Family::ZImageTurbo),
    ("z_image", Family::ZImageTurbo),
    ("zimage", Family::ZImageTurbo),
];

impl Family {
    /// The family of this name or alias.
    pub fn parse(text: &str) -> Self {
        let plain = text.trim().to_lowercase().replace([' ', '-', '.'], "_");
        let known = NAMES.iter().find(|(name, _)| *name == plain);
        known.map_or_else(
            || Self::Other(text.trim().to_owned()),
            |(_, family)| family.clone(),
        )
    }

    /// The public name.
    pub fn as_str(&self) -> &str {
        match self {
            Self::StableDiffusion1 => "stable_diffusion_1",
            Self::StableDiffusion2Small => "stable_diffusion_2_512",
            Self::StableDiffusion2 => "stable_diffusion_2_768",
            Self::StableDiffusionXl => "stable_diffusion_xl",
            Self::StableCascade => "stable_cascade",
            Self::Flux => "flux_1",
            Self::FluxSchnell => "flux_schnell",
            Self::FluxDev => "flux_dev",
            Self::QwenImage => "qwen_image",
            Self::ZImageTurbo => "z_image_turbo",
            Self::Other(name) => name,
        }
    }

    /// Whether meta instructions leave it out unless its owner allows large models.
    pub fn is_large(&self) -> bool {
        self.kind() == Some(Kind::Flux) || self.kind() == Some(Kind::Cascade)
    }

    /// The smallest card that runs it, in MB. Conservative.
    pub fn min_card_mb(&self) -> u64 {
        match self {
            Self::StableDiffusion1 | Self::StableDiffusion2Small => 4_000,
            Self::StableDiffusion2 => 5_000,
            Self::StableDiffusionXl => 8_000,
            Self::StableCascade | Self::Other(_) => 10_000,
            Self::Flux | Self::FluxSchnell | Self::FluxDev => 14_000,
            Self::QwenImage => 16_000,
            Self::ZImageTurbo => 12_000,
        }
    }

    /// Whether an add-on that CivitAI lists for `base_model` fits. What nobody knows counts as fitting.
    pub fn takes(&self, base_model: &str) -> bool {
        match (Kind::of_add_on(base_model), self.kind()) {
            (Some(add_on), Some(model)) => add_on == model,
            _ => true,
        }
    }

    fn kind(&self) -> Option<Kind> {
        Some(match self {
            Self::StableDiffusion1 => Kind::One,
            Self::StableDiffusion2Small | Self::StableDiffusion2 => Kind::Two,
            Self::StableDiffusionXl => Kind::Xl,
            Self::StableCascade => Kind::Cascade,
            Self::Flux | Self::FluxSchnell | Self::FluxDev => Kind::Flux,
            Self::QwenImage => Kind::Qwen,
            Self::ZImageTurbo => Kind::ZImage,
            Self::Other(_) => return None,
        })
    }
}

/// Families whose add-ons are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    One,
    Two,
    Xl,
    Cascade,
    Flux,
    Qwen,
    ZImage,
}

impl Kind {
    fn of_add_on(base_model: &str) -> Option<Self> {
        const STARTS: &[(&str, Kind)] = &[
            ("sdxl", Kind::Xl),
            ("sd 1", Kind::One),
            ("sd 2", Kind::Two),
            ("pony", Kind::Xl),
            ("illustrious", Kind::Xl),
            ("noobai", Kind::Xl),
            ("flux", Kind::Flux),
            ("qwen", Kind::Qwen),
            ("zimage", Kind::ZImage),
        ];
        let plain = base_model.trim().to_lowercase();
        let found = STARTS.iter().find(|(start, _)| plain.starts_with(start));
        found.map(|(_, kind)| *kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_of_all_times_are_read() {
        for (written, read) in [
            ("stable diffusion 1", "stable_diffusion_1"),
            ("SD1.5", "stable_diffusion_1"),
            ("stable diffusion 2", "stable_diffusion_2_768"),
            ("stable diffusion 2 512", "stable_diffusion_2_512"),
            ("SDXL", "stable_diffusion_xl"),
            ("stable cascade", "stable_cascade"),
            ("flux schnell", "flux_schnell"),
            ("flux_1", "flux_1"),
            ("Z-Image", "z_image_turbo"),
            ("brand new", "brand new"),
        ] {
            let family = Family::parse(written);
            assert_eq!(family.as_str(), read, "{written}");
            assert_eq!(Family::parse(family.as_str()), family, "{written}");
        }
    }

    #[test]
    fn add_ons_fit_their_own_family_and_strangers_fit_all() {
        let takes = |family: &str, base| Family::parse(family).takes(base);
        for (family, base, fits) in [
            ("sd15", "SD 1.5", true),
            ("sd15", "SD 1.5 LCM", true),
            ("sd15", "SDXL 1.0", false),
            ("sdxl", "Pony", true),
            ("sdxl", "Illustrious", true),
            ("sdxl", "NoobAI", true),
            ("sdxl", "SD 2.1", false),
            ("stable diffusion 2 512", "SD 2.1", true),
            ("flux dev", "Flux.1 S", true),
            ("stable cascade", "SDXL 1.0", false),
            ("qwen", "Qwen", true),
            ("zimage", "ZImageTurbo", true),
            ("sd15", "Other", true),
            ("brand new", "SD 1.5", true),
        ] {
            assert_eq!(takes(family, base), fits, "{family} {base}");
        }
    }
}
