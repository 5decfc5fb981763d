//! `wan-mutants [--seed N] [--cases N] [--documents DIR]`: runs the properties against every
//! mutant and prints one line for each; `--documents` writes the pages that show what was found.
//!
//! Exit code 0 if every mutant was killed and every sound cache passed, 1 if not, 2 if the
//! command line or a library is wrong.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use wan_plugin_kit::Config;
use wan_tests::memory_of_caches;
use wan_tests::mutants::{self, Outcome};

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode> {
    let (config, documents) = arguments()?;
    let program = std::env::current_exe()?;
    let folder = program.parent().context("a program lies in a folder")?;
    let (library, plugins) = mutants::libraries(folder)?;
    let outcomes = mutants::run(&library, &plugins, &config, &mut |o| println!("{o}"))?;
    let count = |which: fn(&&Outcome) -> bool| outcomes.iter().filter(which).count();
    let killed = count(|o| o.defect.is_some() && o.is_good());
    let survived = count(|o| o.defect.is_some() && !o.is_good());
    let failed = count(|o| o.defect.is_none() && !o.is_good());
    if let Some(folder) = documents {
        let pages = [
            ("cache-properties.md", mutants::document(&outcomes)),
            ("memory-of-caches.md", memory_of_caches::document(&mutants::subjects(&plugins)?)),
        ];
        for (name, text) in pages {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        }
    }
    if failed > 0 {
        println!("{failed} sound caches failed");
    }
    println!("{killed} killed, {survived} survived");
    Ok(ExitCode::from(u8::from(survived + failed > 0)))
}

/// How thoroughly is checked, and where the pages go.
fn arguments() -> Result<(Config, Option<PathBuf>)> {
    let (mut config, mut documents) = (mutants::config(), None);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--seed" => config.seed = value.parse().context("--seed: a whole number")?,
            "--cases" => config.cases = value.parse().context("--cases: a whole number")?,
            "--documents" => documents = Some(value.into()),
            _ => bail!("there is no option {name}; there are --seed, --cases and --documents"),
        }
    }
    Ok((config, documents))
}
