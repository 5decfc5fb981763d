//! What the sidecar says of a model and a run, and what has changed since it was written.

use std::path::PathBuf;

use serde_json::Value;

use crate::checkpoint::Parts;
use crate::denoise::tally::{EvaluationRecord, FrameCount};
use crate::device::describe;
use crate::error::Result;
use crate::model::Model;
use crate::model::settings::Settings;
use crate::output::sidecar::{
    ExpertReport, KernelReport, MemoryReport, ModelReport, SCHEMA, Sidecar, StrategyReport,
    decisions, json, latents_hash,
};
use crate::path_text;
use crate::run::Sampled;

impl Model {
    /// What is to be said of a sampling; phases are the caller's.
    ///
    /// # Errors
    /// If the latents cannot be read from their device.
    pub fn sidecar(&self, settings: &Settings, sampled: &Sampled) -> Result<Sidecar> {
        let hash = latents_hash(&sampled.latents)?;
        Ok(self.sidecar_of(settings, sampled, &sampled.records, hash))
    }

    /// As [`sidecar`](Self::sidecar), of a run whose latents and records were handed out: these are
    /// its records, and this is the hash of its latents.
    pub fn sidecar_of(
        &self,
        settings: &Settings,
        sampled: &Sampled,
        records: &[EvaluationRecord],
        latents_hash: String,
    ) -> Sidecar {
        let experts = self.guidance(settings).into_iter().zip(sampled.experts.iter().cloned());
        Sidecar {
            experts: experts
                .map(|(guidance_scale, used)| ExpertReport { guidance_scale, used })
                .collect(),
            evaluations: records.iter().map(json).collect(),
            decisions: decisions(&sampled.decisions),
            frames: sampled.frames,
            ends_at: sampled.ends_at.clone(),
            latents_hash,
            memory: MemoryReport::of(sampled, self.memory(), settings.planned.clone()),
            ..self.sidecar_before(settings)
        }
    }

    /// What is known before the first round.
    pub(crate) fn sidecar_before(&self, settings: &Settings) -> Sidecar {
        let (checkpoint, facts) = (self.checkpoint(), self.facts());
        Sidecar {
            schema: SCHEMA,
            wan: env!("CARGO_PKG_VERSION").into(),
            settings: settings.values.clone(),
            origins: settings.origins.clone(),
            defaults: settings.defaults.clone(),
            task: settings.task.clone(),
            model: ModelReport {
                path: path_text::readable(checkpoint.root()),
                files: readable(checkpoint.parts()),
                variant: facts.family.variant.into(),
                boundary_timestep: facts.boundary_timestep,
                fingerprint: facts.fingerprint.clone(),
            },
            experts: Vec::new(),
            sampler: StrategyReport::of(&settings.chosen_sampler),
            cache: settings.chosen_cache.as_ref().map(StrategyReport::of),
            evaluations: Vec::new(),
            decisions: Value::Null,
            frames: FrameCount::default(),
            ends_at: Vec::new(),
            latents_hash: String::new(),
            memory: MemoryReport::default(),
            device: describe(self.device()),
            kernels: KernelReport::of(self.engine().kernels()),
            phases: Vec::new(),
            resumed_with: Vec::new(),
            changed_from: None,
        }
    }

    /// What has changed since a sidecar was written, a line each: program, weights, strategies.
    /// Where nothing has, `settings`, made again from it, give the same latents on the same
    /// processor.
    pub fn changes_since(&self, recorded: &Sidecar, settings: &Settings) -> Vec<String> {
        let mut changes = Vec::new();
        let version = env!("CARGO_PKG_VERSION");
        if recorded.wan != version {
            changes.push(format!("wan {} is now {version}", recorded.wan));
        }
        if recorded.model.fingerprint != self.fingerprint() {
            changes.push(format!("the weights in {} changed", recorded.model.path.display()));
        }
        let kernels = KernelReport::of(self.engine().kernels());
        if self.device().is_cpu() && recorded.kernels != kernels {
            changes.push(format!("{} are now {kernels}", recorded.kernels));
        }
        let now = [Some(&settings.chosen_sampler), settings.chosen_cache.as_ref()];
        let then = [Some(&recorded.sampler), recorded.cache.as_ref()];
        for (now, then) in now.into_iter().zip(then) {
            let Some(now) = now.map(StrategyReport::of) else { continue };
            if !then.is_some_and(|then| then.is_same_build(&now)) {
                changes
                    .push(format!("{} of {} {} is another build", now.id, now.plugin, now.version));
            }
        }
        changes
    }
}

fn readable(parts: &Parts) -> Parts {
    let paths = |paths: &Vec<PathBuf>| paths.iter().map(|p| path_text::readable(p)).collect();
    parts.iter().map(|(part, files)| (part.clone(), paths(files))).collect()
}
