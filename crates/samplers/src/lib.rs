//! Solvers of the flow `dx/dsigma = velocity` that Wan and SkyReels-V2 are sampled with, each in
//! the words of its paper: [`Euler`], [`Heun`], the multistep [`UniPc`], [`DpmMultistep`] (DPM-
//! Solver++), [`Deis`], [`ResMultistep`] and [`SaOde`], and the stochastic [`EulerAncestral`],
//! [`DpmSde`] and [`Lcm`]. `docs/samplers.md` says when to use which.
//!
//! A [`SigmaTable`] is the only coordinate: `sigma` is the noise fraction of
//! `x = (1 - sigma) * x0 + sigma * noise`, falling from about 1 to exactly 0. A [`Solver`] carries
//! one sample from entry to entry and owns its multistep history; whoever moves frames at different
//! times (diffusion forcing) keeps one solver for each group that moves together.
//! [`SolverOptions`] is how a user picks among all of it, the spacing of the levels included.
//!
//! [`Uniform`] makes each solver a sampler of its own, in which all frames move together.

mod beta;
mod deis;
mod dpm_multistep;
mod dpm_sde;
mod euler;
mod euler_ancestral;
mod heun;
mod lcm;
mod memory;
mod noise;
mod options;
mod res_multistep;
mod sa_ode;
mod schedule;
mod solver;
mod spacing;
mod uni_pc;
mod uniform;
mod vandermonde;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

pub use deis::Deis;
pub use dpm_multistep::DpmMultistep;
pub use dpm_sde::DpmSde;
pub use euler::Euler;
pub use euler_ancestral::EulerAncestral;
pub use heun::Heun;
pub use lcm::Lcm;
pub use memory::{Memory, Predicted};
pub use options::SolverOptions;
pub use res_multistep::ResMultistep;
pub use sa_ode::{SaOde, SaWeights};
pub use schedule::{SigmaTable, TimestepRule};
pub use solver::{Solver, SolverKind, SolverType};
pub use spacing::Spacing;
pub use uni_pc::{FirstCorrection, UniPc};
pub use uniform::{StandAlone, Uniform};

wan_plugin_api::plugin! {
    /// The samplers as the host registers them; the first is what it takes where neither the user
    /// nor the model folder names one.
    pub struct BuiltIn {
        samplers: [
            Uniform<UniPc>,
            Uniform<DpmMultistep>,
            Uniform<Euler>,
            Uniform<Heun>,
            Uniform<EulerAncestral>,
            Uniform<DpmSde>,
            Uniform<Deis>,
            Uniform<Lcm>,
            Uniform<ResMultistep>,
            Uniform<SaOde>,
        ],
        caches: [],
    }
}
