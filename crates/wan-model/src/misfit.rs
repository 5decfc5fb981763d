//! How the tensors of files differ from those of a network.

use std::fmt;

/// A tensor that is not as expected. Names are those that the loaders use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The network needs it and the files do not have it.
    Missing {
        /// Its name.
        name: String,
        /// Its shape in the network.
        expected: Vec<usize>,
    },
    /// The files have it and the network does not need it.
    Unexpected {
        /// Its name in the file.
        name: String,
        /// Its shape.
        found: Vec<usize>,
    },
    /// The shapes differ.
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

/// Number of tensors of each kind that an error names; the rest are counted.
const NAMED_MAX: usize = 3;

/// The differences between files and the network they were opened for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// The kind of network: `transformer`, `VAE`, ...
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
