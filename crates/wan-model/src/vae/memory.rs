//! The frames that a stream keeps between chunks.

use candle_core::Tensor;

use crate::error::{Error, Result};

/// The previous frames that the causal convolutions of one stream need: one slot per layer, in the
/// order of the calls.
#[derive(Default)]
pub(crate) struct Memory {
    slots: Vec<Option<Tensor>>,
    next: usize,
    chunks: usize,
}

impl Memory {
    /// Of a stream that begins with this chunk of a video; chunk 0 is the single first frame.
    fn starting_at(chunk: usize) -> Self {
        Self { chunks: chunk, ..Self::default() }
    }

    /// Must be called after each chunk.
    pub(crate) fn end_chunk(&mut self) {
        self.next = 0;
        self.chunks += 1;
    }

    /// Whether this is the first chunk: the single first frame.
    pub(crate) fn is_first(&self) -> bool {
        self.chunks == 0
    }

    /// Makes one memory per tile before the first chunk, which is chunk `number` of a video.
    ///
    /// # Errors
    /// [`Error::Input`] for a later chunk with another number of tiles.
    pub(crate) fn one_for_each(
        memories: &mut Vec<Self>,
        (count, number): (usize, usize),
        chunk: &Tensor,
    ) -> Result<()> {
        if memories.is_empty() {
            memories.resize_with(count, || Self::starting_at(number));
        }
        if memories.len() == count {
            return Ok(());
        }
        let expected = format!("the size of the chunks before, {} tiles", memories.len());
        Err(Error::input("chunk", expected, chunk.dims()))
    }

    /// Bytes of the frames in several memories.
    pub(crate) fn bytes(memories: &[Self]) -> usize {
        let frames = memories.iter().flat_map(|memory| memory.slots.iter().flatten());
        frames.map(|frames| frames.elem_count() * frames.dtype().size_in_bytes()).sum()
    }

    /// The slot of the next layer; empty in the first chunk.
    pub(crate) fn slot(&mut self) -> &mut Option<Tensor> {
        if self.next == self.slots.len() {
            self.slots.push(None);
        }
        self.next += 1;
        &mut self.slots[self.next - 1]
    }
}
