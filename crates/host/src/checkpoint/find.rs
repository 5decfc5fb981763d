//! Where the parts of a model lie: diffusers' folders, Wan's original layout, single files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::part::{PARTS, Part, part_of};
use crate::error::{Error, Result};
use crate::optional_file::list_folder;

/// Wan 2.2 A14B's folders for its two experts, in its own layout.
const EXPERT_FOLDERS: [(&str, &str); 2] =
    [("high_noise_model", "transformer"), ("low_noise_model", "transformer_2")];

/// Finds the parts under `root`: folders named as in diffusers, else whatever its safetensors files
/// are by their tensors, each a part of its own or shards of one.
///
/// # Errors
/// If the folder or a header cannot be read, or two files are the same part.
pub(super) fn find_parts(root: &Path) -> Result<BTreeMap<String, Part>> {
    let mut parts = in_folders(root, PARTS.map(|part| (part, part)))?;
    if !parts.is_empty() {
        return Ok(parts);
    }
    parts = in_folders(root, EXPERT_FOLDERS)?;
    for set in sets(safetensors_in(root)?) {
        let part = Part::new(set);
        let Some(network) = &part.inspection()?.network else { continue };
        let (name, file) = (part_of(network), part.files[0].clone());
        if let Some(other) = parts.insert(name.into(), part) {
            return Err(Error::invalid(format!(
                "{} and {} are both a {name}; name one with `{name}`",
                other.files[0].display(),
                file.display()
            )));
        }
    }
    Ok(parts)
}

/// The parts that have a folder of their own, by the names of folder and part.
fn in_folders<const N: usize>(
    root: &Path,
    names: [(&str, &str); N],
) -> Result<BTreeMap<String, Part>> {
    let mut parts = BTreeMap::new();
    for (folder, part) in names {
        let files = safetensors_in(&root.join(folder))?;
        if !files.is_empty() {
            parts.insert(part.into(), Part::new(files));
        }
    }
    Ok(parts)
}

/// Pickles beside the weights: never loaded, since loading one runs its code.
pub(super) fn pickles_in(root: &Path) -> Result<Vec<PathBuf>> {
    let mut pickles = list_folder(root)?;
    pickles.retain(|p| p.extension().is_some_and(|e| e == "pth" || e == "pt"));
    Ok(pickles)
}

/// The safetensors files of a folder, in order of name; none where there is no such folder.
fn safetensors_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = list_folder(folder)?;
    files.retain(|file| file.extension().is_some_and(|e| e == "safetensors"));
    Ok(files)
}

/// Shards (`NAME-00001-of-00007.safetensors`) together, everything else alone.
fn sets(files: Vec<PathBuf>) -> Vec<Vec<PathBuf>> {
    let stem = |file: &Path| {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        match name.rsplit_once("-of-") {
            Some((start, _)) => start.rsplit_once('-').map_or(start, |(s, _)| s).to_string(),
            None => name,
        }
    };
    let mut sets: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for file in files {
        sets.entry(stem(&file)).or_default().push(file);
    }
    sets.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_belong_together() {
        let files = ["a-00001-of-00002", "a-00002-of-00002", "b", "c-d"];
        let files = files.map(|f| PathBuf::from(format!("{f}.safetensors"))).to_vec();
        let sets = sets(files);
        assert_eq!(sets.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1]);
    }
}
