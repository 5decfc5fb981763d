//! The rules of the references, as presets.
//!
//! - `upstream` (ali-vilab/TeaCache at 7c10efc): anchor `previous`, all frames, negative values
//!   lower the sum, no limit on reuses in a row. Mode `e`: the first and the last evaluation
//!   compute; mode `e0`: the first five.
//! - `wanvideowrapper` (kijai/ComfyUI-WanVideoWrapper at a623f87): anchor `computed`, all frames,
//!   negative values lower the sum, no limit on reuses in a row, last step not protected; the sum
//!   is f32. `retention` is the wrapper's `start_step + 1`.
//! - `wanvideowrapper-half` (the same at 6fadcbd): the signals are bf16; the element-wise
//!   difference, both means and their ratio are each rounded to bf16.
//! - `skyreels` (SkyworkAI/SkyReels-V2 at abed76f): as `upstream`, with SkyReels-V2's counter.
//!
//! Tests compare the decisions with logs of the references' own code: `upstream` in the golden
//! cases, the others in `logs.json` (`tools/record_cache_logs`).
//!
//! SkyReels-V2's counter counts two calls per step, one per guidance branch, and restarts at
//! `num_steps`, which is the number of steps (of rounds, when asynchronous), not of calls. So the
//! first evaluations are protected a second time halfway through, and the last never are. With an
//! odd number the counter restarts between the two branches of a step, and each branch would then
//! reuse the residual of the other. That is refused here.
//!
//! Two cases are not followed. Without guidance, SkyReels-V2 alternates between two residuals on
//! one branch. And when it extends a video asynchronously, it continues the count of the first
//! window; here every window counts its own rounds.

use serde::Deserialize;
use wan_plugin_api::{CacheContext, Error, Result};

use super::rule::{Anchor, Mode};

/// A reference to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// No reference: this project's own rule.
    None,
    /// TeaCache's own code.
    Upstream,
    /// `ComfyUI-WanVideoWrapper`, all in f32.
    Wanvideowrapper,
    /// `ComfyUI-WanVideoWrapper`, signals in bf16.
    WanvideowrapperHalf,
    /// `SkyReels-V2`.
    Skyreels,
}

/// The number formats in which a decision is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounding {
    /// Everything in f64.
    None,
    /// The sum in f32.
    SumF32,
    /// Signals, means and ratio in bf16, the sum in f32.
    Bf16,
}

/// What a preset fixes.
pub(super) struct Fixed {
    pub(super) anchor: Anchor,
    /// None where the option is free.
    pub(super) retention: Option<u32>,
    pub(super) last: u32,
}

impl Preset {
    pub(super) const WORDS: [&'static str; 5] =
        ["none", "upstream", "wanvideowrapper", "wanvideowrapper-half", "skyreels"];
    pub(super) const DOC: &'static str =
        "a reference to follow in what it fixes (anchor, scope, negative, last, max_skips)";

    pub(super) fn word(self) -> &'static str {
        Self::WORDS[self as usize]
    }

    /// What the preset fixes in a mode; all frames count and negative values lower the sum besides.
    pub(super) fn fixed(self, mode: Mode) -> Option<Fixed> {
        let protected = match mode {
            Mode::E => (1, 1),
            Mode::E0 => (5, 0),
        };
        match self {
            Self::None => None,
            Self::Upstream => Some(Fixed {
                anchor: Anchor::Previous,
                retention: Some(protected.0),
                last: protected.1,
            }),
            // The forced tail lies beyond the end of SkyReels-V2's counter.
            Self::Skyreels => {
                Some(Fixed { anchor: Anchor::Previous, retention: Some(protected.0), last: 0 })
            }
            Self::Wanvideowrapper | Self::WanvideowrapperHalf => {
                Some(Fixed { anchor: Anchor::Computed, retention: None, last: 0 })
            }
        }
    }

    pub(super) fn rounding(self) -> Rounding {
        match self {
            Self::None | Self::Upstream | Self::Skyreels => Rounding::None,
            Self::Wanvideowrapper => Rounding::SumF32,
            Self::WanvideowrapperHalf => Rounding::Bf16,
        }
    }

    /// Number of evaluations after which the first ones are protected again.
    ///
    /// # Errors
    /// `Invalid` where the reference would swap the residuals of the two branches.
    pub(super) fn period(self, context: &CacheContext) -> Result<Option<u32>> {
        if self != Self::Skyreels {
            return Ok(None);
        }
        let rounds = context.evaluations_before + context.evaluations + context.evaluations_after;
        if rounds % 2 == 1 {
            return Err(Error::invalid(format!(
                "preset skyreels: {rounds} evaluations are an odd number, at which SkyReels-V2's \
                 counter swaps the residuals of the two branches; take an even number of steps, \
                 or preset = upstream"
            )));
        }
        Ok(Some(rounds / 2))
    }
}
