//! What layers give and hold, by the shapes of frames.

/// Frames between two layers, f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frames {
    pub(crate) frames: usize,
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
}

impl Frames {
    pub(crate) fn bytes(self) -> usize {
        4 * self.frames * self.channels * self.height * self.width
    }
}

/// What a layer gives and holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) out: Frames,
    /// Bytes above its input at most, with its output and what it remembers.
    pub(crate) most: usize,
    /// Bytes that it remembers until the next chunk.
    pub(crate) held: usize,
    /// As `most`, of a first chunk: layers behind it remember nothing yet.
    pub(crate) first: usize,
}

/// Costs one after the other.
#[derive(Default)]
pub(crate) struct Sum {
    most: usize,
    first: usize,
    pub(crate) held: usize,
}

impl Sum {
    /// Adds a cost that comes while `beside` bytes are there.
    pub(crate) fn add(&mut self, beside: usize, cost: Cost) -> Frames {
        self.most = self.most.max(beside + cost.most - cost.held);
        self.first = self.first.max(self.held + beside + cost.first);
        self.held += cost.held;
        cost.out
    }

    pub(crate) fn see(&mut self, working: usize) {
        self.most = self.most.max(working);
        self.first = self.first.max(self.held + working);
    }

    pub(crate) fn cost(self, out: Frames) -> Cost {
        Cost { out, most: self.most + self.held, held: self.held, first: self.first }
    }
}
