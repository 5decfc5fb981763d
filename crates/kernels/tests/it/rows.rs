//! Row operations against f64; all paths give the same bits.

use half::bf16;
use proptest::prelude::*;
use wan_kernels::{
    Activation, Affine, Kernels, Matrix, MatrixMut, RmsNorm, Rotation, RowTable, activate,
    add_gated, channel_norm, layer_norm, rms_norm,
};

use crate::support::{bits, bits_of_bf16, in_pool_of, noise, strange, to_bf16};

#[derive(Clone, Debug)]
struct Shape {
    rows: usize,
    columns: usize,
    gap: usize,
    seed: u64,
}

fn shapes() -> impl Strategy<Value = Shape> {
    let columns = prop_oneof![4 => 0usize..70, 2 => 250usize..300, 1 => 8190usize..8200];
    (0usize..12, columns, 0usize..4, any::<u64>()).prop_map(|(rows, columns, gap, seed)| Shape {
        rows,
        columns,
        gap,
        seed,
    })
}

/// Calls an operation with rows that lie apart, in all formats, on all paths and several threads,
/// and gives what it made. All have to agree.
fn run(
    Shape { rows, columns, gap, .. }: &Shape,
    x: &[f32],
    operation: impl Fn(Kernels, Matrix, MatrixMut) + Sync,
) -> Vec<f32> {
    let (shape, stride) = ([*rows, *columns], columns + gap);
    let mut spread = vec![f32::NAN; rows * stride];
    for (row, x) in x.chunks(*columns.max(&1)).enumerate() {
        spread[row * stride..][..*columns].copy_from_slice(x);
    }
    let mut all = Kernels::all().into_iter().map(|kernels| {
        let mut out = vec![7f32; rows * stride];
        in_pool_of(3, || {
            let out = MatrixMut::new(&mut *out, shape, stride);
            operation(kernels, Matrix::new(&*spread, shape, stride), out);
        });
        let mut narrow = vec![bf16::ONE; rows * columns];
        operation(kernels, Matrix::dense(x, shape), MatrixMut::dense(&mut *narrow, shape));
        let mut dense = Vec::new();
        for row in out.chunks(stride.max(1)) {
            dense.extend(&row[..*columns]);
            assert!(row[*columns..].iter().all(|x| *x == 7.), "what lies between the rows");
        }
        assert_eq!(bits_of_bf16(&narrow), bits_of_bf16(&to_bf16(&dense)), "{kernels}");
        dense
    });
    let first = all.next().unwrap();
    for (number, found) in all.enumerate() {
        assert_eq!(bits(&found), bits(&first), "path {number} after the first");
    }
    first
}

#[track_caller]
fn assert_near(found: &[f32], expected: impl Iterator<Item = f64>, bound: f64) {
    for (number, (found, expected)) in found.iter().zip(expected).enumerate() {
        let off = (f64::from(*found) - expected).abs();
        let near = off <= bound * expected.abs().max(1.);
        assert!(near, "number {number} is {found}, not {expected}");
    }
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

/// `(x - mean) / sqrt(variance + eps)` of every row.
fn normed(x: &[f32], columns: usize, eps: f64) -> Vec<f64> {
    let row = |x: &[f32]| {
        let x = wide(x);
        let mean = x.iter().sum::<f64>() / columns as f64;
        let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / columns as f64;
        x.into_iter().map(|x| (x - mean) / (variance + eps).sqrt()).collect::<Vec<_>>()
    };
    x.chunks(columns.max(1)).flat_map(row).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn layer_norm_and_what_follows(
        shape in shapes(), mean in prop_oneof![Just(0f32), Just(100.)],
        (group, first) in (1usize..5, 0usize..9),
    ) {
        let Shape { rows, columns, seed, .. } = shape;
        let x: Vec<f32> = noise(seed, rows * columns).into_iter().map(|x| x + mean).collect();
        let exact = normed(&x, columns, 1e-5);
        // Digits that x has lost beside its mean are lost.
        let bound = 1e-5 * f64::from(1. + mean);

        let found = run(&shape, &x, |k, x, out| layer_norm(k, x, 1e-5, Affine::None, out));
        assert_near(&found, exact.iter().copied(), bound);

        let (weight, bias) = (noise(seed ^ 1, columns), noise(seed ^ 2, columns));
        let affine = Affine::Shared { weight: &weight, bias: &bias };
        let found = run(&shape, &x, |k, x, out| layer_norm(k, x, 1e-5, affine, out));
        let at = |n: usize| (f64::from(weight[n % columns]), f64::from(bias[n % columns]));
        let expected = exact.iter().enumerate().map(|(n, x)| x * at(n).0 + at(n).1);
        assert_near(&found, expected, bound);

        // A table [K, 2, D], as the model has it, and the same in bf16.
        let table = crate::support::rounded(&noise(seed ^ 3, 3 * 2 * columns));
        let index: Vec<u32> = (0..(first + rows) / group + 1).map(|e| e as u32 % 3).collect();
        let narrow = to_bf16(&table);
        let modulated = |k, x: Matrix, out: MatrixMut, is_narrow: bool| {
            let table = |component: usize| {
                let start = (component * columns).min(table.len());
                let rows = match is_narrow {
                    true => Matrix::new(&narrow[start..], [3, columns], 2 * columns),
                    false => Matrix::new(&table[start..], [3, columns], 2 * columns),
                };
                RowTable::new(rows, &index, group, first)
            };
            let affine = Affine::Modulated { scale: table(1), shift: table(0) };
            layer_norm(k, x, 1e-5, affine, out);
        };
        let found = run(&shape, &x, |k, x, out| modulated(k, x, out, false));
        let of_narrow = run(&shape, &x, |k, x, out| modulated(k, x, out, true));
        prop_assert_eq!(bits(&found), bits(&of_narrow));
        let expected = exact.iter().enumerate().map(|(n, x)| {
            let row = index[(first + n / columns) / group] as usize * 2 * columns;
            let (shift, scale) = (table[row + n % columns], table[row + columns + n % columns]);
            x * (1. + f64::from(scale)) + f64::from(shift)
        });
        assert_near(&found, expected, bound);
    }

    #[test]
    fn rms_norm_and_rotation(
        rows in 0usize..9, (heads, pairs) in (1usize..4, 1usize..40), tokens in 1usize..5,
        gap in 0usize..4, seed in any::<u64>(),
    ) {
        let shape = Shape { rows, columns: heads * pairs * 2, gap, seed };
        let columns = shape.columns;
        let (x, weight) = (noise(seed, rows * columns), noise(seed ^ 1, columns));
        let angles = noise(seed ^ 2, tokens * pairs);
        let cos: Vec<f32> = angles.iter().map(|a| a.cos()).collect();
        let sin: Vec<f32> = angles.iter().map(|a| a.sin()).collect();
        let rotation = Some(Rotation { cos: &cos, sin: &sin, tokens });
        let plain = RmsNorm { weight: &weight, eps: 1e-6, rotation: None, scale: 1. };
        let rotated = RmsNorm { rotation, scale: 0.25, ..plain };
        let normed: Vec<f64> = x.chunks(columns).flat_map(|row| {
            let row = wide(row);
            let mean = row.iter().map(|x| x * x).sum::<f64>() / columns as f64;
            let weighted = row.into_iter().zip(&weight);
            let of = |(x, w): (f64, &f32)| x / (mean + 1e-6).sqrt() * f64::from(*w);
            weighted.map(of).collect::<Vec<_>>()
        }).collect();
        let found = run(&shape, &x, |k, x, out| rms_norm(k, x, plain, out));
        assert_near(&found, normed.iter().copied(), 1e-5);
        let found = run(&shape, &x, |k, x, out| rms_norm(k, x, rotated, out));
        let expected = (0..x.len()).map(|n| {
            let (row, pair) = (n / columns, n % columns / 2 % pairs);
            let at = row % tokens * pairs + pair;
            let (c, s) = (f64::from(cos[at]), f64::from(sin[at]));
            let (real, imaginary) = (normed[n / 2 * 2], normed[n / 2 * 2 + 1]);
            0.25 * if n % 2 == 0 { real * c - imaginary * s } else { real * s + imaginary * c }
        });
        assert_near(&found, expected, 1e-5);
    }

    #[test]
    fn channel_norm_of_every_pixel(
        frames in 0usize..3, channels in 1usize..7, shape in shapes(), activated: bool,
    ) {
        let shape = Shape { rows: frames * channels, ..shape };
        let (pixels, gamma) = (shape.columns, noise(shape.seed ^ 1, channels));
        let x = noise(shape.seed, shape.rows * pixels);
        let found =
            run(&shape, &x, |k, x, out| channel_norm(k, x, (&gamma, activated), out));
        let at = |row: usize, pixel: usize| f64::from(x[row * pixels + pixel]);
        let expected = (0..x.len()).map(|number| {
            let (row, pixel) = (number / pixels, number % pixels);
            let first = row / channels * channels;
            let squares = (first..first + channels).map(|row| at(row, pixel) * at(row, pixel));
            let length = squares.sum::<f64>().sqrt().max(1e-12);
            let normed = at(row, pixel) * (channels as f64).sqrt() / length;
            let normed = normed * f64::from(gamma[row % channels]);
            if activated { normed / (1. + (-normed).exp()) } else { normed }
        });
        assert_near(&found, expected, 1e-5);
    }

    #[test]
    fn activations_and_sums(shape in shapes(), group in 1usize..5) {
        let Shape { rows, columns, seed, .. } = shape;
        let x: Vec<f32> = noise(seed, rows * columns).into_iter().map(|x| 20. * x).collect();
        type Function = fn(f32) -> f32;
        let functions: [(Activation, Function); 3] = [
            (Activation::Identity, |x| x),
            (Activation::GeluTanh, crate::support::gelu_tanh),
            (Activation::Silu, crate::support::silu),
        ];
        for (activation, function) in functions {
            let found = run(&shape, &x, |k, x, out| activate(k, Some(x), activation, out));
            assert_near(&found, x.iter().map(|x| f64::from(function(*x))), 1e-6);
            for kernels in Kernels::all() {
                let mut out = x.clone();
                let into = MatrixMut::dense(&mut *out, [rows, columns]);
                activate(kernels, None, activation, into);
                prop_assert_eq!(bits(&out), bits(&found));
            }
        }
        let (residual, gates) = (noise(seed ^ 1, rows * columns), noise(seed ^ 2, 2 * columns));
        let index: Vec<u32> = (0..rows / group + 1).map(|entry| entry as u32 % 2).collect();
        let gate = RowTable::new(Matrix::dense(&*gates, [2, columns]), &index, group, 0);
        let residual_rows = Matrix::dense(&*residual, [rows, columns]);
        for gate in [None, Some(gate)] {
            let found = run(&shape, &x, |k, x, out| add_gated(k, residual_rows, x, gate, out));
            let expected = x.iter().enumerate().map(|(n, x)| {
                let row = index[n / columns / group] as usize;
                let factor = gate.map_or(1., |_| gates[row * columns + n % columns]);
                f64::from(residual[n] + x * factor)
            });
            assert_near(&found, expected, 1e-6);
        }
    }

    /// Strange numbers: every path makes the same of them, and a NaN of a NaN, in its row alone.
    #[test]
    fn a_nan_comes_out_of_its_row(
        shape in shapes().prop_filter("numbers", |s| s.rows * s.columns > 0),
        place in any::<prop::sample::Index>(),
    ) {
        let Shape { rows, columns, seed, .. } = shape;
        let mut x = strange(seed, rows * columns);
        let weight = noise(seed ^ 1, columns);
        let norm = RmsNorm { weight: &weight, eps: 1e-6, rotation: None, scale: 1. };
        let all = |x: &[f32]| {
            [
                run(&shape, x, |k, x, out| layer_norm(k, x, 1e-6, Affine::None, out)),
                run(&shape, x, |k, x, out| rms_norm(k, x, norm, out)),
                run(&shape, x, |k, x, out| activate(k, Some(x), Activation::GeluTanh, out)),
                run(&shape, x, |k, x, out| activate(k, Some(x), Activation::Silu, out)),
                run(&shape, x, |k, x, out| add_gated(k, x, x, None, out)),
            ]
        };
        let clean = all(&x);
        let at = place.index(x.len());
        x[at] = f32::from_bits(0xffc0_0001);
        for (operation, (found, clean)) in all(&x).iter().zip(&clean).enumerate() {
            for (n, (found, clean)) in found.iter().zip(clean).enumerate() {
                let is_own = if operation < 2 { n / columns == at / columns } else { n == at };
                let same = found.to_bits() == clean.to_bits() || found.is_nan() && clean.is_nan();
                prop_assert!(if is_own { found.is_nan() } else { same }, "{operation} {n}");
            }
        }
    }
}
