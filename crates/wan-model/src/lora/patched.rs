//! A source of weights with LoRAs on them.

use std::sync::Arc;

use candle_core::{DType, Device};

use super::fitted::FittedLora;
use crate::error::Result;
use crate::weights::{Scope, Source, Weight};

/// Weights to which LoRAs are added: each weight that one changes is widened to f32, and what all of
/// them add is added in f32.
pub struct Patched {
    source: Arc<dyn Source>,
    loras: Vec<Arc<FittedLora>>,
}

impl Patched {
    /// `loras` on the weights of `source`. Their order makes no difference beyond rounding.
    pub fn new(source: Arc<dyn Source>, loras: Vec<Arc<FittedLora>>) -> Self {
        Self { source, loras }
    }
}

impl Source for Patched {
    fn get(&self, name: &str, shape: &[usize]) -> Result<Weight> {
        let weight = self.source.get(name, shape)?;
        let on_it: Vec<_> = self.loras.iter().filter(|lora| lora.changes(name)).collect();
        if on_it.is_empty() {
            return Ok(weight);
        }
        let base = weight.to_tensor(DType::F32, &Device::Cpu)?;
        let mut sum = base.clone();
        for lora in on_it {
            sum = (sum + lora.added(name, &base)?)?;
        }
        Ok(Weight::Dense(sum))
    }

    fn has(&self, name: &str) -> bool {
        self.source.has(name)
    }
}

impl Scope {
    /// The same weights with LoRAs on them.
    #[must_use]
    pub fn with_loras(&self, loras: Vec<Arc<FittedLora>>) -> Self {
        if loras.is_empty() {
            return self.clone();
        }
        self.map(|source| Arc::new(Patched::new(source, loras)))
    }
}
