//! The functions that a library exports: description and factories of a [`Plugin`].

use abi_stable::library::{__call_root_module_loader, CheckTypeLayout, RootModuleResult};
use abi_stable::prefix_type::PrefixTypeTrait;

use super::convert::{to_abi, to_json};
use super::*;
use crate::guard::{guard, keep_library_quiet};
use crate::library::AnyLibrary;
use crate::{Error, Plugin, PluginDescription};

extern "C" fn describe<P: Plugin>() -> AbiResult<RString> {
    let description = guard(P::NAME, || {
        to_json(&PluginDescription {
            name: P::NAME.into(),
            version: P::VERSION.into(),
            licence: P::LICENCE.into(),
            samplers: P::samplers().iter().map(|f| (f.strategy)()).collect(),
            caches: P::caches().iter().map(|f| (f.strategy)()).collect(),
            solvers: Vec::new(),
        })
    });
    to_abi(description, |d| d)
}

extern "C" fn create_sampler<P: Plugin>(
    id: RStr<'_>,
    options: RStr<'_>,
    request: RStr<'_>,
) -> AbiResult<SamplerBox> {
    let made = guard(id.as_str(), || {
        let factories = P::samplers();
        let found = factories.iter().find(|f| (f.strategy)().id == id.as_str());
        (found.ok_or_else(|| absent(P::NAME, "sampler", id))?.create)(&options, &request)
    });
    to_abi(made, |s| s)
}

extern "C" fn create_cache<P: Plugin>(
    id: RStr<'_>,
    options: RStr<'_>,
    context: RStr<'_>,
) -> AbiResult<CacheBox> {
    let made = guard(id.as_str(), || {
        let factories = P::caches();
        let found = factories.iter().find(|f| (f.strategy)().id == id.as_str());
        (found.ok_or_else(|| absent(P::NAME, "cache", id))?.create)(&options, &context)
    });
    to_abi(made, |c| c)
}

fn absent(plugin: &str, kind: &str, id: RStr<'_>) -> Error {
    Error::unsupported(format!("{plugin} has no {kind} {id}"))
}

/// The module of a plugin, exported by a library or linked into the host.
fn module<P: Plugin>() -> PluginModule {
    PluginModuleFields {
        describe: describe::<P>,
        create_sampler: create_sampler::<P>,
        create_cache: create_cache::<P>,
    }
    .leak_into_prefix()
}

/// A plugin that is linked into the host.
pub(crate) fn built_in<P: Plugin>() -> impl AnyLibrary {
    module::<P>()
}

/// What a host calls first in a library. A plugin that is linked into the host is not called here.
extern "C" fn root_module<P: Plugin>() -> RootModuleResult {
    keep_library_quiet();
    __call_root_module_loader(module::<P>)
}

/// The header that [`export_plugin!`](crate::export_plugin) exports.
pub const fn header<P: Plugin>() -> LibHeader {
    // SAFETY: `root_module` returns a `PluginModule`, the type that the header is made for.
    unsafe { LibHeader::from_constructor::<PluginModule>(root_module::<P>, CheckTypeLayout::Yes) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_exported_header_has_the_name_that_abi_stable_looks_for() {
        let macro_text = include_str!("../export.rs");
        let name = abi_stable::library::ROOT_MODULE_LOADER_NAME;
        assert!(macro_text.contains(&format!("export_name = \"{name}\"")), "{name}");
    }
}
