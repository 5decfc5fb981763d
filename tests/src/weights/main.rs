//! `wan-weights`: cases of weight files, a line for each check.
//!
//! Exit code 0 if none failed, 1 if one did, 2 if the command line is wrong or there is no set of
//! cases.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
mod flags;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    match flags::run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("limits are set on processes from outside, which this system cannot");
    ExitCode::from(2)
}
