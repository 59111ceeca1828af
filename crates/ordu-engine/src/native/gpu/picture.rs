//! Pointwise work, and pictures with their channels last.

use candle_core::{Result, Tensor};

use super::{Argument, Grid, Room, address, card, launch, pack, suffix, word};
use crate::native::ops::{Edges, Geometry};

/// `[b, c, h, w]` as `[b, h, w, c]`, contiguous.
pub(in crate::native) fn last(x: &Tensor) -> Result<Tensor> {
    x.permute((0, 2, 3, 1))?.contiguous()
}

/// `[b, h, w, c]` as `[b, c, h, w]`; nothing moves.
pub(in crate::native) fn first(x: &Tensor) -> Result<Tensor> {
    x.permute((0, 3, 1, 2))
}

/// The sum of two contiguous tensors of one shape.
pub(in crate::native) fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    if x.dims() != y.dims() || x.dtype() != y.dtype() {
        candle_core::bail!("{:?} and {:?} cannot be added", x.shape(), y.shape());
    }
    let n = pack(x.elem_count());
    let packs = x.elem_count() / n;
    let room = Room::new(card(x)?, x.dtype(), x.elem_count())?;
    let name = format!("add_{}_{n}", suffix(x.dtype())?);
    let arguments = [
        address(x)?.into(),
        address(y)?.into(),
        room.address.into(),
        Argument::Long(packs as u64),
    ];
    // SAFETY: all three hold as many numbers as the packs together.
    unsafe { launch(card(x)?, &name, Grid::over(packs)?, &arguments)? };
    Ok(room.into_tensor(x.dims()))
}

/// `[…, 2 n]` to `[…, n]`: the left half times the GELU of the right half.
pub(in crate::native) fn gated_gelu(x: &Tensor) -> Result<Tensor> {
    let mut shape = x.dims().to_vec();
    let width = shape.pop().unwrap_or_default() / 2;
    shape.push(width);
    let n = pack(width);
    let packs = x.elem_count() / 2 / n;
    let room = Room::new(card(x)?, x.dtype(), x.elem_count() / 2)?;
    let name = format!("geglu_{}_{n}", suffix(x.dtype())?);
    let arguments = [
        address(x)?.into(),
        room.address.into(),
        Argument::Long(packs as u64),
        word(width / n)?.into(),
    ];
    // SAFETY: the result has half the numbers of x, in rows of `width`.
    unsafe { launch(card(x)?, &name, Grid::over(packs)?, &arguments)? };
    Ok(room.into_tensor(&shape))
}

/// A band of rows of what each place of a convolution's result sees of a picture `[b, h, w, c]`:
/// `[b, rows, columns, kernel * kernel * c]`.
pub(in crate::native) fn gather(
    x: &Tensor,
    geometry: Geometry,
    edges: Edges,
    (start, rows): (usize, usize),
) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    let columns = geometry.output(width);
    let taps = geometry.kernel * geometry.kernel;
    let n = pack(channels);
    let count = batch * rows * columns * taps * channels;
    let room = Room::new(card(x)?, x.dtype(), count)?;
    let name = format!("gather_{}_{n}", suffix(x.dtype())?);
    let arguments = [
        address(x)?.into(),
        room.address.into(),
        Argument::Long((count / n) as u64),
        word(height)?.into(),
        word(width)?.into(),
        word(rows)?.into(),
        word(columns)?.into(),
        word(start)?.into(),
        word(geometry.kernel)?.into(),
        word(geometry.stride)?.into(),
        word(geometry.before)?.into(),
        u32::from(edges == Edges::Wrap).into(),
        word(channels / n)?.into(),
    ];
    // SAFETY: the sizes are those of x and of the room; what lies beyond the edge is not read.
    unsafe { launch(card(x)?, &name, Grid::over(count / n)?, &arguments)? };
    Ok(room.into_tensor(&[batch, rows, columns, taps * channels]))
}

/// `[b, h, w, c]` to `[b, height, width, c]`, each pixel the nearest one.
pub(in crate::native) fn enlarge(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (batch, from_height, from_width, channels) = x.dims4()?;
    let n = pack(channels);
    let count = batch * height * width * channels;
    let room = Room::new(card(x)?, x.dtype(), count)?;
    let name = format!("enlarge_{}_{n}", suffix(x.dtype())?);
    let arguments = [
        address(x)?.into(),
        room.address.into(),
        Argument::Long((count / n) as u64),
        word(from_height)?.into(),
        word(from_width)?.into(),
        word(height)?.into(),
        word(width)?.into(),
        word(channels / n)?.into(),
    ];
    // SAFETY: the sizes are those of x and of the room.
    unsafe { launch(card(x)?, &name, Grid::over(count / n)?, &arguments)? };
    Ok(room.into_tensor(&[batch, height, width, channels]))
}
