//! `wan cache calibrate`: numbers that caches need of a model, taken from recordings of it.
//!
//! - A **polynomial** for caches that compare time signals: from the change of the signal to the
//!   change of the residual that is reused, both relative L1 between neighbouring evaluations, over
//!   the frames that are updated (degree 4, as TeaCache's published ones are).
//! - **Ratios** for caches that follow the residual's size: per step and branch, the mean over
//!   tokens of `|r| / |r before|` (MagCache).
//!
//! Each comes with what it is worth on evaluations that it was not made from, and one that is worth
//! too little is left out of the file.

mod polynomial;
mod ratios;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;
use wan_border::files::{self, Content};
use wan_host::{Error, Result};
use wan_outputs::Wanted;

use crate::recording::Recording;

/// Version of the file.
const SCHEMA: u32 = 1;

/// What a calibration file holds.
#[derive(Debug, Clone, Serialize)]
pub struct Calibration {
    /// Version of the file.
    pub schema: u32,
    /// The model.
    pub model: CalibratedModel,
    /// Steps that it was recorded with.
    pub steps: u32,
    /// Shift that it was recorded with.
    pub shift: f64,
    /// Polynomials by time signal, `e` and `e0`; those that are worth it.
    pub polynomials: BTreeMap<String, Polynomial>,
    /// Ratios by branch; those that are worth it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ratios: BTreeMap<String, Vec<f64>>,
    /// What each is worth.
    pub fits: Vec<Fit>,
}

/// The model that a calibration is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "named as in `ModelIdentity`")]
pub struct CalibratedModel {
    pub dim: u32,
    pub layers: u32,
    pub in_channels: u32,
    pub hash: String,
}

/// A polynomial, highest power first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Polynomial {
    /// Its coefficients.
    pub coefficients: Vec<f64>,
}

/// How good a fit is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fit {
    /// `polynomial of e0`, `ratios of cond`, ...
    pub what: String,
    /// Numbers that it was made from.
    pub points: usize,
    /// Share of the variance that it explains; none where there is nothing to explain (a table).
    pub r_squared: Option<f64>,
    /// Error on what it was not made from, relative.
    pub held_out: f64,
    /// Whether it is in the file.
    pub recommended: bool,
}

/// What a fit must reach to be used.
const R_SQUARED_MIN: f64 = 0.8;
const POLYNOMIAL_HELD_OUT_MAX: f64 = 0.3;
const RATIO_HELD_OUT_MAX: f64 = 0.05;

impl Calibration {
    /// The file that a calibration is written to.
    pub fn wanted(path: &Path) -> Wanted {
        let (field, path) = ("out".into(), path.into());
        Wanted { field, path, is_ours: Self::is_one, bytes: 0, temporary_in: None }
    }

    /// Whether a file is a calibration, of whatever schema.
    fn is_one(path: &Path) -> bool {
        let members = ["schema", "model", "polynomials", "fits"];
        let has_all = |value: Value| members.iter().all(|name| value.get(name).is_some());
        let is_one = |text: String| serde_json::from_str(&text).is_ok_and(has_all);
        files::text(path, Content::Report).is_ok_and(is_one)
    }

    /// Calibrates from recordings of one model with one step count.
    ///
    /// # Errors
    /// If the recordings differ in model or steps, or their frames move at different times.
    pub fn of(recordings: &[Recording]) -> Result<Self> {
        let first = recordings.first().ok_or_else(|| Error::invalid("give a recording"))?;
        let (model, steps) = identity(first)?;
        for recording in recordings {
            if identity(recording)? != (model.clone(), steps) {
                return Err(Error::invalid(format!(
                    "{} and {}: recordings of other weights or another number of steps; calibrate \
                     each by itself",
                    first.path().display(),
                    recording.path().display()
                )));
            }
            check_synchronous(recording)?;
        }
        let mut calibration = Self {
            schema: SCHEMA,
            model,
            steps,
            shift: first.contents().settings.sample_shift,
            polynomials: BTreeMap::new(),
            ratios: BTreeMap::new(),
            fits: Vec::new(),
        };
        for signal in ["e", "e0"] {
            let (polynomial, fit) = polynomial::fit(recordings, signal)?;
            if fit.recommended {
                calibration.polynomials.insert(signal.into(), polynomial);
            }
            calibration.fits.push(fit);
        }
        for branch in &first.contents().streams[0].branches {
            let (ratios, fit) = ratios::table(recordings, branch)?;
            if fit.recommended {
                calibration.ratios.insert(branch.clone(), ratios);
            }
            calibration.fits.push(fit);
        }
        Ok(calibration)
    }
}

fn identity(recording: &Recording) -> Result<(CalibratedModel, u32)> {
    let streams = &recording.contents().streams;
    let [stream] = streams.as_slice() else {
        return Err(Error::invalid(format!(
            "{}: {} windows or experts; calibrate from a run with one of each",
            recording.path().display(),
            streams.len()
        )));
    };
    let model = &stream.context.model;
    let model = CalibratedModel {
        dim: model.dim,
        layers: model.layers,
        in_channels: model.in_channels,
        hash: model.hash.clone(),
    };
    Ok((model, stream.context.evaluations))
}

/// A table has one entry a step, so all moving frames must take their steps together.
fn check_synchronous(recording: &Recording) -> Result<()> {
    for evaluation in &recording.contents().evaluations {
        let mut moving = evaluation.levels.iter().filter(|level| level.update);
        let first = moving.next().map(|level| level.timestep);
        if moving.any(|level| Some(level.timestep) != first) {
            return Err(Error::invalid(format!(
                "{}: its frames move at different times; calibrate from a synchronous run",
                recording.path().display()
            )));
        }
    }
    Ok(())
}
