//! Random weights for tests of whole models.

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

/// Numbers for every name and shape asked for. (A `VarMap` gives zeros, which prove nothing.)
struct AnyWeights;

impl SimpleBackend for AnyWeights {
    fn get(&self, shape: Shape, _: &str, _: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let inputs = shape.dims().iter().skip(1).product::<usize>().max(1);
        let deviation = 1. / (inputs as f32).sqrt();
        Tensor::randn(0f32, deviation, shape, device)?.to_dtype(dtype)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("{name} has no shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

/// Random f32 weights under any name.
pub(crate) fn any_weights() -> VarBuilder<'static> {
    VarBuilder::from_backend(Box::new(AnyWeights), DType::F32, Device::Cpu)
}

/// A normally distributed f32 tensor.
pub(crate) fn noise(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1., shape, &Device::Cpu).unwrap()
}

/// All numbers of a tensor.
pub(crate) fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Largest difference between two tensors.
pub(crate) fn distance(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    numbers(a).iter().zip(numbers(b)).fold(0., |most, (a, b)| most.max((a - b).abs()))
}
