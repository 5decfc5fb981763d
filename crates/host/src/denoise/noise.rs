//! Noise as a pure function of (seed, stream, index).

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use candle_core::{Device, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};

/// Where noise comes from.
///
/// Counter-based: equal `(seed, stream, index)` give equal bits, in any order, on any machine.
/// A test can put given tensors in the place of drawn ones.
#[derive(Clone, Default)]
pub struct Noise {
    seed: u64,
    injected: Arc<Mutex<HashMap<(u64, u64), Tensor>>>,
}

impl Noise {
    /// Stream of the initial latents; index: the absolute latent frame.
    pub const INITIAL_LATENTS: u64 = 0;

    /// First of the streams that plugins draw from: a plugin's stream `n` is `PLUGIN_STREAMS + n`.
    pub const PLUGIN_STREAMS: u64 = 1 << 32;

    /// Noise of this seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, injected: Arc::default() }
    }

    /// Makes `(stream, index)` give `tensor`, once.
    pub fn inject(&self, stream: u64, index: u64, tensor: Tensor) {
        self.injected.lock().expect("no panic holds this lock").insert((stream, index), tensor);
    }

    /// Standard normal noise, f32.
    ///
    /// # Errors
    /// If the tensor cannot be made, or an injected one has another shape.
    pub fn draw(
        &self,
        stream: u64,
        index: u64,
        shape: &[usize],
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let injected =
            self.injected.lock().expect("no panic holds this lock").remove(&(stream, index));
        if let Some(tensor) = injected {
            if tensor.dims() != shape {
                candle_core::bail!("injected noise {:?}, expected {shape:?}", tensor.dims());
            }
            return tensor.to_device(device);
        }
        // The seed fills the key's low half and the index its high half; ChaCha has 2^64 streams.
        let mut key = [0u8; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        key[8..16].copy_from_slice(&index.to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(stream);
        let count = shape.iter().product::<usize>();
        let values: Vec<f32> = StandardNormal.sample_iter(&mut rng).take(count).collect();
        Tensor::from_vec(values, shape, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(noise: &Noise, stream: u64, index: u64) -> Vec<f32> {
        noise.draw(stream, index, &[1000], &Device::Cpu).unwrap().to_vec1().unwrap()
    }

    #[test]
    fn equal_arguments_give_equal_bits_and_different_ones_do_not() {
        let (a, b) = (Noise::new(7), Noise::new(7));
        assert_eq!(draw(&a, 1, 2), draw(&b, 1, 2));
        for other in [draw(&a, 1, 3), draw(&a, 2, 2), draw(&Noise::new(8), 1, 2)] {
            assert_ne!(draw(&a, 1, 2), other);
        }
    }

    #[test]
    fn it_is_standard_normal() {
        let values = draw(&Noise::new(3), 0, 0);
        let mean = values.iter().sum::<f32>() / 1000.0;
        let variance = values.iter().map(|v| v * v).sum::<f32>() / 1000.0;
        assert!(mean.abs() < 0.1 && (variance - 1.0).abs() < 0.15, "{mean} {variance}");
    }
}
