//! Tensors as bytes in a file, and back.

use std::borrow::Cow;

use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use safetensors::View;

use crate::error::{Error, Result};

/// Calls `with` with the bytes of each of these tensors of main memory, little endian. Formats of
/// 2 and 4 bytes are not copied.
pub(crate) fn with_bytes<R>(
    tensors: &[Tensor],
    with: impl FnOnce(&[Cow<'_, [u8]>]) -> R,
) -> Result<R> {
    let guards: Vec<_> = tensors.iter().map(Tensor::storage_and_layout).collect();
    let bytes = guards.iter().zip(tensors).map(|((storage, layout), tensor)| {
        let (first, count) = (layout.start_offset(), tensor.elem_count());
        let part = first..first + count;
        match &**storage {
            // Where numbers lie as the file has them.
            Storage::Cpu(own) if cfg!(target_endian = "little") && layout.is_contiguous() => {
                match own {
                    CpuStorage::F32(numbers) => Cow::Borrowed(bytemuck::cast_slice(&numbers[part])),
                    CpuStorage::BF16(numbers) => {
                        Cow::Borrowed(bytemuck::cast_slice(&numbers[part]))
                    }
                    CpuStorage::F16(numbers) => Cow::Borrowed(bytemuck::cast_slice(&numbers[part])),
                    _ => Cow::Owned(View::data(&tensor).into_owned()),
                }
            }
            _ => Cow::Owned(View::data(&tensor).into_owned()),
        }
    });
    let bytes: Vec<Cow<'_, [u8]>> = bytes.collect();
    Ok(with(&bytes))
}

/// The bytes of one tensor.
///
/// # Errors
/// If it cannot be read from its device.
pub(crate) fn bytes_of(tensor: &Tensor) -> Result<Vec<u8>> {
    let own = [tensor.to_device(&Device::Cpu)?.contiguous()?];
    with_bytes(&own, |bytes| bytes[0].to_vec())
}

/// Safetensors' name of a format.
pub(crate) fn name_of(dtype: DType) -> Result<&'static str> {
    Ok(match dtype {
        DType::F32 => "F32",
        DType::BF16 => "BF16",
        DType::F16 => "F16",
        DType::F8E4M3 => "F8_E4M3",
        DType::F64 => "F64",
        DType::U8 => "U8",
        DType::U32 => "U32",
        DType::I64 => "I64",
        other => {
            return Err(Error::invalid(format!("a tensor of {other:?} is not written to a file")));
        }
    })
}

/// A tensor of main memory from what a file holds; none where the format is not known.
pub(crate) fn tensor_of(dtype: &str, shape: &[usize], bytes: &[u8]) -> Result<Option<Tensor>> {
    const KNOWN: [DType; 8] = [
        DType::F32,
        DType::BF16,
        DType::F16,
        DType::F8E4M3,
        DType::F64,
        DType::U8,
        DType::U32,
        DType::I64,
    ];
    let known = KNOWN.into_iter().find(|known| name_of(*known).is_ok_and(|name| name == dtype));
    let read = known.map(|known| Tensor::from_raw_buffer(bytes, known, shape, &Device::Cpu));
    Ok(read.transpose()?)
}
