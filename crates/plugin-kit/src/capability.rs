//! Capabilities: what a cache declares in its plan to be exempt from a property.

use wan_plugin_api::{CachePlan, Signal};

/// A capability that a plan declares, or declares to be absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// `schedule_only` is false: decisions depend on the contents of tensors.
    DecidesByContents,
    /// `reads` is empty.
    ReadsNothing,
    /// `reads` names no time signal.
    ReadsNoTimeSignal,
    /// `shared_decision` is false.
    DecidesPerBranch,
    /// `rule.forecasts`.
    Forecasts,
    /// `rule.all_frames`.
    CountsAllFrames,
    /// `rule.per_branch`.
    CalibratedPerBranch,
    /// `rule.per_branch` is false.
    NotCalibratedPerBranch,
    /// `rule.monotone` is false.
    NotMonotone,
    /// `rule.gate` is none.
    NoGate,
    /// `rule.half_of` is none.
    FullWidth,
}

impl Capability {
    /// Whether `plan` declares the capability.
    pub fn is_declared(self, plan: &CachePlan) -> bool {
        let of_time = |s: &Signal| matches!(s, Signal::TimeEmbedding | Signal::TimeProjection);
        match self {
            Self::DecidesByContents => !plan.schedule_only,
            Self::ReadsNothing => plan.reads.is_empty(),
            Self::ReadsNoTimeSignal => !plan.reads.iter().any(of_time),
            Self::DecidesPerBranch => !plan.shared_decision,
            Self::Forecasts => plan.rule.forecasts,
            Self::CountsAllFrames => plan.rule.all_frames,
            Self::CalibratedPerBranch => plan.rule.per_branch,
            Self::NotCalibratedPerBranch => !plan.rule.per_branch,
            Self::NotMonotone => !plan.rule.monotone,
            Self::NoGate => plan.rule.gate.is_none(),
            Self::FullWidth => plan.rule.half_of.is_none(),
        }
    }

    /// How a plan declares it, as Markdown.
    pub fn declaration(self) -> &'static str {
        match self {
            Self::DecidesByContents => "`schedule_only = false`",
            Self::ReadsNothing => "`reads` empty",
            Self::ReadsNoTimeSignal => "no time signal in `reads`",
            Self::DecidesPerBranch => "`shared_decision = false`",
            Self::Forecasts => "`rule.forecasts`",
            Self::CountsAllFrames => "`rule.all_frames`",
            Self::CalibratedPerBranch => "`rule.per_branch`",
            Self::NotCalibratedPerBranch => "`rule.per_branch = false`",
            Self::NotMonotone => "`rule.monotone = false`",
            Self::NoGate => "no `rule.gate`",
            Self::FullWidth => "no `rule.half_of`",
        }
    }
}
