//! What an observer sees of a block that works on runs of tokens.

use candle_core::Tensor;

use crate::chunks::Assembly;
use crate::error::Result;
use crate::observer::{BlockPoint, Observer, Point};

/// Puts a block's intermediate tensors together, if someone looks, and shows them at its end.
pub(crate) struct Views<'a> {
    observer: &'a mut dyn Observer,
    block: usize,
    tokens: usize,
    /// In order of first appearance.
    seen: Vec<(BlockPoint, Assembly)>,
}

impl<'a> Views<'a> {
    /// Of block number `block` on `tokens` tokens.
    pub(crate) fn new(block: usize, tokens: usize, observer: &'a mut dyn Observer) -> Self {
        Self { observer, block, tokens, seen: Vec::new() }
    }

    /// Tokens from `start` on of what passes at `point`.
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

    /// Shows everything.
    pub(crate) fn show(self) -> Result<()> {
        for (point, assembly) in self.seen {
            self.observer.see(Point::Block(self.block, point), &assembly.finish()?);
        }
        Ok(())
    }
}
