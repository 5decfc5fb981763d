//! What an operation of the host costs, called from a library through each flavour of the door.
//!
//! `cargo build --workspace --examples && cargo run --bin wan-door-cost`. The library is the fixture
//! `extension`; tensors have a few numbers, so that what is timed is the door. Medians of runs that take
//! turns.

#[path = "../../fixtures/extension/calls.rs"]
mod calls;

use std::time::Instant;

use anyhow::{Context, Result};
use wan_host::parts::{Kind, Registry};
use wan_plugin_api::library::SamplerInstance;
use wan_plugin_api::manifest::{FLAVOUR_C, FLAVOUR_RUST};
use wan_plugin_api::{Message, OptionValues, SampleRequest};
use wan_plugin_kit::VecOps;

/// Calls of one run.
const CALLS: u32 = 20_000;
const RUNS: usize = 15;

fn main() -> Result<()> {
    let (c, rust) = (sampler(FLAVOUR_C)?, sampler(FLAVOUR_RUST)?);
    let mut doors = [("in C", c), ("abi_stable", rust)];
    println!("nanoseconds of a call, on top of the operation itself");
    for operation in ["cancelled", "frame_abs_sums", "combine", "narrow_frames"] {
        let ops = VecOps::default();
        let mut seconds = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..RUNS {
            seconds[0].push(direct(&ops, operation)?);
            for (place, (_, sampler)) in doors.iter_mut().enumerate() {
                seconds[place + 1].push(through(sampler, &ops, operation)?);
            }
        }
        let [direct, c, rust] = seconds.map(median);
        let per_call = |seconds: f64| 1e9 * (seconds - direct) / f64::from(CALLS);
        println!("{operation:16} {:>6.0} in C, {:>6.0} abi_stable", per_call(c), per_call(rust));
    }
    Ok(())
}

/// The fixture's sampler that calls operations.
fn sampler(flavour: u32) -> Result<SamplerInstance> {
    let mut library = std::env::current_exe()?;
    library.pop();
    let file = format!("libfixture_extension.{}", std::env::consts::DLL_EXTENSION);
    library.push("examples");
    library.push(file);
    let mut registry = Registry::default();
    registry.prefer(flavour);
    registry.add_file(&library)?;
    let chosen = registry.choose(Kind::Sampler, "levels", &OptionValues::new())?;
    let request =
        SampleRequest { frames: 3, prefix_frames: 0, steps: 1, shift: 3.0, temporal_scale: 4 };
    Ok(chosen.sampler(&request)?)
}

/// Seconds of the calls by this program itself.
fn direct(ops: &VecOps, operation: &str) -> Result<f64> {
    let tensor = ops.tensor(3, &[1.0, 2.0, 3.0]);
    let started = Instant::now();
    calls::call(ops, &tensor, operation, CALLS)?;
    Ok(started.elapsed().as_secs_f64())
}

/// Seconds of the calls by the library.
fn through(sampler: &mut SamplerInstance, ops: &VecOps, operation: &str) -> Result<f64> {
    let document = serde_json::to_string(&(operation, CALLS)).context("a question")?;
    let message = Message { document, tensors: vec![ops.tensor(3, &[1.0, 2.0, 3.0])] };
    let started = Instant::now();
    sampler.extension("fixture.calls/1", message, ops)?;
    Ok(started.elapsed().as_secs_f64())
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}
