//! The transformers of a model, lent to runs for a stream of evaluations at a time.
//!
//! A model has one transformer, or two: the first for high noise, the second for low. Two that do
//! not fit beside each other take turns: while one is lent, a run that needs the other is told
//! [`Error::Busy`], or waits.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wan_model::WanModel;

use crate::cancel::Cancel;
use crate::checkpoint::loader::Loaded;
use crate::error::{Error, Result};

/// Whoever has a model's transformers.
pub trait Experts: Send + Sync {
    /// How many there are: 1 or 2.
    fn count(&self) -> usize;

    /// Lends transformer `number`, from 0. It is loaded where it is not yet; one that is lent
    /// already is shared.
    ///
    /// # Errors
    /// [`Error::Busy`] where another one has to go first and is lent; else what loading says.
    fn lend(&self, number: usize) -> Result<Lease>;

    /// As [`lend`](Self::lend), but waits where that says `Busy`.
    ///
    /// # Errors
    /// [`Error::Cancelled`] once `cancel` is set; else what loading says.
    fn wait(&self, number: usize, cancel: &Cancel) -> Result<Lease>;
}

/// A transformer, alone or with the account of its bytes.
pub(crate) trait Transformer: Send + Sync {
    /// The transformer.
    fn model(&self) -> &WanModel;
}

impl Transformer for WanModel {
    fn model(&self) -> &WanModel {
        self
    }
}

impl Transformer for Loaded<WanModel> {
    fn model(&self) -> &WanModel {
        self
    }
}

/// A transformer that stays where it is until this is dropped.
pub struct Lease {
    // Dropped before those who wait are told.
    model: Arc<dyn Transformer>,
    _told: Option<Told>,
}

impl Deref for Lease {
    type Target = WanModel;

    fn deref(&self) -> &WanModel {
        self.model.model()
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lease")
    }
}

/// Transformers that are there all the time: one, or two in the order of their use.
impl Experts for Vec<Arc<WanModel>> {
    fn count(&self) -> usize {
        self.len()
    }

    fn lend(&self, number: usize) -> Result<Lease> {
        let model = self.get(number).ok_or_else(|| no_expert(number))?;
        Ok(Lease { model: model.clone(), _told: None })
    }

    fn wait(&self, number: usize, _: &Cancel) -> Result<Lease> {
        self.lend(number)
    }
}

fn no_expert(number: usize) -> Error {
    Error::invalid(format!("this model has no transformer {}", number + 1))
}

/// How often a run that waits looks whether it was stopped.
const LOOK: Duration = Duration::from_millis(50);

/// Loads transformer `number`.
type Load<M> = Box<dyn Fn(usize) -> Result<M> + Send + Sync>;

/// Transformers of which no more than so many are loaded at once.
pub(crate) struct TakingTurns<M> {
    resident_max: usize,
    load: Load<M>,
    seats: Arc<Seats<M>>,
}

/// Where each transformer is, and who waits for a change.
struct Seats<M> {
    all: Mutex<Vec<Seat<M>>>,
    changed: Condvar,
}

enum Seat<M> {
    Empty,
    /// Someone is loading it.
    Loading,
    /// Lent, where the count is above 1.
    Taken(Arc<M>),
}

/// Tells those who wait that a lease has ended.
struct Told(Arc<dyn Fn() + Send + Sync>);

impl Drop for Told {
    fn drop(&mut self) {
        (self.0)();
    }
}

impl<M: Send + Sync> Seats<M> {
    /// No panic leaves a seat half changed.
    fn lock(&self) -> MutexGuard<'_, Vec<Seat<M>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Under the lock, so that nobody begins to wait between the change and the word of it.
    fn tell(&self) {
        let _seats = self.lock();
        self.changed.notify_all();
    }
}

impl<M: Transformer + 'static> TakingTurns<M> {
    /// `count` transformers, loaded by `load` when they are asked for; at most `resident_max`, and
    /// at least one, stay loaded.
    pub(crate) fn new(
        count: usize,
        resident_max: usize,
        load: impl Fn(usize) -> Result<M> + Send + Sync + 'static,
    ) -> Self {
        let all = Mutex::new((0..count).map(|_| Seat::Empty).collect());
        let seats = Arc::new(Seats { all, changed: Condvar::new() });
        Self { resident_max: resident_max.max(1), load: Box::new(load), seats }
    }

    /// Loads as many as may stay, in the order of their use.
    ///
    /// # Errors
    /// What loading says.
    pub(crate) fn load(&self) -> Result<()> {
        (0..self.count().min(self.resident_max)).try_for_each(|number| self.lend(number).map(drop))
    }

    /// Transformers that are loaded or being loaded now.
    pub(crate) fn resident(&self) -> usize {
        self.seats.lock().iter().filter(|seat| !matches!(seat, Seat::Empty)).count()
    }

    /// Drops those that nobody has.
    pub(crate) fn release(&self) {
        for seat in self.seats.lock().iter_mut() {
            if matches!(seat, Seat::Taken(model) if Arc::strong_count(model) == 1) {
                *seat = Seat::Empty;
            }
        }
    }

    fn lease(&self, model: Arc<M>) -> Lease {
        let seats = self.seats.clone();
        Lease { model, _told: Some(Told(Arc::new(move || seats.tell()))) }
    }

    /// The model where it is loaded; else marks its seat as loading, where there is room.
    fn take(&self, number: usize) -> Result<Option<Arc<M>>> {
        let mut seats = self.seats.lock();
        match seats.get(number) {
            None => return Err(no_expert(number)),
            Some(Seat::Loading) => return Err(Error::Busy),
            Some(Seat::Taken(model)) => return Ok(Some(model.clone())),
            Some(Seat::Empty) => {}
        }
        let loaded = seats.iter().filter(|seat| !matches!(seat, Seat::Empty)).count();
        if loaded >= self.resident_max {
            let is_idle = |seat: &&mut Seat<M>| match seat {
                Seat::Taken(model) => Arc::strong_count(model) == 1,
                Seat::Empty | Seat::Loading => false,
            };
            *seats.iter_mut().find(is_idle).ok_or(Error::Busy)? = Seat::Empty;
        }
        seats[number] = Seat::Loading;
        Ok(None)
    }
}

impl<M: Transformer + 'static> Experts for TakingTurns<M> {
    fn count(&self) -> usize {
        self.seats.lock().len()
    }

    fn lend(&self, number: usize) -> Result<Lease> {
        if let Some(model) = self.take(number)? {
            return Ok(self.lease(model));
        }
        // Whatever becomes of loading, the seat does not stay marked.
        let mut loading = Loading { seats: &self.seats, number, loaded: None };
        let model = Arc::new((self.load)(number)?);
        loading.loaded = Some(model.clone());
        drop(loading);
        Ok(self.lease(model))
    }

    fn wait(&self, number: usize, cancel: &Cancel) -> Result<Lease> {
        loop {
            match self.lend(number) {
                Err(Error::Busy) => {}
                other => return other,
            }
            cancel.check()?;
            // A change between the question and here is seen at the next look.
            let seats = self.seats.lock();
            drop(self.seats.changed.wait_timeout(seats, LOOK));
        }
    }
}

/// A seat while its transformer is being loaded.
struct Loading<'s, M: Send + Sync> {
    seats: &'s Seats<M>,
    number: usize,
    loaded: Option<Arc<M>>,
}

impl<M: Send + Sync> Drop for Loading<'_, M> {
    fn drop(&mut self) {
        let mut seats = self.seats.lock();
        seats[self.number] = self.loaded.take().map_or(Seat::Empty, Seat::Taken);
        self.seats.changed.notify_all();
    }
}

#[cfg(test)]
mod tests;
