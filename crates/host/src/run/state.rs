//! A run between two rounds, as plain values. Nothing in it refers to the run that it was taken of,
//! nor to its device.

use candle_core::Tensor as CandleTensor;
use wan_plugin_api::Schedule;

use crate::denoise::expert_use::ExpertUse;
use crate::denoise::saved::{StrategyState, StreamState, TensorBytes};
use crate::denoise::tally::Tally;
use crate::device::DeviceMemory;
use crate::error::{Error, Result};
use crate::run::spec::RunSpec;

/// What [`Run::state`](crate::run::Run::state) gives and [`Run::resume`](crate::run::Run::resume)
/// takes.
#[derive(Debug, Clone)]
pub struct RunState {
    pub(crate) schedule: Schedule,
    /// The next round, and the evaluations before it.
    pub(crate) next: usize,
    pub(crate) evaluation: u32,
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
    /// The saved latents, for a run of this spec and schedule.
    ///
    /// # Errors
    /// If the saved run had another schedule, or latents of another shape.
    pub(crate) fn latents_of(&self, spec: &RunSpec, schedule: &Schedule) -> Result<CandleTensor> {
        if *schedule != self.schedule {
            return Err(Error::invalid(format!(
                "the saved run had another schedule, of {} rounds; this one has {}: resume it with \
                 the same sampler, options, size and steps",
                self.schedule.rounds.len(),
                schedule.rounds.len()
            )));
        }
        let latents = self.latents.tensor(spec.parts.ops.device())?;
        if latents.dims() != spec.shape {
            let (saved, own) = (latents.dims(), spec.shape);
            return Err(Error::invalid(format!("the saved latents are {saved:?}, not {own:?}")));
        }
        Ok(latents)
    }

    /// Rounds that are done.
    pub fn rounds_done(&self) -> usize {
        self.next
    }
}
