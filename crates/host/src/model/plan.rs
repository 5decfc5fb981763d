//! What a run will take, before anything is loaded.

use std::collections::BTreeMap;

use serde::Serialize;
use wan_model::Numerics;
use wan_model::vae::Tiling;

use crate::device::room;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::model::cache_schedule::one_token_spec;
use crate::model::settings::Settings;
use crate::run::Run;

/// Work and bytes of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Rounds of the schedule.
    pub rounds: usize,
    /// Evaluations of a transformer, all guidance branches.
    pub evaluations: u64,
    /// Bytes of the files of each part.
    pub file_bytes: BTreeMap<String, u64>,
    /// Latents, `[1, C, F, H, W]` in f32.
    pub latent_bytes: u64,
    /// Hidden states of an evaluation, `[1, L, D]` in the format of the residual stream; of the wider
    /// expert.
    pub hidden_bytes: u64,
    /// Most that the time signals of an evaluation take: one row of `e` and `e0` per distinct
    /// timestep, in f32.
    pub signal_bytes_max: u64,
    /// Most that the caches of all branches declare to hold; 0 without a cache.
    pub cache_bytes_max: u64,
}

impl Model {
    /// What a run of these settings will take. Nothing is loaded, and no block runs.
    ///
    /// # Errors
    /// What sampler or cache say against the settings; if a weight file is gone.
    pub fn plan(&self, settings: &Settings) -> Result<Plan> {
        let facts = self.facts();
        let experts = self.transformers(settings)?;
        let run = Run::new(one_token_spec(facts, settings, experts)?)?;
        let mut plan = Plan {
            rounds: run.size().rounds,
            evaluations: 0,
            file_bytes: self.file_bytes()?,
            latent_bytes: self.latent_bytes(settings),
            hidden_bytes: 0,
            signal_bytes_max: 0,
            cache_bytes_max: 0,
        };
        let parts = run.parts();
        let tokens = facts.frame_tokens(settings.size) * settings.size.frames;
        let stream_dtype = Numerics::from(settings.precision).stream_dtype();
        run.each_stream(|stream| {
            let config = &facts.configs[stream.expert];
            let rows = u64::from(stream.timesteps_max);
            let hidden = (tokens * config.dim() * stream_dtype.size_in_bytes()) as u64;
            plan.hidden_bytes = plan.hidden_bytes.max(hidden);
            let signals = rows * 7 * config.dim() as u64 * 4; // e: D, e0: 6 D
            plan.signal_bytes_max = plan.signal_bytes_max.max(signals);
            let branches = parts.branches(stream.expert);
            plan.evaluations += u64::from(stream.evaluations) * branches.len() as u64;
            let mut cache_bytes = 0;
            for branch in branches {
                let context = parts.cache_context((config, stream_dtype), stream, branch);
                let cache = parts.begin_cache(&context)?;
                // It may declare whatever it likes.
                let declared = cache.map_or(0, |cache| cache.instance.plan().bytes_max);
                cache_bytes = u64::saturating_add(cache_bytes, declared);
            }
            plan.cache_bytes_max = plan.cache_bytes_max.max(cache_bytes);
            Ok(())
        })?;
        Ok(plan)
    }

    /// Refuses to sample where main memory has no room for what is known of it: input and output of
    /// a block, time signals, what the caches declare, latents.
    ///
    /// # Errors
    /// [`Error::HostMemory`], naming what there is and what helps.
    pub fn check_room_to_denoise(&self, plan: &Plan) -> Result<()> {
        let needs = 2 * plan.hidden_bytes + plan.signal_bytes_max + plan.cache_bytes_max;
        let helps = "take fewer frames, a smaller `size`, or a cache that keeps less";
        self.check_room("denoise", needs + plan.latent_bytes, helps)
    }

    /// Refuses to decode where main memory has no room for the widest layer of the VAE: its input and
    /// output, for a latent frame of the picture or of a tile.
    ///
    /// # Errors
    /// As [`check_room_to_denoise`](Self::check_room_to_denoise).
    pub fn check_room_to_decode(&self, settings: &Settings) -> Result<()> {
        let (vae, tile) = (&self.facts().vae, Tiling::default());
        let (mut width, mut height) = (settings.width.get(), settings.height.get());
        if settings.vae_tiling {
            (width, height) = (width.min(tile.min), height.min(tile.min));
        }
        let channels = vae.decoder_base_dim.unwrap_or(vae.base_dim);
        let positions = width * height / (vae.patch_side() * vae.patch_side());
        let layer = 4 * channels * vae.scale_factor_temporal * positions;
        self.check_room("decode", 2 * layer as u64, "decode in tiles: `vae_tiling`")
    }

    fn check_room(&self, phase: &str, needs: u64, helps: &str) -> Result<()> {
        if self.device().is_cpu() { room::check(phase, needs, helps) } else { Ok(()) }
    }

    /// Shape of the latents of these settings, `[1, C, F, H, W]`.
    pub fn latent_shape(&self, settings: &Settings) -> [usize; 5] {
        let size = settings.latent_size();
        [1, self.facts().vae.z_dim, size.frames, size.height, size.width]
    }

    /// Bytes of the latents of these settings, f32.
    pub fn latent_bytes(&self, settings: &Settings) -> u64 {
        4 * self.latent_shape(settings).iter().product::<usize>() as u64
    }

    fn file_bytes(&self) -> Result<BTreeMap<String, u64>> {
        let mut bytes = BTreeMap::new();
        for (part, files) in self.checkpoint().parts() {
            for file in files {
                let length = std::fs::metadata(file).map_err(Error::io(file))?.len();
                *bytes.entry(part.clone()).or_default() += length;
            }
        }
        Ok(bytes)
    }
}
