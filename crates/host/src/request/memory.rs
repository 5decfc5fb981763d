//! How much memory a run may take, and where parts of a model lie.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A number of bytes, as `12GiB`, `800MB` or `1073741824`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(pub u64);

/// Units, the longer names first.
const UNITS: [(&str, u64); 9] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("b", 1),
];

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text}: expected bytes, as 12GiB or 800MB");
        let lower = text.trim().to_ascii_lowercase();
        let unit = UNITS.iter().find(|(unit, _)| lower.ends_with(unit));
        let (number, factor) = match unit {
            Some((unit, factor)) => (lower[..lower.len() - unit.len()].trim_end(), *factor),
            None => (lower.as_str(), 1),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let bytes = number * factor as f64;
        // Up to 2^53 every whole number is one.
        if !(1.0..=9e15).contains(&bytes) {
            return Err(wrong());
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range")]
        Ok(Self(bytes as u64))
    }
}

impl TryFrom<String> for Bytes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> Self {
        bytes.0.to_string()
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mib, gib) = (self.0 as f64 / f64::from(1 << 20), self.0 as f64 / f64::from(1 << 30));
        if gib >= 1.0 { write!(f, "{gib:.2} GiB") } else { write!(f, "{mib:.1} MiB") }
    }
}

/// What is done where a run does not fit the memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// The mildest of what makes it fit, and says so.
    #[default]
    Auto,
    /// It is refused.
    Never,
}

impl Fit {
    /// `auto` or `never`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "never" => Some(Self::Never),
            _ => None,
        }
    }
}

/// Where the text encoder computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncoderPlace {
    /// Where the transformer does.
    #[default]
    Device,
    /// On the CPU.
    Cpu,
}

impl EncoderPlace {
    pub(crate) fn is_device(&self) -> bool {
        *self == Self::Device
    }

    /// `device` or `cpu`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "device" => Some(Self::Device),
            "cpu" => Some(Self::Cpu),
            _ => None,
        }
    }
}

/// Most memory that a run may take; none: what is free when it begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Of the device; on the CPU, of the process.
    pub(crate) device: Option<u64>,
    /// Of the process, where the device has memory of its own.
    pub(crate) host: Option<u64>,
    /// What is done where it does not fit.
    pub(crate) fit: Fit,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_as_people_write_them() {
        let read = |text: &str| text.parse::<Bytes>().map(|bytes| bytes.0);
        assert_eq!(read("12GiB"), Ok(12 << 30));
        assert_eq!(read("12 gib"), Ok(12 << 30));
        assert_eq!(read("1.5MB"), Ok(1_500_000));
        assert_eq!(read("800 B"), Ok(800));
        assert_eq!(read("1073741824"), Ok(1 << 30));
        for bad in ["", "GiB", "-1GB", "0", "nan", "inf", "1e40", "12 apples", "0x10"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let json = serde_json::to_string(&Bytes(1 << 30)).unwrap();
        assert_eq!(serde_json::from_str::<Bytes>(&json).unwrap(), Bytes(1 << 30));
        assert_eq!(Bytes(3 << 29).to_string(), "1.50 GiB");
        assert_eq!(Bytes(3 << 19).to_string(), "1.5 MiB");
    }
}
