//! The processor: our own kernels, in f32.
//!
//! Pictures lie as everybody sees them, `[batch, channels, height, width]`; tokens as
//! `[batch, tokens, width]`. Each kernel takes plain numbers, shares its work out among the threads
//! of the pool, and writes its result once: what is added to a result is added where it is written.
//! What does not fit into the caches is worked off in parts that do, so that what a kernel needs
//! beside its result stays at some ten megabytes, whatever the size of the picture.
//!
//! *Knows no network, no weights and no file.*

mod attention;
mod gather;
mod normal;
mod pointwise;
mod product;
mod simd;
mod winograd;

use std::ops::{Deref, Range};

use candle_core::{CpuStorage, Device, Result, Shape, Storage, StorageRef, Tensor};

pub(super) use self::attention::attention;
pub(super) use self::gather::convolution;
pub(super) use self::normal::{group_norm, layer_norm};
pub(super) use self::pointwise::{enlarge, gated_gelu, leaky, swapped};
pub(super) use self::product::linear;

/// Below so many numbers, waking other threads costs more than they save.
const PARALLEL: usize = 64 * 1024;

/// The numbers of a contiguous tensor in f32.
struct Numbers<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
}

impl Deref for Numbers<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(all)) => all.get(self.range.clone()).unwrap_or_default(),
            _ => &[],
        }
    }
}

/// Looks at the numbers of a tensor, which must be contiguous.
fn numbers(x: &Tensor) -> Result<Numbers<'_>> {
    let (storage, layout) = x.storage_and_layout();
    let Storage::Cpu(CpuStorage::F32(_)) = &*storage else {
        candle_core::bail!("the processor computes in f32, not in {:?}", x.dtype());
    };
    let Some((start, end)) = layout.contiguous_offsets() else {
        candle_core::bail!("a kernel of the processor needs a contiguous tensor");
    };
    Ok(Numbers {
        storage,
        range: start..end,
    })
}

fn tensor(numbers: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(numbers, shape.into(), &Device::Cpu)
}
