//! The product against sums in f64, on every path that the processor has, and its laws.

use half::bf16;
use proptest::prelude::*;
use wan_kernels::{
    Activation, AddTo, Context, Elements, Epilogue, Kernels, Matrix, MatrixMut, PackedWeight,
    Panels, Path, Pool, Precision, RowTable, Weight, multiply, packed_words,
};

use crate::support::{bits, bits_of_bf16, in_pool_of, noise, rounded, strange, to_bf16};

/// A product `[m, k]` by `[n, k]`.
#[derive(Clone, Debug)]
struct Shape {
    m: usize,
    n: usize,
    k: usize,
    seed: u64,
}

/// Shapes around the sizes of tiles, panels, strips and blocks of a sum.
fn shapes() -> impl Strategy<Value = Shape> {
    let m = prop_oneof![4 => 0usize..30, 1 => 230usize..260];
    let n = prop_oneof![4 => 0usize..70, 1 => 180usize..230];
    let k = prop_oneof![4 => 0usize..70, 2 => 250usize..260, 1 => 500usize..800];
    (m, n, k, any::<u64>()).prop_map(|(m, n, k, seed)| Shape { m, n, k, seed })
}

fn precisions() -> impl Strategy<Value = Precision> {
    prop_oneof![Just(Precision::F32), Just(Precision::Bf16)]
}

fn product(context: Context, x: Matrix, weight: &Weight, epilogue: &Epilogue) -> Vec<f32> {
    let (m, n) = (x.rows(), weight.shape()[0]);
    let mut out = vec![f32::NAN; m * n];
    multiply(context, x, weight, epilogue, MatrixMut::dense(out.as_mut_slice(), [m, n]));
    out
}

fn plain(context: Context, x: Matrix, weight: &Weight) -> Vec<f32> {
    product(context, x, weight, &Epilogue::default())
}

/// `x W^T` in f64, and for each the sum of the absolute terms.
fn exact(x: &[f32], w: &[f32], Shape { m, n, k, .. }: &Shape) -> Vec<(f64, f64)> {
    let term = |r: usize, c: usize, i: usize| f64::from(x[r * k + i]) * f64::from(w[c * k + i]);
    let sum = |r: usize, c: usize| {
        let terms = (0..*k).map(|i| term(r, c, i));
        terms.fold((0., 0.), |(sum, size), term| (sum + term, size + term.abs()))
    };
    (0..*m).flat_map(|r| (0..*n).map(move |c| (r, c))).map(|(r, c)| sum(r, c)).collect()
}

/// Each step rounds the sum once, or twice where products are rounded first.
#[track_caller]
fn assert_near(found: &[f32], exact: &[(f64, f64)], k: usize, what: &str) {
    for (number, (found, (sum, size))) in found.iter().zip(exact).enumerate() {
        let bound = 2. * (k as f64 + 1.) * f64::from(f32::EPSILON) * size + 1e-37;
        let off = (f64::from(*found) - sum).abs();
        assert!(off <= bound, "{what}: number {number} is {found}, not {sum}: {off} > {bound}");
    }
}

fn bits_unless_nan(number: f32) -> Option<u32> {
    (!number.is_nan()).then_some(number.to_bits())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_product_is_the_sum_of_products(shape in shapes(), precision in precisions()) {
        let Shape { m, n, k, seed } = shape;
        let (x, w) = (noise(seed, m * k), noise(!seed, n * k));
        let exact = match precision {
            Precision::F32 => exact(&x, &w, &shape),
            Precision::Bf16 => exact(&rounded(&x), &rounded(&w), &shape),
        };
        let pool = Pool::new();
        for kernels in Kernels::all() {
            let weight = PackedWeight::new(kernels, Matrix::dense(&*w, [n, k]), precision);
            let x = Matrix::dense(&*x, [m, k]);
            let found = plain(Context { kernels, pool: &pool }, x, &(&weight).into());
            assert_near(&found, &exact, k, kernels.name());
        }
    }

    /// Narrow weights that are widened in the product, those that were packed before, and those
    /// that were packed in parts, are one.
    #[test]
    fn widened_and_packed_weights_are_one(
        shape in shapes(), precision in precisions(), parts in prop::collection::vec(0usize..80, 3)
    ) {
        let Shape { m, n, k, seed } = shape;
        let (x, w) = (strange(seed, m * k), to_bf16(&strange(!seed, n * k)));
        let wide: Vec<f32> = w.iter().map(|w| w.to_f32()).collect();
        let (x, w) = (Matrix::dense(&*x, [m, k]), Matrix::dense(&*w, [n, k]));
        let pool = Pool::new();
        for kernels in Kernels::all() {
            let context = Context { kernels, pool: &pool };
            let packed = PackedWeight::new(kernels, Matrix::dense(&*wide, [n, k]), precision);
            let expected = plain(context, x, &(&packed).into());
            let widened = plain(context, x, &Weight::Widened { panels: &w, precision });
            prop_assert_eq!(bits(&widened), bits(&expected));

            let mut memory = vec![u32::MAX; packed_words([n, k], precision)];
            let mut packer = wan_kernels::Packer::new(&mut memory, [n, k], precision);
            let mut first = 0;
            for end in parts.iter().scan(0, |end, rows| { *end += rows; Some(*end) }).chain([n]) {
                let end = end.min(n);
                let part = &wide[first * k..end * k];
                packer.rows(kernels, first, Matrix::dense(part, [end - first, k]));
                first = end;
            }
            let in_parts = wan_kernels::Packed::new(&memory, [n, k], precision);
            let found = plain(context, x, &Weight::Packed(in_parts));
            prop_assert_eq!(bits(&found), bits(&expected));
        }
    }

    /// Neither the rows beside, nor the outputs beside, nor threads, nor strides change a bit.
    #[test]
    fn a_part_of_a_product_is_the_product_of_the_part(
        shape in shapes(), precision in precisions(), cut in (0usize..300, 0usize..300),
        threads in 1usize..20, gap in 0usize..5,
    ) {
        let Shape { m, n, k, seed } = shape;
        let (x, w) = (strange(seed, m * (k + gap)), strange(!seed, n * k));
        let whole = Matrix::new(&*x, [m, k], k + gap);
        let (m_0, n_0) = (cut.0.min(m), cut.1.min(n));
        let (x_part, w_part) = (&x[m_0 * (k + gap)..], &w[n_0 * k..]);
        let part = Matrix::new(x_part, [m - m_0, k], k + gap);
        for kernels in Kernels::all() {
            let weight = |w, n| PackedWeight::new(kernels, Matrix::dense(w, [n, k]), precision);
            let (pool, other_pool) = (Pool::new(), Pool::new());
            let expected = {
                let context = Context { kernels, pool: &pool };
                in_pool_of(1, || plain(context, whole, &(&weight(w.as_slice(), n)).into()))
            };
            let context = Context { kernels, pool: &other_pool };
            let narrow = Matrix::dense(w_part, [n - n_0, k]);
            let found = in_pool_of(threads, || {
                [plain(context, part, &(&weight(w_part, n - n_0)).into()),
                plain(context, part, &Weight::Widened { panels: &narrow, precision })]
            });
            let rows = expected.chunks(n.max(1)).skip(m_0);
            let of_part: Vec<f32> = rows.flat_map(|row| &row[n_0..]).copied().collect();
            for found in found {
                prop_assert_eq!(bits(&found), bits(&of_part), "{}", kernels);
            }
        }
    }

    /// Fused sums in one order: the paths that have the instruction agree to the bit.
    #[test]
    fn fused_paths_agree_to_the_bit(shape in shapes(), precision in precisions()) {
        let Shape { m, n, k, seed } = shape;
        let (x, w) = (strange(seed, m * k), strange(!seed, n * k));
        let (x, w) = (Matrix::dense(&*x, [m, k]), Matrix::dense(&*w, [n, k]));
        let pool = Pool::new();
        let fused = Kernels::all().into_iter().filter(|kernels| {
            // The same sums, one step after the other.
            let is_dot = precision == Precision::Bf16 && kernels.has_bf16_dot();
            kernels.path() > Path::Portable && !is_dot
        });
        let found = fused.map(|kernels| {
            let weight = Weight::Widened { panels: &w, precision };
            bits(&plain(Context { kernels, pool: &pool }, x, &weight))
        });
        let found: Vec<_> = found.collect();
        prop_assert!(found.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn a_nan_comes_out_and_stays_in_its_row_and_column(
        shape in shapes().prop_filter("numbers", |s| s.m * s.n * s.k > 0),
        precision in precisions(), place in any::<prop::sample::Index>(),
    ) {
        let Shape { m, n, k, seed } = shape;
        let (clean_x, clean_w) = (noise(seed, m * k), noise(!seed, n * k));
        let (mut x, mut w) = (clean_x.clone(), clean_w.clone());
        let (in_x, in_w) = (place.index(m * k), place.index(n * k));
        (x[in_x], w[in_w]) = (f32::NAN, f32::from_bits(0x7f80_0001));
        let pool = Pool::new();
        for kernels in Kernels::all() {
            let context = Context { kernels, pool: &pool };
            let product = |x: &[f32], w: &[f32]| {
                let w = Matrix::dense(w, [n, k]);
                let weight = Weight::Widened { panels: &w, precision };
                plain(context, Matrix::dense(x, [m, k]), &weight)
            };
            let clean = product(&clean_x, &clean_w);
            for (number, found) in product(&x, &clean_w).into_iter().enumerate() {
                let expected = if number / n == in_x / k { None } else { Some(clean[number]) };
                prop_assert_eq!(bits_unless_nan(found), expected.map(f32::to_bits));
            }
            for (number, found) in product(&clean_x, &w).into_iter().enumerate() {
                let expected = if number % n == in_w / k { None } else { Some(clean[number]) };
                prop_assert_eq!(bits_unless_nan(found), expected.map(f32::to_bits));
            }
        }
    }

    /// Every epilogue, in both formats, against the same steps on the plain product.
    #[test]
    fn an_epilogue_is_what_follows_the_product(
        shape in shapes(), precision in precisions(), which in 0usize..3, adds in 0usize..5,
        (group, first) in (1usize..9, 0usize..20), gap in 0usize..4,
    ) {
        let Shape { m, n, k, seed } = shape;
        let (x, w) = (to_bf16(&noise(seed, m * k)), noise(!seed, n * k));
        let bias = noise(seed ^ 1, n);
        let gates = noise(seed ^ 2, 3 * (n + gap));
        let index = (0..(first + m) / group + 1).map(|entry| entry as u32 * 7 % 3);
        let index: Vec<u32> = index.collect();
        let held = noise(seed ^ 3, m * (n + gap) + n);
        let gate = RowTable::new(Matrix::new(&*gates, [3, n], n + gap), &index, group, first);
        let to = Matrix::new(&*held, [m, n], n + gap);
        let activation = [Activation::Identity, Activation::GeluTanh, Activation::Silu][which];
        let add = [
            None,
            Some(AddTo { to: None, gate: Some(gate) }),
            Some(AddTo { to: Some(to), gate: Some(gate) }),
            Some(AddTo { to: Some(to), gate: None }),
            Some(AddTo { to: None, gate: None }),
        ][adds];
        let x = Matrix::dense(&*x, [m, k]);
        let w = Matrix::dense(&*w, [n, k]);
        let weight = Weight::Widened { panels: &w, precision };
        let pool = Pool::new();
        for kernels in Kernels::all() {
            let context = Context { kernels, pool: &pool };
            let expected = plain(context, x, &weight).into_iter().enumerate().map(|(number, sum)| {
                let (row, column) = (number / n, number % n);
                let y = sum + bias[column];
                let y = match activation {
                    Activation::Identity => y,
                    Activation::GeluTanh => crate::support::gelu_tanh(y),
                    Activation::Silu => crate::support::silu(y),
                };
                let gate = gates[index[(first + row) / group] as usize * (n + gap) + column];
                let to = held[row * (n + gap) + column];
                match add {
                    None => y,
                    Some(AddTo { gate: None, .. }) => y + to,
                    Some(_) => y * gate + to,
                }
            });
            let expected: Vec<f32> = expected.collect();
            let epilogue = Epilogue { bias: Some(&bias), activation, add };
            let mut out = held.clone();
            let into = MatrixMut::new(&mut *out, [m, n], n + gap);
            multiply(context, x, &weight, &epilogue, into);
            for (number, (found, held)) in out.iter().zip(&held).enumerate() {
                let (row, column) = (number / (n + gap).max(1), number % (n + gap).max(1));
                if row < m && column < n {
                    let expected = expected[row * n + column];
                    // The test's functions are std's, to two units in the last place or so.
                    let near = (found - expected).abs() <= 1e-6 * expected.abs().max(1.);
                    prop_assert!(near, "{}: {} for {}", kernels, found, expected);
                } else {
                    prop_assert_eq!(found, held, "what lies between the rows");
                }
            }
            // The same, rounded once.
            if !matches!(add, Some(AddTo { to: None, .. })) {
                let mut narrow = vec![bf16::ONE; m * n];
                let into = MatrixMut::dense(&mut *narrow, [m, n]);
                multiply(context, x, &weight, &epilogue, into);
                let rows = (0..m).flat_map(|row| &out[row * (n + gap)..][..n]).copied();
                let wide = to_bf16(&rows.collect::<Vec<f32>>());
                prop_assert_eq!(bits_of_bf16(&narrow), bits_of_bf16(&wide));
            }
        }
    }
}

/// Counts how often each number of a weight is asked for.
struct Counted<'a> {
    weight: Matrix<'a>,
    asked: std::sync::Mutex<Vec<u32>>,
}

impl Panels for Counted<'_> {
    fn shape(&self) -> [usize; 2] {
        self.weight.shape()
    }

    fn widen(
        &self,
        rows: std::ops::Range<usize>,
        columns: std::ops::Range<usize>,
        out: &mut [f32],
    ) {
        assert!(rows.start.is_multiple_of(32) && rows.len() <= 32, "{rows:?}");
        assert!(columns.start.is_multiple_of(256) && columns.len() <= 256, "{columns:?}");
        let mut asked = self.asked.lock().unwrap();
        for row in rows.clone() {
            for column in columns.clone() {
                asked[row * self.weight.columns() + column] += 1;
            }
        }
        self.weight.widen(rows, columns, out);
    }
}

#[test]
fn a_number_is_widened_once_a_product_whatever_the_threads() {
    let (m, n, k) = (300, 70, 600);
    let (x, w) = (noise(1, m * k), noise(2, n * k));
    let pool = Pool::new();
    let context = Context { kernels: Kernels::detect(), pool: &pool };
    for threads in [1, 2, 16] {
        let asked = vec![0; n * k].into();
        let counted = Counted { weight: Matrix::dense(&*w, [n, k]), asked };
        for precision in [Precision::F32, Precision::Bf16] {
            let weight = Weight::Widened { panels: &counted, precision };
            in_pool_of(threads, || plain(context, Matrix::dense(&*x, [m, k]), &weight));
        }
        assert!(counted.asked.into_inner().unwrap().into_iter().all(|times| times == 2));
    }
}

#[test]
fn a_second_product_allocates_nothing() {
    let (m, n, k) = (50, 300, 400);
    let (x, w) = (noise(1, m * k), noise(2, n * k));
    let pool = Pool::new();
    let context = Context { kernels: Kernels::detect(), pool: &pool };
    let w = Matrix::dense(&*w, [n, k]);
    let again = || {
        let weight = Weight::Widened { panels: &w, precision: Precision::Bf16 };
        in_pool_of(1, || plain(context, Matrix::dense(&*x, [m, k]), &weight));
        pool.counts()
    };
    let (first, second) = (again(), again());
    assert_eq!((first.allocated, first.bytes), (second.allocated, second.bytes));
    assert!(second.lent > first.lent);
}

#[test]
#[should_panic = "columns of x"]
fn factors_that_do_not_fit_are_refused() {
    let pool = Pool::new();
    let context = Context { kernels: Kernels::PORTABLE, pool: &pool };
    let w = Matrix::dense(&[0f32; 6][..], [2, 3]);
    let weight = Weight::Widened { panels: &w, precision: Precision::F32 };
    plain(context, Matrix::dense(Elements::F32(&[0.; 4]), [1, 4]), &weight);
}
