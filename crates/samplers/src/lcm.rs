//! LCM: predicts the clean sample and adds fresh noise of the next level.
//!
//! ```text
//! x_t = alpha_t * m + sigma_t * noise,  m = x_s - sigma_s * v
//! ```
//!
//! For models distilled to predict the clean sample from any level (CausVid, Self-Forcing, LCM
//! adapters); with other models it does not converge.
//!
//! Source: Luo et al. 2023, "Latent Consistency Models", algorithm 3 (Song et al. 2023,
//! "Consistency Models", algorithm 1); diffusers 0.42 `FlowMatchLCMScheduler`.

use std::sync::Arc;

use wan_plugin_api::{Result, Tensor, TensorOps, term};

use crate::noise::FrameNoise;
use crate::{Entry, NamedSolver, NoOptions, SigmaTable, Solver};

/// Multistep consistency sampling, stochastic.
pub struct Lcm {
    table: Arc<SigmaTable>,
    noise: FrameNoise,
}

impl NamedSolver for Lcm {
    type Options = NoOptions;
    const ID: &'static str = "lcm";
    const DOC: &'static str = "consistency sampling for distilled models";

    fn new(_: &NoOptions, table: Arc<SigmaTable>, first_frame: u32) -> Result<Self> {
        Ok(Self { table, noise: FrameNoise::new(first_frame) })
    }
}

impl Solver for Lcm {
    fn step(
        &mut self,
        index: usize,
        sample: &Tensor,
        velocity: &Tensor,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        let (now, next) = self.table.step(index)?;
        if now == next {
            return Ok(sample.clone());
        }
        if next.sigma == 0.0 {
            return now.clean(sample, velocity, ops);
        }
        let noise = self.noise.draw(index, sample, ops)?;
        ops.combine(&[
            term(next.alpha, sample),
            term(-next.alpha * now.sigma, velocity),
            term(next.sigma, &noise),
        ])
    }
}

/// In the list of all solvers.
pub(crate) const ENTRY: Entry = Entry::of::<Lcm>();
