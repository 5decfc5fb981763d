//! Opens weights for a known network. They are refused, from the headers alone, if a tensor is
//! missing, misshaped, or unknown to the network.

use std::sync::Arc;

use candle_core::{DType, Device};

use super::network::Network;
use crate::error::{Error, Result};
use crate::misfit::Misfit;
use crate::weights::{Scope, Weights};

/// Opens the weights of `network` in f32, for its loader.
///
/// # Errors
/// [`Error::Misfit`] if the tensors are not those of the network, before any is read;
/// [`Error::WeightFile`] if a file was written to after it was opened.
pub fn open(network: &Network, weights: &Arc<Weights>, device: &Device) -> Result<Scope> {
    check(network, weights)?;
    weights.scope(DType::F32, device)
}

/// Checks that the tensors are those of `network`. No file is read.
///
/// # Errors
/// [`Error::Misfit`] if they are not.
pub fn check(network: &Network, weights: &Weights) -> Result<()> {
    let problems = network.problems(weights);
    if problems.is_empty() {
        return Ok(());
    }
    let misfit = Misfit { network: network.name(), problems };
    Err(Error::Misfit { origin: weights.origin(), misfit })
}

#[cfg(test)]
mod tests;
