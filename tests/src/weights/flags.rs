//! The command line of `wan-weights`.

use anyhow::{Context, Result, bail};
use wan_tests::checkout::checkout;
use wan_tests::weight_cases::{self, Options};

const HELP: &str = "\
wan-weights [DIR] [--only TEXT]

  DIR          a folder of cases (tests/weight-files)
  --only TEXT  cases with this in their names

WAN_UMT5_TOKENIZER names the tokenizer.json of google/umt5-xxl; without it its case is skipped.
";

/// Does what the command line asks for; gives whether nothing failed.
#[expect(clippy::disallowed_methods, reason = "a file that is not the project's")]
pub(crate) fn run() -> Result<bool> {
    let program = std::env::current_exe()?.with_file_name("wan");
    let tokenizer = std::env::var_os("WAN_UMT5_TOKENIZER").map(Into::into);
    let (mut folder, mut only) = (None, String::new());
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "help" | "--help" => {
                print!("{HELP}");
                return Ok(true);
            }
            "--only" => only = words.next().context("--only: a value is missing")?,
            flag if flag.starts_with('-') || folder.is_some() => {
                bail!("{flag} is not known\n{HELP}")
            }
            _ => folder = Some(word.into()),
        }
    }
    let folder = folder.unwrap_or_else(|| checkout().join(weight_cases::OWN));
    let options = Options { program, folder, tokenizer, only };
    let totals = weight_cases::run(&options, &mut |line| println!("{line}"))?;
    println!("{totals}");
    Ok(totals.failed == 0)
}
