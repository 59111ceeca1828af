//! Normalisation.

use candle_core::{DType, Result, Tensor, bail};

use super::{Grid, Room, address, card, launch, pack, suffix, word};
use crate::native::ops::Followed;

/// Layer normalisation over the last dimension of a contiguous tensor.
pub(in crate::native) fn layer_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    epsilon: f32,
) -> Result<Tensor> {
    const WARPS: usize = 4;
    let width = weight.elem_count();
    let rows = x.elem_count() / width.max(1);
    let n = pack(width);
    let room = Room::new(card(x)?, x.dtype(), x.elem_count())?;
    let name = format!("layer_norm_{}_{n}", suffix(x.dtype())?);
    let grid = Grid {
        blocks: (word(rows.div_ceil(WARPS))?, 1),
        threads: 32 * 4,
        shared: 0,
    };
    let arguments = [
        address(x)?.into(),
        address(weight)?.into(),
        address(bias)?.into(),
        room.address.into(),
        word(rows)?.into(),
        word(width / n)?.into(),
        epsilon.into(),
    ];
    // SAFETY: x and the room hold rows times width numbers, the others width.
    unsafe { launch(card(x)?, &name, grid, &arguments)? };
    Ok(room.into_tensor(x.dims()))
}

/// Threads of a block that sums.
const SUMMERS: usize = 512;
/// Blocks that keep a large card busy: two for each of its multiprocessors.
const BLOCKS: usize = 264;

/// Whether [`group_norm`] can do pictures of so many channels.
pub(in crate::native) fn group_norm_fits(channels: usize) -> bool {
    channels / pack(channels) <= SUMMERS
}

/// Group normalisation of a contiguous `[b, h, w, c]`.
pub(in crate::native) fn group_norm(
    x: &Tensor,
    (weight, bias): (&Tensor, &Tensor),
    (groups, epsilon): (usize, f32),
    followed: Followed,
) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    let (device, pixels, n) = (card(x)?, height * width, pack(channels));
    let line = channels / n;
    if !group_norm_fits(channels) {
        bail!("{channels} channels are too many to normalise");
    }
    let lanes = SUMMERS / line;
    // Each block with at least a few pixels a lane.
    let chunks = (BLOCKS / batch.max(1)).min(pixels / (4 * lanes)).max(1);
    let name = suffix(x.dtype())?;
    let sums = Room::new(device, DType::F32, batch * groups * chunks * 2)?;
    let room = Room::new(device, x.dtype(), x.elem_count())?;
    let x_at = address(x)?;
    let summing = Grid {
        blocks: (word(chunks)?, word(batch)?),
        threads: word(lanes * line)?,
        shared: word(lanes * channels * 2 * size_of::<f32>())?,
    };
    let first = [
        x_at.into(),
        sums.address.into(),
        word(pixels)?.into(),
        word(line)?.into(),
        word(groups)?.into(),
    ];
    let blocks = (2 * BLOCKS / batch.max(1))
        .min(pixels.div_ceil(lanes))
        .max(1);
    let applying = Grid {
        blocks: (word(blocks)?, word(batch)?),
        threads: word(lanes * line)?,
        shared: word(groups * 2 * size_of::<f32>())?,
    };
    let second = [
        x_at.into(),
        sums.address.into(),
        address(weight)?.into(),
        address(bias)?.into(),
        room.address.into(),
        word(pixels)?.into(),
        word(line)?.into(),
        word(groups)?.into(),
        word(chunks)?.into(),
        epsilon.into(),
        u32::from(followed == Followed::BySilu).into(),
    ];
    // SAFETY: the rooms are as large as the two kernels say, and the sizes are those of x; the
    // second kernel begins when the first is done.
    unsafe {
        launch(device, &format!("group_sums_{name}_{n}"), summing, &first)?;
        launch(
            device,
            &format!("group_apply_{name}_{n}"),
            applying,
            &second,
        )?;
    }
    Ok(room.into_tensor(x.dims()))
}
