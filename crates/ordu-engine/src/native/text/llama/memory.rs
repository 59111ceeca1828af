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

    /// How many tokens it takes in all.
    pub(in crate::native::text) fn capacity(&self) -> usize {
        self.capacity
    }

    /// What it takes in memory, in bytes.
    pub(in crate::native::text) fn bytes(&self) -> u64 {
        let numbers = |layer: &Layer| layer.keys.elem_count() + layer.values.elem_count();
        let numbers: usize = self.layers.iter().map(numbers).sum();
        (numbers * size_of::<f32>()) as u64
    }

    /// Forgets all but the first tokens.
    pub(in crate::native::text) fn shorten(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// The first tokens again, with room for so many in all.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub(in crate::native::text) fn copied(&self, length: usize, capacity: usize) -> Result<Self> {
        let length = length.min(self.length).min(capacity);
        let copy = |held: &Tensor| -> Result<Tensor> {
            let (one, heads, _, head) = held.dims4()?;
            let room = Tensor::zeros((one, heads, capacity, head), DType::F32, &Device::Cpu)?;
            room.slice_set(&held.narrow(2, 0, length)?.contiguous()?, 2, 0)?;
            Ok(room)
        };
        let layers = self.layers.iter().map(|layer| {
            Ok(Layer {
                keys: copy(&layer.keys)?,
                values: copy(&layer.values)?,
            })
        });
        Ok(Self {
            layers: layers.collect::<Result<_>>()?,
            length,
            capacity,
        })
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
