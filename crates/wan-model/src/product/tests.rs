//! The product against candle's, bit by bit, and against loops where candle's is wrong.

use candle_core::{DType, Device, Tensor};

use super::*;
use crate::testing::{distance, noise, numbers};

const DTYPES: [DType; 4] = [DType::F32, DType::BF16, DType::F16, DType::F64];

/// Bits of all numbers; a half or an f32 is one f64.
fn bits(tensor: &Tensor) -> Vec<u64> {
    let wide = tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    wide.to_vec1::<f64>().unwrap().into_iter().map(f64::to_bits).collect()
}

/// Checks that the products of two tensors, in each dtype, are candle's to the bit. `view` makes
/// the factors of what was rounded to the dtype.
#[track_caller]
fn check_candles(a: &[usize], b: &[usize], view: impl Fn(Tensor, Tensor) -> (Tensor, Tensor)) {
    let (a, b) = (noise(1, a), noise(2, b));
    for dtype in DTYPES {
        let (a, b) = view(a.to_dtype(dtype).unwrap(), b.to_dtype(dtype).unwrap());
        let (ours, theirs) = (product(&a, &b).unwrap(), a.matmul(&b).unwrap());
        assert_eq!((ours.dims(), ours.dtype()), (theirs.dims(), dtype));
        assert_eq!(bits(&ours), bits(&theirs), "{dtype:?}: {a} {b}");
    }
}

/// The product of each matrix, in f64 by a loop.
fn by_loop(a: &Tensor, b: &Tensor) -> Tensor {
    let wide = |t: &Tensor| -> Vec<f64> { numbers(t).into_iter().map(f64::from).collect() };
    let (values_a, values_b) = (wide(a), wide(b));
    let (count, m, k) = a.dims3().unwrap();
    let n = b.dim(2).unwrap();
    let mut out = Vec::new();
    for (matrix, row) in (0..count).flat_map(|c| (0..m).map(move |row| (c, row))) {
        let term = |x: usize, column: usize| {
            values_a[(matrix * m + row) * k + x] * values_b[(matrix * k + x) * n + column]
        };
        out.extend((0..n).map(|column| (0..k).map(|x| term(x, column)).sum::<f64>() as f32));
    }
    Tensor::from_vec(out, (count, m, n), &Device::Cpu).unwrap()
}

#[test]
fn one_matrix_by_another() {
    // The last is large enough for more than one thread.
    for (m, k, n) in [(1, 1, 1), (1, 37, 5), (5, 37, 1), (7, 3, 19), (33, 64, 48), (150, 96, 130)] {
        check_candles(&[m, k], &[k, n], |a, b| (a, b));
    }
}

#[test]
fn stacks_of_matrices() {
    check_candles(&[3, 7, 9], &[3, 9, 4], |a, b| (a, b));
    check_candles(&[2, 3, 7, 9], &[2, 3, 9, 4], |a, b| (a, b));
    check_candles(&[1, 3, 7, 9], &[1, 3, 9, 4], |a, b| (a, b));
    check_candles(&[3, 1, 7, 9], &[3, 1, 9, 4], |a, b| (a, b));
}

#[test]
fn transposed_and_narrowed_views() {
    check_candles(&[9, 7], &[4, 9], |a, b| (a.t().unwrap(), b.t().unwrap()));
    check_candles(&[2, 3, 7, 9], &[2, 3, 4, 9], |a, b| (a, b.t().unwrap()));
    // Heads side by side, one of which is multiplied: a view that begins inside its storage.
    check_candles(&[11, 24], &[13, 24], |a, b| {
        let head = |t: Tensor| t.narrow(1, 8, 8).unwrap();
        (head(a), head(b).t().unwrap())
    });
    check_candles(&[3, 9, 8], &[3, 8, 9], |a, b| {
        (a.narrow(1, 2, 5).unwrap(), b.narrow(2, 1, 6).unwrap())
    });
}

#[test]
fn broadcast_views() {
    // One matrix for all on the right: candle takes the stack on the left as one.
    check_candles(&[3, 7, 9], &[9, 4], |a, b| (a, b.broadcast_as((3, 9, 4)).unwrap()));
    check_candles(&[2, 3, 7, 9], &[4, 9], |a, b| {
        (a, b.t().unwrap().broadcast_as((2, 3, 9, 4)).unwrap())
    });
    check_candles(&[7, 9], &[3, 9, 4], |a, b| (a.broadcast_as((3, 7, 9)).unwrap(), b));
    check_candles(&[3, 7, 1], &[9, 4], |a, b| {
        (a.broadcast_as((3, 7, 9)).unwrap(), b.broadcast_as((3, 9, 4)).unwrap())
    });
}

#[test]
fn nothing_to_multiply() {
    check_candles(&[0, 7, 9], &[0, 9, 4], |a, b| (a, b));
    check_candles(&[3, 0, 9], &[3, 9, 4], |a, b| (a, b));
    check_candles(&[3, 7, 0], &[3, 0, 4], |a, b| (a, b));
}

#[test]
fn views_that_candle_multiplies_wrongly_or_not_at_all() {
    // Transposed matrices by one for all: candle 0.11.1 takes the stack as one matrix.
    let a = noise(1, &[3, 9, 7]).t().unwrap();
    let b = noise(2, &[9, 4]).broadcast_as((3, 9, 4)).unwrap();
    assert!(distance(&product(&a, &b).unwrap(), &by_loop(&a, &b)) < 1e-5);
    assert!(distance(&a.matmul(&b).unwrap(), &by_loop(&a, &b)) > 1., "candle no longer does");
    // Leading axes of which one is broadcast: candle refuses.
    let a = noise(3, &[2, 1, 7, 9]).broadcast_as((2, 3, 7, 9)).unwrap();
    let b = noise(4, &[3, 9, 4]).broadcast_as((2, 3, 9, 4)).unwrap();
    let flat = |t: &Tensor| t.flatten(0, 1).unwrap(); // [6,..]
    let ours = product(&a, &b).unwrap();
    assert!(distance(&flat(&ours), &by_loop(&flat(&a), &flat(&b))) < 1e-5);
    assert!(a.matmul(&b).is_err(), "candle no longer does");
}

#[test]
fn what_does_not_go_together_is_refused() {
    let refused = |a: &Tensor, b: &Tensor| product(a, b).unwrap_err().to_string();
    for (a, b) in [(vec![2, 3], vec![2, 3]), (vec![2, 3, 4], vec![4, 5]), (vec![3], vec![3, 2])] {
        assert!(refused(&noise(1, &a), &noise(2, &b)).contains("shape mismatch in product"));
    }
    assert!(refused(&noise(1, &[2, 6, 3]), &noise(2, &[3, 3, 6])).contains("shape mismatch"));
    let (x, whole) = (noise(1, &[2, 2]), Tensor::ones((2, 2), DType::U32, &Device::Cpu).unwrap());
    assert!(refused(&x, &x.to_dtype(DType::F64).unwrap()).contains("no product of F32 and F64"));
    assert!(refused(&whole, &whole).contains("no product of U32 and U32"));
}

#[test]
fn products_of_halves_are_those_of_what_they_widen_to() {
    let (a, b) = (noise(4, &[2, 3, 5]), noise(5, &[2, 5, 4]));
    for dtype in [DType::BF16, DType::F16, DType::F32] {
        let (a, b) = (a.to_dtype(dtype).unwrap(), b.to_dtype(dtype).unwrap());
        let found = widened_product(&a, &b).unwrap();
        assert_eq!((found.dtype(), found.dims()), (DType::F32, &[2, 3, 4][..]));
        let [a, b] = [&a, &b].map(|t| t.to_dtype(DType::F32).unwrap());
        assert!(distance(&found, &by_loop(&a, &b)) < 1e-5, "{dtype:?}");
    }
}
