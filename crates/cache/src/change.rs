//! The relative change of a signal.

use wan_plugin_api::{Result, Tensor, TensorOps};

use crate::accumulator::relative_l1;
use crate::scope::total;

/// Relative change from `anchor` to `signal` over the frames that count; `None` where it is
/// undefined or the signal is all zero.
pub(crate) fn relative_change(
    signal: &Tensor,
    anchor: &Tensor,
    counts: &[bool],
    ops: &dyn TensorOps,
) -> Result<Option<f64>> {
    let diffs = ops.frame_abs_diffs(signal, anchor)?;
    let sums = ops.frame_abs_sums(anchor)?;
    // A zero signal differs from the anchor by exactly the anchor. Only then is the signal read.
    let may_be_zero = total(&diffs, counts) == total(&sums, counts);
    if may_be_zero && total(&ops.frame_abs_sums(signal)?, counts) == 0.0 {
        return Ok(None);
    }
    Ok(relative_l1(&diffs, &sums, |frame| counts[frame]))
}

#[cfg(test)]
mod tests {
    use wan_plugin_kit::VecOps;

    use super::*;

    #[test]
    fn zeros_say_nothing_and_twice_the_anchor_is_a_change_of_one() {
        let ops = VecOps::default();
        let anchor = ops.tensor(2, &[1.0, -2.0, 3.0, 4.0]);
        let change = |elements: &[f32], counts: [bool; 2]| {
            relative_change(&ops.tensor(2, elements), &anchor, &counts, &ops).unwrap()
        };
        assert_eq!(change(&[0.0; 4], [true, true]), None);
        assert_eq!(change(&[2.0, -4.0, 6.0, 8.0], [true, true]), Some(1.0));
        assert_eq!(change(&[0.0, 0.0, 3.0, 4.0], [true, false]), None);
        assert_eq!(change(&[0.0, 0.0, 3.0, 4.0], [true, true]), Some(0.3));
        assert_eq!(change(&[f32::NAN, 0.0, 0.0, 0.0], [true, true]), None);
    }
}
