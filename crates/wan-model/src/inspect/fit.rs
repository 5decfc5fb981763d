//! Opening weights for a network that is known: refused from the headers alone where a tensor is
//! missing, misshaped, or is one that the network does not compute with.

use std::fmt;
use std::sync::Arc;

use candle_core::{DType, Device};

use crate::error::{Error, Result};
use crate::inspect::{Inspection, Network, Problem};
use crate::weights::{Opened, Weights};

/// Tensors of each kind that an error names; the rest are counted.
const NAMED_MAX: usize = 3;

/// How files differ from the network that they were opened for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// What the network is: `transformer`, `VAE`, ...
    pub network: &'static str,
    /// Every tensor that is not as expected.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not the weights of this {}: ", self.network)?;
        let of = |kind: fn(&Problem) -> bool| self.problems.iter().filter(move |p| kind(p));
        let missing: Vec<_> = of(|p| matches!(p, Problem::Missing { .. })).collect();
        let misshaped: Vec<_> = of(|p| matches!(p, Problem::WrongShape { .. })).collect();
        let unexpected: Vec<_> = of(|p| matches!(p, Problem::Unexpected { .. })).collect();
        for problems in [&missing, &misshaped, &unexpected] {
            for problem in problems.iter().take(NAMED_MAX) {
                write!(f, "{problem}; ")?;
            }
            if problems.len() > NAMED_MAX {
                write!(f, "and {} more like it; ", problems.len() - NAMED_MAX)?;
            }
        }
        f.write_str(match (missing.is_empty(), unexpected.is_empty()) {
            (false, false) => {
                "were they renamed? Known are the names of diffusers, Wan and ComfyUI"
            }
            (true, false) => "they belong to another model: name the file of this one",
            _ => "is the config of another model? `wan inspect` lists all",
        })
    }
}

/// The weights of `network`, as its loader takes them in f32.
///
/// # Errors
/// [`Error::Misfit`] where the tensors are not those of the network, before any is read;
/// [`Error::ChangedFile`] where a file was written to since it was opened.
pub fn open(network: &Network, weights: &Arc<Weights>, device: &Device) -> Result<Opened> {
    check(network, weights)?;
    weights.opened(DType::F32, device)
}

/// Checks that the tensors are those of `network`; no file is read.
///
/// # Errors
/// [`Error::Misfit`] where they are not.
pub fn check(network: &Network, weights: &Weights) -> Result<()> {
    let problems = Inspection::against(network.clone(), weights).problems;
    if problems.is_empty() {
        return Ok(());
    }
    let misfit = Misfit { network: network.name(), problems };
    Err(Error::Misfit { origin: weights.origin(), misfit })
}

#[cfg(test)]
mod tests;
