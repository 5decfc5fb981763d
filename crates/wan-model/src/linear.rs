//! A linear layer.

use candle_core::{DType, Device, Tensor};
use wan_kernels::{Activation, AddTo, Epilogue, MatrixMut};

use crate::arithmetic::numbers;
use crate::error::{Error, Result};
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

    /// Numbers that come out.
    pub(crate) fn outputs(&self) -> usize {
        self.weight.shape().0
    }

    /// `[.., in]` to `[.., out]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_activated(x, Activation::Identity)
    }

    /// `[.., in]` to `[.., out]`, and a function of each number.
    pub(crate) fn forward_activated(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        let (outputs, inputs) = self.weight.shape();
        let mut shape = x.dims().to_vec();
        if shape.pop() != Some(inputs) {
            return Err(Error::input("a layer's input", format!("[.., {inputs}]"), x.dims()));
        }
        let rows: usize = shape.iter().product();
        shape.push(outputs);
        let dtype = x.dtype();
        let x = x.reshape((rows, inputs))?;
        let y = match x.device() {
            Device::Cpu => self.on_cpu(&x.to_dtype(DType::F32)?, activation)?.to_dtype(dtype)?,
            _ => self.on_device(&x, activation)?,
        };
        Ok(y.reshape(shape)?)
    }

    /// The layer on the CPU, over slices: `activation(x W^T + b)`, perhaps added to something.
    ///
    /// # Errors
    /// As [`Matrix::multiply`].
    pub(crate) fn multiply(
        &self,
        x: wan_kernels::Matrix,
        activation: Activation,
        add: Option<AddTo>,
        out: MatrixMut,
    ) -> Result<()> {
        let _enter = self.span.enter();
        let bias = self.bias.as_ref().map(Tensor::storage_and_layout);
        let bias = bias.as_ref().map(|(storage, layout)| numbers(storage, layout)).transpose()?;
        self.weight.multiply(x, &Epilogue { bias, activation, add }, out)
    }

    fn on_cpu(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        let ((rows, inputs), outputs) = (x.dims2()?, self.weight.shape().0);
        let x = x.contiguous()?;
        let (storage, layout) = x.storage_and_layout();
        let x = wan_kernels::Matrix::dense(numbers(&storage, layout)?, [rows, inputs]);
        let mut out = vec![0f32; rows * outputs];
        let y = MatrixMut::dense(out.as_mut_slice(), [rows, outputs]);
        self.multiply(x, activation, None, y)?;
        Ok(Tensor::from_vec(out, (rows, outputs), &Device::Cpu)?)
    }

    fn on_device(&self, x: &Tensor, activation: Activation) -> candle_core::Result<Tensor> {
        let _enter = self.span.enter();
        let product = self.weight.product_on_device(x)?.to_dtype(x.dtype())?;
        let sum = match &self.bias {
            Some(bias) => product.broadcast_add(&bias.to_dtype(x.dtype())?)?,
            None => product,
        };
        match activation {
            Activation::Identity => Ok(sum),
            Activation::GeluTanh => sum.gelu(),
            Activation::Silu => sum.silu(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{distance, matrix, noise};
    use crate::weights::Weight;
    use candle_core::Module;

    fn layer(weight: &Tensor, bias: Option<Tensor>, compute: DType) -> Linear {
        Linear::new(matrix(Weight::Dense(weight.clone()), compute), bias)
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
