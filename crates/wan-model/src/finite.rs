//! Numbers that are not finite: no picture, prompt or video has them, and no later step removes
//! them. Outputs of whole networks are checked; those of a transformer are the caller's to check.

use candle_core::{DType, Tensor};

use crate::error::{Error, Result};

/// Whether all numbers of a tensor, of any shape and float format, are finite. Reads each once.
///
/// # Errors
/// If the tensor cannot be read.
pub fn is_finite(tensor: &Tensor) -> candle_core::Result<bool> {
    let numbers = tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
    Ok(numbers.iter().all(|number| number.is_finite()))
}

/// `tensor`, the output of `network`.
///
/// # Errors
/// [`Error::NotFinite`].
pub(crate) fn checked(network: &'static str, tensor: Tensor) -> Result<Tensor> {
    if is_finite(&tensor)? { Ok(tensor) } else { Err(Error::NotFinite { network }) }
}
