//! What the sidecar says of a model and a run, and what has changed since it was written.

use std::path::PathBuf;

use crate::checkpoint::Parts;
use crate::device::describe;
use crate::error::Result;
use crate::model::Model;
use crate::model::settings::Settings;
use crate::output::sidecar::{
    ExpertReport, MemoryReport, ModelReport, SCHEMA, Sidecar, StrategyReport, decisions, json,
    latents_hash,
};
use crate::path_text;
use crate::run::Sampled;

impl Model {
    /// What is to be said of a sampling; phases are the caller's.
    ///
    /// # Errors
    /// If the latents cannot be read from their device.
    pub fn sidecar(&self, settings: &Settings, sampled: &Sampled) -> Result<Sidecar> {
        let (checkpoint, facts) = (self.checkpoint(), self.facts());
        let experts = self.guidance(settings).into_iter().zip(sampled.experts.iter().cloned());
        Ok(Sidecar {
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
            experts: experts
                .map(|(guidance_scale, used)| ExpertReport { guidance_scale, used })
                .collect(),
            sampler: StrategyReport::of(&settings.chosen_sampler),
            cache: settings.chosen_cache.as_ref().map(StrategyReport::of),
            evaluations: sampled.records.iter().map(json).collect(),
            decisions: decisions(&sampled.records),
            frames: sampled.frames,
            ends_at: sampled.ends_at.clone(),
            latents_hash: latents_hash(&sampled.latents)?,
            memory: MemoryReport::of(sampled, self.memory()),
            device: describe(self.device()),
            phases: Vec::new(),
            changed_from: None,
        })
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
