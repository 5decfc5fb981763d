//! Where the parts of a model lie: diffusers' folders, Wan's original layout, single files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use wan_model::inspect::{Network, inspect};

use crate::error::{Error, Result};

/// Names of the parts, as diffusers' folders have them.
pub const PARTS: [&str; 5] =
    ["transformer", "transformer_2", "vae", "text_encoder", "image_encoder"];

/// Wan 2.2 A14B's folders for its two experts, in its own layout.
const EXPERT_FOLDERS: [(&str, &str); 2] =
    [("high_noise_model", "transformer"), ("low_noise_model", "transformer_2")];

/// The weight files of each part.
pub type Parts = BTreeMap<String, Vec<PathBuf>>;

/// Finds the parts under `root`: folders named as in diffusers, else whatever its safetensors files
/// are by their tensors, each a part of its own or shards of one.
///
/// # Errors
/// If the folder or a header cannot be read, or two files are the same part.
pub fn find_parts(root: &Path) -> Result<Parts> {
    let mut parts = Parts::new();
    for part in PARTS {
        let files = safetensors_in(&root.join(part))?;
        if !files.is_empty() {
            parts.insert(part.into(), files);
        }
    }
    if !parts.is_empty() {
        return Ok(parts);
    }
    for (folder, part) in EXPERT_FOLDERS {
        let files = safetensors_in(&root.join(folder))?;
        if !files.is_empty() {
            parts.insert(part.into(), files);
        }
    }
    for set in sets(safetensors_in(root)?) {
        let part = match inspect(&set)?.network {
            Some(Network::Transformer(_)) => "transformer",
            Some(Network::Vae(_)) => "vae",
            Some(Network::TextEncoder(_)) => "text_encoder",
            Some(Network::ImageEncoder(_)) => "image_encoder",
            None => continue,
        };
        if let Some(other) = parts.insert(part.into(), set.clone()) {
            return Err(Error::invalid(format!(
                "{} and {} are both a {part}; name one with --{part}",
                other[0].display(),
                set[0].display()
            )));
        }
    }
    Ok(parts)
}

/// Pickles beside the weights: never loaded, since loading one runs its code.
pub fn pickles_in(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let paths = entries.filter_map(|entry| entry.ok().map(|e| e.path()));
    paths.filter(|p| p.extension().is_some_and(|e| e == "pth" || e == "pt")).collect()
}

/// The safetensors files of a folder, in order of name; none where there is no such folder.
fn safetensors_in(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder).map_err(Error::io(folder))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "safetensors"));
    files.sort();
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
