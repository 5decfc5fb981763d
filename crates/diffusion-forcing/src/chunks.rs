//! Long video: chunks that are sampled one after the other, each with its own timestep matrix.
//!
//! A chunk starts with the last `overlap_history` frames of the previous one as its clean prefix.
//! They are taken over as latents, without decoding and encoding. This is the rule of diffusers
//! (commit 58eb52c, `pipeline_skyreels_v2_diffusion_forcing.py`). SkyReels-V2 itself (abed76f)
//! decodes the overlap and encodes its pixels again, so that the prefix starts with a latent of a
//! single pixel frame.
//!
//! A prefix consists of whole blocks. The rest of an overlap ("resampled" frames) belongs to the
//! chunk's first moving block: it starts from noise again, the frames around it attend to it, and
//! it is dropped in the end, as in both references. The video keeps the first version.

use wan_plugin_api::{Error, Result, SampleRequest};

use crate::check::{check, whole_blocks};
use crate::chunk::{Chunk, TemporalScale};
use crate::matrix::Layout;
use crate::options::Options;

/// The chunks of a request, and notices for the user.
#[derive(Debug)]
pub(crate) struct Chunks {
    whole: Layout,
    /// Latent frames that a chunk takes over from the one before.
    overlap: usize,
    pub(crate) count: usize,
    pub(crate) notices: Vec<String>,
}

impl Chunks {
    /// The chunks of a request.
    ///
    /// # Errors
    /// `Invalid` for lengths that do not fit each other, with lengths that would.
    pub(crate) fn new(options: &Options, request: &SampleRequest) -> Result<Self> {
        let scale = TemporalScale(request.temporal_scale.max(1) as usize);
        let frames = request.frames as usize;
        let overlap = scale.latent_frames(options.overlap_history as usize);
        let base = match scale.latent_frames(options.base_num_frames as usize) {
            0 if overlap > 0 => {
                return Err(Error::invalid(
                    "overlap_history without base_num_frames: give the frames to sample at once, \
                     97 say",
                ));
            }
            0 => frames,
            base => base,
        };
        let whole = Layout {
            frames,
            window_frames: base.min(frames),
            prefix_frames: request.prefix_frames as usize,
            ar_step: options.ar_step,
            block_frames: options.causal_block_size,
        };
        let mut chunks = Self { whole, overlap, count: 1, notices: Vec::new() };
        if overlap > 0 && base < frames {
            fitting(base, overlap, &whole, scale)?;
            chunks = Self::cut(whole, overlap);
            chunks.notices.extend(rounded_down(overlap, &whole, scale));
        }
        // Those between the second and the last are like the second.
        let mut different = vec![0, 1, chunks.count - 1];
        different.retain(|number| *number < chunks.count);
        let steps = request.steps as usize;
        different.into_iter().try_for_each(|number| check(&chunks.get(number), steps, scale))?;
        Ok(chunks)
    }

    /// The chunks of a video that is longer than `whole.window_frames`.
    fn cut(whole: Layout, overlap: usize) -> Self {
        let base = whole.window_frames;
        let count = 1 + (whole.frames - base).div_ceil(base - overlap);
        Self { whole, overlap, count, notices: Vec::new() }
    }

    /// A chunk by its number.
    pub(crate) fn get(&self, number: usize) -> Chunk {
        let (whole, overlap) = (&self.whole, self.overlap);
        if self.count == 1 {
            return Chunk { first: 0, resampled: 0, layout: *whole };
        }
        let (base, block) = (whole.window_frames, whole.block_frames);
        let first = number * (base - overlap);
        let frames = base.min(whole.frames - first);
        let (prefix_frames, resampled) = match number {
            0 => (whole.prefix_frames, 0),
            _ => (overlap - overlap % block, overlap % block),
        };
        let layout = Layout { frames, window_frames: frames, prefix_frames, ..*whole };
        Chunk { first, resampled, layout }
    }
}

/// Refuses an overlap that leaves no new frame in a chunk, and a chunk that is not of whole blocks.
fn fitting(base: usize, overlap: usize, whole: &Layout, scale: TemporalScale) -> Result<()> {
    if overlap >= base {
        return Err(Error::invalid(format!(
            "overlap_history of {overlap} latent frames leaves nothing new in the {base} of \
             base_num_frames: give a shorter overlap_history, or a longer base_num_frames"
        )));
    }
    whole_blocks(base, " of base_num_frames", whole.block_frames, |latent| {
        (latent > overlap).then(|| format!("--base_num_frames {}", scale.pixel_frames(latent)))
    })
}

/// A notice for the user if the overlap is not of whole blocks.
fn rounded_down(overlap: usize, whole: &Layout, scale: TemporalScale) -> Option<String> {
    let block = whole.block_frames;
    let (kept, resampled) = (overlap - overlap % block, overlap % block);
    let continued = match kept {
        0 => "no frame of the one before, so that the chunks do not continue each other".into(),
        _ => format!("{kept} of them and samples the rest again, to be dropped"),
    };
    (resampled > 0).then(|| {
        format!(
            "overlap_history holds {overlap} latent frames, not a multiple of causal_block_size \
             {block}: each chunk keeps {continued}; overlap_history {} holds {}",
            scale.pixel_frames(kept + block),
            kept + block
        )
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SCALE: TemporalScale = TemporalScale(4);

    fn layout(frames: usize, base: usize, block_frames: usize) -> Layout {
        Layout { frames, window_frames: base, prefix_frames: 0, ar_step: 0, block_frames }
    }

    fn cut(whole: &Layout, overlap: usize) -> Vec<Chunk> {
        let chunks = Chunks::cut(*whole, overlap);
        (0..chunks.count).map(|number| chunks.get(number)).collect()
    }

    fn lengths(num_frames: usize, base: usize, overlap: usize) -> Vec<usize> {
        let [frames, base, overlap] =
            [num_frames, base, overlap].map(|pixels| SCALE.latent_frames(pixels));
        cut(&layout(frames, base, 1), overlap).iter().map(|chunk| chunk.layout.frames).collect()
    }

    #[test]
    fn chunks_have_the_lengths_of_the_reference() {
        assert_eq!(lengths(257, 97, 17), [25, 25, 25]);
        assert_eq!(lengths(377, 97, 17), [25, 25, 25, 25, 15]);
        assert_eq!(lengths(737, 97, 17), [25; 9]);
        assert_eq!(lengths(1457, 97, 17), [25; 18]);
        assert_eq!(lengths(257, 121, 17), [31, 31, 13]);
    }

    #[test]
    fn an_overlap_that_fills_no_block_is_rounded_down() {
        let chunks = cut(&layout(10, 6, 2), 3);
        let spans: Vec<_> = chunks.iter().map(|c| (c.first, c.layout.frames)).collect();
        assert_eq!(spans, [(0, 6), (3, 6), (6, 4)]);
        let overlaps = chunks.iter().map(|c| (c.layout.prefix_frames, c.resampled));
        assert_eq!(overlaps.collect::<Vec<_>>(), [(0, 0), (2, 1), (2, 1)]);
        let notice = rounded_down(3, &layout(10, 6, 2), SCALE).unwrap();
        assert!(notice.contains("keeps 2 of them"), "{notice}");
        assert!(notice.ends_with("overlap_history 13 holds 4"), "{notice}");
        let notice = rounded_down(3, &layout(12, 8, 4), SCALE).unwrap();
        assert!(notice.contains("do not continue each other"), "{notice}");
        assert_eq!(rounded_down(4, &layout(10, 6, 2), SCALE), None);
    }

    proptest! {
        #[test]
        fn chunks_cover_the_video_and_each_overlaps_the_one_before(
            (block, base, overlap, more) in (1..5usize, 1..9usize, 0..30usize, 1..60usize),
        ) {
            let base = base * block;
            let overlap = overlap % base;
            let whole = layout(base + more, base, block);
            let mut finished = 0;
            for chunk in cut(&whole, overlap) {
                let expected = if chunk.first == 0 { 0 } else { overlap };
                prop_assert_eq!(chunk.overlap(), expected);
                prop_assert_eq!(chunk.first + chunk.overlap(), finished);
                prop_assert_eq!(chunk.layout.prefix_frames % block, 0);
                prop_assert!(chunk.layout.frames <= base && chunk.overlap() < chunk.layout.frames);
                finished = chunk.first + chunk.layout.frames;
            }
            prop_assert_eq!(finished, whole.frames);
        }
    }
}
