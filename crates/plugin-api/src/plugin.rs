//! A plugin: a list of samplers and caches behind one door.

use serde::{Deserialize, Serialize};

use crate::epoch1::{CacheFactory, SamplerFactory};
use crate::{Cache, OptionSpec, Sampler};

/// What a library offers.
///
/// [`export_plugin!`](crate::export_plugin) writes the implementation; a strategy built into the
/// host is listed the same way, with [`plugin!`](crate::plugin), and enters by the same door.
pub trait Plugin: 'static {
    /// Package name.
    const NAME: &'static str;
    /// Package version.
    const VERSION: &'static str;
    /// SPDX licence expression.
    const LICENCE: &'static str;

    /// Its samplers.
    fn samplers() -> Vec<SamplerFactory>;

    /// Its caches.
    fn caches() -> Vec<CacheFactory>;
}

/// What a plugin says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginDescription {
    /// Package name.
    pub name: String,
    /// Package version.
    pub version: String,
    /// SPDX licence expression.
    pub licence: String,
    /// Its samplers.
    pub samplers: Vec<Strategy>,
    /// Its caches.
    pub caches: Vec<Strategy>,
}

/// One sampler or cache, as listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Strategy {
    /// Its id.
    pub id: String,
    /// One line.
    pub doc: String,
    /// What it can be told.
    pub options: Vec<OptionSpec>,
    /// Extensions that it answers to.
    pub extensions: Vec<String>,
}

impl Strategy {
    pub(crate) fn of_sampler<S: Sampler>() -> Self {
        Self {
            id: S::ID.into(),
            doc: S::DOC.into(),
            options: S::options(),
            extensions: S::extensions(),
        }
    }

    pub(crate) fn of_cache<C: Cache>() -> Self {
        Self {
            id: C::ID.into(),
            doc: C::DOC.into(),
            options: C::options(),
            extensions: C::extensions(),
        }
    }
}

/// Lists strategies as a type that implements [`Plugin`](crate::Plugin).
///
/// ```
/// # use wan_plugin_api::*;
/// wan_plugin_api::plugin! { pub struct BuiltIn { samplers: [], caches: [] } }
/// assert_eq!(<BuiltIn as Plugin>::NAME, env!("CARGO_PKG_NAME"));
/// ```
#[macro_export]
macro_rules! plugin {
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        samplers: [$($sampler:ty),* $(,)?], caches: [$($cache:ty),* $(,)?] $(,)?
    }) => {
        $(#[$meta])*
        $vis struct $name;

        impl $crate::Plugin for $name {
            const NAME: &'static str = env!("CARGO_PKG_NAME");
            const VERSION: &'static str = env!("CARGO_PKG_VERSION");
            const LICENCE: &'static str = env!("CARGO_PKG_LICENSE");

            fn samplers() -> Vec<$crate::epoch1::SamplerFactory> {
                vec![$($crate::epoch1::SamplerFactory::of::<$sampler>()),*]
            }

            fn caches() -> Vec<$crate::epoch1::CacheFactory> {
                vec![$($crate::epoch1::CacheFactory::of::<$cache>()),*]
            }
        }
    };
}

/// Makes a `cdylib` a plugin: the last line of every plugin crate.
///
/// ```ignore
/// wan_plugin_api::export_plugin! { samplers: [EulerAncestral], caches: [] }
/// ```
#[macro_export]
macro_rules! export_plugin {
    (samplers: [$($sampler:ty),* $(,)?], caches: [$($cache:ty),* $(,)?] $(,)?) => {
        $crate::plugin! {
            #[doc(hidden)]
            pub struct ExportedPlugin { samplers: [$($sampler),*], caches: [$($cache),*] }
        }

        const _: () = {
            const fn text(bytes: &'static str) -> &'static ::std::ffi::CStr {
                match ::std::ffi::CStr::from_bytes_with_nul(bytes.as_bytes()) {
                    Ok(text) => text,
                    Err(_) => panic!("a package field contains a zero byte"),
                }
            }

            #[allow(unsafe_code, reason = "exports the symbol that the host looks for")]
            // SAFETY: the name is this interface's own, and a library holds one plugin.
            #[unsafe(export_name = "WAN_PLUGIN_MANIFEST")]
            pub static MANIFEST: $crate::manifest::RawManifest =
                $crate::manifest::RawManifest::rust(
                    text(concat!(env!("CARGO_PKG_NAME"), "\0")),
                    text(concat!(env!("CARGO_PKG_VERSION"), "\0")),
                    text(concat!(env!("CARGO_PKG_LICENSE"), "\0")),
                    $crate::BUILT_WITH,
                );

            #[allow(unsafe_code, reason = "exports the symbol that abi_stable looks for")]
            // SAFETY: as above; the header is made for this very module type.
            #[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
            pub static HEADER: $crate::epoch1::LibHeader =
                $crate::epoch1::header::<ExportedPlugin>();
        };
    };
}
