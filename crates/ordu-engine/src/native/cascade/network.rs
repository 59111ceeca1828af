//! The diffusion network of Stable Cascade's stages C and B (Pernias et al. 2023, "Würstchen: An Efficient
//! Architecture for Large-Scale Text-to-Image Diffusion Models").
//!
//! Latents `[batch, channels, h, w]` → squares of pixels as one, channels last → levels of blocks down,
//! then up, each reading what came down → squares apart again. Stage C is told a text, its summary and
//! what is seen of pictures, as tokens; stage B the summary, and the latents of stage C as a picture.
//!
//! # Source
//! The paper; the names of tensors are those of the published single files, with queries, keys and values
//! apart; compared with diffusers' `StableCascadeUNet`.

use candle_core::{DType, Result, Tensor};

use super::block::{Block, EPSILON, Told, plain};
use super::config::{Change, Config, Kind, Level, Stage};
use super::grid::{first, gathered, last, resized, spread};
use crate::EngineError;
use crate::native::Compute;
use crate::native::ops::{Activation, LayerNorm, Linear};
use crate::native::weights::{Scope, Weights};

/// What a network is told beside latents and time, in its own numbers.
#[derive(Clone, Debug)]
pub struct Condition {
    /// `[batch, tokens, context]`.
    context: Tensor,
    /// Added to what goes in, `[batch, rows, columns, width]`.
    beside: Option<Tensor>,
}

impl Condition {
    /// Both, one batch behind the other; `None` if they are not equally long.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn join(&self, other: &Self) -> Result<Option<Self>> {
        if self.context.dims() != other.context.dims() {
            return Ok(None);
        }
        let beside = match (&self.beside, &other.beside) {
            (Some(one), Some(two)) => Some(Tensor::cat(&[one, two], 0)?),
            _ => None,
        };
        let context = Tensor::cat(&[&self.context, &other.context], 0)?;
        Ok(Some(Self { context, beside }))
    }
}

/// What stage C draws.
#[derive(Clone, Debug)]
pub struct Wish {
    /// `[1, tokens, width]`.
    pub text: Tensor,
    /// `[1, width]`.
    pub summary: Tensor,
    /// What is seen of pictures, each as strong as it counts, `[1, pictures, width]`. `None` is one
    /// picture of nothing.
    pub pictures: Option<Tensor>,
}

/// A diffusion network.
#[derive(Clone, Debug)]
pub struct Network {
    config: Config,
    compute: Compute,
    told: Mappers,
    into: Linear,
    into_norm: LayerNorm,
    down: Vec<Way>,
    up: Vec<Way>,
    out_norm: LayerNorm,
    out: Linear,
}

/// What turns what is told into numbers of the network.
#[derive(Clone, Debug)]
struct Mappers {
    summary: Linear,
    text_and_picture: Option<(Linear, Linear)>,
    hint: Option<Hint>,
    /// What there is beside where no pixels are told.
    no_pixels: Option<Tensor>,
    norm: LayerNorm,
}

/// Points of a picture, twice mapped and normalised.
#[derive(Clone, Debug)]
struct Hint {
    widen: Linear,
    narrow: Linear,
    norm: LayerNorm,
}

impl Hint {
    fn new(
        scope: &Scope<'_>,
        channels: usize,
        width: usize,
    ) -> std::result::Result<Self, EngineError> {
        Ok(Self {
            widen: Linear::new(&scope.sub(0), channels, 4 * width)?,
            narrow: Linear::new(&scope.sub(2), 4 * width, width)?,
            norm: plain(scope.compute(), width)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let wide = Activation::Gelu.apply(&self.widen.forward(x)?)?;
        self.norm.forward(&self.narrow.forward(&wide)?)
    }
}

/// Between one level and the next.
#[derive(Clone, Debug)]
enum Step {
    /// Points of one width to points of another.
    Points(Linear),
    /// Squares of four pixels to one.
    Halve(Linear),
    /// One pixel to a square of four.
    Double(Linear),
}

/// The blocks of one level on one of the two ways.
#[derive(Clone, Debug)]
struct Way {
    /// Before the blocks on the way down, behind them on the way up.
    change: Option<(LayerNorm, Step)>,
    blocks: Vec<Block>,
    /// Between one run of the blocks and the next.
    repeats: Vec<Linear>,
}

impl Network {
    /// Takes all tensors of the network.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] naming those that are missing, wrongly shaped or left over.
    pub fn new(
        weights: &Weights,
        config: &Config,
        compute: &Compute,
    ) -> std::result::Result<Self, EngineError> {
        let root = weights.root(compute);
        let Some(finest) = config.levels.first() else {
            return Err(EngineError::bad_model("stage", "it has no levels"));
        };
        let (width, square) = (finest.width, config.patch * config.patch);
        let count = config.levels.len();
        let latents = config.stage.channels() * square;
        let down = (0..count).map(|level| down(&root, config, level));
        let up = (0..count).rev().map(|level| up(&root, config, level));
        let network = Self {
            told: Mappers::new(&root, config, width)?,
            into: Linear::new(&root.sub("embedding").sub(1), latents, width)?,
            into_norm: plain(compute, width)?,
            down: down.collect::<std::result::Result<_, _>>()?,
            up: up.collect::<std::result::Result<_, _>>()?,
            out_norm: plain(compute, width)?,
            out: Linear::new(&root.sub("clf").sub(1), width, latents)?,
            config: config.clone(),
            compute: compute.clone(),
        };
        root.finish(stage_name(config.stage), &[])?;
        Ok(network)
    }

    /// Latents that are one pixel of the network, in each direction.
    pub fn patch(&self) -> usize {
        self.config.patch
    }

    /// The shortest side of which a pixel is left at the coarsest level, in latents.
    pub fn shortest(&self) -> usize {
        let halves = match self.config.change {
            Change::Twofold => self.config.levels.len().saturating_sub(1).min(16),
            Change::Width => 0,
        };
        self.config.patch << halves
    }

    /// What stage C is told.
    ///
    /// # Errors
    ///
    /// Those of the tensor library; if this is another stage.
    pub fn wish(&self, wish: &Wish) -> Result<Condition> {
        let Some((text, picture)) = &self.told.text_and_picture else {
            candle_core::bail!("this network is told no text");
        };
        let tokens = text.forward(&self.compute.take(&wish.text)?)?;
        let summary = self.sequence(&self.told.summary, &wish.summary.unsqueeze(1)?)?;
        let pictures = if let Some(pictures) = &wish.pictures {
            pictures.clone()
        } else {
            let (_, width) = self.config.text_and_picture.unwrap_or_default();
            Tensor::zeros((1, 1, width), DType::F32, wish.text.device())?
        };
        let pictures = self.sequence(picture, &pictures)?;
        let context = Tensor::cat(&[&tokens, &summary, &pictures], 1)?;
        Ok(Condition {
            context: self.told.norm.forward(&context)?,
            beside: None,
        })
    }

    /// What stage B is told: the summary of a text, `[1, width]`, and latents of stage C, `[batch, 16, h,
    /// w]`, for its own latents of this size.
    ///
    /// # Errors
    ///
    /// Those of the tensor library; if this is another stage.
    pub fn filling(
        &self,
        summary: &Tensor,
        drawn: &Tensor,
        (height, width): (usize, usize),
    ) -> Result<Condition> {
        let (Some(hint), Some(pixels)) = (&self.told.hint, &self.told.no_pixels) else {
            candle_core::bail!("this network is told no picture");
        };
        let context = self.sequence(&self.told.summary, &summary.unsqueeze(1)?)?;
        let context = self.told.norm.forward(&context)?;
        let batch = drawn.dim(0)?;
        let size = (height / self.config.patch, width / self.config.patch);
        let drawn = resized(&last(&self.compute.take(drawn)?)?, size)?;
        let beside = hint.forward(&drawn)?.broadcast_add(pixels)?;
        Ok(Condition {
            context: context.repeat((batch, 1, 1))?,
            beside: Some(beside),
        })
    }

    /// The same condition for each picture of a batch.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn repeated(condition: &Condition, batch: usize) -> Result<Condition> {
        Ok(Condition {
            context: condition.context.repeat((batch, 1, 1))?,
            beside: condition.beside.clone(),
        })
    }

    /// Vectors, each as some tokens: `[batch, vectors, width]` to `[batch, vectors * sequence, context]`.
    fn sequence(&self, mapper: &Linear, vectors: &Tensor) -> Result<Tensor> {
        let (batch, count, _) = vectors.dims3()?;
        let mapped = mapper.forward(&self.compute.take(vectors)?)?;
        mapped.reshape((batch, count * self.config.sequence, self.config.context))
    }

    /// The noise in latents at a time 0…1, of the same shape, in f32.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn forward(&self, z: &Tensor, time: f64, condition: &Condition) -> Result<Tensor> {
        let times = self.times(time)?;
        let told = Told {
            times: &times,
            context: &condition.context,
        };
        let x = gathered(&self.compute.take(z)?, self.config.patch)?;
        let mut x = self.into_norm.forward(&self.into.forward(&x)?)?;
        if let Some(beside) = &condition.beside {
            x = x.broadcast_add(beside)?;
        }
        let mut below = Vec::with_capacity(self.down.len());
        for way in &self.down {
            x = way.changed(&x)?;
            x = way.run(&x, None, told)?;
            below.push(x.clone());
        }
        // The coarsest is where the way up begins.
        below.pop();
        for (number, way) in self.up.iter().enumerate() {
            let skip = if number == 0 { None } else { below.pop() };
            x = way.run(&x, skip.as_ref(), told)?;
            x = way.changed(&x)?;
        }
        let x = self.out.forward(&self.out_norm.forward(&x)?)?;
        spread(&x, self.config.patch)?.to_dtype(DType::F32)
    }

    /// The embeddings of a time and of the further numbers, which are zero.
    fn times(&self, time: f64) -> Result<Vec<Tensor>> {
        /// What a time of 1 counts as.
        const LONGEST: f64 = 10_000.0;
        let half = self.config.time / 2;
        let embed = |time: f64| {
            let angle = |place: usize| {
                let fall = LONGEST.ln() / half.saturating_sub(1).max(1) as f64;
                // f32, as the network learned it: at the end of a long run of angles digits differ.
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "the network computes in f32"
                )]
                let angle = (time * LONGEST) as f32 * (-fall * place as f64).exp() as f32;
                angle
            };
            let sines = (0..half).map(|place| angle(place).sin());
            let cosines = (0..half).map(|place| angle(place).cos());
            let odd = std::iter::repeat_n(0.0, self.config.time % 2);
            let numbers: Vec<f32> = sines.chain(cosines).chain(odd).collect();
            let embedded = Tensor::from_vec(numbers, (1, self.config.time), self.compute.device())?;
            embedded.to_dtype(self.compute.dtype())
        };
        let further = self.config.times.iter().map(|_| 0.0);
        std::iter::once(time).chain(further).map(embed).collect()
    }
}

/// As errors call it.
fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::C => "stage_c",
        Stage::B => "stage_b",
    }
}

impl Mappers {
    fn new(
        root: &Scope<'_>,
        config: &Config,
        width: usize,
    ) -> std::result::Result<Self, EngineError> {
        let tokens = config.context * config.sequence;
        let text_and_picture = match config.text_and_picture {
            Some((text, picture)) => Some((
                Linear::new(&root.sub("clip_txt_mapper"), text, config.context)?,
                Linear::new(&root.sub("clip_img_mapper"), picture, tokens)?,
            )),
            None => None,
        };
        let (hint, no_pixels) = match config.hints {
            Some((drawn, pixels)) => {
                let mapper = Hint::new(&root.sub("pixels_mapper"), pixels, width)?;
                let black = Tensor::zeros(
                    (1, 1, 1, pixels),
                    root.compute().dtype(),
                    root.compute().device(),
                )?;
                (
                    Some(Hint::new(&root.sub("effnet_mapper"), drawn, width)?),
                    Some(mapper.forward(&black)?),
                )
            }
            None => (None, None),
        };
        Ok(Self {
            summary: Linear::new(&root.sub("clip_txt_pooled_mapper"), config.summary, tokens)?,
            text_and_picture,
            hint,
            no_pixels,
            norm: LayerNorm::plain(root.compute(), config.context, EPSILON)?,
        })
    }
}

/// The level that follows a finer one.
fn coarser(config: &Config, level: usize) -> Option<(&Level, &Level)> {
    Some((
        config.levels.get(level.checked_sub(1)?)?,
        config.levels.get(level)?,
    ))
}

fn down(root: &Scope<'_>, config: &Config, level: usize) -> std::result::Result<Way, EngineError> {
    let change = match coarser(config, level) {
        Some((finer, own)) => {
            let scope = root.sub("down_downscalers").sub(level).sub(1);
            let norm = plain(root.compute(), finer.width)?;
            let step = match config.change {
                Change::Width => {
                    let points = scope.sub("blocks").sub(0);
                    Step::Points(Linear::new(&points, finer.width, own.width)?)
                }
                Change::Twofold => Step::Halve(halving(&scope, finer.width, own.width)?),
            };
            Some((norm, step))
        }
        None => None,
    };
    let own = own(config, level)?;
    Ok(Way {
        change,
        blocks: blocks(
            &root.sub("down_blocks").sub(level),
            config,
            (own, &own.down),
            0,
        )?,
        repeats: repeats(
            &root.sub("down_repeat_mappers").sub(level),
            own.width,
            own.repeats.0,
        )?,
    })
}

fn up(root: &Scope<'_>, config: &Config, level: usize) -> std::result::Result<Way, EngineError> {
    let number = config.levels.len() - 1 - level;
    let change = match coarser(config, level) {
        Some((finer, own)) => {
            let scope = root.sub("up_upscalers").sub(number).sub(1);
            let norm = plain(root.compute(), own.width)?;
            let step = match config.change {
                Change::Width => {
                    let points = scope.sub("blocks").sub(1);
                    Step::Points(Linear::new(&points, own.width, finer.width)?)
                }
                Change::Twofold => Step::Double(doubling(&scope, own.width, finer.width)?),
            };
            Some((norm, step))
        }
        None => None,
    };
    let own = own(config, level)?;
    let skip = if number == 0 { 0 } else { own.width };
    Ok(Way {
        change,
        blocks: blocks(
            &root.sub("up_blocks").sub(number),
            config,
            (own, &own.up),
            skip,
        )?,
        repeats: repeats(
            &root.sub("up_repeat_mappers").sub(number),
            own.width,
            own.repeats.1,
        )?,
    })
}

fn own(config: &Config, level: usize) -> std::result::Result<&Level, EngineError> {
    let missing = || EngineError::bad_model("stage", format!("it has no level {level}"));
    config.levels.get(level).ok_or_else(missing)
}

fn blocks(
    scope: &Scope<'_>,
    config: &Config,
    (level, kinds): (&Level, &[Kind]),
    skip: usize,
) -> std::result::Result<Vec<Block>, EngineError> {
    let block = |(number, kind): (usize, &Kind)| {
        let skip = if number == 0 { skip } else { 0 };
        Block::new(&scope.sub(number), (config, *kind), level.width, skip)
    };
    kinds.iter().enumerate().map(block).collect()
}

fn repeats(
    scope: &Scope<'_>,
    width: usize,
    count: usize,
) -> std::result::Result<Vec<Linear>, EngineError> {
    (0..count)
        .map(|number| Linear::new(&scope.sub(number), width, width))
        .collect()
}

/// A convolution of squares of four pixels, each pixel of one square: a layer on what is gathered.
fn halving(
    scope: &Scope<'_>,
    inputs: usize,
    outputs: usize,
) -> std::result::Result<Linear, EngineError> {
    let weight = scope.take("weight", &[outputs, inputs, 2, 2])?;
    let bias = scope.take("bias", &[outputs])?;
    Ok(Linear::of(
        weight.reshape((outputs, inputs * 4))?,
        Some(bias),
    ))
}

/// The other way around: a layer to what is spread.
fn doubling(
    scope: &Scope<'_>,
    inputs: usize,
    outputs: usize,
) -> std::result::Result<Linear, EngineError> {
    let weight = scope.take("weight", &[inputs, outputs, 2, 2])?;
    let bias = scope.take("bias", &[outputs])?;
    let each = bias.unsqueeze(1)?.broadcast_as((outputs, 4))?;
    let weight = weight.permute((1, 2, 3, 0))?.contiguous()?;
    Ok(Linear::of(
        weight.reshape((outputs * 4, inputs))?,
        Some(each.contiguous()?.flatten_all()?),
    ))
}

impl Way {
    /// At the resolution of the next level.
    fn changed(&self, x: &Tensor) -> Result<Tensor> {
        let Some((norm, step)) = &self.change else {
            return Ok(x.clone());
        };
        let x = norm.forward(x)?;
        match step {
            Step::Points(layer) => layer.forward(&x),
            Step::Halve(layer) => {
                // What is left over at an edge is not looked at.
                let (_, height, width, _) = x.dims4()?;
                let x = x
                    .narrow(1, 0, height / 2 * 2)?
                    .narrow(2, 0, width / 2 * 2)?;
                layer.forward(&gathered(&first(&x)?, 2)?)
            }
            Step::Double(layer) => last(&spread(&layer.forward(&x)?, 2)?),
        }
    }

    fn run(&self, x: &Tensor, skip: Option<&Tensor>, told: Told<'_>) -> Result<Tensor> {
        let mut x = x.clone();
        if let Some(skip) = skip {
            // After odd sides were halved.
            x = resized(&x, (skip.dim(1)?, skip.dim(2)?))?;
        }
        for run in 0..=self.repeats.len() {
            for (number, block) in self.blocks.iter().enumerate() {
                x = block.forward(&x, skip.filter(|_| number == 0), told)?;
            }
            if let Some(layer) = self.repeats.get(run) {
                x = layer.forward(&x)?;
            }
        }
        Ok(x)
    }
}
