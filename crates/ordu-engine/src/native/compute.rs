//! On which device networks compute, and in which numbers.
//!
//! The processor is always there. Others are features of this crate (`cuda`, `metal`): without them
//! asking for one is an error that says so.

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device, Tensor};

use crate::{EngineError, Place};

/// The device that is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first accelerator this program was built for and finds, else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// An NVIDIA card, counted from 0.
    Cuda(usize),
    /// Apple's graphics.
    Metal,
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => return Ok(Self::Auto),
            "cpu" => return Ok(Self::Cpu),
            "cuda" => return Ok(Self::Cuda(0)),
            "metal" => return Ok(Self::Metal),
            _ => {}
        }
        text.strip_prefix("cuda:")
            .and_then(|number| number.parse().ok())
            .filter(|number| *number < MAX_CARDS)
            .map(Self::Cuda)
            .ok_or_else(|| format!("`{text}` is no device: use `auto`, `cpu`, `cuda:0` or `metal`"))
    }
}

/// More than any machine has.
const MAX_CARDS: usize = 64;

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

impl DeviceChoice {
    /// Whether this program was built for the device; looks at no device.
    ///
    /// # Errors
    ///
    /// [`EngineError::NoDevice`] if it was not.
    pub fn check(self) -> Result<(), EngineError> {
        let (feature, name) = match self {
            Self::Cuda(_) if !cfg!(feature = "cuda") => ("cudnn", "CUDA"),
            Self::Metal if !cfg!(feature = "metal") => ("metal", "Metal"),
            _ => return Ok(()),
        };
        Err(EngineError::NoDevice {
            device: self.to_string(),
            reason: format!(
                "this program was built without {name}; build it with `--features {feature}`"
            ),
        })
    }
}

/// The numbers that are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// What suits the device: f16 on an NVIDIA card, f32 elsewhere.
    #[default]
    Auto,
    /// 32 bits: the reference.
    F32,
    /// 16 bits with a large mantissa.
    F16,
    /// 16 bits with a large exponent.
    Bf16,
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "bf16" => Ok(Self::Bf16),
            _ => Err(format!(
                "`{text}` is no precision: use `auto`, `f32`, `f16` or `bf16`"
            )),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

/// A device in use, and the numbers that networks compute in on it.
#[derive(Clone, Debug)]
pub struct Compute {
    device: Device,
    dtype: DType,
    /// Whether the device knows bf16.
    brain: bool,
}

impl Compute {
    /// The processor, in f32.
    #[must_use]
    pub fn cpu() -> Self {
        Self {
            device: Device::Cpu,
            dtype: DType::F32,
            brain: false,
        }
    }

    /// Opens a device.
    ///
    /// # Errors
    ///
    /// [`EngineError::NoDevice`] if this program was built without it, if it is not there, or if it
    /// cannot compute in what is asked for.
    pub fn open(choice: DeviceChoice, precision: Precision) -> Result<Self, EngineError> {
        let (device, brain) = match choice {
            DeviceChoice::Auto => automatic(),
            DeviceChoice::Cpu => (Device::Cpu, false),
            DeviceChoice::Cuda(number) => cuda(number)?,
            DeviceChoice::Metal => (metal()?, false),
        };
        let no = |reason: &str| {
            Err(EngineError::NoDevice {
                device: name(&device),
                reason: reason.to_owned(),
            })
        };
        let dtype = match precision {
            Precision::Auto if device.is_cuda() => DType::F16,
            Precision::Auto | Precision::F32 => DType::F32,
            Precision::F16 | Precision::Bf16 if device.is_cpu() => {
                return no("it computes in f32 only; give `f32` or `auto`");
            }
            Precision::Bf16 if !brain => {
                return no("it knows no bf16; give `f16`, `f32` or `auto`");
            }
            Precision::F16 => DType::F16,
            Precision::Bf16 => DType::BF16,
        };
        Ok(Self {
            device,
            dtype,
            brain,
        })
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The numbers.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// How networks compute here whose activations leave the range of f16, and whose pictures turn black
    /// then: autoencoders, and all of Stable Cascade.
    #[must_use]
    pub fn with_range_of_f32(&self) -> Self {
        let dtype = match self.dtype {
            DType::F16 if self.brain => DType::BF16,
            DType::F16 => DType::F32,
            other => other,
        };
        Self {
            dtype,
            ..self.clone()
        }
    }

    /// The memory that weights take.
    pub fn place(&self) -> Place {
        if self.device.is_cpu() {
            Place::Ram
        } else {
            Place::Vram
        }
    }

    /// The most memory that tensors of this program held at once on its card, in bytes; `None` where
    /// nobody counts.
    pub fn peak_bytes(&self) -> Option<u64> {
        #[cfg(feature = "cuda")]
        if self.device.is_cuda() {
            return super::gpu::peak_bytes(&self.device).ok();
        }
        None
    }

    /// Gives memory back to the system that is only kept for the next tensors.
    pub fn trim(&self) {
        #[cfg(feature = "cuda")]
        if self.device.is_cuda()
            && let Err(error) = super::gpu::trim(&self.device)
        {
            tracing::warn!(%error, "the card's memory is not given back");
        }
    }

    /// The memory of its card, in bytes; `None` where nobody says.
    pub fn total_bytes(&self) -> Option<u64> {
        #[cfg(feature = "cuda")]
        if self.device.is_cuda() {
            return super::gpu::total_bytes(&self.device).ok();
        }
        None
    }

    /// A tensor as networks here take it.
    ///
    /// # Errors
    ///
    /// Those of the tensor library.
    pub fn take(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        x.to_device(&self.device)?.to_dtype(self.dtype)
    }
}

impl fmt::Display for Compute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", name(&self.device), self.dtype.as_str())
    }
}

fn name(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => "cpu".to_owned(),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { .. } => "metal".to_owned(),
    }
}

/// The first that opens; the processor always does.
fn automatic() -> (Device, bool) {
    if cfg!(feature = "cuda") {
        match cuda(0) {
            Ok(found) => return found,
            Err(error) => {
                tracing::warn!(error = %error, "no NVIDIA card, computing on the processor");
            }
        }
    }
    if cfg!(feature = "metal") {
        match metal() {
            Ok(device) => return (device, false),
            Err(error) => tracing::warn!(error = %error, "no Metal, computing on the processor"),
        }
    }
    (Device::Cpu, false)
}

/// A card; also whether it knows bf16.
fn cuda(number: usize) -> Result<(Device, bool), EngineError> {
    let choice = DeviceChoice::Cuda(number);
    choice.check()?;
    #[cfg(feature = "cuda")]
    let opened = super::gpu::open(number);
    // Unreachable: without the feature the check has failed.
    #[cfg(not(feature = "cuda"))]
    let opened = Device::new_cuda(number).map(|device| (device, false));
    opened.map_err(|error| no(choice, &error))
}

fn metal() -> Result<Device, EngineError> {
    DeviceChoice::Metal.check()?;
    Device::new_metal(0).map_err(|error| no(DeviceChoice::Metal, &error))
}

fn no(choice: DeviceChoice, error: &candle_core::Error) -> EngineError {
    EngineError::NoDevice {
        device: choice.to_string(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written() {
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("cuda:0", DeviceChoice::Cuda(0)),
            ("cuda:63", DeviceChoice::Cuda(63)),
            ("metal", DeviceChoice::Metal),
        ] {
            assert_eq!(text.parse(), Ok(choice));
            assert_eq!(choice.to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        for wrong in [
            "", "gpu", "cuda:", "cuda:-1", "cuda:64", "cuda:1x", "CPU", "metal:0",
        ] {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn precisions_are_read_as_they_are_written() {
        for text in ["auto", "f32", "f16", "bf16"] {
            assert_eq!(text.parse::<Precision>().unwrap().to_string(), text);
        }
        assert!("fp16".parse::<Precision>().is_err());
    }

    #[test]
    fn a_processor_computes_in_f32_alone() {
        let compute = Compute::open(DeviceChoice::Cpu, Precision::Auto).unwrap();
        assert_eq!(compute.to_string(), "cpu in f32");
        assert_eq!(compute.place(), Place::Ram);
        assert_eq!(compute.with_range_of_f32().dtype(), DType::F32);
        for precision in [Precision::F16, Precision::Bf16] {
            let error = Compute::open(DeviceChoice::Cpu, precision).unwrap_err();
            assert!(error.to_string().contains("`cpu`"), "{error}");
            assert!(error.to_string().contains("f32 only"), "{error}");
        }
    }

    #[cfg(not(any(feature = "cuda", feature = "metal")))]
    #[test]
    fn what_was_not_built_in_is_said_to_be_missing() {
        for (choice, wanted) in [
            (DeviceChoice::Cuda(1), "built without CUDA"),
            (DeviceChoice::Metal, "built without Metal"),
        ] {
            let error = Compute::open(choice, Precision::Auto).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(wanted), "{text}");
            assert!(text.contains(&format!("`{choice}`")), "{text}");
            assert!(text.contains("--features"), "{text}");
        }
        let auto = Compute::open(DeviceChoice::Auto, Precision::Auto).unwrap();
        assert_eq!(auto.to_string(), "cpu in f32");
    }
}
