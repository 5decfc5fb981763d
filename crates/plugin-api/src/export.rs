//! Macros that define a plugin and export it from a library.

/// Defines a type that implements [`Plugin`](crate::Plugin) with these samplers and caches.
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

/// Exports the plugin of a `cdylib` crate. Written once per crate, usually as its last line.
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
                    $crate::manifest::FLAVOUR_RUST | $crate::manifest::FLAVOUR_C,
                    text(concat!(env!("CARGO_PKG_NAME"), "\0")),
                    text(concat!(env!("CARGO_PKG_VERSION"), "\0")),
                    text(concat!(env!("CARGO_PKG_LICENSE"), "\0")),
                    $crate::BUILT_WITH,
                );

            #[allow(unsafe_code, reason = "exports the symbol that the host looks for")]
            // SAFETY: as above.
            #[unsafe(export_name = "wan_plugin_entry")]
            pub unsafe extern "C" fn entry(
                host: *const $crate::c::tables::Host,
            ) -> *const $crate::c::tables::Plugin {
                // SAFETY: the host calls it, with its table.
                unsafe { $crate::c::entry::<ExportedPlugin>(host) }
            }

            #[allow(unsafe_code, reason = "exports the symbol that abi_stable looks for")]
            // SAFETY: as above; the header is made for this very module type.
            #[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
            pub static HEADER: $crate::epoch1::LibHeader =
                $crate::epoch1::header::<ExportedPlugin>();
        };
    };
}
