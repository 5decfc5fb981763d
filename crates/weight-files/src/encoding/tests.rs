//! All blocks against the `gguf` package, all 8-bit and 16-bit floats against their definitions.

use proptest::prelude::*;
use safetensors::SafeTensors;

use super::Encoding;

/// Written by `encodings.py`, which is beside it.
const GOLDEN: &[u8] = include_bytes!("../../tests/golden/encodings.safetensors");

const SINGLES: [Encoding; 11] = [
    Encoding::F64,
    Encoding::F32,
    Encoding::F16,
    Encoding::BF16,
    Encoding::F8E4M3,
    Encoding::F8E5M2,
    Encoding::I64,
    Encoding::I32,
    Encoding::I16,
    Encoding::I8,
    Encoding::U8,
];

fn widened(encoding: Encoding, bytes: &[u8], count: usize) -> Vec<f32> {
    let mut numbers = vec![0.5; count];
    assert!(encoding.widen(bytes, &mut numbers), "{encoding:?}");
    numbers
}

fn same(found: f32, expected: f32) -> bool {
    found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan()
}

#[test]
fn blocks_are_those_of_the_gguf_package() {
    let golden = SafeTensors::deserialize(GOLDEN).unwrap();
    for encoding in Encoding::BLOCKS {
        let name = encoding.name();
        let bytes = golden.tensor(&format!("{name}.bytes")).unwrap();
        let expected = golden.tensor(&format!("{name}.numbers")).unwrap();
        let expected: Vec<f32> =
            expected.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        assert!(expected.iter().filter(|x| x.is_finite()).count() > 700, "{name}");
        let found = widened(encoding, bytes.data(), expected.len());
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!(same(*found, *expected), "{name}, number {i}: {found}, {expected} expected");
        }
        let not_finite = expected.iter().position(|x| !x.is_finite());
        assert_eq!(not_finite, Some(3 * encoding.block()), "the fourth block's scale is infinite");
        assert_eq!(encoding.first_not_finite(bytes.data()), not_finite, "{name}");
    }
}

/// By the definition: sign, exponent, mantissa.
fn by_definition(bits: u32, exponent_bits: u32, mantissa_bits: u32) -> f64 {
    let sign = if bits >> (exponent_bits + mantissa_bits) & 1 == 1 { -1.0 } else { 1.0 };
    let exponent = i32::try_from(bits >> mantissa_bits & ((1 << exponent_bits) - 1)).unwrap();
    let mantissa = f64::from(bits & ((1 << mantissa_bits) - 1)) / f64::from(1 << mantissa_bits);
    let bias = (1 << (exponent_bits - 1)) - 1;
    match exponent {
        0 => sign * mantissa * 2f64.powi(1 - bias),
        _ => sign * (1.0 + mantissa) * 2f64.powi(exponent - bias),
    }
}

#[test]
fn all_e4m3_are_by_definition() {
    for bits in 0..=u8::MAX {
        let is_nan = bits & 0x7f == 0x7f;
        let expected = if is_nan { f64::NAN } else { by_definition(bits.into(), 4, 3) };
        let found = widened(Encoding::F8E4M3, &[bits], 1)[0];
        assert!(same(found, expected as f32), "{bits:#x}: {found}, {expected} expected");
    }
    assert_eq!(widened(Encoding::F8E4M3, &[0x7e, 0x01], 2), [448.0, 1.0 / 512.0]);
}

#[test]
fn all_e5m2_are_by_definition() {
    for bits in 0..=u8::MAX {
        let expected = match bits & 0x7f {
            0x7c if bits < 0x80 => f64::INFINITY,
            0x7c => f64::NEG_INFINITY,
            0x7d.. => f64::NAN,
            _ => by_definition(bits.into(), 5, 2),
        };
        let found = widened(Encoding::F8E5M2, &[bits], 1)[0];
        assert!(same(found, expected as f32), "{bits:#x}: {found}, {expected} expected");
    }
}

#[test]
fn all_floats_of_16_bits_are_those_of_the_half_crate() {
    for bits in 0..=u16::MAX {
        let found = widened(Encoding::F16, &bits.to_le_bytes(), 1)[0];
        assert!(same(found, half::f16::from_bits(bits).to_f32()), "f16 {bits:#x}: {found}");
        let found = widened(Encoding::BF16, &bits.to_le_bytes(), 1)[0];
        assert!(same(found, half::bf16::from_bits(bits).to_f32()), "bf16 {bits:#x}: {found}");
    }
}

#[test]
fn integers_and_wide_floats_are_themselves() {
    let bytes = [3.25f64.to_le_bytes(), 1e300f64.to_le_bytes()].concat();
    assert_eq!(widened(Encoding::F64, &bytes, 2), [3.25, f32::INFINITY]);
    assert_eq!(widened(Encoding::F32, &(-0.1f32).to_le_bytes(), 1), [-0.1]);
    assert_eq!(widened(Encoding::I64, &(-5i64).to_le_bytes(), 1), [-5.0]);
    assert_eq!(widened(Encoding::I32, &70_000i32.to_le_bytes(), 1), [70_000.0]);
    assert_eq!(widened(Encoding::I16, &(-300i16).to_le_bytes(), 1), [-300.0]);
    assert_eq!(widened(Encoding::I8, &[0x80, 0x7f, 0xff], 3), [-128.0, 127.0, -1.0]);
    assert_eq!(widened(Encoding::U8, &[0x80, 0xff], 2), [128.0, 255.0]);
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    for encoding in Encoding::BLOCKS.into_iter().chain(SINGLES) {
        let (block, bytes) = (encoding.block(), encoding.block_bits() / 8);
        for (bytes, numbers) in [(bytes - 1, block), (bytes + 1, block), (bytes, block + 1)] {
            let mut numbers = vec![0.5; numbers];
            assert!(!encoding.widen(&vec![0; bytes], &mut numbers), "{encoding:?}");
            assert!(numbers.iter().all(|number| *number == 0.5));
        }
        assert!(encoding.widen(&[], &mut []));
    }
    for encoding in [Encoding::Bool, Encoding::Other(8), Encoding::Other(0)] {
        assert!(!encoding.is_read() && !encoding.widen(&[0], &mut [0.0]));
        assert_eq!(encoding.first_not_finite(&[0xff]), None);
    }
}

proptest! {
    #[test]
    fn the_first_that_is_not_finite_is_found(
        which in 0..Encoding::BLOCKS.len() + SINGLES.len(),
        bytes in prop::collection::vec(any::<u8>(), 0..4000),
    ) {
        let encoding = *Encoding::BLOCKS.iter().chain(&SINGLES).nth(which).unwrap();
        let count = bytes.len() * 8 / encoding.block_bits();
        let whole = &bytes[..count * encoding.block_bits() / 8];
        let numbers = widened(encoding, whole, count * encoding.block());
        let expected = numbers.iter().position(|x| !x.is_finite());
        prop_assert_eq!(encoding.first_not_finite(&bytes), expected);
    }
}

#[test]
fn one_that_is_far_behind_is_found() {
    let mut bytes = vec![0u8; 4 * 5000];
    bytes[4 * 4321..][..4].copy_from_slice(&f32::NEG_INFINITY.to_le_bytes());
    assert_eq!(Encoding::F32.first_not_finite(&bytes), Some(4321));
}
