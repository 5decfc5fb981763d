//! Text, and what else is given, to latents to video.

use std::sync::Arc;

use candle_core::{Device, Tensor as CandleTensor};
use wan_model::WanModel;
use wan_model::vae::{Tiling, Vae};

use crate::cancel::Cancel;
use crate::conditions::{Conditions, Encoders};
use crate::decode::Decoding;
use crate::error::Result;
use crate::experts::TakingTurns;
use crate::given::GivenFrames;
use crate::handover::Earlier;
use crate::loaded::{Loaded, PartLoader, WeightMemory};
use crate::model_facts::{Given, ModelFacts};
use crate::model_folder::ModelFolder;
use crate::noise::Noise;
use crate::ops::HostOps;
use crate::part_widths::check_widths;
use crate::prompt::PromptEncoder;
use crate::registry::Registry;
use crate::run::{Beginning, RoundDone, Run, RunSpec, Sampled};
use crate::run_state::RunState;
use crate::settings::{Precision, Settings, SizeRule};
use crate::witness::RunWitness;

/// A model. Its encoders are loaded for their own turn alone, its transformers after them.
pub struct Pipeline {
    loader: Arc<PartLoader>,
    prompts: PromptEncoder,
    facts: ModelFacts,
    precision: Precision,
    experts: Arc<Transformers>,
    vae: Loaded<Vae>,
}

type Transformers = TakingTurns<Loaded<WanModel>>;

/// Strategies and a way to stop: what a sampling needs beside the settings.
pub struct Surroundings<'a> {
    /// The strategies that settings name.
    pub registry: &'a Registry,
    /// Where noise comes from.
    pub noise: Noise,
    /// Set to stop between rounds.
    pub cancel: Cancel,
    /// Sees every evaluation, if any.
    pub witness: Option<RunWitness>,
}

impl Pipeline {
    /// Opens a model folder: checks the headers of all parts that the model needs and loads the
    /// VAE; the transformers will be in these number formats, the rest is in f32.
    ///
    /// # Errors
    /// If a file is missing, truncated or does not fit its config, or parts do not fit each other.
    pub fn load(folder: &ModelFolder, device: &Device, precision: Precision) -> Result<Self> {
        let facts = ModelFacts::read(folder)?;
        let loader = Arc::new(PartLoader::new(folder.clone(), device.clone()));
        let experts = facts.experts();
        let image_encoder = facts.intake().tokens.then_some("image_encoder");
        for part in experts.iter().copied().chain(["text_encoder", "vae"]).chain(image_encoder) {
            loader.check(part)?;
        }
        for (part, config) in experts.iter().zip(&facts.configs) {
            check_widths(folder, part, config)?;
        }
        Ok(Self {
            prompts: PromptEncoder::new(loader.clone())?,
            experts: take_turns(&loader, &facts, precision, experts.len()),
            vae: loader.vae()?,
            facts,
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
        &self.facts.fingerprint
    }

    /// See [`ModelFolder::variant`].
    pub fn variant(&self) -> &str {
        &self.facts.variant
    }

    /// Timestep at and above which the first of two experts runs.
    pub fn boundary_timestep(&self) -> Option<f64> {
        self.facts.boundary_timestep
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
        self.facts.size_rule()
    }

    /// Runs the encoders: text, and what else the model takes. Of them only the VAE stays loaded.
    ///
    /// # Errors
    /// If the model does not take what is given or needs what is not, or an encoder fails;
    /// `Cancelled` once `cancel` is set.
    pub fn conditions(
        &self,
        settings: &Settings,
        given: &GivenFrames,
        cancel: &Cancel,
    ) -> Result<Conditions> {
        let guided = self.guidance(settings).iter().any(|scale| *scale > 1.0);
        let (loader, prompts, vae) = (&*self.loader, &self.prompts, &*self.vae);
        let intake = self.facts.intake();
        Encoders { loader, prompts, vae, intake, cancel }.run(settings, given, guided)
    }

    /// The same model, of which no more than `count` transformers, and at least one, are loaded at
    /// once.
    #[must_use]
    pub fn with_resident_experts(mut self, count: usize) -> Self {
        self.experts = take_turns(&self.loader, &self.facts, self.precision, count);
        self
    }

    /// Transformers that are loaded now.
    pub fn resident_experts(&self) -> usize {
        self.experts.resident()
    }

    /// Loads the transformers, as many as may stay at once; else the first run loads them.
    ///
    /// # Errors
    /// If a file is missing, truncated or does not fit its config.
    pub fn load_transformers(&self) -> Result<()> {
        self.experts.load()
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
        progress: &mut dyn FnMut(&RoundDone),
    ) -> Result<Sampled> {
        let conditions = self.conditions(settings, given, &surroundings.cancel)?;
        self.run(settings, conditions, surroundings)?.finish_with(progress)
    }

    /// Sets a run up, from what the encoders have said of the same settings. It owns all that it
    /// needs, and does its rounds when it is told to.
    ///
    /// # Errors
    /// If settings do not fit model or strategies.
    pub fn run(
        &self,
        settings: &Settings,
        conditions: Conditions,
        surroundings: &Surroundings<'_>,
    ) -> Result<Run> {
        Run::new(self.spec(settings, conditions, surroundings)?)
    }

    /// As [`run`](Self::run), but goes on from a saved state of the same settings and conditions.
    ///
    /// # Errors
    /// As [`run`](Self::run), and if the state does not fit.
    pub fn resume(
        &self,
        settings: &Settings,
        conditions: Conditions,
        surroundings: &Surroundings<'_>,
        state: &RunState,
    ) -> Result<Run> {
        Run::resume(self.spec(settings, conditions, surroundings)?, state)
    }

    fn spec(
        &self,
        settings: &Settings,
        conditions: Conditions,
        surroundings: &Surroundings<'_>,
    ) -> Result<RunSpec> {
        let Surroundings { registry, noise, cancel, witness } = surroundings;
        let size = settings.latent_size(self.size_rule())?;
        let beginning = match &settings.given.latents {
            Some(path) => Beginning::Earlier(Earlier::read(path)?),
            None => Beginning::Noise,
        };
        let ops = HostOps::new(self.device().clone(), noise.clone(), cancel.clone());
        let given = Given {
            registry,
            experts: self.experts.clone(),
            embeddings: conditions.embeddings,
            start: conditions.start,
            beginning,
            latent_rows: [size.height, size.width],
            witness: witness.clone(),
            ops,
        };
        self.facts.run_spec(settings, given)
    }

    /// Guidance scale of each expert.
    pub fn guidance(&self, settings: &Settings) -> Vec<f64> {
        settings.guidance(self.facts.configs.len())
    }

    /// Decodes latents, one latent frame at a time; ends early once `cancel` is set.
    ///
    /// # Errors
    /// If the latents do not fit the VAE.
    pub fn decode(
        &self,
        latents: &CandleTensor,
        tiling: Option<Tiling>,
        cancel: &Cancel,
    ) -> Result<Decoding<'_>> {
        Decoding::new(&self.vae, latents, tiling, cancel.clone())
    }
}

fn take_turns(
    loader: &Arc<PartLoader>,
    facts: &ModelFacts,
    precision: Precision,
    resident_max: usize,
) -> Arc<Transformers> {
    let (loader, parts) = (loader.clone(), facts.experts());
    let load = move |number: usize| loader.transformer(parts[number], precision);
    Arc::new(TakingTurns::new(parts.len(), resident_max, load))
}
