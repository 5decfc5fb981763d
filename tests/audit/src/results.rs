//! What became of each mutant, line by line on the disk, so that an audit can be stopped and goes
//! on.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::list::{Form, List, Mutant};

/// What became of one mutant.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Fate {
    pub(crate) id: u32,
    /// The test that noticed it.
    pub(crate) killed_by: Option<String>,
    /// Whether it ran on and on.
    #[serde(default)]
    pub(crate) by_time: bool,
    /// Tests that reach it.
    pub(crate) reached_by: usize,
}

/// The results so far.
pub(crate) struct Results {
    path: PathBuf,
    pub(crate) fates: BTreeMap<u32, Fate>,
}

/// Share that has to be killed in each group.
const SHARE: f64 = 0.95;

impl Results {
    /// Those of the same sources; of earlier sources none, or with `keep` what was killed there.
    pub(crate) fn open(folder: &Path, fingerprint: &str, keep: bool) -> Result<Self> {
        let path = folder.join("results.jsonl");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let mut lines = text.lines();
        let is_same = lines.next() == Some(fingerprint);
        let read = lines.filter_map(|line| serde_json::from_str::<Fate>(line).ok());
        let counts = |fate: &Fate| is_same || keep && fate.killed_by.is_some();
        let known: BTreeMap<u32, Fate> = read.filter(counts).map(|fate| (fate.id, fate)).collect();
        let mut results = Self { path, fates: BTreeMap::new() };
        fs::create_dir_all(folder)?;
        fs::write(&results.path, format!("{fingerprint}\n"))?;
        known.into_values().try_for_each(|fate| results.add(fate))?;
        Ok(results)
    }

    /// Keeps a result, on the disk too.
    pub(crate) fn add(&mut self, fate: Fate) -> Result<()> {
        let mut file = OpenOptions::new().append(true).open(&self.path)?;
        writeln!(file, "{}", serde_json::to_string(&fate)?).context("results")?;
        self.fates.insert(fate.id, fate);
        Ok(())
    }

    /// The table by group, the survivors, and whether every group has enough killed.
    pub(crate) fn report(&self, list: &List) -> (String, bool) {
        let mut text =
            String::from("| | planted | killed | survived | share |\n|---|---|---|---|---|\n");
        let mut is_good = true;
        // In the order of the list; those of which nothing is known are left out.
        let mut groups: Vec<&str> = list.mutants.iter().map(|m| m.group.as_str()).collect();
        groups.dedup();
        for group in groups {
            let counted = list.mutants.iter().filter(|m| m.equivalent.is_none());
            let of_group = counted.filter(|m| m.group == group);
            let known: Vec<&Fate> = of_group.filter_map(|m| self.fates.get(&m.id)).collect();
            if known.is_empty() {
                continue;
            }
            let killed = known.iter().filter(|fate| fate.killed_by.is_some()).count();
            let share = killed as f64 / known.len() as f64;
            is_good &= share >= SHARE;
            text += &format!(
                "| {group} | {} | {killed} | {} | {:.1} % |\n",
                known.len(),
                known.len() - killed,
                100.0 * share
            );
        }
        for mutant in &list.mutants {
            match (&mutant.equivalent, self.fates.get(&mutant.id)) {
                (Some(why), _) => text += &format!("equivalent {}: {why}\n", describe(mutant)),
                (None, Some(fate)) if fate.killed_by.is_none() => {
                    let reached = fate.reached_by;
                    text += &format!("SURVIVED {} (reached by {reached})\n", describe(mutant));
                }
                _ => {}
            }
        }
        (text, is_good)
    }
}

/// One line that says what a mutant is.
pub(crate) fn describe(mutant: &Mutant) -> String {
    let short = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let what = match mutant.form {
        Form::Expression => {
            format!("`{}` -> `{}`", short(&mutant.original), short(&mutant.mutated))
        }
        Form::Statement => format!("without `{}`", short(&mutant.original)),
        Form::Body => format!("`{}` at once", short(&mutant.mutated)),
    };
    format!("{} {} {}: {what}", mutant.id, mutant.file, mutant.function)
}
