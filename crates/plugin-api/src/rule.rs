//! What kind of rule a cache decides by: declared, so that reports can show it and property tests
//! can hold the cache to it.

use serde::{Deserialize, Serialize};

/// A declaration beside the plan. All of it may be left at its default: then the cache is held to
/// what holds for every cache.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rule {
    /// A reuse is made anew from what was stored, and is not the last stored tensor itself.
    pub forecasts: bool,
    /// Frames that this round does not move count in the decision.
    pub all_frames: bool,
    /// Each guidance branch has calibrated numbers of its own.
    pub per_branch: bool,
    /// A larger option `threshold` never computes more often, whatever the signals are.
    pub monotone: bool,
    /// The number that every reuse was allowed by.
    pub gate: Option<Gate>,
    /// Evaluations that compute whatever the numbers say. None: those that the options
    /// `retention`, `last` and `max_skips` name, where there are such.
    pub protects: Option<Protects>,
    /// This is another cache at half width.
    pub half_of: Option<HalfOf>,
}

/// A measured number that must stay below a limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// Its name among [`CachePlan::measures`](crate::CachePlan::measures).
    pub measure: String,
    /// The measure that was added up to it since the last computed evaluation; none where it
    /// stands for itself.
    pub step: Option<String>,
    /// Its limit.
    pub below: f64,
}

/// Evaluations that always compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protects {
    /// First evaluations.
    pub first: u32,
    /// Last evaluations.
    pub last: u32,
    /// Most reuses in a row; 0: no limit.
    pub reuses_max: u32,
}

/// What a cache at half width keeps so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HalfOf {
    /// Id of the cache at full width.
    pub cache: String,
    /// Signals are halved.
    pub signals: bool,
    /// What `store` is given is halved.
    pub computed: bool,
}
