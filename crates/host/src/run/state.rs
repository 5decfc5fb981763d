//! A run between two rounds, as plain values and tensors. Tensors do not change, so a state shares
//! their numbers with the run that it was taken of, on its device.

use candle_core::{Device, Tensor as CandleTensor};
use serde::{Deserialize, Serialize};

use crate::denoise::expert_use::ExpertUse;
use crate::denoise::saved::{StrategyState, StreamState};
use crate::denoise::tally::Tally;
use crate::device::DeviceMemory;
use crate::error::{Error, Result};
use crate::run::frames::FramesState;
use crate::run::rounds::RoundsState;

/// What [`Run::state`](crate::run::Run::state) gives and [`Run::resume`](crate::run::Run::resume)
/// takes.
#[derive(Debug, Clone)]
pub struct RunState(pub(crate) Parts<CandleTensor>);

/// All of a state; `T` is what stands for a tensor: the tensor itself, or its number in a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Parts<T> {
    pub(crate) rounds: RoundsState,
    /// Evaluations before the next round.
    pub(crate) evaluation: u32,
    /// Latent frames that were not handed out.
    pub(crate) frames: FramesState<T>,
    pub(crate) sampler: StrategyState<T>,
    pub(crate) stream: Option<StreamState<T>>,
    pub(crate) tally: Tally,
    pub(crate) experts: Vec<ExpertUse>,
    pub(crate) sampler_bytes_max: u64,
    pub(crate) boundary_bytes_max: u64,
    pub(crate) device_memory: Option<DeviceMemory>,
    pub(crate) seconds: f64,
}

impl<T> Parts<T> {
    /// The same with something else for each tensor, in a fixed order.
    fn map<U>(self, of: &mut impl FnMut(T) -> Result<U>) -> Result<Parts<U>> {
        let (first, held) = self.frames;
        Ok(Parts {
            rounds: self.rounds,
            evaluation: self.evaluation,
            frames: (first, held.map(&mut *of).transpose()?),
            sampler: self.sampler.map(of)?,
            stream: self.stream.map(|stream| stream.map(of)).transpose()?,
            tally: self.tally,
            experts: self.experts,
            sampler_bytes_max: self.sampler_bytes_max,
            boundary_bytes_max: self.boundary_bytes_max,
            device_memory: self.device_memory,
            seconds: self.seconds,
        })
    }
}

impl RunState {
    /// Rounds that are done.
    pub fn rounds_done(&self) -> usize {
        self.0.rounds.next
    }

    /// Rounds in all.
    pub fn rounds(&self) -> usize {
        self.0.rounds.size.rounds
    }

    /// Evaluations that are done.
    pub fn evaluations_done(&self) -> u32 {
        self.0.evaluation
    }

    /// Bytes of its tensors.
    pub fn bytes(&self) -> u64 {
        let mut bytes = 0;
        let mut see = |tensor: CandleTensor| {
            bytes += (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64;
            Ok(())
        };
        // Counting does not fail.
        let _ = self.0.clone().map(&mut see);
        bytes
    }

    /// As JSON, with the tensors that it names by their numbers, in main memory.
    ///
    /// # Errors
    /// If a tensor cannot be read from its device.
    pub(crate) fn to_text(&self) -> Result<(String, Vec<CandleTensor>)> {
        let mut tensors = Vec::new();
        let mut number = |tensor: CandleTensor| {
            tensors.push(tensor.to_device(&Device::Cpu)?.contiguous()?);
            Ok(tensors.len() - 1)
        };
        let numbered = self.0.clone().map(&mut number)?;
        let text = serde_json::to_string(&numbered).map_err(|e| Error::invalid(e.to_string()))?;
        Ok((text, tensors))
    }

    /// What [`to_text`](Self::to_text) has written.
    ///
    /// # Errors
    /// Why it is no state.
    pub(crate) fn of_text(
        text: &str,
        tensors: &[CandleTensor],
    ) -> std::result::Result<Self, String> {
        let numbered: Parts<usize> = wan_border::files::parse_json(text)?;
        let mut tensor = |number: usize| {
            let tensor = tensors.get(number).cloned();
            tensor.ok_or_else(|| Error::invalid(format!("it has no tensor of number {number}")))
        };
        numbered.map(&mut tensor).map(Self).map_err(|error| error.to_string())
    }
}
