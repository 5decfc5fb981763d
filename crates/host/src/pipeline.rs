//! Text to latents to video.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use candle_core::{DType, Device, Tensor as CandleTensor};
use wan_model::tokenizer::PromptTokenizer;
use wan_model::umt5::Umt5Encoder;
use wan_model::vae::{Vae, VaeConfig};
use wan_model::{TextContext, WanConfig, WanModel, weights};
use wan_plugin_api::{ModelIdentity, SampleRequest};

use crate::conditioning::Conditioning;
use crate::denoiser::{DenoiserParts, Expert};
use crate::error::{Error, Result};
use crate::model_folder::ModelFolder;
use crate::noise::{INITIAL_LATENTS, Noise};
use crate::ops::HostOps;
use crate::registry::{Kind, Registry};
use crate::sampling::{RoundDone, Sampled, SamplingJob};
use crate::settings::{LatentSize, Settings, SizeRule};
use crate::video::VideoFrames;

/// A loaded model.
pub struct Pipeline {
    folder: ModelFolder,
    device: Device,
    tokenizer: PromptTokenizer,
    text_encoder: Umt5Encoder,
    transformer: WanModel,
    vae: Vae,
    identity: ModelIdentity,
}

/// Words that a model cannot have learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownWords {
    /// Words of the prompt that the vocabulary does not have.
    pub unknown: Vec<String>,
    /// Words that it has.
    pub known: Vec<String>,
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

impl Pipeline {
    /// Loads all parts of a model folder, in f32.
    ///
    /// # Errors
    /// If a file is missing, truncated or does not fit its config.
    pub fn load(folder: &ModelFolder, device: &Device) -> Result<Self> {
        let open = |part: &str| -> Result<_> {
            Ok(weights::open(&folder.weights(part)?, DType::F32, device)?)
        };
        let config: WanConfig = folder.config("transformer")?;
        let identity = ModelIdentity {
            variant: variant(folder),
            dim: config.dim() as u32,
            layers: config.num_layers as u32,
            in_channels: config.in_channels as u32,
            hash: folder.fingerprint()?,
        };
        Ok(Self {
            tokenizer: PromptTokenizer::from_file(&folder.tokenizer())?,
            text_encoder: Umt5Encoder::load(folder.config("text_encoder")?, open("text_encoder")?)?,
            transformer: WanModel::load(config, open("transformer")?)?,
            vae: load_vae(folder, device)?,
            folder: folder.clone(),
            device: device.clone(),
            identity,
        })
    }

    /// What the model is.
    pub fn identity(&self) -> &ModelIdentity {
        &self.identity
    }

    /// The folder that it was loaded from.
    pub fn folder(&self) -> &ModelFolder {
        &self.folder
    }

    /// What sizes must be multiples of.
    pub fn size_rule(&self) -> SizeRule {
        let [_, rows, columns] = self.transformer.config().patch_size;
        let config = self.vae.config();
        SizeRule {
            vae_scale: config.scale_factor_spatial,
            temporal_scale: config.scale_factor_temporal,
            patch: [rows, columns],
        }
    }

    /// Words of the prompt that a small vocabulary does not have, with those that it has.
    pub fn unknown_words(&self, prompt: &str) -> Option<UnknownWords> {
        let unknown = self.tokenizer.unknown_words(prompt);
        let known = || self.tokenizer.known_words();
        (!unknown.is_empty()).then(|| UnknownWords { unknown, known: known() })
    }

    /// Encodes a prompt: `[1, max_sequence_length, text_dim]`, zeros after its end.
    ///
    /// # Errors
    /// If tokenizer or encoder fail.
    pub fn encode_prompt(&self, prompt: &str) -> Result<CandleTensor> {
        let tokens = self.tokenizer.encode(&clean(prompt), self.folder.max_sequence_length())?;
        let (ids, mask) = tokens.tensors(&self.device)?; // [1, T] each
        Ok(self.text_encoder.prompt_embeds(&ids, &mask)?)
    }

    /// Samples latents: `[1, C, F, H, W]`, normalised as the model has them.
    ///
    /// # Errors
    /// If settings do not fit model or strategies, or a strategy fails.
    pub fn sample(
        &self,
        settings: &Settings,
        surroundings: &Surroundings<'_>,
        progress: &mut dyn FnMut(&RoundDone<'_>),
    ) -> Result<Sampled> {
        let size = settings.latent_size(self.size_rule())?;
        let context = |prompt: &str| -> Result<TextContext> {
            Ok(self.transformer.text_context(&self.encode_prompt(prompt)?)?)
        };
        let guided = settings.sample_guide_scale > 1.0;
        let uncond = guided.then(|| context(&settings.negative_prompt)).transpose()?;
        self.job(settings, size, surroundings, (context(&settings.prompt)?, uncond))?.run(progress)
    }

    fn job<'m>(
        &'m self,
        settings: &Settings,
        size: LatentSize,
        surroundings: &Surroundings<'m>,
        (cond, uncond): (TextContext, Option<TextContext>),
    ) -> Result<SamplingJob<'m>> {
        let config = self.transformer.config();
        let [_, rows, columns] = config.patch_size;
        let request = SampleRequest {
            frames: size.frames as u32,
            window_frames: size.frames as u32,
            prefix_frames: 0,
            steps: settings.sample_steps,
            shift: settings.sample_shift,
            temporal_scale: self.size_rule().temporal_scale as u32,
        };
        let registry = surroundings.registry;
        let choice = &settings.sampler;
        let sampler =
            registry.choose(Kind::Sampler, &choice.id, &choice.options)?.sampler(&request)?;
        let schedule = sampler.schedule().map_err(Error::strategy(&choice.id))?;
        schedule.check(size.frames, 0).map_err(Error::strategy(&choice.id))?;
        let cache = settings.cache.as_ref();
        let cache = cache.map(|c| registry.choose(Kind::Cache, &c.id, &c.options)).transpose()?;
        let latents = self.initial_latents(&surroundings.noise, size)?;
        let (noise, cancel) = (surroundings.noise.clone(), surroundings.cancel.clone());
        let ops = HostOps::new(self.device.clone(), noise, cancel);
        let parts = DenoiserParts {
            experts: vec![Expert {
                model: &self.transformer,
                identity: self.identity.clone(),
                cond,
                uncond,
                guidance_scale: settings.sample_guide_scale,
            }],
            boundary_timestep: None,
            conditioning: Conditioning::default(),
            fps_class: config.inject_sample_info.then(|| fps_class(settings.fps)),
            frame_tokens: (size.height / rows * (size.width / columns)) as u32,
            frame_output_elements: (config.out_channels * size.height * size.width) as u64,
            cache,
            ops,
        };
        Ok(SamplingJob {
            sampler,
            sampler_id: choice.id.clone(),
            schedule,
            parts,
            latents,
            cancel: surroundings.cancel.clone(),
        })
    }

    /// Noise, frame by frame, so that a longer video starts from the same frames.
    fn initial_latents(&self, noise: &Noise, size: LatentSize) -> Result<CandleTensor> {
        let shape = [1, self.vae.config().z_dim, 1, size.height, size.width];
        let frames = (0..size.frames as u64)
            .map(|frame| noise.draw(INITIAL_LATENTS, frame, &shape, &self.device))
            .collect::<candle_core::Result<Vec<_>>>()?;
        Ok(CandleTensor::cat(&frames, 2)?) // [1, C, F, H, W]
    }

    /// Decodes latents to frames, one latent frame at a time.
    ///
    /// # Errors
    /// If the latents do not fit the VAE.
    pub fn decode(
        &self,
        latents: &CandleTensor,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<VideoFrames> {
        decode(&self.vae, latents, progress)
    }
}

/// Loads the VAE alone, as `wan decode` needs it.
///
/// # Errors
/// If a file is missing, truncated or does not fit its config.
pub fn load_vae(folder: &ModelFolder, device: &Device) -> Result<Vae> {
    let config: VaeConfig = folder.config("vae")?;
    Ok(Vae::load(config, weights::open(&folder.weights("vae")?, DType::F32, device)?)?)
}

/// Decodes normalised latents `[1, z, F, h, w]` to frames, one latent frame at a time.
///
/// # Errors
/// If the latents do not fit the VAE.
pub fn decode(
    vae: &Vae,
    latents: &CandleTensor,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<VideoFrames> {
    let raw = vae.denormalise(latents)?;
    let count = raw.dims()[2];
    let mut decoder = vae.decoder();
    let (mut rgb, mut size) = (Vec::new(), (0, 0));
    for frame in 0..count {
        let pixels = decoder.next(&raw.narrow(2, frame, 1)?)?; // [1, 3, 1 or 4, H, W]
        let (_, _, _, height, width) = pixels.dims5()?;
        size = (width, height);
        let bytes = ((pixels.squeeze(0)?.permute((1, 2, 3, 0))? + 1.0)? * 127.5)? // [T, H, W, 3]
            .round()?
            .clamp(0.0, 255.0)?
            .to_dtype(DType::U8)?;
        rgb.extend(bytes.flatten_all()?.to_vec1::<u8>()?);
        progress(frame + 1, count);
    }
    Ok(VideoFrames::new(size.0, size.1, rgb)?)
}

/// Frame-rate class of SkyReels-V2: 0 for 16 frames per second, 1 for any other.
fn fps_class(fps: f64) -> u32 {
    u32::from(fps.round() != 16.0)
}

/// As the pipelines clean prompts: whitespace collapsed.
fn clean(prompt: &str) -> String {
    prompt.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `df` for SkyReels-V2's diffusion-forcing pipelines, else `t2v`.
fn variant(folder: &ModelFolder) -> String {
    let index = folder.root().join("model_index.json");
    let text = std::fs::read_to_string(index).unwrap_or_default();
    if text.contains("DiffusionForcing") { "df".into() } else { "t2v".into() }
}
