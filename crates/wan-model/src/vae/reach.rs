//! How far back in time the network of a decoder or an encoder looks.

/// Frames before the first one of a chunk, at a place of a network where a chunk has `per_chunk`
/// frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) frames: usize,
    pub(crate) per_chunk: usize,
}

impl Reach {
    /// Nothing before the chunk.
    pub(crate) fn none(per_chunk: usize) -> Self {
        Self { frames: 0, per_chunk }
    }

    /// Chunks that these frames lie in. The first of a video has one frame alone; where it is one of
    /// them nothing lies before it.
    pub(crate) fn chunks(self) -> usize {
        self.frames.div_ceil(self.per_chunk)
    }

    /// What a layer that needs so many frames before each of its own reads for them.
    pub(crate) fn further(self, frames: usize) -> Self {
        Self { frames: self.frames + frames, ..self }
    }

    /// What a layer that makes two frames of each reads for them.
    pub(crate) fn before_doubling(self) -> Self {
        Self { frames: self.frames.div_ceil(2), per_chunk: self.per_chunk / 2 }
    }

    /// What a layer that makes a frame of each two reads for them.
    pub(crate) fn before_halving(self) -> Self {
        Self { frames: self.frames * 2, per_chunk: self.per_chunk * 2 }
    }
}
