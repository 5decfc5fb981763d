//! Numbers in f32 to the bytes of a format.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Tensor};
use float8::F8E4M3;
use half::{bf16, f16};
use wan_weight_files::Encoding;

use crate::error::{Error, Result};

/// The numbers of an f32 tensor in `encoding`, row by row. Blocks are made by candle's quantisers,
/// which follow ggml's.
pub(super) fn narrowed(tensor: &Tensor, encoding: Encoding) -> Result<Vec<u8>> {
    if let Some(dtype) = blocks_of(encoding) {
        return Ok(QTensor::quantize(tensor, dtype)?.data()?.into_owned());
    }
    let flat = tensor.flatten_all()?;
    match encoding {
        Encoding::F32 => Ok(bytes(&flat.to_vec1::<f32>()?, |x| x.to_le_bytes())),
        Encoding::F16 => {
            Ok(bytes(&flat.to_dtype(DType::F16)?.to_vec1::<f16>()?, |x| x.to_le_bytes()))
        }
        Encoding::BF16 => {
            Ok(bytes(&flat.to_dtype(DType::BF16)?.to_vec1::<bf16>()?, |x| x.to_le_bytes()))
        }
        Encoding::F8E4M3 => {
            Ok(bytes(&flat.to_dtype(DType::F8E4M3)?.to_vec1::<F8E4M3>()?, |x| [x.to_bits()]))
        }
        other => Err(Error::input("number format", "one that is written", other.name())),
    }
}

fn bytes<T: Copy, const N: usize>(numbers: &[T], of: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    numbers.iter().flat_map(|number| of(*number)).collect()
}

fn blocks_of(encoding: Encoding) -> Option<GgmlDType> {
    match encoding {
        Encoding::Q4_0 => Some(GgmlDType::Q4_0),
        Encoding::Q4_1 => Some(GgmlDType::Q4_1),
        Encoding::Q5_0 => Some(GgmlDType::Q5_0),
        Encoding::Q5_1 => Some(GgmlDType::Q5_1),
        Encoding::Q8_0 => Some(GgmlDType::Q8_0),
        Encoding::Q2K => Some(GgmlDType::Q2K),
        Encoding::Q3K => Some(GgmlDType::Q3K),
        Encoding::Q4K => Some(GgmlDType::Q4K),
        Encoding::Q5K => Some(GgmlDType::Q5K),
        Encoding::Q6K => Some(GgmlDType::Q6K),
        _ => None,
    }
}
