//! The noise of stochastic steps.

use wan_plugin_api::{Result, Tensor, TensorOps};

/// First noise stream of the steps: frame `f` uses stream `STEP_STREAMS + f`.
const STEP_STREAMS: u64 = 1 << 16;

/// Seeded noise for the steps of a sample.
///
/// A frame's noise is a function of the seed, the frame's number in the video and the step's number
/// in the whole schedule. So it does not depend on the other frames of the sample, on the window,
/// or on whether the schedule is run in one part or in two.
pub(crate) struct FrameNoise {
    first_frame: u32,
}

impl FrameNoise {
    /// Noise for a sample whose first frame has this number in the video.
    pub(crate) fn new(first_frame: u32) -> Self {
        Self { first_frame }
    }

    /// Standard normal noise in the form of `sample` for step `index`.
    pub(crate) fn draw(
        &self,
        index: usize,
        sample: &Tensor,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        let frames = sample.form().frames as usize;
        let one = match frames {
            1 => sample.clone(),
            _ => ops.narrow_frames(sample, 0, 1)?,
        };
        let stream = |frame| STEP_STREAMS + u64::from(self.first_frame) + frame as u64;
        let drawn: Vec<Tensor> = (0..frames)
            .map(|frame| ops.noise_like(&one, stream(frame), index as u64))
            .collect::<Result<_>>()?;
        match &drawn[..] {
            [only] => Ok(only.clone()),
            many => ops.cat_frames(&many.iter().collect::<Vec<_>>()),
        }
    }
}

#[cfg(test)]
mod tests {
    use wan_plugin_kit::{VecOps, values};

    use super::*;

    #[test]
    fn every_frame_and_step_has_noise_of_its_own() {
        let ops = VecOps::default();
        let draw = |first_frame, index, frames: usize| {
            let sample = ops.tensor(frames, &vec![0.0; 2 * frames]);
            values(&FrameNoise::new(first_frame).draw(index, &sample, &ops).unwrap())
        };
        let three = draw(4, 1, 3);
        assert_eq!(three[2..], draw(5, 1, 2));
        assert!(three[..2] != three[2..4] && three[2..4] != three[4..]);
        assert_ne!(three, draw(4, 2, 3));
    }
}
