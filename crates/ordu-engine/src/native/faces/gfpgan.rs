//! GFPGAN: a generator that knows good faces, told by an encoder what to draw and, at each size, where. The
//! clean architecture of versions 1.2 and later.
//!
//! ```text
//! face ─► encoder ─► style of each layer ─► generator ─► face
//!             └─ decoder ─► factors and shifts at each size ─┘
//! ```
//!
//! # Source
//! Wang et al. 2021, "Towards Real-World Blind Face Restoration with Generative Facial Prior"; Karras et
//! al. 2020, "Analyzing and Improving the Image Quality of StyleGAN" (modulated convolutions).

use candle_core::{D, Tensor};

use super::super::ops::{Conv2d, Edges, Geometry, Linear, bilinear, conv_without_bias, leaky};
use super::super::weights::{Entry, Scope, Weights};
use super::GoOn;
use super::codebook::outputs;
use crate::EngineError;
use crate::native::Compute;

/// What is left of numbers below zero.
const SLOPE: f64 = 0.2;
/// What keeps kernels of zeros from dividing by nothing.
const EPSILON: f64 = 1e-8;
/// The generator starts with a picture of this side.
const FIRST: usize = 4;
/// 2048 pixels a side.
const MAX_SIZES: usize = 9;

/// A network with its weights.
#[derive(Clone, Debug)]
pub struct Gfpgan {
    enter: Conv2d,
    down: Vec<Block>,
    bottom: Conv2d,
    styles: Linear,
    /// Numbers of one style.
    width: usize,
    sizes: Vec<Size>,
    start: Tensor,
    first: Styled,
    first_colours: Modulated,
    side: usize,
}

/// What happens at one size.
#[derive(Clone, Debug)]
struct Size {
    up: Block,
    scale: [Conv2d; 2],
    shift: [Conv2d; 2],
    larger: Styled,
    same: Styled,
    colours: Modulated,
}

/// Whether tensors are those of such a network.
pub(super) fn is_one(weights: &Weights) -> bool {
    let has = |name: &str| weights.shape(name).is_some();
    has("stylegan_decoder.style_conv1.modulated_conv.weight") && has("conv_body_first.weight")
}

/// Whether the network computes with a tensor: what maps other styles to these, and colours of the
/// decoder, were for training.
fn is_used((name, _): &(&str, &Entry)) -> bool {
    !name.starts_with("stylegan_decoder.style_mlp.") && !name.starts_with("toRGB.")
}

impl Gfpgan {
    /// Takes all tensors, under the authors' names.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] naming what is missing, misshapen or left over.
    pub fn new(name: &str, weights: &Weights, compute: &Compute) -> Result<Self, EngineError> {
        let used = weights.iter().filter(is_used);
        let weights = Weights::from_entries(used.map(|(name, it)| (name.to_owned(), it.clone())));
        let root = weights.root(compute);
        let mut width = outputs(&root, "conv_body_first.weight");
        let enter = Conv2d::new(&root.sub("conv_body_first"), 3, width, Geometry::POINT)?;
        let mut down = Vec::new();
        for number in 0..MAX_SIZES {
            let scope = root.sub("conv_body_down").sub(number);
            if !scope.has("conv2.weight") {
                break;
            }
            let block = Block::new(&scope, width)?;
            width = block.outputs;
            down.push(block);
        }
        let deepest = outputs(&root, "final_conv.weight");
        let bottom = Conv2d::new(&root.sub("final_conv"), width, deepest, Geometry::SAME)?;
        let decoder = root.sub("stylegan_decoder");
        let style = decoder
            .shape("style_conv1.modulated_conv.modulation.weight")
            .and_then(|shape| shape.get(1).copied())
            .unwrap_or(1);
        let layers = 2 * down.len() + 2;
        let channels = decoder
            .shape("constant_input.weight")
            .and_then(|shape| shape.get(1).copied())
            .unwrap_or(1);
        let first = Styled::new(&decoder, "style_conv1", (0, FIRST), (channels, style))?;
        let first_colours = Modulated::colours(&decoder.sub("to_rgb1"), first.outputs(), style)?;
        let (mut sizes, mut below, mut drawn) = (Vec::new(), deepest, first.outputs());
        for number in 0..down.len() {
            let size = Size::new(&root, number, (below, drawn), style)?;
            below = size.up.outputs;
            drawn = size.same.outputs();
            sizes.push(size);
        }
        let network = Self {
            enter,
            side: FIRST << down.len(),
            down,
            bottom,
            styles: Linear::new(
                &root.sub("final_linear"),
                deepest * FIRST * FIRST,
                layers * style,
            )?,
            width: style,
            sizes,
            start: decoder.take("constant_input.weight", &[1, channels, FIRST, FIRST])?,
            first,
            first_colours,
        };
        root.finish(name, &[])?;
        Ok(network)
    }

    /// The side of the faces that it takes, in pixels.
    pub fn side(&self) -> usize {
        self.side
    }

    /// A face, `[1, 3, side, side]` in −1…1, to the same, mended. The noise is that of the file: one face
    /// is always mended the same way. `go_on` is asked after each size.
    ///
    /// # Errors
    ///
    /// That of `go_on`, or those of the tensor library.
    pub fn forward(&self, face: &Tensor, go_on: &GoOn<'_>) -> Result<Tensor, EngineError> {
        let mut x = leaky(&self.enter.forward(face, Edges::Zero)?, SLOPE)?;
        let mut seen = Vec::new();
        for block in &self.down {
            let (_, _, height, width) = x.dims4()?;
            x = block.forward(&x, (height / 2, width / 2))?;
            seen.push(x.clone());
            go_on()?;
        }
        x = leaky(&self.bottom.forward(&x, Edges::Zero)?, SLOPE)?;
        let styles = self.styles.forward(&x.flatten_from(1)?)?;
        let styles = styles.reshape(((), self.width))?;
        let style = |number: usize| styles.narrow(0, number, 1);

        let mut drawn = self.first.forward(&self.start, &style(0)?)?;
        let mut colours = self.first_colours.forward(&drawn, &style(1)?)?;
        for (number, size) in self.sizes.iter().enumerate() {
            let Some(beside) = seen.pop() else { break };
            x = (x + beside)?;
            let (_, _, height, width) = x.dims4()?;
            let larger = (2 * height, 2 * width);
            x = size.up.forward(&x, larger)?;

            let at = 2 * number + 1;
            drawn = bilinear(&drawn, larger.0, larger.1)?;
            drawn = size.larger.forward(&drawn, &style(at)?)?;
            drawn = size.told(&drawn, &x)?;
            drawn = size.same.forward(&drawn, &style(at + 1)?)?;
            let more = size.colours.forward(&drawn, &style(at + 2)?)?;
            colours = (bilinear(&colours, larger.0, larger.1)? + more)?;
            go_on()?;
        }
        Ok(colours)
    }
}

impl Size {
    fn new(
        root: &Scope<'_>,
        number: usize,
        (below, drawn): (usize, usize),
        style: usize,
    ) -> Result<Self, EngineError> {
        let up = Block::new(&root.sub("conv_body_up").sub(number), below)?;
        let pair = |name: &str| {
            let scope = root.sub(name).sub(number);
            let told = outputs(&scope, "2.weight");
            let wide = up.outputs;
            Ok::<_, EngineError>([
                Conv2d::new(&scope.sub(0), wide, wide, Geometry::SAME)?,
                Conv2d::new(&scope.sub(2), wide, told, Geometry::SAME)?,
            ])
        };
        let decoder = root.sub("stylegan_decoder");
        let side = FIRST << (number + 1);
        let styled = |place: usize, inputs: usize| {
            let name = format!("style_convs.{place}");
            Styled::new(&decoder, &name, (place + 1, side), (inputs, style))
        };
        let larger = styled(2 * number, drawn)?;
        let same = styled(2 * number + 1, larger.outputs())?;
        let colours = decoder.sub("to_rgbs").sub(number);
        Ok(Self {
            scale: pair("condition_scale")?,
            shift: pair("condition_shift")?,
            up,
            colours: Modulated::colours(&colours, same.outputs(), style)?,
            larger,
            same,
        })
    }

    /// What is drawn, told by what the decoder says: the second half of its channels, or all of them.
    fn told(&self, drawn: &Tensor, said: &Tensor) -> candle_core::Result<Tensor> {
        let through = |layers: &[Conv2d; 2]| {
            let inner = leaky(&layers[0].forward(said, Edges::Zero)?, SLOPE)?;
            layers[1].forward(&inner, Edges::Zero)
        };
        let (scale, shift) = (through(&self.scale)?, through(&self.shift)?);
        let (all, told) = (drawn.dim(1)?, scale.dim(1)?);
        let kept = all.saturating_sub(told);
        let changed = ((drawn.narrow(1, kept, told)? * scale)? + shift)?;
        if kept == 0 {
            return Ok(changed);
        }
        Tensor::cat(&[&drawn.narrow(1, 0, kept)?, &changed], 1)
    }
}

/// Two convolutions beside a shortcut, with another size between.
#[derive(Clone, Debug)]
struct Block {
    conv1: Conv2d,
    conv2: Conv2d,
    skip: Conv2d,
    outputs: usize,
}

impl Block {
    fn new(scope: &Scope<'_>, inputs: usize) -> Result<Self, EngineError> {
        let outputs = outputs(scope, "conv2.weight");
        Ok(Self {
            conv1: Conv2d::new(&scope.sub("conv1"), inputs, inputs, Geometry::SAME)?,
            conv2: Conv2d::new(&scope.sub("conv2"), inputs, outputs, Geometry::SAME)?,
            skip: conv_without_bias(&scope.sub("skip"), (inputs, outputs), Geometry::POINT)?,
            outputs,
        })
    }

    fn forward(&self, x: &Tensor, (height, width): (usize, usize)) -> candle_core::Result<Tensor> {
        let y = leaky(&self.conv1.forward(x, Edges::Zero)?, SLOPE)?;
        let y = self
            .conv2
            .forward(&bilinear(&y, height, width)?, Edges::Zero)?;
        let skip = self
            .skip
            .forward(&bilinear(x, height, width)?, Edges::Zero)?;
        leaky(&y, SLOPE)? + skip
    }
}

/// A convolution whose kernel a style stretches, input by input.
#[derive(Clone, Debug)]
struct Modulated {
    kernel: Tensor,
    modulation: Linear,
    geometry: Geometry,
    /// Of colours, which keep the strength that the style gives them.
    bias: Option<Tensor>,
}

impl Modulated {
    fn new(
        scope: &Scope<'_>,
        sides: (usize, usize),
        style: usize,
        geometry: Geometry,
    ) -> Result<Self, EngineError> {
        let (inputs, outputs) = sides;
        let side = geometry.kernel;
        let kernel = scope.take("weight", &[1, outputs, inputs, side, side])?;
        Ok(Self {
            kernel: kernel.squeeze(0)?,
            modulation: Linear::new(&scope.sub("modulation"), style, inputs)?,
            geometry,
            bias: None,
        })
    }

    fn colours(scope: &Scope<'_>, inputs: usize, style: usize) -> Result<Self, EngineError> {
        let convolution = scope.sub("modulated_conv");
        Ok(Self {
            bias: Some(scope.take("bias", &[1, 3, 1, 1])?.flatten_all()?),
            ..Self::new(&convolution, (inputs, 3), style, Geometry::POINT)?
        })
    }

    /// `style` is `[1, width]`.
    fn forward(&self, x: &Tensor, style: &Tensor) -> candle_core::Result<Tensor> {
        let stretch = self.modulation.forward(style)?.reshape((1, (), 1, 1))?;
        let mut kernel = self.kernel.broadcast_mul(&stretch)?;
        let outputs = kernel.dim(0)?;
        if self.bias.is_none() {
            let length = kernel.sqr()?.flatten_from(1)?.sum_keepdim(D::Minus1)?;
            let length = (length + EPSILON)?.sqrt()?.reshape((outputs, 1, 1, 1))?;
            kernel = kernel.broadcast_div(&length)?;
        }
        let bias = match &self.bias {
            Some(bias) => bias.clone(),
            None => Tensor::zeros(outputs, kernel.dtype(), kernel.device())?,
        };
        Conv2d::of(&kernel, &bias, self.geometry)?.forward(x, Edges::Zero)
    }
}

/// A modulated convolution with what comes behind it.
#[derive(Clone, Debug)]
struct Styled {
    conv: Modulated,
    bias: Tensor,
    /// `[1, 1, side, side]`, as strong as it is to be.
    noise: Tensor,
}

impl Styled {
    /// `noise` is the number of its noise, and the side of that.
    fn new(
        decoder: &Scope<'_>,
        name: &str,
        noise: (usize, usize),
        (inputs, style): (usize, usize),
    ) -> Result<Self, EngineError> {
        let scope = decoder.sub(name);
        let outputs = scope
            .shape("modulated_conv.weight")
            .and_then(|shape| shape.get(1).copied())
            .unwrap_or(1);
        let conv = scope.sub("modulated_conv");
        let (number, side) = noise;
        let noise = decoder.take(&format!("noises.noise{number}"), &[1, 1, side, side])?;
        let strength = scope.take("weight", &[1])?.reshape((1, 1, 1, 1))?;
        Ok(Self {
            conv: Modulated::new(&conv, (inputs, outputs), style, Geometry::SAME)?,
            bias: scope.take("bias", &[1, outputs, 1, 1])?,
            noise: noise.broadcast_mul(&strength)?,
        })
    }

    fn outputs(&self) -> usize {
        self.bias.dims().get(1).copied().unwrap_or(1)
    }

    fn forward(&self, x: &Tensor, style: &Tensor) -> candle_core::Result<Tensor> {
        let y = (self.conv.forward(x, style)? * std::f64::consts::SQRT_2)?;
        let y = y.broadcast_add(&self.noise)?.broadcast_add(&self.bias)?;
        leaky(&y, SLOPE)
    }
}
