//! How long a process may take, on a machine of any load.

use std::time::{Duration, Instant};

/// Share of a processor below which a process waits and does not work.
const WORKS: u32 = 100;

/// Past this many times its limit a process is over, whatever it does.
const LIMITS_MAX: u32 = 30;

/// Watches a process. A wall clock alone would take one that is kept waiting by others for one that
/// hangs: what counts is the processor's time that it used, and whether it uses any.
pub(super) struct Patience {
    process: u32,
    limit: Duration,
    started: Instant,
    /// When the window that is looked at began, and what the process had worked by then.
    window: (Instant, Duration),
}

impl Patience {
    /// Watches process `process`, which has just begun. It may work for `limit`, and not work for as
    /// long.
    pub(super) fn new(process: u32, limit: Duration) -> Self {
        let now = Instant::now();
        Self { process, limit, started: now, window: (now, Duration::ZERO) }
    }

    /// Whether the process has had its time.
    pub(super) fn is_over(&mut self) -> bool {
        let now = Instant::now();
        let Some(worked) = processor_time(self.process) else {
            return now - self.started > self.limit;
        };
        if worked > self.limit || now - self.started > self.limit * LIMITS_MAX {
            return true;
        }
        let (began, worked_before) = self.window;
        if now - began <= self.limit {
            return false;
        }
        self.window = (now, worked);
        worked.saturating_sub(worked_before) < (now - began) / WORKS
    }
}

/// What all threads of a process have used of the processors; none where that cannot be known.
fn processor_time(process: u32) -> Option<Duration> {
    // Linux: times in hundredths of a second (`USER_HZ`), behind the name in parentheses (proc(5)).
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    let (user, system) = (next()?, next()?);
    Some(Duration::from_millis(10 * (user + system)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn time_that_was_worked_is_counted_and_time_that_was_waited_is_not() {
        let own = std::process::id();
        let before = processor_time(own).unwrap();
        let mut sum = 0u64;
        while processor_time(own).unwrap() < before + Duration::from_millis(50) {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(1));
        }
        assert!(processor_time(u32::MAX).is_none());
        // It has worked for longer than it may, however little time has gone by.
        let mut patience = Patience::new(own, Duration::from_millis(40));
        assert!(patience.is_over());
        // It may work on.
        let mut patience = Patience::new(own, Duration::from_secs(100_000));
        assert!(!patience.is_over());
    }
}
