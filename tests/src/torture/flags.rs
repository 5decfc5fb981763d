//! The command line of `wan-torture`.

use anyhow::{Context, Result, bail};
use wan_tests::torture::{Ending, Moments, Options, torture};

const HELP: &str = "\
wan-torture [--kills N] [--interrupts N] [--seed S] [--keep DIR]

  --kills N       processes that are ended by `kill -9` (200 where --interrupts is not given)
  --interrupts N  processes that are interrupted as by Ctrl-C
  --seed S        another seed than 1
  --keep DIR      where videos of runs that were ended while they decoded are kept
";

/// Does what the command line asks for; gives whether nothing failed.
pub(crate) fn run() -> Result<bool> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut flags = arguments.iter().map(String::as_str);
    let program = std::env::current_exe()?.with_file_name("wan");
    let mut options = Options {
        program,
        ending: Ending::Kill,
        stops: 0,
        seed: 1,
        moments: Moments::Time,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        keep: None,
    };
    let (mut kills, mut interrupts) = (None, None);
    while let Some(flag) = flags.next() {
        if let "help" | "--help" = flag {
            print!("{HELP}");
            return Ok(true);
        }
        let value = flags.next().with_context(|| format!("{flag}: a value is missing\n{HELP}"))?;
        let number = || value.parse::<u64>().with_context(|| format!("{flag}: a number"));
        match flag {
            "--kills" => kills = Some(number()?),
            "--interrupts" => interrupts = Some(number()?),
            "--seed" => options.seed = number()?,
            "--keep" => options.keep = Some(value.into()),
            other => bail!("{other} is not known\n{HELP}"),
        }
    }
    let kills = kills.unwrap_or(if interrupts.is_none() { 200 } else { 0 });
    let mut is_well = true;
    for (ending, stops) in [(Ending::Kill, kills), (Ending::Interrupt, interrupts.unwrap_or(0))] {
        if stops == 0 {
            continue;
        }
        let stops = usize::try_from(stops)?;
        let report = torture(&Options { ending, stops, ..options.clone() }, &|line| {
            println!("{line}");
        })?;
        print!("{report}");
        is_well &= report.failures.is_empty();
    }
    Ok(is_well)
}
