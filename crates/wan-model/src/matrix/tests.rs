use super::*;
use crate::testing::{One, matrix, noise, numbers};
use crate::weights::{Encoding, Quantised, Scaled};
use candle_core::Device;

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

/// `x W^T` for `x [rows, COLUMNS]`.
fn product(matrix: &Matrix, x: &[f32]) -> Vec<f32> {
    let (rows, outputs) = (x.len() / COLUMNS, matrix.shape().0);
    let mut out = vec![0f32; rows * outputs];
    let x = wan_kernels::Matrix::dense(x, [rows, COLUMNS]);
    let to = MatrixMut::dense(out.as_mut_slice(), [rows, outputs]);
    matrix.multiply(x, &Epilogue::default(), to).unwrap();
    out
}

#[test]
fn a_product_at_rest_is_that_of_the_widened_weight_to_the_bit() {
    let x = numbers(&noise(2, &[3, COLUMNS]));
    for weight in in_all_formats() {
        for compute in [DType::F32, DType::BF16, DType::F16] {
            // Rounded once, as operands are; and held in the format that is packed.
            let read = if compute == DType::BF16 { DType::BF16 } else { DType::F32 };
            let wide = weight.to_tensor(compute, &Device::Cpu).unwrap().to_dtype(read).unwrap();
            let [found, expected] = [
                product(&matrix(weight.clone(), compute), &x),
                product(&matrix(Weight::Dense(wide), read), &x),
            ];
            assert!(expected.iter().any(|number| number.abs() > 1e-3));
            assert_eq!(found, expected, "{:?} {compute:?}", weight.shape());
        }
    }
}

#[test]
fn a_table_at_rest_has_the_rows_of_the_widened_weight() {
    for weight in in_all_formats() {
        let source = One(weight.clone());
        let table = Scope::new(source, DType::F32, &Device::Cpu);
        let table = table.table((ROWS, COLUMNS), "weight").unwrap();
        let picked = [4099, 0, 4095, 4096];
        let expected = weight.to_tensor(DType::F32, &Device::Cpu).unwrap();
        let expected = expected.index_select(&Tensor::new(&picked, &Device::Cpu).unwrap(), 0);
        assert_eq!(numbers(&table.rows(&picked).unwrap()), numbers(&expected.unwrap()));
    }
}

#[test]
fn a_matrix_holds_what_its_file_does_and_no_more_than_its_products_need() {
    for weight in in_all_formats() {
        let stored = weight.bytes();
        for compute in [DType::F32, DType::BF16] {
            let scope = Scope::new(One(weight.clone()), compute, &Device::Cpu);
            let there = scope.at_rest((ROWS, COLUMNS), "weight").unwrap();
            let matrix = scope.matrix((ROWS, COLUMNS), "weight").unwrap();
            let held = matrix.held.get().unwrap().bytes();
            let computed = (ROWS * COLUMNS * compute.size_in_bytes()) as u64;
            // Packed rows come in panels of 32.
            let panels = (28 * COLUMNS * compute.size_in_bytes()) as u64;
            assert!(held <= stored || held <= stored.min(computed) + panels, "{held}, {stored}");
            assert_eq!((there.bytes(compute), scope.handed_out()), (held, held));
        }
    }
}

/// Blocks of 32 in rows of 48.
#[test]
fn blocks_across_the_ends_of_rows_are_widened_at_once() {
    let weight = weight(Encoding::Q8_0, [4, 48]);
    let Kept::AtRest(kept) = &*matrix(weight.clone(), DType::BF16).held.get().unwrap() else {
        panic!("a matrix that is widened")
    };
    assert_eq!(kept.bytes(), 4 * 48 * 2);
    let wide = weight.to_tensor(DType::BF16, &Device::Cpu).unwrap();
    let kept = kept.to_tensor(DType::F32, &Device::Cpu).unwrap();
    assert_eq!(numbers(&kept), numbers(&wide.to_dtype(DType::F32).unwrap()));
}
