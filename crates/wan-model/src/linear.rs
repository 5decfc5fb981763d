//! A linear layer.

use candle_core::{DType, Tensor};

use crate::error::{Error, Result};
use crate::fused;
use crate::matrix::Matrix;
use crate::weights::Scope;

/// `x W^T + b` with `W` from a file's `weight [out, in]`.
///
/// The operands of the product are rounded to the format of the layer's scope. The result has the
/// dtype of `x`.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    weight: Matrix,
    bias: Option<Tensor>,
    span: tracing::Span,
}

/// Loads a layer with a bias.
pub(crate) fn linear(inputs: usize, outputs: usize, scope: Scope) -> Result<Linear> {
    let bias = scope.to_dtype(DType::F32).get(outputs, "bias")?;
    Ok(Linear::new(scope.matrix((outputs, inputs), "weight")?, Some(bias)))
}

/// Loads a layer without a bias.
pub(crate) fn linear_no_bias(inputs: usize, outputs: usize, scope: Scope) -> Result<Linear> {
    Ok(Linear::new(scope.matrix((outputs, inputs), "weight")?, None))
}

impl Linear {
    /// Takes a matrix `[out, in]` and a bias `[out]`.
    pub(crate) fn new(weight: Matrix, bias: Option<Tensor>) -> Self {
        Self { weight, bias, span: tracing::trace_span!("linear") }
    }

    /// `[.., in]` to `[.., out]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let _enter = self.span.enter();
        let (outputs, inputs) = self.weight.shape();
        let mut shape = x.dims().to_vec();
        if shape.pop() != Some(inputs) {
            return Err(Error::input("a layer's input", format!("[.., {inputs}]"), x.dims()));
        }
        let rows: usize = shape.iter().product();
        shape.push(outputs);
        let product = self.weight.product(&x.reshape((rows, inputs))?)?.to_dtype(x.dtype())?;
        let sum = match &self.bias {
            Some(bias) => fused::add_bias(product, &bias.to_dtype(x.dtype())?)?,
            None => product,
        };
        Ok(sum.reshape(shape)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{distance, noise};
    use crate::weights::Weight;
    use candle_core::{Device, Module};

    fn layer(weight: &Tensor, bias: Option<Tensor>, compute: DType) -> Linear {
        let weight = Weight::Dense(weight.clone());
        Linear::new(Matrix::new(weight, compute, &Device::Cpu).unwrap(), bias)
    }

    #[test]
    fn equals_candles_layer() {
        let (weight, bias, x) = (noise(1, &[3, 5]), noise(2, &[3]), noise(3, &[2, 4, 5]));
        let ours = layer(&weight, Some(bias.clone()), DType::F32).forward(&x).unwrap();
        let theirs = candle_nn::Linear::new(weight, Some(bias)).forward(&x).unwrap();
        assert_eq!(ours.dims(), [2, 4, 3]);
        assert!(distance(&ours, &theirs) < 1e-5);
        let half = layer(&noise(4, &[3, 5]), None, DType::BF16);
        assert_eq!(half.forward(&noise(5, &[2, 5])).unwrap().dtype(), DType::F32);
        let four_inputs = noise(7, &[2, 4]);
        assert!(layer(&noise(6, &[3, 5]), None, DType::F32).forward(&four_inputs).is_err());
    }
}
