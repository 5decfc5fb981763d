//! A video that is written while its latent frames come.

use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

use candle_core::Tensor;
use wan_border::files;
use wan_media::{
    Fragment, GrowingIndex, GrowingMp4, SegmentEncoder, SheetFrames, VideoFormat, VideoFrames,
};
use wan_outputs::Claim;

use crate::error::{Error, Result};
use crate::output::container_tags::Metadata;
use crate::output::decoding::FrameDecoder;
use crate::output::sidecar::Sidecar;

/// Decodes latent frames, and gives what is to be appended to a growing video file.
///
/// A file that ends with a whole segment can be gone on with: latent frames are pushed again, in
/// order, but for the first ones, on which no later pixel depends ([`skip`](Self::skip)). Frames of
/// segments that are there are not stored again.
pub struct VideoWriter<'m> {
    decoder: FrameDecoder<'m>,
    encoder: SegmentEncoder,
    growing: GrowingMp4,
    /// Frames of the video that are not to be encoded: they are there already.
    written: usize,
    /// Frames of the video that have come, or need not.
    passed: usize,
    /// Latent frames that need not come.
    skips: usize,
    sheet: Option<SheetFrames>,
}

impl<'m> VideoWriter<'m> {
    /// Begins a video, or goes on with the one of so many bytes in a file.
    ///
    /// # Errors
    /// If H.264 does not hold the format; if what the file holds is no such video.
    pub fn new(
        decoder: FrameDecoder<'m>,
        format: VideoFormat,
        (file, bytes): (&Path, u64),
    ) -> Result<Self> {
        let index = match bytes {
            0 => None,
            _ => open_growing(file, bytes)?,
        };
        let (encoder, growing, written) = match &index {
            None => (SegmentEncoder::new(format), GrowingMp4::new(format), 0),
            Some(index) => {
                let there = index.resume_point();
                if index.format() != format || index.bytes() != bytes {
                    return Err(Error::invalid(format!(
                        "{}: {bytes} bytes are no whole segments of {format:?}",
                        file.display()
                    )));
                }
                // A short segment is the last: then nothing is left to be encoded.
                let encoder = SegmentEncoder::starting_at(format, there.segments);
                (encoder, GrowingMp4::resume(index), index.frames())
            }
        };
        let decoder = decoder.starting_at(written);
        let (passed, skips) = (decoder.frames_before(), decoder.next_frame());
        Ok(Self { decoder, encoder, growing, written, passed, skips, sheet: None })
    }

    /// Collects these frames for a contact sheet on the way: all frames have to come.
    #[must_use]
    pub fn with_sheet(self, sheet: SheetFrames) -> Self {
        let decoder = self.decoder.starting_at(0);
        Self { decoder, passed: 0, skips: 0, sheet: Some(sheet), ..self }
    }

    /// Passes over the next latent frames that need not come, at most so many. Gives how many it
    /// were; the one behind them is pushed next.
    pub fn skip(&mut self, frames_max: usize) -> usize {
        let skipped = self.skips.min(frames_max);
        self.skips -= skipped;
        skipped
    }

    /// The next latent frame, `[1, z, 1, h, w]`, normalised as the model has it. Gives what is to be
    /// appended to the file: whole segments, mostly none.
    ///
    /// # Errors
    /// If it cannot be decoded or encoded, or decoding is cancelled.
    pub fn push(&mut self, latents: &Tensor) -> Result<Vec<Fragment>> {
        let mut fragments = Vec::new();
        if self.skip(1) == 1 {
            return Ok(fragments);
        }
        if self.decoder.only_sees() {
            self.decoder.see(latents)?;
            return Ok(fragments);
        }
        while let Some(frames) = self.decoder.next_in_front() {
            self.encode(&frames?, &mut fragments)?;
        }
        let frames = self.decoder.decode(latents)?;
        self.encode(&frames, &mut fragments)?;
        Ok(fragments)
    }

    fn encode(&mut self, frames: &VideoFrames, fragments: &mut Vec<Fragment>) -> Result<()> {
        for frame in frames.iter() {
            self.passed += 1;
            if let Some(sheet) = &mut self.sheet {
                sheet.push(frame)?;
            }
            if self.passed <= self.written {
                continue;
            }
            if let Some(segment) = self.encoder.push(frame)? {
                fragments.push(self.growing.append(&segment)?);
            }
        }
        Ok(())
    }

    /// Gives up the weights of the VAE until the next latent frame.
    pub fn rest(&mut self) {
        self.decoder.rest();
    }

    /// Frames of the video so far.
    pub fn frames(&self) -> usize {
        self.passed
    }

    /// What is to be appended at the end, and the frames of the sheet.
    ///
    /// # Errors
    /// If the last segment cannot be encoded.
    pub fn finish(mut self) -> Result<(Option<Fragment>, Option<SheetFrames>)> {
        let last = self.encoder.finish();
        let last = last.map(|last| self.growing.append(&last)).transpose()?;
        Ok((last, self.sheet))
    }
}

/// The index of a growing file; none before its first whole segment.
fn open_growing(path: &Path, bytes: u64) -> Result<Option<GrowingIndex>> {
    let mut file = BufReader::new(files::open(path)?.0);
    Ok(GrowingIndex::read(&mut file, bytes)?)
}

impl Sidecar {
    /// Writes the video of a growing file, its index before the pictures, with these tags, and this
    /// sidecar. Pictures are copied piece by piece.
    ///
    /// # Errors
    /// If the growing file is none, or a file cannot be written.
    pub fn save_video(
        &self,
        (growing, bytes): (&Path, u64),
        (mut video, sidecar): (Claim, Claim),
        metadata: Metadata,
    ) -> Result<()> {
        let index = open_growing(growing, bytes)?.ok_or_else(|| {
            Error::invalid(format!("{}: no segment of a video", growing.display()))
        })?;
        let mut from = BufReader::new(files::open(growing)?.0);
        let path = video.path().to_path_buf();
        let mut to = BufWriter::new(video.file());
        let written = index.write_faststart(&mut from, &metadata.tags(self), &mut to);
        written.map_err(|error| match error {
            wan_media::Error::Io { source, .. } => Error::io(&path)(source),
            other => other.into(),
        })?;
        to.flush().map_err(Error::io(&path))?;
        drop(to);
        // The video comes last: where it is, all is there.
        self.save_to(sidecar)?;
        video.keep()?;
        Ok(())
    }
}
