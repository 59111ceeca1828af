//! The layers that all networks are built of. They know tensors and names of weights, no particular
//! network.
//!
//! Everything is `[batch, channels, height, width]` or `[batch, tokens, width]`. Each operation knows
//! up to three ways: with the kernels of `cpu` on the processor; with those of `gpu` on an NVIDIA
//! card; and composed of the tensor library's operations on everything else, which is also what the
//! others are tested against.

mod activation;
mod attention;
mod conv;
mod folded;
mod linear;
mod norm;
mod picture;
mod resample;

pub use activation::{Activation, gated_gelu};
pub use attention::attention;
pub use conv::{Beside, Conv2d, Edges, Geometry};
pub use folded::{conv_without_bias, normed_conv};
pub use linear::Linear;
pub use norm::{Followed, GroupNorm, LayerNorm};
pub use picture::{add, enlarge, join, to_picture, to_tokens};
pub use resample::{Spread, bilinear, halved_by_max, leaky, mirrored};
