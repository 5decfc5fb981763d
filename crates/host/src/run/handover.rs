//! From one run to another: a run that ends early leaves noisy latents, and the next goes on from
//! them with another sampler, another cache or another prompt.

use candle_core::{Device, Tensor};

use crate::error::{Error, Result};
use crate::latents::LATENT_FRAME_AXIS;
use crate::numbers::{WrongFrame, wrong_frame};

/// Sigmas closer than this are the same: tables of two samplers round differently.
const SAME_SIGMA: f64 = 1e-3;

/// Refuses a schedule that ends in noise where a video is wanted.
///
/// # Errors
/// If it does.
pub(crate) fn check_end(ends: &[f64], may_end_noisy: bool) -> Result<()> {
    match ends.iter().position(|sigma| *sigma != 0.0) {
        Some(frame) if !may_end_noisy => Err(Error::invalid(format!(
            "the schedule leaves frame {frame} at sigma {:.4}, which is no picture yet; keep the \
             latents for another run with `latents_only`, or let the schedule end at 0",
            ends[frame]
        ))),
        _ => Ok(()),
    }
}

/// Latents that an earlier run ended with.
#[derive(Debug, Clone)]
pub struct Earlier {
    /// `[1, C, F, H, W]`.
    pub latents: Tensor,
    /// Sigma that each latent frame ended at; where there is none, at 0.
    pub ends_at: Vec<f64>,
    /// What they are called in messages.
    pub name: String,
}

impl Earlier {
    /// The latents, `shape`, for a schedule whose frames begin at `begins`; clean frames in front
    /// where there is a prefix.
    ///
    /// # Errors
    /// If they are of another shape, a latent frame has wrong numbers, or they end at other levels
    /// than the schedule begins at.
    pub(crate) fn go_on(
        &self,
        shape: &[usize],
        begins: &[f64],
        prefix: Option<&Tensor>,
        device: &Device,
    ) -> Result<Tensor> {
        let latents = self.latents.to_device(device)?;
        let wrong = |why: String| Error::invalid(format!("{}: {why}", self.name));
        if latents.dims() != shape {
            return Err(wrong(format!("{:?}, this run needs {shape:?}", latents.dims())));
        }
        if let Some(WrongFrame { frame, fault }) = wrong_frame(&latents)? {
            return Err(wrong(format!("latent frame {frame}: {fault}")));
        }
        let clean = prefix.map_or(0, |p| p.dims()[LATENT_FRAME_AXIS]);
        for (frame, begins) in begins.iter().enumerate().skip(clean) {
            let ends = self.ends_at.get(frame).copied().unwrap_or(0.0);
            if (ends - begins).abs() > SAME_SIGMA {
                return Err(wrong(format!(
                    "frame {frame} ends at sigma {ends:.4} and this schedule begins at \
                     {begins:.4}; begin where the earlier run ended (start_step)"
                )));
            }
        }
        match prefix {
            None => Ok(latents),
            Some(prefix) => {
                let rest =
                    latents.narrow(LATENT_FRAME_AXIS, clean, shape[LATENT_FRAME_AXIS] - clean)?;
                Ok(Tensor::cat(&[prefix, &rest], LATENT_FRAME_AXIS)?)
            }
        }
    }
}
