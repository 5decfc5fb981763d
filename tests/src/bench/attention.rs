//! Attention alone: some queries on the keys of a long video.

use std::time::Instant;

use half::bf16;
use wan_kernels::{Attention, Context, Kernels, Matrix, MatrixMut, Pool, Precision, Span, attend};
use wan_model::work::Work;

use crate::random::numbers;
use crate::row::{Goal, Made, Row};

const QUERIES: usize = 512;
const HEADS: usize = 12;
const HEAD_DIM: usize = 128;
/// Tokens of 81 frames at 832x480 and at 1280x720.
const KEYS: [usize; 2] = [32_760, 75_600];

pub(crate) fn rows() -> Vec<Row> {
    KEYS.into_iter().map(row).collect()
}

fn row(keys: usize) -> Row {
    let width = HEADS * HEAD_DIM;
    let operations = 4 * (QUERIES * keys * width) as u64;
    Row {
        name: format!("attention-{keys}"),
        what: format!(
            "bf16 attention, {QUERIES} queries on {keys} keys, {HEADS} heads x {HEAD_DIM}"
        ),
        unit: "s",
        goal: Goal::OverTorch(0.60, 0.50),
        peer: Some(format!("attention bf16 {QUERIES} {keys}")),
        make: Box::new(move || {
            let rounded = |seed, rows: usize| -> Vec<bf16> {
                numbers(seed, rows * width).into_iter().map(bf16::from_f32).collect()
            };
            let (query, key, value) = (rounded(5, QUERIES), rounded(6, keys), rounded(7, keys));
            let mut out = vec![bf16::ZERO; QUERIES * width];
            let (kernels, pool) = (Kernels::detect(), Pool::new());
            let attention = Attention {
                batch: 1,
                heads: HEADS,
                scale: (HEAD_DIM as f32).sqrt().recip(),
                precision: Precision::Bf16,
            };
            let pass = move || {
                let started = Instant::now();
                let context = Context { kernels, pool: &pool };
                let read = [
                    Matrix::dense(&*query, [QUERIES, width]),
                    Matrix::dense(&*key, [keys, width]),
                    Matrix::dense(&*value, [keys, width]),
                ];
                let span = Span { queries: 0..QUERIES, keys: 0..keys };
                let to = MatrixMut::dense(&mut *out, [QUERIES, width]);
                attend(context, attention, read, &[span], to);
                Ok(started.elapsed().as_secs_f64())
            };
            let work = Work { attention: operations, ..Work::default() };
            Ok(Made { pass: Box::new(pass), work: Some(work) })
        }),
    }
}
