//! The layers that all networks are built of. They know tensors and names of weights, no particular
//! network.
//!
//! Everything is f32 in `[batch, channels, height, width]` or `[batch, tokens, width]` order, on
//! the CPU: a port to another device adds its forward to the custom operations here and changes
//! nothing else.

mod activation;
mod attention;
mod conv;
mod linear;
mod norm;

pub use activation::Activation;
pub use attention::attention;
pub use conv::{Conv2d, Edges, Geometry};
pub use linear::Linear;
pub use norm::{Followed, GroupNorm, LayerNorm};
