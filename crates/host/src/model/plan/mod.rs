//! What a run will take, before anything is loaded: work, and memory phase by phase.

mod counted;
mod fit;
mod phases;
mod time;

use std::collections::BTreeMap;

use serde::Serialize;
use wan_model::work::Work;
use wan_plugin_api::Place;

use crate::error::{Error, Result};
use crate::model::Model;
use crate::model::settings::Settings;
use crate::output::plan_summary::PlanSummary;
use crate::request::residency::Residency;
use counted::Counted;
use phases::{ModelBytes, Phases};

pub use time::TimeEstimate;

/// Work and bytes of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Rounds of the schedule.
    pub rounds: usize,
    /// Evaluations of a transformer, all guidance branches.
    pub evaluations: u64,
    /// What all evaluations compute, and the keys and values of the prompts.
    pub denoising: Work,
    /// What decoding computes.
    pub decoding: Work,
    /// Bytes of the files of each part.
    pub file_bytes: BTreeMap<String, u64>,
    /// Latents, `[1, C, F, H, W]` in f32.
    pub latent_bytes: u64,
    /// Hidden states of an evaluation, `[1, L, D]` in the format of the residual stream; of the wider
    /// expert.
    pub hidden_bytes: u64,
    /// Most that the time signals of an evaluation take: one row of `e` and `e0` per distinct
    /// timestep, in f32.
    pub signal_bytes_max: u64,
    /// Most that the caches of all branches declare to hold; 0 without a cache.
    pub cache_bytes_max: u64,
    /// What is held, phase by phase, in order.
    pub phases: Vec<PlannedPhase>,
    /// What of the model is in memory, and when.
    pub residency: Residency,
    /// What was chosen to make the run fit, and what each costs.
    pub choices: Vec<String>,
}

/// What one phase of a run holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedPhase {
    /// Its name.
    pub name: &'static str,
    /// What is held at its peak.
    pub lines: Vec<PlannedLine>,
}

/// Bytes of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedLine {
    /// What it is.
    pub what: String,
    /// How much of it.
    pub bytes: u64,
    /// Where it lies. On the CPU all is in the same memory, that of the device.
    pub place: Place,
}

impl PlannedPhase {
    /// Bytes that it holds in one place. A cache may declare whatever it likes, so the sum ends at the
    /// largest number.
    pub fn bytes(&self, place: Place) -> u64 {
        let lines = self.lines.iter().filter(|line| line.place == place);
        lines.fold(0, |all, line| all.saturating_add(line.bytes))
    }
}

impl Plan {
    /// What the sidecar keeps of it.
    pub(crate) fn summary(&self) -> PlanSummary {
        let (phase, bytes) = self
            .peak(Place::Device)
            .map_or((String::new(), 0), |(phase, bytes)| (phase.name.into(), bytes));
        let host_bytes = self.peak(Place::Host).map_or(0, |(_, bytes)| bytes);
        let choices = self.choices.clone();
        PlanSummary { phase, bytes, host_bytes, residency: self.residency, choices }
    }

    /// The phase that holds most in one place, and how much; none where nothing is held there.
    pub fn peak(&self, place: Place) -> Option<(&PlannedPhase, u64)> {
        let bytes = self.phases.iter().map(|phase| (phase, phase.bytes(place)));
        bytes.filter(|(_, bytes)| *bytes > 0).max_by_key(|(_, bytes)| *bytes)
    }
}

impl Model {
    /// What a run of these settings will take. Nothing is loaded, and no block runs.
    ///
    /// # Errors
    /// What sampler or cache say against the settings; if a weight file is gone.
    pub fn plan(&self, settings: &Settings) -> Result<Plan> {
        let counted = Counted::of(self.facts(), settings)?;
        Ok(self.plan_of(settings, &ModelBytes::of(self, settings)?, &counted))
    }

    fn plan_of(&self, settings: &Settings, bytes: &ModelBytes, counted: &Counted) -> Plan {
        let phases = Phases { model: self, settings, counted, bytes };
        Plan {
            rounds: counted.rounds,
            evaluations: counted.evaluations,
            denoising: phases.denoising(),
            decoding: phases.decoding(),
            file_bytes: bytes.files.clone(),
            latent_bytes: self.latent_bytes(settings),
            hidden_bytes: counted.hidden_bytes,
            signal_bytes_max: counted.signal_bytes_max,
            cache_bytes_max: counted.cache_bytes_max,
            phases: phases.all(),
            residency: settings.residency,
            choices: Vec::new(),
        }
    }

    /// Tokens that the text encoder computes, of all prompts.
    fn prompt_tokens(&self, settings: &Settings) -> Result<usize> {
        let values = &settings.values;
        let mut prompts = vec![values.prompt.as_str()];
        if self.is_guided(settings) {
            prompts.push(&values.negative_prompt);
        }
        self.0.prompts.tokens(&prompts)
    }

    /// Shape of the latents of these settings, `[1, C, F, H, W]`.
    pub fn latent_shape(&self, settings: &Settings) -> [usize; 5] {
        let size = settings.latent_size();
        [1, self.facts().vae.z_dim, size.frames, size.height, size.width]
    }

    /// Bytes of the latents of these settings, f32.
    pub fn latent_bytes(&self, settings: &Settings) -> u64 {
        4 * self.latent_shape(settings).iter().product::<usize>() as u64
    }

    fn file_bytes(&self) -> Result<BTreeMap<String, u64>> {
        let mut bytes = BTreeMap::new();
        for (part, files) in self.checkpoint().parts() {
            for file in files {
                let length = std::fs::metadata(file).map_err(Error::io(file))?.len();
                *bytes.entry(part.clone()).or_default() += length;
            }
        }
        Ok(bytes)
    }
}
