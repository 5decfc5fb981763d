//! ggml's blocks of 256 numbers: f16 scales for all of them, small integers that scale groups of 16
//! or 32, and the numbers' integers.
//!
//! Sources as for blocks of 32. A block is two halves of 128 numbers; where two bits of a number
//! are stored, a byte holds them for four numbers of a half that are 32 apart.

use super::blocks_32::IQ4;
use super::floats::f16;

/// Numbers of a block.
pub(super) const NUMBERS: usize = 256;

type Numbers = [f32; NUMBERS];

/// `(d * s) * v - dm * m`: a nibble of scale and one of minimum for each 16 numbers, two bits a
/// number.
pub(super) fn q2_k(block: &[u8; 84], numbers: &mut Numbers) {
    let (scales, rest) = block.split_at(16);
    let (bits, rest) = rest.split_at(64);
    let (d, dm) = (f16(&[rest[0], rest[1]]), f16(&[rest[2], rest[3]]));
    for (g, (group, scale)) in numbers.chunks_exact_mut(16).zip(scales).enumerate() {
        let (scale, minimum) = (d * f32::from(scale & 15), dm * f32::from(scale >> 4));
        for (byte, number) in pairs_of(bits, g).iter().zip(group) {
            *number = scale * f32::from(byte >> shift_of(g) & 3) - minimum;
        }
    }
}

/// `(d * (s - 32)) * (v - 4)`: six bits of scale for each 16 numbers, three bits a number, of which
/// the third is before the others.
pub(super) fn q3_k(block: &[u8; 110], numbers: &mut Numbers) {
    let (thirds, rest) = block.split_at(32);
    let (bits, rest) = rest.split_at(64);
    let (scales, d) = rest.split_at(12);
    let d = f16(&[d[0], d[1]]);
    for (g, group) in numbers.chunks_exact_mut(16).enumerate() {
        let low = scales[g % 8] >> (4 * (g / 8)) & 15;
        let high = scales[8 + g % 4] >> (2 * (g / 4)) & 3;
        let scale = d * (f32::from(low | high << 4) - 32.0);
        let thirds = &thirds[g % 2 * 16..][..16];
        for ((byte, third), number) in pairs_of(bits, g).iter().zip(thirds).zip(group) {
            let value = byte >> shift_of(g) & 3 | (third >> (g / 2) & 1) << 2;
            *number = scale * (f32::from(value) - 4.0);
        }
    }
}

/// `(d * s) * v - dm * m`: six bits of scale and of minimum for each 32 numbers, a nibble a number.
pub(super) fn q4_k(block: &[u8; 144], numbers: &mut Numbers) {
    let (d, dm) = (f16(&[block[0], block[1]]), f16(&[block[2], block[3]]));
    let (scales, nibbles) = block[4..].split_at(12);
    for (g, group) in numbers.chunks_exact_mut(32).enumerate() {
        let (scale, minimum) = scale_and_minimum(scales, g);
        let (scale, minimum) = (d * f32::from(scale), dm * f32::from(minimum));
        for (byte, number) in nibbles_of(nibbles, g).iter().zip(group) {
            *number = scale * f32::from(byte >> (g % 2 * 4) & 15) - minimum;
        }
    }
}

/// As [`q4_k`], with the fifth bits before the nibbles: bit `g` of a byte is that of group `g`.
pub(super) fn q5_k(block: &[u8; 176], numbers: &mut Numbers) {
    let (d, dm) = (f16(&[block[0], block[1]]), f16(&[block[2], block[3]]));
    let (scales, rest) = block[4..].split_at(12);
    let (fifths, nibbles) = rest.split_at(32);
    for (g, group) in numbers.chunks_exact_mut(32).enumerate() {
        let (scale, minimum) = scale_and_minimum(scales, g);
        let (scale, minimum) = (d * f32::from(scale), dm * f32::from(minimum));
        for ((byte, fifth), number) in nibbles_of(nibbles, g).iter().zip(fifths).zip(group) {
            let value = byte >> (g % 2 * 4) & 15 | (fifth >> g & 1) << 4;
            *number = scale * f32::from(value) - minimum;
        }
    }
}

/// `(d * s) * (v - 32)`: a signed byte of scale for each 16 numbers, six bits a number, `d` last.
pub(super) fn q6_k(block: &[u8; 210], numbers: &mut Numbers) {
    let (nibbles, rest) = block.split_at(128);
    let (pairs, rest) = rest.split_at(64);
    let (scales, d) = rest.split_at(16);
    let d = f16(&[d[0], d[1]]);
    for (g, (group, scale)) in numbers.chunks_exact_mut(16).zip(scales).enumerate() {
        let scale = d * f32::from(scale.cast_signed());
        let (half, quarter) = (g / 8, g % 8 / 2);
        let nibbles = &nibbles[half * 64 + quarter % 2 * 32 + g % 2 * 16..][..16];
        for ((byte, pair), number) in nibbles.iter().zip(pairs_of(pairs, g)).zip(group) {
            let value = byte >> (quarter / 2 * 4) & 15 | (pair >> shift_of(g) & 3) << 4;
            *number = scale * (f32::from(value) - 32.0);
        }
    }
}

/// `(d * (s - 32)) * IQ4[q]`: six bits of scale for each 32 numbers, a nibble a number.
pub(super) fn iq4_xs(block: &[u8; 136], numbers: &mut Numbers) {
    let d = f16(&[block[0], block[1]]);
    let high = u16::from_le_bytes([block[2], block[3]]);
    let (scales, nibbles) = block[4..].split_at(4);
    for (g, (group, nibbles)) in
        numbers.chunks_exact_mut(32).zip(nibbles.chunks_exact(16)).enumerate()
    {
        let low = u16::from(scales[g / 2] >> (g % 2 * 4) & 15);
        let scale = d * (f32::from(low | (high >> (2 * g) & 3) << 4) - 32.0);
        let (first, second) = group.split_at_mut(16);
        for ((byte, first), second) in nibbles.iter().zip(first).zip(second) {
            *first = scale * IQ4[usize::from(byte & 15)];
            *second = scale * IQ4[usize::from(byte >> 4)];
        }
    }
}

/// The 16 bytes with two bits of each number of the `g`th 16 numbers.
fn pairs_of(bytes: &[u8], g: usize) -> &[u8] {
    &bytes[g / 8 * 32 + g % 2 * 16..][..16]
}

/// Where in these bytes the two bits are.
fn shift_of(g: usize) -> usize {
    g % 8 / 2 * 2
}

/// The 32 bytes with a nibble of each number of the `g`th 32 numbers.
fn nibbles_of(bytes: &[u8], g: usize) -> &[u8] {
    &bytes[g / 2 * 32..][..32]
}

/// Scale and minimum of the `g`th 32 numbers, from the 12 bytes that hold eight of both.
fn scale_and_minimum(bytes: &[u8], g: usize) -> (u8, u8) {
    if g < 4 {
        return (bytes[g] & 63, bytes[g + 4] & 63);
    }
    let both = bytes[g + 4];
    (both & 15 | bytes[g - 4] >> 6 << 4, both >> 4 | bytes[g] >> 6 << 4)
}
