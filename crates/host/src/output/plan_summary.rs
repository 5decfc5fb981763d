//! What the sidecar keeps of a plan.

use serde::{Deserialize, Serialize};

use crate::request::residency::Residency;

/// A plan as the sidecar has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanSummary {
    /// The phase that holds most.
    pub phase: String,
    /// Bytes that it holds: of the device, on the CPU of main memory.
    pub bytes: u64,
    /// Most main memory of a phase, where the device has memory of its own.
    pub host_bytes: u64,
    /// What of the model is in memory, and when.
    pub residency: Residency,
    /// What was chosen to make the run fit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
}
