//! Plants mistakes in a copy of the sources and counts which ones the tests notice.
//!
//! The copy is built once, with every mistake of `mutants.toml` behind a switch that an environment
//! variable turns on (`switch/lib.rs`): 200 builds of the workspace would take days. The tests run
//! once with a log of what they reach, and then each mutant runs with those that reach it, the
//! fastest first, until one fails. An audit can be stopped at any time and goes on where it was.
#![allow(clippy::disallowed_methods, reason = "builds and runs the tests")]

mod draw;
mod groups;
mod list;
mod operators;
mod results;
mod sites;
mod suite;
mod tree;
mod workshop;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use list::{List, Mutant};
use results::{Fate, Results, describe};
use suite::Test;
use tree::Tree;
use workshop::Workshop;

const HELP: &str = "\
wan-audit [--ids N,N | --groups NAME,NAME | --every N | --survivors] [--keep]
wan-audit by-hand         the mistakes of by_hand.toml, planted for what a test is there for
wan-audit part            samplers, noticed by their own unit tests: what CI runs
wan-audit draw SEED       writes a new list
wan-audit list            shows the list

  --keep    what was killed before a change of the sources counts as killed
";

/// The list, from the root of the checkout.
const LIST: &str = "tests/audit/mutants.toml";

/// Mistakes that were chosen, each for a promise that a test keeps.
const BY_HAND: &str = "tests/audit/by_hand.toml";

/// What is known of the copy, from the root of the checkout.
const RESULTS: &str = "target/mutants";

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
    let root = root()?;
    let path = root.join(LIST);
    match words.as_slice() {
        ["draw", seed] => {
            draw::draw(&Tree::read(&root)?, seed.parse().context("a seed")?)?.write(&path)?;
            Ok(true)
        }
        ["list"] => {
            List::read(&path)?.mutants.iter().for_each(|m| println!("{}", describe(m)));
            Ok(true)
        }
        ["help" | "--help", ..] => {
            print!("{HELP}");
            Ok(true)
        }
        ["part"] => audit(&root, &List::read(&path)?, &Scope::PART),
        ["by-hand"] => audit(&root, &List::read(&root.join(BY_HAND))?, &Scope::BY_HAND),
        flags => {
            let keep = flags.contains(&"--keep");
            let selection: Vec<&str> = flags.iter().copied().filter(|f| *f != "--keep").collect();
            let scope = Scope { keep, selection: &selection, ..Scope::ALL };
            audit(&root, &List::read(&path)?, &scope)
        }
    }
}

/// Which mutants are planted, and who is to notice.
struct Scope<'a> {
    /// Where its results lie, under [`RESULTS`].
    folder: &'a str,
    /// Packages whose unit tests are to notice; none: all tests.
    packages: &'a [&'a str],
    /// Whether what was killed before a change of the sources counts as killed.
    keep: bool,
    /// As on the command line.
    selection: &'a [&'a str],
}

impl Scope<'_> {
    const ALL: Self = Self { folder: "all", packages: &[], keep: false, selection: &[] };
    const BY_HAND: Self = Self { folder: "by-hand", ..Self::ALL };
    /// What CI plants: samplers, noticed by unit tests alone.
    const PART: Self = Self {
        folder: "part",
        packages: &["wan-samplers", "wan-diffusion-forcing"],
        selection: &["--groups", "samplers"],
        ..Self::ALL
    };
}

/// The checkout: where this is called, or a folder above.
fn root() -> Result<PathBuf> {
    let here = std::env::current_dir()?;
    let found =
        here.ancestors().find(|folder| folder.join(LIST).parent().is_some_and(Path::is_dir));
    Ok(found.context("call this in the checkout")?.to_path_buf())
}

fn audit(root: &Path, list: &List, scope: &Scope<'_>) -> Result<bool> {
    let started = Instant::now();
    let all: Vec<&Mutant> = list.mutants.iter().collect();
    let workshop = Workshop::lay_out(root, &Tree::read(root)?.plant(&all)?)?;
    let folder = root.join(RESULTS).join(scope.folder);
    let mut results = Results::open(&folder, &workshop.fingerprint, scope.keep)?;
    let wanted = selected(list, scope, &results)?;
    run_all(&tests(&workshop, &folder, scope.packages)?, &wanted, &mut results)?;
    if results.fates.is_empty() {
        bail!("no mutant was asked for: {:?}", scope.selection);
    }
    let (report, is_good) = results.report(list);
    println!("{report}{:.0} s", started.elapsed().as_secs_f64());
    Ok(is_good)
}

fn run_all(tests: &[Test], mutants: &[&Mutant], results: &mut Results) -> Result<()> {
    eprintln!("{} tests", tests.len());
    for mutant in mutants {
        let before = Instant::now();
        let reached_by = tests.iter().filter(|t| t.reaches.contains(&mutant.id)).count();
        let noticed = suite::notice(tests, mutant);
        let (killed_by, by_time) = noticed.map_or((None, false), |(by, time)| (Some(by), time));
        let seconds = before.elapsed().as_secs_f64();
        match &killed_by {
            Some(by) => println!("killed   {} by {by} ({seconds:.0} s)", describe(mutant)),
            None => println!("SURVIVED {} ({reached_by} tests, {seconds:.0} s)", describe(mutant)),
        }
        results.add(Fate { id: mutant.id, killed_by, by_time, reached_by })?;
    }
    Ok(())
}

/// The tests of the copy, with what they reach; from the disk where the copy is the same.
fn tests(workshop: &Workshop, folder: &Path, packages: &[&str]) -> Result<Vec<Test>> {
    let path = folder.join(format!("tests-{}.json", &workshop.fingerprint[..16]));
    if let Ok(bytes) = std::fs::read(&path) {
        return serde_json::from_slice(&bytes).with_context(|| path.display().to_string());
    }
    let binaries = workshop.build(packages)?;
    eprintln!("built; the tests run once without a mutant");
    let tests = suite::reach(suite::list(&binaries)?)?;
    std::fs::write(&path, serde_json::to_string(&tests)?)?;
    Ok(tests)
}

/// The mutants that are asked for and not known yet.
fn selected<'l>(list: &'l List, scope: &Scope<'_>, known: &Results) -> Result<Vec<&'l Mutant>> {
    let counted = list.mutants.iter().filter(|m| m.equivalent.is_none());
    let unknown = |m: &&Mutant| !known.fates.contains_key(&m.id);
    Ok(match scope.selection {
        [] => counted.filter(unknown).collect(),
        ["--ids", ids] => {
            let ids: Vec<&str> = ids.split(',').collect();
            counted.filter(|m| ids.contains(&m.id.to_string().as_str())).collect()
        }
        ["--groups", names] => {
            let names: Vec<&str> = names.split(',').collect();
            counted.filter(|m| names.contains(&m.group.as_str())).filter(unknown).collect()
        }
        ["--every", step] => {
            let step: u32 = step.parse().context("--every: a whole number")?;
            counted.filter(|m| m.id.is_multiple_of(step.max(1))).filter(unknown).collect()
        }
        ["--survivors"] => {
            let survived =
                |m: &&Mutant| known.fates.get(&m.id).is_some_and(|f| f.killed_by.is_none());
            counted.filter(survived).collect()
        }
        other => bail!("{other:?}\n{HELP}"),
    })
}
