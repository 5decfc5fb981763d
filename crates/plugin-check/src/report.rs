//! What came of all tests of a library.

use std::path::PathBuf;

use serde::Serialize;
use wan_plugin_api::{PluginDescription, Strategy};

use super::outcome::{Outcome, Status};
use super::test::{Case, Scope, Test};

/// One test and its end.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// Which.
    #[serde(flatten)]
    pub case: Case,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came of a library.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The library.
    pub path: PathBuf,
    /// SHA-256 of it.
    pub hash: String,
    /// Seed that gives the same random inputs again.
    pub seed: u64,
    /// What it says of itself; none if it does not come so far.
    #[serde(skip)]
    pub description: Option<PluginDescription>,
    /// One for each case.
    pub findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(path: PathBuf, hash: String, seed: u64) -> Self {
        Self { path, hash, seed, description: None, findings: Vec::new() }
    }

    /// The cases after the first.
    pub(super) fn cases(&self) -> Vec<Case> {
        let Some(description) = &self.description else { return Vec::new() };
        let of = |scope, strategies: &[Strategy]| {
            let tests = Test::ALL.iter().filter(move |test| test.scope() == scope);
            let case = |strategy: &Strategy| {
                let id = strategy.id.clone();
                tests.clone().map(move |test| Case { test: *test, strategy: Some(id.clone()) })
            };
            strategies.iter().flat_map(case).collect::<Vec<_>>()
        };
        let mut cases = vec![Case::of_library(Test::Metadata)];
        cases.extend(of(Scope::Sampler, &description.samplers));
        cases.extend(of(Scope::Cache, &description.caches));
        cases
    }

    /// How many ended so.
    pub fn count(&self, status: Status) -> usize {
        self.findings.iter().filter(|f| f.outcome.status == status).count()
    }

    /// Whether nothing failed, crashed or hung.
    pub fn is_good(&self) -> bool {
        self.findings.iter().all(|f| f.outcome.status.is_good())
    }

    /// `20 pass, 1 warn, ...; seed 7`.
    pub fn summary(&self) -> String {
        let counts = Status::ALL.map(|status| format!("{} {}", self.count(status), status.word()));
        format!("{}; seed {}", counts.join(", "), self.seed)
    }
}
