//! Text, and what else is given, to latents to video.

use std::cell::RefCell;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use candle_core::{Device, Tensor as CandleTensor};
use wan_model::vae::{Tiling, Vae};
use wan_model::{WanConfig, WanModel};
use wan_plugin_api::{ModelIdentity, SampleRequest};

use crate::conditions::{Conditions, Encoders};
use crate::decode::decode;
use crate::denoiser::{DenoiserParts, Expert};
use crate::error::{Error, Result};
use crate::given::{GivenFrames, Intake};
use crate::handover;
use crate::loaded::{Loaded, PartLoader, WeightMemory};
use crate::model_folder::ModelFolder;
use crate::noise::{INITIAL_LATENTS, Noise};
use crate::ops::HostOps;
use crate::part_widths::check_widths;
use crate::prompt::PromptEncoder;
use crate::registry::{Kind, Registry};
use crate::sampling::{RoundDone, Sampled, SamplingJob};
use crate::settings::{LatentSize, Precision, Settings, SizeRule};
use crate::video::VideoFrames;
use crate::witness::Witness;

/// The transformers of a model with two experts, in the order of their use.
pub(crate) const EXPERTS: [&str; 2] = ["transformer", "transformer_2"];

/// A model. Its encoders are loaded for their own turn alone, its transformers after them.
pub struct Pipeline {
    loader: Arc<PartLoader>,
    precision: Precision,
    prompts: PromptEncoder,
    /// One transformer, or one for high noise and one for low.
    configs: Vec<WanConfig>,
    transformers: OnceLock<Vec<Loaded<WanModel>>>,
    boundary_timestep: Option<f64>,
    vae: Loaded<Vae>,
    variant: String,
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
    /// Sees every evaluation, if any.
    pub witness: Option<&'a RefCell<dyn Witness>>,
}

/// One sampling of a pipeline.
struct Job<'j, 'm> {
    settings: &'j Settings,
    surroundings: &'j Surroundings<'m>,
    size: LatentSize,
    conditions: &'j Conditions,
}

impl Pipeline {
    /// Opens a model folder: checks the headers of all parts that the model needs and loads the
    /// VAE; the transformers will be in these number formats, the rest is in f32.
    ///
    /// # Errors
    /// If a file is missing, truncated or does not fit its config, or parts do not fit each other.
    pub fn load(folder: &ModelFolder, device: &Device, precision: Precision) -> Result<Self> {
        let boundary_timestep = folder.boundary_timestep()?;
        let experts = &EXPERTS[..if boundary_timestep.is_some() { 2 } else { 1 }];
        let configs = experts.iter().map(|part| folder.transformer_config(part));
        let configs = configs.collect::<Result<Vec<_>>>()?;
        let loader = Arc::new(PartLoader::new(folder.clone(), device.clone()));
        let image_encoder = configs[0].takes_image_tokens().then_some("image_encoder");
        for part in experts.iter().copied().chain(["text_encoder", "vae"]).chain(image_encoder) {
            loader.check(part)?;
        }
        for (part, config) in experts.iter().zip(&configs) {
            check_widths(folder, part, config)?;
        }
        Ok(Self {
            prompts: PromptEncoder::new(loader.clone())?,
            configs,
            transformers: OnceLock::new(),
            boundary_timestep,
            vae: loader.vae()?,
            variant: folder.variant()?,
            fingerprint: folder.fingerprint()?,
            precision,
            loader,
        })
    }

    /// The folder that it was loaded from.
    pub fn folder(&self) -> &ModelFolder {
        self.loader.folder()
    }

    /// See [`ModelFolder::fingerprint`].
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// See [`ModelFolder::variant`].
    pub fn variant(&self) -> &str {
        &self.variant
    }

    /// Timestep at and above which the first of two experts runs.
    pub fn boundary_timestep(&self) -> Option<f64> {
        self.boundary_timestep
    }

    /// Bytes of the weights that were loaded, and of those that are held.
    pub fn memory(&self) -> WeightMemory {
        self.loader.memory()
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        self.loader.device()
    }

    /// Its prompts.
    pub fn prompts(&self) -> &PromptEncoder {
        &self.prompts
    }

    /// What sizes must be multiples of.
    pub fn size_rule(&self) -> SizeRule {
        let [_, rows, columns] = self.configs[0].patch_size;
        let config = self.vae.config();
        SizeRule {
            vae_scale: config.scale_factor_spatial,
            temporal_scale: config.scale_factor_temporal,
            patch: [rows, columns],
        }
    }

    /// Runs the encoders: text, and what else the model takes. Of them only the VAE stays loaded.
    ///
    /// # Errors
    /// If the model does not take what is given or needs what is not, or an encoder fails.
    pub fn conditions(&self, settings: &Settings, given: &GivenFrames) -> Result<Conditions> {
        let intake = Intake::of(&self.configs[0], self.vae.config().z_dim);
        let guided = self.guidance(settings).iter().any(|scale| *scale > 1.0);
        let (loader, prompts, vae) = (&*self.loader, &self.prompts, &*self.vae);
        Encoders { loader, prompts, vae, intake }.run(settings, given, guided)
    }

    /// The transformers, loaded when they are first asked for.
    ///
    /// # Errors
    /// If a file is missing, truncated or does not fit its config.
    pub fn transformers(&self) -> Result<&[Loaded<WanModel>]> {
        if let Some(loaded) = self.transformers.get() {
            return Ok(loaded);
        }
        let parts = EXPERTS[..self.configs.len()].iter();
        let loaded = parts.map(|part| self.loader.transformer(part, self.precision));
        let loaded = loaded.collect::<Result<Vec<_>>>()?;
        Ok(self.transformers.get_or_init(|| loaded))
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
        self.sample_from(settings, &self.conditions(settings, given)?, surroundings, progress)
    }

    /// As [`sample`](Self::sample), from what the encoders have said of the same settings.
    ///
    /// # Errors
    /// As [`sample`](Self::sample).
    pub fn sample_from(
        &self,
        settings: &Settings,
        conditions: &Conditions,
        surroundings: &Surroundings<'_>,
        progress: &mut dyn FnMut(&RoundDone<'_>),
    ) -> Result<Sampled> {
        let size = settings.latent_size(self.size_rule())?;
        self.job(&Job { settings, surroundings, size, conditions })?.run(progress)
    }

    /// Guidance scale of each expert.
    pub fn guidance(&self, settings: &Settings) -> Vec<f64> {
        settings.guidance(self.configs.len())
    }

    fn job<'m>(&'m self, job: &Job<'_, 'm>) -> Result<SamplingJob<'m>> {
        let Job { settings, surroundings, size, conditions } = job;
        let prefix = conditions.start.prefix.as_ref();
        let prefix_frames = prefix.map_or(0, |p| p.dims()[2]);
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
        let ends =
            schedule.ends(size.frames, prefix_frames).map_err(Error::strategy(&choice.id))?;
        handover::check_end(&ends, settings.latents_only)?;
        let latents = match &settings.given.latents {
            Some(path) => {
                let shape = [1, self.vae.config().z_dim, size.frames, size.height, size.width];
                let begins = schedule.begins(size.frames);
                handover::latents(path, &shape, &begins, prefix, self.loader.device())?
            }
            None => self.initial_latents(&surroundings.noise, *size, prefix)?,
        };
        Ok(SamplingJob {
            sampler,
            sampler_id: choice.id.clone(),
            schedule,
            parts: self.parts(job)?,
            latents,
            ends,
            cancel: surroundings.cancel.clone(),
        })
    }

    fn parts<'m>(&'m self, job: &Job<'_, 'm>) -> Result<DenoiserParts<'m>> {
        let Job { settings, surroundings, size, conditions } = job;
        let config = &self.configs[0];
        let [_, rows, columns] = config.patch_size;
        let registry = surroundings.registry;
        let cache = settings.cache.as_ref();
        let cache = cache.map(|c| registry.choose(Kind::Cache, &c.id, &c.options)).transpose()?;
        let (noise, cancel) = (surroundings.noise.clone(), surroundings.cancel.clone());
        Ok(DenoiserParts {
            experts: self.experts(settings, conditions)?,
            boundary_timestep: self.boundary_timestep,
            conditioning: conditions.start.conditioning.clone(),
            fps_class: config.inject_sample_info.then(|| fps_class(settings.fps)),
            frame_tokens: (size.height / rows * (size.width / columns)) as u32,
            frame_output_elements: (config.out_channels * size.height * size.width) as u64,
            steps: settings.sample_steps,
            cache,
            cache_device: settings.cache_device,
            witness: surroundings.witness,
            ops: HostOps::new(self.loader.device().clone(), noise, cancel),
        })
    }

    fn experts<'m>(
        &'m self,
        settings: &Settings,
        conditions: &Conditions,
    ) -> Result<Vec<Expert<'m>>> {
        let image_embeds = conditions.image_embeds.as_ref();
        let transformers = self.transformers()?.iter().zip(self.guidance(settings));
        let experts = transformers.map(|(model, guidance_scale)| {
            let config = model.config();
            let negative = conditions.negative.as_ref();
            let uncond = negative.map(|n| model.context(n, image_embeds)).transpose()?;
            Ok(Expert {
                model,
                identity: ModelIdentity {
                    variant: self.variant.clone(),
                    dim: config.dim() as u32,
                    layers: config.num_layers as u32,
                    in_channels: config.in_channels as u32,
                    hash: self.fingerprint.clone(),
                },
                cond: model.context(&conditions.prompt, image_embeds)?,
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
            frames.push(noise.draw(INITIAL_LATENTS, frame, &shape, self.loader.device())?);
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
pub(crate) fn fps_class(fps: f64) -> u32 {
    u32::from(fps.round() != 16.0)
}
