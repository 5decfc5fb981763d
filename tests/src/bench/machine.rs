//! What was measured on.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;
use wan_model::Kernels;

/// The machine, and the day.
#[derive(Serialize)]
pub(crate) struct Machine {
    /// The processor, as the system names it.
    pub(crate) processor: String,
    pub(crate) kernels: &'static str,
    pub(crate) threads: usize,
    /// UTC, `YYYY-MM-DD`.
    pub(crate) date: String,
}

impl Machine {
    pub(crate) fn here() -> Result<Self> {
        Ok(Self {
            processor: processor(),
            kernels: Kernels::detect().name(),
            threads: rayon::current_num_threads(),
            date: date()?,
        })
    }
}

/// Name, family and model: one name is given to several processors where the machine is a virtual one.
fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |name: &str| {
        let line = text.lines().find(|line| line.split(':').next().map(str::trim) == Some(name));
        line.and_then(|line| line.split_once(':')).map_or("?", |(_, value)| value.trim())
    };
    let [name, family, model] = ["model name", "cpu family", "model"].map(value);
    format!("{name} (family {family}, model {model})")
}

fn date() -> Result<String> {
    let output = Command::new("date").args(["-u", "+%F"]).output().context("date")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
