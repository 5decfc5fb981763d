//! `wan-golden [--device DEVICE] [DIR]`: runs golden cases and prints one line for each, on the CPU
//! unless another device is named.
//!
//! Exit code 0 if none failed, 1 if one did, 2 if the folder or the device is not there.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use candle_core::Device;
use wan_host::DeviceChoice;
use wan_tests::checkout::checkout;
use wan_tests::golden::{self, Verdict};

fn main() -> ExitCode {
    match run() {
        Ok(failed) => ExitCode::from(u8::from(failed > 0)),
        Err(error) => {
            eprintln!("wan-golden: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// How many cases failed.
fn run() -> anyhow::Result<usize> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut device = Device::Cpu;
    if let Some(place) = arguments.iter().position(|argument| argument == "--device") {
        let named: Vec<String> = arguments.drain(place..arguments.len().min(place + 2)).collect();
        let choice = named.get(1).context("--device needs a value")?.parse::<DeviceChoice>();
        device = choice.map_err(anyhow::Error::msg).context("--device")?.open()?;
    }
    let folder = arguments.first().map_or_else(default_folder, PathBuf::from);
    let cases = golden::find(&folder)?;
    let [mut passed, mut failed, mut skipped] = [0; 3];
    for case in &cases {
        let report = golden::run(case, &device);
        println!("{report}");
        match report.verdict {
            Verdict::Pass => passed += 1,
            Verdict::Fail => failed += 1,
            Verdict::NotSupported => skipped += 1,
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(failed)
}

/// The cases that lie in the repository.
fn default_folder() -> PathBuf {
    checkout().join("tests/golden")
}
