//! How fast this machine computes, as it was measured once and kept in the user's folder of caches.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use wan_border::files;
use wan_model::footprint::Cpu;
use wan_model::speed::{Speeds, measure};
use wan_model::{GENERATION, Kernels};
use wan_outputs::{Claim, Claimed};

use crate::error::{Error, Result};
use crate::optional_file;
use crate::user_folders::user_caches;

/// Speeds of this machine, and what they are of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasuredSpeed {
    /// The kernels that were measured, such as `avx512+bf16+vnni`.
    pub kernels: String,
    /// Their generation.
    pub generation: u32,
    /// Threads that they computed on.
    pub threads: usize,
    /// The day of the measurement, UTC: `2026-11-30`.
    pub date: String,
    /// 10^9 operations a second.
    pub gflops: Speeds,
}

impl MeasuredSpeed {
    /// Measures these kernels on all threads, for about so long.
    pub fn measure(kernels: Kernels, time: Duration) -> Self {
        Self {
            kernels: kernels.name().into(),
            generation: GENERATION,
            threads: threads(kernels),
            date: today(),
            gflops: measure(kernels, time),
        }
    }

    /// What the user's machine was measured at, if it was with these kernels and as many threads as there
    /// are now.
    ///
    /// # Errors
    /// If there is a measurement that cannot be read.
    pub fn of_user(kernels: Kernels) -> Result<Option<Self>> {
        let Some(path) = Self::path() else { return Ok(None) };
        let Some(text) = optional_file::read_text(&path)? else { return Ok(None) };
        let found: Self = files::parse_json(&text).map_err(|why| {
            let path = path.display();
            Error::invalid(format!("{path}: {why}; `wan bench --quick` writes it anew"))
        })?;
        Ok(found.fits(kernels).then_some(found))
    }

    fn fits(&self, kernels: Kernels) -> bool {
        self.kernels == kernels.name()
            && self.generation == GENERATION
            && self.threads == threads(kernels)
    }

    /// Keeps it for [`of_user`](Self::of_user), in the place of an earlier one; gives the file.
    ///
    /// # Errors
    /// If nobody knows the user's folder of caches, or it cannot be written.
    pub fn keep(&self) -> Result<PathBuf> {
        let path = Self::path().ok_or_else(|| {
            Error::invalid("nobody knows the user's folder of caches; set XDG_CACHE_HOME")
        })?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::invalid(format!("the measurement: {error}")))?;
        match Claim::of(&path, None).map_err(Error::io(&path))? {
            Claimed::Ours { claim, .. } => drop(claim.write(format!("{text}\n").as_bytes())?),
            Claimed::Taken { .. } => {
                let path = path.display();
                return Err(Error::invalid(format!("{path}: another process is writing it")));
            }
        }
        Ok(path)
    }

    /// `wan/speed.json` of the user's folder of caches.
    fn path() -> Option<PathBuf> {
        user_caches().map(|caches| caches.join("wan").join("speed.json"))
    }
}

fn threads(kernels: Kernels) -> usize {
    Cpu::new(kernels).threads
}

/// Today by UTC. Days to a date: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    date(seconds / 86_400)
}

/// The date so many days after 1970-01-01.
fn date(days: u64) -> String {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    format!("{:04}-{month:02}-{day:02}", year + era * 400 + u64::from(month <= 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        let dates = [(0, "1970-01-01"), (59, "1970-03-01"), (11_016, "2000-02-29")];
        for (days, expected) in dates.into_iter().chain([(20_787, "2026-11-30")]) {
            assert_eq!(date(days), expected);
        }
    }
}
