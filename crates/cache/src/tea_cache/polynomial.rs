//! The source of TeaCache's polynomial: given, calibrated or published.

use wan_plugin_api::{CacheContext, Error, Result};

use super::options::TeaCacheOptions;
use crate::calibration::{CalibrationFile, TeaCacheRow, tea_cache_row, tea_cache_row_of};

/// The coefficients, highest power first; empty for the identity.
///
/// # Errors
/// `Invalid` where two sources are given, where the given one has no polynomial for the mode, and
/// for a coefficient that is not finite.
pub(super) fn coefficients(options: &TeaCacheOptions, context: &CacheContext) -> Result<Vec<f64>> {
    let file = CalibrationFile::read(&options.calibration, context)?;
    let given: Vec<&str> = [
        ("coefficients", !options.coefficients.is_empty()),
        ("calibration", file.is_some()),
        ("table", options.table != "auto"),
    ]
    .into_iter()
    .filter_map(|(name, is_given)| is_given.then_some(name))
    .collect();
    if let [first, second, ..] = given.as_slice() {
        return Err(Error::invalid(format!(
            "{first} and {second} both name a polynomial; give one of them"
        )));
    }
    let mode = options.mode.word();
    let chosen = match (&file, options.table.as_str()) {
        _ if !options.coefficients.is_empty() => options.coefficients.clone(),
        (Some(file), _) => file.coefficients(mode)?.to_vec(),
        (None, "none") => Vec::new(),
        (None, "auto") => match tea_cache_row_of(context) {
            Some(name) => of_mode(tea_cache_row(name)?, mode),
            None => Vec::new(),
        },
        (None, name) => {
            let row = of_mode(tea_cache_row(name)?, mode);
            if row.is_empty() {
                return Err(Error::invalid(format!(
                    "table {name} has no polynomial for mode {mode}; take the other mode"
                )));
            }
            row
        }
    };
    if chosen.iter().any(|c| !c.is_finite()) {
        return Err(Error::invalid("coefficients: every number must be finite"));
    }
    Ok(chosen)
}

fn of_mode(row: TeaCacheRow, mode: &str) -> Vec<f64> {
    if mode == "e" { row.e } else { row.e0 }
}
