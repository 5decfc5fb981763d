//! `wan-bad-plugins`: checks every bad plugin and prints one line for each defect.
//!
//! Exit code 0 if every defect was caught for its own reason, 1 if not, 2 if something is not
//! built.

use std::process::ExitCode;

use anyhow::{Context, Result};
use wan_tests::bad_plugins;

fn main() -> ExitCode {
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

/// How many were missed.
fn run() -> Result<usize> {
    let program = std::env::current_exe()?;
    let folder = program.parent().context("a program lies in a folder")?;
    let outcomes = bad_plugins::run(folder, &mut |outcome| println!("{outcome}"))?;
    let missed = outcomes.iter().filter(|o| o.wrong.is_some()).count();
    println!("{} caught, {missed} missed", outcomes.len() - missed);
    Ok(missed)
}
