//! The number formats that can be asked for.

use std::fmt;
use std::str::FromStr;

use wan_weight_files::Encoding;

use super::Container;

/// What numbers are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrittenNumbers {
    /// Floats of 16 bits and more as the file has them, others in bf16.
    Own,
    /// All in one float format.
    Float(Encoding),
    /// Matrices in e4m3fn with a factor each, the rest in bf16.
    F8,
    /// Matrices in blocks; the rest in f32 and bf16.
    Blocks(Encoding),
}

/// Formats by the names that files have.
const NAMES: [(&str, WrittenNumbers); 14] = [
    ("f32", WrittenNumbers::Float(Encoding::F32)),
    ("bf16", WrittenNumbers::Float(Encoding::BF16)),
    ("f16", WrittenNumbers::Float(Encoding::F16)),
    ("fp8", WrittenNumbers::F8),
    ("Q8_0", WrittenNumbers::Blocks(Encoding::Q8_0)),
    ("Q6_K", WrittenNumbers::Blocks(Encoding::Q6K)),
    ("Q5_K", WrittenNumbers::Blocks(Encoding::Q5K)),
    ("Q5_1", WrittenNumbers::Blocks(Encoding::Q5_1)),
    ("Q5_0", WrittenNumbers::Blocks(Encoding::Q5_0)),
    ("Q4_K", WrittenNumbers::Blocks(Encoding::Q4K)),
    ("Q4_1", WrittenNumbers::Blocks(Encoding::Q4_1)),
    ("Q4_0", WrittenNumbers::Blocks(Encoding::Q4_0)),
    ("Q3_K", WrittenNumbers::Blocks(Encoding::Q3K)),
    ("Q2_K", WrittenNumbers::Blocks(Encoding::Q2K)),
];

impl WrittenNumbers {
    /// The names that can be given.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// Whether a container can hold them.
    pub(super) fn are_held_by(self, container: Container) -> bool {
        match (self, container) {
            (Self::Blocks(_), Container::Safetensors) | (Self::F8, Container::Gguf) => false,
            (Self::Own | Self::Float(_) | Self::F8 | Self::Blocks(_), _) => true,
        }
    }
}

impl fmt::Display for WrittenNumbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, numbers)| numbers == self);
        f.write_str(name.map_or("the file's own numbers", |(name, _)| name))
    }
}

impl FromStr for WrittenNumbers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        found.map(|(_, numbers)| *numbers).ok_or_else(|| {
            let names: Vec<_> = Self::names().collect();
            format!("{text:?} is no format; expected one of {}", names.join(", "))
        })
    }
}
