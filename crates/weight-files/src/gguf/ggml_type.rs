//! ggml's tensor types: their ids in a file, their names.

use crate::encoding::Encoding;

/// The types that are read, by id. Ids and sizes are those of ggml (`ggml.h` of llama.cpp).
const READ: [(u32, Encoding); 15] = [
    (0, Encoding::F32),
    (1, Encoding::F16),
    (2, Encoding::Q4_0),
    (3, Encoding::Q4_1),
    (6, Encoding::Q5_0),
    (7, Encoding::Q5_1),
    (8, Encoding::Q8_0),
    (10, Encoding::Q2K),
    (11, Encoding::Q3K),
    (12, Encoding::Q4K),
    (13, Encoding::Q5K),
    (14, Encoding::Q6K),
    (20, Encoding::Iq4Nl),
    (23, Encoding::Iq4Xs),
    (30, Encoding::BF16),
];

/// How a tensor of type `id` is stored, if it is read.
pub(super) fn encoding(id: u32) -> Option<Encoding> {
    READ.iter().find(|(read, _)| *read == id).map(|(_, encoding)| *encoding)
}

/// The id of an encoding, if GGUF files hold it.
pub(crate) fn id(encoding: Encoding) -> Option<u32> {
    READ.iter().find(|(_, read)| *read == encoding).map(|(id, _)| *id)
}

/// What messages call a type that is not read.
pub(super) fn name(id: u32) -> &'static str {
    match id {
        4 => "Q4_2",
        5 => "Q4_3",
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        21 => "IQ3_S",
        22 => "IQ2_S",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        40 => "NVFP4",
        _ => "unknown",
    }
}

/// The names of the types that are read.
pub(super) fn names_read() -> String {
    READ.map(|(_, encoding)| encoding.name()).join(", ")
}
