//! How the numbers of a tensor are stored.

mod blocks_256;
mod blocks_32;
mod finite;
mod floats;
#[cfg(test)]
mod tests;
mod widen;

/// A number format. Quantised formats store blocks of 32 or 256 consecutive numbers of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are those of safetensors and of ggml")]
pub enum Encoding {
    F64,
    F32,
    F16,
    BF16,
    /// 1-4-3 bits, bias 7, no infinity, largest 448.
    F8E4M3,
    /// The high byte of an f16.
    F8E5M2,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Iq4Nl,
    Iq4Xs,
    /// A format whose numbers are not read, with the bits of one of them: a file may have it where
    /// nobody looks.
    Other(usize),
}

impl Encoding {
    /// All formats that store blocks.
    pub const BLOCKS: [Self; 12] = [
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Iq4Nl,
        Self::Iq4Xs,
    ];

    /// Numbers of a block: 1 where every number stands for itself.
    pub const fn block(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::Iq4Nl => 32,
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K | Self::Iq4Xs => 256,
            _ => 1,
        }
    }

    /// Bits of a block.
    pub const fn block_bits(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 64,
            Self::F32 | Self::I32 => 32,
            Self::F16 | Self::BF16 | Self::I16 => 16,
            Self::F8E4M3 | Self::F8E5M2 | Self::I8 | Self::U8 | Self::Bool => 8,
            Self::Q4_0 | Self::Iq4Nl => 18 * 8,
            Self::Q4_1 => 20 * 8,
            Self::Q5_0 => 22 * 8,
            Self::Q5_1 => 24 * 8,
            Self::Q8_0 => 34 * 8,
            Self::Q2K => 84 * 8,
            Self::Q3K => 110 * 8,
            Self::Q4K => 144 * 8,
            Self::Q5K => 176 * 8,
            Self::Q6K => 210 * 8,
            Self::Iq4Xs => 136 * 8,
            Self::Other(bits) => bits,
        }
    }

    /// Bytes of so many numbers; none where they are no whole blocks or bytes, or too many to count.
    pub fn bytes(self, numbers: usize) -> Option<u64> {
        if !numbers.is_multiple_of(self.block()) {
            return None;
        }
        let bits = (numbers / self.block()).checked_mul(self.block_bits())?;
        bits.is_multiple_of(8).then_some(bits as u64 / 8)
    }

    /// Its name as files spell it: `F8_E4M3` as in safetensors, `Q4_K` as in GGUF.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::F8E4M3 => "F8_E4M3",
            Self::F8E5M2 => "F8_E5M2",
            Self::I64 => "I64",
            Self::I32 => "I32",
            Self::I16 => "I16",
            Self::I8 => "I8",
            Self::U8 => "U8",
            Self::Bool => "BOOL",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q2K => "Q2_K",
            Self::Q3K => "Q3_K",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
            Self::Iq4Nl => "IQ4_NL",
            Self::Iq4Xs => "IQ4_XS",
            Self::Other(_) => "another format",
        }
    }

    /// Whether each number stands for itself and is a float of 16 bits or more.
    pub const fn is_wide_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::BF16)
    }

    /// Whether it is a float of 8 bits.
    pub const fn is_8_bit_float(self) -> bool {
        matches!(self, Self::F8E4M3 | Self::F8E5M2)
    }

    /// Whether numbers are stored in blocks.
    pub const fn is_quantised(self) -> bool {
        self.block() > 1
    }
}
