//! What is known of a model before its weights are read, and how a run of it is set up.

use std::sync::Arc;

use wan_model::WanConfig;
use wan_model::vae::VaeConfig;

use crate::denoiser_parts::{DenoiserParts, Embeddings, ModelName};
use crate::error::Result;
use crate::experts::Experts;
use crate::given::{Intake, Start};
use crate::model_folder::ModelFolder;
use crate::ops::HostOps;
use crate::registry::{Kind, Registry};
use crate::run::{Beginning, RunSpec};
use crate::settings::{LatentSize, Settings, SizeRule};
use crate::witness::RunWitness;

/// The transformers of a model with two experts, in the order of their use.
const EXPERTS: [&str; 2] = ["transformer", "transformer_2"];

/// Configs, and what the files say of themselves.
#[derive(Debug, Clone)]
pub(crate) struct ModelFacts {
    /// One transformer, or one for high noise and one for low.
    pub(crate) configs: Vec<WanConfig>,
    pub(crate) vae: VaeConfig,
    /// Timestep at and above which the first of two experts runs.
    pub(crate) boundary_timestep: Option<f64>,
    /// See [`ModelFolder::variant`].
    pub(crate) variant: String,
    /// See [`ModelFolder::fingerprint`].
    pub(crate) fingerprint: String,
}

/// What a run is given beside its settings.
pub(crate) struct Given<'r> {
    pub(crate) registry: &'r Registry,
    pub(crate) experts: Arc<dyn Experts>,
    pub(crate) embeddings: Embeddings,
    pub(crate) start: Start,
    pub(crate) beginning: Beginning,
    /// Rows and columns of the latents.
    pub(crate) latent_rows: [usize; 2],
    pub(crate) witness: Option<RunWitness>,
    pub(crate) ops: HostOps,
}

impl ModelFacts {
    /// Reads the configs of a folder.
    ///
    /// # Errors
    /// If a file is missing, or malformed.
    pub(crate) fn read(folder: &ModelFolder) -> Result<Self> {
        let boundary_timestep = folder.boundary_timestep()?;
        let experts = &EXPERTS[..if boundary_timestep.is_some() { 2 } else { 1 }];
        let configs = experts.iter().map(|part| folder.transformer_config(part));
        Ok(Self {
            configs: configs.collect::<Result<_>>()?,
            vae: folder.vae_config()?,
            boundary_timestep,
            variant: folder.variant()?,
            fingerprint: folder.fingerprint()?,
        })
    }

    /// Names of its transformers' parts, in the order of their use.
    pub(crate) fn experts(&self) -> &'static [&'static str] {
        &EXPERTS[..self.configs.len()]
    }

    /// How it takes given frames.
    pub(crate) fn intake(&self) -> Intake {
        let in_place = self.variant == "ti2v";
        Intake { in_place, ..Intake::of(&self.configs[0], self.vae.z_dim) }
    }

    /// What sizes must be multiples of.
    pub(crate) fn size_rule(&self) -> SizeRule {
        SizeRule {
            vae_scale: self.vae.scale_factor_spatial,
            temporal_scale: self.vae.scale_factor_temporal,
            patch: self.patch(),
        }
    }

    /// Rows and columns of latents in a token.
    pub(crate) fn patch(&self) -> [usize; 2] {
        let [_, rows, columns] = self.configs[0].patch_size;
        [rows, columns]
    }

    /// Tokens of one latent frame.
    pub(crate) fn frame_tokens(&self, size: LatentSize) -> usize {
        let [rows, columns] = self.patch();
        size.height / rows * (size.width / columns)
    }

    /// A run of these settings.
    ///
    /// # Errors
    /// If a size does not fit, or there is no such strategy.
    pub(crate) fn run_spec(&self, settings: &Settings, given: Given<'_>) -> Result<RunSpec> {
        let size = settings.latent_size(self.size_rule())?;
        let registry = given.registry;
        let choose = |kind, choice: &crate::settings::StrategyChoice| {
            registry.choose(kind, &choice.id, &choice.options)
        };
        let config = &self.configs[0];
        let Start { prefix, conditioning } = given.start;
        let [rows, columns] = given.latent_rows;
        let parts = DenoiserParts {
            experts: given.experts,
            guidance: settings.guidance(self.configs.len()),
            boundary_timestep: self.boundary_timestep,
            model: ModelName { variant: self.variant.clone(), hash: self.fingerprint.clone() },
            embeddings: given.embeddings,
            conditioning,
            fps_class: config.inject_sample_info.then(|| fps_class(settings.fps)),
            frame_tokens: self.frame_tokens(size) as u32,
            frame_output_elements: (config.out_channels * size.height * size.width) as u64,
            steps: settings.sample_steps,
            cache: settings.cache.as_ref().map(|c| choose(Kind::Cache, c)).transpose()?,
            cache_device: settings.cache_device,
            witness: given.witness,
            ops: given.ops,
        };
        Ok(RunSpec {
            shape: [1, self.vae.z_dim, size.frames, rows, columns],
            prefix,
            beginning: given.beginning,
            may_end_noisy: settings.latents_only,
            sampler: choose(Kind::Sampler, &settings.sampler)?,
            shift: settings.sample_shift,
            temporal_scale: self.vae.scale_factor_temporal as u32,
            parts,
        })
    }
}

/// Frame-rate class of SkyReels-V2: 0 for 16 frames per second, 1 for any other.
fn fps_class(fps: f64) -> u32 {
    u32::from(fps.round() != 16.0)
}
