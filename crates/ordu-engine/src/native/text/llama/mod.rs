//! Decoders of Llama's family: Llama, Mistral, Qwen 2 and 3, Gemma 3.
//!
//! Each layer: normalise, attend to what was before, add; normalise, gated feed-forward, add. Texts are
//! `[tokens, width]` in f32; weights stay as the file packs them and are multiplied packed.
//!
//! # Source
//! Touvron et al. 2023 ("LLaMA"), Ainslie et al. 2023 (grouped queries), Shazeer 2020 (gated units),
//! Zhang and Sennrich 2019 (root mean square), Yang et al. 2024 and 2025 (Qwen 2.5 and 3),
//! Gemma Team 2025 (Gemma 3).

mod config;
mod memory;
mod rows;
mod shapes;
mod turn;

use std::sync::Arc;

use candle_core::quantized::{QMatMul, QTensor};
use candle_core::{Device, Module, Tensor};
use candle_nn::ops::silu;

pub(super) use self::config::Config;
use self::config::Habits;
pub(super) use self::memory::Memory;
use self::rows::{norm, softmax};
use self::turn::{Angles, Turning};
use super::gguf::Gguf;
use crate::EngineError;

/// Scores of attention that are held at once: tokens times what they look at times heads.
const MAX_SCORES: usize = 16 << 20;
/// The largest matrix that is unpacked, in numbers.
const SMALL: usize = 1 << 18;
/// The most tokens that are read in one go.
const MAX_READ: usize = 512;

/// A network with its weights.
#[derive(Debug)]
pub(super) struct Decoder {
    config: Config,
    embedding: Arc<QTensor>,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    output: Linear,
    turning: Turning,
    /// Of layers that look at what is near only.
    turning_near: Option<Turning>,
}

#[derive(Debug)]
struct Layer {
    attention_norm: Vec<f32>,
    queries: Linear,
    keys: Linear,
    values: Linear,
    /// Of queries and keys.
    head_norms: Option<(Vec<f32>, Vec<f32>)>,
    mix: Linear,
    forward_norm: Vec<f32>,
    gate: Linear,
    up: Linear,
    down: Linear,
    /// Of what attention and feed-forward add.
    added_norms: Option<(Vec<f32>, Vec<f32>)>,
}

/// Looks whether a file has all that a network needs, without reading it.
///
/// # Errors
///
/// [`EngineError::BadModel`] that names what is wrong.
pub(super) fn check(file: &Gguf, config: &Config) -> Result<(), EngineError> {
    shapes::check(file, config)
}

impl Decoder {
    /// Copies the weights of a file that was [`check`]ed into memory.
    ///
    /// # Errors
    ///
    /// [`EngineError::Tensor`] if the tensor library refuses them.
    pub(super) fn load(file: &Gguf, config: &Config) -> Result<Self, EngineError> {
        let embedding = Arc::new(file.tensor("token_embd.weight")?);
        let output = match file.entry("output.weight") {
            Some(_) => Linear::load(file, "output")?,
            // What reads tokens writes them, too.
            None => Linear {
                weight: packed(Arc::clone(&embedding))?,
                bias: None,
            },
        };
        let slower = match file.entry("rope_freqs.weight") {
            Some(_) => Some(numbers(file, "rope_freqs.weight")?),
            None => None,
        };
        let layers = (0..config.layers).map(|layer| Layer::load(file, config, layer));
        Ok(Self {
            layers: layers.collect::<Result<_, _>>()?,
            norm: numbers(file, "output_norm.weight")?,
            turning: Turning::new(config, slower.as_deref()),
            turning_near: config.near.map(|near| Turning::near(config, near)),
            config: config.clone(),
            embedding,
            output,
        })
    }

    /// How many tokens to read in one go, behind so many others.
    pub(super) fn stride(&self, behind: usize) -> usize {
        let all = behind + MAX_READ;
        (MAX_SCORES / (all * self.config.heads)).clamp(1, MAX_READ)
    }

    /// Reads tokens behind those in `memory`, and returns what it makes of what comes next: a logit for
    /// each token there is. `go_on` is asked before each layer.
    ///
    /// # Errors
    ///
    /// [`EngineError::Cancelled`] if it must not go on, [`EngineError::Tensor`] for what should not
    /// happen, such as more tokens than `memory` has room for.
    pub(super) fn read(
        &self,
        tokens: &[u32],
        memory: &mut Memory,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Vec<f32>, EngineError> {
        let count = tokens.len();
        let ids = Tensor::new(tokens, &Device::Cpu)?;
        let mut x = self.embedding.embedding(&ids)?;
        if self.config.family.habits == Habits::Gemma {
            x = (x * (self.config.width as f64).sqrt())?;
        }
        let behind = memory.length;
        let angles = self.turning.angles(behind, count);
        let all = mask(count, behind, None)?;
        let near = match (self.config.near, &self.turning_near) {
            (Some(near), Some(turning)) => Some((
                turning.angles(behind, count),
                mask(count, behind, Some(near.window))?,
            )),
            _ => None,
        };
        for (place, layer) in self.layers.iter().enumerate() {
            if !go_on() {
                return Err(EngineError::Cancelled);
            }
            let (angles, mask) = match &near {
                Some((angles, mask)) if self.config.near(place).is_some() => (angles, mask),
                _ => (&angles, &all),
            };
            let look = Look {
                config: &self.config,
                angles,
                mask: mask.as_ref(),
                memory,
                layer: place,
            };
            x = layer.forward(&x, &look)?;
        }
        memory.length += count;
        let last = x.narrow(0, count - 1, 1)?.contiguous()?;
        let last = norm(&last, &self.norm, self.config.epsilon)?;
        Ok(self.output.forward(&last)?.flatten_all()?.to_vec1()?)
    }
}

/// What a layer needs to look back.
struct Look<'l> {
    config: &'l Config,
    angles: &'l Angles,
    mask: Option<&'l Tensor>,
    memory: &'l Memory,
    layer: usize,
}

impl Layer {
    fn load(file: &Gguf, config: &Config, layer: usize) -> Result<Self, EngineError> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let linear = |part: &str| Linear::load(file, &name(part));
        let norm = |part: &str| numbers(file, &name(part));
        let head_norms = if config.family.has_head_norms {
            Some((norm("attn_q_norm.weight")?, norm("attn_k_norm.weight")?))
        } else {
            None
        };
        let added_norms = match config.family.habits {
            Habits::Llama => None,
            Habits::Gemma => Some((
                norm("post_attention_norm.weight")?,
                norm("post_ffw_norm.weight")?,
            )),
        };
        Ok(Self {
            added_norms,
            attention_norm: norm("attn_norm.weight")?,
            queries: linear("attn_q")?,
            keys: linear("attn_k")?,
            values: linear("attn_v")?,
            head_norms,
            mix: linear("attn_output")?,
            forward_norm: norm("ffn_norm.weight")?,
            gate: linear("ffn_gate")?,
            up: linear("ffn_up")?,
            down: linear("ffn_down")?,
        })
    }

    fn forward(&self, x: &Tensor, look: &Look<'_>) -> candle_core::Result<Tensor> {
        let epsilon = look.config.epsilon;
        let h = norm(x, &self.attention_norm, epsilon)?;
        let mut added = self.mix.forward(&self.attend(&h, look)?)?;
        if let Some((of_attention, _)) = &self.added_norms {
            added = norm(&added, of_attention, epsilon)?;
        }
        let x = (x + added)?;
        let h = norm(&x, &self.forward_norm, epsilon)?;
        let gate = self.gate.forward(&h)?;
        let gate = match look.config.family.habits {
            Habits::Llama => silu(&gate)?,
            // The approximation by tanh.
            Habits::Gemma => gate.gelu()?,
        };
        let mut added = self.down.forward(&(gate * self.up.forward(&h)?)?)?;
        if let Some((_, of_forward)) = &self.added_norms {
            added = norm(&added, of_forward, epsilon)?;
        }
        x + added
    }

    /// What the tokens take from those before them: `[tokens, heads * head]`.
    fn attend(&self, h: &Tensor, look: &Look<'_>) -> candle_core::Result<Tensor> {
        let config = look.config;
        let count = h.dim(0)?;
        let split = |x: Tensor, heads: usize| {
            x.reshape((1, count, heads, config.head))?
                .transpose(1, 2)?
                .contiguous()
        };
        let mut q = split(self.queries.forward(h)?, config.heads)?;
        let mut k = split(self.keys.forward(h)?, config.kv_heads)?;
        let v = split(self.values.forward(h)?, config.kv_heads)?;
        if let Some((of_queries, of_keys)) = &self.head_norms {
            q = norm(&q, of_queries, config.epsilon)?;
            k = norm(&k, of_keys, config.epsilon)?;
        }
        let (q, k) = (look.angles.turn(&q)?, look.angles.turn(&k)?);
        let (k, v) = look.memory.extend(look.layer, &k, &v)?;
        // Heads that share keys are looked at as more tokens of one head.
        let shared = config.heads / config.kv_heads;
        let grouped = (1, config.kv_heads, shared * count, config.head);
        let q = (q * config.query_scale())?.reshape(grouped)?;
        let scores = q.matmul(&k.transpose(2, 3)?)?;
        let scores = match look.mask {
            None => scores,
            Some(mask) => {
                let all = k.dim(2)?;
                let apart = scores.reshape((config.kv_heads, shared, count, all))?;
                apart.broadcast_add(mask)?.reshape(scores.shape())?
            }
        };
        let mixed = softmax(&scores)?.matmul(&v)?;
        mixed
            .reshape((config.heads, count, config.head))?
            .transpose(0, 1)?
            .reshape((count, config.heads * config.head))
    }
}

/// What keeps tokens from looking ahead, and farther back than a window, `[tokens, all]`; nothing where
/// they may look at everything that there is.
fn mask(count: usize, behind: usize, window: Option<usize>) -> candle_core::Result<Option<Tensor>> {
    let all = behind + count;
    let window = window.unwrap_or(usize::MAX);
    if count == 1 && all <= window {
        return Ok(None);
    }
    let score = |is_seen: bool| if is_seen { 0.0 } else { f32::NEG_INFINITY };
    let row = |token: usize| {
        let own = behind + token;
        (0..all).map(move |place| score(place <= own && own - place < window))
    };
    let numbers: Vec<f32> = (0..count).flat_map(row).collect();
    Tensor::from_vec(numbers, (count, all), &Device::Cpu).map(Some)
}

/// A packed matrix, and what is added to its product.
#[derive(Debug)]
struct Linear {
    weight: QMatMul,
    bias: Option<Tensor>,
}

impl Linear {
    fn load(file: &Gguf, name: &str) -> Result<Self, EngineError> {
        let bias = format!("{name}.bias");
        Ok(Self {
            weight: packed(Arc::new(file.tensor(&format!("{name}.weight"))?))?,
            bias: match file.entry(&bias) {
                Some(_) => Some(vector(file, &bias)?),
                None => None,
            },
        })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = self.weight.forward(x)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

/// A matrix to multiply with: as it is packed, or unpacked if it is so small that the work is not worth
/// several threads, which the packed product always takes.
fn packed(weight: Arc<QTensor>) -> candle_core::Result<QMatMul> {
    if weight.shape().elem_count() <= SMALL {
        return weight.dequantize(&Device::Cpu).map(QMatMul::Tensor);
    }
    QMatMul::from_arc(weight)
}

/// A vector in f32.
fn numbers(file: &Gguf, name: &str) -> Result<Vec<f32>, EngineError> {
    Ok(vector(file, name)?.to_vec1()?)
}

/// The same as a tensor.
fn vector(file: &Gguf, name: &str) -> Result<Tensor, EngineError> {
    Ok(file.tensor(name)?.dequantize(&Device::Cpu)?)
}
