//! `wan-torture`: ends runs of the program at random moments, and goes on with them.
//!
//! Exit code 0 if they make what quiet runs make, 1 if not, 2 if the command line is wrong
//! or a quiet run fails.

use std::process::ExitCode;

#[cfg(unix)]
mod flags;

#[cfg(unix)]
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

#[cfg(not(unix))]
fn main() -> ExitCode {
    eprintln!("processes are ended by signals, which this system does not have");
    ExitCode::from(2)
}
