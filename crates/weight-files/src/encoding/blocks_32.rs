//! ggml's blocks of 32 numbers: one or two f16 scales and the numbers' integers.
//!
//! The layouts are those of ggml (`ggml-common.h`, `ggml-quants.c` of llama.cpp). The products are
//! in f32 in the order of the `gguf` package for Python (0.19.0, `gguf/quants.py`), which gives the
//! same bits. Byte `j` of 16 holds number `j` in its low and number `j + 16` in its high nibble.

use super::floats::f16;

/// Numbers of a block.
pub(super) const NUMBERS: usize = 32;

/// What the 16 values of a nibble stand for in IQ4_NL and IQ4_XS.
pub(super) const IQ4: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0,
    89.0, 113.0,
];

type Numbers = [f32; NUMBERS];

/// `d * (q - 8)`.
pub(super) fn q4_0(block: &[u8; 18], numbers: &mut Numbers) {
    let d = f16(&[block[0], block[1]]);
    let (low, high) = numbers.split_at_mut(16);
    for ((byte, low), high) in block[2..].iter().zip(low).zip(high) {
        *low = d * (f32::from(byte & 15) - 8.0);
        *high = d * (f32::from(byte >> 4) - 8.0);
    }
}

/// `d * q + m`.
pub(super) fn q4_1(block: &[u8; 20], numbers: &mut Numbers) {
    let (d, m) = (f16(&[block[0], block[1]]), f16(&[block[2], block[3]]));
    let (low, high) = numbers.split_at_mut(16);
    for ((byte, low), high) in block[4..].iter().zip(low).zip(high) {
        *low = d * f32::from(byte & 15) + m;
        *high = d * f32::from(byte >> 4) + m;
    }
}

/// `d * (q - 16)`, with the fifth bits in the 32 bits before the nibbles.
pub(super) fn q5_0(block: &[u8; 22], numbers: &mut Numbers) {
    let (d, rest) = block.split_at(2);
    let d = f16(&[d[0], d[1]]);
    for (q, number) in five_bits(rest).into_iter().zip(numbers) {
        *number = d * (f32::from(q) - 16.0);
    }
}

/// `d * q + m`, with the fifth bits as in [`q5_0`].
pub(super) fn q5_1(block: &[u8; 24], numbers: &mut Numbers) {
    let (scales, rest) = block.split_at(4);
    let (d, m) = (f16(&[scales[0], scales[1]]), f16(&[scales[2], scales[3]]));
    for (q, number) in five_bits(rest).into_iter().zip(numbers) {
        *number = d * f32::from(q) + m;
    }
}

/// `d * q`, with `q` as 32 signed bytes.
pub(super) fn q8_0(block: &[u8; 34], numbers: &mut Numbers) {
    let d = f16(&[block[0], block[1]]);
    for (byte, number) in block[2..].iter().zip(numbers) {
        *number = d * f32::from(byte.cast_signed());
    }
}

/// `d * IQ4[q]`.
pub(super) fn iq4_nl(block: &[u8; 18], numbers: &mut Numbers) {
    let d = f16(&[block[0], block[1]]);
    let (low, high) = numbers.split_at_mut(16);
    for ((byte, low), high) in block[2..].iter().zip(low).zip(high) {
        *low = d * IQ4[usize::from(byte & 15)];
        *high = d * IQ4[usize::from(byte >> 4)];
    }
}

/// Integers of five bits: 32 fifth bits, and the nibbles behind them.
fn five_bits(bytes: &[u8]) -> [u8; NUMBERS] {
    // Shifts by a variable are slow where vector registers have none.
    const BIT: [u8; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
    let (fifth, nibbles) = bytes.split_at(4);
    let mut integers = [0; NUMBERS];
    for (integers, fifth) in integers.chunks_exact_mut(8).zip(fifth) {
        for (integer, bit) in integers.iter_mut().zip(BIT) {
            *integer = if fifth & bit == 0 { 0 } else { 16 };
        }
    }
    let (low, high) = integers.split_at_mut(16);
    for ((byte, low), high) in nibbles.iter().zip(low).zip(high) {
        *low |= byte & 15;
        *high |= byte >> 4;
    }
    integers
}
