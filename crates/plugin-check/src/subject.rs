//! The strategy that is checked.

use wan_host::parts::Registry;
use wan_plugin_api::library::{CacheInstance, Library, SamplerInstance};
use wan_plugin_api::options::complete;
use wan_plugin_api::{CacheContext, OptionValues, Result, SampleRequest, Strategy};
use wan_plugin_kit::{FakeModel, Script, side_by_side};

use super::outcome::{Checked, Failed};
use super::test::Scope;

/// A sampler or a cache of a library.
pub(super) struct Subject {
    pub(super) library: Library,
    pub(super) scope: Scope,
    pub(super) strategy: Strategy,
    /// Where random inputs begin.
    pub(super) seed: u64,
}

impl Subject {
    pub(super) fn new(library: Library, scope: Scope, id: &str, seed: u64) -> Checked<Self> {
        let (library, description) = Registry::offered(library)?;
        let strategies =
            if scope == Scope::Sampler { description.samplers } else { description.caches };
        let strategy = strategies.into_iter().find(|s| s.id == id);
        let strategy = strategy.ok_or_else(|| Failed(format!("the library has no {id}")))?;
        Ok(Self { library, scope, strategy, seed })
    }

    /// Its options at their defaults.
    pub(super) fn defaults(&self) -> Result<OptionValues> {
        complete(&self.strategy.id, &self.strategy.options, &OptionValues::new())
    }

    pub(super) fn sampler(&self, request: &SampleRequest) -> Result<SamplerInstance> {
        self.sampler_with(&self.defaults()?, request)
    }

    pub(super) fn sampler_with(
        &self,
        options: &OptionValues,
        request: &SampleRequest,
    ) -> Result<SamplerInstance> {
        self.library.create_sampler(&self.strategy.id, options, request)
    }

    pub(super) fn cache_with(
        &self,
        options: &OptionValues,
        context: &CacheContext,
    ) -> Result<CacheInstance> {
        self.library.create_cache(&self.strategy.id, options, context)
    }
}

/// A request that every sampler can serve.
pub(super) fn plain_request() -> SampleRequest {
    SampleRequest { frames: 5, prefix_frames: 0, steps: 8, shift: 3.0, temporal_scale: 4 }
}

/// A stream that is no special case: two frames, twelve evaluations.
pub(super) fn plain_script(seed: u64) -> Script {
    Script::new(side_by_side(2, 12, 10.0), FakeModel::new(seed))
}
