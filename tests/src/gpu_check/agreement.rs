//! The demo model on both devices.

use anyhow::Result;

use crate::fact;
use crate::run::{Bench, Run};

/// f32 on both devices: sums are taken in another order, and a sampling carries that along.
const F32_MAX: f64 = 2e-4;

/// The same where a cache keeps halves: a difference in the last bit of f32 can be one in the last
/// bit of bf16, which is 4e-3 of a number.
const HALF_CACHE_MAX: f64 = 2e-3;

/// Half precision on the GPU may be this many times as far from f32 as it is on the CPU.
const BF16_TIMES: f64 = 1.5;

/// Ways to sample; the last one goes on from the video of the first.
const CASES: [(&str, &[&str]); 4] = [
    ("diffusion forcing", &[]),
    ("text to video", &["--sampler", "unipc"]),
    (
        "asynchronous",
        &["--ar_step", "3", "--causal_block_size", "3", "--attention", "block_causal"],
    ),
    ("extension", &["--frame_num", "49"]),
];

/// Caches; with `--cache_device host` where it says so.
const CACHES: [(&str, &[&str]); 4] = [
    ("no cache", &["--cache", "none"]),
    ("forecast", &["--cache", "forecast"]),
    ("teacache", &["--cache", "teacache"]),
    ("teacache-half on the host", &["--cache", "teacache-half", "--cache_device", "host"]),
];

pub(crate) fn check(bench: &Bench) -> Result<bool> {
    let mut good = true;
    let mut clip: Option<String> = None;
    for (case, flags) in CASES {
        let mut flags = flags.to_vec();
        let clip_name = clip.clone().unwrap_or_default();
        if case == "extension" {
            flags.extend(["--video", clip_name.as_str()]);
        }
        for (cache, cache_flags) in CACHES {
            let flags = [&flags[..], cache_flags].concat();
            let name = format!("{case}, {cache}");
            let cpu = bench.run(&bench.demo, "cpu", &flags)?;
            let gpu = bench.run(&bench.demo, &bench.device, &flags)?;
            clip.get_or_insert_with(|| cpu.video.display().to_string());
            let most = if cache.contains("half") { HALF_CACHE_MAX } else { F32_MAX };
            good &= agree(&name, (&cpu, &gpu), most)?;
            if cache == "no cache" {
                good &= agree_in_half(bench, &name, &flags, &cpu)?;
            }
        }
    }
    Ok(good & agree_in_eighths(bench)?)
}

/// The same decisions, and latents that differ by rounding.
fn agree(name: &str, (cpu, gpu): (&Run, &Run), most: f64) -> Result<bool> {
    let error = gpu.error_against(cpu)?;
    let decided = |run: &Run| -> Vec<_> {
        run.report.evaluations.iter().map(|e| e["choice"].clone()).collect()
    };
    let alike = decided(cpu) == decided(gpu);
    Ok(fact(
        alike && error < most,
        &format!(
            "{name}: latents differ by {error:.1e}, decisions {}; {:.4} s a step on the CPU, {:.4} \
             s on the GPU",
            if alike { "alike" } else { "DIFFER" },
            cpu.seconds_per_step(),
            gpu.seconds_per_step()
        ),
    ))
}

/// bf16 with either residual stream.
fn agree_in_half(bench: &Bench, name: &str, flags: &[&str], f32: &Run) -> Result<bool> {
    let mut good = true;
    for half in [&["--dtype", "bf16"][..], &["--dtype", "bf16", "--narrow_stream"]] {
        let flags = [flags, half].concat();
        let cpu = bench.run(&bench.demo, "cpu", &flags)?.error_against(f32)?;
        let gpu = bench.run(&bench.demo, &bench.device, &flags)?.error_against(f32)?;
        let text = format!(
            "{name}, {}: {gpu:.1e} from f32 on the GPU, {cpu:.1e} on the CPU",
            half.join(" ")
        );
        good &= fact(gpu < BF16_TIMES * cpu, &text);
    }
    Ok(good)
}

/// A cache that keeps 8-bit floats, which candle cannot cast on the GPU.
fn agree_in_eighths(bench: &Bench) -> Result<bool> {
    let flags = ["--cache", "teacache-half", "--dtype", "bf16", "--narrow_stream"];
    let cpu = bench.run(&bench.demo, "cpu", &flags)?;
    let gpu = bench.run(&bench.demo, &bench.device, &flags)?;
    let (cpu_bytes, gpu_bytes) = (cpu.cache_bytes("host"), gpu.cache_bytes("device"));
    let text = format!(
        "8-bit cache: {gpu_bytes} bytes held on the GPU, {cpu_bytes} on the CPU; latents \
         differ by {:.1e}",
        gpu.error_against(&cpu)?
    );
    Ok(fact(gpu_bytes == cpu_bytes && gpu_bytes > 0, &text))
}
