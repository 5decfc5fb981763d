use super::*;
use crate::testing::{noise, numbers};
use crate::weights::{AtRest, Encoding, Quantised, Scaled, Source};

/// More than one panel, whose last one is short: a panel has 4096 rows of this width.
const COLUMNS: usize = 1024;
const ROWS: usize = 4096 + 100;

/// A weight in this format. No byte is above 63, so every number and scale is finite.
fn weight(encoding: Encoding, [rows, columns]: [usize; 2]) -> Weight {
    let (mut state, shape) = (1u32, vec![rows, columns]);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8 & 0x3f
    };
    let count = usize::try_from(encoding.bytes(rows * columns).unwrap()).unwrap();
    let bytes: Vec<u8> = (0..count).map(|_| next()).collect();
    if encoding.is_quantised() {
        return Weight::Quantised(Quantised { bytes, encoding, shape });
    }
    let factors = (0..rows).map(|row| 0.5 + row as f32 / rows as f32).collect();
    Weight::Scaled(Scaled { bytes, encoding, shape, factors })
}

const NARROW: [Encoding; 15] = [
    Encoding::F8E4M3,
    Encoding::F8E5M2,
    Encoding::I8,
    Encoding::Q4_0,
    Encoding::Q4_1,
    Encoding::Q5_0,
    Encoding::Q5_1,
    Encoding::Q8_0,
    Encoding::Q2K,
    Encoding::Q3K,
    Encoding::Q4K,
    Encoding::Q5K,
    Encoding::Q6K,
    Encoding::Iq4Nl,
    Encoding::Iq4Xs,
];

/// The weight in the formats of files.
fn in_all_formats() -> Vec<Weight> {
    let mut all: Vec<_> = NARROW.map(|encoding| weight(encoding, [ROWS, COLUMNS])).into();
    let dense = noise(1, &[ROWS, COLUMNS]);
    let halves = [DType::F32, DType::BF16, DType::F16].map(|dtype| dense.to_dtype(dtype).unwrap());
    all.extend(halves.map(Weight::Dense));
    all
}

#[test]
fn a_product_at_rest_is_that_of_the_widened_weight_to_the_bit() {
    let x = noise(2, &[3, COLUMNS]);
    for weight in in_all_formats() {
        for compute in [DType::F32, DType::BF16, DType::F16] {
            let wide = weight.to_tensor(compute, &Device::Cpu).unwrap();
            let wide = Weight::Dense(wide.to_dtype(DType::F32).unwrap());
            let at_rest = Matrix::new(weight.clone(), compute, &Device::Cpu).unwrap();
            let widened = Matrix::new(wide, DType::F32, &Device::Cpu).unwrap();
            let x = x.to_dtype(compute).unwrap().to_dtype(DType::F32).unwrap();
            let [found, expected] =
                [&at_rest, &widened].map(|matrix| numbers(&matrix.product(&x).unwrap()));
            assert!(expected.iter().any(|number| number.abs() > 1e-3));
            assert_eq!(found, expected, "{:?} {compute:?}", weight.shape());
            assert_eq!(numbers(&at_rest.wide().unwrap()), numbers(&widened.wide().unwrap()));
            let picked = [4099, 0, 4095, 4096];
            let [found, expected] =
                [&at_rest, &widened].map(|matrix| numbers(&matrix.rows(&picked).unwrap()));
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn a_matrix_holds_what_its_file_does_and_no_more_than_its_products_need() {
    for weight in in_all_formats() {
        let stored = weight.bytes();
        for compute in [DType::F32, DType::BF16] {
            let matrix = Matrix::new(weight.clone(), compute, &Device::Cpu).unwrap();
            let computed = (ROWS * COLUMNS * compute.size_in_bytes()) as u64;
            assert!(matrix.bytes() == stored.min(computed) || matrix.bytes() == stored);
            assert!(matrix.bytes() <= stored);
            if let Weight::Dense(tensor) = &weight {
                let source = std::collections::HashMap::from([("w".to_owned(), tensor.clone())]);
                let told: AtRest = source.at_rest("w", &[ROWS, COLUMNS]).unwrap();
                assert_eq!(told.bytes(compute), matrix.bytes());
            }
        }
    }
}

/// Blocks of 32 in rows of 48.
#[test]
fn blocks_across_the_ends_of_rows_are_widened_at_once() {
    let weight = weight(Encoding::Q8_0, [4, 48]);
    let matrix = Matrix::new(weight.clone(), DType::BF16, &Device::Cpu).unwrap();
    assert_eq!(matrix.bytes(), 4 * 48 * 2);
    let wide = weight.to_tensor(DType::BF16, &Device::Cpu).unwrap();
    assert_eq!(numbers(&matrix.wide().unwrap()), numbers(&wide.to_dtype(DType::F32).unwrap()));
}
