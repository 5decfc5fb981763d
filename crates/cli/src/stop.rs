//! Signals that stop the program: the first one stops the work, the second one the program.

use std::sync::{Mutex, MutexGuard};

use wan_host::Cancel;

/// What the first signal stops, and which it was.
struct State {
    signal: Option<i32>,
    stops: Stops,
}

enum Stops {
    /// The program: no work has begun.
    Program,
    /// Work of this process.
    Work(Cancel),
    /// Work of another process, which is told of every signal.
    Elsewhere(Box<dyn Fn(i32) + Send>),
}

static STATE: Mutex<State> = Mutex::new(State { signal: None, stops: Stops::Program });

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// From now on signals are listened to: SIGINT (Ctrl-C), SIGTERM and SIGHUP.
pub(crate) fn listen() {
    #[cfg(unix)]
    let listening = signals().map(|mut signals| {
        std::thread::spawn(move || signals.forever().for_each(receive));
    });
    #[cfg(not(unix))]
    let listening = ctrlc::set_handler(|| receive(INTERRUPT));
    if let Err(error) = listening {
        tracing::warn!(%error, "signals will not be caught");
    }
}

/// From now on the signals of [`listen`] do nothing: another process is sent them too, and says so.
#[cfg(unix)]
pub(crate) fn leave_to_parent() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let nobody_looks = std::sync::Arc::default();
        if let Err(error) = signal_hook::flag::register(signal, nobody_looks) {
            tracing::warn!(%error, "signals will not be left to the parent");
        }
    }
}

/// Number of SIGINT everywhere.
const INTERRUPT: i32 = 2;

#[cfg(unix)]
fn signals() -> std::io::Result<signal_hook::iterator::Signals> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

    let mut signals = vec![SIGINT, SIGTERM];
    // `nohup` asks for it.
    if !is_ignored(SIGHUP) {
        signals.push(SIGHUP);
    }
    signal_hook::iterator::Signals::new(signals)
}

/// Whether whoever started this process had it ignore a signal. Known on Linux alone.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return false };
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = line.map(|hex| u64::from_str_radix(hex.trim(), 16));
    mask.is_some_and(|mask| mask.is_ok_and(|mask| (mask >> (signal - 1)) & 1 == 1))
}

/// The work that the first signal stops.
pub(crate) fn work() -> Cancel {
    let cancel = Cancel::default();
    state().stops = Stops::Work(cancel.clone());
    cancel
}

/// The work is in another process: `tell` is told the number of every signal.
pub(crate) fn hand_on(tell: impl Fn(i32) + Send + 'static) {
    state().stops = Stops::Elsewhere(Box::new(tell));
}

/// A signal has come, from the system or from the process that started this one.
pub(crate) fn receive(signal: i32) {
    let mut state = state();
    let is_first = state.signal.is_none();
    state.signal.get_or_insert(signal);
    match &state.stops {
        Stops::Elsewhere(tell) => tell(signal),
        Stops::Work(cancel) if is_first => {
            cancel.cancel();
            note!("stopping; interrupt again to stop at once");
        }
        // A second signal does not wait for the round to end.
        Stops::Work(_) | Stops::Program => {
            wan_outputs::abandon_all();
            std::process::exit(i32::from(code_of(signal)));
        }
    }
}

/// Exit code of a program that was stopped: 128 and the number of the signal.
pub(crate) fn code() -> u8 {
    code_of(state().signal.unwrap_or(INTERRUPT))
}

/// Whether a signal has come.
pub(crate) fn was_asked() -> bool {
    state().signal.is_some()
}

/// Exit code of a program that this signal stopped.
pub(crate) fn code_of(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(130)
}
