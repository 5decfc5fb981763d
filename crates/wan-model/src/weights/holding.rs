//! Where a layer has a matrix: in memory always, or for its turn.

use std::sync::Arc;

use candle_core::Shape;

use super::kept::Kept;
use super::source::{AtRest, Scope};
use super::turns::Slot;
use super::weight::Weight;
use crate::error::Result;

/// Where a layer has a matrix.
#[derive(Clone, Debug)]
pub(crate) enum Holding {
    Always(Arc<Kept>),
    /// Read when its turn comes.
    InTurn(Arc<Slot>),
}

impl Holding {
    /// The matrix; out of turn it is read for the caller alone.
    pub(crate) fn get(&self) -> Result<Arc<Kept>> {
        match self {
            Self::Always(kept) => Ok(kept.clone()),
            Self::InTurn(slot) => slot.get(),
        }
    }
}

impl Scope {
    /// The weight `name` of this shape as `keep` keeps it, which then takes `bytes`. What is there
    /// always counts as handed out.
    ///
    /// # Errors
    /// As [`Source::get`](crate::weights::Source::get).
    pub(crate) fn hold(
        &self,
        (shape, name): (Shape, &str),
        bytes: impl FnOnce(&AtRest) -> u64,
        keep: impl Fn(Weight) -> Result<Kept> + Send + Sync + 'static,
    ) -> Result<Holding> {
        let Some(turn) = self.turn() else {
            let kept = keep(self.weight(shape, name)?)?;
            self.count(kept.bytes());
            return Ok(Holding::Always(Arc::new(kept)));
        };
        let bytes = bytes(&self.at_rest(shape.clone(), name)?);
        let (scope, name) = (self.out_of_turn(), name.to_owned());
        let slot = Slot::new(bytes, move || keep(scope.weight(shape.clone(), &name)?));
        let slot = Arc::new(slot);
        turn.add(slot.clone());
        Ok(Holding::InTurn(slot))
    }
}
