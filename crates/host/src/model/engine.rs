//! Strategies and a device: what models are opened with.

use std::path::PathBuf;
use std::sync::Arc;

use candle_core::Device;
use wan_model::{Arithmetic, Kernels};
use wan_plugin_api::Plugin;

use crate::device::DeviceChoice;
use crate::error::Result;
use crate::inputs::prompt_cache::PromptCache;
use crate::plugins::allow_list::AllowList;
use crate::plugins::registry::Registry;

/// Samplers and caches by id, and where to compute. Cheap to clone; clones are one and the same.
#[derive(Debug, Clone)]
pub struct Engine(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    registry: Registry,
    device: Device,
    arithmetic: Arithmetic,
    resident_experts: usize,
    prompt_cache: PromptCache,
}

/// What an [`Engine`] is to have.
#[derive(Debug, Default)]
pub struct EngineBuilder {
    registry: Option<Registry>,
    device: DeviceChoice,
    arithmetic: Arithmetic,
    resident_experts: Option<usize>,
    prompt_cache: PromptCache,
    plugin_dirs: Vec<PathBuf>,
    allowed: Option<AllowList>,
    add: Vec<fn(&mut Registry) -> Result<()>>,
}

impl Engine {
    /// An engine with the built-in samplers, on a GPU where there is one, else on the CPU, to which
    /// more can be added.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// The strategies.
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// Transformers of a model that may be loaded at once.
    pub(crate) fn resident_experts(&self) -> usize {
        self.0.resident_experts
    }

    /// Where embeddings of prompts are kept, if anywhere.
    pub fn prompt_cache(&self) -> &PromptCache {
        &self.0.prompt_cache
    }

    /// Where tensors are made.
    pub fn device(&self) -> &Device {
        &self.0.device
    }

    /// What computes on the CPU.
    pub(crate) fn arithmetic(&self) -> &Arithmetic {
        &self.0.arithmetic
    }

    /// The kernels that compute on the CPU.
    pub fn kernels(&self) -> Kernels {
        self.0.arithmetic.kernels()
    }
}

impl EngineBuilder {
    /// Where to compute.
    #[must_use]
    pub fn device(self, device: DeviceChoice) -> Self {
        Self { device, ..self }
    }

    /// What computes on the CPU; without it the fastest kernels of the processor.
    #[must_use]
    pub fn kernels(self, kernels: Kernels) -> Self {
        Self { arithmetic: Arithmetic::new(kernels), ..self }
    }

    /// The strategies of this registry, in the place of the built-in ones.
    #[must_use]
    pub fn registry(self, registry: Registry) -> Self {
        Self { registry: Some(registry), ..self }
    }

    /// No more than so many transformers of a model, and at least one, are loaded at once; without
    /// it all are.
    #[must_use]
    pub fn resident_experts(self, count: usize) -> Self {
        Self { resident_experts: Some(count), ..self }
    }

    /// Takes embeddings of prompts from this cache and keeps them there; without it nothing is kept.
    #[must_use]
    pub fn prompt_cache(self, cache: PromptCache) -> Self {
        Self { prompt_cache: cache, ..self }
    }

    /// Adds the strategies of every plugin library in this folder.
    #[must_use]
    pub fn plugin_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.plugin_dirs.push(folder.into());
        self
    }

    /// Loads no library but those that this list names.
    #[must_use]
    pub fn allow_only(self, list: AllowList) -> Self {
        Self { allowed: Some(list), ..self }
    }

    /// Adds the strategies of a plugin that is linked into this program.
    #[must_use]
    pub fn plugin<P: Plugin>(mut self) -> Self {
        self.add.push(Registry::add_built_in::<P>);
        self
    }

    /// Opens the device and loads the libraries.
    ///
    /// # Errors
    /// If the device cannot be used, a folder is not there, a library is refused, or an id is
    /// taken.
    pub fn build(self) -> Result<Engine> {
        let mut registry = self.registry.map_or_else(Registry::built_in, Ok)?;
        if let Some(list) = self.allowed {
            registry.allow_only(list);
        }
        self.add.iter().try_for_each(|add| add(&mut registry))?;
        registry.add_named_folders(&self.plugin_dirs)?;
        Ok(Engine(Arc::new(Parts {
            registry,
            device: self.device.open()?,
            arithmetic: self.arithmetic,
            resident_experts: self.resident_experts.unwrap_or(usize::MAX),
            prompt_cache: self.prompt_cache,
        })))
    }
}
