//! The rule by which a cache decides, as a declaration: reports show it, and the kit's properties
//! test it.

use serde::{Deserialize, Serialize};

/// Declares properties of a cache's decisions. With the default, only the properties that hold for
/// every cache are tested.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rule {
    /// A reused tensor is computed from stored ones; it is not the last stored tensor itself.
    pub forecasts: bool,
    /// Frames that the round does not update count in the decision too.
    pub all_frames: bool,
    /// Each guidance branch has its own calibrated numbers.
    pub per_branch: bool,
    /// A larger value of the option `threshold` never computes more evaluations, for any signals.
    pub monotone: bool,
    /// The measured number that decides about a reuse.
    pub gate: Option<Gate>,
    /// Evaluations that always compute. None: those that the options `retention`, `last` and
    /// `max_skips` name, if the cache has them.
    pub protects: Option<Protects>,
    /// Set if this is the half-width variant of another cache.
    pub half_of: Option<HalfOf>,
}

/// A measured number that must be below a limit for a reuse.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// Name of the number in [`CachePlan::measures`](crate::CachePlan::measures).
    pub measure: String,
    /// Name of the measure whose sum since the last computed evaluation it is; none if it is no
    /// sum.
    pub step: Option<String>,
    /// The limit.
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

/// What a half-width variant keeps at half width.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HalfOf {
    /// Id of the full-width cache.
    pub cache: String,
    /// Whether signals are.
    pub signals: bool,
    /// Whether the tensors that `store` receives are.
    pub computed: bool,
}
