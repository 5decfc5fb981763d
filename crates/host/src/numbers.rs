//! Numbers that no video has: one that is not finite, or a latent frame whose numbers are all the
//! same. Latents are read once, where they enter.

use std::fmt;

use candle_core::{DType, Tensor};

use crate::latents::LATENT_FRAME_AXIS;

/// A latent frame, and what is wrong with its numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct WrongFrame {
    /// Its place in the tensor that was read.
    pub(crate) frame: usize,
    pub(crate) fault: Fault,
}

/// What is wrong with the numbers of a latent frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    NotFinite { count: usize, of: usize },
    AllTheSame(f32),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFinite { count, of } => write!(f, "{count} of {of} numbers are not finite"),
            Self::AllTheSame(number) => write!(f, "all numbers are {number}"),
        }
    }
}

/// The first latent frame of `[1, C, F, H, W]` whose numbers are wrong.
pub(crate) fn wrong_frame(latents: &Tensor) -> candle_core::Result<Option<WrongFrame>> {
    for frame in 0..latents.dim(LATENT_FRAME_AXIS)? {
        let numbers = latents.narrow(LATENT_FRAME_AXIS, frame, 1)?.flatten_all()?;
        let numbers = numbers.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        if let Some(fault) = fault_of(&numbers) {
            return Ok(Some(WrongFrame { frame, fault }));
        }
    }
    Ok(None)
}

fn fault_of(numbers: &[f32]) -> Option<Fault> {
    let count = numbers.iter().filter(|number| !number.is_finite()).count();
    if count > 0 {
        return Some(Fault::NotFinite { count, of: numbers.len() });
    }
    let (first, rest) = numbers.split_first()?;
    let all_the_same = !rest.is_empty() && rest.iter().all(|number| number == first);
    all_the_same.then_some(Fault::AllTheSame(*first))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn fault(frames: [[f32; 2]; 2]) -> Option<(usize, String)> {
        let numbers = [frames[0][0], frames[1][0], frames[0][1], frames[1][1]];
        let latents = Tensor::from_slice(&numbers, (1, 2, 2, 1, 1), &Device::Cpu).unwrap();
        wrong_frame(&latents).unwrap().map(|wrong| (wrong.frame, wrong.fault.to_string()))
    }

    #[test]
    fn a_frame_is_wrong_where_a_number_is_not_finite_or_all_are_the_same() {
        let wrong = |frame, text: &str| Some((frame, text.to_string()));
        assert_eq!(fault([[0.0, 1.0], [1.0, 0.0]]), None);
        assert_eq!(fault([[0.0, 1.0], [f32::NAN, 0.0]]), wrong(1, "1 of 2 numbers are not finite"));
        assert_eq!(
            fault([[f32::INFINITY, f32::NAN], [1.0, 0.0]]),
            wrong(0, "2 of 2 numbers are not finite")
        );
        assert_eq!(fault([[0.5, 0.5], [1.0, 0.0]]), wrong(0, "all numbers are 0.5"));
    }
}
