//! Convolution against sums in f64, on every path that the processor has, and its laws.

use half::bf16;
use proptest::prelude::*;
use wan_kernels::{
    Context, Elements, Frames, Geometry, Kernels, Matrix, MatrixMut, PackedConv, Pool, Precision,
    convolve,
};

use crate::support::{bits, bits_of_bf16, in_pool_of, noise, rounded, to_bf16};

#[derive(Clone, Debug)]
struct Case {
    geometry: Geometry,
    channels: usize,
    outputs: usize,
    /// Frames, those that are zeros, rows and columns.
    frames: usize,
    zeros: usize,
    height: usize,
    width: usize,
    precision: Precision,
    seed: u64,
}

fn geometries() -> impl Strategy<Value = Geometry> {
    let sizes = (1usize..4, 1usize..3, 1usize..4, 1usize..3);
    (sizes, 0usize..2, 0usize..2, any::<bool>()).prop_map(
        |((taps, time_stride, kernel, stride), pad_before, pad_after, doubled)| Geometry {
            taps,
            time_stride,
            kernel,
            stride,
            pad_before,
            pad_after,
            doubled,
        },
    )
}

fn cases() -> impl Strategy<Value = Case> {
    let channels = prop_oneof![3 => 0usize..8, 1 => 14usize..36];
    let outputs = prop_oneof![2 => 0usize..6, 1 => 10usize..27];
    let width = prop_oneof![5 => 0usize..12, 1 => 30usize..36, 1 => 255usize..260];
    let precision = prop_oneof![Just(Precision::F32), Just(Precision::Bf16)];
    let frames = (0usize..6, 0usize..3);
    (geometries(), channels, outputs, frames, 0usize..8, width, precision, any::<u64>()).prop_map(
        |(geometry, channels, outputs, (frames, zeros), height, width, precision, seed)| Case {
            geometry,
            channels,
            outputs,
            frames,
            zeros,
            height,
            width,
            precision,
            seed,
        },
    )
}

impl Case {
    fn numbers(&self) -> [Vec<f32>; 3] {
        let taps = self.geometry.taps * self.geometry.kernel.pow(2);
        [
            noise(self.seed, self.frames * self.frame()),
            noise(!self.seed, self.outputs * self.channels * taps),
            noise(self.seed ^ 1, self.outputs),
        ]
    }

    fn frame(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Frames and channels, and pixels, that come out.
    fn out(&self) -> [usize; 2] {
        let [height, width] = [self.height, self.width].map(|size| self.geometry.output(size));
        [self.geometry.frames(self.frames) * self.outputs, height * width]
    }

    fn weight<'a>(&self, weight: &'a [f32]) -> Matrix<'a> {
        let taps = self.geometry.taps * self.geometry.kernel.pow(2);
        Matrix::dense(weight, [self.outputs, self.channels * taps])
    }

    fn run(&self, context: Context, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        let frames: Vec<_> = (0..self.frames)
            .map(|n| {
                (n >= self.zeros).then(|| Elements::F32(&x[n * self.frame()..][..self.frame()]))
            })
            .collect();
        let frames = Frames { frames: &frames, height: self.height, width: self.width };
        let weight = self.weight(weight);
        let conv = PackedConv::new(context.kernels, weight, self.geometry, self.precision);
        let mut out = vec![f32::NAN; self.out()[0] * self.out()[1]];
        let into = MatrixMut::dense(&mut *out, self.out());
        convolve(context, (frames, &conv), Some(bias), None, into);
        out
    }

    /// The sum of each output in f64, and that of its absolute terms.
    fn exact(&self, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<(f64, f64)> {
        let Geometry { taps, time_stride, kernel, stride, pad_before, doubled, .. } = self.geometry;
        let (_, width) = (self.geometry.output(self.height), self.geometry.output(self.width));
        let scale = 1 + usize::from(doubled);
        let place = |out: usize, offset: usize, size: usize| {
            let padded = (out * stride + offset) as isize - pad_before as isize;
            (padded >= 0 && (padded as usize) < size * scale).then(|| padded as usize / scale)
        };
        let one = |row: usize, pixel: usize| {
            let (frame, output) = (row / self.outputs, row % self.outputs);
            let (y, x_out) = (pixel / width, pixel % width);
            let mut sum = (f64::from(bias[output]), f64::from(bias[output].abs()));
            for (c, t) in (0..self.channels).flat_map(|c| (0..taps).map(move |t| (c, t))) {
                let frame = frame * time_stride + t;
                for (ky, kx) in (0..kernel).flat_map(|y| (0..kernel).map(move |x| (y, x))) {
                    let (Some(y), Some(x_in)) =
                        (place(y, ky, self.height), place(x_out, kx, self.width))
                    else {
                        continue;
                    };
                    if frame >= self.zeros {
                        let at =
                            ((frame * self.channels + c) * self.height + y) * self.width + x_in;
                        let of = (((output * self.channels + c) * taps + t) * kernel + ky) * kernel;
                        let term = f64::from(x[at]) * f64::from(weight[of + kx]);
                        sum = (sum.0 + term, sum.1 + term.abs());
                    }
                }
            }
            sum
        };
        let [rows, pixels] = self.out();
        (0..rows)
            .flat_map(|row| (0..pixels).map(move |pixel| (row, pixel)))
            .map(|(r, p)| one(r, p))
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_convolution_is_the_sum_over_its_window(case in cases()) {
        let [x, weight, bias] = case.numbers();
        let exact = match case.precision {
            Precision::F32 => case.exact(&x, &weight, &bias),
            Precision::Bf16 => case.exact(&rounded(&x), &rounded(&weight), &bias),
        };
        let taps = case.geometry.taps * case.geometry.kernel.pow(2);
        let steps = 2. * (case.channels * taps + 2) as f64;
        let pool = Pool::new();
        for kernels in Kernels::all() {
            let found = case.run(Context { kernels, pool: &pool }, &x, &weight, &bias);
            prop_assert_eq!(found.len(), exact.len());
            for (number, (found, (sum, size))) in found.iter().zip(&exact).enumerate() {
                let off = (f64::from(*found) - sum).abs();
                let bound = steps * f64::from(f32::EPSILON) * size;
                prop_assert!(off <= bound, "{kernels}: {number}: {found} for {sum}");
            }
        }
    }

    /// Neither threads, nor the size of the picture, nor the outputs beside change a bit.
    #[test]
    fn a_pixel_depends_on_its_window_alone(
        case in cases(), threads in 1usize..20, rows in 0usize..8,
    ) {
        let [x, weight, bias] = case.numbers();
        // The same frames without their last rows; what is still whole of the output is the same.
        let cut = Case { height: rows.min(case.height), ..case.clone() };
        let of_plane = |plane: &[f32]| plane[..cut.height * cut.width].to_vec();
        let planes = x.chunks((case.height * case.width).max(1));
        let cut_x: Vec<f32> = planes.flat_map(of_plane).collect();
        for kernels in Kernels::all() {
            let (pool, other) = (Pool::new(), Pool::new());
            let context = Context { kernels, pool: &pool };
            let whole = in_pool_of(1, || case.run(context, &x, &weight, &bias));
            let context = Context { kernels, pool: &other };
            let again = in_pool_of(threads, || case.run(context, &x, &weight, &bias));
            prop_assert_eq!(bits(&again), bits(&whole), "{}", kernels);
            let found = in_pool_of(threads, || cut.run(context, &cut_x, &weight, &bias));
            let width = case.geometry.output(case.width);
            // Output rows that read no row beyond the cut.
            let scale = 1 + usize::from(case.geometry.doubled);
            let read = |y: usize| y * case.geometry.stride + case.geometry.kernel;
            let whole_rows = (0..cut.geometry.output(cut.height))
                .take_while(|y| read(*y) <= cut.height * scale + case.geometry.pad_before)
                .count();
            for (row, found) in found.chunks(cut.out()[1].max(1)).enumerate() {
                let expected = &whole[row * case.out()[1]..][..whole_rows * width];
                prop_assert_eq!(bits(&found[..whole_rows * width]), bits(expected), "{}", kernels);
            }
        }
    }

    #[test]
    fn formats_and_what_is_added(case in cases()) {
        let [x, weight, bias] = case.numbers();
        let (narrow, x) = (to_bf16(&x), rounded(&x));
        let residual = noise(case.seed ^ 7, case.out()[0] * case.out()[1]);
        let pool = Pool::new();
        for kernels in Kernels::all() {
            let context = Context { kernels, pool: &pool };
            let expected = case.run(context, &x, &weight, &bias);
            let expected: Vec<f32> = expected.iter().zip(&residual).map(|(a, b)| a + b).collect();
            let frames: Vec<_> = (0..case.frames)
                .map(|n| &narrow[n * case.frame()..][..case.frame()])
                .enumerate()
                .map(|(n, frame)| (n >= case.zeros).then_some(Elements::Bf16(frame)))
                .collect();
            let frames = Frames { frames: &frames, height: case.height, width: case.width };
            let weight = case.weight(&weight);
            let conv = PackedConv::new(kernels, weight, case.geometry, case.precision);
            let mut out = vec![bf16::ONE; expected.len()];
            let into = MatrixMut::dense(&mut *out, case.out());
            let add = Matrix::dense(&*residual, case.out());
            convolve(context, (frames, &conv), Some(&bias), Some(add), into);
            prop_assert_eq!(bits_of_bf16(&out), bits_of_bf16(&to_bf16(&expected)));
        }
    }

    #[test]
    fn a_nan_comes_out_of_every_window_that_has_it(
        case in cases().prop_filter("numbers", |c| c.frames * c.frame() > 0),
        place in any::<prop::sample::Index>(),
    ) {
        let [clean, weight, bias] = case.numbers();
        let mut x = clean.clone();
        let at = place.index(x.len());
        x[at] = f32::NAN;
        // Which outputs see it: those that one there, among zeros, reaches.
        let mut one = vec![0.; x.len()];
        one[at] = 1.;
        let seen = case.exact(&one, &vec![1.; weight.len()], &vec![0.; bias.len()]);
        let pool = Pool::new();
        for kernels in Kernels::all() {
            let context = Context { kernels, pool: &pool };
            let expected = case.run(context, &clean, &weight, &bias);
            let found = case.run(context, &x, &weight, &bias);
            for (n, (found, expected)) in found.iter().zip(&expected).enumerate() {
                match seen[n].1 > 0. {
                    true => prop_assert!(found.is_nan(), "{} {}", kernels, n),
                    false => prop_assert_eq!(found.to_bits(), expected.to_bits()),
                }
            }
        }
    }
}
