//! A source of weights with LoRAs on them.

use std::sync::Arc;

use super::fitted::FittedLora;
use crate::error::Result;
use crate::weights::{AtRest, Changed, Encoding, Scope, Source, Weight};

/// Weights with LoRAs beside them: where rows of one are widened, what all of them add is added in f32.
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
        let base = self.source.get(name, shape)?;
        let changes = self.loras.iter().filter_map(|lora| lora.change(name, &base).transpose());
        let changes = changes.collect::<Result<Vec<_>>>()?;
        if changes.is_empty() {
            return Ok(base);
        }
        let base = Box::new(if base.has_whole_rows() { base } else { Weight::Dense(base.wide()?) });
        Ok(Weight::Changed(Changed { base, changes }))
    }

    fn at_rest(&self, name: &str, shape: &[usize]) -> Result<AtRest> {
        let base = self.source.at_rest(name, shape)?;
        let changes: Vec<u64> = self.loras.iter().filter_map(|lora| lora.bytes(name)).collect();
        // Blocks across the ends of rows are widened before anything is added.
        let is_widened = !changes.is_empty() && !base.has_whole_rows();
        let encoding = if is_widened { Encoding::F32 } else { base.encoding };
        Ok(AtRest { encoding, beside: base.beside + changes.iter().sum::<u64>(), ..base })
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
