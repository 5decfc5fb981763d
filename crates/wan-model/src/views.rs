//! Whole intermediate tensors of a block for an observer, assembled from runs of tokens.

use candle_core::Tensor;

use crate::chunks::Assembly;
use crate::error::Result;
use crate::observer::{BlockPoint, Observer, Point};

/// Assembles the intermediate tensors of a block if they are observed, and shows them at its end.
pub(crate) struct Views<'a> {
    observer: &'a mut dyn Observer,
    block: usize,
    /// Videos, and tokens of each.
    shape: (usize, usize),
    /// In order of first appearance.
    seen: Vec<(BlockPoint, Assembly)>,
}

impl<'a> Views<'a> {
    /// For block number `block` on so many videos of so many tokens.
    pub(crate) fn new(block: usize, shape: (usize, usize), observer: &'a mut dyn Observer) -> Self {
        Self { observer, block, shape, seen: Vec::new() }
    }

    /// Whether the tensors are to be shown at all.
    pub(crate) fn look(&self) -> bool {
        self.observer.looks()
    }

    /// Adds the tokens from `start` on of the tensor at `point`, of all videos `[B,l,D]`.
    pub(crate) fn see(&mut self, point: BlockPoint, start: usize, part: &Tensor) -> Result<()> {
        self.put(point, (start, self.shape.1), part)
    }

    /// Adds rows `[l,D]` of the tensor at `point`, as rows `[B L,D]`, from `start` on.
    pub(crate) fn see_rows(
        &mut self,
        point: BlockPoint,
        start: usize,
        part: &Tensor,
    ) -> Result<()> {
        self.put(point, (start, self.shape.0 * self.shape.1), &part.unsqueeze(0)?)
    }

    fn put(&mut self, point: BlockPoint, (start, of): (usize, usize), part: &Tensor) -> Result<()> {
        if !self.look() {
            return Ok(());
        }
        if let Some((_, assembly)) = self.seen.iter_mut().find(|(seen, _)| *seen == point) {
            return assembly.put(start, part.clone());
        }
        let mut assembly = Assembly::new(of);
        assembly.put(start, part.clone())?;
        self.seen.push((point, assembly));
        Ok(())
    }

    /// Shows all assembled tensors.
    pub(crate) fn show(self) -> Result<()> {
        let (batch, tokens) = self.shape;
        for (point, assembly) in self.seen {
            let whole = assembly.finish()?.reshape((batch, tokens, ()))?;
            self.observer.see(Point::Block(self.block, point), &whole);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{noise, numbers};

    struct Notes {
        looks: bool,
        seen: Vec<(Point, Vec<f32>)>,
    }

    impl Observer for Notes {
        fn looks(&self) -> bool {
            self.looks
        }

        fn see(&mut self, point: Point, tensor: &Tensor) {
            self.seen.push((point, numbers(tensor)));
        }
    }

    #[test]
    fn runs_are_shown_as_one_tensor_to_who_looks_and_not_at_all_to_others() {
        let (norm, out) = (noise(1, &[2, 5, 3]), noise(2, &[2, 5, 3]));
        for looks in [true, false] {
            let mut notes = Notes { looks, seen: Vec::new() };
            let mut views = Views::new(7, (2, 5), &mut notes);
            for (start, length) in [(0, 2), (2, 2), (4, 1)] {
                for (point, whole) in [(BlockPoint::Norm2, &norm), (BlockPoint::Out, &out)] {
                    let part = whole.narrow(1, start, length).unwrap();
                    views.see(point, start, &part).unwrap();
                }
            }
            views.show().unwrap();
            let expected = [(BlockPoint::Norm2, &norm), (BlockPoint::Out, &out)];
            let expected = expected.map(|(point, whole)| (Point::Block(7, point), numbers(whole)));
            assert_eq!(notes.seen, if looks { expected.to_vec() } else { Vec::new() });
        }
    }
}
