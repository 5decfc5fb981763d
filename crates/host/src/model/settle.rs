//! From a request to complete settings: [`Model::settle`], the only maker of [`Settings`].

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use wan_border::numbers::Count;
use wan_plugin_api::{OptionValues, Place};

use crate::checkpoint::lora_set::LoraSet;
use crate::error::{Error, Result};
use crate::inputs::given::GivenFrames;
use crate::inputs::prompt::UnknownWords;
use crate::model::Model;
use crate::model::defaults::{Defaults, of_wan};
use crate::model::needs;
use crate::model::settings::Settings;
use crate::output::latents_file::HashedLatents;
use crate::output::sidecar::{Sidecar, json};
use crate::plugins::choice::StrategyChoice;
use crate::plugins::kind::Kind;
use crate::plugins::registry::{Chosen, Registry};
use crate::request::memory::{Bytes, Limits};
use crate::request::origin::{Origin, Origins};
use crate::request::precision::Precision;
use crate::request::residency::Residency;
use crate::request::settings::{GivenSources, SettingValues};
use crate::request::size::Size;
use crate::request::{NO_CACHE, Request};
use crate::run::handover::Earlier;

impl Model {
    /// Completes a request: what it does not say comes from the task that it names, else from the
    /// folder's `wan.toml`, else from the published model that the tensors are of, else from Wan's
    /// own defaults. Given pictures and clips are read here.
    ///
    /// # Errors
    /// For a value that does not fit this model, naming the field and what would fit; for a field
    /// that would have no effect, naming what it needs; for an unknown task, strategy or option; for a given file that cannot be read, and for what the
    /// model does not take, or needs and is not given.
    pub fn settle(&self, request: &Request) -> Result<Settings> {
        let settings = self.complete(request)?;
        needs::check(request, &settings, &self.guidance(&settings))?;
        Ok(settings)
    }

    fn complete(&self, request: &Request) -> Result<Settings> {
        let defaults = Defaults::find(self.checkpoint(), request.task.as_deref())?;
        let mut settling = Settling::new(request, &defaults);
        let asked = settling.pick("lora", |r| &r.lora).unwrap_or_default();
        let loras = LoraSet::open(self.checkpoint(), &asked)?;
        settling.lora = loras.defaults();
        let registry = self.engine().registry();
        let ids = settling.strategies(registry)?;
        let sampler = settling.options(Kind::Sampler, &ids.sampler, registry)?;
        let cache = ids.cache.map(|id| settling.options(Kind::Cache, &id, registry)).transpose()?;
        let mut values = settling.values(&sampler, cache.as_ref())?;
        let limits = settling.limits();
        let size = values.latent_size(self.size_rule())?;
        let given = GivenFrames::read(&values)?;
        values.given.hashes.clone_from(given.hashes());
        let earlier = values.given.latents.as_deref().map(earlier).transpose()?;
        let (earlier, hash) = earlier.unzip();
        values.given.hashes.extend(hash.map(|hash| ("latents".into(), hash)));
        given.check(self.facts().intake(), self.size_rule().temporal_scale)?;
        values.lora = loras.known_by().to_vec();
        let mut notices = self.checkpoint().notices();
        notices.extend(self.notices_on_prompts(&values)?);
        notices.extend_from_slice(loras.notices());
        Ok(Settings {
            defaults: settling.used_defaults(Size { width: values.width, height: values.height }),
            origins: settling.origins,
            task: defaults.task,
            values,
            chosen_sampler: sampler,
            chosen_cache: cache,
            size,
            given_frames: Arc::new(given),
            earlier,
            loras,
            notices,
            limits,
            residency: Residency::default(),
            are_recorded: false,
            planned: None,
        })
    }

    /// The settings that a sidecar records, checked against this model.
    ///
    /// # Errors
    /// As [`settle`](Self::settle); for a picture or clip that was given as pixels in memory, and
    /// for a given file that is another one by now.
    pub fn settle_again(&self, recorded: &Sidecar) -> Result<Settings> {
        let request = Request { task: recorded.task.clone(), ..Request::from(&recorded.settings) };
        let mut settings = self.complete(&request)?;
        recorded.settings.given.check_same(&settings.given.hashes)?;
        settings.values.sample_guide_scale_low = recorded.settings.sample_guide_scale_low;
        settings.origins.clone_from(&recorded.origins);
        settings.are_recorded = true;
        settings.defaults.clone_from(&recorded.defaults);
        Ok(settings)
    }

    /// The settings that a sidecar records with these changes: `request` is the recorded one with
    /// the changes in it.
    ///
    /// # Errors
    /// As [`settle`](Self::settle).
    pub fn settle_changed(
        &self,
        recorded: &Sidecar,
        request: &Request,
        changes: &Request,
    ) -> Result<Settings> {
        let request = Request { task: recorded.task.clone(), ..request.clone() };
        let settings = self.complete(&request)?;
        needs::check(changes, &settings, &self.guidance(&settings))?;
        Ok(settings)
    }

    /// The same settings with another cache, or none.
    ///
    /// # Errors
    /// For an unknown cache, an unknown option or a value out of range.
    pub fn with_cache(
        &self,
        settings: &Settings,
        cache: Option<&StrategyChoice>,
    ) -> Result<Settings> {
        let registry = self.engine().registry();
        let chosen = cache.map(|c| registry.choose(Kind::Cache, &c.id, &c.options)).transpose()?;
        let mut other = settings.clone();
        other.values.cache = chosen.as_ref().map(Chosen::choice);
        other.chosen_cache = chosen;
        other.origins.retain(|field, _| !field.starts_with("cache_options."));
        other.origins.insert("cache".into(), Origin::Request);
        Ok(other)
    }

    /// The strategies that [`settle`](Self::settle) takes for a request.
    ///
    /// # Errors
    /// For an unknown task, or where there is no sampler.
    pub fn strategies(&self, request: &Request) -> Result<StrategyIds> {
        let defaults = Defaults::find(self.checkpoint(), request.task.as_deref())?;
        Settling::new(request, &defaults).strategies(self.engine().registry())
    }

    /// Words that the model does not know, and ends of prompts that it does not take.
    fn notices_on_prompts(&self, values: &SettingValues) -> Result<Vec<String>> {
        let prompts = [&values.prompt, &values.negative_prompt];
        let unknown = prompts.iter().filter_map(|prompt| self.prompts().unknown_words(prompt));
        let notice = |words: UnknownWords| {
            format!(
                "this model does not know: {}; it knows: {}",
                words.unknown.join(", "),
                words.known.join(", ")
            )
        };
        let mut notices: Vec<String> = unknown.map(notice).collect();
        notices.extend(self.prompts().cut("prompt", &values.prompt)?);
        let guidance = values.guidance(self.facts().configs.len());
        if guidance.iter().any(|scale| *scale > 1.0) {
            notices.extend(self.prompts().cut("negative prompt", &values.negative_prompt)?);
        }
        Ok(notices)
    }
}

/// Sampler and cache of a request, by id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StrategyIds {
    /// The sampler.
    pub sampler: String,
    /// The cache, if any.
    pub cache: Option<String>,
}

/// A request, what completes it, and who has chosen so far.
struct Settling<'a> {
    request: &'a Request,
    defaults: &'a Defaults,
    /// What LoRAs bring.
    lora: Request,
    wan: Request,
    origins: Origins,
}

impl<'a> Settling<'a> {
    fn new(request: &'a Request, defaults: &'a Defaults) -> Self {
        let lora = Request::default();
        Self { request, defaults, lora, wan: of_wan(), origins: Origins::new() }
    }

    /// A field of the request, else of what completes it.
    fn pick<T: Clone>(&mut self, field: &str, of: impl Fn(&Request) -> &Option<T>) -> Option<T> {
        let layers = [
            (self.request, Origin::Request),
            (&self.lora, Origin::Lora),
            (&self.defaults.request, self.defaults.origin),
            (&self.wan, Origin::Wan),
        ];
        let found = layers.into_iter().find_map(|(r, origin)| Some((of(r).clone()?, origin)));
        let (value, origin) = found?;
        self.chose(field, origin);
        Some(value)
    }

    fn need<T: Clone>(
        &mut self,
        field: &'static str,
        of: impl Fn(&Request) -> &Option<T>,
    ) -> Result<T> {
        self.pick(field, of).ok_or_else(|| Error::field(field, "is needed"))
    }

    /// A count, which is in its range from here on.
    fn count<N, const MIN: u32, const MAX: u32>(
        &mut self,
        field: &'static str,
        of: impl Fn(&Request) -> &Option<N>,
    ) -> Result<Count<MIN, MAX>>
    where
        N: TryInto<u32> + Copy + Display,
    {
        Count::new(self.need(field, of)?).map_err(|error| Error::field(field, error))
    }

    fn chose(&mut self, field: &str, origin: Origin) {
        self.origins.insert(field.into(), origin);
    }

    fn strategies(&mut self, registry: &Registry) -> Result<StrategyIds> {
        let sampler = match self.pick("sampler", |r| &r.sampler) {
            Some(id) => id,
            // The first that is built in.
            None => {
                self.chose("sampler", Origin::Wan);
                let first = registry.strategies(Kind::Sampler).next();
                first.map(|s| s.id.clone()).ok_or_else(|| Error::invalid("there is no sampler"))?
            }
        };
        let cache = self.pick("cache", |r| &r.cache).filter(|id| id != NO_CACHE);
        if cache.is_none() && !self.request.cache_options.is_empty() {
            return Err(Error::field("cache_options", "needs a cache; give `cache` NAME"));
        }
        Ok(StrategyIds { sampler, cache })
    }

    /// A strategy with its options: those of the request over those that come with the default of
    /// the same id, over its own.
    fn options(&mut self, kind: Kind, id: &str, registry: &Registry) -> Result<Chosen> {
        let of = |r: &'a Request| match kind {
            Kind::Sampler => ("sampler_options", &r.sampler, &r.sampler_options),
            Kind::Cache => ("cache_options", &r.cache, &r.cache_options),
        };
        let (field, _, asked) = of(self.request);
        let (_, default_id, with_default) = of(&self.defaults.request);
        let is_default = default_id.as_deref() == Some(id);
        let mut given = if is_default { with_default.clone() } else { OptionValues::new() };
        given.extend(asked.clone());
        registry.choose(kind, id, &OptionValues::new())?;
        let chosen = registry.choose(kind, id, &given).map_err(|e| Error::field(field, e))?;
        for name in chosen.options.keys() {
            let origin = match () {
                () if asked.contains_key(name) => Origin::Request,
                () if given.contains_key(name) => self.defaults.origin,
                () => Origin::Strategy,
            };
            self.chose(&format!("{field}.{name}"), origin);
        }
        Ok(chosen)
    }

    fn values(&mut self, sampler: &Chosen, cache: Option<&Chosen>) -> Result<SettingValues> {
        let size: Size = self.need("size", |r| &r.size)?.parse()?;
        Ok(SettingValues {
            prompt: self.need("prompt", |r| &r.prompt)?,
            negative_prompt: self.need("negative_prompt", |r| &r.negative_prompt)?,
            width: size.width,
            height: size.height,
            frame_num: self.count("frame_num", |r| &r.frame_num)?,
            sample_steps: self.count("sample_steps", |r| &r.sample_steps)?,
            sample_shift: self.sample_shift(size)?,
            sample_guide_scale: self.need("sample_guide_scale", |r| &r.sample_guide_scale)?,
            sample_guide_scale_low: self
                .pick("sample_guide_scale_low", |r| &r.sample_guide_scale_low),
            base_seed: self.seed()?,
            fps: self.need("fps", |r| &r.fps)?,
            sampler: sampler.choice(),
            cache: cache.map(Chosen::choice),
            given: GivenSources {
                image: self.pick("image", |r| &r.image),
                last_frame: self.pick("last_frame", |r| &r.last_frame),
                video: self.pick("video", |r| &r.video),
                context_frames: self.count("context_frames", |r| &r.context_frames)?,
                latents: self.pick("latents", |r| &r.latents),
                hashes: BTreeMap::new(),
            },
            lora: Vec::new(),
            precision: Precision {
                dtype: self.pick("dtype", |r| &r.dtype).unwrap_or_default(),
                narrow_stream: self.pick("narrow_stream", |r| &r.narrow_stream).unwrap_or(false),
            },
            text_encoder_dtype: self
                .pick("text_encoder_dtype", |r| &r.text_encoder_dtype)
                .unwrap_or_default(),
            text_encoder_device: self
                .pick("text_encoder_device", |r| &r.text_encoder_device)
                .unwrap_or_default(),
            vae_dtype: self.pick("vae_dtype", |r| &r.vae_dtype).unwrap_or_default(),
            latents_only: self.pick("latents_only", |r| &r.latents_only).unwrap_or(false),
            cache_device: self.pick("cache_device", |r| &r.cache_device).unwrap_or(Place::Device),
            vae_tiling: self.pick("vae_tiling", |r| &r.vae_tiling).unwrap_or(false),
            on_nan: self.pick("on_nan", |r| &r.on_nan).unwrap_or_default(),
        })
    }

    /// Of the machine: they leave no mark on the video.
    fn limits(&self) -> Limits {
        let of = |pick: fn(&Request) -> Option<Bytes>| {
            let asked = pick(self.request).or(pick(&self.defaults.request));
            asked.map(|bytes| bytes.0)
        };
        Limits {
            device: of(|request| request.max_memory),
            host: of(|request| request.max_host_memory),
            fit: self.request.fit.or(self.defaults.request.fit).unwrap_or_default(),
        }
    }

    /// A model may have another shift for each size.
    fn sample_shift(&mut self, size: Size) -> Result<f64> {
        let default = self.defaults.sample_shift(size);
        let is_said = self.request.sample_shift.or(self.lora.sample_shift).is_some();
        match default.filter(|_| !is_said) {
            Some((shift, origin)) => {
                self.chose("sample_shift", origin);
                Ok(shift)
            }
            None => self.need("sample_shift", |r| &r.sample_shift),
        }
    }

    /// -1 draws one.
    fn seed(&mut self) -> Result<u64> {
        match self.need("base_seed", |r| &r.base_seed)? {
            -1 => {
                self.chose("base_seed", Origin::Drawn);
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Ok(u64::try_from(now.as_nanos() % (1 << 32)).unwrap_or(0))
            }
            seed => u64::try_from(seed).map_err(|_| {
                Error::field("base_seed", format!("{seed}: must be 0 or above; -1 draws one"))
            }),
        }
    }

    /// What a request that says nothing would have been completed with, for this size.
    fn used_defaults(&self, size: Size) -> Value {
        let mut used = json(&self.wan);
        if let (Value::Object(used), Value::Object(own)) = (&mut used, json(&self.defaults.request))
        {
            used.extend(own);
        }
        if let Some((shift, _)) = self.defaults.sample_shift(size) {
            used["sample_shift"] = shift.into();
        }
        if let (Value::Object(used), Value::Object(own)) = (&mut used, json(&self.lora)) {
            used.extend(own);
        }
        used
    }
}

/// The latents of an earlier run, and SHA-256 of their file.
fn earlier(path: &Path) -> Result<(Earlier, String)> {
    let read = Sidecar::read_hashed_latents(path).map_err(|e| Error::field("latents", e))?;
    let HashedLatents { latents, sidecar, hash } = read;
    let name = format!("`latents` {}", path.display());
    Ok((Earlier { latents, ends_at: sidecar.ends_at, name }, hash))
}
