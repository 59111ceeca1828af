//! Attention without its matrix of scores.

use candle_core::cuda::WrapErr as _;
use candle_core::cuda::cudarc::driver::sys::CUdevice_attribute;
use candle_core::{DType, Result, Tensor};

use super::{Grid, Room, address_of_first, capability, card, launch, suffix, word};

/// Keys that are worked on at once.
const KEYS: usize = 64;

/// Numbers a head, and for each warp how many times 16 queries.
const HEADS: [(usize, usize); 4] = [(40, 2), (64, 2), (80, 1), (160, 1)];

/// `softmax(q kᵀ / √d) v` of `[b, tokens, heads * d]` whose lines are contiguous; `None` where there
/// is no kernel for it, by the numbers, the width of a head or the card.
pub(in crate::native) fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
) -> Result<Option<Tensor>> {
    let device = card(q)?;
    let (batch, queries, width) = q.dims3()?;
    let keys = k.dim(1)?;
    let each = width / heads;
    let known = HEADS.iter().find(|(numbers, _)| *numbers == each);
    let (Some((_, tall)), DType::F16 | DType::BF16) = (known, q.dtype()) else {
        return Ok(None);
    };
    let rows = 64 * tall;
    let pitch = each.next_multiple_of(16) + 8;
    let shared = (rows + 4 * KEYS) * pitch * q.dtype().size_in_bytes();
    let most = device
        .cuda_stream()
        .context()
        .attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)
        .w()?;
    if capability(device)?.0 < 8 || shared > usize::try_from(most).unwrap_or_default() {
        return Ok(None);
    }
    let room = Room::new(device, q.dtype(), q.elem_count())?;
    let grid = Grid {
        blocks: (word(queries.div_ceil(rows))?, word(batch * heads)?),
        threads: 128,
        shared: word(shared)?,
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the kernel computes in f32"
    )]
    let scale = (std::f64::consts::LOG2_E / (each as f64).sqrt()) as f32;
    let (Some(q_lines), Some(k_lines), Some(v_lines)) = (lines(q)?, lines(k)?, lines(v)?) else {
        return Ok(None);
    };
    let arguments = [
        q_lines.at.into(),
        k_lines.at.into(),
        v_lines.at.into(),
        room.address.into(),
        word(queries)?.into(),
        word(keys)?.into(),
        word(heads)?.into(),
        q_lines.row.into(),
        q_lines.picture.into(),
        k_lines.row.into(),
        k_lines.picture.into(),
        v_lines.row.into(),
        v_lines.picture.into(),
        scale.into(),
    ];
    let name = format!("attention_{each}_{}", suffix(q.dtype())?);
    // SAFETY: the sizes and distances are those of the tensors; beyond the last query and key
    // nothing is read or written.
    unsafe { launch(device, &name, grid, &arguments)? };
    Ok(Some(room.into_tensor(q.dims())))
}

/// Where the lines of a tensor `[b, tokens, width]` lie; distances in numbers.
struct Lines {
    at: u64,
    row: u64,
    picture: u64,
}

/// The lines of a tensor, if they can be read sixteen bytes at a time.
fn lines(x: &Tensor) -> Result<Option<Lines>> {
    let at = address_of_first(x)?;
    let &[picture, row, 1] = x.stride() else {
        return Ok(None);
    };
    let aligned = at.is_multiple_of(16) && row.is_multiple_of(8) && picture.is_multiple_of(8);
    Ok(aligned.then_some(Lines {
        at,
        row: row as u64,
        picture: picture as u64,
    }))
}
