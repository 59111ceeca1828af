//! Products with a matrix of weights, with bias and addition in the same pass (cuBLASLt).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::c_void;

use candle_core::cuda::cudarc::cublaslt::{result, sys};
use candle_core::cuda::{DeviceId, WrapErr as _};
use candle_core::{CudaDevice, DType, Error, Result, Tensor, bail};

use super::{Argument, Grid, Room, address, card, launch, pack, suffix, word};

/// `x wᵀ + bias + onto` for a contiguous `x` `[…, in]`, `w` `[out, in]`, a bias `[out]` and `onto`
/// shaped like the result `[…, out]`.
pub(in crate::native) fn linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    onto: Option<&Tensor>,
) -> Result<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    let mut shape = x.dims().to_vec();
    if shape.pop() != Some(inputs) || x.dtype() != weight.dtype() {
        bail!(
            "{:?} cannot be multiplied by {:?}",
            x.shape(),
            weight.shape()
        );
    }
    shape.push(outputs);
    let size = Size {
        outputs,
        rows: x.elem_count() / inputs,
        inputs,
    };
    let room = Room::new(card(x)?, x.dtype(), size.rows * outputs)?;
    let call = Call {
        weight: address(weight)?,
        x: address(x)?,
        bias: bias.map(address).transpose()?,
        onto: onto.map(address).transpose()?,
        y: room.address,
    };
    let product = Product {
        dtype: x.dtype(),
        size,
        biased: bias.is_some(),
        added: onto.is_some(),
    };
    if !run(card(x)?, product, call)? {
        // No kernel of the library takes the bias along.
        let product = Product {
            biased: false,
            ..product
        };
        let plain = Call { bias: None, ..call };
        if !run(card(x)?, product, plain)? {
            bail!("cuBLASLt has no product for {product:?}");
        }
        if let Some(bias) = call.bias {
            add_bias(x, bias, &room, size)?;
        }
    }
    Ok(room.into_tensor(&shape))
}

/// Adds a bias to each row of a result, in place.
fn add_bias(x: &Tensor, bias: u64, room: &Room, size: Size) -> Result<()> {
    let n = pack(size.outputs);
    let packs = size.rows * size.outputs / n;
    let arguments = [
        room.address.into(),
        bias.into(),
        room.address.into(),
        Argument::Long(packs as u64),
        word(size.outputs / n)?.into(),
    ];
    let name = format!("bias_{}_{n}", suffix(x.dtype())?);
    // SAFETY: the room holds so many rows, the bias one.
    unsafe { launch(card(x)?, &name, Grid::over(packs)?, &arguments) }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Size {
    outputs: usize,
    rows: usize,
    inputs: usize,
}

/// A kind of product.
#[derive(Clone, Copy, Debug)]
struct Product {
    dtype: DType,
    size: Size,
    biased: bool,
    added: bool,
}

/// Where its numbers lie.
#[derive(Clone, Copy)]
struct Call {
    weight: u64,
    x: u64,
    bias: Option<u64>,
    onto: Option<u64>,
    y: u64,
}

/// How a kind of product is done: descriptions, and the kernel that the library advises. They are
/// few and live as long as their thread.
#[derive(Clone, Copy)]
struct Plan {
    description: sys::cublasLtMatmulDesc_t,
    weight: sys::cublasLtMatrixLayout_t,
    x: sys::cublasLtMatrixLayout_t,
    y: sys::cublasLtMatrixLayout_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

type Key = (&'static str, Size, bool, bool);

/// The library on one card, for one thread.
struct Blas {
    handle: sys::cublasLtHandle_t,
    workspace: Room,
    plans: BTreeMap<Key, Option<Plan>>,
}

/// What NVIDIA advises for its larger cards.
const WORKSPACE: usize = 32 * 1024 * 1024;

thread_local! {
    // The handles are neither to be sent nor shared.
    static BLAS: RefCell<Vec<(DeviceId, Blas)>> = const { RefCell::new(Vec::new()) };
}

/// Queues a product; `false` if the library has no kernel for it.
fn run(device: &CudaDevice, product: Product, call: Call) -> Result<bool> {
    BLAS.with_borrow_mut(|all| {
        let known = all.iter().position(|(id, _)| *id == device.id());
        let place = if let Some(place) = known {
            place
        } else {
            let blas = Blas {
                handle: result::create_handle().map_err(Error::wrap)?,
                workspace: Room::new(device, DType::U8, WORKSPACE)?,
                plans: BTreeMap::new(),
            };
            all.push((device.id(), blas));
            all.len() - 1
        };
        let Some((_, blas)) = all.get_mut(place) else {
            return Ok(false);
        };
        let key = (
            suffix(product.dtype)?,
            product.size,
            product.biased,
            product.added,
        );
        let plan = if let Some(plan) = blas.plans.get(&key) {
            *plan
        } else {
            let plan = Plan::find(blas.handle, product, call).ok();
            blas.plans.insert(key, plan);
            plan
        };
        match plan {
            Some(plan) => plan.queue(device, blas, call).map(|()| true),
            None => Ok(false),
        }
    })
}

impl Plan {
    /// The library counts by columns: there the result is `[out, rows]`, the weights lie transposed
    /// and x as it is.
    fn find(handle: sys::cublasLtHandle_t, product: Product, call: Call) -> Result<Self> {
        let (numbers, size) = (data_type(product.dtype)?, product.size);
        let (m, n, k) = (size.outputs as u64, size.rows as u64, size.inputs as u64);
        let matrix = |rows: u64, columns: u64| {
            let pitch = i64::try_from(rows).map_err(Error::wrap)?;
            result::create_matrix_layout(numbers, rows, columns, pitch).map_err(Error::wrap)
        };
        let description = result::create_matmul_desc(
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            sys::cudaDataType_t::CUDA_R_32F,
        )
        .map_err(Error::wrap)?;
        set(
            description,
            sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSA,
            &1_i32,
        )?;
        if let Some(bias) = call.bias {
            let epilogue = sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS;
            set(
                description,
                sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_EPILOGUE,
                &epilogue,
            )?;
            set_bias(description, bias)?;
        }
        let (weight, x, y) = (matrix(k, m)?, matrix(k, n)?, matrix(m, n)?);
        let wishes = result::create_matmul_pref().map_err(Error::wrap)?;
        let most =
            sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
        // SAFETY: everything was created above, and the attribute is a number of bytes.
        let found = unsafe {
            result::set_matmul_pref_attribute(
                wishes,
                most,
                std::ptr::from_ref(&WORKSPACE).cast(),
                size_of::<usize>(),
            )
            .map_err(Error::wrap)?;
            let found =
                result::get_matmul_algo_heuristic(handle, description, weight, x, y, y, wishes);
            result::destroy_matmul_pref(wishes).map_err(Error::wrap)?;
            found.map_err(Error::wrap)?
        };
        Ok(Self {
            description,
            weight,
            x,
            y,
            algorithm: found.algo,
        })
    }

    fn queue(&self, device: &CudaDevice, blas: &Blas, call: Call) -> Result<()> {
        if let Some(bias) = call.bias {
            set_bias(self.description, bias)?;
        }
        let stream = device.cuda_stream();
        stream.context().bind_to_thread().w()?;
        let (alpha, beta) = (1_f32, if call.onto.is_some() { 1_f32 } else { 0_f32 });
        // SAFETY: the plan was made for numbers and sizes of this call, whose tensors are there;
        // the workspace is ours alone on this stream.
        unsafe {
            result::matmul(
                blas.handle,
                self.description,
                std::ptr::from_ref(&alpha).cast(),
                std::ptr::from_ref(&beta).cast(),
                call.weight as *const c_void,
                self.weight,
                call.x as *const c_void,
                self.x,
                call.onto.unwrap_or(call.y) as *const c_void,
                self.y,
                call.y as *mut c_void,
                self.y,
                std::ptr::from_ref(&self.algorithm),
                blas.workspace.address as *mut c_void,
                WORKSPACE,
                stream.cu_stream().cast(),
            )
        }
        .map_err(Error::wrap)
    }
}

fn set_bias(description: sys::cublasLtMatmulDesc_t, bias: u64) -> Result<()> {
    let pointer = sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER;
    set(description, pointer, &bias)
}

fn set<T>(
    description: sys::cublasLtMatmulDesc_t,
    attribute: sys::cublasLtMatmulDescAttributes_t,
    value: &T,
) -> Result<()> {
    // SAFETY: the description is one of ours, and the value is of the attribute's type.
    unsafe {
        result::set_matmul_desc_attribute(
            description,
            attribute,
            std::ptr::from_ref(value).cast(),
            size_of::<T>(),
        )
    }
    .map_err(Error::wrap)
}

fn data_type(dtype: DType) -> Result<sys::cudaDataType> {
    Ok(match dtype {
        DType::F32 => sys::cudaDataType_t::CUDA_R_32F,
        DType::F16 => sys::cudaDataType_t::CUDA_R_16F,
        DType::BF16 => sys::cudaDataType_t::CUDA_R_16BF,
        other => bail!("no product in {other:?}"),
    })
}
