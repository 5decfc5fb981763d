//! Published calibrations, and the choice of one by the model's identity.
//!
//! The numbers are in `calibration/teacache.json` and `calibration/magcache.json`, each row with
//! its source. A row is chosen by the shapes of the model's weights, never by a file name:
//!
//! | dim, layers, input channels, experts | TeaCache | MagCache |
//! |---|---|---|
//! | 1536, 30, 16, 1 | `t2v-1.3b` | `t2v-1.3b` |
//! | 5120, 40, 16, 1 | `t2v-14b` | `t2v-14b` |
//! | 5120, 40, 36, 1 | `i2v-480p` or `i2v-720p` | `i2v-480p` or `i2v-720p` |
//! | 1536, 30, 36, 1 | `i2v-480p` or `i2v-720p` | none |
//! | 3072, 30, 48, 1 | `ti2v-5b` (mode `e` only) | `ti2v-5b-t2v` or `ti2v-5b-i2v` |
//! | 5120, 40, 16, 2 | none published | `t2v-a14b` |
//! | 5120, 40, 36, 2 | none published | `i2v-a14b` |
//!
//! - I2V 480P and 720P have the same tensors, so the video size decides: 720P from 2800 tokens per
//!   latent frame (832x480 has 1560, 960x544 2040, 1280x720 3600).
//! - FLF2V has the tensors of I2V and uses its rows; none are published for FLF2V.
//! - SkyReels-V2 (at abed76f) uses Wan's rows, the 480P ones for its 540P models. It does so for
//!   its 1.3B I2V model too, although the row was fitted for another width.
//! - TI2V 5B with an image has two timesteps per evaluation: that of the clean first frame, and
//!   that of the moving frames.
//! - The tables that WanVideoWrapper calls `14B_2.2` and `i2v_14B_2.2` are those of TI2V 5B; the
//!   A14B tables here are MagCache's own.

mod file;

use serde::Deserialize;
use wan_plugin_api::{CacheContext, Error, Result};

pub(crate) use file::CalibrationFile;

/// Tokens per latent frame from which an I2V video counts as 720P.
const TOKENS_720P: u32 = 2800;

/// Names of TeaCache's rows.
pub(crate) const TEA_CACHE_ROWS: [&str; 5] =
    ["t2v-1.3b", "t2v-14b", "i2v-480p", "i2v-720p", "ti2v-5b"];

/// Names of MagCache's tables.
pub(crate) const MAG_CACHE_TABLES: [&str; 10] = [
    "t2v-1.3b",
    "t2v-14b",
    "i2v-480p",
    "i2v-720p",
    "vace-1.3b",
    "vace-14b",
    "t2v-a14b",
    "i2v-a14b",
    "ti2v-5b-t2v",
    "ti2v-5b-i2v",
];

/// Polynomials of one model, highest power first; empty where none is published.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct TeaCacheRow {
    name: String,
    /// For the change of the time embedding `e`.
    #[serde(default)]
    pub(crate) e: Vec<f64>,
    /// For the change of the time projection `e0`.
    #[serde(default)]
    pub(crate) e0: Vec<f64>,
}

/// Ratios of one model, and the settings that were published with them.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub(crate) struct MagCacheTable {
    pub(crate) name: String,
    pub(crate) threshold: f64,
    pub(crate) max_skips: u32,
    pub(crate) retention_ratio: f64,
    /// `|residual of step i| / |residual of step i - 1|` on the branch `cond`.
    pub(crate) cond: Vec<f64>,
    /// The same on the branch `uncond`.
    pub(crate) uncond: Vec<f64>,
}

/// The row called `name`.
pub(crate) fn tea_cache_row(name: &str) -> Result<TeaCacheRow> {
    #[derive(Deserialize)]
    struct Rows {
        rows: Vec<TeaCacheRow>,
    }
    let all: Rows = parse("teacache.json", include_str!("calibration/teacache.json"))?;
    all.rows.into_iter().find(|row| row.name == name).ok_or_else(|| unknown(name, &TEA_CACHE_ROWS))
}

/// The table called `name`.
pub(crate) fn mag_cache_table(name: &str) -> Result<MagCacheTable> {
    #[derive(Deserialize)]
    struct Tables {
        tables: Vec<MagCacheTable>,
    }
    let all: Tables = parse("magcache.json", include_str!("calibration/magcache.json"))?;
    let mut tables = all.tables.into_iter();
    tables.find(|table| table.name == name).ok_or_else(|| unknown(name, &MAG_CACHE_TABLES))
}

fn parse<T: serde::de::DeserializeOwned>(file: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| Error::failed(format!("{file} of this build: {e}")))
}

fn unknown(name: &str, known: &[&str]) -> Error {
    Error::invalid(format!("there is no table {name}; there are: {}", known.join(", ")))
}

/// TeaCache's row for a model; none where nothing is published.
pub(crate) fn tea_cache_row_of(context: &CacheContext) -> Option<&'static str> {
    match identity(context) {
        (1536, 30, 16, 1) => Some("t2v-1.3b"),
        (5120, 40, 16, 1) => Some("t2v-14b"),
        (1536, 30, 36, 1) | (5120, 40, 36, 1) => Some(i2v_row(context)),
        (3072, 30, 48, 1) => Some("ti2v-5b"),
        _ => None,
    }
}

/// MagCache's table for a model; none where nothing is published.
pub(crate) fn mag_cache_table_of(context: &CacheContext) -> Option<&'static str> {
    match identity(context) {
        (1536, 30, 16, 1) => Some("t2v-1.3b"),
        (5120, 40, 16, 1) => Some("t2v-14b"),
        (5120, 40, 36, 1) => Some(i2v_row(context)),
        (5120, 40, 16, 2) => Some("t2v-a14b"),
        (5120, 40, 36, 2) => Some("i2v-a14b"),
        (3072, 30, 48, 1) if context.timesteps_max > 1 => Some("ti2v-5b-i2v"),
        (3072, 30, 48, 1) => Some("ti2v-5b-t2v"),
        _ => None,
    }
}

fn identity(context: &CacheContext) -> (u32, u32, u32, u32) {
    (context.model.dim, context.model.layers, context.model.in_channels, context.experts)
}

fn i2v_row(context: &CacheContext) -> &'static str {
    if context.frame_tokens < TOKENS_720P { "i2v-480p" } else { "i2v-720p" }
}

#[cfg(test)]
mod tests;
