//! Text, and what else is given, to latents to video.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use candle_core::{DType, Device, Tensor as CandleTensor};
use wan_model::clip::ClipVision;
use wan_model::vae::{Tiling, Vae};
use wan_model::{WanModel, weights};
use wan_plugin_api::{ModelIdentity, SampleRequest};

use crate::decode::{decode, load_vae};
use crate::denoiser::{DenoiserParts, Expert};
use crate::error::{Error, Result};
use crate::given::{Encoders, GivenFrames, Start};
use crate::model_folder::ModelFolder;
use crate::noise::{INITIAL_LATENTS, Noise};
use crate::ops::HostOps;
use crate::prompt::PromptEncoder;
use crate::registry::{Kind, Registry};
use crate::sampling::{RoundDone, Sampled, SamplingJob};
use crate::settings::{LatentSize, Precision, Settings, SizeRule};
use crate::video::VideoFrames;

/// A loaded model.
pub struct Pipeline {
    folder: ModelFolder,
    device: Device,
    prompts: PromptEncoder,
    /// One transformer, or one for high noise and one for low.
    transformers: Vec<WanModel>,
    boundary_timestep: Option<f64>,
    vae: Vae,
    clip: Option<ClipVision>,
    fingerprint: String,
}

/// Strategies and a way to stop: what a sampling needs beside the settings.
pub struct Surroundings<'a> {
    /// The strategies that settings name.
    pub registry: &'a Registry,
    /// Where noise comes from.
    pub noise: Noise,
    /// Set to stop between rounds.
    pub cancel: Arc<AtomicBool>,
}

/// One sampling of a pipeline.
struct Job<'j, 'm> {
    settings: &'j Settings,
    surroundings: &'j Surroundings<'m>,
    size: LatentSize,
    start: Start,
}

impl Pipeline {
    /// Loads all parts of a model folder; the transformers in these number formats, the rest in f32.
    ///
    /// # Errors
    /// If a file is missing, truncated or does not fit its config.
    pub fn load(folder: &ModelFolder, device: &Device, precision: Precision) -> Result<Self> {
        let transformer = |part: &str| -> Result<WanModel> {
            let config = folder.transformer_config(part)?;
            let weights = weights::open(&folder.weights(part)?, DType::F32, device)?;
            Ok(WanModel::load_with(config, weights, precision.into())?)
        };
        let mut transformers = vec![transformer("transformer")?];
        let boundary_timestep = folder.boundary_timestep()?;
        if boundary_timestep.is_some() {
            transformers.push(transformer("transformer_2")?);
        }
        let clip = match transformers[0].config().takes_image_tokens() {
            true => {
                let weights = weights::open(&folder.weights("image_encoder")?, DType::F32, device)?;
                Some(ClipVision::load(folder.image_encoder_config()?, weights)?)
            }
            false => None,
        };
        Ok(Self {
            prompts: PromptEncoder::load(folder, device)?,
            transformers,
            boundary_timestep,
            vae: load_vae(folder, device)?,
            clip,
            fingerprint: folder.fingerprint()?,
            folder: folder.clone(),
            device: device.clone(),
        })
    }

    /// The folder that it was loaded from.
    pub fn folder(&self) -> &ModelFolder {
        &self.folder
    }

    /// See [`ModelFolder::fingerprint`].
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Its prompts.
    pub fn prompts(&self) -> &PromptEncoder {
        &self.prompts
    }

    /// What sizes must be multiples of.
    pub fn size_rule(&self) -> SizeRule {
        let [_, rows, columns] = self.transformers[0].config().patch_size;
        let config = self.vae.config();
        SizeRule {
            vae_scale: config.scale_factor_spatial,
            temporal_scale: config.scale_factor_temporal,
            patch: [rows, columns],
        }
    }

    /// Samples latents: `[1, C, F, H, W]`, normalised as the model has them.
    ///
    /// # Errors
    /// If settings do not fit model or strategies, or a strategy fails.
    pub fn sample(
        &self,
        settings: &Settings,
        given: &GivenFrames,
        surroundings: &Surroundings<'_>,
        progress: &mut dyn FnMut(&RoundDone<'_>),
    ) -> Result<Sampled> {
        let size = settings.latent_size(self.size_rule())?;
        let encoders = Encoders {
            vae: &self.vae,
            clip: self.clip.as_ref(),
            extra_channels: self.transformers[0].config().in_channels - self.vae.config().z_dim,
            device: &self.device,
        };
        let start = given.start(&encoders, settings.frame_num)?;
        self.job(&Job { settings, surroundings, size, start })?.run(progress)
    }

    fn job<'m>(&'m self, job: &Job<'_, 'm>) -> Result<SamplingJob<'m>> {
        let Job { settings, surroundings, size, start } = job;
        let prefix_frames = start.prefix.as_ref().map_or(0, |p| p.dims()[2]);
        let request = SampleRequest {
            frames: size.frames as u32,
            window_frames: size.frames as u32,
            prefix_frames: prefix_frames as u32,
            steps: settings.sample_steps,
            shift: settings.sample_shift,
            temporal_scale: self.size_rule().temporal_scale as u32,
        };
        let registry = surroundings.registry;
        let choice = &settings.sampler;
        let sampler =
            registry.choose(Kind::Sampler, &choice.id, &choice.options)?.sampler(&request)?;
        let schedule = sampler.schedule().map_err(Error::strategy(&choice.id))?;
        schedule.check(size.frames, prefix_frames).map_err(Error::strategy(&choice.id))?;
        Ok(SamplingJob {
            sampler,
            sampler_id: choice.id.clone(),
            schedule,
            parts: self.parts(job)?,
            latents: self.initial_latents(&surroundings.noise, *size, start.prefix.as_ref())?,
            cancel: surroundings.cancel.clone(),
        })
    }

    fn parts<'m>(&'m self, job: &Job<'_, 'm>) -> Result<DenoiserParts<'m>> {
        let Job { settings, surroundings, size, start } = job;
        let config = self.transformers[0].config();
        let [_, rows, columns] = config.patch_size;
        let registry = surroundings.registry;
        let cache = settings.cache.as_ref();
        let cache = cache.map(|c| registry.choose(Kind::Cache, &c.id, &c.options)).transpose()?;
        let (noise, cancel) = (surroundings.noise.clone(), surroundings.cancel.clone());
        Ok(DenoiserParts {
            experts: self.experts(settings, start.image_embeds.as_ref())?,
            boundary_timestep: self.boundary_timestep,
            conditioning: start.conditioning.clone(),
            fps_class: config.inject_sample_info.then(|| fps_class(settings.fps)),
            frame_tokens: (size.height / rows * (size.width / columns)) as u32,
            frame_output_elements: (config.out_channels * size.height * size.width) as u64,
            steps: settings.sample_steps,
            cache,
            cache_device: settings.cache_device,
            ops: HostOps::new(self.device.clone(), noise, cancel),
        })
    }

    fn experts<'m>(
        &'m self,
        settings: &Settings,
        image_embeds: Option<&CandleTensor>,
    ) -> Result<Vec<Expert<'m>>> {
        let low = settings.sample_guide_scale_low.unwrap_or(settings.sample_guide_scale);
        let scales = [settings.sample_guide_scale, low];
        let prompt = self.prompts.encode(&settings.prompt)?;
        let guided = scales[..self.transformers.len()].iter().any(|scale| *scale > 1.0);
        let negative =
            guided.then(|| self.prompts.encode(&settings.negative_prompt)).transpose()?;
        let experts = self.transformers.iter().zip(scales).map(|(model, guidance_scale)| {
            let config = model.config();
            let uncond = negative.as_ref().map(|n| model.context(n, image_embeds)).transpose()?;
            Ok(Expert {
                model,
                identity: ModelIdentity {
                    variant: self.folder.variant(),
                    dim: config.dim() as u32,
                    layers: config.num_layers as u32,
                    in_channels: config.in_channels as u32,
                    hash: self.fingerprint.clone(),
                },
                cond: model.context(&prompt, image_embeds)?,
                uncond,
                guidance_scale,
            })
        });
        experts.collect()
    }

    /// Noise, frame by frame, so that a longer video starts from the same frames; clean frames in
    /// front where there is a prefix.
    fn initial_latents(
        &self,
        noise: &Noise,
        size: LatentSize,
        prefix: Option<&CandleTensor>,
    ) -> Result<CandleTensor> {
        let shape = [1, self.vae.config().z_dim, 1, size.height, size.width];
        let clean = prefix.map_or(0, |p| p.dims()[2]);
        let mut frames: Vec<CandleTensor> = prefix.into_iter().cloned().collect();
        for frame in clean as u64..size.frames as u64 {
            frames.push(noise.draw(INITIAL_LATENTS, frame, &shape, &self.device)?);
        }
        Ok(CandleTensor::cat(&frames, 2)?) // [1, C, F, H, W]
    }

    /// See [`decode`].
    ///
    /// # Errors
    /// If the latents do not fit the VAE.
    pub fn decode(
        &self,
        latents: &CandleTensor,
        tiling: Option<Tiling>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<VideoFrames> {
        decode(&self.vae, latents, tiling, progress)
    }
}

/// Frame-rate class of SkyReels-V2: 0 for 16 frames per second, 1 for any other.
fn fps_class(fps: f64) -> u32 {
    u32::from(fps.round() != 16.0)
}
