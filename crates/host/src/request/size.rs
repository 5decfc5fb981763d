//! Width and height, as users write them.

use std::fmt;
use std::str::FromStr;

use wan_border::numbers::Side;

use crate::error::Error;

/// Pixels of a frame, written as `832*480`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// Pixels.
    pub(crate) width: Side,
    /// Pixels.
    pub(crate) height: Side,
}

impl FromStr for Size {
    type Err = Error;

    /// Reads `832*480`, `832x480` or `832×480`: width, then height.
    fn from_str(text: &str) -> Result<Self, Error> {
        let parts: Vec<&str> = text.split(['*', 'x', 'X', '×']).map(str::trim).collect();
        let wrong = || Error::field("size", format!("{text}: expected WIDTH*HEIGHT, as 832*480"));
        let [width, height] = parts.as_slice() else { return Err(wrong()) };
        let side = |number: &str| {
            let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
            let side = if is_number { number.parse::<Side>() } else { return Err(wrong()) };
            side.map_err(|error| Error::field("size", format!("{text}: {error} pixels")))
        };
        Ok(Self { width: side(width)?, height: side(height)? })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}*{}", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_users_write_them() {
        for text in ["832*480", "832x480", " 832 X 480", "832×480"] {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.width.get(), size.height.get()), (832, 480), "{text}");
        }
        for text in ["832", "832*", "*480", "a*b", "8*8*8", "-8*8"] {
            let error = text.parse::<Size>().unwrap_err().to_string();
            assert!(error.contains("expected WIDTH*HEIGHT"), "{error}");
        }
        for text in ["0*8", "8*16385", "18446744073709551616*16"] {
            let error = text.parse::<Size>().unwrap_err().to_string();
            assert!(error.ends_with(": must be 1 to 16384 pixels"), "{error}");
        }
    }
}
