//! Which libraries may be loaded, where somebody has said so.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use wan_border::files::{self, Content};

use crate::error::{Error, Result};
use crate::optional_file;
use crate::plugins::folders;

/// Hexadecimal digits of a SHA-256.
const DIGITS: usize = 64;

/// SHA-256 of the libraries that may be loaded; all others may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowList {
    path: PathBuf,
    hashes: BTreeSet<String>,
}

impl AllowList {
    /// The list in `named`, else the user's own where there is one.
    ///
    /// # Errors
    /// If the file cannot be read, or a line of it is no SHA-256; if nothing is named, and nobody
    /// knows where the user's own list would be.
    pub fn find(named: Option<&Path>) -> Result<Option<Self>> {
        match named {
            Some(path) => {
                let text = files::text(path, Content::Settings)?;
                Self::of(path, &text).map(Some)
            }
            None => {
                let path = folders::allow_list()?;
                let text = optional_file::read_text(&path)?;
                text.map(|text| Self::of(&path, &text)).transpose()
            }
        }
    }

    /// A list as `sha256sum` writes it: a hash a line, whatever stands behind it; `#` comments.
    fn of(path: &Path, text: &str) -> Result<Self> {
        let mut hashes = BTreeSet::new();
        for (index, line) in text.lines().enumerate() {
            let Some(word) = line.split('#').next().and_then(|l| l.split_whitespace().next())
            else {
                continue;
            };
            if word.len() != DIGITS || !word.chars().all(|c| c.is_ascii_hexdigit()) {
                return Err(Error::invalid(format!(
                    "{}, line {}: {word} is not a SHA-256 of {DIGITS} hexadecimal digits; \
                     `sha256sum LIBRARY` writes such a line",
                    path.display(),
                    index + 1
                )));
            }
            hashes.insert(word.to_lowercase());
        }
        Ok(Self { path: path.to_path_buf(), hashes })
    }

    /// Refuses a library that is not listed.
    ///
    /// # Errors
    /// One line with its hash and where to put it.
    pub fn admit(&self, library: &Path, hash: &str) -> Result<()> {
        if self.hashes.contains(hash) {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "{}: its SHA-256 {hash} is not in {}; add that line if you trust it",
            library.display(),
            self.path.display()
        )))
    }
}
