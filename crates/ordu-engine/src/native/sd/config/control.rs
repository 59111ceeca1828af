//! Numbers of a control network.

use super::unet::{DOWN_ATTENTION, DOWN_PLAIN, MID_PLAIN, UP_ATTENTION, UP_PLAIN};
use super::{MAX_DEPTH, PerBlock, UNetConfig, check, depth_ok, first_two, width_ok};
use crate::EngineError;
use crate::native::weights::Weights;

/// A control network is a copy of the way down of the network that it steers: its tensors tell its
/// sizes, and that network the numbers that no tensor tells (heads, groups).
#[derive(Clone, Debug, PartialEq)]
pub struct ControlConfig {
    /// The way down and the bottom. What it says of the way up means nothing.
    pub unet: UNetConfig,
    /// Channels of the map.
    pub map_channels: usize,
    /// Channels of the layers that the map goes through, the last one's left out.
    pub map_widths: Vec<usize>,
}

/// The first layer that the map goes through.
const FIRST: &str = "controlnet_cond_embedding.conv_in.weight";

impl ControlConfig {
    /// Whether these are the tensors of a control network, under diffusers names.
    pub fn is_control(weights: &Weights) -> bool {
        weights.shape(FIRST).is_some() && weights.shape("controlnet_mid_block.weight").is_some()
    }

    /// The numbers of a control network for a network of these numbers.
    ///
    /// # Errors
    ///
    /// [`EngineError::BadModel`] if it is made for another network, or if tensors that tell the
    /// sizes are missing.
    pub fn new(weights: &Weights, steered: &UNetConfig) -> Result<Self, EngineError> {
        let (first_width, map_channels) = first_two(weights, FIRST)?;
        let mut map_widths = vec![first_width];
        // Two layers for each halving: the first keeps the width, the second leads to the next.
        for layer in (1..MAX_DEPTH).step_by(2) {
            let name = format!("controlnet_cond_embedding.blocks.{layer}.weight");
            let Some([width, ..]) = weights.shape(&name) else {
                break;
            };
            map_widths.push(*width);
        }
        let unet = way_down(weights, steered)?;
        unet.check()?;
        let part = "controlnet";
        let sound = width_ok(map_channels) && depth_ok(map_widths.len());
        check(part, sound, "an impossible map")?;
        check(
            part,
            map_widths.iter().all(|width| width_ok(*width)),
            "an impossible width",
        )?;
        let attends = weights
            .shape("mid_block.attentions.0.norm.weight")
            .is_some();
        let mid_block_type = if attends {
            unet.mid_block_type.clone()
        } else {
            Some(MID_PLAIN.to_owned())
        };
        Ok(Self {
            unet: UNetConfig {
                mid_block_type,
                ..unet
            },
            map_channels,
            map_widths,
        })
    }
}

/// What the tensors tell, and of the network that is steered what they do not.
fn way_down(weights: &Weights, steered: &UNetConfig) -> Result<UNetConfig, EngineError> {
    let exists = |name: &str| weights.shape(name).is_some();
    let count =
        |name: &dyn Fn(usize) -> String| (0..MAX_DEPTH).take_while(|n| exists(&name(*n))).count();
    let blocks = count(&|n| format!("down_blocks.{n}.resnets.0.conv1.weight")).max(1);
    let mut widths = Vec::new();
    for block in 0..blocks {
        let name = format!("down_blocks.{block}.resnets.0.conv1.weight");
        widths.push(first_two(weights, &name)?.0);
    }
    let attention = |block: usize| format!("down_blocks.{block}.attentions.0");
    let attends: Vec<bool> = (0..blocks)
        .map(|block| exists(&format!("{}.norm.weight", attention(block))))
        .collect();
    let depth_at = |at: &str| count(&|n| format!("{at}.transformer_blocks.{n}.norm1.weight"));
    let mut depths: Vec<usize> = (0..blocks)
        .map(|block| depth_at(&attention(block)))
        .collect();
    let bottom = depth_at("mid_block.attentions.0");
    if let Some(last) = depths.last_mut()
        && bottom > 0
    {
        *last = bottom;
    }
    let text = (0..blocks)
        .map(attention)
        .chain(["mid_block.attentions.0".to_owned()])
        .find_map(|at| {
            let name = format!("{at}.transformer_blocks.0.attn2.to_k.weight");
            first_two(weights, &name).ok()
        })
        .map_or(steered.cross_attention_dim, |(_, width)| width);
    let in_channels = first_two(weights, "conv_in.weight")?.1;
    let layers = count(&|n| format!("down_blocks.0.resnets.{n}.conv1.weight"));
    let same = widths == steered.block_out_channels
        && layers == steered.layers_per_block
        && text == steered.cross_attention_dim
        && in_channels == steered.out_channels;
    if !same {
        return Err(EngineError::bad_model(
            "controlnet",
            format!(
                "it steers a network of {widths:?} channels with {layers} layers a block, latents of {in_channels} and text \
                 {text} wide; this one has {:?}, {}, {} and {}",
                steered.block_out_channels,
                steered.layers_per_block,
                steered.out_channels,
                steered.cross_attention_dim
            ),
        ));
    }
    let kinds = |(with, without): (&str, &str)| -> Vec<String> {
        let kind = |attends: &bool| if *attends { with } else { without };
        attends.iter().map(|one| kind(one).to_owned()).collect()
    };
    Ok(UNetConfig {
        in_channels,
        down_block_types: kinds((DOWN_ATTENTION, DOWN_PLAIN)),
        up_block_types: kinds((UP_ATTENTION, UP_PLAIN)),
        transformer_layers_per_block: PerBlock::Each(
            depths.into_iter().map(|depth| depth.max(1)).collect(),
        ),
        ..steered.clone()
    })
}
