//! What is known of a model before its weights are read, and how a run of it is set up.

use std::sync::Arc;

use wan_border::numbers::u32_of;
use wan_model::WanConfig;
use wan_model::family::{Family, Intake};
use wan_model::vae::VaeConfig;

use crate::checkpoint::Checkpoint;
use crate::denoise::experts::Experts;
use crate::denoise::ops::HostOps;
use crate::denoise::parts::DenoiserParts;
use crate::denoise::witness::RunWitness;
use crate::error::Result;
use crate::inputs::conditions::Conditions;
use crate::model::settings::Settings;
use crate::request::settings::{LatentSize, SizeRule};
use crate::run::spec::{Beginning, RunSpec};

/// Configs, and what the files say of themselves.
#[derive(Debug, Clone)]
pub(crate) struct ModelFacts {
    /// One transformer, or one for high noise and one for low.
    pub(crate) configs: Vec<WanConfig>,
    pub(crate) vae: VaeConfig,
    /// Timestep at and above which the first of two experts runs.
    pub(crate) boundary_timestep: Option<f64>,
    pub(crate) family: Family,
    /// See [`Checkpoint::fingerprint`].
    pub(crate) fingerprint: String,
}

/// What a run has beside its settings.
pub(crate) struct RunInputs {
    pub(crate) experts: Arc<dyn Experts>,
    pub(crate) conditions: Conditions,
    pub(crate) beginning: Beginning,
    /// Rows and columns of the latents.
    pub(crate) latent_rows: [usize; 2],
    pub(crate) witness: Option<RunWitness>,
    pub(crate) ops: HostOps,
}

impl ModelFacts {
    /// What a checkpoint says.
    ///
    /// # Errors
    /// If a file is missing, or malformed.
    pub(crate) fn of(checkpoint: &Checkpoint) -> Result<Self> {
        let boundary_timestep = checkpoint.boundary_timestep()?;
        let configs = checkpoint.experts().iter();
        let configs = configs.map(|part| checkpoint.transformer_config(part).cloned());
        Ok(Self {
            configs: configs.collect::<Result<_>>()?,
            vae: checkpoint.vae_config()?.clone(),
            boundary_timestep,
            family: checkpoint.family()?,
            fingerprint: checkpoint.fingerprint()?.into(),
        })
    }

    /// How it takes given frames.
    pub(crate) fn intake(&self) -> Intake {
        self.family.intake
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
    pub(crate) fn run_spec(&self, settings: &Settings, inputs: RunInputs) -> RunSpec {
        let size = settings.size;
        let config = &self.configs[0];
        let [rows, columns] = inputs.latent_rows;
        let parts = DenoiserParts {
            experts: inputs.experts,
            guidance: settings.guidance(self.configs.len()),
            boundary_timestep: self.boundary_timestep,
            variant: self.family.variant.into(),
            model_hash: self.fingerprint.clone(),
            conditions: inputs.conditions,
            fps_class: self.family.fps_class(settings.fps),
            frame_tokens: u32_of(self.frame_tokens(size)),
            frame_output_elements: (config.out_channels * size.height * size.width) as u64,
            steps: settings.sample_steps.get_u32(),
            cache: settings.chosen_cache.clone(),
            cache_device: settings.cache_device,
            witness: inputs.witness,
            ops: inputs.ops,
        };
        RunSpec {
            shape: [1, self.vae.z_dim, size.frames, rows, columns],
            beginning: inputs.beginning,
            may_end_noisy: settings.latents_only,
            on_nan: settings.on_nan,
            sampler: settings.chosen_sampler.clone(),
            shift: settings.sample_shift,
            temporal_scale: u32_of(self.vae.scale_factor_temporal),
            parts,
        }
    }
}
