//! The names of the files in a folder.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::Path;

/// The lock file.
pub(crate) const LOCK: &str = "lock";

/// The temporary name of a recipe.
pub(crate) const RECIPE_PART: &str = "recipe.part";

/// What a growing file's name begins with on the disk, so that it is known for one of ours.
const GROWING: &str = "growing-";

/// What the name of a claim ends with; it begins with a dot.
const PART: &str = ".part";

/// Longest name of a growing file, in bytes.
const NAME_MAX: usize = 64;

/// What a file in a folder is, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    Lock,
    Recipe {
        sha256: String,
    },
    /// The recipe of a run whose removal has begun.
    Removed,
    Checkpoint {
        number: u64,
        sha256: String,
    },
    /// What a writer that ended left behind.
    Part,
    /// A file that gets its name elsewhere when it is whole: a claim of `wan-outputs`.
    Claim,
    Growing,
}

impl Name {
    /// `None` is a file of somebody else.
    pub(crate) fn of(name: &OsStr) -> Option<Self> {
        // Of a claim only the end is ours: its name may be no text.
        let name = name.to_string_lossy();
        if name == LOCK {
            return Some(Self::Lock);
        }
        if name
            .strip_prefix('.')
            .is_some_and(|name| name.len() > PART.len() && name.ends_with(PART))
        {
            return Some(Self::Claim);
        }
        if name == RECIPE_PART {
            return Some(Self::Part);
        }
        if let Some(rest) = name.strip_prefix(GROWING) {
            return is_growing_name(rest).then_some(Self::Growing);
        }
        if let Some(rest) = name.strip_prefix("recipe.") {
            let sha256 = hash(rest.strip_suffix(".json")?)?;
            return Some(Self::Recipe { sha256 });
        }
        if let Some(rest) = name.strip_prefix("removed.") {
            return hash(rest.strip_suffix(".json")?).map(|_| Self::Removed);
        }
        let (number, rest) = name.strip_prefix("round-")?.split_once('.')?;
        let number = number_of(number)?;
        if rest == "part" {
            return Some(Self::Part);
        }
        let sha256 = hash(rest.strip_suffix(".safetensors")?)?;
        Some(Self::Checkpoint { number, sha256 })
    }
}

pub(crate) fn recipe(sha256: &str) -> String {
    format!("recipe.{sha256}.json")
}

pub(crate) fn removed(sha256: &str) -> String {
    format!("removed.{sha256}.json")
}

pub(crate) fn checkpoint(number: u64, sha256: &str) -> String {
    format!("round-{number:06}.{sha256}.safetensors")
}

pub(crate) fn checkpoint_part(number: u64) -> String {
    format!("round-{number:06}.part")
}

pub(crate) fn growing(name: &str) -> String {
    format!("{GROWING}{name}")
}

/// Whether a growing file may have this name: letters, digits, `.`, `_` and `-`.
pub(crate) fn is_growing_name(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(is_plain)
}

fn hash(text: &str) -> Option<String> {
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (text.len() == 64 && text.bytes().all(is_hex)).then(|| text.to_string())
}

/// A number as [`checkpoint`] writes it, and not otherwise.
fn number_of(text: &str) -> Option<u64> {
    let number = text.parse().ok()?;
    (format!("{number:06}") == text).then_some(number)
}

/// What lies in a folder.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Names and hashes.
    pub(crate) recipes: Vec<(OsString, String)>,
    /// Numbers and names, newest first.
    pub(crate) checkpoints: Vec<(u64, OsString, String)>,
    pub(crate) growing: Vec<OsString>,
    pub(crate) parts: Vec<OsString>,
    pub(crate) claims: Vec<OsString>,
    pub(crate) removed: Vec<OsString>,
    pub(crate) has_lock: bool,
    /// What this crate did not make.
    pub(crate) foreign: Vec<OsString>,
}

impl Contents {
    pub(crate) fn of(folder: &Path) -> io::Result<Self> {
        let mut contents = Self::default();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            // What has our name and is no regular file is not ours.
            let known = if entry.file_type()?.is_file() { Name::of(&name) } else { None };
            match known {
                None => contents.foreign.push(name),
                Some(Name::Lock) => contents.has_lock = true,
                Some(Name::Recipe { sha256 }) => contents.recipes.push((name, sha256)),
                Some(Name::Removed) => contents.removed.push(name),
                Some(Name::Part) => contents.parts.push(name),
                Some(Name::Claim) => contents.claims.push(name),
                Some(Name::Growing) => contents.growing.push(name),
                Some(Name::Checkpoint { number, sha256 }) => {
                    contents.checkpoints.push((number, name, sha256));
                }
            }
        }
        contents.checkpoints.sort_by(|a, b| b.cmp(a));
        contents.foreign.sort();
        Ok(contents)
    }

    /// Whether nothing in it is worth keeping without a recipe: a run that was never begun, or one
    /// whose removal has begun.
    pub(crate) fn is_never_begun(&self) -> bool {
        self.recipes.is_empty() && (self.checkpoints.is_empty() && self.growing.is_empty())
            || self.is_being_removed()
    }

    pub(crate) fn is_being_removed(&self) -> bool {
        self.recipes.is_empty() && !self.removed.is_empty()
    }
}
