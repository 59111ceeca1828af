//! The residual block: two convolutions, the time step added between them, all added to what came
//! in (He et al. 2015).

use candle_core::{Result, Tensor};

use super::super::config::UNetConfig;
use super::Conditions;
use crate::EngineError;
use crate::native::ops::{Beside, Conv2d, Followed, Geometry, GroupNorm, Linear};
use crate::native::weights::Scope;

#[derive(Clone, Debug)]
pub(super) struct Resnet {
    norm1: GroupNorm,
    conv1: Conv2d,
    time: Linear,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

impl Resnet {
    pub(super) fn new(
        scope: &Scope<'_>,
        config: &UNetConfig,
        inputs: usize,
        outputs: usize,
    ) -> std::result::Result<Self, EngineError> {
        let time = 4 * config
            .block_out_channels
            .first()
            .copied()
            .unwrap_or_default();
        let norm = |name: &str, channels| {
            GroupNorm::new(
                &scope.sub(name),
                channels,
                config.norm_num_groups,
                config.norm_eps,
            )
        };
        let shortcut = || {
            Conv2d::new(
                &scope.sub("conv_shortcut"),
                inputs,
                outputs,
                Geometry::POINT,
            )
        };
        Ok(Self {
            norm1: norm("norm1", inputs)?,
            conv1: Conv2d::new(&scope.sub("conv1"), inputs, outputs, Geometry::SAME)?,
            time: Linear::new(&scope.sub("time_emb_proj"), time, outputs)?,
            norm2: norm("norm2", outputs)?,
            conv2: Conv2d::new(&scope.sub("conv2"), outputs, outputs, Geometry::SAME)?,
            shortcut: if inputs == outputs {
                None
            } else {
                Some(shortcut()?)
            },
        })
    }

    pub(super) fn forward(&self, x: &Tensor, conditions: &Conditions<'_>) -> Result<Tensor> {
        let edges = conditions.edges;
        let time = self.time.forward(conditions.time)?;
        let beside = Beside {
            shift: Some(&time),
            onto: None,
        };
        // Each takes the place of the one before it, which is let go of.
        let mut inner = self.norm1.forward(x, Followed::BySilu)?;
        inner = self.conv1.forward_beside(&inner, edges, beside)?;
        inner = self.norm2.forward(&inner, Followed::BySilu)?;
        let shortcut = match &self.shortcut {
            Some(shortcut) => shortcut.forward(x, edges)?,
            None => x.clone(),
        };
        let beside = Beside {
            shift: None,
            onto: Some(&shortcut),
        };
        self.conv2.forward_beside(&inner, edges, beside)
    }
}
