//! Solvers of the flow `dx/dsigma = velocity` for Wan and SkyReels-V2, each in the notation of its
//! paper: [`Euler`], [`Heun`], the multistep [`UniPc`], [`DpmMultistep`] (DPM-Solver++), [`Deis`],
//! [`ResMultistep`] and [`SaOde`], and the stochastic [`EulerAncestral`], [`DpmSde`] and [`Lcm`].
//! `docs/samplers.md` compares them.
//!
//! A [`SigmaTable`] has the noise levels of a run: `sigma` is the noise fraction of `x = (1 -
//! sigma) * x0 + sigma * noise` and falls from about 1 to exactly 0. A [`Solver`] moves one sample
//! from entry to entry and owns its multistep history. A sampler that moves frames at different
//! times (diffusion forcing) keeps one solver for each group of frames that moves together.
//! [`SolverOptions`] chooses the solver, its options and the spacing of the levels.
//!
//! [`Uniform`] makes a sampler of each solver: all frames move together.

mod beta;
mod deis;
mod dpm_multistep;
mod dpm_sde;
mod euler;
mod euler_ancestral;
mod heun;
mod history;
mod kind;
mod lcm;
mod level;
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
pub use kind::{SolverKind, SolverType};
pub use lcm::Lcm;
pub use memory::{Memory, Predicted};
pub use options::SolverOptions;
pub use res_multistep::ResMultistep;
pub use sa_ode::{SaOde, SaWeights};
pub use schedule::{SigmaTable, TimestepRule};
pub use solver::Solver;
pub use spacing::Spacing;
pub use uni_pc::{FirstCorrection, UniPc};
pub use uniform::{StandAlone, Uniform};

wan_plugin_api::plugin! {
    /// The built-in samplers. The first is the host's default where neither the user nor the model
    /// folder names one.
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
