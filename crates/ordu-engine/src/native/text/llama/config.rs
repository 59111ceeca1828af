//! The numbers of a network, from the metadata of its file.

use super::super::gguf::{Gguf, Value};
use crate::EngineError;

/// What tells the members of the family apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::native::text) struct Family {
    /// What the file calls it.
    pub(super) name: &'static str,
    /// Which numbers of a head are turned together.
    pub(super) turns: Turns,
    /// Queries and keys are normalised, head by head.
    pub(super) has_head_norms: bool,
    /// How its layers differ from those of Llama.
    pub(super) habits: Habits,
}

/// What layers do besides what those of Llama do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Habits {
    /// Nothing.
    Llama,
    /// Those of Gemma 3: tokens are as long as the network is wide, what a layer adds is normalised
    /// before it is added, gates are GELUs, and of six layers five look at what is near only.
    Gemma,
}

/// What layers know of places that look at what is near only.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Near {
    /// How many tokens they look at, their own included.
    pub(super) window: usize,
    /// The base of their angles.
    pub(super) base: f64,
}

/// Of so many layers of Gemma 3 the last one looks at everything.
const GEMMA_PERIOD: usize = 6;
/// The base of the angles of the others.
const GEMMA_NEAR_BASE: f64 = 10_000.0;
/// The layers of the one Gemma 3 whose queries are measured by other heads than it has.
const GEMMA_LARGEST: usize = 62;

/// Which numbers of a head are turned together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turns {
    /// Each even one with the odd one behind it.
    Neighbours,
    /// Each of the first half with the one at the same place in the second.
    Halves,
}

const FAMILIES: [Family; 4] = [
    // Llama 1 to 3, Mistral and the many that were built like them.
    Family {
        name: "llama",
        turns: Turns::Neighbours,
        has_head_norms: false,
        habits: Habits::Llama,
    },
    Family {
        name: "qwen2",
        turns: Turns::Halves,
        has_head_norms: false,
        habits: Habits::Llama,
    },
    Family {
        name: "qwen3",
        turns: Turns::Halves,
        has_head_norms: true,
        habits: Habits::Llama,
    },
    Family {
        name: "gemma3",
        turns: Turns::Halves,
        has_head_norms: true,
        habits: Habits::Gemma,
    },
];

/// The numbers of a network.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::native::text) struct Config {
    pub(super) family: Family,
    pub(super) tokens: usize,
    pub(super) width: usize,
    pub(super) layers: usize,
    pub(super) forward: usize,
    pub(super) heads: usize,
    /// Heads that have keys and values of their own; each serves `heads / kv_heads` of the others.
    pub(super) kv_heads: usize,
    /// Numbers of one head.
    pub(super) head: usize,
    pub(super) epsilon: f32,
    /// The base of the angles by which places are told.
    pub(super) base: f64,
    /// By how much places are pressed together.
    pub(super) stretch: f64,
    /// For layers that do not look at everything.
    pub(super) near: Option<Near>,
    /// The longest text it was made for, in tokens.
    pub(in crate::native::text) context: usize,
}

impl Config {
    /// That of a file with so many tokens.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] for families that are not known, and for numbers that make no network.
    pub(in crate::native::text) fn of(file: &Gguf, tokens: usize) -> Result<Self, EngineError> {
        let name = file.text("general.architecture").unwrap_or_default();
        let Some(family) = FAMILIES.into_iter().find(|family| family.name == name) else {
            let known = FAMILIES.map(|family| family.name).join(", ");
            return Err(file.refuse(format!(
                "its architecture `{name}` is not known; known are {known}"
            )));
        };
        let read = Reader { file, family };
        read.refuse_unknown()?;
        let width = read.needed("embedding_length", 1..=65_536)?;
        let heads = read.needed("attention.head_count", 1..=1024)?;
        let kv_heads = read.or("attention.head_count_kv", 1..=1024, heads)?;
        let head = read.or("attention.key_length", 2..=1024, width / heads)?;
        let (base, stretch) = read.turning(head)?;
        let config = Self {
            family,
            tokens,
            width,
            layers: read.needed("block_count", 1..=512)?,
            forward: read.needed("feed_forward_length", 1..=1 << 20)?,
            heads,
            kv_heads,
            head,
            epsilon: read.epsilon()?,
            base,
            stretch,
            near: read.near()?,
            context: read.needed("context_length", 8..=1 << 27)?,
        };
        let value = read.or("attention.value_length", 2..=1024, head)?;
        if head % 2 != 0 || value != head || heads % kv_heads != 0 {
            return Err(file.refuse(format!(
                "{heads} heads of {head} numbers, {kv_heads} of them with values of {value} numbers"
            )));
        }
        Ok(config)
    }

    /// What a layer knows of places if it looks at what is near only.
    pub(super) fn near(&self, layer: usize) -> Option<Near> {
        self.near
            .filter(|_| !(layer + 1).is_multiple_of(GEMMA_PERIOD))
    }

    /// What queries are multiplied by.
    pub(super) fn query_scale(&self) -> f64 {
        let measured = match self.family.habits {
            Habits::Gemma if self.layers == GEMMA_LARGEST => self.width / self.heads,
            Habits::Gemma | Habits::Llama => self.head,
        };
        1.0 / (measured as f64).sqrt()
    }

    /// Bytes that each token of a text takes while it is written.
    pub(in crate::native::text) fn bytes_per_token(&self) -> u64 {
        let numbers = 2 * self.layers * self.kv_heads * self.head;
        (numbers * size_of::<f32>()) as u64
    }
}

struct Reader<'f> {
    file: &'f Gguf,
    family: Family,
}

impl Reader<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.family.name)
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.file.value(&self.key(name))
    }

    /// A number within a range; an error if it is missing.
    fn needed(
        &self,
        name: &str,
        range: std::ops::RangeInclusive<usize>,
    ) -> Result<usize, EngineError> {
        let key = self.key(name);
        let Some(value) = self.value(name) else {
            return Err(self.file.refuse(format!("`{key}` is missing")));
        };
        let number = value
            .as_number()
            .and_then(|number| usize::try_from(number).ok());
        match number {
            Some(number) if range.contains(&number) => Ok(number),
            Some(number) => Err(self.file.refuse(format!(
                "`{key}` is {number}; {} to {} are possible",
                range.start(),
                range.end()
            ))),
            None => Err(self.file.refuse(format!("`{key}` is no number"))),
        }
    }

    /// The same with a usual number.
    fn or(
        &self,
        name: &str,
        range: std::ops::RangeInclusive<usize>,
        usual: usize,
    ) -> Result<usize, EngineError> {
        match self.value(name) {
            Some(_) => self.needed(name, range),
            None => Ok(usual),
        }
    }

    fn real(&self, name: &str) -> Result<Option<f64>, EngineError> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        match value.as_real() {
            Some(real) if real.is_finite() && real > 0.0 => Ok(Some(real)),
            _ => Err(self
                .file
                .refuse(format!("`{}` is no number above 0", self.key(name)))),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "it is an f32 in files")]
    fn epsilon(&self) -> Result<f32, EngineError> {
        let epsilon = self.real("attention.layer_norm_rms_epsilon")?;
        Ok(epsilon.unwrap_or(1e-5) as f32)
    }

    /// How places are told: the base of the angles, and by how much they are pressed together.
    fn turning(&self, head: usize) -> Result<(f64, f64), EngineError> {
        let turned = self.or("rope.dimension_count", 2..=1024, head)?;
        if turned != head {
            return Err(self.file.refuse(format!(
                "`{}` is {turned} of {head}: turning a part of a head is not known",
                self.key("rope.dimension_count")
            )));
        }
        let kind = self.value("rope.scaling.type").and_then(Value::as_text);
        let stretch = match kind.unwrap_or("none") {
            "none" => 1.0,
            "linear" => self.real("rope.scaling.factor")?.unwrap_or(1.0),
            other => {
                return Err(self.file.refuse(format!(
                    "`{}` is `{other}`; `none` and `linear` are known",
                    self.key("rope.scaling.type")
                )));
            }
        };
        Ok((self.real("rope.freq_base")?.unwrap_or(10_000.0), stretch))
    }

    /// What layers know of places that look at what is near only.
    fn near(&self) -> Result<Option<Near>, EngineError> {
        let key = "attention.sliding_window";
        if self.family.habits != Habits::Gemma || self.value(key).is_none() {
            return Ok(None);
        }
        let window = self.needed(key, 0..=1 << 27)?;
        Ok((window > 0).then_some(Near {
            window,
            base: GEMMA_NEAR_BASE,
        }))
    }

    /// What would be computed wrongly if nobody looked.
    fn refuse_unknown(&self) -> Result<(), EngineError> {
        let count = |key: &str| self.file.number(key).unwrap_or_default();
        if count(&self.key("expert_count")) > 0 {
            return Err(self.file.refuse("mixtures of experts are not known"));
        }
        if self.value("final_logit_softcapping").is_some() {
            return Err(self.file.refuse("capped logits are not known"));
        }
        if count("split.count") > 1 {
            return Err(self
                .file
                .refuse("it is one part of several: join them to one file"));
        }
        Ok(())
    }
}
