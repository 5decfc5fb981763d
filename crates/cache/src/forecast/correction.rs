//! What reuses did to the latents, and how to give it back.
//!
//! Once the output at the end of a run of reuses is known, those in between can be interpolated
//! instead of extrapolated, which errs far less. The difference, times the way in sigma that each
//! reuse went, is how far the latents were led astray; the next reuse leads them back:
//!
//! ```text
//! astray = sum_j (sigma_next_j - sigma_j) * (forecast_j - interpolated_j)
//! reuse  = forecast - astray / (sigma_next - sigma)
//! ```
//!
//! All of it is linear in the kept outputs, so a correction is a weight per output and frame and
//! takes no memory. Exact for Euler's rule; a multistep solver would see the correction again in
//! its history, which is why it is not the default.

use wan_plugin_api::state::{Bits, Saved, misfit};
use wan_plugin_api::{FrameLevel, Result};

use super::extrapolation::weights;

/// The reuses since the last computed output, then what they led astray.
#[derive(Default)]
pub(super) struct Correction {
    reused: Vec<Vec<Way>>,
    /// `astray` as weights: a row per kept output, newest first, one number per frame.
    astray: Vec<Vec<f64>>,
}

/// Where a frame stood at a reuse, and how far the reuse took it, in sigma.
#[derive(Clone, Copy)]
struct Way {
    sigma: f64,
    change: f64,
}

impl Correction {
    /// A forecast stood in at `levels`; whatever was to be given back now is.
    pub(super) fn reused(&mut self, levels: &[FrameLevel]) {
        let way = |level: &FrameLevel| Way { sigma: level.sigma, change: level.change() };
        self.reused.push(levels.iter().map(way).collect());
        self.astray.clear();
    }

    /// An output was computed. `nodes` are the sigmas of the kept outputs, newest first, one per
    /// frame; the forecasts were of `order` and `blend`, from all but the newest.
    pub(super) fn computed(&mut self, nodes: &[&[f64]], order: usize, blend: f64) {
        let reused = std::mem::take(&mut self.reused);
        let frames = nodes.first().map_or(0, |row| row.len());
        self.astray = vec![vec![0.0; frames]; nodes.len()];
        for (frame, Way { sigma, change }) in reused.iter().flat_map(|ways| ways.iter().enumerate())
        {
            let sigmas: Vec<f64> = nodes.iter().map(|row| row[frame]).collect();
            let known = &sigmas[1..sigmas.len().min(order + 2)];
            let forecast = weights(*sigma, known, blend);
            let interpolated = weights(*sigma, &sigmas, 1.0);
            for (j, row) in self.astray.iter_mut().enumerate() {
                let forecast = j.checked_sub(1).and_then(|j| forecast.get(j)).unwrap_or(&0.0);
                row[frame] += change * (forecast - interpolated[j]);
            }
        }
    }

    pub(super) fn put(&self, saved: &mut Saved) -> Result<()> {
        let way = |way: &Way| [Bits(way.sigma), Bits(way.change)];
        let reused = self.reused.iter().map(|ways| ways.iter().map(way).collect::<Vec<_>>());
        saved.put("reused", reused.collect::<Vec<_>>())?;
        saved.put("astray", self.astray.iter().map(|row| Bits::all(row)).collect::<Vec<_>>())
    }

    /// Beside `points` kept outputs.
    pub(super) fn take(&mut self, saved: &mut Saved, points: usize) -> Result<()> {
        let way = |[sigma, change]: [Bits; 2]| Way { sigma: sigma.0, change: change.0 };
        let reused = saved.take::<Vec<Vec<[Bits; 2]>>>("reused")?.into_iter();
        self.reused = reused.map(|ways| ways.into_iter().map(way).collect()).collect();
        let astray = saved.take::<Vec<Vec<Bits>>>("astray")?;
        self.astray = astray.iter().map(|row| Bits::floats(row)).collect();
        match self.astray.len() > points {
            true => Err(misfit("astray", format!("at most {points} rows"), self.astray.len())),
            false => Ok(()),
        }
    }

    /// Forgets everything, as the kept outputs are forgotten.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// What is to be added to the weight of output `j` in a forecast of this frame.
    pub(super) fn weight(&self, j: usize, frame: usize, level: &FrameLevel) -> f64 {
        let way = level.change();
        match self.astray.get(j).and_then(|row| row.get(frame)) {
            Some(astray) if way != 0.0 => -astray / way,
            _ => 0.0,
        }
    }
}
