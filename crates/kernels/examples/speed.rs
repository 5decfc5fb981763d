//! How fast the kernels are here: `cargo run --release -p wan-kernels --example speed -- product`.
//!
//! GFLOP/s, the median of several runs and the spread, for shapes of the 1.3B and 14B models. What
//! else runs on the machine shows in the spread: compare rows of one run, not of two.

use std::hint::black_box;
use std::time::Instant;

use wan_kernels::{
    Activation, Affine, Attention, Context, Elements, Epilogue, Frames, Geometry, Kernels, Matrix,
    MatrixMut, PackedConv, PackedWeight, Pool, Precision, RowTable, Span, Weight, activate, attend,
    convolve, layer_norm, multiply,
};

fn main() {
    let what: Vec<String> = std::env::args().skip(1).collect();
    let wants = |name: &str| what.is_empty() || what.iter().any(|what| what == name);
    let threads = rayon::current_num_threads();
    println!("{} kernels, {threads} threads", Kernels::detect());
    if wants("product") {
        products();
    }
    if wants("attention") {
        attention();
    }
    if wants("convolution") {
        convolution();
    }
    if wants("rows") {
        rows();
    }
}

/// Median, least and most seconds of `runs` runs, after one that does not count.
fn seconds(runs: usize, mut work: impl FnMut()) -> [f64; 3] {
    work();
    let mut times: Vec<f64> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    [times[runs / 2], times[0], times[runs - 1]]
}

fn row(name: &str, operations: f64, [median, least, most]: [f64; 3]) {
    let rate = |seconds: f64| operations / seconds / 1e9;
    println!("{name:44} {:7.1}  ({:.1} to {:.1})", rate(median), rate(most), rate(least));
}

fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.
    };
    (0..count).map(|_| next()).collect()
}

fn products() {
    for [m, k, n] in [[1170, 1536, 8960], [1170, 8960, 1536], [1170, 1536, 1536], [390, 1536, 8960]]
    {
        let (x, w) = (noise(m * k, 1), noise(n * k, 2));
        let mut out = vec![0f32; m * n];
        let operations = 2. * (m * n * k) as f64;
        let gemm = seconds(5, || by_gemm(&x, &w, &mut out, [m, n, k]));
        row(&format!("{m}x{k}x{n} gemm 0.19 f32"), operations, gemm);
        for kernels in Kernels::all() {
            for precision in [Precision::F32, Precision::Bf16] {
                let pool = Pool::new();
                let context = Context { kernels, pool: &pool };
                let (x, w) = (Matrix::dense(&*x, [m, k]), Matrix::dense(&*w, [n, k]));
                let packed = PackedWeight::new(kernels, w, precision);
                let mut time = |name: &str, weight: &Weight| {
                    let times = seconds(5, || {
                        let out = MatrixMut::dense(&mut *out, [m, n]);
                        multiply(context, x, weight, &Epilogue::default(), out);
                    });
                    row(&format!("{m}x{k}x{n} {kernels} {precision:?} {name}"), operations, times);
                };
                time("packed", &(&packed).into());
                time("widened", &Weight::Widened { panels: &w, precision });
            }
        }
        black_box(&out);
    }
}

/// The product as candle has it computed: the weight is `[n, k]` in memory.
#[expect(unsafe_code, reason = "gemm takes pointers")]
fn by_gemm(x: &[f32], w: &[f32], out: &mut [f32], [m, n, k]: [usize; 3]) {
    let parallelism = gemm::Parallelism::Rayon(rayon::current_num_threads());
    assert!(x.len() == m * k && w.len() == n * k && out.len() == m * n);
    // SAFETY: the slices are as long as the shapes and strides say.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            false,
            x.as_ptr(),
            1,
            k as isize,
            w.as_ptr(),
            k as isize,
            1,
            0.,
            1.,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Twelve heads of 128, as in the 1.3B model: 512 queries on more and more keys.
fn attention() {
    let (heads, width) = (12, 12 * 128);
    for keys in [1170, 4680, 32_760] {
        let queries = if keys == 1170 { keys } else { 512 };
        let of = |tokens: usize, seed| noise(tokens * width, seed);
        let [q, k, v] = [of(queries, 1), of(keys, 2), of(keys, 3)];
        let mut out = vec![0f32; queries * width];
        let operations = 4. * (queries * keys * width) as f64;
        for kernels in Kernels::all() {
            for precision in [Precision::F32, Precision::Bf16] {
                let pool = Pool::new();
                let attention = Attention { batch: 1, heads, scale: 0.09, precision };
                let spans = [Span { queries: 0..queries, keys: 0..keys }];
                let of = |x, tokens| Matrix::dense(x, [tokens, width]);
                let qkv = [of(&*q, queries), of(&*k, keys), of(&*v, keys)];
                let times = seconds(3, || {
                    let out = MatrixMut::dense(&mut *out, [queries, width]);
                    attend(Context { kernels, pool: &pool }, attention, qkv, &spans, out);
                });
                let name = format!("{queries} queries, {keys} keys {kernels} {precision:?}");
                row(&name, operations, times);
            }
        }
        black_box(&out);
    }
}

/// Layers of the decoder: 3x3x3, one output frame.
fn convolution() {
    let geometry = Geometry { taps: 3, kernel: 3, pad_before: 1, pad_after: 1, ..Geometry::POINT };
    for (channels, height, width) in [(384, 30, 40), (384, 60, 80), (192, 120, 160), (96, 240, 320)]
    {
        let frame = channels * height * width;
        let (x, weight) = (noise(3 * frame, 1), noise(channels * channels * 27, 2));
        let frames: Vec<_> = x.chunks(frame).map(|frame| Some(Elements::F32(frame))).collect();
        let mut out = vec![0f32; frame];
        let operations = 2. * (frame * channels * 27) as f64;
        for kernels in Kernels::all() {
            for precision in [Precision::F32, Precision::Bf16] {
                let pool = Pool::new();
                let weight = Matrix::dense(&*weight, [channels, channels * 27]);
                let conv = PackedConv::new(kernels, weight, geometry, precision);
                let times = seconds(3, || {
                    let frames = Frames { frames: &frames, height, width };
                    let out = MatrixMut::dense(&mut *out, [channels, height * width]);
                    convolve(Context { kernels, pool: &pool }, (frames, &conv), None, None, out);
                });
                let name = format!("{channels} channels {height}x{width} {kernels} {precision:?}");
                row(&name, operations, times);
            }
        }
        black_box(&out);
    }
}

/// Gigabytes a second, read and written once each.
fn rows() {
    let (tokens, width) = (1170, 1536);
    let x = noise(tokens * width, 1);
    let table = noise(2 * width, 2);
    let mut out = vec![0f32; tokens * width];
    let bytes = 8. * (tokens * width) as f64;
    row("copy (GB/s)", bytes, seconds(9, || out.copy_from_slice(black_box(&x))));
    for kernels in Kernels::all() {
        let rows = Matrix::dense(&*x, [tokens, width]);
        let affine = Affine::Modulated {
            scale: RowTable::one(&table[..width]),
            shift: RowTable::one(&table[width..]),
        };
        let times = seconds(9, || {
            let out = MatrixMut::dense(&mut *out, [tokens, width]);
            layer_norm(kernels, rows, 1e-6, affine, out);
        });
        row(&format!("layer norm, modulated {kernels} (GB/s)"), bytes, times);
        let times = seconds(9, || {
            let out = MatrixMut::dense(&mut *out, [tokens, width]);
            activate(kernels, Some(rows), Activation::GeluTanh, out);
        });
        row(&format!("GELU {kernels} (GB/s)"), bytes, times);
    }
    black_box(&out);
}
