//! How a convolution moves over its input.

/// A kernel over frames and square windows of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Frames that the kernel spans.
    pub taps: usize,
    /// Frames between outputs.
    pub time_stride: usize,
    /// Rows and columns that the kernel spans.
    pub kernel: usize,
    /// Rows and columns between outputs.
    pub stride: usize,
    /// Zero rows above and zero columns to the left.
    pub pad_before: usize,
    /// Zero rows below and zero columns to the right.
    pub pad_after: usize,
    /// Whether every input pixel is first doubled both ways (nearest neighbour).
    pub doubled: bool,
}

impl Geometry {
    /// Pointwise in time and space.
    pub const POINT: Self = Self {
        taps: 1,
        time_stride: 1,
        kernel: 1,
        stride: 1,
        pad_before: 0,
        pad_after: 0,
        doubled: false,
    };

    /// 3x3x3, same size.
    pub const CUBE: Self = Self { taps: 3, kernel: 3, pad_before: 1, pad_after: 1, ..Self::POINT };
    /// Three frames, pointwise in space.
    pub const TIME: Self = Self { taps: 3, ..Self::POINT };
    /// Three frames, every second output.
    pub const TIME_HALVED: Self = Self { time_stride: 2, ..Self::TIME };
    /// 3x3 on the doubled picture.
    pub const DOUBLED: Self =
        Self { kernel: 3, pad_before: 1, pad_after: 1, doubled: true, ..Self::POINT };
    /// 3x3, every second output; padded right and below only, as in diffusers.
    pub const HALVED: Self = Self { kernel: 3, stride: 2, pad_after: 1, ..Self::POINT };

    /// Rows (or columns) that come out of `size`. A kernel that does not fit gives none.
    pub fn output(&self, size: usize) -> usize {
        let padded = size * self.scale() + self.pad_before + self.pad_after;
        padded.checked_sub(self.kernel).map_or(0, |more| more / self.stride + 1)
    }

    /// Frames that come out of `frames`; those before the first are among them.
    pub fn frames(&self, frames: usize) -> usize {
        frames.checked_sub(self.taps).map_or(0, |more| more / self.time_stride + 1)
    }

    /// Weights of an output for each channel.
    pub(crate) fn taps_of_channel(&self) -> usize {
        self.taps * self.kernel * self.kernel
    }

    pub(crate) fn scale(&self) -> usize {
        1 + usize::from(self.doubled)
    }

    /// Input row (or column) of padded row `padded`, unless it is padding.
    #[inline(always)]
    pub(crate) fn input(&self, padded: usize, size: usize) -> Option<usize> {
        let row = padded.checked_sub(self.pad_before)? / self.scale();
        (row < size).then_some(row)
    }

    #[track_caller]
    pub(crate) fn check(&self) {
        let Self { taps, time_stride, kernel, stride, .. } = *self;
        let least = taps.min(time_stride).min(kernel).min(stride);
        assert!(least > 0, "a kernel or a stride of nothing: {self:?}");
    }
}
