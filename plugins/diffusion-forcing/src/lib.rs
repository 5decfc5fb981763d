//! Diffusion forcing as a plugin, over whichever built-in solver the user chooses. The sampler is
//! `wan-diffusion-forcing`; the same line with a solver of your own is a plugin of your own.

use wan_diffusion_forcing::{AnyBuiltIn, DiffusionForcing};

wan_plugin_api::export_plugin! { samplers: [DiffusionForcing<AnyBuiltIn>], caches: [] }
