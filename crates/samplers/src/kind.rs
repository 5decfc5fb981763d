//! Names of the solvers, and of the forms of DPM-Solver++.

use serde::Deserialize;

/// The solvers, by the values of the option `solver`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum SolverKind {
    /// [`UniPc`](crate::UniPc).
    #[default]
    #[serde(rename = "unipc")]
    UniPc,
    /// [`DpmMultistep`](crate::DpmMultistep).
    #[serde(rename = "dpm++")]
    DpmPlusPlus,
    /// [`Euler`](crate::Euler).
    #[serde(rename = "euler")]
    Euler,
    /// [`Heun`](crate::Heun).
    #[serde(rename = "heun")]
    Heun,
    /// [`EulerAncestral`](crate::EulerAncestral).
    #[serde(rename = "euler-ancestral")]
    EulerAncestral,
    /// [`DpmSde`](crate::DpmSde).
    #[serde(rename = "dpm++-sde")]
    DpmPlusPlusSde,
    /// [`Deis`](crate::Deis).
    #[serde(rename = "deis")]
    Deis,
    /// [`Lcm`](crate::Lcm).
    #[serde(rename = "lcm")]
    Lcm,
    /// [`ResMultistep`](crate::ResMultistep).
    #[serde(rename = "res-multistep")]
    ResMultistep,
    /// [`SaOde`](crate::SaOde).
    #[serde(rename = "sa-ode")]
    SaOde,
}

impl SolverKind {
    /// The names of all solvers, in the order of the variants.
    pub const NAMES: [&str; 10] = [
        "unipc",
        "dpm++",
        "euler",
        "heun",
        "euler-ancestral",
        "dpm++-sde",
        "deis",
        "lcm",
        "res-multistep",
        "sa-ode",
    ];

    /// The value of the option `solver`.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// Form of DPM-Solver++'s second-order update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SolverType {
    /// The slope at the middle of the step.
    #[default]
    Midpoint,
    /// The integral of the linear interpolant, as in Heun's method.
    Heun,
}
