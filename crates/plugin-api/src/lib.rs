//! The interface between `wan` and its sampler and cache plugins.
//!
//! The host owns the tensors, the model and the loop. A **sampler** decides where on the noise
//! schedule each latent frame goes next. A **cache** decides whether the transformer blocks must
//! run. Neither reads the numbers of a tensor: both hold opaque [`Tensor`] handles and call a few
//! operations of the host ([`TensorOps`]). This is enough, because a step of any solver is a linear
//! combination with coefficients computed in f64, and a cache decision needs a few sums. So a
//! plugin depends on this crate alone, builds in seconds, and runs on every device of the host. For
//! its tests, the crate `wan-plugin-kit` has a stand-in for the host and the invariants of a cache.
//!
//! # A whole sampler
//!
//! ```
//! use wan_plugin_api::*;
//!
//! /// First-order Euler on the flow `dx/dsigma = velocity`.
//! struct Euler {
//!     request: SampleRequest,
//! }
//!
//! #[derive(serde::Deserialize)]
//! struct Options {}
//!
//! impl Sampler for Euler {
//!     type Options = Options;
//!     const ID: &'static str = "my-euler";
//!     const DOC: &'static str = "first-order Euler";
//!
//!     fn new(_: Options, request: &SampleRequest) -> Result<Self> {
//!         Ok(Self { request: request.clone() })
//!     }
//!
//!     fn schedule(&self) -> Result<Schedule> {
//!         let SampleRequest { steps, shift, frames, .. } = self.request;
//!         let sigma = |i| {
//!             let s = 1.0 - i as f64 / steps as f64;
//!             shift * s / (1.0 + (shift - 1.0) * s)
//!         };
//!         let round = |i| Round {
//!             levels: (0..frames)
//!                 .map(|f| FrameLevel::moving(f, 1000.0 * sigma(i), sigma(i), sigma(i + 1)))
//!                 .collect(),
//!             attention: Attention::Bidirectional,
//!             evaluations: 1,
//!         };
//!         Ok((0..steps).map(round).collect::<Vec<_>>().into())
//!     }
//!
//!     fn step(
//!         &mut self,
//!         sample: &Tensor,
//!         step: &Step<'_>,
//!         model: &mut dyn Denoise,
//!         ops: &dyn TensorOps,
//!     ) -> Result<Tensor> {
//!         let levels = &step.round.levels;
//!         let velocity = model.velocity(sample, levels)?;
//!         let change: Vec<f64> = levels.iter().map(FrameLevel::change).collect();
//!         ops.combine(&[term(1.0, sample), frame_terms(&change, &velocity)])
//!     }
//! }
//!
//! // The last line of a crate of type `cdylib`:
//! // wan_plugin_api::export_plugin! { samplers: [Euler], caches: [] }
//! # wan_plugin_api::plugin! { struct Demo { samplers: [Euler], caches: [] } }
//! # let description = library::Library::built_in::<Demo>().describe().unwrap();
//! # assert_eq!(description.samplers[0].id, "my-euler");
//! ```
//!
//! # The rules
//! - **The noise level is per latent frame.** A [`Round`] gives every frame of its window its own
//!   timestep. In ordinary sampling all are equal.
//! - **One object, one stream.** The host makes a fresh cache object for every guidance branch,
//!   expert and window. There is no reset; keep no global state.
//! - **Errors, not panics.** The interface catches a panic and turns it into an error of the run.
//!   The host refuses a plugin that is built with `panic = "abort"`.
//! - **Handles are memory.** The host counts the bytes that a plugin's handles keep alive and
//!   compares them with what a cache declared in [`CachePlan::bytes_max`].
//! - **A plugin works with every later host.** The binary interface ([`epoch1`]) is frozen; new
//!   abilities are extensions by id.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        reason = "numbers from outside are converted with checks"
    )
)]

pub mod blocks;
pub mod c;
mod cache;
mod description;
pub mod epoch1;
mod error;
mod export;
pub mod extensions;
mod guard;
pub mod library;
pub mod manifest;
pub mod options;
mod plugin;
mod round;
mod rule;
mod sampler;
mod schedule;
pub mod state;
mod tensor;

pub use cache::*;
pub use description::*;
pub use error::*;
pub use options::{OptionKind, OptionSpec, OptionValues};
pub use plugin::*;
pub use round::*;
pub use rule::*;
pub use sampler::*;
pub use schedule::*;
pub use tensor::*;

/// Version of this crate, for the manifest of a plugin.
#[doc(hidden)]
pub const BUILT_WITH: &std::ffi::CStr = match std::ffi::CStr::from_bytes_with_nul(
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes(),
) {
    Ok(version) => version,
    Err(_) => panic!("a version contains no zero byte"),
};
