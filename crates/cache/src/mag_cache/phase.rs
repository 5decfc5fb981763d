//! The evaluations that MagCache always computes: a fraction at the start of each expert's phase.
//!
//! MagCache counts calls, two per step (`cond` even, `uncond` odd), and rounds the fraction in
//! calls. With `c` the number of a call, `S` the calls of the first expert and `A` all calls:
//!
//! ```text
//! one expert    c < int(A r)
//! T2V A14B      c < int(S r)   or   S <= c <= S + (A - S) r
//! I2V A14B      c < int(S + (A - S) r)                      the first expert never reuses
//! ```
//!
//! Source: Zehong-Ma/MagCache at df81cb1, `magcache_forward` of `MagCache4Wan2.1` and
//! `MagCache4Wan2.2`.

use wan_plugin_api::CacheContext;

/// Input channels of an image-to-video model.
const I2V_CHANNELS: u32 = 36;

/// Protected calls of one stream.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Phase {
    /// Calls before this stream.
    before: u32,
    /// 1 on the branch `uncond`, else 0.
    odd: u32,
    /// Calls of the first expert; `None` for a model with one expert.
    split: Option<u32>,
    all: u32,
    is_i2v: bool,
    ratio: f64,
}

impl Phase {
    pub(super) fn new(context: &CacheContext, ratio: f64) -> Self {
        let first = match context.expert {
            0 => context.evaluations,
            _ => context.evaluations_before,
        };
        Self {
            before: 2 * context.evaluations_before,
            odd: u32::from(context.branch == "uncond"),
            split: (context.experts > 1).then_some(2 * first),
            all: 2 * (context.evaluations_before + context.evaluations + context.evaluations_after),
            is_i2v: context.model.in_channels == I2V_CHANNELS,
            ratio,
        }
    }

    /// Whether evaluation `index` of the stream always computes.
    pub(super) fn protects(&self, index: u32) -> bool {
        let call = f64::from(self.before + 2 * index + self.odd);
        let (all, ratio) = (f64::from(self.all), self.ratio);
        let Some(split) = self.split.map(f64::from) else { return call < (all * ratio).trunc() };
        let second = (all - split) * ratio + split;
        if self.is_i2v {
            call < second.trunc()
        } else {
            call < (split * ratio).trunc() || (split <= call && call <= second)
        }
    }
}
