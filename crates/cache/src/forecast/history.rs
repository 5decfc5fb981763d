//! The last computed tensors (residuals or outputs), each with the sigma of every frame.

use std::collections::VecDeque;

use wan_plugin_api::state::{Bits, Saved, misfit};
use wan_plugin_api::{FrameLevel, Result, Tensor, TensorForm, TensorOps, frame_terms};

use super::correction::Correction;
use super::extrapolation::weights;
use crate::held::fits;

/// A computed tensor.
struct Point {
    residual: Tensor,
    /// Sigma of each frame when it was computed.
    sigmas: Vec<f64>,
}

/// The last `order + 1` computed tensors, newest first; `order + 2` with a [`Correction`].
pub(super) struct History {
    points: VecDeque<Point>,
    order: usize,
    blend: f64,
    correction: Option<Correction>,
}

/// The error of a forecast, measured where the tensor was computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    /// `sum |forecast - computed| / sum |computed|` over the updated frames.
    pub(super) error: f64,
    /// Mean distance in sigma of the updated frames from the newest kept tensor.
    pub(super) gap: f64,
    /// Order of the forecast.
    pub(super) order: usize,
}

impl Measured {
    pub(super) fn written(self) -> (Bits, Bits, usize) {
        (Bits(self.error), Bits(self.gap), self.order)
    }

    pub(super) fn of_written((error, gap, order): (Bits, Bits, usize)) -> Self {
        Self { error: error.0, gap: gap.0, order }
    }
}

impl History {
    pub(super) fn new(order: usize, blend: f64, gives_back: bool) -> Self {
        let correction = gives_back.then(Correction::default);
        Self { points: VecDeque::new(), order, blend, correction }
    }

    /// The points that a forecast is made from.
    fn known(&self) -> impl Iterator<Item = &Point> {
        self.points.iter().take(self.order + 1)
    }

    /// The order that the kept tensors allow.
    pub(super) fn order(&self) -> usize {
        self.known().count().saturating_sub(1)
    }

    /// Drops all tensors unless they have the shape of what is computed now.
    pub(super) fn keep_only(&mut self, form: TensorForm, frames: usize) {
        let right = |p: &Point| fits(&p.residual, form) && p.sigmas.len() == frames;
        if !self.points.iter().all(right) {
            self.clear();
        }
    }

    pub(super) fn clear(&mut self) {
        self.points.clear();
        if let Some(correction) = &mut self.correction {
            correction.clear();
        }
    }

    /// Notes a reuse at `levels`.
    pub(super) fn reused(&mut self, levels: &[FrameLevel]) {
        if let Some(correction) = &mut self.correction {
            correction.reused(levels);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// Keeps a computed tensor and drops the oldest above the limit.
    pub(super) fn push(&mut self, residual: &Tensor, levels: &[FrameLevel]) {
        let sigmas = levels.iter().map(|l| l.sigma).collect();
        self.points.push_front(Point { residual: residual.clone(), sigmas });
        self.points.truncate(self.points_max());
        if let Some(correction) = &mut self.correction {
            let nodes: Vec<&[f64]> = self.points.iter().map(|p| p.sigmas.as_slice()).collect();
            correction.computed(&nodes, self.order, self.blend);
        }
    }

    fn points_max(&self) -> usize {
        self.order + 1 + usize::from(self.correction.is_some())
    }

    pub(super) fn put(&self, saved: &mut Saved) -> Result<()> {
        let sigmas: Vec<_> = self.points.iter().map(|p| Bits::all(&p.sigmas)).collect();
        saved.put("sigmas", sigmas)?;
        saved.put_tensors("residuals", self.points.iter().map(|p| &p.residual));
        match &self.correction {
            Some(correction) => correction.put(saved),
            None => Ok(()),
        }
    }

    pub(super) fn take(&mut self, saved: &mut Saved) -> Result<()> {
        let sigmas = saved.take::<Vec<Vec<Bits>>>("sigmas")?;
        let residuals = saved.take_tensors("residuals");
        let (count, most) = (sigmas.len(), self.points_max());
        if count > most {
            return Err(misfit("sigmas", format!("at most {most} of this order"), count));
        }
        if count != residuals.len() {
            return Err(misfit("residuals", count, residuals.len()));
        }
        let point = |(residual, sigmas): (Tensor, Vec<Bits>)| Point {
            residual,
            sigmas: Bits::floats(&sigmas),
        };
        self.points = residuals.into_iter().zip(sigmas).map(point).collect();
        match &mut self.correction {
            Some(correction) => correction.take(saved, count),
            None => Ok(()),
        }
    }

    /// Mean distance in sigma of the updated frames from the newest tensor; `None` without updated
    /// frames or tensors.
    pub(super) fn gap(&self, levels: &[FrameLevel]) -> Option<f64> {
        let newest = self.points.front()?;
        let moving = levels.iter().zip(&newest.sigmas).filter(|(level, _)| level.update);
        let (count, way) = moving.fold((0u32, 0.0), |(count, way), (level, before)| {
            (count + 1, way + (level.sigma - before).abs())
        });
        (count > 0).then(|| way / f64::from(count))
    }

    /// The forecast at `levels`, with the pending correction.
    pub(super) fn forecast(&self, levels: &[FrameLevel], ops: &dyn TensorOps) -> Result<Tensor> {
        let coefficients = self.coefficients(levels);
        let terms: Vec<_> = self
            .points
            .iter()
            .zip(&coefficients)
            .map(|(p, c)| frame_terms(c, &p.residual))
            .collect();
        ops.combine(&terms)
    }

    /// The error of a forecast of `residual`, without correction; `None` where it is undefined.
    ///
    /// Works frame by frame, so that its temporaries have the size of one frame.
    pub(super) fn measure(
        &self,
        residual: &Tensor,
        levels: &[FrameLevel],
        ops: &dyn TensorOps,
    ) -> Result<Option<Measured>> {
        let Some(gap) = self.gap(levels) else { return Ok(None) };
        let coefficients = self.extrapolation(levels);
        let (mut difference, mut size) = (0.0, 0.0);
        for frame in (0..levels.len()).filter(|f| levels[*f].update) {
            let narrow = |tensor: &Tensor| ops.narrow_frames(tensor, frame, 1);
            let parts =
                self.known().map(|p| narrow(&p.residual)).collect::<Result<Vec<Tensor>>>()?;
            let terms: Vec<_> = parts
                .iter()
                .zip(&coefficients)
                .map(|(part, c)| frame_terms(&c[frame..=frame], part))
                .collect();
            let computed = narrow(residual)?;
            let forecast = ops.combine(&terms)?;
            difference += ops.frame_abs_diffs(&forecast, &computed)?[0];
            size += ops.frame_abs_sums(&computed)?[0];
        }
        let error = difference / size;
        Ok(error.is_finite().then_some(Measured { error, gap, order: self.order() }))
    }

    /// One row of weights per kept tensor, one weight per frame, with the pending correction.
    fn coefficients(&self, levels: &[FrameLevel]) -> Vec<Vec<f64>> {
        let mut rows = self.extrapolation(levels);
        let Some(correction) = &self.correction else { return rows };
        rows.resize(self.points.len(), vec![0.0; levels.len()]);
        for (j, row) in rows.iter_mut().enumerate() {
            for (frame, weight) in row.iter_mut().enumerate() {
                *weight += correction.weight(j, frame, &levels[frame]);
            }
        }
        rows
    }

    /// The weights of the extrapolation alone, for the tensors that it is made from.
    fn extrapolation(&self, levels: &[FrameLevel]) -> Vec<Vec<f64>> {
        let mut rows = vec![Vec::with_capacity(levels.len()); self.known().count()];
        for (frame, level) in levels.iter().enumerate() {
            let nodes: Vec<f64> = self.known().map(|p| p.sigmas[frame]).collect();
            let weights = weights(level.sigma, &nodes, self.blend);
            rows.iter_mut().zip(weights).for_each(|(row, weight)| row.push(weight));
        }
        rows
    }
}
