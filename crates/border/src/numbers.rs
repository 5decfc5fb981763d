//! Numbers from outside as types: made once, with the reason in the error.
//!
//! | type | range | of |
//! |---|---|---|
//! | [`Side`] | 1 to 2^14 | pixels |
//! | [`Frames`] | 1 to 2^20 | pixel frames: 18 hours at 16 a second |
//! | [`ContextFrames`] | 0 to 2^20 | pixel frames of a given clip |
//! | [`Steps`] | 1 to 1000 | inference steps |
//! | [`Tokens`] | 1 to 2^12 | tokens that a prompt is padded to |
//! | [`Width`] | 1 to 2^17 | numbers of a token, or channels |
//! | [`Heads`], [`Layers`] | 1 to 2^10 | |
//! | [`Vocabulary`] | 1 to 2^24 | |
//! | [`Patch`] | 1 to 2^6 | pixels or latents on a side; factors between sizes |
//! | [`Positions`] | 1 to 2^20 | places that a table has a row for |
//! | [`Mebibytes`] | 256 to 2^24 | address space of a process |
//!
//! A video has at most [`POSITIONS_MAX`] = 2^36 places (frames x rows x columns), so its largest
//! tensor, a number of every channel at every place in f32, has 2^36 * 2^17 * 4 = 2^55 bytes: no
//! product of these leaves 63 bits.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// Most places of a video: latent frames x rows x columns.
pub const POSITIONS_MAX: u64 = 1 << 36;

/// Pixels, width or height.
pub type Side = Count<1, { 1 << 14 }>;
/// Pixel frames of a video.
pub type Frames = Count<1, { 1 << 20 }>;
/// Pixel frames of a given clip that are context.
pub type ContextFrames = Count<1, { 1 << 20 }>;
/// Inference steps.
pub type Steps = Count<1, 1000>;
/// Tokens that a prompt is padded to.
pub type Tokens = Count<1, { 1 << 12 }>;
/// Numbers of a token or of a layer's output; channels.
pub type Width = Count<1, { 1 << 17 }>;
/// Attention heads.
pub type Heads = Count<1, { 1 << 10 }>;
/// Layers, blocks.
pub type Layers = Count<1, { 1 << 10 }>;
/// Tokens that an encoder knows.
pub type Vocabulary = Count<1, { 1 << 24 }>;
/// Pixels or latents on a side of a patch; factors between sizes.
pub type Patch = Count<1, { 1 << 6 }>;
/// Places that a table has a row for.
pub type Positions = Count<1, { 1 << 20 }>;
/// Address space of a process, in MiB.
pub type Mebibytes = Count<256, { 1 << 24 }>;

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Count<const MIN: u32, const MAX: u32>(u32);

/// A number that is out of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found}: must be {range}")]
pub struct OutOfRange {
    found: String,
    range: String,
}

impl OutOfRange {
    fn new(found: impl fmt::Display, min: impl fmt::Display, max: impl fmt::Display) -> Self {
        Self { found: found.to_string(), range: format!("{min} to {max}") }
    }
}

impl<const MIN: u32, const MAX: u32> Count<MIN, MAX> {
    /// The largest.
    pub const MOST: u32 = MAX;

    /// A number that this source names.
    ///
    /// # Panics
    /// If it is out of range; in a constant, when it is compiled.
    pub const fn of(number: usize) -> Self {
        assert!(number >= MIN as usize && number <= MAX as usize, "out of range");
        #[allow(clippy::cast_possible_truncation, reason = "at most MAX, which is a u32")]
        Self(number as u32)
    }

    /// A number that came from outside.
    ///
    /// # Errors
    /// If it is out of range: with number and range.
    pub fn new<N: TryInto<u32> + Copy + fmt::Display>(number: N) -> Result<Self, OutOfRange> {
        match number.try_into() {
            Ok(found) if (MIN..=MAX).contains(&found) => Ok(Self(found)),
            _ => Err(OutOfRange::new(number, MIN, MAX)),
        }
    }

    /// The number.
    pub const fn get(self) -> usize {
        self.0 as usize
    }

    /// The number, as the plugin interface has it.
    pub const fn get_u32(self) -> u32 {
        self.0
    }
}

impl<const MIN: u32, const MAX: u32> Default for Count<MIN, MAX> {
    /// The least.
    fn default() -> Self {
        Self(MIN)
    }
}

impl Mebibytes {
    /// The same in bytes.
    pub const fn bytes(self) -> u64 {
        (self.0 as u64) << 20
    }
}

impl<const MIN: u32, const MAX: u32> fmt::Display for Count<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const MIN: u32, const MAX: u32> fmt::Debug for Count<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const MIN: u32, const MAX: u32> PartialEq<usize> for Count<MIN, MAX> {
    fn eq(&self, other: &usize) -> bool {
        self.get() == *other
    }
}

impl<const MIN: u32, const MAX: u32> FromStr for Count<MIN, MAX> {
    type Err = OutOfRange;

    fn from_str(text: &str) -> Result<Self, OutOfRange> {
        let number: Option<u32> = text.trim().parse().ok();
        number.and_then(|n| Self::new(n).ok()).ok_or_else(|| OutOfRange::new(text, MIN, MAX))
    }
}

impl<const MIN: u32, const MAX: u32> Serialize for Count<MIN, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Count<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_u64(WholeNumber)
    }
}

/// Reads a [`Count`].
struct WholeNumber<const MIN: u32, const MAX: u32>;

impl<const MIN: u32, const MAX: u32> Visitor<'_> for WholeNumber<MIN, MAX> {
    type Value = Count<MIN, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number, {MIN} to {MAX}")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        Count::new(number).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        Count::new(number).map_err(E::custom)
    }
}

/// A count as the plugin interface and pictures have it.
///
/// # Panics
/// If it does not fit: no count that a type of this module bounds, nor a product of sides.
pub fn u32_of(count: usize) -> u32 {
    u32::try_from(count).expect("a count within its bounds")
}

/// A finite number within a range; what is not a number is in none.
///
/// # Errors
/// If it is not: with number and range.
pub fn within(number: f64, range: RangeInclusive<f64>) -> Result<f64, OutOfRange> {
    if range.contains(&number) && number.is_finite() {
        return Ok(number);
    }
    Err(OutOfRange::new(number, range.start(), range.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_in_its_range_or_named() {
        assert_eq!(Side::new(16384_usize).unwrap().get(), 16384);
        for (text, says) in [
            ("0", "0: must be 1 to 16384"),
            ("16385", "16385: must be 1 to 16384"),
            ("18446744073709551615", "18446744073709551615: must be 1 to 16384"),
            ("-1", "-1: must be 1 to 16384"),
        ] {
            let error = serde_json::from_str::<Side>(text).unwrap_err().to_string();
            assert!(error.starts_with(says), "{error}");
            assert_eq!(text.parse::<Side>().unwrap_err().to_string(), says);
        }
        for text in ["1.5", "\"8\"", "null", "1e3"] {
            assert!(serde_json::from_str::<Side>(text).is_err(), "{text}");
        }
        assert_eq!(serde_json::to_string(&Side::of(8)).unwrap(), "8");
        assert!(Side::new(u64::MAX).is_err() && Side::new(1_u64 << 32).is_err());
    }

    #[test]
    fn what_is_not_a_number_is_in_no_range() {
        assert_eq!(within(1.5, 1.0..=2.0), Ok(1.5));
        for number in [f64::NAN, f64::INFINITY, -1.0] {
            assert!(within(number, 0.0..=f64::INFINITY).is_err(), "{number}");
        }
        let text = within(f64::NAN, 1.0..=100.0).unwrap_err().to_string();
        assert_eq!(text, "NaN: must be 1 to 100");
    }

    /// The largest tensor of the largest video, and every other product of the engine that is not
    /// one of its parts.
    #[test]
    fn products_stay_within_63_bits() {
        let most = |count: u128| count.checked_mul(4).is_some_and(|bytes| bytes < 1 << 63);
        let [width, frames] = [Width::MOST, Frames::MOST].map(u128::from);
        assert!(most(u128::from(POSITIONS_MAX) * width));
        // Time signals: a row of seven widths for every frame, for six branches.
        assert!(most(frames * 7 * width * 6));
        // Weights: a table of tokens, and a convolution of 3 x 3 x 3.
        assert!(most(u128::from(Vocabulary::MOST) * width) && most(width * width * 27));
        // Pixels: frames x sides x three colours.
        assert!(most(frames * u128::from(Side::MOST).pow(2) * 3));
        assert_eq!(Mebibytes::of(1 << 24).bytes(), 1 << 44);
    }
}
