//! The list of mutants: drawn once, committed, and planted anew wherever its code has gone.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::sites::Site;

/// How a mistake is written into the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Form {
    /// An expression becomes another.
    Expression,
    /// A statement is left out.
    Statement,
    /// A function returns at once.
    Body,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mutant {
    /// Its number.
    pub(crate) id: u32,
    /// Part of the sources, as in `groups.rs`.
    pub(crate) group: String,
    /// File, from the root of the checkout.
    pub(crate) file: String,
    /// Function, with the type that it belongs to.
    pub(crate) function: String,
    /// How it is written.
    pub(crate) form: Form,
    /// Which of the equal texts in the function, from 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) place: usize,
    /// What stands there.
    pub(crate) original: String,
    /// What the mistake is.
    pub(crate) mutated: String,
    /// Part of the name of the test that is there for it, which is asked first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) by: Option<String>,
    /// Why no test can tell it from the original; such mutants are not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) equivalent: Option<String>,
}

impl Mutant {
    /// Whether a site is where it goes.
    pub(crate) fn fits(&self, site: &Site) -> bool {
        site.form == self.form && site.original == self.original && site.mutated == self.mutated
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(place: &usize) -> bool {
    *place == 0
}

/// What stands above the list.
const HEAD: &str = "\
# Drawn by `cargo xtask mutants engine draw SEED`, and not chosen: see src/draw.rs. Where code
# moves, an entry follows it by its function's name, or its place is written anew; its mistake
# stays.
";

/// All mutants, and the seed that they were drawn with.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct List {
    /// Seed of the draw.
    pub(crate) seed: u64,
    /// In the order of their numbers.
    #[serde(rename = "mutant")]
    pub(crate) mutants: Vec<Mutant>,
}

impl List {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = toml::to_string(self)?;
        std::fs::write(path, format!("{HEAD}{text}")).with_context(|| path.display().to_string())
    }
}
