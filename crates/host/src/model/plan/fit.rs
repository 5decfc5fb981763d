//! Makes a run fit the memory that it may take, by the mildest means that do.

use wan_border::numbers::{Frames, Side};
use wan_plugin_api::Place;

use crate::device::{DeviceMemory, memory, room};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::model::plan::counted::Counted;
use crate::model::plan::phases::ModelBytes;
use crate::model::plan::{Plan, PlannedPhase};
use crate::model::settings::Settings;
use crate::request::memory::{Bytes, Fit};
use crate::request::origin::Origin;
use crate::request::precision::Format;
use crate::request::residency::DecodingTime;

/// Bytes that may be taken in one place, and who says so.
#[derive(Debug, Clone, Copy)]
struct Limit {
    place: Place,
    bytes: u64,
    by: &'static str,
}

impl Model {
    /// These settings with what makes a run of them fit the memory that it may take, and its plan.
    /// Nothing of it changes a number of the latents. The limits are those of the request; without
    /// them what is free now.
    ///
    /// # Errors
    /// [`Error::HostMemory`] or [`Error::DeviceMemory`] where nothing makes it fit, or the request
    /// forbids it, naming the phase and the nearest settings that do; as [`plan`](Self::plan).
    pub fn fit(&self, settings: Settings) -> Result<(Settings, Plan)> {
        let bytes = ModelBytes::of(self, &settings)?;
        let limits = self.limits(&settings);
        match self.fitted(settings.clone(), &bytes, &limits)? {
            Ok((mut settings, plan)) => {
                settings.planned = Some(plan.summary());
                Ok((settings, plan))
            }
            Err((phase, limit)) => Err(self.does_not_fit(&settings, &phase, limit, &limits)?),
        }
    }

    /// What may be taken now.
    fn limits(&self, settings: &Settings) -> Vec<Limit> {
        let asked = settings.limits;
        let mut limits = Vec::new();
        let own = room::resident_bytes().unwrap_or(0);
        let free = room::free();
        let mut host = |place, asked: Option<u64>, by| {
            let asked = asked.map(|most| most.saturating_sub(own));
            limits.extend(asked.map(|bytes| Limit { place, bytes, by }));
            limits.extend(free.map(|(bytes, by)| Limit { place, bytes, by }));
        };
        if self.device().is_cpu() {
            host(Place::Device, asked.device, "`max_memory`");
            host(Place::Device, asked.host, "`max_host_memory`");
            return limits;
        }
        host(Place::Host, asked.host, "`max_host_memory`");
        let DeviceMemory { held, .. } = memory(self.device()).unwrap_or_default();
        let asked = asked.device.map(|most| most.saturating_sub(held));
        let limit = |bytes| Limit { place: Place::Device, bytes, by: "`max_memory`" };
        limits.extend(asked.map(limit));
        limits
    }

    /// The settings with what makes them fit, else the phase that does not and its limit.
    #[allow(clippy::type_complexity, reason = "one of two outcomes")]
    fn fitted(
        &self,
        mut settings: Settings,
        bytes: &ModelBytes,
        limits: &[Limit],
    ) -> Result<std::result::Result<(Settings, Plan), (PlannedPhase, Limit)>> {
        let counted = Counted::of(self.facts(), &settings)?;
        if counted.windows > 1 && !settings.latents_only {
            settings.residency.decoding = DecodingTime::Kept;
        }
        let mut plan = self.plan_of(&settings, bytes, &counted);
        let mut choices = Vec::new();
        while let Some((phase, limit)) = too_large(&plan, limits) {
            let mut milder = settings.clone();
            let chosen = self.reduce(&mut milder, phase.name, bytes);
            let Some(chosen) = chosen.filter(|_| settings.limits.fit == Fit::Auto) else {
                return Ok(Err((phase, limit)));
            };
            settings = milder;
            choices.retain(|(what, _): &(&str, String)| *what != chosen.0);
            choices.extend(Some(chosen).filter(|(_, said)| !said.is_empty()));
            plan = self.plan_of(&settings, bytes, &counted);
        }
        plan.choices = choices.into_iter().map(|(_, said)| said).collect();
        Ok(Ok((settings, plan)))
    }

    /// Takes the next step that makes a phase hold less; gives what it is, and what is to be said of
    /// it.
    fn reduce(
        &self,
        settings: &mut Settings,
        phase: &str,
        bytes: &ModelBytes,
    ) -> Option<(&'static str, String)> {
        let residency = &mut settings.residency;
        let more =
            |streamed: &mut usize, layers: usize| (*streamed < layers).then(|| *streamed += 1);
        let said = |now: usize, layers: usize, part: &str| {
            format!("{now} of {layers} layers of the {part} are read for their turn")
        };
        match phase {
            "encode text" => {
                let layers = bytes.text.layers.len();
                more(&mut residency.streamed_text_layers, layers)?;
                Some(("text", said(residency.streamed_text_layers, layers, "text encoder")))
            }
            "encode image" => {
                let layers = bytes.image.as_ref()?.0.layers.len();
                more(&mut residency.streamed_image_layers, layers)?;
                Some(("image", said(residency.streamed_image_layers, layers, "image encoder")))
            }
            "decode between windows" => {
                residency.decoding = DecodingTime::AtEnd;
                Some((
                    "decoding",
                    "what a run hands out is decoded in the end, when the transformer is gone"
                        .into(),
                ))
            }
            "encode frames" | "decode" if !residency.streamed_vae => {
                residency.streamed_vae = true;
                Some((
                    "vae",
                    "layers of the VAE are read for their turn, for each latent frame".into(),
                ))
            }
            "decode" if !settings.vae_tiling && !settings.are_recorded => {
                settings.values.vae_tiling = true;
                settings.origins.insert("vae_tiling".into(), Origin::Plan);
                Some((
                    "tiles",
                    "the VAE decodes in blended tiles (`vae_tiling`): seams may show".into(),
                ))
            }
            _ if phase.starts_with("denoise") => {
                let residency = &mut settings.residency;
                if residency.decoding == DecodingTime::Kept {
                    residency.decoding = DecodingTime::Swapped;
                    return Some(("decoding", String::new()));
                }
                if !residency.one_expert && bytes.transformers.len() > 1 {
                    residency.one_expert = true;
                    let said = "one of the two transformers is in memory at a time";
                    return Some(("experts", said.into()));
                }
                let blocks = bytes.transformers.iter().map(|t| t.layers.len()).max()?;
                more(&mut residency.streamed_blocks, blocks)?;
                let now = residency.streamed_blocks;
                let read = bytes.transformers.iter().map(|t| t.streamed(now)).max()?;
                let said = format!(
                    "{now} of {blocks} blocks are read for their turn: {} an evaluation",
                    Bytes(read)
                );
                Some(("blocks", said))
            }
            _ => None,
        }
    }

    /// What is to be said where nothing makes it fit.
    fn does_not_fit(
        &self,
        settings: &Settings,
        phase: &PlannedPhase,
        limit: Limit,
        limits: &[Limit],
    ) -> Result<Error> {
        let helps = match settings.limits.fit {
            Fit::Never => "`fit` auto takes less".to_owned(),
            Fit::Auto => self.what_fits(settings, limits)?,
        };
        let line = phase.lines.iter().filter(|line| line.place == limit.place);
        let most = line.max_by_key(|line| line.bytes);
        let most = most.map_or(String::new(), |line| {
            format!(", most of it {} ({})", line.what, Bytes(line.bytes))
        });
        let text = format!(
            "{} needs {} of memory{most}, and {} are left ({}); {helps}",
            phase.name,
            Bytes(phase.bytes(limit.place)),
            Bytes(limit.bytes),
            limit.by
        );
        let is_main = limit.place == Place::Host || self.device().is_cpu();
        Ok(if is_main { Error::HostMemory(text) } else { Error::DeviceMemory(text) })
    }

    /// The same with sides half as long, or a little less: what the model takes.
    fn half_as_large(&self, settings: &Settings) -> Option<(String, Settings)> {
        let (mut smaller, rule) = (settings.clone(), self.size_rule());
        let [rows, columns] = rule.patch.map(|patch| patch * rule.vae_scale);
        let half = |side: usize, multiple: usize| side / 2 / multiple * multiple;
        let height = half(settings.height.get(), rows);
        let width = half(settings.width.get(), columns);
        smaller.values.height = Side::new(height).ok()?;
        smaller.values.width = Side::new(width).ok()?;
        smaller.size.height = height / rule.vae_scale;
        smaller.size.width = width / rule.vae_scale;
        Some((format!("`size` {width}*{height}"), smaller))
    }

    /// The nearest settings that fit.
    fn what_fits(&self, settings: &Settings, limits: &[Limit]) -> Result<String> {
        let mut tried: Vec<(String, Settings)> = Vec::new();
        if settings.are_recorded && !settings.vae_tiling {
            tried.push(("`vae_tiling`".into(), settings.clone().with_vae_tiling(true)));
        }
        if settings.cache.is_some() {
            tried.push(("`cache` none".into(), self.with_cache(settings, None)?));
        }
        if settings.precision.dtype.is_f32() {
            let mut narrow = self.with_cache(settings, None)?;
            narrow.values.precision.dtype = Format::Bf16;
            tried.push(("`dtype` bf16 and `cache` none".into(), narrow.clone()));
            narrow.values.precision.narrow_stream = true;
            tried.push(("`dtype` bf16, `narrow_stream` and `cache` none".into(), narrow));
        }
        let step = self.size_rule().temporal_scale;
        let mut shorter = tried.last().map_or_else(|| settings.clone(), |(_, last)| last.clone());
        while shorter.size.frames > 1 {
            shorter.size.frames = shorter.size.frames.div_ceil(2).min(shorter.size.frames - 1);
            let frames = (shorter.size.frames - 1) * step + 1;
            let Ok(frame_num) = Frames::new(frames) else { break };
            shorter.values.frame_num = frame_num;
            let with = tried.iter().rev().find(|(said, _)| !said.contains("frame_num"));
            let with = with.map_or(String::new(), |(said, _)| format!("{said} and "));
            tried.push((format!("{with}`frame_num` {frames}"), shorter.clone()));
        }
        tried.extend(self.half_as_large(settings));
        for (said, settings) in tried {
            let bytes = ModelBytes::of(self, &settings)?;
            if self.fitted(settings, &bytes, limits)?.is_ok() {
                return Ok(format!("{said} would fit"));
            }
        }
        Ok("take a smaller `size`, a smaller model, or a machine with more memory".into())
    }
}

/// The first phase that holds more than it may.
fn too_large(plan: &Plan, limits: &[Limit]) -> Option<(PlannedPhase, Limit)> {
    plan.phases.iter().find_map(|phase| {
        let limit = limits.iter().filter(|limit| phase.bytes(limit.place) > limit.bytes);
        limit.min_by_key(|limit| limit.bytes).map(|limit| (phase.clone(), *limit))
    })
}
