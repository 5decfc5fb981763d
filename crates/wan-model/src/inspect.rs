//! Identifies weight files by the names and shapes of their tensors; no tensor is read.
//!
//! The tensors are compared with every published network, and the nearest is named. If none is
//! near, the network is derived from the shapes. In both cases every missing, unexpected or
//! misshaped tensor is listed with what was expected. Some published networks have the same tensors
//! (SkyReels-V2 DF 14B has those of Wan 2.1 T2V 14B); then all of them are named.
//!
//! If the network is known from a config, [`open`] compares the files with it before a tensor is
//! read.

mod config_file;
mod expected;
mod fit;
mod forward;
mod harmless;
mod inspection;
mod known;
mod network;

pub use crate::misfit::{Misfit, Problem};
pub use fit::{check, open};
pub use inspection::{Inspection, Size};
pub use known::{Known, known};
pub use network::Network;

#[cfg(test)]
mod tests;
