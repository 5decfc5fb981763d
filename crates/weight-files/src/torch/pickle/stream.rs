//! The bytes of a pickle, taken from front to back.

use crate::torch::pickle::objects::Span;

/// Longest line of a name, in bytes.
const LINE_MAX: usize = 512;

/// Bytes, and how far they were read.
pub(super) struct Stream<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Stream<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes that were read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let left = &self.bytes[self.at..];
        let taken = left.get(..count).ok_or_else(|| {
            format!(
                "cut short: {count} bytes are needed at byte {}, {} are left",
                self.at,
                left.len()
            )
        })?;
        self.at += count;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let taken = self.take(N)?;
        taken.first_chunk::<N>().copied().ok_or_else(|| "cut short".to_owned())
    }

    pub(super) fn byte(&mut self) -> Result<u8, String> {
        Ok(self.array::<1>()?[0])
    }

    /// A text of so many bytes.
    pub(super) fn text(&mut self, length: u32) -> Result<Span, String> {
        let start = self.at;
        let length = usize::try_from(length).map_err(|_| "a text is too long".to_owned())?;
        let taken = self.take(length)?;
        std::str::from_utf8(taken).map_err(|_| format!("the text at byte {start} is no UTF-8"))?;
        Span::new(start..self.at).ok_or_else(|| "a text is too long".to_owned())
    }

    /// A text that ends with a line feed.
    pub(super) fn line(&mut self) -> Result<&'a str, String> {
        let start = self.at;
        let window = &self.bytes[start..self.bytes.len().min(start + LINE_MAX)];
        let length = window.iter().position(|byte| *byte == b'\n').ok_or_else(|| {
            if window.len() < LINE_MAX {
                return format!("cut short: the name at byte {start} does not end");
            }
            format!("the name at byte {start} has more than {LINE_MAX} bytes")
        })?;
        self.at += length + 1;
        std::str::from_utf8(&window[..length])
            .map_err(|_| format!("the name at byte {start} is no UTF-8"))
    }
}
