//! A model that is open: settings in, conditions, runs and frames out.

pub(crate) mod cache_schedule;
pub(crate) mod defaults;
pub(crate) mod engine;
pub(crate) mod facts;
mod needs;
pub(crate) mod plan;
mod preview;
mod reencode;
pub(crate) mod settings;
mod settle;
mod sidecar;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use candle_core::{Device, Tensor as CandleTensor};
use wan_model::WanModel;
use wan_model::vae::{Tiling, Vae};

use crate::cancel::Cancel;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::loader::{Loaded, PartLoader, WeightMemory};
use crate::checkpoint::lora_set::LoraSet;
use crate::denoise::experts::TakingTurns;
use crate::denoise::noise::Noise;
use crate::denoise::ops::HostOps;
use crate::denoise::witness::RunWitness;
use crate::error::{Error, Result};
use crate::inputs::conditions::Conditions;
use crate::inputs::encoders::Encoders;
use crate::inputs::prompt::PromptEncoder;
use crate::model::engine::Engine;
use crate::model::facts::{ModelFacts, RunInputs};
use crate::model::settings::Settings;
use crate::output::decoding::{Decoding, FrameDecoder};
use crate::output::generated::Generated;
use crate::request::Request;
use crate::request::on_nan::OnNan;
use crate::request::precision::{Format, Precision};
use crate::request::residency::Residency;
use crate::request::settings::SizeRule;
use crate::run::spec::{Beginning, RunSpec};
use crate::run::state::RunState;
use crate::run::{Run, Sampled};

/// A model. Cheap to clone; clones are one and the same, and serve several runs at once.
///
/// Encoders are loaded for their own turn alone, transformers when the first run begins.
#[derive(Clone)]
pub struct Model(Arc<Parts>);

struct Parts {
    engine: Engine,
    loader: Arc<PartLoader>,
    prompts: PromptEncoder,
    facts: ModelFacts,
    transformers: Mutex<Option<(TransformersOf, Arc<Transformers>)>>,
    /// In each number format that was asked for: without the weights of its layers.
    vaes: [OnceLock<Loaded<Vae>>; Format::COUNT],
    /// Held while a VAE is loaded.
    vae_loads: Mutex<()>,
}

type Transformers = TakingTurns<Loaded<WanModel>>;

/// What a set of transformers is made of.
type TransformersOf = (Precision, LoraSet, Residency);

/// What a run has beside its settings and conditions.
#[derive(Clone, Default)]
pub struct RunContext {
    /// Stops it.
    pub cancel: Cancel,
    /// Where noise comes from; none: from the seed of the settings.
    pub noise: Option<Noise>,
    /// Sees every evaluation, if any.
    pub witness: Option<RunWitness>,
}

impl Engine {
    /// Opens a model: a folder in diffusers' or Wan's own layout, or ComfyUI's `models`. Reads headers, configs and the
    /// tokenizer; weights are loaded when they are needed.
    ///
    /// # Errors
    /// If a part is missing, truncated or does not fit its config, or parts are of different
    /// models.
    pub fn open(&self, folder: impl AsRef<Path>) -> Result<Model> {
        self.open_checkpoint(Checkpoint::open(folder.as_ref())?)
    }

    /// As [`open`](Self::open), for files that are found already: a folder's, or single ones.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_checkpoint(&self, checkpoint: Checkpoint) -> Result<Model> {
        Model::open(self.clone(), checkpoint)
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Model").field(&self.checkpoint().root()).finish()
    }
}

impl Model {
    /// Checks the headers of all parts that the model needs.
    pub(crate) fn open(engine: Engine, checkpoint: Checkpoint) -> Result<Self> {
        let facts = ModelFacts::of(&checkpoint)?;
        checkpoint.check()?;
        let loader = Arc::new(PartLoader::new(checkpoint, engine.device(), engine.arithmetic()));
        Ok(Self(Arc::new(Parts {
            prompts: PromptEncoder::new(loader.clone(), engine.prompt_cache())?,
            engine,
            transformers: Mutex::default(),
            vaes: Default::default(),
            vae_loads: Mutex::default(),
            facts,
            loader,
        })))
    }

    /// The engine that it was opened with.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Its files.
    pub fn checkpoint(&self) -> &Checkpoint {
        self.0.loader.checkpoint()
    }

    /// See [`Checkpoint::fingerprint`].
    pub fn fingerprint(&self) -> &str {
        &self.0.facts.fingerprint
    }

    /// What is known of it before its weights are read.
    pub(crate) fn facts(&self) -> &ModelFacts {
        &self.0.facts
    }

    /// Its prompts.
    pub(crate) fn prompts(&self) -> &PromptEncoder {
        &self.0.prompts
    }

    /// Output of the text encoder, `[1, max_sequence_length, text_dim]`, zeros after the prompt's
    /// end.
    ///
    /// # Errors
    /// If tokenizer or encoder fail.
    pub fn encode_prompt(&self, prompt: &str) -> Result<CandleTensor> {
        self.0.prompts.encode(prompt)
    }

    /// Bytes of the weights that were loaded, and of those that are held.
    pub fn memory(&self) -> WeightMemory {
        self.0.loader.memory()
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        self.0.engine.device()
    }

    /// What sizes must be multiples of.
    pub fn size_rule(&self) -> SizeRule {
        self.0.facts.size_rule()
    }

    /// Generates a video: encodes, samples, decodes.
    ///
    /// # Errors
    /// As [`settle`](Self::settle), [`encode`](Self::encode), [`Run::round_wait`] and
    /// [`decode`](Self::decode).
    pub fn generate(&self, request: &Request) -> Result<Generated> {
        let (settings, cancel) = (self.settle(request)?, Cancel::default());
        let conditions = self.encode(&settings, &cancel)?;
        let sampled = self.run(&settings, conditions, &cancel)?.finish_with(&mut |_| {})?;
        self.release_transformers();
        let sidecar = self.sidecar(&settings, &sampled)?;
        let frames = self.decode(&settings, &sampled.latents, &cancel)?.collect_frames()?;
        let of_prompts = self.engine().prompt_cache().take_notices();
        let notices = [settings.notices, of_prompts, sampled.notices].concat();
        Ok(Generated { frames, sidecar, notices })
    }

    /// Runs the encoders: text, and what else the model takes. None of their weights stay.
    ///
    /// # Errors
    /// If an encoder cannot be loaded or fails; `Cancelled` once `cancel` is set.
    pub fn encode(&self, settings: &Settings, cancel: &Cancel) -> Result<Conditions> {
        // Before anything is loaded.
        self.0.prompts.tokenizer()?;
        let guided = self.is_guided(settings);
        let (loader, prompts) = (&*self.0.loader, &self.0.prompts);
        let (vae, residency) = (self.vae(settings.vae_dtype)?, settings.residency);
        let intake = self.facts().intake();
        Encoders { loader, prompts, vae, residency, intake, cancel }.run(
            settings,
            &settings.given_frames,
            guided,
        )
    }

    /// Loads the transformers, as many as may stay at once; else the first rounds load them.
    ///
    /// # Errors
    /// If a file is missing, truncated or does not fit its config; `Busy` where runs in another
    /// number format have not ended.
    pub fn load_transformers(&self, settings: &Settings) -> Result<()> {
        self.transformers(settings)?.load()
    }

    /// Transformers that are loaded now.
    pub fn resident_experts(&self) -> usize {
        let held = self.0.transformers.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().map_or(0, |(_, transformers)| transformers.resident())
    }

    /// Sets a run up, from what the encoders have said of the same settings. It owns all that it
    /// needs, and does its rounds when it is told to.
    ///
    /// # Errors
    /// If settings do not fit the strategies; `Busy` where runs in another number format have not
    /// ended.
    pub fn run(&self, settings: &Settings, conditions: Conditions, cancel: &Cancel) -> Result<Run> {
        let context = RunContext { cancel: cancel.clone(), ..RunContext::default() };
        self.run_in(settings, conditions, &context)
    }

    /// As [`run`](Self::run), with noise from elsewhere or somebody who looks on.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_in(
        &self,
        settings: &Settings,
        conditions: Conditions,
        context: &RunContext,
    ) -> Result<Run> {
        Run::new(self.spec(settings, conditions, context)?)
    }

    /// As [`run`](Self::run), but goes on from a saved state of the same settings and conditions.
    ///
    /// # Errors
    /// As [`run`](Self::run), and if the state does not fit.
    pub fn resume(
        &self,
        settings: &Settings,
        conditions: Conditions,
        cancel: &Cancel,
        state: &RunState,
    ) -> Result<Run> {
        let context = RunContext { cancel: cancel.clone(), ..RunContext::default() };
        self.resume_in(settings, conditions, &context, state)
    }

    /// As [`run_in`](Self::run_in), but goes on from a saved state of the same settings and
    /// conditions.
    ///
    /// # Errors
    /// As [`run`](Self::run), and if the state does not fit.
    pub fn resume_in(
        &self,
        settings: &Settings,
        conditions: Conditions,
        context: &RunContext,
        state: &RunState,
    ) -> Result<Run> {
        Run::resume(self.spec(settings, conditions, context)?, state)
    }

    fn spec(
        &self,
        settings: &Settings,
        conditions: Conditions,
        context: &RunContext,
    ) -> Result<RunSpec> {
        let beginning = settings.earlier.clone().map_or(Beginning::Noise, Beginning::Earlier);
        let noise = context.noise.clone().unwrap_or_else(|| Noise::new(settings.base_seed));
        let inputs = RunInputs {
            experts: self.transformers(settings)?,
            conditions,
            beginning,
            latent_rows: [settings.size.height, settings.size.width],
            witness: context.witness.clone(),
            ops: HostOps::new(self.device().clone(), noise, context.cancel.clone())
                .with_reencode(Arc::new(self.clone())),
        };
        Ok(self.facts().run_spec(settings, inputs))
    }

    /// Samples latents: encodes, and does all rounds.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), [`run`](Self::run) and [`Run::round_wait`].
    pub fn sample(&self, settings: &Settings, context: &RunContext) -> Result<Sampled> {
        let conditions = self.encode(settings, &context.cancel)?;
        self.run_in(settings, conditions, context)?.finish_with(&mut |_| {})
    }

    /// The transformers in the number formats and with the LoRAs of these settings. There is one set:
    /// that of others goes first.
    pub(crate) fn transformers(&self, settings: &Settings) -> Result<Arc<Transformers>> {
        let residency = settings.residency;
        let wanted = (settings.precision, settings.loras.clone(), residency);
        let mut held = self.0.transformers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, transformers)) = &*held {
            if *of == wanted {
                return Ok(transformers.clone());
            }
            // A run has one too.
            if Arc::strong_count(transformers) > 1 {
                return Err(Error::Busy);
            }
        }
        // Gone before another set is loaded.
        *held = None;
        let (loader, parts) = (self.0.loader.clone(), self.checkpoint().experts());
        let (precision, loras, _) = wanted.clone();
        let load = move |number: usize| {
            let streamed = residency.streamed_blocks;
            loader.transformer(parts[number], precision, loras.of_expert(number), streamed)
        };
        let resident = self.engine().resident_experts().min(residency.experts_max());
        let made = Arc::new(TakingTurns::new(parts.len(), resident, load));
        *held = Some((wanted, made.clone()));
        Ok(made)
    }

    /// Drops the transformers that no run has.
    pub fn release_transformers(&self) {
        self.0.loader.end_sampling();
        let mut held = self.0.transformers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, transformers)) = &*held {
            transformers.release();
            if transformers.resident() == 0 && Arc::strong_count(transformers) == 1 {
                *held = None;
            }
        }
    }

    fn vae(&self, dtype: Format) -> Result<&Loaded<Vae>> {
        let _loads = self.0.vae_loads.lock().unwrap_or_else(PoisonError::into_inner);
        let place = &self.0.vaes[dtype.number()];
        if let Some(vae) = place.get() {
            return Ok(vae);
        }
        let loaded = self.0.loader.vae(dtype)?;
        Ok(place.get_or_init(|| loaded))
    }

    /// Whether the negative prompt is evaluated at all.
    fn is_guided(&self, settings: &Settings) -> bool {
        self.guidance(settings).iter().any(|scale| *scale > 1.0)
    }

    /// Guidance scale of each expert.
    pub(crate) fn guidance(&self, settings: &Settings) -> Vec<f64> {
        settings.guidance(self.facts().configs.len())
    }

    /// The frames of latents `[1, C, F, H, W]`, one latent frame's pixels at a time, with a given
    /// clip in front; ends early once `cancel` is set.
    ///
    /// # Errors
    /// If the latents do not fit the VAE.
    pub fn decode(
        &self,
        settings: &Settings,
        latents: &CandleTensor,
        cancel: &Cancel,
    ) -> Result<Decoding<'_>> {
        Decoding::by(self.decoder(settings, cancel)?, latents)
    }

    /// As [`decode`](Self::decode), for latent frames that come one by one.
    ///
    /// # Errors
    /// If the VAE cannot be loaded.
    pub fn decoder(&self, settings: &Settings, cancel: &Cancel) -> Result<FrameDecoder<'_>> {
        let tiling = settings.vae_tiling.then(Tiling::default);
        let (vae, device) = (self.vae(settings.vae_dtype)?, self.device().clone());
        let decoder = FrameDecoder::new(vae, device, tiling, cancel.clone());
        let decoder = if settings.residency.streamed_vae { decoder } else { decoder.holding(vae) };
        let decoder = if settings.on_nan == OnNan::Warn { decoder.unchecked() } else { decoder };
        Ok(decoder.after(settings.given_frames.clone()))
    }
}
