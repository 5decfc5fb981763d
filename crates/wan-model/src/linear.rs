//! A linear layer whose weight is stored as `[in, out]`.
//!
//! `candle_nn::Linear` passes a transposed view of the file's `[out, in]` to the matrix product,
//! which repacks it in every call. At a few hundred tokens this halves the speed on two threads
//! (144 tokens, 192 to 192: 218 us against 106 us). Here the weight is transposed once, at load.

use candle_core::{Module, Tensor};

use crate::error::Result;
use crate::fused;
use crate::product::widened_product;
use crate::weights::{Scope, Weight};

/// `x W^T + b` with `W` from a file's `weight [out, in]`.
///
/// Computed in the dtype of the weight, to which `x` is rounded. The result has the dtype of `x`.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    /// `[in, out]`, contiguous.
    weight: Tensor,
    bias: Option<Tensor>,
    span: tracing::Span,
}

/// Loads a layer with a bias.
pub(crate) fn linear(inputs: usize, outputs: usize, scope: Scope) -> Result<Linear> {
    let bias = scope.get(outputs, "bias")?;
    Linear::of(&scope.weight((outputs, inputs), "weight")?, Some(bias), &scope)
}

/// Loads a layer without a bias.
pub(crate) fn linear_no_bias(inputs: usize, outputs: usize, scope: Scope) -> Result<Linear> {
    Linear::of(&scope.weight((outputs, inputs), "weight")?, None, &scope)
}

impl Linear {
    /// Takes a weight `[out, in]` in any format of a file, and a bias `[out]`. The weight is held in
    /// the format and on the device of `scope`.
    pub(crate) fn of(weight: &Weight, bias: Option<Tensor>, scope: &Scope) -> Result<Self> {
        Self::new(&scope.tensor(weight)?, bias)
    }

    /// Takes a weight `[out, in]` and a bias `[out]`.
    pub(crate) fn new(weight: &Tensor, bias: Option<Tensor>) -> Result<Self> {
        let span = tracing::trace_span!("linear");
        Ok(Self { weight: weight.t()?.contiguous()?, bias, span })
    }
}

impl Module for Linear {
    /// `[.., in]` to `[.., out]`.
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let _enter = self.span.enter();
        let (inputs, outputs) = self.weight.dims2()?;
        let mut shape = x.dims().to_vec();
        if shape.pop() != Some(inputs) {
            candle_core::bail!("a layer of {inputs} inputs was given {:?}", x.dims());
        }
        let rows: usize = shape.iter().product();
        shape.push(outputs);
        let rounded = x.reshape((rows, inputs))?.to_dtype(self.weight.dtype())?;
        let product = widened_product(&rounded, &self.weight)?.to_dtype(x.dtype())?;
        let sum = match &self.bias {
            Some(bias) => fused::add_bias(product, &bias.to_dtype(x.dtype())?)?,
            None => product,
        };
        sum.reshape(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{distance, noise};
    use candle_core::DType;

    #[test]
    fn equals_candles_layer() {
        let (weight, bias, x) = (noise(1, &[3, 5]), noise(2, &[3]), noise(3, &[2, 4, 5]));
        let ours = Linear::new(&weight, Some(bias.clone())).unwrap().forward(&x).unwrap();
        let theirs = candle_nn::Linear::new(weight, Some(bias)).forward(&x).unwrap();
        assert_eq!(ours.dims(), [2, 4, 3]);
        assert!(distance(&ours, &theirs) < 1e-5);
        let half = Linear::new(&noise(4, &[3, 5]).to_dtype(DType::BF16).unwrap(), None).unwrap();
        assert_eq!(half.forward(&noise(5, &[2, 5])).unwrap().dtype(), DType::F32);
        assert!(
            Linear::new(&noise(6, &[3, 5]), None).unwrap().forward(&noise(7, &[2, 4])).is_err()
        );
    }
}
