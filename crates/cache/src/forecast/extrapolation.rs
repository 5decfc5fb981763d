//! Weights of the kept tensors in a forecast, per frame.
//!
//! ```text
//! w_j = blend * prod_{m != j} (sigma - sigma_m) / (sigma_j - sigma_m) + (1 - blend) * [j = 0]
//! ```

/// Weights of one frame at `sigma`; `nodes` are its sigmas at the kept tensors, newest first.
///
/// A node equal to a newer one gets weight 0, so a frame that has not moved keeps the newest
/// tensor.
pub(super) fn weights(sigma: f64, nodes: &[f64], blend: f64) -> Vec<f64> {
    let is_new = |j: usize| nodes[..j].iter().all(|newer| *newer != nodes[j]);
    let distinct: Vec<usize> = (0..nodes.len()).filter(|j| is_new(*j)).collect();
    let lagrange = |j: usize| -> f64 {
        let others = distinct.iter().filter(|m| **m != j);
        others.map(|m| (sigma - nodes[*m]) / (nodes[j] - nodes[*m])).product()
    };
    (0..nodes.len())
        .map(|j| {
            let extrapolated = if distinct.contains(&j) { lagrange(j) } else { 0.0 };
            let newest = if j == 0 { 1.0 } else { 0.0 };
            // At blend 1 or 0 exactly one of the two, even where the other is infinite.
            match blend {
                1.0 => extrapolated,
                0.0 => newest,
                _ => blend * extrapolated + (1.0 - blend) * newest,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_nodes_extrapolate_the_line_through_them() {
        // From 0.8 over 0.6 on to 0.5: the newest, and half a step beyond.
        let weights = weights(0.5, &[0.6, 0.8], 1.0);
        assert!((weights[0] - 1.5).abs() < 1e-12 && (weights[1] + 0.5).abs() < 1e-12);
    }

    #[test]
    fn three_nodes_reproduce_a_parabola() {
        let parabola = |s: f64| 3.0 * s * s - s + 2.0;
        let nodes = [0.5, 0.7, 0.9];
        let weights = weights(0.2, &nodes, 1.0);
        let value: f64 = weights.iter().zip(nodes).map(|(w, s)| w * parabola(s)).sum();
        assert!((value - parabola(0.2)).abs() < 1e-12);
    }

    #[test]
    fn a_frame_that_has_not_moved_keeps_the_newest() {
        assert_eq!(weights(0.7, &[0.7, 0.9], 1.0), [1.0, 0.0]);
        assert_eq!(weights(0.0, &[0.0, 0.0, 0.0], 1.0), [1.0, 0.0, 0.0]);
        // It moved once: the line through the two different nodes.
        let weights = weights(0.6, &[0.7, 0.8, 0.8], 1.0);
        assert!((weights[0] - 2.0).abs() < 1e-12 && (weights[1] + 1.0).abs() < 1e-12);
        assert_eq!(weights[2], 0.0);
    }

    #[test]
    fn the_blend_lies_between_the_newest_and_the_line() {
        let half = weights(0.5, &[0.6, 0.8], 0.5);
        assert!((half[0] - 1.25).abs() < 1e-12 && (half[1] + 0.25).abs() < 1e-12);
        assert_eq!(weights(0.5, &[0.6, 0.8], 0.0), [1.0, 0.0]);
    }
}
