//! Files that may be parts of a model, by their tensors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::part::{KINDS, Part, part_of};
use crate::error::Result;

/// Sets of files by the part that they may be.
#[derive(Default)]
pub(super) struct Candidates {
    /// Those whose tensors are of the part.
    of: BTreeMap<&'static str, Vec<Part>>,
    /// Those that cannot be read, by the part that they would be.
    unread: BTreeMap<&'static str, Vec<Part>>,
}

impl Candidates {
    /// Adds a set if its tensors are of this part. What is of another part, or of no network of
    /// Wan's, is passed over.
    pub(super) fn add(&mut self, kind: &'static str, files: Vec<PathBuf>) {
        let part = Part::new(kind, files);
        match own_kind(&part) {
            Ok(own) if own == Some(kind) => self.of.entry(kind).or_default().push(part),
            Ok(_) => {}
            Err(_) => self.unread.entry(kind).or_default().push(part),
        }
    }

    /// Adds a set as the part, or the parts, that its tensors are of. Headers are read once where
    /// it is one network.
    pub(super) fn add_any(&mut self, files: &[PathBuf]) {
        let first = Part::new(KINDS[0], files.to_vec());
        let several = first.weights().map(|weights| weights.holds_several());
        if matches!(several, Ok(false)) {
            if let Ok(Some(own)) = own_kind(&first) {
                self.of.entry(own).or_default().push(first.renamed(own));
            }
            return;
        }
        let mut found = false;
        for kind in KINDS {
            let part = Part::new(kind, files.to_vec());
            if own_kind(&part).is_ok_and(|own| own == Some(kind)) {
                self.of.entry(kind).or_default().push(part);
                found = true;
            }
        }
        if several.is_err() && !found {
            let kind = kind_of_name(&files[0]);
            self.unread.entry(kind).or_default().push(first.renamed(kind));
        }
    }

    /// The candidates for a part. Where some are published ones, the others do not count.
    pub(super) fn take(&mut self, kind: &str) -> Vec<Part> {
        let mut parts = self.of.remove(kind).unwrap_or_default();
        let is_published = |part: &Part| {
            part.inspection().is_ok_and(|inspection| !inspection.candidates.is_empty())
        };
        if parts.iter().any(is_published) {
            parts.retain(is_published);
        }
        parts
    }

    /// The first of the files that would be a part and cannot be read: whoever needs the part is
    /// told why.
    pub(super) fn take_unread(&mut self, kind: &str) -> Option<Part> {
        self.unread.remove(kind)?.into_iter().next()
    }
}

/// The part that the tensors are of, if they are of one.
fn own_kind(part: &Part) -> Result<Option<&'static str>> {
    Ok(part.inspection()?.network.as_ref().map(part_of))
}

/// The part that the name of a file says that it is.
fn kind_of_name(file: &Path) -> &'static str {
    let name = file.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let parts = [
        ("vae", "vae"),
        ("t5", "text_encoder"),
        ("text_enc", "text_encoder"),
        ("clip", "image_encoder"),
    ];
    parts.iter().find(|(word, _)| name.contains(word)).map_or("transformer", |(_, part)| part)
}
