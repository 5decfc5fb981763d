//! What `wan cache calibrate` wrote for one model.
//!
//! ```json
//! {
//!   "schema": 1,
//!   "model": { "dim": 1536, "layers": 30, "in_channels": 16 },
//!   "steps": 25,
//!   "polynomials": { "e": { "coefficients": [1.2, 0.01] }, "e0": { "coefficients": [0.9, 0.02] } },
//!   "ratios": { "cond": [1.0, 0.99], "uncond": [1.0, 0.99] }
//! }
//! ```
//!
//! Members that are not known here are left alone.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use wan_plugin_api::{CacheContext, Error, ModelIdentity, Result};

/// The one schema that there is.
const SCHEMA: u32 = 1;

/// A calibration of one model.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct CalibrationFile {
    schema: u32,
    model: CalibratedModel,
    #[serde(default)]
    polynomials: BTreeMap<String, Polynomial>,
    ratios: Option<Columns>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct CalibratedModel {
    dim: u32,
    layers: u32,
    in_channels: u32,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Polynomial {
    coefficients: Vec<f64>,
}

/// MagCache's ratios, a column per branch.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Columns {
    pub(crate) cond: Vec<f64>,
    #[serde(default)]
    pub(crate) uncond: Vec<f64>,
}

impl CalibrationFile {
    /// Reads the option `calibration`; none where it was not given.
    ///
    /// # Errors
    /// `Invalid` for another document, or one of another model.
    pub(crate) fn read(given: &Value, context: &CacheContext) -> Result<Option<Self>> {
        if given.is_null() {
            return Ok(None);
        }
        let file: Self = serde_json::from_value(given.clone()).map_err(|e| {
            Error::invalid(format!("calibration: {e}; `wan cache calibrate` writes such a file"))
        })?;
        if file.schema != SCHEMA {
            return Err(Error::invalid(format!(
                "calibration: schema {} found, {SCHEMA} expected; write it anew with `wan cache \
                 calibrate`",
                file.schema
            )));
        }
        file.model.check(&context.model)?;
        Ok(Some(file))
    }

    /// Polynomial over the change of a time signal (`e` or `e0`).
    pub(crate) fn coefficients(&self, mode: &str) -> Result<&[f64]> {
        let row = self.polynomials.get(mode).filter(|row| !row.coefficients.is_empty());
        row.map(|row| row.coefficients.as_slice()).ok_or_else(|| {
            let modes: Vec<&str> = self.polynomials.keys().map(String::as_str).collect();
            Error::invalid(format!(
                "calibration: nothing for mode {mode} in this file (it has: {}); take another \
                 mode, or write it anew with `wan cache calibrate`",
                if modes.is_empty() { "no mode".into() } else { modes.join(", ") }
            ))
        })
    }

    /// MagCache's ratios.
    pub(crate) fn columns(&self) -> Result<&Columns> {
        self.ratios.as_ref().filter(|columns| !columns.cond.is_empty()).ok_or_else(|| {
            Error::invalid(
                "calibration: this file has no ratios; write it anew with `wan cache \
                 calibrate`",
            )
        })
    }
}

impl CalibratedModel {
    fn check(&self, model: &ModelIdentity) -> Result<()> {
        let here = (model.dim, model.layers, model.in_channels);
        let there = (self.dim, self.layers, self.in_channels);
        if here == there {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "calibration: made for a model of dim {}, {} layers and {} input channels; this one \
             has {}, {} and {}; calibrate this model with `wan cache calibrate`",
            there.0, there.1, there.2, here.0, here.1, here.2
        )))
    }
}
