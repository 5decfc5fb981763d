//! Kinds `wan_pipeline` and `df_pipeline`: whole samplings through host, sampler and plugin.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use candle_core::{Device, Tensor};
use serde_json::{Value, json};
use wan_host::parts::{Beginning, DenoiserParts, HostOps, Kind, Noise, Registry, RunSpec};
use wan_host::{Cancel, Conditions, OnNan, Run, Sampled, StrategyChoice};
use wan_model::vae::{Vae, VaeConfig};
use wan_model::{WanConfig, WanModel};
use wan_plugin_api::{OptionValues, Place, Schedule};

use super::{Case, Compare, NotSupported};

mod diffusion_forcing;

use diffusion_forcing::{Chunks, Draw, FPS};
pub(super) use diffusion_forcing::{compare_matrix, run_df};

/// Runs a pipeline of diffusers' `WanPipeline` or `WanImageToVideoPipeline`.
pub(super) fn run_wan(case: &Case, compare: &mut Compare) -> anyhow::Result<()> {
    let config: VaeConfig = serde_json::from_value(case.config["vae"].clone())?;
    let vae = match case.description["vae_weights"].is_string() {
        true => Some(Vae::load(config.clone(), case.weights_named("vae_weights")?)?),
        false => None,
    };
    let mut setup = Setup::load(case)?;
    let condition = setup.condition(case, vae.as_ref())?;
    let run = setup.sample(case, None)?;
    compare.tensor("out.latents_per_step", &Tensor::stack(&run.per_round, 0)?)?;
    let latents = &run.sampled.latents;
    compare.tensor("out.final_latents", latents)?;
    compare_levels(&run.schedule, compare)?;
    compare.tensor("mid.denormalised_latents", &denormalise(&config, latents)?)?;
    if let Some(vae) = &vae {
        compare.tensor("out.video", &vae.decode(&vae.denormalise(latents)?)?)?;
    }
    if let Some(condition) = condition {
        compare.tensor("mid.condition", &condition)?;
    }
    if let Some(first) = &setup.conditions.first_frames {
        let (_, _, frames, height, width) = latents.dims5()?;
        let given: Vec<f32> =
            (0..frames).map(|f| if f < first.dims()[2] { 0.0 } else { 1.0 }).collect();
        let mask = Tensor::from_vec(given, (1, 1, frames, 1, 1), &case.device)?;
        compare
            .tensor("mid.first_frame_mask", &mask.broadcast_as((1, 1, frames, height, width))?)?;
    }
    Ok(())
}

/// `latents * std + mean`, with the tables of a VAE config, where the case has no VAE weights.
fn denormalise(config: &VaeConfig, latents: &Tensor) -> anyhow::Result<Tensor> {
    let column = |values: &[f64]| -> anyhow::Result<Tensor> {
        let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
        Ok(Tensor::from_vec(values, (1, config.z_dim, 1, 1, 1), latents.device())?)
    };
    let scaled = latents.broadcast_mul(&column(&config.latents_std)?)?;
    Ok(scaled.broadcast_add(&column(&config.latents_mean)?)?)
}

/// A model and the strategies that a case asks for.
pub(super) struct Setup {
    model: Arc<WanModel>,
    second: Option<Second>,
    /// Clean latent frames in front are in `latents` too.
    pub(super) conditions: Conditions,
    registry: Registry,
    sampler: StrategyChoice,
    steps: u32,
    shift: f64,
    guidance_scale: f64,
    latents: Tensor,
    draws: Vec<Draw>,
    fps_class: Option<u32>,
}

/// The expert for low noise.
struct Second {
    model: Arc<WanModel>,
    guidance_scale: f64,
    boundary_timestep: f64,
}

/// A run, with the latents after every round.
pub(super) struct Sampling {
    pub(super) sampled: Sampled,
    pub(super) per_round: Vec<Tensor>,
    pub(super) schedule: Schedule,
}

impl Setup {
    /// Reads model, schedule and noise of a case.
    pub(super) fn load(case: &Case) -> anyhow::Result<Self> {
        let description = &case.description;
        let is_df = case.kind().ends_with("df") || case.kind() == "df_pipeline";
        let config: WanConfig = serde_json::from_value(case.config["transformer"].clone())?;
        let model = Arc::new(WanModel::load(config, case.weights()?.pp("transformer"))?);
        let (solver, shift) = solver(&description["scheduler"])?;
        let (sampler, latents, draws) = if is_df {
            let chunks = Chunks::of(case)?;
            let options = diffusion_forcing::options(case, solver)?;
            let id = "diffusion-forcing".to_string();
            (StrategyChoice { id, options }, chunks.initial_latents()?, chunks.draws(case)?)
        } else {
            (solver, case.tensor("in.latents")?.clone(), Vec::new())
        };
        let number = |name: &str| description[name].as_f64().or(description["call"][name].as_f64());
        let steps = number("steps").context("case.json has no steps")? as u32;
        let guidance = number("guidance_scale").or(number("guidance"));
        let fps = number("fps").unwrap_or(FPS);
        let fps = model.config().inject_sample_info.then_some(fps);
        Ok(Self {
            second: Second::load(case, guidance.unwrap_or(1.0))?,
            conditions: Conditions {
                negative: Some(case.tensor("in.negative_prompt_embeds")?.clone()),
                image: case.io.get("in.image_embeds").cloned(),
                ..Conditions::of_prompt(case.tensor("in.prompt_embeds")?.clone())
            },
            model,
            registry: registry()?,
            sampler,
            steps,
            shift,
            guidance_scale: guidance.context("case.json has no guidance")?,
            latents,
            draws,
            fps_class: fps.map(|fps| u32::from(fps != 16.0)),
        })
    }

    /// What an image-to-video case is conditioned on, made by our own VAE where the case has its
    /// weights. What comes back is to be compared with the recorded condition.
    fn condition(&mut self, case: &Case, vae: Option<&Vae>) -> anyhow::Result<Option<Tensor>> {
        if case.description["i2v"].as_bool() != Some(true) {
            return Ok(None);
        }
        let recorded = case.tensor("mid.condition")?;
        let pixels = case.tensor("in.image")?.unsqueeze(2)?; // [1, 3, 1, H, W]
        if case.description["expand_timesteps"].as_bool() == Some(true) {
            let first = match vae {
                Some(vae) => Conditions::clean_latents_of(vae, &pixels, &Cancel::default())?,
                None => recorded.clone(),
            };
            self.conditions.first_frames = Some(first.clone());
            return Ok(Some(first));
        }
        let frame_num = case.description["sizes"]["num_frames"].as_u64().context("num_frames")?;
        let channels = match vae {
            Some(vae) => {
                let given = [(0, pixels)];
                Conditions::channels_of(vae, &given, frame_num as usize, &Cancel::default())?
            }
            None => recorded.clone(),
        };
        self.conditions.channels = Some(channels.clone());
        Ok(Some(channels))
    }

    /// Samples, with a cache or without.
    pub(super) fn sample(
        &self,
        case: &Case,
        cache: Option<&StrategyChoice>,
    ) -> anyhow::Result<Sampling> {
        let mut run = Run::new(self.spec(case, cache)?)?;
        let mut rounds = Vec::new();
        run.each_round(|round| rounds.push(round.clone()))?;
        let schedule = Schedule::from(rounds);
        let mut per_round = Vec::new();
        while run.round()?.is_some() {
            per_round.push(run.latents()?);
        }
        self.check_resumed(case, cache, &per_round)?;
        Ok(Sampling { sampled: run.finish()?, per_round, schedule })
    }

    /// A run that is saved, dropped and resumed after every round has the same bits.
    fn check_resumed(
        &self,
        case: &Case,
        cache: Option<&StrategyChoice>,
        per_round: &[Tensor],
    ) -> anyhow::Result<()> {
        let mut run = Run::new(self.spec(case, cache)?)?;
        for (round, expected) in per_round.iter().enumerate() {
            let state = run.state()?;
            drop(run);
            run = Run::resume(self.spec(case, cache)?, &state)?;
            run.round()?;
            let bits = |tensor: &Tensor| -> anyhow::Result<Vec<u32>> {
                let numbers = tensor.flatten_all()?.to_vec1::<f32>()?;
                Ok(numbers.into_iter().map(f32::to_bits).collect())
            };
            anyhow::ensure!(
                bits(&run.latents()?)? == bits(expected)?,
                "resumed before round {round}, it goes another way"
            );
        }
        Ok(())
    }

    /// The run of a case: its models, its latents, its noise.
    fn spec(&self, case: &Case, cache: Option<&StrategyChoice>) -> anyhow::Result<RunSpec> {
        let choose =
            |kind, choice: &StrategyChoice| self.registry.choose(kind, &choice.id, &choice.options);
        let noise = Noise::new(0);
        for Draw { stream, index, tensor } in &self.draws {
            noise.inject(*stream, *index, tensor.clone());
        }
        let config = self.model.config();
        let shape: [usize; 5] = self.latents.dims().try_into()?;
        let [.., height, width] = shape;
        let tokens = height * width / (config.patch_size[1] * config.patch_size[2]);
        let second = self.second.iter();
        let models =
            [self.model.clone()].into_iter().chain(second.clone().map(|s| s.model.clone()));
        let guidance = [self.guidance_scale].into_iter().chain(second.map(|s| s.guidance_scale));
        let parts = DenoiserParts {
            experts: Arc::new(models.collect::<Vec<_>>()),
            guidance: guidance.collect(),
            boundary_timestep: self.second.as_ref().map(|s| s.boundary_timestep),
            variant: String::new(),
            model_hash: String::new(),
            conditions: self.conditions.clone(),
            fps_class: self.fps_class,
            frame_tokens: tokens as u32,
            frame_output_elements: (config.out_channels * height * width) as u64,
            steps: self.steps,
            cache: cache.map(|cache| choose(Kind::Cache, cache)).transpose()?,
            cache_device: Place::Device,
            witness: None,
            ops: HostOps::new(case.device.clone(), noise, Cancel::default()),
        };
        Ok(RunSpec {
            shape,
            beginning: Beginning::Latents(self.latents.clone()),
            may_end_noisy: false,
            on_nan: OnNan::Stop,
            sampler: choose(Kind::Sampler, &self.sampler)?,
            shift: self.shift,
            temporal_scale: 4,
            parts,
        })
    }
}

impl Second {
    fn load(case: &Case, guidance_scale: f64) -> anyhow::Result<Option<Self>> {
        let Some(boundary) = case.description["boundary_ratio"].as_f64() else { return Ok(None) };
        let config: WanConfig = serde_json::from_value(case.config["transformer_2"].clone())?;
        let own = case.description["guidance_scale_2"].as_f64();
        Ok(Some(Self {
            model: Arc::new(WanModel::load(config, case.weights()?.pp("transformer_2"))?),
            guidance_scale: own.unwrap_or(guidance_scale),
            boundary_timestep: boundary * 1000.0,
        }))
    }
}

/// Built-in strategies, and the plugins in the folder beside this program.
fn registry() -> anyhow::Result<Registry> {
    let mut registry = Registry::built_in()?;
    let program = std::env::current_exe()?;
    let plugins = program
        .ancestors()
        .map(|folder| folder.join("plugins"))
        .find(|folder| folder.is_dir() && folder != Path::new("plugins"))
        .context("no plugins beside this program: run `cargo xtask plugins`")?;
    registry.add_folders(&[plugins])?;
    Ok(registry)
}

/// A diffusers scheduler as one of our samplers, and its shift.
fn solver(scheduler: &Value) -> anyhow::Result<(StrategyChoice, f64)> {
    let keywords = scheduler["kw"].as_object().cloned().unwrap_or_default();
    let class = scheduler["cls"].as_str().unwrap_or_default();
    let (id, shift_name) = match class {
        "euler" => ("euler", "shift"),
        "unipc" => ("unipc", "flow_shift"),
        "dpm" => ("dpm++", "flow_shift"),
        other => return Err(NotSupported(format!("scheduler {other:?}")).into()),
    };
    let mut options = OptionValues::from([("timesteps".into(), json!("diffusers"))]);
    let mut shift = 1.0;
    for (name, value) in keywords {
        match name.as_str() {
            name if name == shift_name => shift = value.as_f64().context("shift")?,
            "solver_order" => {
                options.insert("order".into(), value);
            }
            "solver_type" => {
                options.insert("solver_type".into(), value);
            }
            other => return Err(NotSupported(format!("scheduler option {other:?}")).into()),
        }
    }
    Ok((StrategyChoice { id: id.into(), options }, shift))
}

/// `out.timesteps` and `out.sigmas`: the levels that the first frame passes through.
pub(super) fn compare_levels(schedule: &Schedule, compare: &mut Compare) -> anyhow::Result<()> {
    let mut timesteps = Vec::new();
    let mut sigmas = Vec::new();
    for level in schedule.rounds.iter().filter_map(|r| r.levels.first()).filter(|l| l.update) {
        timesteps.push(level.timestep);
        sigmas.push(level.sigma);
    }
    sigmas.push(0.0);
    let exact = Tensor::new(timesteps, &Device::Cpu)?;
    compare.tensor("out.timesteps", &exact)?;
    compare.tensor("out.sigmas", &Tensor::new(sigmas, &Device::Cpu)?)
}
