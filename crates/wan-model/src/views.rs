//! Whole intermediate tensors of a block for an observer, assembled from runs of tokens.

use candle_core::Tensor;

use crate::chunks::Assembly;
use crate::error::Result;
use crate::observer::{BlockPoint, Observer, Point};

/// Assembles the intermediate tensors of a block if they are observed, and shows them at its end.
pub(crate) struct Views<'a> {
    observer: &'a mut dyn Observer,
    block: usize,
    tokens: usize,
    /// In order of first appearance.
    seen: Vec<(BlockPoint, Assembly)>,
}

impl<'a> Views<'a> {
    /// For block number `block` on `tokens` tokens.
    pub(crate) fn new(block: usize, tokens: usize, observer: &'a mut dyn Observer) -> Self {
        Self { observer, block, tokens, seen: Vec::new() }
    }

    /// Adds the tokens from `start` on of the tensor at `point`.
    pub(crate) fn see(&mut self, point: BlockPoint, start: usize, part: &Tensor) -> Result<()> {
        if !self.observer.looks() {
            return Ok(());
        }
        if let Some((_, assembly)) = self.seen.iter_mut().find(|(seen, _)| *seen == point) {
            return assembly.put(start, part.clone());
        }
        let mut assembly = Assembly::new(self.tokens);
        assembly.put(start, part.clone())?;
        self.seen.push((point, assembly));
        Ok(())
    }

    /// Shows all assembled tensors.
    pub(crate) fn show(self) -> Result<()> {
        for (point, assembly) in self.seen {
            self.observer.see(Point::Block(self.block, point), &assembly.finish()?);
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
            let mut views = Views::new(7, 5, &mut notes);
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
