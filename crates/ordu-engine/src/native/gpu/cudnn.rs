//! Convolutions of pictures with their channels last (cuDNN).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};

use candle_core::cuda::cudarc::cudnn::{result, sys};
use candle_core::cuda::{DeviceId, WrapErr as _};
use candle_core::{CudaDevice, DType, Error, Result, Tensor, bail};

use super::{Room, address, card, suffix};
use crate::native::ops::Geometry;

/// A convolution of `x` `[b, h, w, c]` by `weight` `[out, kernel * kernel * c]` with bias `[out]`,
/// added to `onto` `[b, h', w', out]`; zeros beyond the edges. `None` where the library has no way:
/// then it can be done by gathering.
pub(in crate::native) fn convolution(
    x: &Tensor,
    (weight, bias): (&Tensor, &Tensor),
    geometry: Geometry,
    onto: Option<&Tensor>,
) -> Result<Option<Tensor>> {
    let (batch, height, width, inputs) = x.dims4()?;
    let outputs = weight.dim(0)?;
    if geometry.before != geometry.after {
        return Ok(None);
    }
    let shape = [
        batch,
        geometry.output(height),
        geometry.output(width),
        outputs,
    ];
    let work = Work {
        numbers: suffix(x.dtype())?,
        x: [batch, inputs, height, width],
        y: [batch, outputs, shape[1], shape[2]],
        walk: [geometry.kernel, geometry.stride, geometry.before],
    };
    let device = card(x)?;
    let room = Room::new(device, x.dtype(), shape.iter().product())?;
    let call = Call {
        x: address(x)?,
        weight: address(weight)?,
        bias: address(bias)?,
        onto: onto.map(address).transpose()?,
        y: room.address,
    };
    let done = run(device, (work, x.dtype()), call)?;
    Ok(done.then(|| room.into_tensor(&shape)))
}

/// A kind of convolution; sizes as batch, channels, height, width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Work {
    numbers: &'static str,
    x: [usize; 4],
    y: [usize; 4],
    walk: [usize; 3],
}

/// Where its numbers lie.
#[derive(Clone, Copy)]
struct Call {
    x: u64,
    weight: u64,
    bias: u64,
    onto: Option<u64>,
    y: u64,
}

/// Descriptions of a kind of convolution. They are few and live as long as their thread.
#[derive(Clone, Copy)]
struct Plan {
    x: sys::cudnnTensorDescriptor_t,
    weight: sys::cudnnFilterDescriptor_t,
    bias: sys::cudnnTensorDescriptor_t,
    y: sys::cudnnTensorDescriptor_t,
    walk: sys::cudnnConvolutionDescriptor_t,
    nothing: sys::cudnnActivationDescriptor_t,
    workspace: usize,
}

/// The library on one card, for one thread.
struct Dnn {
    handle: sys::cudnnHandle_t,
    plans: BTreeMap<Work, Option<Plan>>,
}

thread_local! {
    // The handles are neither to be sent nor shared.
    static DNN: RefCell<Vec<(DeviceId, Dnn)>> = const { RefCell::new(Vec::new()) };
}

/// The one algorithm that takes bias and addition along.
const ALGORITHM: sys::cudnnConvolutionFwdAlgo_t =
    sys::cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;

/// Queues a convolution; `false` if the library has no way.
fn run(device: &CudaDevice, (work, dtype): (Work, DType), call: Call) -> Result<bool> {
    DNN.with_borrow_mut(|all| {
        let known = all.iter().position(|(id, _)| *id == device.id());
        let place = if let Some(place) = known {
            place
        } else {
            all.push((device.id(), Dnn::new(device)?));
            all.len() - 1
        };
        let Some((_, dnn)) = all.get_mut(place) else {
            return Ok(false);
        };
        let plan = if let Some(plan) = dnn.plans.get(&work) {
            *plan
        } else {
            let plan = Plan::new(dnn.handle, work, dtype).ok();
            dnn.plans.insert(work, plan);
            plan
        };
        let Some(plan) = plan else {
            return Ok(false);
        };
        match plan.queue(device, dnn.handle, call) {
            Ok(()) => Ok(true),
            Err(error) => {
                tracing::debug!(error = %error, work = ?work, "cuDNN does not do this");
                dnn.plans.insert(work, None);
                Ok(false)
            }
        }
    })
}

impl Dnn {
    fn new(device: &CudaDevice) -> Result<Self> {
        let stream = device.cuda_stream();
        stream.context().bind_to_thread().w()?;
        let handle = result::create_handle().map_err(Error::wrap)?;
        // SAFETY: both are there.
        unsafe { result::set_stream(handle, stream.cu_stream().cast()) }.map_err(Error::wrap)?;
        Ok(Self {
            handle,
            plans: BTreeMap::new(),
        })
    }
}

impl Plan {
    fn new(handle: sys::cudnnHandle_t, work: Work, dtype: DType) -> Result<Self> {
        let numbers = match dtype {
            DType::F32 => sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
            DType::F16 => sys::cudnnDataType_t::CUDNN_DATA_HALF,
            DType::BF16 => sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16,
            other => bail!("no convolution in {other:?}"),
        };
        let last = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;
        let (Ok(x_size), Ok(y_size)) = (whole(work.x), whole(work.y)) else {
            bail!("a picture too large");
        };
        let [_, inputs, ..] = x_size;
        let [_, outputs, ..] = y_size;
        let [kernel, stride, around] = whole(work.walk)?;
        let tensor = |size: [c_int; 4]| {
            let made = result::create_tensor_descriptor().map_err(Error::wrap)?;
            // SAFETY: it was just made.
            unsafe { result::set_tensor4d_descriptor(made, last, numbers, size) }
                .map_err(Error::wrap)?;
            Ok::<_, Error>(made)
        };
        let (x, bias, y) = (
            tensor(x_size)?,
            tensor([1, outputs, 1, 1])?,
            tensor(y_size)?,
        );
        let weight = result::create_filter_descriptor().map_err(Error::wrap)?;
        let walk = result::create_convolution_descriptor().map_err(Error::wrap)?;
        let nothing = result::create_activation_descriptor().map_err(Error::wrap)?;
        // Numbers of 32 bits are multiplied as such: who asks for them wants them exact.
        let units = if dtype == DType::F32 {
            sys::cudnnMathType_t::CUDNN_FMA_MATH
        } else {
            sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH
        };
        // SAFETY: all descriptions were just made.
        let workspace = unsafe {
            let size = [outputs, inputs, kernel, kernel];
            result::set_filter4d_descriptor(weight, numbers, last, size).map_err(Error::wrap)?;
            result::set_convolution2d_descriptor(
                walk,
                around,
                around,
                stride,
                stride,
                1,
                1,
                sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION,
                sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
            )
            .map_err(Error::wrap)?;
            result::set_convolution_math_type(walk, units).map_err(Error::wrap)?;
            result::set_activation_descriptor(
                nothing,
                sys::cudnnActivationMode_t::CUDNN_ACTIVATION_IDENTITY,
                sys::cudnnNanPropagation_t::CUDNN_NOT_PROPAGATE_NAN,
                0.0,
            )
            .map_err(Error::wrap)?;
            result::get_convolution_forward_workspace_size(handle, x, weight, walk, y, ALGORITHM)
                .map_err(Error::wrap)?
        };
        Ok(Self {
            x,
            weight,
            bias,
            y,
            walk,
            nothing,
            workspace,
        })
    }

    fn queue(&self, device: &CudaDevice, handle: sys::cudnnHandle_t, call: Call) -> Result<()> {
        let workspace = Room::new(device, DType::U8, self.workspace.max(1))?;
        let (one, added) = (1_f32, if call.onto.is_some() { 1_f32 } else { 0_f32 });
        // SAFETY: the plan was made for numbers and sizes of this call, whose tensors are there;
        // the workspace is freed behind this work.
        unsafe {
            result::convolution_bias_activation_forward(
                handle,
                std::ptr::from_ref(&one).cast(),
                self.x,
                call.x as *const c_void,
                self.weight,
                call.weight as *const c_void,
                self.walk,
                ALGORITHM,
                workspace.address as *mut c_void,
                self.workspace,
                std::ptr::from_ref(&added).cast(),
                self.y,
                call.onto.unwrap_or(call.y) as *const c_void,
                self.bias,
                call.bias as *const c_void,
                self.nothing,
                self.y,
                call.y as *mut c_void,
            )
        }
        .map_err(Error::wrap)
    }
}

fn whole<const N: usize>(sizes: [usize; N]) -> Result<[c_int; N]> {
    let mut all = [0; N];
    for (to, from) in all.iter_mut().zip(sizes) {
        *to = c_int::try_from(from).map_err(Error::wrap)?;
    }
    Ok(all)
}
