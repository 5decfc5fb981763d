//! A noise level in the coordinates of the solvers.

use wan_plugin_api::{Result, Tensor, TensorOps, term};

/// A point on the path `x = alpha * x0 + sigma * noise`, `alpha = 1 - sigma`.
///
/// Along `lambda = ln(alpha / sigma)` the exponential integrators are exact for a constant
/// prediction. It is minus infinity at pure noise and infinity at the clean end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Level {
    pub(crate) alpha: f64,
    pub(crate) sigma: f64,
    pub(crate) lambda: f64,
}

impl Level {
    pub(crate) fn new(sigma: f64) -> Self {
        let alpha = 1.0 - sigma;
        Self { alpha, sigma, lambda: alpha.ln() - sigma.ln() }
    }

    /// Prediction of the clean sample, `x0 = x - sigma * velocity`.
    pub(crate) fn clean(
        self,
        sample: &Tensor,
        velocity: &Tensor,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        ops.combine(&[term(1.0, sample), term(-self.sigma, velocity)])
    }
}
