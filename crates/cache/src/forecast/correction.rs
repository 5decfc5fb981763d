//! Corrects the latents for the error of past reuses.
//!
//! Once the output after a run of reuses is computed, the outputs in between can be interpolated
//! instead of extrapolated, with a much smaller error. The difference, times the step in sigma of
//! each reuse, is the error that the reuses put into the latents. The next reuse takes it out:
//!
//! ```text
//! astray = sum_j (sigma_next_j - sigma_j) * (forecast_j - interpolated_j)
//! reuse  = forecast - astray / (sigma_next - sigma)
//! ```
//!
//! All of it is linear in the kept outputs, so a correction is one weight per output and frame and
//! needs no tensor. It is exact for Euler. A multistep solver sees the correction again in its
//! history, so it is off by default.

use wan_plugin_api::state::{Bits, Saved, misfit};
use wan_plugin_api::{FrameLevel, Result};

use super::extrapolation::weights;

/// The reuses since the last computed output, and the error of the reuses before it.
#[derive(Default)]
pub(super) struct Correction {
    /// One list per reuse, one entry per frame.
    reused: Vec<Vec<Way>>,
    /// `astray` as weights: one row per kept output, newest first, one number per frame.
    astray: Vec<Vec<f64>>,
}

/// Sigma of a frame at a reuse, and the change of sigma in that step.
#[derive(Clone, Copy)]
struct Way {
    sigma: f64,
    change: f64,
}

impl Correction {
    /// Notes a reuse at `levels`, which has applied the pending correction.
    pub(super) fn reused(&mut self, levels: &[FrameLevel]) {
        let way = |level: &FrameLevel| Way { sigma: level.sigma, change: level.change() };
        self.reused.push(levels.iter().map(way).collect());
        self.astray.clear();
    }

    /// Notes a computed output. `nodes` has the sigmas of the kept outputs, newest first, one per
    /// frame. The forecasts since the last call were made with `order` and `blend` from all but the
    /// newest.
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

    /// Loads the saved correction of a history of `points` outputs.
    ///
    /// # Errors
    /// `Invalid` for more rows than outputs.
    pub(super) fn take(&mut self, saved: &mut Saved, points: usize) -> Result<()> {
        let way = |[sigma, change]: [Bits; 2]| Way { sigma: sigma.0, change: change.0 };
        let reused = saved.take::<Vec<Vec<[Bits; 2]>>>("reused")?.into_iter();
        self.reused = reused.map(|ways| ways.into_iter().map(way).collect()).collect();
        let astray = saved.take::<Vec<Vec<Bits>>>("astray")?;
        self.astray = astray.iter().map(|row| Bits::floats(row)).collect();
        if self.astray.len() > points {
            return Err(misfit("astray", format!("at most {points} rows"), self.astray.len()));
        }
        Ok(())
    }

    /// Forgets everything, when the kept outputs are dropped.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The correction to the weight of output `j` in a forecast of this frame.
    pub(super) fn weight(&self, j: usize, frame: usize, level: &FrameLevel) -> f64 {
        let way = level.change();
        match self.astray.get(j).and_then(|row| row.get(frame)) {
            Some(astray) if way != 0.0 => -astray / way,
            _ => 0.0,
        }
    }
}
