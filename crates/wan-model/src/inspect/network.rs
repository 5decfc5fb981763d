//! A network and the tensors that it needs.

use std::collections::BTreeMap;

use super::expected::{self, Expected};
use crate::clip::ClipVisionConfig;
use crate::config::WanConfig;
use crate::error::Result;
use crate::misfit::Problem;
use crate::original_names::Layout;
use crate::umt5::Umt5Config;
use crate::vae::VaeConfig;
use crate::weights::{Weights, fits};

/// A network and its config.
#[derive(Clone, Debug, PartialEq)]
pub enum Network {
    /// A Wan or SkyReels-V2 transformer.
    Transformer(WanConfig),
    /// A VAE, encoder and decoder.
    Vae(VaeConfig),
    /// A UMT5 encoder.
    TextEncoder(Umt5Config),
    /// A CLIP vision model.
    ImageEncoder(ClipVisionConfig),
}

impl Network {
    /// The kind of network, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Transformer(_) => "transformer",
            Self::Vae(_) => "VAE",
            Self::TextEncoder(_) => "text encoder",
            Self::ImageEncoder(_) => "image encoder",
        }
    }

    /// The naming scheme that it was first published in.
    pub fn original_layout(&self) -> Layout {
        match self {
            Self::Transformer(_) => Layout::Transformer,
            Self::Vae(config) if config.is_residual => Layout::Vae22,
            Self::Vae(config) => Layout::Vae21 { level: config.num_res_blocks + 2 },
            Self::TextEncoder(_) => Layout::TextEncoder,
            Self::ImageEncoder(_) => Layout::ImageEncoder,
        }
    }

    /// Checks that there can be a network of this config.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config), naming the field.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Transformer(config) => config.check(),
            Self::Vae(config) => config.check(),
            Self::TextEncoder(config) => config.check(),
            Self::ImageEncoder(config) => config.check(),
        }
    }

    /// Name and shape of every tensor that its loader needs.
    pub fn tensors(&self) -> BTreeMap<String, Vec<usize>> {
        let Expected(tensors) = self.expected_under("shared.weight");
        tensors
    }

    /// The same, where a text encoder's embedding has the name that it has in these weights.
    pub fn tensors_in(&self, weights: &Weights) -> BTreeMap<String, Vec<usize>> {
        let Expected(tensors) = self.expected(weights);
        tensors
    }

    fn expected(&self, weights: &Weights) -> Expected {
        let own = "encoder.embed_tokens.weight";
        self.expected_under(if weights.shape(own).is_some() { own } else { "shared.weight" })
    }

    /// `table` is the name of a text encoder's embedding in the files.
    fn expected_under(&self, table: &str) -> Expected {
        match self {
            Self::Transformer(config) => expected::transformer(config),
            Self::Vae(config) => expected::vae(config),
            Self::TextEncoder(config) => expected::text_encoder(config, table),
            Self::ImageEncoder(config) => expected::image_encoder(config),
        }
    }

    /// Share of the tensors of network and files that agree in name and shape.
    pub(super) fn agreement(&self, weights: &Weights) -> f64 {
        let Expected(expected) = self.expected(weights);
        let (mut shared, mut all) = (0, expected.len());
        for name in weights.names() {
            match expected.get(name) {
                Some(shape) if weights.shape(name).is_some_and(|found| fits(found, shape)) => {
                    shared += 1
                }
                Some(_) => {}
                None if self.passes_over(name) => {}
                None => all += 1,
            }
        }
        shared as f64 / all as f64
    }

    pub(super) fn problems(&self, weights: &Weights) -> Vec<Problem> {
        let Expected(expected) = self.expected(weights);
        let mut problems = Vec::new();
        for (name, expected) in &expected {
            let (name, expected) = (name.clone(), expected.clone());
            match weights.shape(&name) {
                None => problems.push(Problem::Missing { name, expected }),
                Some(found) if !fits(found, &expected) => {
                    problems.push(Problem::WrongShape { name, expected, found: found.to_vec() });
                }
                Some(_) => {}
            }
        }
        for name in weights.names() {
            if !expected.contains_key(name) && !self.passes_over(name) {
                let found = weights.shape(name).unwrap_or_default().to_vec();
                let name = weights.original_name(name).unwrap_or(name).to_owned();
                problems.push(Problem::Unexpected { name, found });
            }
        }
        problems
    }
}
