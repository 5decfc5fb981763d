//! The shortcut around a level, without parameters (Wan 2.2).
//!
//! Down: folds space and time into channels and averages runs of channels. Up: repeats channels and
//! unfolds them into space and time. Source: diffusers 0.42.1 `AvgDown3D`, `DupUp3D`,
//! `WanResidualDownBlock`, `WanResidualUpBlock`.

use candle_core::Tensor;

/// A shortcut from the input of a level to its output.
pub(crate) enum Shortcut {
    /// To a lower resolution.
    Average(Resolution),
    /// To a higher one.
    Repeat(Resolution),
}

/// Output channels of a level, and its change of resolution.
#[derive(Clone, Copy)]
pub(crate) struct Resolution {
    /// Output channels.
    pub(crate) channels: usize,
    /// Factor between the numbers of frames.
    pub(crate) time: usize,
    /// Factor between the numbers of rows, and of columns.
    pub(crate) space: usize,
}

impl Shortcut {
    /// What is added to the output of a level with input `x [B,T,C,H,W]`. `first`: `x` is the first
    /// chunk of a stream.
    pub(crate) fn forward(&self, x: &Tensor, first: bool) -> candle_core::Result<Tensor> {
        match self {
            Self::Average(to) => average(x, *to),
            Self::Repeat(to) => {
                let repeated = repeat(x, *to)?;
                // The first frame stays single in the layers: only its last copy is added.
                let skip = if first { to.time - 1 } else { 0 };
                repeated.narrow(1, skip, repeated.dim(1)? - skip)
            }
        }
    }
}

/// `[B,T,C,H,W]` to `[B,T',channels,H',W']`. A number of frames that does not divide, such as the
/// single first frame, is padded with zeros in front.
fn average(x: &Tensor, to: Resolution) -> candle_core::Result<Tensor> {
    let Resolution { channels: outputs, time, space } = to;
    let padding = x.dim(1)?.next_multiple_of(time) - x.dim(1)?;
    let x = x.pad_with_zeros(1, padding, 0)?;
    let (batch, frames, channels, height, width) = x.dims5()?;
    let (frames, height, width) = (frames / time, height / space, width / space);
    let group = channels * time * space * space / outputs;
    x.reshape(&[batch, frames, time, channels, height, space, width, space])?
        .permute(vec![0, 1, 3, 2, 5, 7, 4, 6])? // [B,T',C,time,row,column,H',W']
        .reshape(&[batch, frames, outputs, group, height, width])?
        .mean(3)
}

/// `[B,T,C,H,W]` to `[B,time T,channels,space H,space W]`.
fn repeat(x: &Tensor, to: Resolution) -> candle_core::Result<Tensor> {
    let Resolution { channels: outputs, time, space } = to;
    let (batch, frames, channels, height, width) = x.dims5()?;
    let copies = outputs * time * space * space / channels;
    x.unsqueeze(3)?
        .broadcast_as(&[batch, frames, channels, copies, height, width])?
        .reshape(&[batch, frames, outputs, time, space, space, height, width])?
        .permute(vec![0, 1, 3, 2, 6, 4, 7, 5])? // [B,T,time,outputs,H,row,W,column]
        .reshape((batch, frames * time, outputs, height * space, width * space))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;
    use candle_core::Device;

    fn count(shape: &[usize]) -> Tensor {
        let numbers = Tensor::arange(0f32, shape.iter().product::<usize>() as f32, &Device::Cpu);
        numbers.unwrap().reshape(shape).unwrap()
    }

    #[test]
    fn averages_by_hand() {
        // Two frames of one channel, 0 1 / 2 3 and 4 5 / 6 7, to two channels: a frame each.
        let to = Resolution { channels: 2, time: 2, space: 2 };
        let two = average(&count(&[1, 2, 1, 2, 2]), to).unwrap();
        assert_eq!((two.dims(), numbers(&two)), ([1, 1, 2, 1, 1].as_slice(), vec![1.5, 5.5]));
        // A single frame comes behind a frame of zeros.
        let one = average(&count(&[1, 1, 1, 2, 2]), to).unwrap();
        assert_eq!(numbers(&one), [0., 1.5]);
    }

    #[test]
    fn repeats_by_hand() {
        // Two channels of one pixel to one channel of 2x2x2: the first is the first frame.
        let to = Resolution { channels: 1, time: 2, space: 2 };
        let up = repeat(&count(&[1, 1, 2, 1, 1]), to).unwrap();
        assert_eq!(up.dims(), [1, 2, 1, 2, 2]);
        assert_eq!(numbers(&up), [0., 0., 0., 0., 1., 1., 1., 1.]);
        // Eight channels: column is fastest, then row, then frame.
        let up = repeat(&count(&[1, 1, 8, 1, 1]), to).unwrap();
        assert_eq!(numbers(&up), [0., 1., 2., 3., 4., 5., 6., 7.]);
    }

    #[test]
    fn averaging_undoes_repeating() {
        let x = count(&[2, 3, 4, 2, 5]);
        let up = repeat(&x, Resolution { channels: 2, time: 2, space: 2 }).unwrap();
        assert_eq!(up.dims(), [2, 6, 2, 4, 10]);
        let down = average(&up, Resolution { channels: 4, time: 2, space: 2 }).unwrap();
        assert_eq!(numbers(&down), numbers(&x));
    }
}
