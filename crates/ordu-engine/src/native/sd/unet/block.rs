//! Blocks of one resolution: residual blocks, each followed by attention where the block has it,
//! and a change of resolution at the end.

use candle_core::{Result, Tensor};

use super::super::config::UNetConfig;
use super::Conditions;
use super::resnet::Resnet;
use super::transformer::Transformer;
use crate::EngineError;
use crate::native::ops::{Conv2d, Geometry, enlarge, join};
use crate::native::weights::Scope;

/// One residual block and what follows it.
#[derive(Clone, Debug)]
struct Step {
    resnet: Resnet,
    attention: Option<Transformer>,
}

impl Step {
    fn forward(&self, x: &Tensor, conditions: &Conditions<'_>) -> Result<Tensor> {
        let x = self.resnet.forward(x, conditions)?;
        match &self.attention {
            Some(attention) => attention.forward(&x, conditions),
            None => Ok(x),
        }
    }
}

/// A block on the way down.
#[derive(Clone, Debug)]
pub(super) struct Down {
    steps: Vec<Step>,
    halve: Option<Conv2d>,
}

impl Down {
    pub(super) fn new(
        scope: &Scope<'_>,
        config: &UNetConfig,
        block: usize,
        inputs: usize,
    ) -> std::result::Result<Self, EngineError> {
        let width = config
            .block_out_channels
            .get(block)
            .copied()
            .unwrap_or_default();
        let mut steps = Vec::new();
        for layer in 0..config.layers_per_block {
            let inputs = if layer == 0 { inputs } else { width };
            let attention = config.down_attends(block).then(|| {
                Transformer::new(&scope.sub("attentions").sub(layer), config, block, width)
            });
            steps.push(Step {
                resnet: Resnet::new(&scope.sub("resnets").sub(layer), config, inputs, width)?,
                attention: attention.transpose()?,
            });
        }
        let last = block + 1 == config.block_out_channels.len();
        let halve = (!last).then(|| {
            Conv2d::new(
                &scope.sub("downsamplers").sub(0).sub("conv"),
                width,
                width,
                Geometry::HALVE,
            )
        });
        Ok(Self {
            steps,
            halve: halve.transpose()?,
        })
    }

    /// How many pictures it keeps for the way up.
    pub(super) fn outputs(&self) -> usize {
        self.steps.len() + usize::from(self.halve.is_some())
    }

    pub(super) fn forward(
        &self,
        mut x: Tensor,
        conditions: &Conditions<'_>,
        kept: &mut Vec<Tensor>,
    ) -> Result<Tensor> {
        for step in &self.steps {
            x = step.forward(&x, conditions)?;
            kept.push(x.clone());
        }
        if let Some(halve) = &self.halve {
            x = halve.forward(&x, conditions.edges)?;
            kept.push(x.clone());
        }
        Ok(x)
    }
}

/// The block at the bottom.
#[derive(Clone, Debug)]
pub(super) struct Mid {
    first: Resnet,
    /// Small control networks end with the first residual block.
    rest: Option<(Transformer, Resnet)>,
}

impl Mid {
    pub(super) fn new(
        scope: &Scope<'_>,
        config: &UNetConfig,
        width: usize,
    ) -> std::result::Result<Self, EngineError> {
        let bottom = config.block_out_channels.len().saturating_sub(1);
        let resnet =
            |index: usize| Resnet::new(&scope.sub("resnets").sub(index), config, width, width);
        let attention = || Transformer::new(&scope.sub("attentions").sub(0), config, bottom, width);
        Ok(Self {
            first: resnet(0)?,
            rest: if config.mid_attends() {
                Some((attention()?, resnet(1)?))
            } else {
                None
            },
        })
    }

    pub(super) fn forward(&self, x: &Tensor, conditions: &Conditions<'_>) -> Result<Tensor> {
        let x = self.first.forward(x, conditions)?;
        match &self.rest {
            Some((attention, second)) => {
                second.forward(&attention.forward(&x, conditions)?, conditions)
            }
            None => Ok(x),
        }
    }
}

/// A block on the way up.
#[derive(Clone, Debug)]
pub(super) struct Up {
    steps: Vec<Step>,
    double: Option<Conv2d>,
}

impl Up {
    /// `block` counts from the bottom. `below` is the width that comes from there and the widths of
    /// the kept pictures that are still to be joined; this block takes its own off the end.
    pub(super) fn new(
        scope: &Scope<'_>,
        config: &UNetConfig,
        block: usize,
        below: (usize, &mut Vec<usize>),
    ) -> std::result::Result<Self, EngineError> {
        let (mut inputs, kept) = below;
        let from_outside = config.block_out_channels.len().saturating_sub(1 + block);
        let width = config
            .block_out_channels
            .get(from_outside)
            .copied()
            .unwrap_or_default();
        let mut steps = Vec::new();
        for layer in 0..=config.layers_per_block {
            let joined = inputs + kept.pop().unwrap_or_default();
            let attention = config.up_attends(block).then(|| {
                Transformer::new(
                    &scope.sub("attentions").sub(layer),
                    config,
                    from_outside,
                    width,
                )
            });
            steps.push(Step {
                resnet: Resnet::new(&scope.sub("resnets").sub(layer), config, joined, width)?,
                attention: attention.transpose()?,
            });
            inputs = width;
        }
        let double = (from_outside > 0).then(|| {
            Conv2d::new(
                &scope.sub("upsamplers").sub(0).sub("conv"),
                width,
                width,
                Geometry::SAME,
            )
        });
        Ok(Self {
            steps,
            double: double.transpose()?,
        })
    }

    pub(super) fn forward(
        &self,
        mut x: Tensor,
        conditions: &Conditions<'_>,
        kept: &mut Vec<Tensor>,
    ) -> Result<Tensor> {
        for step in &self.steps {
            let Some(other) = kept.pop() else {
                candle_core::bail!("a block on the way up found nothing kept on the way down");
            };
            x = join(&x, &other)?;
            drop(other);
            x = step.forward(&x, conditions)?;
        }
        let (Some(double), Some(next)) = (&self.double, kept.last()) else {
            return Ok(x);
        };
        // Not simply twice: an odd side was rounded up on the way down.
        let (_, _, height, width) = next.dims4()?;
        double.forward(&enlarge(&x, height, width)?, conditions.edges)
    }
}
