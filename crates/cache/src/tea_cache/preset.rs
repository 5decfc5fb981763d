//! The rules of the references, each in one word.
//!
//! - `upstream` (ali-vilab/TeaCache at 7c10efc): previous, all frames, negative values step back,
//!   no cap. Mode `e`: the first and the last evaluation compute; mode `e0`: the first five.
//! - `wanvideowrapper` (kijai/ComfyUI-WanVideoWrapper at a623f87): computed, all frames, negative
//!   values step back, no cap, last step unprotected; the sum is kept in f32. `retention` is the
//!   wrapper's `start_step + 1`.
//! - `wanvideowrapper-half` (the same at 6fadcbd): the signals are bf16; the element-wise
//!   difference, both means and their ratio are each rounded to bf16.
//! - `skyreels` (SkyworkAI/SkyReels-V2 at abed76f): as `upstream`, with its counter, see below.
//!
//! The decisions are checked against logs of the references' own code: `upstream` by the golden
//! cases, the others by `logs.json` (`tools/record_cache_logs`).
//!
//! SkyReels-V2 counts two calls per step and begins again at `num_steps`, which is the number of
//! steps (of rounds, when asynchronous) and not of calls. So the first evaluations are protected a
//! second time halfway through, and the last never. An odd number would end in the middle of a
//! pair: from there on prompt and negative prompt would take each other's residuals. That cannot
//! be had here, and is refused.
//!
//! The counter's two calls per step are the two branches of guidance; without guidance SkyReels-V2
//! alternates between two residuals on one branch, which no preset follows. When a video is
//! extended asynchronously SkyReels-V2 goes on with the count of the first window; here every
//! window counts its own rounds.

use serde::{Deserialize, Serialize};
use wan_plugin_api::{CacheContext, Error, Result};

use super::options::{Anchor, Mode, Negative, TeaCacheOptions};
use crate::scope::Scope;

/// A reference to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Our own rule.
    None,
    /// The authors' code.
    Upstream,
    /// `ComfyUI-WanVideoWrapper`, all in f32.
    Wanvideowrapper,
    /// `ComfyUI-WanVideoWrapper`, signals in bf16.
    WanvideowrapperHalf,
    /// `SkyReels-V2`.
    Skyreels,
}

/// How the numbers of a decision are rounded.
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
struct Fixed {
    anchor: Anchor,
    retention: Option<u32>,
    last: u32,
}

impl Preset {
    pub(super) const WORDS: [&'static str; 5] =
        ["none", "upstream", "wanvideowrapper", "wanvideowrapper-half", "skyreels"];
    pub(super) const DOC: &'static str =
        "a reference to follow in what it fixes (anchor, scope, negative, last, max_skips)";

    fn word(self) -> &'static str {
        Self::WORDS[self as usize]
    }

    fn fixed(self, mode: Mode) -> Option<Fixed> {
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

    /// After how many evaluations the first ones are protected again.
    ///
    /// # Errors
    /// `Invalid` where the reference would mix the branches up.
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

    /// The options as the preset has them.
    ///
    /// # Errors
    /// `Invalid`, naming an option that was given another value than the preset's.
    pub(super) fn settle(self, mut options: TeaCacheOptions) -> Result<TeaCacheOptions> {
        let Some(fixed) = self.fixed(options.mode) else { return Ok(options) };
        let default = TeaCacheOptions::default();
        self.fix("anchor", &mut options.anchor, default.anchor, fixed.anchor)?;
        self.fix("scope", &mut options.scope, default.scope, Scope::AllFrames)?;
        self.fix("negative", &mut options.negative, default.negative, Negative::Reference)?;
        let (limits, default) = (&mut options.limits, default.limits);
        self.fix("last", &mut limits.last, default.last, fixed.last)?;
        self.fix("max_skips", &mut limits.max_skips, default.max_skips, 0)?;
        if let Some(retention) = fixed.retention {
            self.fix("retention", &mut limits.retention, default.retention, retention)?;
        }
        Ok(options)
    }

    fn fix<T: PartialEq + Copy + Serialize>(
        self,
        name: &str,
        given: &mut T,
        default: T,
        fixed: T,
    ) -> Result<()> {
        if *given != default && *given != fixed {
            let word =
                |value: T| serde_json::json!(value).to_string().trim_matches('"').to_string();
            return Err(Error::invalid(format!(
                "preset {} fixes {name} = {}, and {name} = {} was given; leave it out, or take \
                 preset = none",
                self.word(),
                word(fixed),
                word(*given)
            )));
        }
        *given = fixed;
        Ok(())
    }
}
