//! NVIDIA GPUs, through candle's cudarc.

use std::panic::{self, UnwindSafe};

use candle_core::Device;
use candle_core::cuda_backend::cudarc::driver::CudaContext;
use candle_core::cuda_backend::cudarc::driver::result::{device, mem_pool};
use candle_core::cuda_backend::cudarc::driver::sys::CUmemPool_attribute;
use candle_core::cuda_backend::cudarc::{cublas, curand, driver};

use super::DeviceMemory;

/// Whether cudarc finds a library, which it loads when it is first used. Where it finds none, the
/// first use panics.
type IsPresent = unsafe fn() -> bool;

/// What opening a device uses of the CUDA toolkit. cublas needs cublasLt to load.
const TOOLKIT: [(&str, IsPresent); 2] =
    [("cublas", cublas::sys::is_culib_present), ("curand", curand::sys::is_culib_present)];

#[expect(unsafe_code, reason = "cudarc calls it unsafe to load a library")]
fn is_present(library: IsPresent) -> bool {
    // SAFETY: the libraries are NVIDIA's; it loads one as its first use does, and unloads it.
    unsafe { library() }
}

/// GPUs that the driver shows.
pub(super) fn count() -> Result<usize, String> {
    if !is_present(driver::sys::is_culib_present) {
        return Err("there is no NVIDIA driver here (its library cuda is not found)".into());
    }
    let counted = caught(CudaContext::device_count)
        .map_err(|why| format!("the NVIDIA driver cannot be used ({why})"))?;
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
    if let Some((missing, _)) = TOOLKIT.iter().find(|(_, library)| !is_present(*library)) {
        return Err(format!(
            "a library of the CUDA toolkit is missing; put cublas, cublasLt, curand and nvrtc on \
             LD_LIBRARY_PATH ({missing} is not found)"
        ));
    }
    let opened = caught(|| Device::new_cuda_with_stream(number))
        .map_err(|why| format!("the CUDA libraries cannot be used ({why})"))?;
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

/// What `work` gives, or what it panicked with: cudarc panics where a library is of another version
/// and lacks a function. The panic hook of the process sees that too.
fn caught<T>(work: impl FnOnce() -> T + UnwindSafe) -> Result<T, String> {
    panic::catch_unwind(work).map_err(|payload| match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(_) => "no reason given".into(),
    })
}
