//! The dtypes of safetensors by their names.

use crate::encoding::Encoding;

/// Those that have an encoding, under its name.
const NAMED: [Encoding; 12] = [
    Encoding::Bool,
    Encoding::U8,
    Encoding::I8,
    Encoding::F8E4M3,
    Encoding::F8E5M2,
    Encoding::I16,
    Encoding::F16,
    Encoding::BF16,
    Encoding::I32,
    Encoding::F32,
    Encoding::I64,
    Encoding::F64,
];

/// The others (`Dtype` of the safetensors crate, 0.8), and the bits of a number.
const OTHERS: [(&str, usize); 10] = [
    ("F4", 4),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("F8_E8M0", 8),
    ("F8_E4M3FNUZ", 8),
    ("F8_E5M2FNUZ", 8),
    ("U16", 16),
    ("U32", 32),
    ("U64", 64),
    ("C64", 64),
];

/// How numbers of this dtype are stored.
pub(super) fn encoding(name: &str) -> Option<Encoding> {
    let named = NAMED.into_iter().find(|encoding| encoding.name() == name);
    let other = || OTHERS.iter().find(|(other, _)| *other == name);
    named.or_else(|| other().map(|(_, bits)| Encoding::Other(*bits)))
}

/// The name of an encoding, if safetensors files hold it.
pub(crate) fn name(encoding: Encoding) -> Option<&'static str> {
    NAMED.contains(&encoding).then(|| encoding.name())
}
