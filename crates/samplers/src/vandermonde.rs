//! Quadrature weights for given nodes and moments.

/// Solves `sum_i w_i * nodes_i^k = moments_k`, `k = 0 ..`, by the method of Bjorck and Pereyra
/// (Golub and Van Loan, "Matrix Computations", algorithm 4.6.2).
///
/// With `moments_k` the integral of `u^k`, the `w_i` integrate the polynomial through values at the
/// nodes, as in an Adams method with uneven steps.
pub(crate) fn weights(nodes: &[f64], mut moments: Vec<f64>) -> Vec<f64> {
    let last = nodes.len() - 1;
    for (k, node) in nodes[..last].iter().enumerate() {
        for i in (k + 1..=last).rev() {
            moments[i] -= node * moments[i - 1];
        }
    }
    for k in (0..last).rev() {
        for i in k + 1..=last {
            moments[i] /= nodes[i] - nodes[i - k - 1];
        }
        for i in k..last {
            moments[i] -= moments[i + 1];
        }
    }
    moments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_solution_satisfies_its_equations() {
        let (nodes, moments) = ([-1.1, -2.3, 1.0], [0.4, -0.2, 0.7]);
        let solved = weights(&nodes, moments.to_vec());
        for (k, moment) in moments.iter().enumerate() {
            let sum: f64 = solved.iter().zip(&nodes).map(|(w, x)| w * x.powi(k as i32)).sum();
            assert!((sum - moment).abs() < 1e-12, "equation {k}: {sum}, not {moment}");
        }
    }
}
