//! What a file of weights is, from names and shapes alone: no tensor is read.
//!
//! The file is held against every published network and the nearest is named; one that is near
//! none is described by its own shapes. Either way each tensor that is missing, unexpected or
//! misshaped is listed with what was expected. Some published networks cannot be told apart by
//! their files (SkyReels-V2 DF 14B has the tensors of Wan 2.1 T2V 14B): then all are named.
//!
//! Where the network is known, [`open`] holds the files against it before a tensor is read.

use std::collections::BTreeMap;
use std::fmt;

use crate::clip::ClipVisionConfig;
use crate::config::WanConfig;
use crate::original_names::Layout;
use crate::umt5::Umt5Config;
use crate::vae::VaeConfig;
use crate::weights::Weights;

mod expected;
mod fit;
mod harmless;
mod known;

use expected::Expected;
pub use fit::{Misfit, check, open};
pub use known::{Known, known};

/// Share of the tensors that have to agree before a file is called a published network.
const AGREEMENT: f64 = 0.5;

/// A network and its shape.
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

/// What was found out about a set of weights.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// Whose names the files have.
    pub layout: Layout,
    /// The network; nothing where the tensors are of none that is known here.
    pub network: Option<Network>,
    /// Published networks with these tensors, more than one where they cannot be told apart, and
    /// none for a network of another size.
    pub candidates: Vec<Known>,
    /// What the tensors take up, by number format in the file's spelling (`F32`, `BF16`).
    pub dtypes: BTreeMap<String, Size>,
    /// Where the files differ from `network`, by name of the tensor.
    pub problems: Vec<Problem>,
}

/// How much of something there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Tensors.
    pub tensors: usize,
    /// Numbers in them.
    pub parameters: usize,
    /// Bytes in the file.
    pub bytes: usize,
}

/// A tensor that is not as expected. Names are those the loaders ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The network has it, the files do not.
    Missing {
        /// Its name.
        name: String,
        /// Its shape in the network.
        expected: Vec<usize>,
    },
    /// The files have it, the network does not.
    Unexpected {
        /// Its name in the file.
        name: String,
        /// Its shape.
        found: Vec<usize>,
    },
    /// Both have it, in different shapes.
    WrongShape {
        /// Its name.
        name: String,
        /// Its shape in the network.
        expected: Vec<usize>,
        /// Its shape in the file.
        found: Vec<usize>,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { name, expected } => {
                write!(f, "tensor `{name}` is missing, expected with shape {expected:?}")
            }
            Self::Unexpected { name, found } => {
                write!(f, "tensor `{name}` of shape {found:?} is unexpected")
            }
            Self::WrongShape { name, expected, found } => {
                write!(f, "tensor `{name}` has shape {found:?}, expected {expected:?}")
            }
        }
    }
}

impl Inspection {
    /// Inspects open files.
    pub fn of(weights: &Weights) -> Self {
        let (network, candidates) = recognise(weights);
        let problems = network.as_ref().map_or(Vec::new(), |network| network.problems(weights));
        let layout = weights.layout();
        Self { layout, network, candidates, dtypes: sizes(weights), problems }
    }

    /// Holds open files against a network that is known from elsewhere: a config beside them.
    pub fn against(network: Network, weights: &Weights) -> Self {
        let candidates = known().into_iter().filter(|known| known.network == network).collect();
        let problems = network.problems(weights);
        let (layout, dtypes) = (weights.layout(), sizes(weights));
        Self { layout, network: Some(network), candidates, dtypes, problems }
    }

    /// All tensors of the files.
    pub fn size(&self) -> Size {
        let mut all = Size::default();
        for Size { tensors, parameters, bytes } in self.dtypes.values() {
            all.tensors += tensors;
            all.parameters += parameters;
            all.bytes += bytes;
        }
        all
    }
}

/// The nearest published networks, all equally near, or another one by its shapes.
fn recognise(weights: &Weights) -> (Option<Network>, Vec<Known>) {
    let (mut nearest, mut best) = (Vec::new(), AGREEMENT);
    for known in known() {
        let agreement = known.network.agreement(weights);
        if agreement > best {
            (nearest, best) = (Vec::new(), agreement);
        }
        if agreement == best {
            nearest.push(known);
        }
    }
    match nearest.first() {
        Some(first) => (Some(first.network.clone()), nearest),
        None => (known::infer(weights), nearest),
    }
}

fn sizes(weights: &Weights) -> BTreeMap<String, Size> {
    let mut dtypes = BTreeMap::<String, Size>::new();
    for name in weights.names() {
        let size = dtypes.entry(weights.dtype(name).unwrap_or_default()).or_default();
        size.tensors += 1;
        size.parameters += weights.shape(name).map_or(0, |shape| shape.iter().product());
        size.bytes += weights.bytes(name).unwrap_or(0);
    }
    dtypes
}

impl Network {
    /// What the network is, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Transformer(_) => "transformer",
            Self::Vae(_) => "VAE",
            Self::TextEncoder(_) => "text encoder",
            Self::ImageEncoder(_) => "image encoder",
        }
    }

    /// Name and shape of every tensor that its loader asks for.
    pub fn tensors(&self) -> BTreeMap<String, Vec<usize>> {
        let Expected(tensors) = self.expected_under("shared.weight");
        tensors
    }

    fn expected(&self, weights: &Weights) -> Expected {
        let own = "encoder.embed_tokens.weight";
        self.expected_under(if weights.shape(own).is_some() { own } else { "shared.weight" })
    }

    /// `table` is what the files call a text encoder's embedding.
    fn expected_under(&self, table: &str) -> Expected {
        match self {
            Self::Transformer(config) => expected::transformer(config),
            Self::Vae(config) => expected::vae(config),
            Self::TextEncoder(config) => expected::text_encoder(config, table),
            Self::ImageEncoder(config) => expected::image_encoder(config),
        }
    }

    /// Tensors that network and files share, of all that either has.
    fn agreement(&self, weights: &Weights) -> f64 {
        let Expected(expected) = self.expected(weights);
        let (mut shared, mut all) = (0, expected.len());
        for name in weights.names() {
            match expected.get(name) {
                Some(shape) if Some(shape.as_slice()) == weights.shape(name) => shared += 1,
                Some(_) => {}
                None if self.passes_over(name) => {}
                None => all += 1,
            }
        }
        shared as f64 / all as f64
    }

    fn problems(&self, weights: &Weights) -> Vec<Problem> {
        let Expected(expected) = self.expected(weights);
        let mut problems = Vec::new();
        for (name, expected) in &expected {
            let (name, expected) = (name.clone(), expected.clone());
            match weights.shape(&name) {
                None => problems.push(Problem::Missing { name, expected }),
                Some(found) if found != expected => {
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

#[cfg(test)]
mod tests;
