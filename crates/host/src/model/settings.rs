//! Settings that a model has completed.

use std::ops::Deref;
use std::sync::Arc;

use serde_json::Value;
use wan_border::numbers::Steps;

use crate::checkpoint::lora_set::LoraSet;
use crate::denoise::saved::check_keeps_state;
use crate::error::{Error, Result};
use crate::inputs::given::GivenFrames;
use crate::output::plan_summary::PlanSummary;
use crate::plugins::registry::Chosen;
use crate::request::memory::Limits;
use crate::request::origin::{Origin, Origins};
use crate::request::residency::Residency;
use crate::request::settings::{LatentSize, SettingValues};
use crate::run::handover::Earlier;

/// Complete settings of one video by one model, each with where its value came from.
///
/// Only [`Model::settle`](crate::Model::settle) makes them.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(crate) values: SettingValues,
    pub(crate) origins: Origins,
    /// The published model that the defaults are of.
    pub(crate) task: Option<String>,
    /// What the request was completed with.
    pub(crate) defaults: Value,
    pub(crate) chosen_sampler: Chosen,
    pub(crate) chosen_cache: Option<Chosen>,
    pub(crate) size: LatentSize,
    pub(crate) given_frames: Arc<GivenFrames>,
    /// Latents to go on from, as they were when their file was hashed.
    pub(crate) earlier: Option<Earlier>,
    /// LoRAs, fitted to the model.
    pub(crate) loras: LoraSet,
    pub(crate) notices: Vec<String>,
    /// Memory that the run may take.
    pub(crate) limits: Limits,
    /// What of the model is in memory while it goes on.
    pub(crate) residency: Residency,
    /// Whether they are recorded ones: then nothing that shows is chosen to make them fit.
    pub(crate) are_recorded: bool,
    /// The plan of a run that was made to fit.
    pub(crate) planned: Option<PlanSummary>,
}

impl Deref for Settings {
    type Target = SettingValues;

    fn deref(&self) -> &SettingValues {
        &self.values
    }
}

impl Settings {
    /// Where each value came from, by the request's names.
    pub fn origins(&self) -> &Origins {
        &self.origins
    }

    /// What whoever asked should know: a model that was recognised, words that it does not know.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// SHA-256 of the libraries of sampler and cache; none of what is built in.
    pub fn plugin_hashes(&self) -> [Option<String>; 2] {
        let hash = |chosen: &Chosen| chosen.plugin.source.hash.clone();
        [hash(&self.chosen_sampler), self.chosen_cache.as_ref().and_then(hash)]
    }

    /// What of the model is in memory while a run of them goes on.
    pub fn residency(&self) -> &Residency {
        &self.residency
    }

    /// The same settings, decoded in tiles or not: it changes no latents.
    #[must_use]
    pub fn with_vae_tiling(mut self, vae_tiling: bool) -> Self {
        self.values.vae_tiling = vae_tiling;
        self
    }

    /// The same settings with another number of steps.
    ///
    /// # Errors
    /// If it is out of range.
    pub fn with_sample_steps(mut self, sample_steps: u32) -> Result<Self> {
        let steps = Steps::new(sample_steps);
        self.values.sample_steps = steps.map_err(|error| Error::field("sample_steps", error))?;
        self.origins.insert("sample_steps".into(), Origin::Request);
        Ok(self)
    }

    /// Frames of the video: those that are generated, and a given clip before its context.
    pub fn video_frames(&self) -> usize {
        self.given_frames.in_front().len() + self.frame_num.get()
    }

    /// Whether a run of these settings can be saved and resumed.
    ///
    /// # Errors
    /// If sampler or cache do not keep their state, naming it.
    pub fn can_be_saved(&self) -> Result<()> {
        check_keeps_state(&self.chosen_sampler)?;
        self.chosen_cache.as_ref().map_or(Ok(()), check_keeps_state)
    }

    /// The latent grid.
    pub fn latent_size(&self) -> LatentSize {
        self.size
    }
}
