//! Files that may be parts of a model, by their tensors.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::part::{KINDS, Part, part_of};

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
        match part.inspection().map(|found| found.network.as_ref().map(part_of)) {
            Ok(found) if found == Some(kind) => self.of.entry(kind).or_default().push(part),
            Ok(_) => {}
            Err(_) => self.unread.entry(kind).or_default().push(part),
        }
    }

    /// Adds a set as the part, or the parts, that its tensors are of.
    pub(super) fn add_any(&mut self, files: &[PathBuf]) {
        let mut found = 0;
        let mut is_unread = false;
        for kind in KINDS {
            let part = Part::new(kind, files.to_vec());
            match part.inspection().map(|found| found.network.as_ref().map(part_of)) {
                Ok(Some(own)) if own == kind => {
                    self.of.entry(kind).or_default().push(part);
                    found += 1;
                }
                // A file of one network is the same whatever is asked for.
                Ok(Some(own)) if found == 0 => {
                    return self.of.entry(own).or_default().push(part.renamed(own));
                }
                Ok(Some(_)) => return,
                Ok(None) => {}
                Err(_) => is_unread = true,
            }
        }
        if found == 0 && is_unread {
            let kind = kind_of_name(&files[0]);
            self.unread.entry(kind).or_default().push(Part::new(kind, files.to_vec()));
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

/// The part that the name of a file says that it is.
fn kind_of_name(file: &std::path::Path) -> &'static str {
    let name = file.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let parts = [
        ("vae", "vae"),
        ("t5", "text_encoder"),
        ("text_enc", "text_encoder"),
        ("clip", "image_encoder"),
    ];
    parts.iter().find(|(word, _)| name.contains(word)).map_or("transformer", |(_, part)| part)
}
