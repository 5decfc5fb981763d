//! What weights are: the network, the published models with these tensors, and the differences.

use std::collections::BTreeMap;

use super::known::{COUNTED, Known, infer, known};
use super::network::Network;
use crate::misfit::Problem;
use crate::original_names::Layout;
use crate::weights::Weights;

/// Share of the tensors that must agree for a file to count as a published network.
const AGREEMENT: f64 = 0.5;

/// The result of inspecting a set of weights.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The naming scheme of the files.
    pub layout: Layout,
    /// The network; `None` if the tensors are those of no known kind of network.
    pub network: Option<Network>,
    /// Published networks with these tensors: several if their tensors are equal, none for a
    /// network of another size.
    pub candidates: Vec<Known>,
    /// Size of the tensors by number format, in the file's spelling (`F32`, `BF16`).
    pub dtypes: BTreeMap<String, Size>,
    /// The differences between the files and `network`, by name of the tensor.
    pub problems: Vec<Problem>,
}

/// Size of a set of tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Number of tensors.
    pub tensors: usize,
    /// Number of elements.
    pub parameters: usize,
    /// Bytes in the files.
    pub bytes: u64,
}

impl Inspection {
    /// Inspects open files.
    pub fn of(weights: &Weights) -> Self {
        let (network, candidates) = recognise(weights);
        let problems = network.as_ref().map_or(Vec::new(), |network| network.problems(weights));
        let layout = weights.layout();
        Self { layout, network, candidates, dtypes: sizes(weights), problems }
    }

    /// Compares open files with a network that is known from a config.
    pub fn against(network: Network, weights: &Weights) -> Self {
        let candidates = known().into_iter().filter(|known| known.network == network).collect();
        let problems = network.problems(weights);
        let (layout, dtypes) = (weights.layout(), sizes(weights));
        Self { layout, network: Some(network), candidates, dtypes, problems }
    }

    /// Size of all tensors.
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

/// The nearest published networks (several if equally near), or a network derived from the shapes.
fn recognise(weights: &Weights) -> (Option<Network>, Vec<Known>) {
    let (mut nearest, mut best) = (Vec::new(), AGREEMENT);
    let found = weights.names().len();
    for (known, count) in COUNTED.iter() {
        // Whatever the names, no more can agree.
        if (found.min(*count) as f64 / *count as f64) < best {
            continue;
        }
        let agreement = known.network.agreement(weights);
        if agreement > best {
            (nearest, best) = (Vec::new(), agreement);
        }
        if agreement == best {
            nearest.push(known.clone());
        }
    }
    match nearest.first() {
        Some(first) => (Some(first.network.clone()), nearest),
        None => (infer(weights), nearest),
    }
}

fn sizes(weights: &Weights) -> BTreeMap<String, Size> {
    let mut dtypes = BTreeMap::<String, Size>::new();
    for name in weights.names() {
        let size = dtypes.entry(format_of(weights, name)).or_default();
        size.tensors += 1;
        size.parameters += weights.shape(name).map_or(0, |shape| shape.iter().product());
        size.bytes += weights.bytes(name).unwrap_or(0);
    }
    dtypes
}

/// Number format of a tensor, in its files' spelling.
fn format_of(weights: &Weights, name: &str) -> String {
    weights.encoding(name).map_or_else(String::new, |encoding| encoding.name().to_owned())
}
