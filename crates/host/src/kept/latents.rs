//! The latent frames of a run that lie on the disk, read again.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use candle_core::{IndexOp, Tensor};
use sha2::{Digest, Sha256};
use wan_outputs::{Claim, Kept};
use wan_run_store::{JournalReader, Mark};

use super::parts::{KeptFrame, frame_of};
use crate::error::{Error, Result};
use crate::latents::LATENT_FRAME_AXIS;
use crate::output::latents_file::{METADATA, TENSOR};
use crate::output::sidecar::Sidecar;
use crate::tensor_bytes::bytes_of;

/// Latent frames in a file, in order, one in memory at a time.
#[derive(Debug, Clone)]
pub struct KeptLatents {
    path: PathBuf,
    mark: Mark,
    frames: usize,
    /// Of all latents.
    shape: [usize; 5],
}

impl KeptLatents {
    pub(super) fn new(path: PathBuf, mark: Mark, frames: usize, shape: [usize; 5]) -> Self {
        Self { path, mark, frames, shape }
    }

    /// How many there are.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Goes through them.
    ///
    /// # Errors
    /// If they cannot be read, or are damaged; as the items.
    pub fn each(&self) -> Result<impl Iterator<Item = Result<KeptFrame>> + use<>> {
        let [_, channels, _, height, width] = self.shape;
        let reader = JournalReader::open(&self.path, &self.mark)?;
        Ok(reader.enumerate().map(move |(place, part)| {
            let frame = frame_of(&part?, [channels, height, width])?;
            if frame.number != place {
                return Err(Error::invalid(format!(
                    "kept latent frame {place} says that it is frame {}",
                    frame.number
                )));
            }
            Ok(frame)
        }))
    }

    /// The last ones, at most so many, `[1, C, n, H, W]`; none where there are none.
    ///
    /// # Errors
    /// If they cannot be read, or are damaged.
    pub fn last(&self, frames_max: usize) -> Result<Option<Tensor>> {
        let first = self.frames - self.frames.min(frames_max);
        let last = self.each()?.skip(first).map(|frame| Ok(frame?.latents));
        let last = last.collect::<Result<Vec<_>>>()?;
        if last.is_empty() {
            return Ok(None);
        }
        Ok(Some(Tensor::cat(&last, LATENT_FRAME_AXIS)?))
    }

    /// Calls `see` with the numbers of all frames as latents `[1, C, F, H, W]` have them: all
    /// frames of a channel, then the next channel. The file is read once for each channel.
    fn each_channel(&self, mut see: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        for channel in 0..self.shape[1] {
            for frame in self.each()? {
                see(&bytes_of(&frame?.latents.i((0, channel))?)?)?;
            }
        }
        Ok(())
    }

    /// SHA-256 of the latents, as [`Sidecar::latents_hash`](crate::Sidecar::latents_hash) has it.
    ///
    /// # Errors
    /// If they cannot be read, or are damaged.
    pub fn hash(&self) -> Result<String> {
        let mut hash = Sha256::new();
        self.each_channel(|bytes| {
            hash.update(bytes);
            Ok(())
        })?;
        Ok(hex::encode(hash.finalize()))
    }

    /// Saves them as [`Sidecar::save_latents`] does.
    ///
    /// # Errors
    /// If they cannot be read, or the file cannot be written.
    pub fn save(&self, sidecar: &Sidecar, mut claim: Claim) -> Result<Kept> {
        let report = serde_json::to_string(sidecar).map_err(|e| Error::invalid(e.to_string()))?;
        let path = claim.path().to_path_buf();
        let mut to = BufWriter::new(claim.file());
        self.write_safetensors(&report, (&path, &mut to))?;
        to.flush().map_err(Error::io(&path))?;
        drop(to);
        Ok(claim.keep()?)
    }

    fn write_safetensors(&self, report: &str, (path, to): (&Path, &mut impl Write)) -> Result<()> {
        let [batch, channels, _, height, width] = self.shape;
        let shape = [batch, channels, self.frames, height, width];
        let bytes = 4 * shape.iter().product::<usize>();
        let header = serde_json::json!({
            "__metadata__": { METADATA: report },
            TENSOR: { "dtype": "F32", "shape": shape, "data_offsets": [0, bytes] },
        });
        let mut header = header.to_string();
        // Data begins at a multiple of eight bytes.
        while !header.len().is_multiple_of(8) {
            header.push(' ');
        }
        let length = (header.len() as u64).to_le_bytes();
        let mut write = |bytes: &[u8]| to.write_all(bytes).map_err(Error::io(path));
        write(&length)?;
        write(header.as_bytes())?;
        self.each_channel(write)
    }
}
