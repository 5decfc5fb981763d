//! What a solver remembers between two steps, in the one form that all of them are saved in.

use serde::{Deserialize, Serialize};
use wan_plugin_api::state::{Bits, Saved, misfit};
use wan_plugin_api::{Result, Tensor};

use crate::Solver;

/// What a solver remembers between two steps; nothing where a step needs none before it.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Predictions, newest first, each with the place on the solver's axis that it was made at: any
    /// float, minus infinity after a step from pure noise.
    pub predictions: Vec<(f64, Tensor)>,
    /// Where the latest prediction started, of a method that corrects it.
    pub predicted: Option<Predicted>,
}

/// Where the latest prediction started.
#[derive(Debug, Clone)]
pub struct Predicted {
    /// The level, 0 to 1.
    pub sigma: f64,
    /// The sample.
    pub sample: Tensor,
    /// With how many predictions it was made, or may be corrected.
    pub order: usize,
}

/// The numbers of a [`Memory`]; its tensors stand beside it, predictions first.
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
    /// Adds what `solver` remembers to a state, under this name.
    ///
    /// # Errors
    /// If a value cannot be written.
    pub fn put(solver: &dyn Solver, name: &str, saved: &mut Saved) -> Result<()> {
        let Self { predictions, predicted } = solver.save();
        let places = predictions.iter().map(|(place, _)| Bits(*place)).collect();
        let start = predicted.as_ref().map(|p| Start { sigma: Bits(p.sigma), order: p.order });
        saved.put(name, Numbers { places, predicted: start })?;
        let made = predictions.iter().map(|(_, prediction)| prediction);
        saved.put_tensors(name, made.chain(predicted.iter().map(|p| &p.sample)));
        Ok(())
    }

    /// Takes it out again, into a solver at its start.
    ///
    /// # Errors
    /// `Invalid` for another solver's memory.
    pub fn take(solver: &mut dyn Solver, name: &str, saved: &mut Saved) -> Result<()> {
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
        solver.load(Self { predictions, predicted })
    }

    /// Refuses more than a solver could have remembered.
    ///
    /// # Errors
    /// `Invalid` for more predictions than `predictions_max`, or a prediction's start where none
    /// `corrects`.
    pub(crate) fn check(&self, predictions_max: usize, corrects: bool) -> Result<()> {
        let count = self.predictions.len();
        if count > predictions_max {
            let expected = format!("at most {predictions_max} of this solver and its order");
            return Err(misfit("places", expected, count));
        }
        match self.predicted.is_some() && !corrects {
            true => Err(misfit("predicted", "none of this solver", "one")),
            false => Ok(()),
        }
    }
}
