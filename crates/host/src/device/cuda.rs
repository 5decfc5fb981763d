//! NVIDIA GPUs, through candle's cudarc.

use std::panic::{self, UnwindSafe};

use candle_core::Device;
use candle_core::cuda_backend::cudarc::driver::CudaContext;
use candle_core::cuda_backend::cudarc::driver::result::{device, mem_pool};
use candle_core::cuda_backend::cudarc::driver::sys::CUmemPool_attribute;

use super::DeviceMemory;

/// GPUs that the driver shows.
pub(super) fn count() -> Result<usize, String> {
    let counted = caught(CudaContext::device_count)
        .map_err(|why| format!("there is no NVIDIA driver here ({why})"))?;
    let count = counted.map_err(|error| format!("the NVIDIA driver says {error}"))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// All work goes to one stream, whichever thread asks for it: candle's other way gives each thread
/// a stream of its own, and nothing would order what they do to one tensor.
pub(super) fn open(number: usize) -> Result<Device, String> {
    let count = count()?;
    if number >= count {
        return Err(format!("there is no such GPU; the driver shows {count}, from cuda:0"));
    }
    let opened = caught(|| Device::new_cuda_with_stream(number)).map_err(|why| {
        format!(
            "a library of the CUDA toolkit is missing; put cublas, cublasLt, curand and nvrtc on \
             LD_LIBRARY_PATH ({why})"
        )
    })?;
    opened.map_err(|error| error.to_string())
}

pub(super) fn describe(device: &Device) -> Option<String> {
    let stream = device.as_cuda_device().ok()?.cuda_stream();
    let name = stream.context().name().unwrap_or_else(|error| error.to_string());
    Some(format!("cuda:{} {name}", stream.context().ordinal()))
}

/// What the driver's pool, which all tensors come from, says of itself. It takes memory from the
/// device in pieces of 32 MiB; this is what is handed out of them.
#[expect(unsafe_code, reason = "cudarc has the pool as raw handles alone")]
pub(super) fn memory(device: &Device) -> Option<DeviceMemory> {
    let stream = device.as_cuda_device().ok()?.cuda_stream();
    if !stream.context().has_async_alloc() {
        return None;
    }
    // What was freed counts until the work before it is done.
    stream.synchronize().ok()?;
    // SAFETY: the handle is that of a device whose context `stream` keeps.
    let pool = unsafe { device::get_mem_pool(stream.context().cu_device()) }.ok()?;
    let read = |attribute| {
        let mut bytes = 0u64;
        // SAFETY: the pool is the device's own, and both attributes are 64-bit numbers.
        unsafe { mem_pool::get_attribute(pool, attribute, (&raw mut bytes).cast()) }.ok()?;
        Some(bytes)
    };
    Some(DeviceMemory {
        held: read(CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?,
        peak: read(CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH)?,
    })
}

/// What `work` gives, or what it panicked with: cudarc panics where a library is missing.
fn caught<T>(work: impl FnOnce() -> T + UnwindSafe) -> Result<T, String> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let outcome = panic::catch_unwind(work);
    panic::set_hook(hook);
    outcome.map_err(|payload| match payload.downcast::<String>() {
        // What follows is every name that a library might have.
        Ok(text) => text.split(" - ").next().unwrap_or_default().to_owned(),
        Err(_) => "no reason given".into(),
    })
}
