//! What a cache takes of the GPU's memory: a model of full width in diffusion forcing, 81 frames of
//! 832x480 (32 760 tokens), bf16.

use anyhow::Result;
use wan_tests::tiny_model::TinyModel;

use crate::fact;
use crate::run::{Bench, Run};

const BLOCKS: usize = 3;

/// What a few small tensors more or less, and rounding up, may come to.
const SLACK: u64 = 1 << 20;

const FLAGS: [&str; 16] = [
    "--prompt",
    "a red ball",
    "--size",
    "832*480",
    "--frame_num",
    "81",
    "--sample_steps",
    "5",
    "--sampler",
    "diffusion-forcing",
    "--latents_only",
    "--dtype",
    "bf16",
    "--base_seed",
    "1",
    "--negative_prompt=",
];

/// Every second evaluation is a reuse.
const OPTIONS: [&str; 8] = [
    "--cache-option",
    "threshold=100",
    "--cache-option",
    "table=none",
    "--cache-option",
    "retention=1",
    "--cache-option",
    "last=0",
];

pub(crate) fn check(bench: &Bench) -> Result<bool> {
    let model = bench.path("wide");
    TinyModel::wide_df(BLOCKS).write_from(&model, &bench.demo)?;
    let run = |flags: &[&str]| bench.run(&model, &bench.device, &[&FLAGS[..], flags].concat());
    let off = run(&["--cache", "none"])?;
    print("no cache", &off);
    let mut good = true;
    for cache in ["teacache", "teacache-half"] {
        let on = |place: &str| {
            let flags = ["--cache", cache, "--cache_device", place];
            run(&[&flags[..], &OPTIONS].concat())
        };
        let (main, host) = (on("main")?, on("host")?);
        print(&format!("{cache} on the GPU"), &main);
        print(&format!("{cache} on the host"), &host);
        good &= frees(cache, &off, &main, &host)?;
    }
    Ok(good)
}

fn print(name: &str, run: &Run) {
    println!(
        "       {name}: {} between rounds, {} at most; the ledger has {} on the GPU, {} on the \
         host; {:.3} s a step",
        megabytes(run.memory().held),
        megabytes(run.memory().peak),
        megabytes(run.cache_bytes("device")),
        megabytes(run.cache_bytes("host")),
        run.seconds_per_step()
    );
}

/// On the GPU a cache takes what its ledger says, on the host nothing of the GPU; the latents are
/// the same.
fn frees(cache: &str, off: &Run, main: &Run, host: &Run) -> Result<bool> {
    let held = main.cache_bytes("device");
    let taken = main.memory().held.saturating_sub(host.memory().held);
    let beside = host.memory().held.abs_diff(off.memory().held);
    let error = host.error_against(main)?;
    let reused = main.report.decisions["reused"].as_u64().unwrap_or(0);
    let text = format!(
        "{cache}: the ledger has {}, moving it to the host frees {}; the host's run takes {} more \
         or less than none; {reused} reuses, latents differ by {error:.1e}",
        megabytes(held),
        megabytes(taken),
        megabytes(beside)
    );
    let fits = held > 0 && taken.abs_diff(held) <= SLACK && beside <= SLACK;
    Ok(fact(fits && reused > 0 && error < 1e-3 && host.cache_bytes("device") == 0, &text))
}

pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
