//! Solvers of the flow `dx/dsigma = velocity` for Wan and SkyReels-V2, each in the notation of its
//! paper: [`Euler`], [`Heun`], the multistep [`UniPc`], [`DpmMultistep`] (DPM-Solver++), [`Deis`],
//! [`ResMultistep`] and [`SaOde`], and the stochastic [`EulerAncestral`], [`DpmSde`], [`Dpm3mSde`] and
//! [`Lcm`].
//! `docs/samplers.md` compares them.
//!
//! A [`SigmaTable`] has the noise levels of a run: `sigma` is the noise fraction of `x = (1 -
//! sigma) * x0 + sigma * noise` and falls from about 1 to exactly 0. A [`Solver`] moves one sample
//! from entry to entry and owns its multistep history. A sampler that moves frames at different
//! times (diffusion forcing) keeps one solver for each group of frames that moves together.
//!
//! A [`NamedSolver`] has an id and options, and [`Uniform`] makes a sampler of it: all frames move
//! together. [`SolverOptions`] is a choice among the built-in ones. Both become a [`Descent`]: a
//! table, the part of it that is run, and solvers that go down it. [`offered`] does the same for the
//! solvers of a library.
//!
//! # A solver of your own
//!
//! ```
//! use std::sync::Arc;
//! use wan_plugin_api::{Result, Tensor, TensorOps, term};
//! use wan_samplers::{NamedSolver, NoOptions, SigmaTable, Solver, Uniform};
//!
//! struct MyEuler(Arc<SigmaTable>);
//!
//! impl Solver for MyEuler {
//!     fn step(
//!         &mut self,
//!         index: usize,
//!         sample: &Tensor,
//!         velocity: &Tensor,
//!         ops: &dyn TensorOps,
//!     ) -> Result<Tensor> {
//!         let dt = self.0.sigmas[index + 1] - self.0.sigmas[index];
//!         ops.combine(&[term(1.0, sample), term(dt, velocity)])
//!     }
//! }
//!
//! impl NamedSolver for MyEuler {
//!     type Options = NoOptions;
//!     const ID: &'static str = "my-euler";
//!     const DOC: &'static str = "Euler, once more";
//!
//!     fn new(_: &NoOptions, table: Arc<SigmaTable>, _first_frame: u32) -> Result<Self> {
//!         Ok(Self(table))
//!     }
//! }
//!
//! // `export_plugin!` in a library.
//! wan_plugin_api::plugin! { pub struct Mine { samplers: [Uniform<MyEuler>], caches: [] } }
//! ```

mod beta;
mod choice;
mod descent;
mod entry;
mod history;
mod joined;
mod level;
mod level_options;
mod library;
mod memory;
mod noise;
mod own_options;
mod schedule;
mod solver;
mod spacing;
mod together;
mod uniform;
mod vandermonde;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

pub use choice::SolverOptions;
pub use descent::Descent;
pub use entry::Entry;
pub use joined::Joined;
pub use level_options::LevelOptions;
pub use library::offered;
pub use memory::{Memory, Predicted};
pub use own_options::{SolverType, read_options};
pub use schedule::{Grid, NoiseLevels, SigmaTable, TimestepRule};
pub use solver::{NamedSolver, NoOptions, Solver};
pub use spacing::Spacing;
pub use uniform::Uniform;

/// Declares the file of each solver, exports what is public in it, and lists its `ENTRY`.
macro_rules! solvers {
    ($($file:ident)*) => {
        $(mod $file; pub use $file::*;)*

        /// The built-in solvers.
        pub const SOLVERS: &[Entry] = &[$($file::ENTRY),*];
    };
}

// The first is the default where neither the user nor the model folder names one.
solvers! {
    uni_pc dpm_multistep euler heun euler_ancestral dpm_sde dpm_3m_sde deis lcm res_multistep sa_ode
}

/// The built-in samplers, one for each solver.
pub struct BuiltIn;

impl wan_plugin_api::Plugin for BuiltIn {
    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const LICENCE: &'static str = env!("CARGO_PKG_LICENSE");

    fn samplers() -> Vec<wan_plugin_api::epoch1::SamplerFactory> {
        SOLVERS.iter().map(Entry::sampler).collect()
    }

    fn caches() -> Vec<wan_plugin_api::epoch1::CacheFactory> {
        Vec::new()
    }
}
