//! NVIDIA cards: our own kernels, and the ways into the vendor's libraries that the tensor library
//! does not have.
//!
//! On a card pictures `[batch, channels, height, width]` lie in memory with their channels last,
//! `[batch, height, width, channels]`: that is how matrix units like convolutions, and pixels are
//! tokens without being moved. [`last`] and [`first`] go from one view to the other; neither copies
//! what lies right already.
//!
//! The kernels of `kernels.cu` are compiled by the runtime compiler when the first one is needed,
//! for the card that is there. All work of a device goes to one stream, in order.

#![expect(
    unsafe_code,
    reason = "kernels and the vendor's libraries take bare addresses; each call says why they are good"
)]

mod attention;
#[cfg(feature = "cudnn")]
mod cudnn;
mod matmul;
mod normal;
mod picture;

use std::sync::OnceLock;

use candle_core::cuda::cudarc::driver::result::device::{
    get_default_mem_pool as device_pool, total_mem,
};
use candle_core::cuda::cudarc::driver::{DevicePtr as _, LaunchConfig, PushKernelArg as _, sys};
use candle_core::cuda::cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use candle_core::cuda::{CudaStorageSlice, WrapErr as _};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Device, Result, Storage, Tensor, bail};
use half::{bf16, f16};

pub(super) use self::attention::attention;
#[cfg(feature = "cudnn")]
pub(super) use self::cudnn::convolution;
pub(super) use self::matmul::linear;
pub(super) use self::normal::{group_norm, group_norm_fits, layer_norm};
pub(super) use self::picture::{add, enlarge, first, gated_gelu, gather, last};

/// Opens a card; also whether it knows bf16.
pub(super) fn open(number: usize) -> Result<(Device, bool)> {
    // One stream for all threads, so that what one of them began is done before another goes on.
    let device = Device::new_cuda_with_stream(number)?;
    let cuda = device.as_cuda_device()?;
    // SAFETY: it tracks what several streams do with the same memory. There is one.
    unsafe { cuda.disable_event_tracking() };
    keep_memory(cuda)?;
    let (major, _) = capability(cuda)?;
    Ok((device, major >= 8))
}

/// Keeps memory that is not in use at the moment in the program's pool. By itself the driver gives
/// it back whenever the program waits for the card, which is once a step.
fn keep_memory(device: &CudaDevice) -> Result<()> {
    let (pool, mut all) = (pool(device)?, u64::MAX);
    let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: the pool is there, and the attribute is a number of bytes.
    unsafe { sys::cuMemPoolSetAttribute(pool, threshold, std::ptr::from_mut(&mut all).cast()) }
        .result()
        .w()
}

fn pool(device: &CudaDevice) -> Result<sys::CUmemoryPool> {
    let stream = device.cuda_stream();
    // SAFETY: the device is there.
    unsafe { device_pool(stream.context().cu_device()) }.w()
}

/// Gives the memory of the pool back that no tensor uses.
pub(super) fn trim(device: &Device) -> Result<()> {
    device.synchronize()?;
    let pool = pool(device.as_cuda_device()?)?;
    // SAFETY: the pool is there, and nothing is under way.
    unsafe { sys::cuMemPoolTrimTo(pool, 0) }.result().w()
}

/// The memory of the card, in bytes.
pub(super) fn total_bytes(device: &Device) -> Result<u64> {
    let stream = device.as_cuda_device()?.cuda_stream();
    // SAFETY: the device is there.
    let bytes = unsafe { total_mem(stream.context().cu_device()) }.w()?;
    Ok(bytes as u64)
}

/// The most memory that tensors held at once since the card was opened, in bytes.
pub(super) fn peak_bytes(device: &Device) -> Result<u64> {
    let (pool, mut bytes) = (pool(device.as_cuda_device()?)?, 0_u64);
    let high = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
    // SAFETY: the pool is there, and the attribute is a number of bytes.
    unsafe { sys::cuMemPoolGetAttribute(pool, high, std::ptr::from_mut(&mut bytes).cast()) }
        .result()
        .w()?;
    Ok(bytes)
}

/// Major and minor number of what a card can do.
fn capability(device: &CudaDevice) -> Result<(i32, i32)> {
    device.cuda_stream().context().compute_capability().w()
}

/// The card of a tensor.
fn card(x: &Tensor) -> Result<&CudaDevice> {
    x.device().as_cuda_device()
}

/// Address of the first number of a contiguous tensor. It is good as long as the tensor is there;
/// after that until the work that has been queued by then is done.
fn address(x: &Tensor) -> Result<u64> {
    if !x.is_contiguous() {
        bail!("a contiguous tensor is needed");
    }
    address_of_first(x)
}

/// The same of a tensor that need not be contiguous.
fn address_of_first(x: &Tensor) -> Result<u64> {
    let (storage, layout) = x.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else {
        bail!("a tensor on a card is needed");
    };
    let before = layout.start_offset() * x.dtype().size_in_bytes();
    Ok(base(storage)? + before as u64)
}

/// Address of a whole allocation.
fn base(storage: &CudaStorage) -> Result<u64> {
    let stream = storage.device.cuda_stream();
    Ok(match &storage.slice {
        CudaStorageSlice::F32(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::F16(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::BF16(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::U8(slice) => slice.device_ptr(&stream).0,
        _ => bail!("no kernel computes in these numbers"),
    })
}

/// Memory for a result that is about to be computed.
struct Room {
    storage: CudaStorage,
    address: u64,
}

impl Room {
    /// Room for so many numbers. What is in it is not defined: whoever asks fills all of it.
    fn new(device: &CudaDevice, dtype: DType, count: usize) -> Result<Self> {
        // SAFETY: see above; nothing reads these numbers before a kernel has written them.
        let slice = unsafe {
            match dtype {
                DType::F32 => CudaStorageSlice::F32(device.alloc::<f32>(count)?),
                DType::F16 => CudaStorageSlice::F16(device.alloc::<f16>(count)?),
                DType::BF16 => CudaStorageSlice::BF16(device.alloc::<bf16>(count)?),
                DType::U8 => CudaStorageSlice::U8(device.alloc::<u8>(count)?),
                other => bail!("no kernel computes in {other:?}"),
            }
        };
        let storage = CudaStorage {
            slice,
            device: device.clone(),
        };
        let address = base(&storage)?;
        Ok(Self { storage, address })
    }

    /// The result.
    fn into_tensor(self, shape: &[usize]) -> Tensor {
        Tensor::from_storage(
            Storage::Cuda(self.storage),
            shape,
            BackpropOp::none(),
            false,
        )
    }
}

/// One argument of a kernel.
#[derive(Clone, Copy)]
enum Argument {
    Long(u64),
    Word(u32),
    Number(f32),
}

impl From<u64> for Argument {
    fn from(value: u64) -> Self {
        Self::Long(value)
    }
}

impl From<u32> for Argument {
    fn from(value: u32) -> Self {
        Self::Word(value)
    }
}

impl From<f32> for Argument {
    fn from(value: f32) -> Self {
        Self::Number(value)
    }
}

/// Blocks, threads of each and bytes they share.
#[derive(Clone, Copy)]
struct Grid {
    blocks: (u32, u32),
    threads: u32,
    shared: u32,
}

impl Grid {
    /// A thread for each of so many things.
    fn over(count: usize) -> Result<Self> {
        const THREADS: usize = 256;
        Ok(Self {
            blocks: (word(count.div_ceil(THREADS))?, 1),
            threads: 256,
            shared: 0,
        })
    }
}

/// Shared memory of a block that needs no asking.
const PLAIN_SHARED: u32 = 48 * 1024;

/// Starts a kernel.
///
/// # Safety
///
/// The arguments must be those of the kernel, and every address among them good for all that the
/// kernel reads and writes with this grid.
unsafe fn launch(
    device: &CudaDevice,
    name: &str,
    grid: Grid,
    arguments: &[Argument],
) -> Result<()> {
    if grid.blocks.0 == 0 || grid.blocks.1 == 0 {
        return Ok(());
    }
    let function = device.get_or_load_custom_func(name, "ordu", compiled(device)?)?;
    if grid.shared > PLAIN_SHARED {
        let wanted = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        let bytes = i32::try_from(grid.shared).map_err(candle_core::Error::wrap)?;
        function.set_attribute(wanted, bytes).w()?;
    }
    let mut builder = function.builder();
    for argument in arguments {
        match argument {
            Argument::Long(value) => builder.arg(value),
            Argument::Word(value) => builder.arg(value),
            Argument::Number(value) => builder.arg(value),
        };
    }
    let config = LaunchConfig {
        grid_dim: (grid.blocks.0, grid.blocks.1, 1),
        block_dim: (grid.threads, 1, 1),
        shared_mem_bytes: grid.shared,
    };
    // SAFETY: promised by the caller.
    unsafe { builder.launch(config) }.w()?;
    Ok(())
}

/// The kernels, compiled once per process; its cards are of one kind in practice.
fn compiled(device: &CudaDevice) -> Result<&'static str> {
    static COMPILED: OnceLock<std::result::Result<String, String>> = OnceLock::new();
    let compile = || {
        let (major, minor) = capability(device).map_err(|error| error.to_string())?;
        let options = CompileOptions {
            options: vec![
                format!("--gpu-architecture=compute_{major}{minor}"),
                "--std=c++17".to_owned(),
            ],
            ..CompileOptions::default()
        };
        compile_ptx_with_opts(include_str!("kernels.cu"), options)
            .map(|ptx| ptx.to_src())
            .map_err(|error| error.to_string())
    };
    match COMPILED.get_or_init(compile) {
        Ok(ptx) => Ok(ptx),
        Err(reason) => bail!("the kernels cannot be compiled: {reason}"),
    }
}

/// How kernels name numbers.
fn suffix(dtype: DType) -> Result<&'static str> {
    Ok(match dtype {
        DType::F32 => "f32",
        DType::F16 => "f16",
        DType::BF16 => "bf16",
        other => bail!("no kernel computes in {other:?}"),
    })
}

/// How many numbers a thread takes at once where lines are so long.
fn pack(width: usize) -> usize {
    if width.is_multiple_of(8) { 8 } else { 1 }
}

fn word(number: usize) -> Result<u32> {
    u32::try_from(number).map_err(candle_core::Error::wrap)
}
