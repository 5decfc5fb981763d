//! Turns on one planted mistake, by the number in `WAN_MUTANT`.
//!
//! With `WAN_MUTANTS_REACHED`, a path, the numbers of all that are reached are appended to that
//! file instead, each once per process.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::OnceLock;

const COUNT_MAX: usize = 4096;
static REACHED: [AtomicBool; COUNT_MAX] = [const { AtomicBool::new(false) }; COUNT_MAX];

struct Task {
    active: u32,
    log: Option<std::ffi::OsString>,
}

fn task() -> &'static Task {
    static TASK: OnceLock<Task> = OnceLock::new();
    TASK.get_or_init(|| Task {
        active: std::env::var("WAN_MUTANT").ok().and_then(|n| n.parse().ok()).unwrap_or(u32::MAX),
        log: std::env::var_os("WAN_MUTANTS_REACHED"),
    })
}

/// Whether mutant `number` is to show its mistake.
pub fn on(number: u32) -> bool {
    let task = task();
    if let Some(log) = &task.log {
        reached(number, log);
    }
    task.active == number
}

#[cold]
fn reached(number: u32, log: &std::ffi::OsStr) {
    if REACHED[number as usize].swap(true, Ordering::Relaxed) {
        return;
    }
    let file = OpenOptions::new().create(true).append(true).open(log);
    // One write, so that lines of several processes do not mix.
    let _ = file.and_then(|mut file| file.write_all(format!("{number}\n").as_bytes()));
}
