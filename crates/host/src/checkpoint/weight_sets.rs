//! The weight files of a folder, in sets that each are one network, or one file of several.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use wan_model::weights::EXTENSIONS;

use crate::error::Result;
use crate::optional_file::list_folder;

/// End of the name of an index of shards.
const INDEX: &str = ".safetensors.index.json";

/// The sets in a folder, in order of name: an index of shards, shards without one
/// (`NAME-00001-of-00007.safetensors`), a file alone. Empty where there is no such folder.
///
/// # Errors
/// If the folder cannot be listed.
pub(super) fn in_folder(folder: &Path) -> Result<Vec<Vec<PathBuf>>> {
    Ok(sets(list_folder(folder)?))
}

/// As [`in_folder`], with those of the folders in it.
///
/// # Errors
/// As [`in_folder`].
pub(super) fn in_folder_and_below(folder: &Path) -> Result<Vec<Vec<PathBuf>>> {
    let mut found = Vec::new();
    for path in list_folder(folder)? {
        if path.is_dir() {
            found.extend(in_folder(&path)?);
        }
    }
    found.extend(in_folder(folder)?);
    Ok(found)
}

/// The sets of a folder that holds one network: one, unless there are several indices or several
/// files in the same format. A folder with an index has no other set; all its safetensors are one
/// set otherwise; other formats count where there are no safetensors.
///
/// # Errors
/// As [`in_folder`].
pub(super) fn of_one_network(folder: &Path) -> Result<Vec<Vec<PathBuf>>> {
    let sets = in_folder(folder)?;
    let indices: Vec<_> = sets.iter().filter(|set| is_index(&set[0])).cloned().collect();
    if !indices.is_empty() {
        return Ok(indices);
    }
    for extension in EXTENSIONS {
        let own = sets.iter().filter(|set| has_extension(&set[0], extension)).cloned();
        let own: Vec<Vec<PathBuf>> = own.collect();
        if !own.is_empty() {
            let is_whole = extension == EXTENSIONS[0];
            return Ok(if is_whole { vec![own.concat()] } else { own });
        }
    }
    Ok(Vec::new())
}

fn sets(files: Vec<PathBuf>) -> Vec<Vec<PathBuf>> {
    let mut sets: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for file in files {
        if let Some(set) = set_of(&file) {
            sets.entry(set).or_default().push(file);
        }
    }
    let whole = |set: Vec<PathBuf>| match set.iter().find(|file| is_index(file)) {
        // It stands for its shards, and names one that is not there.
        Some(index) => vec![index.clone()],
        None => set,
    };
    sets.into_values().map(whole).collect()
}

/// What the files of a set have in common; none for what holds no weights.
fn set_of(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_string_lossy();
    if let Some(stem) = name.strip_suffix(INDEX) {
        return Some(format!("{stem}.{}", EXTENSIONS[0]));
    }
    let (stem, extension) = name.rsplit_once('.')?;
    if !EXTENSIONS.contains(&extension) || file.is_dir() {
        return None;
    }
    let stem = match stem.rsplit_once("-of-") {
        Some((start, _)) => start.rsplit_once('-').map_or(start, |(stem, _)| stem),
        None => stem,
    };
    Some(format!("{stem}.{extension}"))
}

fn is_index(file: &Path) -> bool {
    file.to_string_lossy().ends_with(INDEX)
}

fn has_extension(file: &Path, extension: &str) -> bool {
    file.extension().is_some_and(|own| own == extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(sets: &[Vec<PathBuf>]) -> Vec<Vec<String>> {
        let name = |file: &PathBuf| file.file_name().unwrap().to_string_lossy().into_owned();
        sets.iter().map(|set| set.iter().map(name).collect()).collect()
    }

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        files.iter().for_each(|file| std::fs::write(folder.path().join(file), "").unwrap());
        folder
    }

    #[test]
    fn shards_belong_together_and_an_index_stands_for_its_own() {
        let files = ["a-00001-of-00002.safetensors", "a-00002-of-00002.safetensors", "b.gguf"];
        let more = ["b.safetensors", "c-1-of-2.safetensors", "c.safetensors.index.json", "d.txt"];
        let folder = folder(&[&files[..], &more].concat());
        let found = names(&in_folder(folder.path()).unwrap());
        let expected = [&files[..2], &["b.gguf"], &["b.safetensors"], &more[2..3]];
        let expected: Vec<Vec<String>> =
            expected.iter().map(|set| set.iter().map(|file| file.to_string()).collect()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_folder_of_one_network_prefers_an_index_then_safetensors_then_gguf() {
        let of = |files: &[&str]| names(&of_one_network(folder(files).path()).unwrap());
        assert_eq!(of(&["x.gguf", "a.safetensors", "b.safetensors"]).len(), 1);
        assert_eq!(of(&["x.gguf", "y.pth"]), [["x.gguf"]]);
        assert_eq!(of(&["x.gguf", "y.gguf"]).len(), 2);
        let index = "m.safetensors.index.json";
        assert_eq!(of(&["other.safetensors", index, "m-1-of-2.safetensors"]), [[index]]);
        assert!(of(&["config.json"]).is_empty());
    }
}
