//! Solvers of the flow `dx/dsigma = velocity` that Wan and SkyReels-V2 are sampled with:
//! first-order [`Euler`], [`UniPc`] and [`DpmMultistep`] (DPM-Solver++).
//!
//! A [`SigmaTable`] is the only coordinate: `sigma` is the noise fraction of
//! `x = (1 - sigma) * x0 + sigma * noise`, falling from about 1 to exactly 0. A [`Solver`] carries
//! one sample from entry to entry and owns its multistep history; whoever moves frames at different
//! times (diffusion forcing) keeps one solver for each group that moves together.
//! [`SolverOptions`] is how a user picks among all of it.
//!
//! [`Uniform`] makes each solver a sampler of its own, in which all frames move together.

mod dpm_multistep;
mod euler;
mod options;
mod schedule;
mod solver;
mod uni_pc;
mod uniform;

#[cfg(test)]
mod tests;

pub use dpm_multistep::DpmMultistep;
pub use euler::Euler;
pub use options::SolverOptions;
pub use schedule::{SigmaTable, TimestepRule};
pub use solver::{Solver, SolverKind, SolverType};
pub use uni_pc::{FirstCorrection, UniPc};
pub use uniform::{StandAlone, Uniform};

wan_plugin_api::plugin! {
    /// The samplers as the host registers them; the first is what it takes where neither the user
    /// nor the model folder names one.
    pub struct BuiltIn {
        samplers: [Uniform<UniPc>, Uniform<DpmMultistep>, Uniform<Euler>],
        caches: [],
    }
}
