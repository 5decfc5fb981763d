//! A hash by which a model is known again.

use sha2::{Digest, Sha256};
use wan_model::weights::WeightFile;

use crate::error::Result;

/// Bytes hashed at each of [`PLACES`] places of a weight file.
const CHUNK: u64 = 1 << 20;
const PLACES: u64 = 64;

/// See [`Checkpoint::fingerprint`](super::Checkpoint::fingerprint). Reads the open files: what takes
/// the place of one on the disk is another file.
pub(super) fn of<'f>(files: impl Iterator<Item = &'f WeightFile>) -> Result<String> {
    let mut hash = Sha256::new();
    for file in files {
        let size = file.length();
        hash.update(size.to_le_bytes());
        let mut place = 0;
        while place < size {
            hash.update(file.bytes_at(place, CHUNK).map_err(wan_model::Error::from)?);
            place += (size / PLACES).max(CHUNK);
        }
    }
    Ok(hex::encode(hash.finalize()))
}
