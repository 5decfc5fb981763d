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
        let tensor = match run_with_least(encoding) {
            Some(run) => without_equal_runs(tensor, run)?,
            None => tensor.clone(),
        };
        return Ok(QTensor::quantize(&tensor, dtype)?.data()?.into_owned());
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

/// How many numbers share a step and a least number, in the formats whose steps candle finds with
/// `make_qkx1_quants`.
fn run_with_least(encoding: Encoding) -> Option<usize> {
    match encoding {
        Encoding::Q2K => Some(16),
        Encoding::Q4K | Encoding::Q5K => Some(32),
        _ => None,
    }
}

/// The tensor with one number of each run of equal ones changed in its last digits: candle 0.11.1
/// takes a run without a difference for a run of zeros.
fn without_equal_runs(tensor: &Tensor, run: usize) -> Result<Tensor> {
    let mut numbers = tensor.flatten_all()?.to_vec1::<f32>()?;
    for run in numbers.chunks_mut(run) {
        if let [first, rest @ ..] = run
            && rest.iter().all(|number| number == first)
        {
            *first *= 1. - 8. * f32::EPSILON;
        }
    }
    Ok(Tensor::from_vec(numbers, tensor.shape(), tensor.device())?)
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

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn equal_numbers_stay_what_they_are_in_every_format_of_blocks() {
        let numbers: Vec<f32> = [-0.5, 0.25, 0.5, -0.25]
            .iter()
            .flat_map(|number| std::iter::repeat_n(*number, 128))
            .collect();
        let tensor = Tensor::from_slice(&numbers, (2, 256), &Device::Cpu).unwrap();
        // candle writes all but ggml's non-linear ones.
        let written =
            Encoding::BLOCKS.into_iter().filter(|encoding| blocks_of(*encoding).is_some());
        let written: Vec<Encoding> = written.collect();
        assert_eq!(written.len(), 10);
        for encoding in written {
            let bytes = narrowed(&tensor, encoding).unwrap();
            let mut found = vec![0.; numbers.len()];
            assert!(encoding.widen(&bytes, &mut found), "{encoding:?}");
            for (found, expected) in found.iter().zip(&numbers) {
                let error = (found - expected).abs();
                assert!(error < 0.02, "{encoding:?}: {found}, expected {expected}");
            }
        }
    }
}
