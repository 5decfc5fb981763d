//! Full width: both devices, and the full VAE.

use anyhow::Result;
use wan_tests::tiny_model::TinyModel;

use crate::fact;
use crate::memory::megabytes;
use crate::run::Bench;

/// f32, one sampling step, both guidance branches.
const F32_MAX: f64 = 1e-3;

/// 5 frames of 832x480: 3 120 tokens.
const FLAGS: [&str; 12] = [
    "--prompt",
    "a red ball",
    "--size",
    "832*480",
    "--frame_num",
    "5",
    "--sampler",
    "diffusion-forcing",
    "--base_seed",
    "1",
    "--cache",
    "none",
];

pub(crate) fn check(bench: &Bench) -> Result<bool> {
    let model = bench.path("two-blocks");
    TinyModel::wide_df(2).write_from(&model, &bench.demo)?;
    let one = [&FLAGS[..], &["--sample_steps", "1", "--latents_only"]].concat();
    let (cpu, gpu) = (bench.run(&model, "cpu", &one)?, bench.run(&model, &bench.device, &one)?);
    let error = gpu.error_against(&cpu)?;
    let text = format!(
        "full width, 2 blocks, 3120 tokens: latents differ by {error:.1e}; {:.3} s a step on the \
         CPU, {:.3} s on the GPU",
        cpu.seconds_per_step(),
        gpu.seconds_per_step()
    );
    let good = fact(error < F32_MAX, &text);
    let whole = [&FLAGS[..], &["--sample_steps", "4", "--dtype", "bf16"]].concat();
    let gpu = bench.run(&model, &bench.device, &whole)?;
    println!(
        "       full width with video, bf16: {:.3} s a step, decoded in {:.2} s, {} at most",
        gpu.seconds_per_step(),
        gpu.seconds("decode"),
        megabytes(gpu.memory().peak)
    );
    Ok(good)
}
