//! What a plugin tells the host about itself.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Error, OptionSpec, Result};

/// Longest id, and longest name of an option or a flag, in characters.
const NAME_MAX: usize = 48;

/// The description of a plugin, as `describe` returns it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginDescription {
    /// Package name.
    pub name: String,
    /// Package version.
    pub version: String,
    /// SPDX licence expression.
    pub licence: String,
    /// The samplers.
    pub samplers: Vec<Strategy>,
    /// The caches.
    pub caches: Vec<Strategy>,
    /// Solvers, of each of which the host makes a sampler.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub solvers: Vec<Strategy>,
}

/// The description of one sampler or cache.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Strategy {
    /// Id, unique among all samplers or all caches.
    pub id: String,
    /// One line for `wan plugins list`.
    pub doc: String,
    /// The options that it takes.
    pub options: Vec<OptionSpec>,
    /// Ids of the extensions that it answers.
    pub extensions: Vec<String>,
}

impl PluginDescription {
    /// Checks the names that users have to type: ids, options and flags. Each is made of few
    /// characters, and unique where it has to be.
    ///
    /// # Errors
    /// `Failed`, with the first name that does not fit, and what would.
    pub fn check_names(&self) -> Result<()> {
        let kinds =
            [("sampler", &self.samplers), ("cache", &self.caches), ("solver", &self.solvers)];
        for (kind, strategies) in kinds {
            let mut ids = BTreeSet::new();
            for strategy in strategies {
                if !ids.insert(&strategy.id) {
                    return Err(Error::failed(format!("two {kind}s are called {}", strategy.id)));
                }
                check_name(&format!("{kind} id"), &strategy.id, "-.+")?;
                strategy.check_names()?;
            }
        }
        Ok(())
    }
}

impl Strategy {
    fn check_names(&self) -> Result<()> {
        let id = &self.id;
        let (mut names, mut flags) = (BTreeSet::new(), BTreeSet::new());
        for option in &self.options {
            let owner = format!("option {} of {id}", option.name);
            if !names.insert(&option.name) {
                return Err(Error::failed(format!("{id} has two options called {}", option.name)));
            }
            check_name(&owner, &option.name, "_")?;
            let Some(flag) = &option.flag else { continue };
            // Flags keep the names that users know from elsewhere, capitals included.
            check_name(&format!("the flag of {owner}"), &flag.to_lowercase(), "_")?;
            if !flags.insert(flag) {
                return Err(Error::failed(format!("two options of {id} have the flag --{flag}")));
            }
        }
        Ok(())
    }
}

fn check_name(owner: &str, name: &str, signs: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || signs.contains(c);
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(fits) {
        return Err(Error::failed(format!(
            "{owner} {name:?}: lower-case letters, digits and `{signs}`, a letter first"
        )));
    }
    if name.len() > NAME_MAX {
        return Err(Error::failed(format!(
            "{owner} {name:?} is longer than {NAME_MAX} characters"
        )));
    }
    Ok(())
}
