//! `wan-bench`: how long the networks of full width take, row by row, with random weights; beside torch
//! where that is asked for. `cargo xtask bench` builds it in the release profile and runs it.
//!
//! A row is run once to warm up and then as often as [`flags::Flags::runs`] says, in turn with torch's.
//! What is reported is the median and the spread, from the shortest run to the longest.
#![allow(clippy::disallowed_methods, reason = "it starts the program and torch, to measure them")]

mod attention;
mod fit;
mod flags;
mod machine;
mod others;
mod peak;
mod peer;
mod program;
mod random;
mod report;
mod row;
mod text;
mod transformer;
mod vae;

use std::process::ExitCode;

use anyhow::{Result, ensure};

use flags::Flags;
use peer::Peer;
use report::Report;
use row::Row;

#[global_allocator]
static ALLOCATOR: wan_tests::allocator::Counting = wan_tests::allocator::Counting;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wan-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let Some(flags) = Flags::read()? else {
        print!("{}", flags::HELP);
        return Ok(());
    };
    if let Some(child) = &flags.child {
        return peak::child(child);
    }
    let rows = all(&flags);
    let wanted: Vec<Row> = rows.into_iter().filter(|row| flags.wants(&row.name)).collect();
    ensure!(!wanted.is_empty(), "no row has such a name\n{}", flags::HELP);
    let mut peer = flags.python.as_deref().map(Peer::start).transpose()?;
    let mut report = Report::new()?;
    for row in wanted {
        eprintln!("{}: {}", row.name, row.what);
        let measured = row.measure(flags.runs, peer.as_mut())?;
        eprintln!("{}", measured.line());
        report.add(measured, peer.as_ref().map(Peer::versions));
    }
    report.print();
    report.write(&flags)
}

/// All rows, in the order of the table.
fn all(flags: &Flags) -> Vec<Row> {
    let mut rows = transformer::rows(flags.latents);
    rows.extend(attention::rows());
    rows.extend(vae::rows());
    rows.extend(text::rows());
    rows.extend(transformer::by_tokens());
    rows.extend(peak::rows());
    rows.extend(program::rows(flags.program.as_deref()));
    rows
}
