//! Timesteps of a forward pass: one per video, per latent frame or per token.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use wan_border::numbers::u32_of;

use crate::error::{Error, Result};
use crate::rows::Rows;

/// `B x n` timesteps (0 clean, 1000 noise), held as the distinct values of each batch element and
/// an index.
///
/// A synchronous run has one distinct value for any number of frames, so its embedding is the same
/// row, bit for bit, in the per-video and the per-frame form.
#[derive(Clone, Debug, PartialEq)]
pub struct Timesteps {
    /// `[B][K]`; shorter lists are padded with their last value, which no entry uses.
    distinct: Vec<Vec<f64>>,
    index: Arc<[Vec<u32>]>,
}

impl Timesteps {
    /// One timestep per video, `[B]`.
    ///
    /// # Errors
    /// [`Error::Input`] for an empty list.
    pub fn per_video(timesteps: &[f64]) -> Result<Self> {
        let one_each: Vec<_> = timesteps.iter().map(|t| vec![*t]).collect();
        Self::new(&one_each)
    }

    /// One timestep per latent frame, `[B][F]`: SkyReels-V2 diffusion forcing.
    ///
    /// # Errors
    /// [`Error::Input`] for empty lists or lists of different length.
    pub fn per_frame(timesteps: &[Vec<f64>]) -> Result<Self> {
        Self::new(timesteps)
    }

    /// One timestep per token, `[B][tokens]`: Wan 2.2 TI2V.
    ///
    /// # Errors
    /// [`Error::Input`] for empty lists or lists of different length.
    pub fn per_token(timesteps: &[Vec<f64>]) -> Result<Self> {
        Self::new(timesteps)
    }

    fn new(timesteps: &[Vec<f64>]) -> Result<Self> {
        let entries = timesteps.first().map_or(0, Vec::len);
        if entries == 0 || timesteps.iter().any(|t| t.len() != entries) {
            let lengths: Vec<_> = timesteps.iter().map(Vec::len).collect();
            return Err(Error::input("timesteps", "one list of one length per video", lengths));
        }
        let (mut distinct, index): (Vec<_>, Vec<_>) = timesteps.iter().map(|t| dedup(t)).unzip();
        let most = distinct.iter().map(Vec::len).max().unwrap_or(1);
        for values in &mut distinct {
            let last = values[values.len() - 1];
            values.resize(most, last);
        }
        Ok(Self { distinct, index: index.into() })
    }

    /// Videos, B.
    pub fn batch(&self) -> usize {
        self.distinct.len()
    }

    /// Entries per video, n.
    pub fn entries(&self) -> usize {
        self.index[0].len()
    }

    /// Distinct timesteps per video, K: the largest count of the batch.
    pub fn distinct(&self) -> usize {
        self.distinct[0].len()
    }

    /// `[cos(t f_0) .. cos(t f_h) sin(t f_0) .. sin(t f_h)]` with `f_i = 10000^(-i/h)`, in f64,
    /// rounded to f32: rows `[B,K,width]`.
    ///
    /// Source: Wan2.1 9737cba, `sinusoidal_embedding_1d`, in f64 as well. diffusers computes it in
    /// f32, with differences up to 3.6e-5.
    #[allow(clippy::cast_possible_truncation, reason = "angles, from f64")]
    pub(crate) fn sinusoid(&self, width: usize, device: &Device) -> Result<Rows> {
        let half = width / 2;
        let frequencies: Vec<f64> =
            (0..half).map(|i| 10000f64.powf(-(i as f64) / half as f64)).collect();
        let mut values = Vec::with_capacity(self.batch() * self.distinct() * width);
        for timestep in self.distinct.iter().flatten() {
            values.extend(frequencies.iter().map(|f| (timestep * f).cos() as f32));
            values.extend(frequencies.iter().map(|f| (timestep * f).sin() as f32));
        }
        let shape = (self.batch(), self.distinct(), width);
        Rows::new(Tensor::from_vec(values, shape, device)?, self.index.clone())
    }
}

/// Distinct values in order of first appearance, and the number of each entry's value.
fn dedup(timesteps: &[f64]) -> (Vec<f64>, Vec<u32>) {
    let mut distinct: Vec<f64> = Vec::new();
    let mut index = Vec::with_capacity(timesteps.len());
    let mut seen = std::collections::HashMap::new();
    for timestep in timesteps {
        let row = *seen.entry(timestep.to_bits()).or_insert_with(|| {
            distinct.push(*timestep);
            u32_of(distinct.len() - 1)
        });
        index.push(row);
    }
    (distinct, index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_levels_share_a_row() {
        let steps =
            Timesteps::per_frame(&[vec![0., 500., 500., 999.], vec![7., 7., 7., 7.]]).unwrap();
        assert_eq!(steps.distinct, [vec![0., 500., 999.], vec![7., 7., 7.]]);
        assert_eq!(*steps.index, [vec![0, 1, 1, 2], vec![0, 0, 0, 0]]);
        assert_eq!((steps.batch(), steps.entries(), steps.distinct()), (2, 4, 3));
    }

    #[test]
    fn a_synchronous_run_holds_one_row() {
        let frames = Timesteps::per_frame(&[vec![615.; 25]]).unwrap();
        let video = Timesteps::per_video(&[615.]).unwrap();
        let sinusoid = |t: &Timesteps| t.sinusoid(64, &Device::Cpu).unwrap();
        assert_eq!(sinusoid(&frames).rows().dims(), [1, 1, 64]);
        let bits = |t: &Timesteps| sinusoid(t).rows().flatten_all().unwrap().to_vec1::<f32>();
        assert_eq!(bits(&frames).unwrap(), bits(&video).unwrap());
    }

    #[test]
    fn cosines_come_first() {
        let rows = Timesteps::per_video(&[2.]).unwrap().sinusoid(4, &Device::Cpu).unwrap();
        let values = rows.rows().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let expected = [2f64.cos(), 0.02f64.cos(), 2f64.sin(), 0.02f64.sin()];
        for (value, expected) in values.iter().zip(expected) {
            assert!((f64::from(*value) - expected).abs() < 1e-7, "{values:?}");
        }
    }

    #[test]
    fn ragged_or_empty_lists_are_refused() {
        assert!(Timesteps::per_frame(&[vec![1., 2.], vec![1.]]).is_err());
        assert!(Timesteps::per_video(&[]).is_err());
        assert!(Timesteps::per_frame(&[vec![]]).is_err());
    }
}
