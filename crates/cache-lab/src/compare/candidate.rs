//! What is compared: a cache with options, or fewer steps without one.

use serde::{Deserialize, Serialize};
use wan_host::parts::{Kind, Registry};
use wan_host::{Error, Model, Result, Settings, StrategyChoice};
use wan_plugin_api::OptionValues;

/// A change of the settings, and what it is called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// As it was written: `CACHE:threshold=0.1`, `steps=10`.
    pub name: String,
    /// What it changes.
    pub change: Change,
}

/// What a candidate changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The cache.
    Cache(StrategyChoice),
    /// The number of steps, without a cache: what every cache must beat.
    Steps(u32),
}

impl Candidate {
    /// Reads `CACHE[:OPTION=VALUE,...]` or `steps=N`; a value `a|b|c` stands for three candidates.
    ///
    /// # Errors
    /// For a cache or an option that there is not, or a value out of range.
    pub fn read(registry: &Registry, written: &str) -> Result<Vec<Self>> {
        let read =
            |one: String| Self::read_one(registry, &one).map_err(|error| about(&one, &error));
        expand(written).into_iter().map(read).collect()
    }

    fn read_one(registry: &Registry, written: &str) -> Result<Self> {
        let name = written.to_string();
        if let Some(steps) = written.strip_prefix("steps=") {
            let steps = steps.parse().ok().filter(|n| *n > 0);
            let steps = steps.ok_or_else(|| Error::invalid("steps is a whole number above 0"))?;
            return Ok(Self { name, change: Change::Steps(steps) });
        }
        let (id, options) = written.split_once(':').unwrap_or((written, ""));
        let chosen = registry.choose(Kind::Cache, id, &OptionValues::new())?;
        let mut values = OptionValues::new();
        for pair in split_options(options) {
            let (option, value) = pair
                .split_once('=')
                .ok_or_else(|| Error::invalid(format!("{pair} is not OPTION=VALUE")))?;
            values.extend([chosen.read_option(option, value)?]);
        }
        let choice = StrategyChoice { id: id.into(), options: values };
        Ok(Self { name, change: Change::Cache(choice) })
    }

    /// The settings of a run without a cache, with the change.
    ///
    /// # Errors
    /// If an option or the number of steps is out of range.
    pub fn settings(&self, model: &Model, uncached: &Settings) -> Result<Settings> {
        let changed = match &self.change {
            Change::Cache(choice) => model.with_cache(uncached, Some(choice)),
            Change::Steps(steps) => uncached.clone().with_sample_steps(*steps),
        };
        changed.map_err(|error| about(&self.name, &error))
    }
}

fn about(written: &str, error: &Error) -> Error {
    Error::invalid(format!("`candidate` {written}: {error}"))
}

/// `a=1|2,b=3|4` as four.
fn expand(written: &str) -> Vec<String> {
    let Some(bar) = written.find('|') else { return vec![written.into()] };
    let start = written[..bar].rfind('=').map_or(0, |i| i + 1);
    let end = written[bar..].find(',').map_or(written.len(), |i| bar + i);
    let (before, after) = (&written[..start], &written[end..]);
    let values = written[start..end].split('|');
    values.flat_map(|value| expand(&format!("{before}{value}{after}"))).collect()
}

/// At commas, but not at those inside square brackets.
fn split_options(options: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0);
    for (i, c) in options.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&options[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&options[start..]);
    parts.into_iter().filter(|p| !p.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stand_for_several() {
        assert_eq!(expand("a:x=1|2,y=3|4"), ["a:x=1,y=3", "a:x=1,y=4", "a:x=2,y=3", "a:x=2,y=4"]);
        assert_eq!(expand("steps=5|10"), ["steps=5", "steps=10"]);
        assert_eq!(expand("some-cache"), ["some-cache"]);
    }

    #[test]
    fn lists_keep_their_commas() {
        assert_eq!(
            split_options("coefficients=[1,2],threshold=3"),
            ["coefficients=[1,2]", "threshold=3"]
        );
        assert!(split_options("").is_empty());
    }

    #[test]
    fn fewer_steps_leave_the_cache_out() {
        let registry = Registry::built_in().unwrap();
        let candidates = Candidate::read(&registry, "steps=4|8").unwrap();
        assert_eq!(candidates[1].change, Change::Steps(8));
        for wrong in ["steps=0", "steps=x", "nothing:a=1"] {
            assert!(Candidate::read(&registry, wrong).is_err(), "{wrong}");
        }
    }
}
