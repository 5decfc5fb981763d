//! Where a run computes: on the CPU, or on an NVIDIA GPU in a build with CUDA.

use std::str::FromStr;

use candle_core::Device;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

#[cfg(feature = "cuda")]
mod cuda;
pub(crate) mod processor;
pub(crate) mod room;
pub(crate) mod speed;

/// A device, as the user names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU where there is one to be used, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of this number.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let number = match text.split_once(':') {
            None => match text {
                "auto" => return Ok(Self::Auto),
                "cpu" => return Ok(Self::Cpu),
                "cuda" => Some(0),
                _ => None,
            },
            Some(("cuda", number)) => number.parse().ok(),
            Some(_) => None,
        };
        number.map(Self::Cuda).ok_or_else(|| "expected auto, cpu, cuda or cuda:N".into())
    }
}

impl DeviceChoice {
    /// What a device is, as the sidecar has it: `cpu`, or `cuda:0 NVIDIA H100 80GB HBM3`.
    pub fn describe(device: &Device) -> String {
        describe(device)
    }

    /// Opens the device.
    ///
    /// # Errors
    /// If a GPU is asked for and cannot be used, with the reason.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(number) => cuda::open(number)
                .map_err(|why| Error::field("device", format!("cuda:{number}: {why}"))),
            Self::Auto => Ok(automatic()),
        }
    }
}

/// A machine without a driver or a GPU is no event; one whose GPU cannot be used is.
fn automatic() -> Device {
    if !cuda::count().is_ok_and(|count| count > 0) {
        return Device::Cpu;
    }
    cuda::open(0).unwrap_or_else(|why| {
        tracing::warn!("computing on the CPU, because the GPU cannot be used: {why}");
        Device::Cpu
    })
}

/// What a device is, as the sidecar has it: `cpu`, or `cuda:0 NVIDIA H100 80GB HBM3`.
pub(crate) fn describe(device: &Device) -> String {
    cuda::describe(device).unwrap_or_else(|| "cpu".into())
}

/// Bytes of a GPU's memory that the tensors of this program take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMemory {
    /// Between two steps of the work.
    pub held: u64,
    /// At any time so far.
    pub peak: u64,
}

impl DeviceMemory {
    /// The larger numbers of both.
    pub(crate) fn max(self, other: Self) -> Self {
        Self { held: self.held.max(other.held), peak: self.peak.max(other.peak) }
    }
}

/// What a GPU's tensors take now; nothing for the CPU.
pub(crate) fn memory(device: &Device) -> Option<DeviceMemory> {
    cuda::memory(device)
}

#[cfg(not(feature = "cuda"))]
mod cuda {
    use candle_core::Device;

    const ABSENT: &str = "this build has no CUDA; build one with `cargo xtask cuda`";

    pub(super) fn count() -> Result<usize, String> {
        Err(ABSENT.into())
    }

    pub(super) fn open(_: usize) -> Result<Device, String> {
        Err(ABSENT.into())
    }

    pub(super) fn describe(_: &Device) -> Option<String> {
        None
    }

    pub(super) fn memory(_: &Device) -> Option<super::DeviceMemory> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Turn;

    #[test]
    fn devices_are_named_as_users_name_them() {
        let read = |text: &str| text.parse::<DeviceChoice>();
        assert_eq!(read("auto"), Ok(DeviceChoice::Auto));
        assert_eq!(read("cpu"), Ok(DeviceChoice::Cpu));
        assert_eq!(read("cuda"), Ok(DeviceChoice::Cuda(0)));
        assert_eq!(read("cuda:3"), Ok(DeviceChoice::Cuda(3)));
        for bad in ["", "gpu", "CPU", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "cuda:0:1"] {
            assert!(read(bad).unwrap_err().contains("cuda:N"), "{bad}");
        }
    }

    #[test]
    fn the_cpu_is_always_there_and_has_no_memory_of_its_own() {
        let cpu = DeviceChoice::Cpu.open().unwrap();
        assert!(cpu.is_cpu());
        assert_eq!((describe(&cpu).as_str(), memory(&cpu)), ("cpu", None));
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn without_cuda_a_gpu_is_refused_and_auto_is_the_cpu() {
        assert!(DeviceChoice::Auto.open().unwrap().is_cpu());
        let error = DeviceChoice::Cuda(1).open().unwrap_err();
        assert_eq!(error.turn(), Turn::Caller);
        assert!(
            error.to_string().starts_with("`device` cuda:1: this build has no CUDA"),
            "{error}"
        );
    }
}
