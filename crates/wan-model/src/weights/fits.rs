//! Whether a tensor of a file is one of a network, by its shape.

/// Whether a tensor of shape `found` can be read as one of shape `expected`.
///
/// Axes of length 1 may be missing or extra, as GGUF files have them. stable-diffusion.cpp stores
/// tensors of five axes with the first two merged (97d2990, `model_loader.cpp`).
pub fn fits(found: &[usize], expected: &[usize]) -> bool {
    let long = |shape: &[usize]| -> Vec<usize> {
        shape.iter().copied().filter(|length| *length != 1).collect()
    };
    if long(found) == long(expected) {
        return true;
    }
    match *expected {
        [outputs, inputs, time, height, width] => {
            long(found) == long(&[outputs * inputs, time, height, width])
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_of_one_do_not_count_and_no_other_difference_is_passed_over() {
        for found in [&[1, 6, 8][..], &[6, 8], &[6, 1, 8, 1]] {
            assert!(fits(found, &[1, 6, 8]), "{found:?}");
        }
        for found in [&[8, 6][..], &[48], &[6, 8, 2], &[]] {
            assert!(!fits(found, &[1, 6, 8]), "{found:?}");
        }
        assert!(fits(&[1], &[]) && fits(&[], &[1, 1]) && !fits(&[0], &[1]));
        assert!(fits(&[12, 1, 2, 2], &[3, 4, 1, 2, 2]) && !fits(&[12, 2, 2], &[3, 4, 2, 2]));
        assert!(!fits(&[4, 3, 1, 2, 2], &[3, 4, 1, 2, 2]));
    }
}
