//! How fast the kernels are here, all or parts of them, on all paths or those that are named:
//! `cargo run --release -p wan-kernels --example speed -- product avx2`.
//!
//! GFLOP/s for shapes of the 1.3B model: the median of several runs, the spread, and the rate by
//! the processor's time. What else runs on the machine slows the former and hardly the latter, in
//! which a thread that waits counts where it spins.

use std::hint::black_box;
use std::time::Instant;

use wan_kernels::{
    Activation, Affine, Attention, Context, Elements, Epilogue, Frames, Geometry, Kernels, Matrix,
    MatrixMut, PackedConv, PackedWeight, Path, Pool, Precision, RowTable, Span, Weight, activate,
    attend, convolve, layer_norm, multiply,
};

fn main() {
    println!("{} kernels, {} threads", Kernels::detect(), rayon::current_num_threads());
    type Part = fn(&[Kernels]);
    let parts: [(&str, Part); 4] = [
        ("product", products),
        ("attention", attention),
        ("convolution", convolution),
        ("rows", rows),
    ];
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let named: Vec<Kernels> = asked.iter().filter_map(|name| name.parse().ok()).collect();
    let kernels = if named.is_empty() {
        Path::ALL.map(Kernels::of).into_iter().flatten().collect()
    } else {
        named
    };
    let is_asked = |name: &str| asked.iter().any(|asked| asked == name);
    let all = !parts.iter().any(|(name, _)| is_asked(name));
    for (_, part) in parts.iter().filter(|(name, _)| all || is_asked(name)) {
        part(&kernels);
    }
}

/// Seconds of `runs` runs, after one that does not count: median, least and most on the clock, and
/// the median of a thread's share of the processor's time.
fn seconds(runs: usize, mut work: impl FnMut()) -> [f64; 4] {
    work();
    let (mut times, mut own): (Vec<f64>, Vec<f64>) = (0..runs)
        .map(|_| {
            let (start, before) = (Instant::now(), processor());
            work();
            let own = (processor() - before) / rayon::current_num_threads() as f64;
            (start.elapsed().as_secs_f64(), own)
        })
        .unzip();
    times.sort_by(f64::total_cmp);
    own.sort_by(f64::total_cmp);
    [times[runs / 2], times[0], times[runs - 1], own[runs / 2]]
}

/// Seconds that this program has had of all processors.
fn processor() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Prints rates: by the clock, its spread, and by processor time.
fn row(name: &str, operations: f64, [median, least, most, own]: [f64; 4]) {
    let [median, least, most, own] =
        [median, most, least, own].map(|seconds| operations / seconds / 1e9);
    println!("{name:48} {median:7.1}  ({least:.1} to {most:.1})  {own:7.1}");
}

fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.
    };
    (0..count).map(|_| next()).collect()
}

fn products(all: &[Kernels]) {
    for [m, k, n] in [
        [390, 1536, 1536],
        [1170, 1536, 1536],
        [1170, 1536, 8960],
        [1170, 8960, 1536],
        [390, 1536, 8960],
    ] {
        let (x, w) = (noise(m * k, 1), noise(n * k, 2));
        let mut out = vec![0f32; m * n];
        let operations = 2. * (m * n * k) as f64;
        let gemm = seconds(5, || by_gemm(&x, &w, &mut out, [m, n, k]));
        row(&format!("{m}x{k}x{n} gemm 0.19 f32"), operations, gemm);
        for &kernels in all {
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
fn attention(all: &[Kernels]) {
    let (heads, width) = (12, 12 * 128);
    for (queries, keys) in [(390, 1170), (1170, 1170), (512, 4680), (512, 32_760)] {
        let of = |tokens: usize, seed| noise(tokens * width, seed);
        let [q, k, v] = [of(queries, 1), of(keys, 2), of(keys, 3)];
        let mut out = vec![0f32; queries * width];
        let operations = 4. * (queries * keys * width) as f64;
        for &kernels in all {
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
fn convolution(all: &[Kernels]) {
    let geometry = Geometry { taps: 3, kernel: 3, pad_before: 1, pad_after: 1, ..Geometry::POINT };
    for (channels, height, width) in
        [(96, 60, 80), (384, 30, 40), (384, 60, 80), (192, 120, 160), (96, 240, 320)]
    {
        let frame = channels * height * width;
        let (x, weight) = (noise(3 * frame, 1), noise(channels * channels * 27, 2));
        let frames: Vec<_> = x.chunks(frame).map(|frame| Some(Elements::F32(frame))).collect();
        let mut out = vec![0f32; frame];
        let operations = 2. * (frame * channels * 27) as f64;
        for &kernels in all {
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
fn rows(all: &[Kernels]) {
    let (tokens, width) = (1170, 1536);
    let x = noise(tokens * width, 1);
    let table = noise(2 * width, 2);
    let mut out = vec![0f32; tokens * width];
    let bytes = 8. * (tokens * width) as f64;
    row("copy (GB/s)", bytes, seconds(9, || out.copy_from_slice(black_box(&x))));
    for &kernels in all {
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
