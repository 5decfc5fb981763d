//! Steps of Euler, for samplers of tests that do something else beside.

use wan_plugin_api::{
    Attention, Denoise, FrameLevel, Result, Round, Schedule, Tensor, TensorOps, frame_terms, term,
};

/// So many equal steps of all frames, from noise to the end.
pub(crate) fn schedule(frames: u32, steps: u32) -> Schedule {
    let sigma = |index: u32| 1.0 - f64::from(index) / f64::from(steps);
    let round = |index: u32| {
        let (from, to) = (sigma(index), sigma(index + 1));
        let level = |frame| FrameLevel::moving(frame, 1000.0 * from, from, to);
        let levels = (0..frames).map(level).collect();
        Round { levels, attention: Attention::Bidirectional, evaluations: 1 }
    };
    (0..steps).map(round).collect::<Vec<_>>().into()
}

/// One step of one evaluation.
pub(crate) fn step(
    sample: &Tensor,
    levels: &[FrameLevel],
    model: &mut dyn Denoise,
    ops: &dyn TensorOps,
) -> Result<Tensor> {
    let change: Vec<f64> = levels.iter().map(FrameLevel::change).collect();
    let velocity = model.velocity(sample, levels)?;
    ops.combine(&[term(1.0, sample), frame_terms(&change, &velocity)])
}
