//! What one forward holds, counted allocation by allocation, against `docs/memory.md`.
//!
//! A process of its own: the counter is the process's allocator. The full size is not for CI:
//! `cargo test -p wan-model --test memory -- --ignored --nocapture`.
#![expect(unsafe_code, reason = "an allocator that counts is an unsafe trait; it only forwards")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use candle_core::{DType, Device, Result, Tensor};
use wan_kernels::Kernels;
use wan_model::footprint::{Cpu, Evaluation, EvaluationBytes};
use wan_model::published::find;
use wan_model::weights::{Scope, Source, Weight};
use wan_model::{Attention, Numerics, ResidualStream, Timesteps, WanConfig, WanModel};

/// Counts bytes held, and the most since [`restart`].
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);

/// One measurement at a time: the counter is the process's.
static MEASURING: Mutex<()> = Mutex::new(());

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn grow(bytes: usize) {
    let held = HELD.fetch_add(bytes, SeqCst) + bytes;
    MOST.fetch_max(held, SeqCst);
    LARGEST.fetch_max(bytes, SeqCst);
}

// SAFETY: every call goes to the system's allocator with the arguments it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promises are those `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        HELD.fetch_sub(layout.size(), SeqCst);
        grow(bytes);
        // SAFETY: as above.
        unsafe { System.realloc(start, layout, bytes) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), SeqCst);
        // SAFETY: as above.
        unsafe { System.dealloc(start, layout) }
    }
}

fn restart() -> usize {
    let held = HELD.load(SeqCst);
    MOST.store(held, SeqCst);
    LARGEST.store(0, SeqCst);
    held
}

/// Cheap numbers between -bound and bound, always the same.
fn uniform(bound: f32, shape: &[usize]) -> Result<Tensor> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 8) as f32 / 8_388_608. - 1.) * bound
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// Cheap numbers for every name and shape.
struct AnyWeights;

impl Source for AnyWeights {
    fn get(&self, _: &str, shape: &[usize]) -> wan_model::Result<Weight> {
        let inputs = shape.iter().skip(1).product::<usize>().max(1);
        Ok(Weight::Dense(uniform((3. / inputs as f32).sqrt(), shape)?))
    }

    fn has(&self, _: &str) -> bool {
        true
    }
}

/// What is measured: a model, a video, and the threads that run it.
struct Forward {
    config: WanConfig,
    numerics: Numerics,
    /// Latents `[C,F,H,W]` without the channels.
    latent: [usize; 3],
    text_tokens: usize,
    threads: usize,
}

impl Forward {
    fn tokens(&self) -> usize {
        self.latent[0] * self.latent[1] * self.latent[2] / 4
    }

    fn formula(&self) -> EvaluationBytes {
        let evaluation = Evaluation {
            tokens: self.tokens(),
            text_tokens: self.text_tokens,
            image_tokens: 0,
            on: Cpu { kernels: Kernels::detect(), threads: self.threads },
            is_widened: false,
        };
        evaluation.bytes(&self.config, self.numerics)
    }

    /// Runs one forward; gives the peak over the weights and the largest allocation, in bytes.
    fn measure(&self) -> (usize, usize) {
        let scope = Scope::new(AnyWeights, DType::F32, &Device::Cpu);
        let model = WanModel::load_with(self.config.clone(), scope, self.numerics).unwrap();
        let [frames, height, width] = self.latent;
        let noise = |shape: &[usize]| uniform(1.7, shape).unwrap();
        let latents = noise(&[1, self.config.in_channels, frames, height, width]);
        let prompt = noise(&[1, self.text_tokens, self.config.text_dim]);
        let levels = (0..frames).map(|frame| 900. - 100. * frame as f64).collect();
        let timesteps = Timesteps::per_frame(&[levels]).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build().unwrap();
        let start = restart();
        let velocity = pool.install(|| {
            let text = model.text_context(&prompt).unwrap();
            let embedded = model.embed(&latents, &timesteps, None).unwrap();
            let blocks = 0..self.config.num_layers;
            let hidden = &embedded.hidden;
            let hidden = model.blocks(blocks, hidden, &embedded, &text, Attention::Bidirectional);
            model.head(&hidden.unwrap(), &embedded).unwrap()
        });
        let (peak, largest) = (MOST.load(SeqCst) - start, LARGEST.load(SeqCst));
        let mean = velocity.sqr().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(mean.is_finite() && mean > 0.);
        println!("weights {} MB", start / 1_000_000);
        (peak, largest)
    }

    /// The proof: no tensor of tokens x 6 x D in any format, and the formula holds to 10 %.
    fn prove(&self) {
        let _alone = MEASURING.lock();
        let formula = self.formula();
        let (peak, largest) = self.measure();
        let expanded = self.tokens() * 6 * self.config.dim() * 2; // in half precision
        let ratio = peak as f64 / formula.sum() as f64;
        println!("{:?} {formula:?}", self.numerics);
        println!("peak {peak}, formula {}, ratio {ratio:.3}", formula.sum());
        println!("largest allocation {largest}, tokens x 6 x D {expanded}");
        assert!(largest < expanded, "an allocation of {largest} bytes");
        assert!((0.9..=1.1).contains(&ratio), "peak {peak} bytes, {ratio:.3} of the formula");
    }
}

/// The transformer of the published model of this id.
fn transformer(id: &str) -> WanConfig {
    find(id).unwrap().transformer.clone()
}

/// Small enough for CI, large enough for runs, chunks and heads to be several.
fn small(numerics: Numerics) -> Forward {
    let config = WanConfig {
        num_attention_heads: 8,
        attention_head_dim: 64,
        ffn_dim: 2048,
        text_dim: 64,
        num_layers: 2,
        ..transformer("t2v-1.3B")
    };
    Forward { config, numerics, latent: [3, 64, 64], text_tokens: 64, threads: 2 }
}

const HALF: Numerics = Numerics { compute: DType::BF16, stream: ResidualStream::Compute };

#[test]
fn a_small_forward_holds_what_the_formula_says() {
    for stream in [ResidualStream::F32, ResidualStream::Compute] {
        small(Numerics { stream, ..HALF }).prove();
    }
    small(Numerics::default()).prove();
}

/// 832x480, 9 frames: 4680 tokens.
fn at_1_3b_shape(num_layers: usize, numerics: Numerics) {
    let config = WanConfig { num_layers, ..transformer("t2v-1.3B") };
    Forward { config, numerics, latent: [3, 60, 104], text_tokens: 512, threads: 2 }.prove();
}

#[test]
#[ignore = "a minute, half a gigabyte of random weights"]
fn two_blocks_at_1_3b_shape_in_f32() {
    at_1_3b_shape(2, Numerics::default());
}

#[test]
#[ignore = "a minute, a gigabyte of random weights"]
fn four_blocks_at_1_3b_shape_in_f32() {
    at_1_3b_shape(4, Numerics::default());
}

#[test]
#[ignore = "a minute, half a gigabyte of random weights"]
fn two_blocks_at_1_3b_shape_in_bf16() {
    at_1_3b_shape(2, HALF);
}

#[test]
#[ignore = "minutes, three gigabytes of random weights"]
fn thirty_blocks_at_1_3b_shape_in_bf16() {
    at_1_3b_shape(30, HALF);
}
