//! What a run leaves behind.

use candle_core::Tensor as CandleTensor;
use wan_model::weights::Streamed;
use wan_plugin_api::CachePlan;

use crate::denoise::expert_use::ExpertUse;
use crate::denoise::tally::{
    CacheMemory, DecisionTally, EvaluationRecord, FrameCount, SignalMemory,
};
use crate::device::DeviceMemory;

/// What a run leaves behind.
pub struct Sampled {
    /// Clean latents `[1, C, F, H, W]`, normalised as the model has them; without the frames that
    /// were handed out.
    pub latents: CandleTensor,
    /// Decisions of every evaluation and branch, but for those that were handed out.
    pub records: Vec<EvaluationRecord>,
    /// All decisions, counted.
    pub decisions: DecisionTally,
    /// Latent frames that were asked for and that were computed.
    pub frames: FrameCount,
    /// Largest time signals.
    pub signals: SignalMemory,
    /// What the caches declared and held.
    pub cache_memory: CacheMemory,
    /// What the cache said of itself, if there was one.
    pub cache_plan: Option<CachePlan>,
    /// Rounds of each expert.
    pub experts: Vec<ExpertUse>,
    /// Most bytes that the sampler's handles kept between rounds.
    pub sampler_bytes_max: u64,
    /// Bytes of the states that were kept while a round was under way, at most; 0 where none was.
    pub boundary_bytes_max: u64,
    /// What tensors took of the GPU at most, between rounds and ever; none on the CPU.
    pub device_memory: Option<DeviceMemory>,
    /// What was read of blocks that come and go with their turns.
    pub streamed: Streamed,
    /// Sigma that each latent frame ends at; empty where all are clean.
    pub ends_at: Vec<f64>,
    /// See [`Run::notices`](super::Run::notices).
    pub notices: Vec<String>,
    /// Seconds of the rounds.
    pub seconds: f64,
}
