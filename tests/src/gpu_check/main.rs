//! `wan-gpu-check --demo DIR [--device DEVICE] [agreement | memory | size ...]`: what only a GPU
//! can show, one line for each fact. Runs the `wan` that lies beside it; no part named means all.
//!
//! - `agreement`: the demo model on the CPU and on the GPU, in f32 and bf16, with caches and
//!   without;
//! - `memory`: what a cache takes of the GPU's memory, and that `--cache_device host` takes none;
//! - `size`: a model of full width on the CPU and on the GPU, and a video of 832x480 decoded.
//!
//! Exit code 0 if all is as it should be, 1 if not, 2 if something could not be run.

mod agreement;
mod memory;
mod run;
mod size;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use wan_host::DeviceChoice;

use run::Bench;

const PARTS: [&str; 3] = ["agreement", "memory", "size"];

fn main() -> ExitCode {
    match check() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("wan-gpu-check: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether all is as it should be.
fn check() -> Result<bool> {
    let (mut demo, mut device, mut parts) = (None, "cuda".to_string(), Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--demo" => demo = arguments.next().map(PathBuf::from),
            "--device" => device = arguments.next().context("--device needs a value")?,
            part if PARTS.contains(&part) => parts.push(argument),
            other => bail!("{other}: expected --demo DIR, --device DEVICE or {}", PARTS.join(", ")),
        }
    }
    let demo = demo.context("--demo DIR, the folder of the demo model, is needed")?;
    {
        // Opened for its name alone: each part opens its own.
        let opened = device.parse::<DeviceChoice>().map_err(anyhow::Error::msg)?.open()?;
        println!("device: {}", DeviceChoice::describe(&opened));
    }
    let bench = Bench::new(demo, device)?;
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|p| p == part);
    let mut good = true;
    if wanted("agreement") {
        good &= agreement::check(&bench)?;
    }
    if wanted("memory") {
        good &= memory::check(&bench)?;
    }
    if wanted("size") {
        good &= size::check(&bench)?;
    }
    Ok(good)
}

/// A fact, and whether it is as it should be.
fn fact(holds: bool, text: &str) -> bool {
    println!("{} {text}", if holds { "ok    " } else { "FAILED" });
    holds
}
