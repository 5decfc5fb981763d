//! What a cache will do, before any block runs.
//!
//! A cache that decides by timesteps and weights alone is driven by the very loop that generates:
//! the same sampler, streams, branches and contexts, over a model without blocks and latents of
//! one token a frame. What comes out is what the run will do.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde::Serialize;
use wan_border::numbers::u32_of;
use wan_model::{Arithmetic, WanConfig, WanModel};
use wan_plugin_api::CachePlan;

use crate::cancel::Cancel;
use crate::checkpoint::loader::PartLoader;
use crate::denoise::experts::Experts;
use crate::denoise::noise::Noise;
use crate::denoise::ops::HostOps;
use crate::denoise::stream::noisiest_timestep;
use crate::denoise::tally::{DecisionCount, EvaluationRecord};
use crate::error::{Error, Result};
use crate::inputs::conditions::Conditions;
use crate::ledger::{Holding, Item};
use crate::model::Model;
use crate::model::facts::{ModelFacts, RunInputs};
use crate::model::settings::Settings;
use crate::request::settings::LatentSize;
use crate::run::spec::{Beginning, RunSpec};
use crate::run::{Run, Sampled};

/// Tokens of a picture in CLIP ViT-H/14, which position embeddings of two pictures are made for.
const IMAGE_TOKENS: usize = 257;

/// A model of which only the time signals are computed.
pub struct CachePlanner {
    facts: ModelFacts,
    models: Vec<Arc<WanModel>>,
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
    /// Evaluations over those whose blocks will run: how much faster the blocks' part of the run
    /// is.
    pub speed_up: f64,
    /// Most bytes that one branch's cache will hold.
    pub bytes_per_branch: u64,
    /// Of what all branches' will be made.
    pub holdings: Vec<Holding>,
}

impl CachePlanner {
    /// Loads what a model's time signals are computed from, in the number formats and with the LoRAs
    /// of these settings.
    ///
    /// # Errors
    /// If a file is missing or does not fit its config.
    pub fn new(model: &Model, settings: &Settings) -> Result<Self> {
        let facts = model.facts().clone();
        let checkpoint = model.checkpoint();
        let loader = PartLoader::new(checkpoint.clone(), &Device::Cpu, &Arithmetic::default());
        let load = |(number, part): (usize, &&str)| {
            let loras = settings.loras.of_expert(number);
            let precision = settings.precision;
            Ok(Arc::new(loader.transformer_without_blocks(part, precision, loras)?))
        };
        let models = checkpoint.experts().iter().enumerate().map(load);
        Ok(Self { models: models.collect::<Result<_>>()?, facts })
    }

    /// What the cache of these settings will do.
    ///
    /// # Errors
    /// If there is none, or it decides by what the model computes.
    pub fn plan(&self, settings: &Settings) -> Result<CacheSchedule> {
        let Some(cache) = &settings.cache else {
            return Err(Error::about("cache", "there is no cache to plan; give `cache` NAME"));
        };
        let experts = Arc::new(self.models.clone());
        let run = Run::new(one_token_spec(&self.facts, settings, experts)?)?;
        let mut timesteps = Vec::new();
        run.each_round(|round| timesteps.push(noisiest_timestep(round)))?;
        let sampled = run.finish_with(&mut |_| {})?;
        let plan = sampled.cache_plan.clone().filter(|plan| plan.schedule_only);
        let plan = plan.ok_or_else(|| {
            Error::invalid(format!(
                "{} decides by what the model computes, so it cannot be planned; `wan cache \
                 record` and `wan cache replay` show what it does",
                cache.id
            ))
        })?;
        Ok(self.schedule(&plan, sampled, timesteps, settings.size))
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
        let frame_tokens = self.facts.frame_tokens(size) as u64;
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
}

/// The run as it will be, but for latents of one token a frame, and `experts` that need have no
/// blocks.
pub(crate) fn one_token_spec(
    facts: &ModelFacts,
    settings: &Settings,
    experts: Arc<dyn Experts>,
) -> Result<RunSpec> {
    let frames = settings.size.frames;
    let (intake, temporal_scale) = (facts.intake(), facts.vae.scale_factor_temporal);
    let given = &settings.given_frames;
    let [rows, columns] = facts.patch();
    let latents = |channels: usize, frames: usize| match channels * frames {
        0 => Ok(None),
        _ => ramp(&[1, channels, frames, rows, columns]).map(Some),
    };
    let (z, config) = (facts.vae.z_dim, &facts.configs[0]);
    let clean = given.clean_frames(intake, temporal_scale);
    let conditions = Conditions {
        channels: latents(config.in_channels - z, frames)?,
        first_frames: latents(z, if intake.in_place { clean } else { 0 })?,
        prefix: latents(z, given.prefix_frames(intake, temporal_scale))?,
        ..no_words(config)?
    };
    let inputs = RunInputs {
        experts,
        conditions,
        beginning: Beginning::Latents(ramp(&[1, z, frames, rows, columns])?),
        latent_rows: [rows, columns],
        witness: None,
        ops: HostOps::new(Device::Cpu, Noise::new(0), Cancel::default()),
    };
    Ok(facts.run_spec(settings, inputs))
}

/// Prompts and pictures of nothing, in the shapes that the model takes.
fn no_words(config: &WanConfig) -> Result<Conditions> {
    let prompt = zeros(&[1, 1, config.text_dim])?;
    let pictures = if config.pos_embed_seq_len.is_some() { 2 } else { 1 };
    let tokens = config.pos_embed_seq_len.map_or(IMAGE_TOKENS, |both| both / 2);
    let image = config.image_dim.map(|width| zeros(&[pictures, tokens, width])).transpose()?;
    Ok(Conditions { negative: Some(prompt.clone()), image, ..Conditions::of_prompt(prompt) })
}

fn zeros(shape: &[usize]) -> Result<Tensor> {
    Ok(Tensor::zeros(shape, DType::F32, &Device::Cpu)?)
}

/// Numbers from 0 to below 1: a run refuses latent frames whose numbers are all the same.
fn ramp(shape: &[usize; 5]) -> Result<Tensor> {
    let elements: usize = shape.iter().product();
    let numbers = Tensor::arange(0, u32_of(elements), &Device::Cpu)?.to_dtype(DType::F32)?;
    Ok(numbers.affine(1.0 / elements as f64, 0.0)?.reshape(shape)?)
}
