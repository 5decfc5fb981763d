//! A run between two rounds, as plain values. Nothing in it refers to the run that it was taken of,
//! nor to its device.

use candle_core::Tensor as CandleTensor;

use crate::denoise::expert_use::ExpertUse;
use crate::denoise::saved::{StrategyState, StreamState, TensorBytes};
use crate::denoise::tally::Tally;
use crate::device::DeviceMemory;
use crate::error::{Error, Result};
use crate::run::rounds::RoundsState;
use crate::run::spec::RunSpec;

/// What [`Run::state`](crate::run::Run::state) gives and [`Run::resume`](crate::run::Run::resume)
/// takes.
#[derive(Debug, Clone)]
pub struct RunState {
    pub(crate) rounds: RoundsState,
    /// Evaluations before the next round.
    pub(crate) evaluation: u32,
    /// Sigma that each latent frame is at; none for one that has not been moved.
    pub(crate) reached: Vec<Option<f64>>,
    pub(crate) latents: TensorBytes,
    pub(crate) sampler: StrategyState,
    pub(crate) stream: Option<StreamState>,
    pub(crate) tally: Tally,
    pub(crate) experts: Vec<ExpertUse>,
    pub(crate) sampler_bytes_max: u64,
    pub(crate) device_memory: Option<DeviceMemory>,
    pub(crate) seconds: f64,
}

impl RunState {
    /// The saved latents, for a run of this spec.
    ///
    /// # Errors
    /// If they are of another shape.
    pub(crate) fn latents_of(&self, spec: &RunSpec) -> Result<CandleTensor> {
        let latents = self.latents.tensor(spec.parts.ops.device())?;
        if latents.dims() != spec.shape {
            let (saved, own) = (latents.dims(), spec.shape);
            return Err(Error::invalid(format!("the saved latents are {saved:?}, not {own:?}")));
        }
        Ok(latents)
    }

    /// Rounds that are done.
    pub fn rounds_done(&self) -> usize {
        self.rounds.next
    }
}
