//! How often a run is written to the disk.

use std::str::FromStr;
use std::time::Duration;

/// How often a run is written to the disk.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CheckpointEvery {
    /// Not at all: it cannot be resumed.
    Never,
    /// After each round, which waits until it is on the disk.
    Round,
    /// After the first round that ends so long after the last time; beside the run.
    Time(Duration),
}

/// Most seconds between two checkpoints.
const SECONDS_MAX: f64 = 1e6;

impl Default for CheckpointEvery {
    fn default() -> Self {
        Self::Time(Duration::from_secs(60))
    }
}

impl FromStr for CheckpointEvery {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse::<f64>()) {
            ("never", _) => Ok(Self::Never),
            ("round", _) => Ok(Self::Round),
            (_, Ok(0.0)) => Ok(Self::Never),
            (_, Ok(seconds)) if (0.0..=SECONDS_MAX).contains(&seconds) => {
                Ok(Self::Time(Duration::from_secs_f64(seconds)))
            }
            _ => Err(format!("{text}: expected seconds from 0 to {SECONDS_MAX}, round, or never")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_round_and_never_are_read_and_nothing_else() {
        let read = |text: &str| text.parse::<CheckpointEvery>();
        assert_eq!(read("60"), Ok(CheckpointEvery::default()));
        assert_eq!(read("0.5"), Ok(CheckpointEvery::Time(Duration::from_millis(500))));
        assert!([read("0"), read("never")].iter().all(|e| *e == Ok(CheckpointEvery::Never)));
        assert_eq!(read("round"), Ok(CheckpointEvery::Round));
        for wrong in ["-1", "nan", "inf", "1e7", "often", ""] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
