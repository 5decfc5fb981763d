//! RMS norms, from the weights of a scope.

use std::collections::HashMap;

use candle_nn::VarBuilder;
use candle_transformers::models::with_tracing::RmsNorm;

use crate::error::Result;
use crate::weights::Scope;

/// Loads the norm of this width. candle's takes its weight from a `VarBuilder` alone.
pub(crate) fn rms_norm(width: usize, eps: f64, scope: &Scope) -> Result<RmsNorm> {
    let weight = HashMap::from([("weight".to_owned(), scope.get(width, "weight")?)]);
    let weight = VarBuilder::from_tensors(weight, scope.dtype(), scope.device());
    Ok(RmsNorm::new(width, eps, weight)?)
}
