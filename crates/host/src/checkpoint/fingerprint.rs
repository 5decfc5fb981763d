//! A hash by which a model is known again.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use wan_border::files;

use crate::error::{Error, Result};

/// Bytes hashed at each of [`PLACES`] places of a weight file.
const CHUNK: u64 = 1 << 20;
const PLACES: u64 = 64;

/// See [`Checkpoint::fingerprint`](super::Checkpoint::fingerprint).
pub(super) fn of<'p>(files: impl Iterator<Item = &'p PathBuf>) -> Result<String> {
    let mut hash = Sha256::new();
    for path in files {
        let (file, size) = files::open(path).map_err(wan_model::Error::from)?;
        hash_file(file, size, &mut hash).map_err(Error::io(path))?;
    }
    Ok(hex::encode(hash.finalize()))
}

fn hash_file(mut file: File, size: u64, hash: &mut Sha256) -> std::io::Result<()> {
    hash.update(size.to_le_bytes());
    let step = (size / PLACES).max(CHUNK);
    let mut buffer = Vec::new();
    for place in (0..size).step_by(step as usize) {
        file.seek(SeekFrom::Start(place))?;
        buffer.clear();
        file.by_ref().take(CHUNK).read_to_end(&mut buffer)?;
        hash.update(&buffer);
    }
    Ok(())
}
