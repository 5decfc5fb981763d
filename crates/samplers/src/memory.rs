//! The memory of a solver between two steps, in one form for all solvers.

use serde::{Deserialize, Serialize};
use wan_plugin_api::state::{Bits, Saved, misfit};
use wan_plugin_api::{Result, Tensor};

/// The memory of a solver between two steps; empty for a solver whose steps are independent.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Predictions, newest first, each with its coordinate on the solver's axis. The coordinate is
    /// minus infinity after a step from pure noise.
    pub predictions: Vec<(f64, Tensor)>,
    /// Start of the latest step, for a solver with a corrector.
    pub predicted: Option<Predicted>,
}

/// Start of the latest step, which a corrector repeats.
#[derive(Debug, Clone)]
pub struct Predicted {
    /// Noise fraction, 0 to 1.
    pub sigma: f64,
    /// The sample there.
    pub sample: Tensor,
    /// Number of predictions of the step or of its correction.
    pub order: usize,
}

/// The numbers of a [`Memory`]. Its tensors are saved beside it, predictions first.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Numbers {
    places: Vec<Bits>,
    predicted: Option<Start>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    sigma: Bits,
    order: usize,
}

impl Memory {
    /// Adds the memory to a state, under this name.
    ///
    /// # Errors
    /// `Failed` if a value cannot be written.
    pub fn put(self, name: &str, saved: &mut Saved) -> Result<()> {
        let Self { predictions, predicted } = self;
        let places = predictions.iter().map(|(place, _)| Bits(*place)).collect();
        let start = predicted.as_ref().map(|p| Start { sigma: Bits(p.sigma), order: p.order });
        saved.put(name, Numbers { places, predicted: start })?;
        let made = predictions.iter().map(|(_, prediction)| prediction);
        saved.put_tensors(name, made.chain(predicted.iter().map(|p| &p.sample)));
        Ok(())
    }

    /// Takes the memory of this name out of a state.
    ///
    /// # Errors
    /// `Invalid` if it is missing, or its tensors and numbers do not fit each other.
    pub fn take(name: &str, saved: &mut Saved) -> Result<Self> {
        let Numbers { places, predicted } = saved.take(name)?;
        let mut tensors = saved.take_tensors(name);
        let expected = places.len() + usize::from(predicted.is_some());
        if tensors.len() != expected {
            let expected = format!("{expected} tensors");
            return Err(misfit(name, expected, tensors.len()));
        }
        let samples = tensors.split_off(places.len());
        let start = predicted.zip(samples.into_iter().next());
        let predicted = start.map(|(start, sample)| Predicted {
            sigma: start.sigma.0,
            sample,
            order: start.order,
        });
        let predictions = places.into_iter().map(|place| place.0).zip(tensors).collect();
        Ok(Self { predictions, predicted })
    }

    /// Checks that a solver could have saved this memory.
    ///
    /// # Errors
    /// `Invalid` for more than `predictions_max` predictions, and for a `predicted` where the
    /// solver has no corrector.
    pub(crate) fn check(&self, predictions_max: usize, corrects: bool) -> Result<()> {
        let count = self.predictions.len();
        if count > predictions_max {
            let expected = format!("at most {predictions_max} of this solver and its order");
            return Err(misfit("places", expected, count));
        }
        if self.predicted.is_some() && !corrects {
            return Err(misfit("predicted", "none of this solver", "one"));
        }
        Ok(())
    }
}
