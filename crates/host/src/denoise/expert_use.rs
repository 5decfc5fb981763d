//! Which transformer of a model ran when.

use serde::{Deserialize, Serialize};
use wan_plugin_api::Round;

use crate::denoise::stream::noisiest_timestep;

/// The rounds of one sampling that an expert ran in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ExpertUse {
    /// Rounds.
    pub rounds: usize,
    /// Evaluations in them; each is run once per guidance branch.
    pub evaluations: u32,
    /// Highest timestep that decided for it; null where it never ran.
    pub timestep_max: Option<f64>,
    /// Lowest timestep that decided for it.
    pub timestep_min: Option<f64>,
}

impl ExpertUse {
    /// Takes note of a round that the expert ran in.
    pub(crate) fn see(&mut self, round: &Round) {
        self.rounds += 1;
        self.evaluations += round.evaluations;
        let timestep = noisiest_timestep(round);
        self.timestep_max = Some(self.timestep_max.map_or(timestep, |t| t.max(timestep)));
        self.timestep_min = Some(self.timestep_min.map_or(timestep, |t| t.min(timestep)));
    }
}
