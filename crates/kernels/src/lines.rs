//! Memory that begins at a cache line: a vector load that crosses lines costs two.
#![allow(unsafe_code, reason = "says of one struct of words that any bits are a value of it")]

use bytemuck::{Pod, Zeroable};

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; 16]);

// SAFETY: an array of words without padding (its size is its alignment), all zeros included.
unsafe impl Zeroable for Line {}
// SAFETY: as above; it is `Copy`, `'static`, `repr(C)`, and any bits are a value.
unsafe impl Pod for Line {}

/// Words in whole cache lines.
pub(crate) struct Lines(Vec<Line>);

impl Lines {
    /// At least this many words, zeros.
    pub(crate) fn zeros(words: usize) -> Self {
        Self(vec![Line([0; 16]); words.div_ceil(16)])
    }

    pub(crate) fn words(&self) -> &[u32] {
        bytemuck::cast_slice(&self.0)
    }

    pub(crate) fn words_mut(&mut self) -> &mut [u32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}
