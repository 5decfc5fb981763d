//! `wan-golden [DIR]`: runs golden cases and prints one line for each.
//!
//! Exit code 0 if none failed, 1 if one did, 2 if the folder is not there.

use std::path::PathBuf;
use std::process::ExitCode;

use wan_tests::golden::{self, Verdict};

fn main() -> ExitCode {
    let folder = std::env::args_os().nth(1).map_or_else(default_folder, PathBuf::from);
    let cases = match golden::find(&folder) {
        Ok(cases) => cases,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::from(2);
        }
    };
    let [mut passed, mut failed, mut skipped] = [0; 3];
    for case in &cases {
        let report = golden::run(case);
        println!("{report}");
        match report.verdict {
            Verdict::Pass => passed += 1,
            Verdict::Fail => failed += 1,
            Verdict::NotSupported => skipped += 1,
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    ExitCode::from(u8::from(failed > 0))
}

/// The cases that lie in the repository.
fn default_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden")
}
