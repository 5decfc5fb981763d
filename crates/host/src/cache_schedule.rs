//! What a cache will do, before any block runs.
//!
//! A cache that decides by timesteps and weights alone is driven by the very loop that generates:
//! the same sampler, streams, branches and contexts, over a model without blocks and latents of
//! one token a frame. What comes out is what the run will do.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde::Serialize;
use wan_model::vae::VaeConfig;
use wan_model::{WanConfig, WanModel};
use wan_plugin_api::{CachePlan, ModelIdentity, SampleRequest};

use crate::conditioning::Conditioning;
use crate::denoiser::{DenoiserParts, Expert};
use crate::error::{Error, Result};
use crate::given::{GivenFrames, Intake};
use crate::ledger::{Holding, Item};
use crate::loaded::PartLoader;
use crate::model_folder::ModelFolder;
use crate::noise::Noise;
use crate::ops::HostOps;
use crate::pipeline::{EXPERTS, fps_class};
use crate::record::{DecisionCount, EvaluationRecord};
use crate::registry::{Kind, Registry};
use crate::sampling::{Sampled, SamplingJob};
use crate::settings::{LatentSize, Precision, Settings, SizeRule};

/// Tokens of a picture in CLIP ViT-H/14, which position embeddings of two pictures are made for.
const IMAGE_TOKENS: usize = 257;

/// A model of which only the time signals are computed.
pub struct CachePlanner {
    folder: ModelFolder,
    configs: Vec<WanConfig>,
    models: Vec<WanModel>,
    vae: VaeConfig,
    boundary_timestep: Option<f64>,
    variant: String,
    fingerprint: String,
}

/// What a cache will do.
#[derive(Debug, Clone, Serialize)]
pub struct CacheSchedule {
    /// Decisions of every evaluation and branch, in order.
    pub evaluations: Vec<EvaluationRecord>,
    /// Timestep of the noisiest updated frame at each round.
    pub timesteps: Vec<f64>,
    /// Names of what was measured.
    pub measures: Vec<String>,
    /// Decisions, counted.
    pub decisions: DecisionCount,
    /// Evaluations over those whose blocks will run: how much faster the blocks' part of the run is.
    pub speed_up: f64,
    /// Most bytes that one branch's cache will hold.
    pub bytes_per_branch: u64,
    /// Of what all branches' will be made.
    pub holdings: Vec<Holding>,
}

impl CachePlanner {
    /// Loads what a model's time signals are computed from.
    ///
    /// # Errors
    /// If a file is missing or does not fit its config.
    pub fn load(folder: &ModelFolder, precision: Precision) -> Result<Self> {
        let boundary_timestep = folder.boundary_timestep()?;
        let experts = &EXPERTS[..if boundary_timestep.is_some() { 2 } else { 1 }];
        let loader = PartLoader::new(folder.clone(), Device::Cpu);
        let configs = experts.iter().map(|part| folder.transformer_config(part));
        let models = experts.iter().map(|p| loader.transformer_without_blocks(p, precision));
        Ok(Self {
            folder: folder.clone(),
            configs: configs.collect::<Result<_>>()?,
            models: models.collect::<Result<_>>()?,
            vae: folder.vae_config()?,
            boundary_timestep,
            variant: folder.variant()?,
            fingerprint: folder.fingerprint()?,
        })
    }

    /// The folder that it was loaded from.
    pub fn folder(&self) -> &ModelFolder {
        &self.folder
    }

    /// Plans the cache of `settings`.
    ///
    /// # Errors
    /// If there is no cache, it decides by what the blocks compute, or settings do not fit.
    pub fn plan(
        &self,
        registry: &Registry,
        settings: &Settings,
        given: &GivenFrames,
    ) -> Result<CacheSchedule> {
        let Some(cache) = &settings.cache else {
            return Err(Error::invalid("there is no cache to plan; give --cache NAME"));
        };
        let size = settings.latent_size(self.size_rule())?;
        let job = self.job(registry, settings, given, size)?;
        let timesteps = job.schedule.rounds.iter().map(|round| {
            let moving = round.levels.iter().filter(|l| l.update);
            moving.map(|l| l.timestep).fold(f64::NEG_INFINITY, f64::max)
        });
        let timesteps = timesteps.collect();
        let sampled = job.run(&mut |_| {})?;
        let plan = sampled.cache_plan.clone().filter(|plan| plan.schedule_only);
        let plan = plan.ok_or_else(|| {
            Error::invalid(format!(
                "{} decides by what the model computes, so it cannot be planned; `wan cache record` \
                 and `wan cache replay` show what it does",
                cache.id
            ))
        })?;
        Ok(self.schedule(&plan, sampled, timesteps, size))
    }

    fn schedule(
        &self,
        plan: &CachePlan,
        sampled: Sampled,
        timesteps: Vec<f64>,
        size: LatentSize,
    ) -> CacheSchedule {
        let decisions = DecisionCount::of(&sampled.records, None);
        // Tensors of the planned run have one token a frame.
        let [_, rows, columns] = self.configs[0].patch_size;
        let frame_tokens = (size.height / rows * (size.width / columns)) as u64;
        let mut holdings = sampled.cache_memory.holdings;
        for holding in &mut holdings {
            let by_tokens = matches!(holding.item, Item::Computed | Item::Hidden | Item::Probe);
            holding.bytes *= if by_tokens { frame_tokens } else { 1 };
        }
        let all = (decisions.computed + decisions.reused) as f64;
        CacheSchedule {
            timesteps,
            measures: plan.measures.clone(),
            speed_up: all / decisions.computed.max(1) as f64,
            decisions,
            bytes_per_branch: sampled.cache_memory.declared_per_branch,
            holdings,
            evaluations: sampled.records,
        }
    }

    fn size_rule(&self) -> SizeRule {
        let [_, rows, columns] = self.configs[0].patch_size;
        SizeRule {
            vae_scale: self.vae.scale_factor_spatial,
            temporal_scale: self.vae.scale_factor_temporal,
            patch: [rows, columns],
        }
    }

    fn job<'m>(
        &'m self,
        registry: &'m Registry,
        settings: &Settings,
        given: &GivenFrames,
        size: LatentSize,
    ) -> Result<SamplingJob<'m>> {
        let intake = Intake::of(&self.configs[0], self.vae.z_dim);
        given.check(intake, self.vae.scale_factor_temporal)?;
        let prefix_frames = given.prefix_frames(intake, self.vae.scale_factor_temporal);
        let request = SampleRequest {
            frames: size.frames as u32,
            window_frames: size.frames as u32,
            prefix_frames: prefix_frames as u32,
            steps: settings.sample_steps,
            shift: settings.sample_shift,
            temporal_scale: self.vae.scale_factor_temporal as u32,
        };
        let choice = &settings.sampler;
        let sampler = registry.choose(Kind::Sampler, &choice.id, &choice.options)?;
        let sampler = sampler.sampler(&request)?;
        let schedule = sampler.schedule().map_err(Error::strategy(&choice.id))?;
        schedule.check(size.frames, prefix_frames).map_err(Error::strategy(&choice.id))?;
        let [_, rows, columns] = self.configs[0].patch_size;
        Ok(SamplingJob {
            sampler,
            sampler_id: choice.id.clone(),
            schedule,
            parts: self.parts(registry, settings, size)?,
            latents: zeros(&[1, self.vae.z_dim, size.frames, rows, columns])?,
            // As was checked.
            ends: vec![0.0; size.frames],
            cancel: Arc::default(),
        })
    }

    fn parts<'m>(
        &'m self,
        registry: &'m Registry,
        settings: &Settings,
        size: LatentSize,
    ) -> Result<DenoiserParts<'m>> {
        let config = &self.configs[0];
        let [_, rows, columns] = config.patch_size;
        let cache = settings.cache.as_ref();
        let cache = cache.map(|c| registry.choose(Kind::Cache, &c.id, &c.options)).transpose()?;
        let beside = config.in_channels - self.vae.z_dim;
        let channels = match beside {
            0 => None,
            channels => Some(zeros(&[1, channels, size.frames, rows, columns])?),
        };
        Ok(DenoiserParts {
            experts: self.experts(settings)?,
            boundary_timestep: self.boundary_timestep,
            conditioning: Conditioning { channels, first_frames: None },
            fps_class: config.inject_sample_info.then(|| fps_class(settings.fps)),
            frame_tokens: (size.height / rows * (size.width / columns)) as u32,
            frame_output_elements: (config.out_channels * size.height * size.width) as u64,
            steps: settings.sample_steps,
            cache,
            cache_device: settings.cache_device,
            witness: None,
            ops: HostOps::new(Device::Cpu, Noise::new(settings.base_seed), Arc::default()),
        })
    }

    fn experts(&self, settings: &Settings) -> Result<Vec<Expert<'_>>> {
        let scales = settings.guidance(self.models.len());
        let experts = self.models.iter().zip(&self.configs).zip(scales);
        let experts = experts.map(|((model, config), guidance_scale)| {
            let prompt = zeros(&[1, 1, config.text_dim])?;
            let pictures = if config.pos_embed_seq_len.is_some() { 2 } else { 1 };
            let tokens = config.pos_embed_seq_len.map_or(IMAGE_TOKENS, |both| both / 2);
            let image = config.image_dim.map(|width| zeros(&[pictures, tokens, width]));
            let context = model.context(&prompt, image.transpose()?.as_ref())?;
            Ok(Expert {
                model,
                identity: ModelIdentity {
                    variant: self.variant.clone(),
                    dim: config.dim() as u32,
                    layers: config.num_layers as u32,
                    in_channels: config.in_channels as u32,
                    hash: self.fingerprint.clone(),
                },
                cond: context.clone(),
                uncond: Some(context),
                guidance_scale,
            })
        });
        experts.collect()
    }
}

fn zeros(shape: &[usize]) -> Result<Tensor> {
    Ok(Tensor::zeros(shape, DType::F32, &Device::Cpu)?)
}
