//! Keys and values of what was read so far, so that no token is computed twice.

use candle_core::{DType, Device, Result, Tensor};

use super::config::Config;

/// Those of all layers, for one text.
#[derive(Debug)]
pub(in crate::native::text) struct Memory {
    layers: Vec<Layer>,
    pub(super) length: usize,
    capacity: usize,
}

#[derive(Debug)]
struct Layer {
    /// `[1, kv_heads, capacity, head]`, both.
    keys: Tensor,
    values: Tensor,
}

impl Memory {
    /// Room for so many tokens.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub(in crate::native::text) fn new(config: &Config, capacity: usize) -> Result<Self> {
        let shape = (1, config.kv_heads, capacity, config.head);
        let empty = || Tensor::zeros(shape, DType::F32, &Device::Cpu);
        let layers = (0..config.layers).map(|_| {
            Ok(Layer {
                keys: empty()?,
                values: empty()?,
            })
        });
        Ok(Self {
            layers: layers.collect::<Result<_>>()?,
            length: 0,
            capacity,
        })
    }

    /// How many more tokens it takes.
    pub(in crate::native::text) fn room(&self) -> usize {
        self.capacity - self.length
    }

    /// Adds keys and values of the next tokens in one layer, and returns all that there are.
    /// `length` changes only when all layers have them.
    pub(super) fn extend(
        &self,
        layer: usize,
        keys: &Tensor,
        values: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let Some(held) = self.layers.get(layer) else {
            candle_core::bail!("no layer {layer}");
        };
        let length = self.length + keys.dim(2)?;
        held.keys.slice_set(keys, 2, self.length)?;
        held.values.slice_set(values, 2, self.length)?;
        Ok((
            held.keys.narrow(2, 0, length)?,
            held.values.narrow(2, 0, length)?,
        ))
    }
}
