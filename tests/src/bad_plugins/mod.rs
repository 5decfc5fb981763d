//! Bad plugins: libraries with planted defects, which `wan plugins check` must find, each by the
//! test that is there for it.
#![allow(clippy::disallowed_methods, reason = "starts the program under test")]

mod list;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

pub use list::{LIBRARIES, PLANTED, Planted};

/// Strategies whose names begin so have no defect: they show that it is not the wrapper that is
/// caught.
const UNHARMED: &str = "unharmed";

/// Longest seconds of a test, which what hangs has to be waited for.
const TIMEOUT: &str = "8";

/// A line of a report.
#[derive(Debug, Clone, Deserialize)]
struct Finding {
    test: String,
    strategy: Option<String>,
    status: String,
    message: String,
}

#[derive(Deserialize)]
struct Report {
    findings: Vec<Finding>,
}

/// What the check said of one defect.
#[derive(Debug)]
pub struct Outcome {
    /// Library and strategy.
    pub name: String,
    /// What it was caught by.
    pub caught: Vec<String>,
    /// What is not as it should be; none: caught, for its own reason and no other.
    pub wrong: Option<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.wrong {
            None => write!(f, "caught  {:<36} {}", self.name, self.caught.join("; ")),
            Some(wrong) => write!(f, "MISSED  {:<36} {wrong}", self.name),
        }
    }
}

/// Checks all libraries of a profile; each defect as soon as it is known to `tell`.
///
/// # Errors
/// If a library or the program is not built, or the check gives no report.
pub fn run(profile_folder: &Path, tell: &mut dyn FnMut(&Outcome)) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for library in LIBRARIES {
        let report = check(profile_folder, library)?;
        for outcome in judge(library, &report.findings) {
            tell(&outcome);
            outcomes.push(outcome);
        }
    }
    Ok(outcomes)
}

fn check(profile_folder: &Path, library: &str) -> Result<Report> {
    let [prefix, suffix] = [std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX];
    let path = profile_folder.join("examples").join(format!("{prefix}fixture_{library}{suffix}"));
    let program = profile_folder.join("wan");
    if !path.exists() || !program.exists() {
        bail!("{} is missing: run `cargo xtask plugins`", path.display());
    }
    let output = Command::new(program)
        .args(["plugins", "check", "--json", "--seed", "1", "--timeout", TIMEOUT])
        .arg(&path)
        .output()?;
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{}: {}", path.display(), String::from_utf8_lossy(&output.stderr)))
}

/// One outcome for every planted defect of a library, and for everything else that was found.
fn judge(library: &str, findings: &[Finding]) -> Vec<Outcome> {
    let planted = PLANTED.iter().filter(|p| p.library == library).map(|p| p.strategy);
    let mut names: BTreeSet<Option<&str>> = planted.collect();
    // Where the defect is the library's own, nothing has to be wrong with its strategies.
    if !names.contains(&None) {
        names.extend(findings.iter().map(|f| f.strategy.as_deref()));
    }
    names.extend(findings.iter().filter(|f| is_bad(f)).map(|f| f.strategy.as_deref()));
    names.into_iter().filter_map(|strategy| judge_strategy(library, strategy, findings)).collect()
}

fn is_bad(finding: &Finding) -> bool {
    !matches!(finding.status.as_str(), "pass" | "skipped")
}

fn judge_strategy(library: &str, strategy: Option<&str>, findings: &[Finding]) -> Option<Outcome> {
    let found: Vec<&Finding> =
        findings.iter().filter(|f| is_bad(f) && f.strategy.as_deref() == strategy).collect();
    let planted: Vec<&Planted> =
        PLANTED.iter().filter(|p| p.library == library && p.strategy == strategy).collect();
    if planted.is_empty() && found.is_empty() && strategy.is_none_or(|id| id.starts_with(UNHARMED))
    {
        return None;
    }
    let is_of = |p: &Planted, f: &Finding| {
        p.test == f.test && p.status == f.status && f.message.contains(p.says)
    };
    let missing = planted.iter().find(|p| !found.iter().any(|f| is_of(p, f)));
    let other = found.iter().find(|f| !planted.iter().any(|p| is_of(p, f)));
    let wrong = match (missing, other) {
        (Some(p), _) => {
            let found: Vec<String> = found.iter().map(|f| line(f)).collect();
            Some(format!("no {} by {} that says {:?}; found: {found:?}", p.status, p.test, p.says))
        }
        (None, Some(f)) => Some(format!("also caught for another reason: {}", line(f))),
        (None, None) if planted.is_empty() => Some("nothing was found, and nothing planted".into()),
        (None, None) => None,
    };
    let caught = found.iter().map(|f| format!("{} ({})", f.test, f.status)).collect();
    let name = strategy.map_or(library.to_string(), |id| format!("{library}: {id}"));
    Some(Outcome { name, caught, wrong })
}

fn line(finding: &Finding) -> String {
    format!("{} {}: {}", finding.status, finding.test, finding.message)
}
