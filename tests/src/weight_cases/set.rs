//! All cases of a set. Limits of a process are set from outside, which Linux alone can.

use std::fmt;

use anyhow::Result;

use super::case::{Case, names};
use super::judged::{Verdict, converted, forwarded};
use super::options::Options;
use super::tokens::tokenised;

/// How many checks came to what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// What was expected came.
    pub passed: usize,
    /// Something else came.
    pub failed: usize,
    /// Something that a case needs is not there.
    pub skipped: usize,
}

impl Totals {
    fn count(&mut self, verdict: &Verdict) {
        *match verdict {
            Verdict::Passed(_) => &mut self.passed,
            Verdict::Failed(_) => &mut self.failed,
            Verdict::Skipped(_) => &mut self.skipped,
        } += 1;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// Runs the cases of a folder, and says a line for each check.
///
/// # Errors
/// If the folder is no set of cases, or the program cannot be started.
pub fn run(options: &Options, say: &mut dyn FnMut(String)) -> Result<Totals> {
    let mut totals = Totals::default();
    for name in names(&options.folder)? {
        if !name.contains(&options.only) {
            continue;
        }
        let case = Case::read(&options.folder, &name)?;
        let mut verdicts = Vec::new();
        if case.is_tokenizer() {
            verdicts.push((String::new(), tokenised(options, &case)?));
        } else {
            verdicts.push((String::new(), converted(&options.program, &case)?));
            if case.has_forward() {
                verdicts.push((" forward".into(), forwarded(&options.program, &case)?));
            }
        }
        for (what, verdict) in verdicts {
            totals.count(&verdict);
            say(format!("{:34}{verdict}", format!("{name}{what}")));
        }
    }
    Ok(totals)
}
