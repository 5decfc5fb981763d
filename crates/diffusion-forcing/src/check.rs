//! Refuses options with which the references fail or give wrong frames.

use wan_plugin_api::{Attention, Error, Result};

use crate::chunk::{Chunk, TemporalScale};
use crate::matrix::Layout;

/// Refuses a chunk whose matrix would not take every frame from noise to clean.
///
/// The references check only the lag of a sliding window. Otherwise they drop the frames after the
/// last whole block, treat a clean frame that does not fill a block as noise, lose the updates of
/// blocks that the window never reaches, and fail where nothing is left to sample.
///
/// # Errors
/// `Invalid`, with options that would work.
pub(crate) fn check(chunk: &Chunk, steps: usize, scale: TemporalScale) -> Result<()> {
    let layout = &chunk.layout;
    let of = if chunk.first > 0 { " of the last chunk" } else { "" };
    whole_blocks(layout.frames, of, layout.block_frames, |latent| {
        let all = chunk.first + latent;
        (latent > chunk.overlap()).then(|| format!("--num_frames {}", scale.pixel_frames(all)))
    })?;
    prefix(layout)?;
    sliding_window(layout, steps)
}

/// Refuses a length that is not a positive multiple of the block. `of` names its owner in the
/// message; `setting` returns the option that gives another length, if that length can be
/// recommended.
///
/// # Errors
/// `Invalid`, with the nearest lengths.
pub(crate) fn whole_blocks(
    frames: usize,
    of: &str,
    block: usize,
    setting: impl Fn(usize) -> Option<String>,
) -> Result<()> {
    if frames.is_multiple_of(block) && frames > 0 {
        return Ok(());
    }
    let below = frames / block * block;
    let nearest: Vec<String> = [below, below + block]
        .iter()
        .filter_map(|latent| Some(format!("{latent} ({})", setting(*latent)?)))
        .collect();
    Err(Error::invalid(format!(
        "{frames} latent frames{of} are not a multiple of causal_block_size {block}: give {}, or \
         a causal_block_size that divides {frames}",
        nearest.join(" or ")
    )))
}

/// The attention between blocks.
///
/// # Errors
/// `Invalid` for a causal mask over blocks of one frame: diffusers applies no mask then,
/// SkyReels-V2 one between frames.
pub(crate) fn attention(causal: bool, block_frames: usize) -> Result<Attention> {
    match (causal, block_frames) {
        (false, _) => Ok(Attention::Bidirectional),
        (true, 1) => Err(Error::invalid(
            "attention block_causal with causal_block_size 1: give blocks of 2 or more latent \
             frames, or attention bidirectional",
        )),
        (true, block) => Ok(Attention::BlockCausal(block as u32)),
    }
}

fn prefix(layout: &Layout) -> Result<()> {
    let Layout { frames, prefix_frames: prefix, block_frames: block, .. } = *layout;
    if prefix % block != 0 {
        return Err(Error::invalid(format!(
            "a prefix of {prefix} latent frames does not fill blocks of causal_block_size {block}: \
             its last {} would be sampled from noise; give a prefix of whole blocks, or a \
             causal_block_size that divides {prefix} (1 for a single image)",
            prefix % block
        )));
    }
    if prefix >= frames {
        return Err(Error::invalid(format!(
            "all {frames} latent frames belong to the prefix of {prefix}: nothing is left to \
             sample; ask for more frames, or for a longer base_num_frames"
        )));
    }
    Ok(())
}

fn sliding_window(layout: &Layout, steps: usize) -> Result<()> {
    let (blocks, window) = (layout.blocks(), layout.window_blocks());
    if window >= blocks {
        return Ok(());
    }
    if window == 0 {
        return Err(Error::invalid(format!(
            "causal_block_size {} is more than the {} latent frames that the model takes at once",
            layout.block_frames, layout.window_frames
        )));
    }
    if layout.prefix_blocks() > window {
        return Err(Error::invalid(format!(
            "a prefix of {} latent frames is longer than the {} that the model takes at once; give \
             a shorter prefix or a longer window",
            layout.prefix_frames,
            window * layout.block_frames
        )));
    }
    if layout.ar_step * window < steps {
        return Err(Error::invalid(format!(
            "ar_step {} is too small for a window of {window} blocks over {blocks}: the first \
             block would leave it before its {steps} steps are done; give ar_step {} or more, or \
             a longer window",
            layout.ar_step,
            steps.div_ceil(window)
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout =
        Layout { frames: 12, window_frames: 12, prefix_frames: 0, ar_step: 2, block_frames: 3 };

    const SCALE: TemporalScale = TemporalScale(4);

    fn check_layout(layout: Layout) -> Result<()> {
        check(&Chunk { first: 0, resampled: 0, layout }, 6, SCALE)
    }

    fn refusal(layout: Layout) -> String {
        let error = check_layout(layout).unwrap_err();
        assert_eq!(error.kind, wan_plugin_api::ErrorKind::Invalid);
        error.message
    }

    #[test]
    fn frames_behind_the_last_whole_block_are_refused_with_the_nearest_lengths() {
        let message = refusal(Layout { frames: 13, ..LAYOUT });
        assert!(message.contains("12 (--num_frames 45) or 15 (--num_frames 57)"), "{message}");
        let message = refusal(Layout { frames: 2, ..LAYOUT });
        assert!(message.contains("give 3 (--num_frames 9), or"), "{message}");
        // The last chunk of a longer video: lengths are the whole video's.
        let last = Layout { frames: 7, prefix_frames: 3, ..LAYOUT };
        let last = Chunk { first: 10, resampled: 1, layout: last };
        let message = check(&last, 6, SCALE).unwrap_err().message;
        assert!(message.contains("6 (--num_frames 61) or 9 (--num_frames 73)"), "{message}");
    }

    #[test]
    fn prefixes_that_do_not_fit_are_refused() {
        for (prefix_frames, part) in [(1, "1 for a single image"), (4, "last 1"), (12, "nothing")] {
            let message = refusal(Layout { prefix_frames, ..LAYOUT });
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn windows_that_cannot_follow_are_refused() {
        let window = Layout { frames: 15, window_frames: 6, ar_step: 3, ..LAYOUT };
        check_layout(window).unwrap();
        check_layout(Layout { prefix_frames: 6, ..window }).unwrap();
        let message = refusal(Layout { prefix_frames: 9, ..window });
        assert!(message.contains("shorter prefix"), "{message}");
        let message = refusal(Layout { ar_step: 0, ..window });
        assert!(message.contains("ar_step 3 or more"), "{message}");
        let message = refusal(Layout { window_frames: 2, ..window });
        assert!(message.contains("takes at once"), "{message}");
    }
}
