//! Attention against a softmax in f64, on every path that the processor has, and its laws.

use half::bf16;
use proptest::prelude::*;
use wan_kernels::{
    Attention, Context, Kernels, KeyValue, Matrix, MatrixMut, Pool, Precision, Span, attend,
    attend_to,
};

use crate::support::{bits, in_pool_of, noise, rounded, to_bf16};

#[derive(Clone, Debug)]
struct Case {
    batch: usize,
    heads: usize,
    head_dim: usize,
    queries: usize,
    keys: usize,
    precision: Precision,
    seed: u64,
}

impl Case {
    fn attention(&self) -> Attention {
        let Self { batch, heads, precision, .. } = *self;
        Attention { batch, heads, scale: 0.7, precision }
    }

    fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Queries, keys and values.
    fn numbers(&self) -> [Vec<f32>; 3] {
        let of = |seed, tokens| noise(self.seed ^ seed, self.batch * tokens * self.width());
        // Larger queries make some weights vanish.
        let queries = of(1, self.queries).into_iter().map(|x| 8. * x).collect();
        [queries, of(2, self.keys), of(3, self.keys)]
    }

    fn all(&self) -> Vec<Span> {
        vec![Span { queries: 0..self.queries, keys: 0..self.keys }]
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let head_dim = prop_oneof![
        1usize..20,
        Just(24),
        Just(32),
        Just(40),
        Just(64),
        Just(96),
        Just(128),
        Just(256)
    ];
    let queries = prop_oneof![3 => 0usize..20, 1 => 115usize..130];
    let keys = prop_oneof![3 => 0usize..70, 1 => 250usize..264, 1 => 505usize..600];
    let precision = prop_oneof![Just(Precision::F32), Just(Precision::Bf16)];
    (1usize..3, 1usize..4, head_dim, queries, keys, precision, any::<u64>()).prop_map(
        |(batch, heads, head_dim, queries, keys, precision, seed)| Case {
            batch,
            heads,
            head_dim,
            queries,
            keys,
            precision,
            seed,
        },
    )
}

/// Spans of queries that follow each other, some queries left out, each with keys of its own.
fn spans(cuts: &[(usize, usize, usize)], case: &Case) -> Vec<Span> {
    let mut at = 0;
    let mut spans = Vec::new();
    for (len, start, keys) in cuts {
        let end = (at + len).min(case.queries);
        let first = start % (case.keys + 1);
        spans.push(Span { queries: at..end, keys: first..(first + keys).min(case.keys) });
        at = (end + start % 2).min(case.queries);
    }
    spans
}

fn run(context: Context, case: &Case, qkv: [&[f32]; 3], spans: &[Span]) -> Vec<f32> {
    let mut out = vec![7f32; qkv[0].len()];
    let matrix = |x: usize, tokens| Matrix::dense(qkv[x], [case.batch * tokens, case.width()]);
    let [query, key, value] = [matrix(0, case.queries), matrix(1, case.keys), matrix(2, case.keys)];
    let shape = [case.batch * case.queries, case.width()];
    let into = MatrixMut::dense(&mut *out, shape);
    attend(context, case.attention(), [query, key, value], spans, into);
    out
}

/// The same in f64 with a whole row of scores; 7 where no span is.
fn exact(case: &Case, [query, key, value]: [&[f32]; 3], spans: &[Span]) -> Vec<f64> {
    let (d, width) = (case.head_dim, case.width());
    let mut out = vec![7f64; query.len()];
    let head = |x: &[f32], tokens: usize, video: usize, token: usize, head: usize| -> Vec<f64> {
        let row = &x[(video * tokens + token) * width + head * d..][..d];
        row.iter().map(|x| f64::from(*x)).collect()
    };
    for (video, h) in (0..case.batch).flat_map(|b| (0..case.heads).map(move |h| (b, h))) {
        for (q, keys) in spans.iter().flat_map(|s| s.queries.clone().map(|q| (q, s.keys.clone()))) {
            let query = head(query, case.queries, video, q, h);
            let dot = |k| -> f64 {
                let key = head(key, case.keys, video, k, h);
                0.7 * query.iter().zip(key).map(|(a, b)| a * b).sum::<f64>()
            };
            let scores: Vec<f64> = keys.clone().map(dot).collect();
            let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
            let sum: f64 = weights.iter().sum();
            let out = &mut out[(video * case.queries + q) * width + h * d..][..d];
            out.fill(0.);
            for (k, weight) in keys.zip(weights) {
                let value = head(value, case.keys, video, k, h);
                out.iter_mut().zip(value).for_each(|(out, v)| *out += weight / sum * v);
            }
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn attention_is_the_average_by_softmax(
        case in cases(), cuts in prop::collection::vec((0usize..90, 0usize..300, 0usize..600), 1..4)
    ) {
        let numbers = case.numbers();
        let numbers = match case.precision {
            Precision::F32 => numbers,
            Precision::Bf16 => numbers.map(|x| rounded(&x)),
        };
        let qkv = [&*numbers[0], &*numbers[1], &*numbers[2]];
        let pool = Pool::new();
        for spans in [case.all(), spans(&cuts, &case)] {
            let exact = exact(&case, qkv, &spans);
            // Scores are below 8 * 0.7 * 256, and their error is that of a sum of head_dim. Values
            // are below 1. Weights in bf16 have 8 bits.
            let squared = (case.head_dim * case.head_dim) as f64;
            let score = 12. * squared * f64::from(f32::EPSILON);
            let bound = match case.precision {
                Precision::F32 => score + 1e-5,
                Precision::Bf16 => score + 2. / 256.,
            };
            for kernels in Kernels::all() {
                let found = run(Context { kernels, pool: &pool }, &case, qkv, &spans);
                for (number, (found, exact)) in found.iter().zip(&exact).enumerate() {
                    let off = (f64::from(*found) - exact).abs();
                    prop_assert!(off <= bound, "{}: {}: {} for {}", kernels, number, found, exact);
                }
            }
        }
    }

    /// Neither the queries beside, nor threads, nor strides, nor packing before change a bit; and
    /// what is not seen does not either.
    #[test]
    fn a_query_depends_on_what_it_sees_alone(
        case in cases(), threads in 1usize..9, start in 0usize..300, keys in 0usize..600,
    ) {
        let [query, mut key, mut value] = case.numbers();
        let start = start % (case.keys + 1);
        let seen = start..(start + keys).min(case.keys);
        let spans = vec![Span { queries: 0..case.queries, keys: seen.clone() }];
        let width = case.width();
        for kernels in Kernels::all() {
            let pool = Pool::new();
            let context = Context { kernels, pool: &pool };
            let qkv = [&*query, &*key, &*value];
            let expected = bits(&in_pool_of(1, || run(context, &case, qkv, &spans)));
            let one = |q| Span { queries: q..q + 1, keys: seen.clone() };
            let cut: Vec<_> = (0..case.queries).map(one).collect();
            let found = in_pool_of(threads, || run(context, &case, qkv, &cut));
            prop_assert_eq!(&bits(&found), &expected, "{}", kernels);
            prop_assert!(expected.iter().all(|x| !f32::from_bits(*x).is_nan()));

            // Rows with something between them, packed before.
            let gap = 3;
            let spread = |x: &[f32]| -> Vec<f32> {
                x.chunks(width).flat_map(|row| row.iter().copied().chain([f32::NAN; 3])).collect()
            };
            let spread = [spread(&query), spread(&key), spread(&value)];
            let of = |x: usize, tokens: usize| {
                Matrix::new(&*spread[x], [case.batch * tokens, width], width + gap)
            };
            let key_value = [of(1, case.keys), of(2, case.keys)];
            let packed = KeyValue::pack(kernels, case.attention(), key_value);
            let mut out = vec![7f32; query.len()];
            let into = MatrixMut::dense(&mut *out, [case.batch * case.queries, width]);
            let query = (of(0, case.queries), &packed);
            in_pool_of(threads, || attend_to(context, case.attention(), query, &spans, into));
            prop_assert_eq!(&bits(&out), &expected, "{}", kernels);
        }
        for video in 0..case.batch {
            for unseen in (0..case.keys).filter(|key| !seen.contains(key)) {
                let row = (video * case.keys + unseen) * width;
                key[row..row + width].fill(f32::NAN);
                value[row..row + width].fill(f32::INFINITY);
            }
        }
        for kernels in Kernels::all() {
            let pool = Pool::new();
            let context = Context { kernels, pool: &pool };
            let found = run(context, &case, [&query, &key, &value], &spans);
            prop_assert!(found.iter().all(|x| !x.is_nan()), "{}", kernels);
        }
    }

    #[test]
    fn a_nan_that_is_seen_comes_out(
        case in cases().prop_filter("numbers", |c| c.queries * c.keys > 0),
        which in 0usize..3, place in any::<prop::sample::Index>(),
    ) {
        let clean = case.numbers();
        let mut numbers = clean.clone();
        let at = place.index(numbers[which].len());
        numbers[which][at] = f32::NAN;
        let pool = Pool::new();
        let (d, width) = (case.head_dim, case.width());
        let tokens = [case.queries, case.keys, case.keys][which];
        let (video, row, head, number) = (at / width / tokens, at / width, at % width / d, at % d);
        for kernels in Kernels::all() {
            let context = Context { kernels, pool: &pool };
            let run = |x: &[Vec<f32>; 3]| run(context, &case, [&x[0], &x[1], &x[2]], &case.all());
            let (expected, found) = (run(&clean), run(&numbers));
            for (n, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let is_seen = match which {
                    0 => n / width == row,
                    1 => true,
                    _ => n % d == number,
                };
                let is_head = n / width / case.queries == video && n % width / d == head;
                match is_head && is_seen {
                    true => prop_assert!(found.is_nan(), "{} {}", kernels, n),
                    false => prop_assert_eq!(found.to_bits(), expected.to_bits()),
                }
            }
        }
    }

    /// Inputs and outputs in bf16 are the numbers that they stand for.
    #[test]
    fn bf16_rows_are_widened_exactly(case in cases()) {
        let narrow = case.numbers().map(|x| to_bf16(&x));
        let wide = narrow.clone().map(|x| x.iter().map(|x| x.to_f32()).collect::<Vec<f32>>());
        let pool = Pool::new();
        for kernels in Kernels::all() {
            let context = Context { kernels, pool: &pool };
            let expected = run(context, &case, [&wide[0], &wide[1], &wide[2]], &case.all());
            let mut out = vec![bf16::ONE; expected.len()];
            let shape = |tokens| [case.batch * tokens, case.width()];
            let of = |x: usize, tokens| Matrix::dense(&*narrow[x], shape(tokens));
            let qkv = [of(0, case.queries), of(1, case.keys), of(2, case.keys)];
            let into = MatrixMut::dense(&mut *out, [case.batch * case.queries, case.width()]);
            attend(context, case.attention(), qkv, &case.all(), into);
            let expected = crate::support::bits_of_bf16(&to_bf16(&expected));
            prop_assert_eq!(crate::support::bits_of_bf16(&out), expected);
        }
    }
}

#[test]
fn scores_of_minus_infinity_weigh_nothing_and_all_of_them_nan() {
    let case = Case {
        batch: 1,
        heads: 1,
        head_dim: 2,
        queries: 1,
        keys: 700,
        precision: Precision::F32,
        seed: 0,
    };
    let mut key = vec![f32::NEG_INFINITY; 1400];
    let value = vec![1f32; 1400];
    let pool = Pool::new();
    for kernels in Kernels::all() {
        let context = Context { kernels, pool: &pool };
        let none = run(context, &case, [&[1., 1.], &key, &value], &case.all());
        assert!(none.iter().all(|x| x.is_nan()), "{kernels}: {none:?}");
    }
    // One that is not, far behind the first block.
    key[2 * 650..2 * 651].fill(0.5);
    for kernels in Kernels::all() {
        let context = Context { kernels, pool: &pool };
        let one = run(context, &case, [&[1., 1.], &key, &value], &case.all());
        assert_eq!(one, [1., 1.], "{kernels}");
    }
}

#[test]
#[should_panic = "after 5"]
fn spans_that_overlap_are_refused() {
    let case = Case {
        batch: 1,
        heads: 1,
        head_dim: 2,
        queries: 8,
        keys: 3,
        precision: Precision::F32,
        seed: 0,
    };
    let pool = Pool::new();
    let spans = [Span { queries: 0..5, keys: 0..3 }, Span { queries: 4..8, keys: 0..3 }];
    let numbers = case.numbers();
    let context = Context { kernels: Kernels::PORTABLE, pool: &pool };
    run(context, &case, [&numbers[0], &numbers[1], &numbers[2]], &spans);
}
