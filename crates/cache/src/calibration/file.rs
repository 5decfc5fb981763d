//! The calibration file of one model, as `wan cache calibrate` writes it.
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
//! Other members are ignored.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use wan_plugin_api::{CacheContext, Error, ModelIdentity, Result};

/// The schema version that this build reads.
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

/// MagCache's ratios, one column per guidance branch.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Columns {
    pub(crate) cond: Vec<f64>,
    #[serde(default)]
    pub(crate) uncond: Vec<f64>,
}

impl CalibrationFile {
    /// Reads the option `calibration`; `None` where it is null.
    ///
    /// # Errors
    /// `Invalid` for a document of another kind or schema, or of another model.
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

    /// The polynomial for the change of a time signal, `e` or `e0`, highest power first.
    ///
    /// # Errors
    /// `Invalid` if the file has none for it.
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
    ///
    /// # Errors
    /// `Invalid` if the file has none.
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
