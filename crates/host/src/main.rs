//! The program `wan`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(wan_host::cli::run(std::env::args_os()))
}
