//! The names of samplers and schedules.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A way to walk down the noise levels. Names are those of the k-diffusion family.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[expect(missing_docs, reason = "the table below gives each its public name")]
pub enum Sampler {
    #[default]
    Euler,
    EulerA,
    Heun,
    Dpm2,
    Dpm2A,
    Lms,
    DpmFast,
    DpmAdaptive,
    Dpmpp2sA,
    DpmppSde,
    Dpmpp2m,
    Ddim,
    Lcm,
    UniPc,
    UniPcBh2,
}

/// Every sampler and its public name. This table is the only place that knows it.
const TABLE: [(Sampler, &str); 15] = [
    (Sampler::Euler, "k_euler"),
    (Sampler::EulerA, "k_euler_a"),
    (Sampler::Heun, "k_heun"),
    (Sampler::Dpm2, "k_dpm_2"),
    (Sampler::Dpm2A, "k_dpm_2_a"),
    (Sampler::Lms, "k_lms"),
    (Sampler::DpmFast, "k_dpm_fast"),
    (Sampler::DpmAdaptive, "k_dpm_adaptive"),
    (Sampler::Dpmpp2sA, "k_dpmpp_2s_a"),
    (Sampler::DpmppSde, "k_dpmpp_sde"),
    (Sampler::Dpmpp2m, "k_dpmpp_2m"),
    (Sampler::Ddim, "DDIM"),
    (Sampler::Lcm, "lcm"),
    (Sampler::UniPc, "uni_pc"),
    (Sampler::UniPcBh2, "uni_pc_bh2"),
];

impl Sampler {
    /// All samplers that have a name.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }

    /// The sampler of a public name, in any case. `dpmsolver` is DPM++ 2M, `plms` and names unknown
    /// are Euler: a name never makes a task fail.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        if name.eq_ignore_ascii_case("dpmsolver") {
            return Self::Dpmpp2m;
        }
        TABLE
            .iter()
            .find(|row| row.1.eq_ignore_ascii_case(name))
            .map_or(Self::default(), |row| row.0)
    }

    /// Its public name.
    pub fn name(self) -> &'static str {
        TABLE
            .iter()
            .find(|row| row.0 == self)
            .map_or("k_euler", |row| row.1)
    }
}

impl fmt::Display for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How noise levels are spaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Schedule {
    /// Evenly in the time steps the model was trained on.
    #[default]
    Normal,
    /// Karras et al. (2022): denser at low noise.
    Karras,
}

impl Schedule {
    /// The schedule of a `karras` switch.
    #[must_use]
    pub fn from_karras(karras: bool) -> Self {
        if karras { Self::Karras } else { Self::Normal }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_case_and_never_fail() {
        assert_eq!(Sampler::from_name("K_Euler_A"), Sampler::EulerA);
        assert_eq!(Sampler::from_name("ddim"), Sampler::Ddim);
        assert_eq!(Sampler::from_name("dpmsolver"), Sampler::Dpmpp2m);
        assert_eq!(Sampler::from_name("plms"), Sampler::Euler);
        assert_eq!(Sampler::from_name("\u{1f600}"), Sampler::Euler);
    }

    #[test]
    fn each_sampler_is_in_the_table_once() {
        for sampler in Sampler::all() {
            assert_eq!(Sampler::from_name(sampler.name()), sampler);
        }
    }
}
