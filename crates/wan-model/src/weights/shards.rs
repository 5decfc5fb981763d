//! Sharded checkpoints: an index file, and the shards that it names beside it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use wan_border::files::{self, Content};

use crate::error::{Error, Result};

/// `*.safetensors.index.json`. Its metadata is ignored.
#[derive(Deserialize)]
pub(super) struct Index {
    /// Tensor name to the file name of its shard.
    weight_map: BTreeMap<String, String>,
}

impl Index {
    /// Reads `path` if its name is that of an index.
    pub(super) fn open(path: &Path) -> Result<Option<Self>> {
        if !path.to_string_lossy().ends_with(".index.json") {
            return Ok(None);
        }
        let malformed = |said| Error::MalformedFile {
            path: path.to_owned(),
            reason: format!("the index of shards cannot be read: {said}"),
        };
        let text = files::text(path, Content::Settings)?;
        let index: Self = files::parse_json(&text).map_err(malformed)?;
        let is_plain = |name: &&String| Path::new(name).file_name() == Some(OsStr::new(name));
        match index.weight_map.values().find(|name| !is_plain(name)) {
            None => Ok(Some(index)),
            Some(other) => Err(malformed(format!("{other:?} is no plain name of a file"))),
        }
    }

    /// The shards, in the folder of the index at `path`.
    pub(super) fn shards(&self, path: &Path) -> Vec<PathBuf> {
        let names: BTreeSet<&String> = self.weight_map.values().collect();
        names.into_iter().map(|name| path.with_file_name(name)).collect()
    }

    /// Checks that the shards together have all tensors of the index.
    pub(super) fn check(&self, path: &Path, found: &HashSet<String>) -> Result<()> {
        match self.weight_map.iter().find(|(name, _)| !found.contains(*name)) {
            None => Ok(()),
            Some((name, shard)) => Err(Error::MalformedFile {
                path: path.with_file_name(shard),
                reason: format!("tensor `{name}` should be here, says {}", path.display()),
            }),
        }
    }
}
