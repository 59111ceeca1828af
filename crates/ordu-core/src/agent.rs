//! Bridge agents: what a worker's software can do, told by its name and version.
//!
//! One table, because it is knowledge about other people's programs. A worker that declares its
//! capabilities itself is believed instead; see [`Agent::declared`].
//!
//! # Source
//! `generation.md` § 6.3, `worker.md` § 1.10.

use std::collections::BTreeSet;

use ordu_api::image::{POST_PROCESSORS, SAMPLERS};

/// Our own worker: it holds what it declares.
pub const OUR_AGENT: &str = "Ordu Worker";

const REGEN: &str = "AI Horde Worker reGen";
const CLASSIC: &str = "AI Horde Worker";
const WEBUI: &str = "SD-WebUI Stable Horde Worker Bridge";
const AUTO_WEB: &str = "HordeAutoWebBridge";

/// Agents that pass texts on as their backend wrote them.
const VALIDATED_BACKENDS: &[&str] = &[
    CLASSIC,
    "AI Horde Worker~aphrodite~oai",
    "AI Horde Worker~aphrodite~kai",
    "KoboldCppEmbedWorker",
    "TabbyAPI",
    OUR_AGENT,
];

/// The word of agents that steer by lines alone: an extension.
pub const CONTROLNET_LINES: &str = "controlnet_lines";

/// The control types that are lines.
pub const LINES: &[&str] = &["canny", "scribble"];

/// The word of text workers that look at the pictures of a request: an extension.
pub const VISION: &str = "vision";

/// The capability words that are not names of samplers or post-processors.
pub const CAPABILITIES: &[&str] = &[
    "img2img",
    "inpainting",
    "painting",
    "karras",
    "post-processing",
    "r2",
    "r2_source",
    "clip_skip",
    "controlnet",
    // Ours: of the control types `canny` and `scribble` alone.
    CONTROLNET_LINES,
    "return_control_map",
    "image_is_control",
    "hires_fix",
    "tiling",
    "lora",
    "textual_inversion",
    "lora_versions",
    "extra_source_images",
    "stable_cascade_2pass",
    "qr_code",
    "extra_texts",
    "workflow",
    "layer_diffuse",
    "flux",
    // Ours, of text workers.
    VISION,
];

/// From which major version on an agent has which capabilities.
type Since = (u64, &'static [&'static str]);

const CAPABILITIES_BY_AGENT: &[(&str, &[Since])] = &[
    (
        REGEN,
        &[
            (
                1,
                &[
                    "img2img",
                    "inpainting",
                    "karras",
                    "post-processing",
                    "r2",
                    "r2_source",
                    "clip_skip",
                    "controlnet",
                    "return_control_map",
                    "image_is_control",
                    "hires_fix",
                    "tiling",
                    "GFPGAN",
                    "RealESRGAN_x4plus",
                    "CodeFormers",
                    "strip_background",
                    "RealESRGAN_x4plus_anime_6B",
                    "NMKD_Siax",
                    "4x_AnimeSharp",
                    "RealESRGAN_x2plus",
                ],
            ),
            (2, &["lora", "textual_inversion"]),
            (3, &["lora_versions"]),
            (5, &["extra_source_images"]),
            (6, &["stable_cascade_2pass"]),
            (7, &["qr_code", "extra_texts", "workflow"]),
            (8, &["layer_diffuse"]),
            (9, &["flux"]),
            (
                13,
                &[
                    "4xNomos8kSC",
                    "4xLSDIRplus",
                    "4xNomosWebPhoto_RealPLKSR",
                    "4xNomos2_realplksr_dysample",
                    "4xNomos2_hq_dat2",
                    "2xModernSpanimationV1",
                    "GFPGANv1.3",
                    "RestoreFormer",
                ],
            ),
        ],
    ),
    (
        CLASSIC,
        &[
            (3, &["img2img"]),
            (4, &["inpainting"]),
            (6, &["karras"]),
            (7, &["post-processing", "GFPGAN", "RealESRGAN_x4plus"]),
            (8, &["r2"]),
            (9, &["CodeFormers"]),
            (13, &["hires_fix", "clip_skip"]),
            (14, &["r2_source"]),
            (15, &["controlnet"]),
            (
                18,
                &[
                    "strip_background",
                    "return_control_map",
                    "RealESRGAN_x4plus_anime_6B",
                ],
            ),
            (19, &["NMKD_Siax", "4x_AnimeSharp"]),
            (21, &["RealESRGAN_x2plus"]),
            (22, &["lora"]),
            (23, &["image_is_control"]),
            (24, &["textual_inversion"]),
        ],
    ),
    (
        WEBUI,
        &[
            (1, &["inpainting", "karras", "r2", "CodeFormers"]),
            (2, &["tiling"]),
            (3, &["r2_source"]),
            (4, &["clip_skip"]),
        ],
    ),
    (
        AUTO_WEB,
        &[(1, &["painting", "img2img", "karras"]), (2, &["tiling"])],
    ),
];

/// From which major version on an agent has which samplers: with the Karras schedule (and
/// without), and without it only.
type SamplersSince = (u64, &'static [&'static str], &'static [&'static str]);

const SAMPLERS_BY_AGENT: &[(&str, &[SamplersSince])] = &[
    (
        REGEN,
        &[
            (
                2,
                &[
                    "k_lms",
                    "k_heun",
                    "k_euler",
                    "k_euler_a",
                    "k_dpm_2",
                    "k_dpm_2_a",
                    "k_dpm_fast",
                    "k_dpm_adaptive",
                    "k_dpmpp_2s_a",
                    "k_dpmpp_2m",
                    "dpmsolver",
                    "k_dpmpp_sde",
                    "DDIM",
                ],
                &[],
            ),
            (3, &["lcm"], &[]),
        ],
    ),
    (
        CLASSIC,
        &[
            (
                11,
                &[
                    "k_lms",
                    "k_heun",
                    "k_euler",
                    "k_euler_a",
                    "k_dpm_2",
                    "k_dpm_2_a",
                    "k_dpm_fast",
                    "k_dpm_adaptive",
                    "k_dpmpp_2s_a",
                    "k_dpmpp_2m",
                    "dpmsolver",
                ],
                &[],
            ),
            (12, &["k_dpmpp_sde"], &[]),
            (17, &[], &["DDIM"]),
        ],
    ),
    (
        WEBUI,
        &[(
            1,
            &[
                "k_lms",
                "k_heun",
                "k_euler",
                "k_euler_a",
                "k_dpm_2",
                "k_dpm_2_a",
                "k_dpm_fast",
                "k_dpm_adaptive",
                "k_dpmpp_2s_a",
                "k_dpmpp_2m",
                "k_dpmpp_sde",
            ],
            &["DDIM"],
        )],
    ),
    (
        AUTO_WEB,
        &[(
            1,
            &[
                "k_lms",
                "k_dpm_2",
                "k_dpm_2_a",
                "k_dpmpp_2s_a",
                "k_dpmpp_2m",
                "dpmsolver",
            ],
            &[
                "k_heun",
                "k_euler",
                "k_euler_a",
                "k_dpm_fast",
                "k_dpm_adaptive",
            ],
        )],
    ),
];

/// The agent whose samplers stand in for those of an unknown one.
const UNKNOWN_SAMPLES_AS: (&str, u64) = (CLASSIC, 23);

/// A worker's software and what it can do, in the words of the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// As it names itself; `unknown` if that makes no sense.
    pub name: String,
    /// Its major version.
    pub major: u64,
    /// What it can do: capabilities and post-processors.
    pub abilities: BTreeSet<&'static str>,
    /// Samplers with the Karras schedule.
    pub karras_samplers: BTreeSet<&'static str>,
    /// Samplers without it.
    pub plain_samplers: BTreeSet<&'static str>,
}

impl Agent {
    /// Judges an agent by what it calls itself, `name:version:contact`.
    pub fn parse(text: &str) -> Self {
        let (name, major) = split(text);
        let has_samplers = SAMPLERS_BY_AGENT.iter().any(|row| row.0 == name);
        let (sampler_name, sampler_major) = if has_samplers {
            (name, major)
        } else {
            UNKNOWN_SAMPLES_AS
        };
        let (karras, plain) = samplers(sampler_name, sampler_major);
        Self {
            name: name.to_owned(),
            major,
            abilities: capabilities(name, major),
            karras_samplers: karras,
            plain_samplers: plain,
        }
    }

    /// Believes an agent that says what it can do: capability words, samplers, post-processors.
    /// Words that nobody knows mean nothing. Samplers work with both schedules if `karras` is
    /// among the words, else without it only; an agent that names no sampler has all.
    pub fn declared(text: &str, words: &[String]) -> Self {
        let (name, major) = split(text);
        let samplers = match named(words, SAMPLERS) {
            none if none.is_empty() => SAMPLERS.iter().copied().collect(),
            some => some,
        };
        let mut abilities = named(words, CAPABILITIES);
        abilities.extend(named(words, POST_PROCESSORS));
        let karras = abilities.contains("karras");
        Self {
            name: name.to_owned(),
            major,
            karras_samplers: if karras {
                samplers.clone()
            } else {
                BTreeSet::new()
            },
            plain_samplers: samplers,
            abilities,
        }
    }

    /// Whether it is known to pass texts on as its backend wrote them.
    ///
    /// # Source
    /// `generation.md` § 6.3; our own worker is held for honest too.
    pub fn is_validated_backend(&self) -> bool {
        VALIDATED_BACKENDS.contains(&self.name.as_str())
    }

    /// Whether it has a capability or post-processor.
    pub fn can(&self, ability: &str) -> bool {
        self.abilities.contains(ability)
    }

    /// The share of a picture's kudos that its worker and owner get, in percent.
    ///
    /// Our own worker counts as official at any version.
    ///
    /// # Source
    /// `generation.md` § 6.3.
    pub fn reward_percent(&self) -> u8 {
        if self.name == OUR_AGENT {
            return 100;
        }
        let is_official = self.name == REGEN || self.name == CLASSIC;
        let newest = rows(&self.name).iter().map(|row| row.0).max().unwrap_or(0);
        match is_official {
            true if self.major >= newest => 100,
            true => 90,
            false => 75,
        }
    }
}

/// Name and major version of an agent; `unknown` and 0 if the version is none.
fn split(text: &str) -> (&str, u64) {
    let mut parts = text.splitn(3, ':');
    let name = parts.next().unwrap_or_default();
    match parts.next().and_then(major_version) {
        Some(major) if !name.is_empty() => (name, major),
        _ => ("unknown", 0),
    }
}

/// The major number of a semantic version whose minor and patch numbers may be left out.
fn major_version(text: &str) -> Option<u64> {
    let release = text.split(['-', '+']).next()?;
    let mut numbers = release.split('.');
    let major = number(numbers.next()?)?;
    let rest: Vec<Option<u64>> = numbers.map(number).collect();
    (rest.len() <= 2 && rest.iter().all(Option::is_some)).then_some(major)
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn rows(name: &str) -> &'static [Since] {
    CAPABILITIES_BY_AGENT
        .iter()
        .find(|row| row.0 == name)
        .map_or(&[], |row| row.1)
}

fn capabilities(name: &str, major: u64) -> BTreeSet<&'static str> {
    rows(name)
        .iter()
        .filter(|(since, _)| *since <= major)
        .flat_map(|(_, words)| words.iter().copied())
        .collect()
}

/// The samplers that an agent has with and without the Karras schedule.
fn samplers(name: &str, major: u64) -> (BTreeSet<&'static str>, BTreeSet<&'static str>) {
    let mut karras = BTreeSet::new();
    let mut plain = BTreeSet::new();
    let rows = SAMPLERS_BY_AGENT.iter().find(|row| row.0 == name);
    for (since, both, without) in rows.map_or(&[][..], |row| row.1) {
        if *since <= major {
            karras.extend(*both);
            plain.extend(*both);
            plain.extend(*without);
        }
    }
    (karras, plain)
}

/// Those of the known words that somebody named.
fn named(words: &[String], known: &[&'static str]) -> BTreeSet<&'static str> {
    let find = |word: &String| known.iter().copied().find(|known| known == word);
    words.iter().filter_map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_semantic_with_optional_tail() {
        let cases = [
            ("AI Horde Worker reGen:9.0.1-citests:x", REGEN, 9),
            ("AI Horde Worker:24:https://example.org", CLASSIC, 24),
            ("AI Horde Worker:1.0:x", CLASSIC, 1),
            ("AI Horde Worker:v1:x", "unknown", 0),
            ("AI Horde Worker:1.0.0.0:x", "unknown", 0),
            ("garbage", "unknown", 0),
            ("", "unknown", 0),
            (":1:x", "unknown", 0),
            ("Other:99:x", "Other", 99),
        ];
        for (text, name, major) in cases {
            let agent = Agent::parse(text);
            assert_eq!((agent.name.as_str(), agent.major), (name, major), "{text}");
        }
    }

    #[test]
    fn table_names_only_known_words() {
        for (_, rows) in CAPABILITIES_BY_AGENT {
            for word in rows.iter().flat_map(|row| row.1) {
                let known = CAPABILITIES.contains(word) || POST_PROCESSORS.contains(word);
                assert!(known, "{word}");
            }
        }
        for (_, rows) in SAMPLERS_BY_AGENT {
            for word in rows.iter().flat_map(|row| row.1.iter().chain(row.2)) {
                assert!(SAMPLERS.contains(word), "{word}");
            }
        }
    }

    #[test]
    fn abilities_come_with_versions() {
        let at = |version: u64| Agent::parse(&format!("AI Horde Worker reGen:{version}:x"));
        assert!(!at(1).can("lora") && at(2).can("lora"));
        assert!(!at(12).can("RestoreFormer") && at(13).can("RestoreFormer"));
        assert!(at(1).karras_samplers.is_empty());
        assert!(!at(2).karras_samplers.contains("lcm") && at(3).karras_samplers.contains("lcm"));
        let webui = Agent::parse("SD-WebUI Stable Horde Worker Bridge:3:x");
        assert!(!webui.karras_samplers.contains("DDIM") && webui.plain_samplers.contains("DDIM"));
        let unknown = Agent::parse("Other:99:x");
        assert!(unknown.abilities.is_empty() && unknown.karras_samplers.contains("k_dpmpp_sde"));
    }

    #[test]
    fn declared_words_replace_the_table() {
        let words = ["r2", "karras", "k_euler", "teleport"].map(str::to_owned);
        let agent = Agent::declared("Ordu Worker:0.1.0:x", &words);
        assert!(agent.can("r2") && !agent.can("img2img") && !agent.can("teleport"));
        assert_eq!(agent.karras_samplers, BTreeSet::from(["k_euler"]));
        assert_eq!(agent.reward_percent(), 100);
    }

    #[test]
    fn official_and_current_agents_earn_most() {
        let cases = [
            ("AI Horde Worker reGen:13:x", 100),
            ("AI Horde Worker reGen:12.9:x", 90),
            ("AI Horde Worker:24:x", 100),
            ("AI Horde Worker:23:x", 90),
            ("SD-WebUI Stable Horde Worker Bridge:5:x", 75),
            ("garbage", 75),
        ];
        for (text, percent) in cases {
            assert_eq!(Agent::parse(text).reward_percent(), percent, "{text}");
        }
    }
}
