//! Seats: what is loaded when, and who waits for it. The transformers count themselves and compute
//! nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;

use super::*;

/// Loads so far, and transformers that are there now and that were there at most.
#[derive(Default)]
struct Counts {
    loads: AtomicUsize,
    alive: AtomicUsize,
    alive_max: AtomicUsize,
}

impl Counts {
    /// Loads, and the most that were there at once.
    fn loads_and_most(&self) -> (usize, usize) {
        (self.loads.load(SeqCst), self.alive_max.load(SeqCst))
    }
}

/// A transformer that nobody computes with.
struct Fake(Arc<Counts>);

impl Fake {
    fn load(counts: &Arc<Counts>) -> Self {
        counts.loads.fetch_add(1, SeqCst);
        let alive = counts.alive.fetch_add(1, SeqCst) + 1;
        counts.alive_max.fetch_max(alive, SeqCst);
        Self(counts.clone())
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, SeqCst);
    }
}

impl Transformer for Fake {
    fn model(&self) -> &WanModel {
        unreachable!("nobody computes")
    }
}

/// Transformers of which so many may stay, and what counts them.
fn taking_turns(count: usize, resident_max: usize) -> (TakingTurns<Fake>, Arc<Counts>) {
    let counts = Arc::<Counts>::default();
    let counting = counts.clone();
    (TakingTurns::new(count, resident_max, move |_| Ok(Fake::load(&counting))), counts)
}

#[track_caller]
fn check_busy(lent: Result<Lease>) {
    assert!(matches!(lent, Err(Error::Busy)), "{lent:?}");
}

#[test]
fn a_failed_load_leaves_the_seat_empty_and_the_next_try_loads() {
    let (counts, tries) = (Arc::<Counts>::default(), AtomicUsize::new(0));
    let counting = counts.clone();
    let turns = TakingTurns::new(1, 1, move |_| match tries.fetch_add(1, SeqCst) {
        0 => Err(Error::invalid("no such file")),
        1 => panic!("a fault of the loader"),
        _ => Ok(Fake::load(&counting)),
    });
    let error = turns.lend(0).unwrap_err();
    assert_eq!((error.to_string().as_str(), turns.resident()), ("no such file", 0));
    assert!(catch_unwind(AssertUnwindSafe(|| turns.lend(0))).is_err());
    assert_eq!(turns.resident(), 0);
    turns.lend(0).unwrap();
    assert_eq!((turns.resident(), counts.loads_and_most()), (1, (1, 1)));
}

#[test]
fn a_transformer_that_does_not_exist_is_refused() {
    let (turns, counts) = taking_turns(2, 2);
    let error = turns.lend(2).unwrap_err().to_string();
    assert_eq!(error, "this model has no transformer 3");
    assert_eq!((turns.count(), turns.resident(), counts.loads_and_most()), (2, 0, (0, 0)));
}

#[test]
fn whoever_asks_while_it_is_loaded_is_told_busy() {
    let counts = Arc::<Counts>::default();
    let ((began, has_begun), (go_on, may_go_on)) = (mpsc::channel(), mpsc::channel::<()>());
    let (counting, may_go_on) = (counts.clone(), Mutex::new(may_go_on));
    let turns = TakingTurns::new(2, 1, move |_| {
        began.send(()).unwrap();
        may_go_on.lock().unwrap().recv().unwrap();
        Ok(Fake::load(&counting))
    });
    thread::scope(|scope| {
        let loading = scope.spawn(|| turns.lend(0).unwrap());
        has_begun.recv().unwrap();
        check_busy(turns.lend(0));
        // There is no room for the other one either.
        check_busy(turns.lend(1));
        assert_eq!((turns.resident(), counts.loads_and_most()), (1, (0, 0)));
        go_on.send(()).unwrap();
        let lease = loading.join().unwrap();
        let shared = turns.lend(0).unwrap();
        check_busy(turns.lend(1));
        drop((lease, shared));
    });
    assert_eq!(counts.loads_and_most(), (1, 1));
}

#[test]
fn an_idle_one_goes_before_another_is_loaded() {
    let (turns, counts) = taking_turns(2, 1);
    for number in [0, 1, 0, 0] {
        turns.lend(number).unwrap();
        assert_eq!((turns.resident(), counts.alive.load(SeqCst)), (1, 1));
    }
    assert_eq!(counts.loads_and_most(), (3, 1));

    // Of two that may stay, the one that is lent does.
    let (turns, counts) = taking_turns(3, 2);
    turns.load().unwrap();
    assert_eq!((turns.resident(), counts.loads_and_most()), (2, (2, 2)));
    let lease = turns.lend(0).unwrap();
    turns.lend(2).unwrap();
    turns.lend(0).unwrap();
    assert_eq!(counts.loads_and_most(), (3, 2), "0 was kept, 1 went");
    let other = turns.lend(1).unwrap();
    check_busy(turns.lend(2));
    assert_eq!(counts.loads_and_most(), (4, 2));
    drop((lease, other));
    assert_eq!(turns.resident(), 2, "they stay until their room is needed");
}

#[test]
fn at_least_one_may_stay() {
    let (turns, counts) = taking_turns(2, 0);
    turns.load().unwrap();
    assert_eq!((turns.resident(), counts.loads_and_most()), (1, (1, 1)));
}

/// Far longer than a wake-up takes: without one, the test fails instead of hanging.
const NO_WAKE_UP: Duration = Duration::from_secs(120);

#[test]
fn the_end_of_a_lease_wakes_who_waits() {
    let (turns, _) = taking_turns(2, 1);
    let lease = turns.lend(0).unwrap();
    // As `wait` waits, but without a look now and then.
    let seats = turns.seats.lock();
    thread::scope(|scope| {
        scope.spawn(|| drop(lease));
        let waited = turns.seats.changed.wait_timeout(seats, NO_WAKE_UP).unwrap();
        assert!(!waited.1.timed_out());
        // It was told once the lease was gone.
        let is_idle = |seat: &Seat<Fake>| match seat {
            Seat::Taken(model) => Arc::strong_count(model) == 1,
            Seat::Empty | Seat::Loading => false,
        };
        assert!(is_idle(&waited.0[0]));
    });
}

#[test]
fn who_waits_gets_it_once_the_other_has_gone() {
    let (turns, counts) = taking_turns(2, 1);
    let lease = turns.lend(0).unwrap();
    check_busy(turns.lend(1));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| turns.wait(1, &Cancel::default()).unwrap());
        drop(lease);
        waiting.join().unwrap();
    });
    assert_eq!((turns.resident(), counts.loads_and_most()), (1, (2, 1)));
}

#[test]
fn a_cancel_ends_waiting_and_nothing_is_loaded() {
    let (turns, counts) = taking_turns(2, 1);
    let (lease, cancel) = (turns.lend(0).unwrap(), Cancel::default());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| turns.wait(1, &cancel));
        cancel.cancel();
        assert!(matches!(waiting.join().unwrap(), Err(Error::Cancelled)));
    });
    assert_eq!((turns.resident(), counts.loads_and_most()), (1, (1, 1)));
    drop(lease);
}
