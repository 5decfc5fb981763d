//! `wan-fuzz`: damaged files for every reader of a file.
//!
//! Valid files, made by the project's own writers or kept in `tests/corpus`, are changed by a
//! seeded mutator that knows where the lengths and numbers of their formats are. Each kind of file is read
//! in a process of its own. What is looked for: a panic that reaches the caller, a process that
//! ends, a reader that takes more than two seconds, and one that allocates more than four times the
//! file (once, of weights in the formats of others) and 64 MiB. Exit code 0 if there was none, 1 if
//! there was, 2 if the command line is wrong.
#![allow(clippy::disallowed_methods, reason = "starts itself again, a process for each kind")]

mod formats;
mod json;
mod kinds;
mod mutator;
mod parent;
mod pickles;
mod seeds;
mod sites;
mod tensors;
mod weight_kinds;
mod weight_seeds;
mod worker;
mod world;
mod zip;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use kinds::KINDS;

#[global_allocator]
static COUNTING: wan_tests::allocator::Counting = wan_tests::allocator::Counting;

const HELP: &str = "\
wan-fuzz [--inputs N] [--only KIND] [--seed S] [--keep DIR]
wan-fuzz read KIND FILE   reads one file, and says what came of it

  --inputs N   damaged files of each kind (1000), after all valid and kept ones
  --only KIND  this kind alone; may be given more than once
  --seed S     another seed than 1
  --keep DIR   where what was found is kept (target/fuzz)
";

/// What the command line asks for.
#[derive(Debug, Clone)]
struct Options {
    inputs: u64,
    only: Vec<String>,
    seed: u64,
    keep: PathBuf,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["worker", kind, world, from, to, seed] => {
            let numbers = (from.parse()?, to.parse()?, seed.parse()?);
            worker::run(kinds::find(kind)?, world.as_ref(), numbers)
        }
        ["read", kind, file] => parent::read(kinds::find(kind)?, file.as_ref()),
        ["help" | "--help", ..] => {
            print!("{HELP}");
            KINDS.iter().for_each(|kind| println!("  {:12} {}", kind.name, kind.what));
            Ok(true)
        }
        flags => parent::fuzz(&options(flags)?),
    }
}

fn options(flags: &[&str]) -> Result<Options> {
    let mut options =
        Options { inputs: 1000, only: Vec::new(), seed: 1, keep: "target/fuzz".into() };
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        let value = *flags.next().with_context(|| format!("{flag}: a value is missing\n{HELP}"))?;
        match *flag {
            "--inputs" => options.inputs = value.parse().context("--inputs: a number")?,
            "--seed" => options.seed = value.parse().context("--seed: a number")?,
            "--only" => options.only.push(kinds::find(value)?.name.into()),
            "--keep" => options.keep = value.into(),
            other => bail!("{other} is not known\n{HELP}"),
        }
    }
    Ok(options)
}
