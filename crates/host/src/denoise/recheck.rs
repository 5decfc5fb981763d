//! An evaluation once more, without the cache, with what every part of the model gives looked at:
//! for a round that ended with numbers that are not finite.

use std::fmt;

use candle_core::Tensor as CandleTensor;
use wan_model::is_finite;
use wan_plugin_api::FrameLevel;

use crate::denoise::branch::BranchEvaluation;
use crate::error::Result;

/// What the sampler asked, and what it was given.
pub(crate) struct Asked {
    /// Latents of the window, `[1, C, F, H, W]`.
    pub(crate) sample: CandleTensor,
    /// Levels of the window's frames.
    pub(crate) levels: Vec<FrameLevel>,
    /// Velocity, guidance applied.
    pub(crate) velocity: CandleTensor,
}

impl Asked {
    /// The clean latents that follow from the velocity, `sample - sigma velocity`.
    pub(crate) fn predicted(&self) -> candle_core::Result<CandleTensor> {
        let sigmas: Vec<f64> = self.levels.iter().map(|level| level.sigma).collect();
        let shape = (1, 1, sigmas.len(), 1, 1);
        let sigmas = CandleTensor::from_vec(sigmas, shape, self.sample.device())?;
        let sigmas = sigmas.to_dtype(self.sample.dtype())?;
        let velocity = self.velocity.to_dtype(self.sample.dtype())?;
        &self.sample - velocity.broadcast_mul(&sigmas)?
    }
}

/// Who made numbers that are wrong.
pub(crate) enum Origin {
    Model { part: Part, branch: &'static str, expert: usize },
    Cache,
    Sampler,
}

/// The first part of the model whose output is not finite.
pub(crate) enum Part {
    Embedding,
    Block { number: usize, of: usize },
    Head,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedding => f.write_str("the embedding"),
            Self::Block { number, of } => write!(f, "block {number} of {of}, from 0"),
            Self::Head => f.write_str("the head"),
        }
    }
}

impl BranchEvaluation<'_> {
    /// The first part of the model whose output is not finite.
    pub(super) fn first_not_finite(mut self) -> Result<Option<Part>> {
        let embedded = self.embed()?;
        if !is_finite(&embedded.hidden)? || !is_finite(embedded.e0.rows())? {
            return Ok(Some(Part::Embedding));
        }
        let model = &self.expert.model;
        let (of, mut hidden) = (model.block_count(), embedded.hidden.clone());
        for number in 0..of {
            hidden = self.blocks(number..number + 1, &hidden, &embedded)?;
            if !is_finite(&hidden)? {
                return Ok(Some(Part::Block { number, of }));
            }
        }
        let is_well = is_finite(&model.head(&hidden, &embedded)?)?;
        Ok((!is_well).then_some(Part::Head))
    }
}
