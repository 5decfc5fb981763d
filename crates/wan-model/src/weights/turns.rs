//! Weights that are read when their turn comes, and given up after it.
//!
//! A network is computed layer by layer, so the matrices of a layer need to be in memory for its turn
//! alone. A thread reads those of the next layer meanwhile; so two layers are held at a time. What is
//! short (norms, biases, tables) stays.
//!
//! Files are read, not mapped: one that is cut short while it is used is an error.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::kept::Kept;
use crate::error::{Error, Result};

/// A matrix that is in memory for its turn.
pub(crate) struct Slot {
    read: Box<dyn Fn() -> Result<Kept> + Send + Sync>,
    held: RwLock<Option<Arc<Kept>>>,
    bytes: u64,
}

impl Slot {
    /// A matrix that `read` reads, and that then takes `bytes`.
    pub(crate) fn new(bytes: u64, read: impl Fn() -> Result<Kept> + Send + Sync + 'static) -> Self {
        Self { read: Box::new(read), held: RwLock::default(), bytes }
    }

    /// The matrix; out of turn it is read for the caller alone.
    pub(crate) fn get(&self) -> Result<Arc<Kept>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner).clone();
        held.map_or_else(|| (self.read)().map(Arc::new), Ok)
    }

    fn put(&self, matrix: Option<Arc<Kept>>) {
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = matrix;
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// The weights that are read for one layer. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Turn(Arc<Mutex<Vec<Arc<Slot>>>>);

impl Turn {
    pub(crate) fn add(&self, slot: Arc<Slot>) {
        self.slots().push(slot);
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Arc<Slot>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bytes(&self) -> u64 {
        self.slots().iter().map(|slot| slot.bytes).sum()
    }

    fn fill(&self) -> Result<()> {
        for slot in self.slots().iter() {
            slot.put(Some(Arc::new((slot.read)()?)));
        }
        Ok(())
    }

    fn empty(&self) {
        self.slots().iter().for_each(|slot| slot.put(None));
    }
}

/// What was read for turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streamed {
    /// Bytes of weights, in the formats that they are held in.
    pub bytes: u64,
    /// Time that reading took, beside the computation or not.
    pub reading: Duration,
    /// Time for which the computation waited for it.
    pub waiting: Duration,
}

impl std::ops::Add for Streamed {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            reading: self.reading + other.reading,
            waiting: self.waiting + other.waiting,
        }
    }
}

impl std::ops::Sub for Streamed {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            bytes: self.bytes - before.bytes,
            reading: self.reading.saturating_sub(before.reading),
            waiting: self.waiting.saturating_sub(before.waiting),
        }
    }
}

/// Counts what is read, over all passes.
#[derive(Default)]
struct Tally {
    bytes: AtomicU64,
    reading: AtomicU64,
    waiting: AtomicU64,
}

/// The turns of the layers of a network; none for those that are in memory all the time.
pub(crate) struct Turns {
    turns: Vec<Option<Turn>>,
    /// One thread, which reads ahead. Its loops run on it alone: a pass may wait for it on a thread of
    /// the pool that computes.
    reader: Option<ThreadPool>,
    /// Locked during a pass: of two at once, one waits, and memory does not grow with their number. In
    /// it, how many hold all weights.
    passes: Mutex<usize>,
    tally: Tally,
}

impl Turns {
    /// Turns for `streamed` of `count` layers, evenly spaced, so that there is time to read each.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn new(count: usize, streamed: usize) -> Result<Self> {
        let streamed = streamed.min(count);
        let turn = |number| is_streamed(number, count, streamed).then(Turn::default);
        let turns = (0..count).map(turn).collect();
        let builder = ThreadPoolBuilder::new().num_threads(1).thread_name(|_| "read-ahead".into());
        let no_thread = |error| Error::input("a thread that reads weights", "one", error);
        let reader = (streamed > 0).then(|| builder.build().map_err(no_thread)).transpose()?;
        Ok(Self { turns, reader, passes: Mutex::default(), tally: Tally::default() })
    }

    /// The turn of a layer; none for one that stays.
    pub(crate) fn of(&self, number: usize) -> Option<&Turn> {
        self.turns[number].as_ref()
    }

    /// Most bytes that are held at once: those of two turns that follow each other.
    pub(crate) fn bytes_max(&self) -> u64 {
        two_at_a_time(&self.turns.iter().flatten().map(Turn::bytes).collect::<Vec<_>>())
    }

    /// Bytes of all turns.
    pub(crate) fn bytes(&self) -> u64 {
        self.turns.iter().flatten().map(Turn::bytes).sum()
    }

    /// Reads the weights of all turns, and keeps them until what is given is dropped.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(crate) fn hold(&self) -> Result<Held<'_>> {
        let mut holders = self.passes();
        if *holders == 0 {
            let begun = Instant::now();
            let filled = self.turns.iter().flatten().try_for_each(Turn::fill);
            if filled.is_err() {
                self.turns.iter().flatten().for_each(Turn::empty);
            }
            filled?;
            self.count(begun, &self.tally.reading);
            self.count(begun, &self.tally.waiting);
            self.tally.bytes.fetch_add(self.bytes(), Relaxed);
        }
        *holders += 1;
        Ok(Held(self))
    }

    fn passes(&self) -> MutexGuard<'_, usize> {
        self.passes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, begun: Instant, sum: &AtomicU64) {
        sum.fetch_add(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// What was read so far.
    pub(crate) fn streamed(&self) -> Streamed {
        let time = |nanoseconds: &AtomicU64| Duration::from_nanos(nanoseconds.load(Relaxed));
        let Tally { bytes, reading, waiting } = &self.tally;
        Streamed { bytes: bytes.load(Relaxed), reading: time(reading), waiting: time(waiting) }
    }

    /// Waits until no other pass is under way. To be called before the work goes to rayon's pool: a
    /// thread there could otherwise come to wait for a pass that it has itself begun.
    pub(crate) fn begin(&self) -> Pass<'_> {
        let alone = self.passes();
        let streams = self.reader.is_some() && *alone == 0;
        Pass { turns: self, alone: streams.then_some(alone) }
    }
}

/// The most bytes of two turns that follow each other, of turns of so many bytes.
pub(crate) fn two_at_a_time(turns: &[u64]) -> u64 {
    let pairs = turns.windows(2).map(|pair| pair[0] + pair[1]).max();
    pairs.or(turns.first().copied()).unwrap_or(0)
}

/// Whether a layer is one of `streamed` that are evenly spaced over `count`.
pub(crate) fn is_streamed(number: usize, count: usize, streamed: usize) -> bool {
    let before = |number: usize| number * streamed / count.max(1);
    before(number + 1) > before(number)
}

/// Weights that stay in memory, turn or not, until this is dropped.
pub struct Held<'t>(&'t Turns);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut holders = self.0.passes();
        *holders -= 1;
        if *holders == 0 {
            self.0.turns.iter().flatten().for_each(Turn::empty);
        }
    }
}

/// One way through layers.
pub(crate) struct Pass<'t> {
    turns: &'t Turns,
    /// None where nothing is to be read.
    alone: Option<MutexGuard<'t, usize>>,
}

impl Pass<'_> {
    /// Calls `visit` for each layer of `numbers`, in order, while its weights are in memory.
    ///
    /// # Errors
    /// The first that reading or `visit` gives.
    pub(crate) fn each(
        &self,
        numbers: Range<usize>,
        mut visit: impl FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        let reader = self.turns.reader.as_ref().filter(|_| self.alone.is_some());
        let Some(reader) = reader else { return numbers.into_iter().try_for_each(visit) };
        let visited = reader.in_place_scope(|scope| {
            // Of no length: a turn is handed over when the one before is over.
            let (sender, receiver) = sync_channel(0);
            let ahead = numbers.clone();
            scope.spawn(move |_| {
                for turn in ahead.filter_map(|number| self.turns.of(number)) {
                    let filled = self.fill(turn);
                    let is_last = filled.is_err();
                    if sender.send(filled).is_err() || is_last {
                        break;
                    }
                }
            });
            for number in numbers.clone() {
                let Some(turn) = self.turns.of(number) else {
                    visit(number)?;
                    continue;
                };
                let begun = Instant::now();
                // The reader ends early after an error alone.
                receiver
                    .recv()
                    .map_err(|error| Error::input("weights", "the next turn", error))??;
                self.turns.count(begun, &self.turns.tally.waiting);
                let visited = visit(number);
                turn.empty();
                visited?;
            }
            Ok(())
        });
        // One that was read ahead in vain.
        numbers.filter_map(|number| self.turns.of(number)).for_each(Turn::empty);
        visited
    }

    fn fill(&self, turn: &Turn) -> Result<()> {
        let begun = Instant::now();
        turn.fill()?;
        self.turns.count(begun, &self.turns.tally.reading);
        self.turns.tally.bytes.fetch_add(turn.bytes(), Relaxed);
        Ok(())
    }
}
